"""TUF 1.0.34 §5.6 and §5.7, targets roles, delegations and target files: each step, broken and kept."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

import pytest

from kedge.errors import ExpiredError, FetchError, Reason, VerificationError
from kedge.tuf import workflow
from kedge.tuf.steps import Area, Limits
from support.driver import Driver
from support.simulator import RepositorySimulator, new_signers

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PATH = "registry/keys.json"


@pytest.fixture
def repo() -> RepositorySimulator:
    repo = RepositorySimulator(now=NOW)
    repo.delegate("registry", paths=["registry/*"], keys=3, threshold=2)
    repo.add_target(PATH, b"{}", role="registry")
    repo.add_target("top.txt", b"top")
    repo.publish()
    return repo


@pytest.fixture
def driver(repo: RepositorySimulator) -> Driver:
    return Driver(repo, NOW)


def refused(driver: Driver, path: str, reason: Reason, *texts: str) -> VerificationError:
    held = {key for key in driver.held if key[0] is Area.TARGETS}
    with pytest.raises(VerificationError) as caught:
        driver.target(path)
    assert caught.value.refusal.reason is reason
    for text in texts:
        assert text in str(caught.value)
    assert {key for key in driver.held if key[0] is Area.TARGETS} == held
    return caught.value


def test_targets_are_found_at_the_top_and_behind_a_delegation(driver: Driver) -> None:
    assert driver.target("top.txt") == b"top"
    assert driver.target(PATH) == b"{}"
    digest = hashlib.sha256(b"{}").hexdigest()
    assert driver.requests[-1] == f"targets/registry/{digest}.keys.json"


def test_a_target_that_is_held_is_not_fetched_again(driver: Driver) -> None:
    driver.target(PATH)
    driver.requests.clear()
    assert driver.target(PATH) == b"{}"
    assert not [path for path in driver.requests if path.startswith("targets/")]


def test_a_held_target_that_was_changed_is_fetched_again(driver: Driver) -> None:
    driver.target(PATH)
    driver.held[Area.TARGETS, PATH] = b"[]"
    assert driver.target(PATH) == b"{}"


@pytest.mark.parametrize(
    ("data", "text"), [(b"[]", "expected sha256"), (b"{} ", "expected 2 bytes, found 3"), (b"", "expected 2 bytes")]
)
def test_a_target_with_other_bytes_is_refused_and_not_kept(
    driver: Driver, repo: RepositorySimulator, data: bytes, text: str
) -> None:
    with repo.lying():
        repo.replace(repo.path_of_target(PATH, b"{}"), data)
        refused(driver, PATH, Reason.CONTENT, PATH, text)
    assert driver.target(PATH) == b"{}"


def test_a_target_that_is_not_there_is_a_failed_fetch(driver: Driver, repo: RepositorySimulator) -> None:
    with repo.lying():
        repo.replace(repo.path_of_target(PATH, b"{}"), None)
        with pytest.raises(FetchError, match="is not there"):
            driver.target(PATH)
    assert driver.target(PATH) == b"{}"


@pytest.mark.parametrize("role", ["targets", "registry"])
def test_a_role_by_a_wrong_key_is_refused_and_not_kept(driver: Driver, repo: RepositorySimulator, role: str) -> None:
    honest, repo.signers[role] = repo.signers[role], new_signers(3)
    with repo.edit(role):
        pass
    refused(driver, PATH, Reason.SIGNATURES, f"{role}.json: signed by 0 of the", "keys that")
    assert (Area.METADATA, role) not in driver.held
    repo.signers[role] = honest
    with repo.edit(role):
        pass
    assert driver.target(PATH) == b"{}"


def test_a_delegated_role_below_its_threshold_is_refused(driver: Driver, repo: RepositorySimulator) -> None:
    repo.meta_hashes = False
    repo.publish()
    with repo.lying():
        repo.sign("registry", signers=repo.signers["registry"][:1])
        refused(driver, PATH, Reason.SIGNATURES, "1.registry.json: signed by 1 of the 2 keys that targets version 2")
    assert driver.target(PATH) == b"{}"


@pytest.mark.parametrize("role", ["targets", "registry"])
def test_a_role_of_another_version_than_the_snapshot_names_is_refused(
    driver: Driver, repo: RepositorySimulator, role: str
) -> None:
    repo.meta_hashes = False
    with repo.edit(role):
        pass
    new = repo.path_of(role)
    old = repo.path_of(role, repo.targets(role).version - 1)
    with repo.lying():
        repo.replace(new, repo.files[old])
        refused(driver, PATH, Reason.VERSION, "which the snapshot names")
    assert driver.target(PATH) == b"{}"


@pytest.mark.parametrize("role", ["targets", "registry"])
def test_a_role_with_other_bytes_than_the_snapshot_names_is_refused(
    driver: Driver, repo: RepositorySimulator, role: str
) -> None:
    with repo.lying():
        repo.replace(repo.path_of(role), repo.files[repo.path_of(role)].replace(b'"', b"'", 1))
        refused(driver, PATH, Reason.CONTENT, f"{role}.json: ", "expected sha256")
    assert driver.target(PATH) == b"{}"


@pytest.mark.parametrize("role", ["targets", "registry"])
def test_an_expired_role_is_refused(driver: Driver, repo: RepositorySimulator, role: str) -> None:
    with repo.edit(role) as payload:
        payload.expires = NOW - timedelta(days=2)
    with pytest.raises(ExpiredError) as caught:
        driver.target(PATH)
    assert caught.value.refusal.role == role
    assert (Area.METADATA, role) not in driver.held
    with repo.edit(role):
        pass
    assert driver.target(PATH) == b"{}"


def test_a_role_that_the_snapshot_does_not_list_is_refused(driver: Driver, repo: RepositorySimulator) -> None:
    with repo.edit("snapshot") as snapshot:
        del snapshot.meta["registry.json"]
    refused(driver, PATH, Reason.NOT_IN_SNAPSHOT, "does not list the role registry")
    repo.publish()
    assert driver.target(PATH) == b"{}"


def test_a_snapshot_may_list_roles_that_nobody_asks_for(driver: Driver, repo: RepositorySimulator) -> None:
    with repo.edit("snapshot") as snapshot:
        snapshot.meta["someone-else.json"] = snapshot.meta["registry.json"]
    assert driver.target(PATH) == b"{}"


def test_a_delegated_role_that_speaks_outside_its_paths_is_not_heard(driver: Driver, repo: RepositorySimulator) -> None:
    repo.add_target("other/keys.json", b"{}", role="registry")
    repo.publish()
    refused(driver, "other/keys.json", Reason.NOT_FOUND, "other/keys.json: no role that may speak for it")
    assert f"metadata/{repo.path_of('registry')}" not in driver.requests
    assert driver.target(PATH) == b"{}"


def test_a_star_does_not_match_across_folders(driver: Driver, repo: RepositorySimulator) -> None:
    repo.add_target("registry/deep/keys.json", b"{}", role="registry")
    repo.publish()
    refused(driver, "registry/deep/keys.json", Reason.NOT_FOUND)


def test_the_first_delegation_that_lists_a_target_speaks_for_it(driver: Driver, repo: RepositorySimulator) -> None:
    repo.delegate("second", paths=["registry/*"])
    repo.add_target(PATH, b"second", role="second")
    repo.add_target("registry/other", b"only here", role="second")
    repo.publish()
    assert driver.target(PATH) == b"{}"
    assert driver.target("registry/other") == b"only here"


def test_a_terminating_delegation_ends_the_search(driver: Driver, repo: RepositorySimulator) -> None:
    repo.delegate("last", paths=["end/*"], terminating=True)
    repo.delegate("after", paths=["end/*"])
    repo.add_target("end/a", b"a", role="last")
    repo.add_target("end/b", b"b", role="after")
    repo.publish()
    assert driver.target("end/a") == b"a"
    refused(driver, "end/b", Reason.NOT_FOUND)


def test_the_search_goes_depth_first_and_visits_a_role_once(driver: Driver, repo: RepositorySimulator) -> None:
    for parent, child in (("targets", "a"), ("targets", "b"), ("a", "c"), ("b", "c"), ("c", "a"), ("b", "d")):
        repo.delegate(child, paths=["x/*"], parent=parent)
    repo.add_target("x/y", b"found", role="d")
    repo.publish()
    assert driver.target("x/y") == b"found"
    asked = [path.removeprefix("metadata/") for path in driver.requests if path.startswith("metadata/1.")]
    assert asked == ["1.a.json", "1.c.json", "1.b.json", "1.d.json"]


def test_at_the_limit_of_delegations_there_is_an_error_and_never_not_found(
    driver: Driver, repo: RepositorySimulator
) -> None:
    for number in range(6):
        repo.delegate(f"role-{number}", paths=["many/*"])
    repo.add_target("many/x", b"x", role="role-5")
    repo.publish()
    driver.limits = Limits(delegations=5)
    refused(driver, "many/x", Reason.LIMIT, "many/x: more than 5 delegations lead to it")
    driver.limits = Limits(delegations=6)
    assert driver.target("many/x") == b"x"


def test_hash_prefixes_decide_who_speaks(driver: Driver, repo: RepositorySimulator) -> None:
    digest = hashlib.sha256(b"some/target").hexdigest()
    repo.delegate("wrong", hash_prefixes=[format((int(digest[0], 16) + 1) % 16, "x")])
    repo.delegate("right", hash_prefixes=[digest[:2]])
    repo.add_target("some/target", b"wrong", role="wrong")
    repo.add_target("some/target", b"right", role="right")
    repo.publish()
    assert driver.target("some/target") == b"right"


def test_succinct_bins_hold_targets(driver: Driver, repo: RepositorySimulator) -> None:
    repo.delegate("all", paths=["p/*"])
    repo.delegate_bins(bit_length=5, parent="all")
    repo.add_target("p/q", b"binned", role=repo.bin_of("p/q", "all"))
    repo.publish()
    assert driver.target("p/q") == b"binned"
    refused(driver, "p/absent", Reason.NOT_FOUND)


def test_a_held_role_is_checked_again_by_todays_delegator(driver: Driver, repo: RepositorySimulator) -> None:
    driver.target(PATH)
    repo.signers["registry"] = new_signers(3)
    repo.delegate("registry", paths=["registry/*"], threshold=2)
    with repo.edit("targets"):
        pass
    refused(driver, PATH, Reason.SIGNATURES, "1.registry.json")
    with repo.edit("registry"):
        pass
    assert driver.target(PATH) == b"{}"


def test_a_held_role_that_is_no_longer_delegated_is_not_heard(driver: Driver, repo: RepositorySimulator) -> None:
    driver.target(PATH)
    with repo.edit("targets") as targets:
        delegations, targets.delegations = targets.delegations, None
    refused(driver, PATH, Reason.NOT_FOUND)
    with repo.edit("targets") as targets:
        targets.delegations = delegations
    assert driver.target(PATH) == b"{}"


@pytest.mark.parametrize("path", ["../escape", "a/../../b", "/absolute", "a//b", "a/./b", "nul\0byte"], ids=repr)
def test_a_target_path_that_leads_out_of_the_repository_is_refused(
    driver: Driver, repo: RepositorySimulator, path: str
) -> None:
    repo.add_target(path, b"x")
    repo.publish()
    refused(driver, path, Reason.PATH, "is not a path below the repository's targets")
    assert not [request for request in driver.requests if request.startswith("targets/")]
    assert driver.target(PATH) == b"{}"


@pytest.mark.parametrize("path", ["a b/ü?#%.json", "%2e%2e/x", "a\\b", "x" * 300])
def test_odd_target_paths_are_quoted(driver: Driver, repo: RepositorySimulator, path: str) -> None:
    repo.add_target(path, b"odd")
    repo.publish()
    assert driver.target(path) == b"odd"
    assert all(character not in driver.requests[-1] for character in " ü?#\\")


@pytest.mark.parametrize("role", ["../up", "a/b", "nul\0", "ü" * 100, "?x#y"])
def test_odd_role_names_are_quoted(driver: Driver, repo: RepositorySimulator, role: str) -> None:
    repo.delegate(role, paths=["odd/*"])
    repo.add_target("odd/x", b"odd", role=role)
    repo.publish()
    assert driver.target("odd/x") == b"odd"
    asked = [request for request in driver.requests if request.startswith("metadata/1.")]
    assert all(request.count("/") == 1 and request.isascii() for request in asked)


def test_without_consistent_snapshots_target_files_bear_no_digest(driver: Driver, repo: RepositorySimulator) -> None:
    with repo.edit("root") as root:
        root.consistent_snapshot = False
    repo.add_target(PATH, b"{}", role="registry")
    repo.publish()
    with repo.edit("targets"):
        pass
    assert driver.target(PATH) == b"{}"
    assert driver.requests[-1] == f"targets/{PATH}"


def test_a_digest_that_collisions_are_known_for_proves_nothing(driver: Driver, repo: RepositorySimulator) -> None:
    with repo.edit("registry") as registry:
        md5 = hashlib.md5(b"{}").hexdigest()
        registry.targets[PATH].hashes = {"md5": md5}
    repo.replace(f"targets/registry/{md5}.keys.json", b"{}")
    refused(driver, PATH, Reason.CONTENT, "expected a digest such as sha256 among those listed (md5)")


@pytest.mark.parametrize("role", ["targets", "registry"])
def test_a_held_role_that_todays_snapshot_names_with_other_bytes_is_fetched_again(
    driver: Driver, repo: RepositorySimulator, role: str
) -> None:
    """The repository has signed the same version a second time: the snapshot says which of the two counts."""
    driver.target(PATH)
    repo.targets(role).expires += timedelta(hours=1)
    data = repo.sign(role)
    repo.publish()
    assert driver.target(PATH) == b"{}"
    assert driver.held[Area.METADATA, role] == data


def test_a_role_that_was_accepted_on_one_path_needs_the_keys_of_the_other_path_too(
    driver: Driver, repo: RepositorySimulator
) -> None:
    repo.delegate("left", paths=["x/left"])
    repo.delegate("right", paths=["x/right"])
    repo.delegate("bottom", paths=["x/*"], parent="left")
    by_left = repo.signers["bottom"]
    repo.signers["bottom"] = new_signers()
    repo.delegate("bottom", paths=["x/*"], parent="right")
    repo.signers["bottom"] = by_left
    repo.add_target("x/left", b"left", role="bottom")
    repo.add_target("x/right", b"right", role="bottom")
    repo.publish()
    found = driver.run(workflow.find(driver.refresh(), "x/left", driver.freshness))
    assert driver.run(workflow.download(found)) == b"left"
    with pytest.raises(VerificationError, match=r"1\.bottom\.json: signed by 0 of the 1 keys"):
        driver.run(workflow.find(found.state, "x/right", driver.freshness))

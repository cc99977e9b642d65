"""TUF 1.0.34 §5.3, the root: each step, with a repository that breaks it and one that does not."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from kedge.errors import ExpiredError, Reason, VerificationError
from kedge.tuf import checks
from kedge.tuf.state import Floors
from kedge.tuf.steps import MISSING, Area, Fetch, Limits, Missing, Step
from support.driver import Driver
from support.simulator import RepositorySimulator, new_signers

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def repo() -> RepositorySimulator:
    return RepositorySimulator(now=NOW, root=(2, 3))


@pytest.fixture
def driver(repo: RepositorySimulator) -> Driver:
    return Driver(repo, NOW)


def refused(driver: Driver, reason: Reason, *texts: str) -> VerificationError:
    before = dict(driver.held)
    with pytest.raises(VerificationError) as caught:
        driver.refresh()
    assert caught.value.refusal.reason is reason
    for text in texts:
        assert text in str(caught.value)
    refused_file = (caught.value.refusal.file or "").removesuffix(".json")
    assert driver.held.get((Area.METADATA, refused_file)) == before.get((Area.METADATA, refused_file))
    return caught.value


def test_the_initial_root_must_vouch_for_itself(repo: RepositorySimulator) -> None:
    unsigned = repo.sign("root", signers=repo.signers["root"][:1])
    with pytest.raises(VerificationError, match=r"initial root: signed by 1 of the 2 keys") as caught:
        checks.begin(unsigned)
    assert caught.value.refusal.reason is Reason.SIGNATURES
    assert checks.begin(repo.initial_root).root.version == 1


def test_another_document_is_not_an_initial_root(repo: RepositorySimulator) -> None:
    with pytest.raises(VerificationError, match=r'initial root: signed\._type: must be "root"'):
        checks.begin(repo.files["metadata/timestamp.json"])


def test_a_client_walks_the_whole_chain(driver: Driver, repo: RepositorySimulator) -> None:
    for role in ("root", "timestamp", "snapshot", "targets") * 6:
        repo.rotate(role)
    state = driver.refresh()
    assert state.root.version == 25
    assert [root.version for root in state.roots] == list(range(1, 26))
    assert {(Area.ROOTS, str(version)) for version in range(2, 26)} <= set(driver.held)


def test_a_second_refresh_takes_the_chain_from_what_is_held(driver: Driver, repo: RepositorySimulator) -> None:
    repo.rotate("root")
    driver.refresh()
    driver.requests.clear()
    state = driver.refresh()
    assert state.root.version == 2
    assert driver.requests == ["metadata/3.root.json", "metadata/timestamp.json"]


def test_a_root_below_the_old_threshold_is_refused(driver: Driver, repo: RepositorySimulator) -> None:
    old = repo.signers["root"]
    with repo.lying():
        repo.rotate("root", keys=3, threshold=2)
        repo.sign("root", signers=[*old[:1], *repo.signers["root"]])
        refused(driver, Reason.SIGNATURES, "2.root.json: signed by 1 of the 2 keys that root version 1 asks for")
    repo.rotate("root", keys=3, threshold=2)
    assert driver.refresh().root.version == 2


def test_a_root_below_its_own_threshold_is_refused(driver: Driver, repo: RepositorySimulator) -> None:
    old = repo.signers["root"]
    with repo.lying():
        repo.rotate("root", keys=3, threshold=2)
        repo.sign("root", signers=[*old, *repo.signers["root"][:1]])
        refused(driver, Reason.SIGNATURES, "2.root.json: signed by 1 of the 2 keys that root version 2 asks for")
    repo.rotate("root", keys=3, threshold=2)
    assert driver.refresh().root.version == 2


@pytest.mark.parametrize("version", [1, 3, 2**31])
def test_a_root_that_is_not_the_next_version_is_refused(
    driver: Driver, repo: RepositorySimulator, version: int
) -> None:
    with repo.lying():
        with repo.edit("root") as root:
            root.version = version
        repo.files["metadata/2.root.json"] = repo.files[repo.path_of("root")]
        refused(driver, Reason.VERSION, f"2.root.json: is version {version}, expected version 2")
    with repo.edit("root"):
        pass
    assert driver.refresh().root.version == 2


def test_an_expired_root_is_passed_on_the_way_but_not_at_the_end(driver: Driver, repo: RepositorySimulator) -> None:
    with repo.edit("root") as root:
        root.expires = NOW - timedelta(days=3)
    with pytest.raises(ExpiredError, match=r"2\.root\.json") as caught:
        driver.refresh()
    assert caught.value.refusal.role == "root"
    assert "2025-12-29T00:00:00Z" in str(caught.value)
    assert (Area.METADATA, "timestamp") not in driver.held
    with repo.edit("root"):
        pass
    assert driver.refresh().root.version == 3


def test_at_the_limit_of_roots_there_is_an_error_and_never_an_answer(driver: Driver, repo: RepositorySimulator) -> None:
    driver.limits = Limits(root_rotations=3)
    stolen = repo.signers["timestamp"]
    for _ in range(3):
        repo.rotate("root")
    driver.refresh()
    driver.held.clear()
    repo.rotate("timestamp")
    repo.sign("timestamp", signers=stolen)  # root 4 still trusts this key, root 5 does not
    refused(driver, Reason.LIMIT, "5.root.json: more than 3 new roots in one refresh")
    assert (Area.METADATA, "timestamp") not in driver.held
    repo.publish()
    driver.limits = Limits()
    assert driver.refresh().root.version == 5


def test_a_chain_that_ends_below_the_accepted_root_is_refused(driver: Driver, repo: RepositorySimulator) -> None:
    old = repo.save()
    repo.rotate("root")
    driver.refresh()
    driver.held.clear()
    with repo.lying():
        repo.restore(old)
        refused(driver, Reason.ROLLBACK, "root", "version 1", "version 2 was accepted before")
    assert driver.refresh().root.version == 2


def test_a_root_that_replaces_the_timestamp_key_voids_the_floors_it_vouched_for(
    driver: Driver, repo: RepositorySimulator
) -> None:
    with repo.lying():
        with repo.edit("timestamp") as timestamp:
            timestamp.version = 2**31
        driver.refresh()
    repo.publish()
    refused(driver, Reason.ROLLBACK, "timestamp.json", str(2**31))
    repo.rotate("timestamp")
    state = driver.refresh()
    assert state.timestamp is not None
    assert state.timestamp.signed.version < 10


def test_a_root_that_replaces_the_snapshot_key_voids_the_floors_it_vouched_for(
    driver: Driver, repo: RepositorySimulator
) -> None:
    with repo.lying():
        with repo.edit("snapshot") as snapshot:
            snapshot.meta["targets.json"].version = 1
            snapshot.version = 2**31
        driver.refresh()
    for _ in range(3):
        repo.publish()
    refused(driver, Reason.ROLLBACK, str(2**31))
    repo.rotate("snapshot")
    state = driver.refresh()
    assert state.snapshot is not None
    assert state.snapshot.signed.version < 10


def test_a_root_that_keeps_the_online_keys_keeps_their_floors(driver: Driver, repo: RepositorySimulator) -> None:
    old = repo.files["metadata/timestamp.json"]
    repo.publish()
    driver.refresh()
    with repo.lying():
        with repo.edit("root"):
            pass
        repo.replace("metadata/timestamp.json", old)
        refused(driver, Reason.ROLLBACK, "timestamp.json")
    driver.refresh()


def test_strictly_sequential_requests_follow_the_order_of_the_specification(
    driver: Driver, repo: RepositorySimulator
) -> None:
    driver.limits = Limits(root_window=0)
    repo.rotate("root")
    driver.refresh()
    assert driver.requests == [
        "metadata/2.root.json",
        "metadata/3.root.json",
        "metadata/timestamp.json",
        "metadata/1.snapshot.json",
        "metadata/1.targets.json",
    ]


def test_a_root_published_between_two_requests_is_asked_for_once_more(repo: RepositorySimulator) -> None:
    class Publishing(Driver):
        """Root 2 and its timestamp appear after the client was told that there is no root 2."""

        def _answer(self, step: object) -> object:  # type: ignore[override]  # narrowed by the caller
            answer = super()._answer(step)  # type: ignore[arg-type]  # as above
            if self.requests == ["metadata/2.root.json"]:
                self.repo.rotate("timestamp")
            return answer

    driver = Publishing(repo, NOW)
    state = driver.refresh()
    assert state.root.version == 2
    assert driver.requests[:4] == [
        "metadata/2.root.json",
        "metadata/timestamp.json",
        "metadata/2.root.json",
        "metadata/3.root.json",
    ]


def test_a_timestamp_by_a_wrong_key_is_asked_about_only_once_more(driver: Driver, repo: RepositorySimulator) -> None:
    repo.sign("timestamp", signers=new_signers())
    refused(driver, Reason.SIGNATURES, "timestamp.json: signed by 0 of the 1 keys")
    assert driver.requests == ["metadata/2.root.json", "metadata/timestamp.json", "metadata/2.root.json"]


def test_a_time_floor_stands_above_a_clock_that_was_set_back(driver: Driver, repo: RepositorySimulator) -> None:
    driver.refresh()
    driver.recorded = (replace(driver.recorded[0], time=NOW + timedelta(days=2)), Floors(root=1))
    with pytest.raises(ExpiredError):
        driver.refresh()
    repo.now = NOW + timedelta(days=2)
    repo.publish()
    driver.refresh()


def test_only_a_fault_of_signatures_makes_the_client_ask_for_the_root_once_more(
    driver: Driver, repo: RepositorySimulator
) -> None:
    old = repo.save()
    repo.publish()
    driver.refresh()
    driver.requests.clear()
    with repo.lying():
        repo.restore(old)
        with pytest.raises(VerificationError, match="rollback of timestamp"):
            driver.refresh()
    assert driver.requests.count("metadata/2.root.json") == 1


class Remembering(Driver):
    """Gives an answer that was asked ahead until it is asked for again, as a transport may."""

    asked: dict[str, bytes | None]

    def ask_ahead(self, *paths: str) -> None:
        self.asked = {f"metadata/{path}": self.repo.files.get(f"metadata/{path}") for path in paths}

    def _answer(self, step: Step) -> bytes | Missing | None:
        if isinstance(step, Fetch) and not step.again and f"metadata/{step.path}" in self.asked:
            return self.asked[f"metadata/{step.path}"] or MISSING
        return super()._answer(step)


def test_a_timestamp_that_was_asked_ahead_of_its_keys_replacement_is_asked_for_again(repo: RepositorySimulator) -> None:
    driver = Remembering(repo, NOW)
    driver.ask_ahead("timestamp.json")
    repo.rotate("timestamp")
    assert driver.refresh().root.version == 2
    assert driver.requests.count("metadata/timestamp.json") == 1

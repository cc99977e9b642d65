"""TUF 1.0.34 §5.4 and §5.5, timestamp and snapshot: each step, broken and kept."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from kedge.errors import ExpiredError, FetchError, Reason, VerificationError
from kedge.tuf.checks import Freshness
from kedge.tuf.steps import Area
from support.driver import Driver
from support.simulator import RepositorySimulator, new_signers

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(params=[True, False], ids=["with-digests", "without-digests"])
def repo(request: pytest.FixtureRequest) -> RepositorySimulator:
    repo = RepositorySimulator(now=NOW, meta_hashes=request.param)
    repo.delegate("registry", paths=["registry/*"])
    repo.publish()
    return repo


@pytest.fixture
def driver(repo: RepositorySimulator) -> Driver:
    return Driver(repo, NOW)


def refused(driver: Driver, file: str, *texts: str) -> VerificationError:
    """The refresh is refused for one of ``texts``, and ``file`` stays as it was held."""
    before = driver.held.get((Area.METADATA, file))
    with pytest.raises(VerificationError) as caught:
        driver.refresh()
    for text in texts:
        assert text in str(caught.value)
    assert driver.held.get((Area.METADATA, file)) == before
    return caught.value


def test_a_timestamp_by_a_wrong_key_is_refused_and_not_kept(driver: Driver, repo: RepositorySimulator) -> None:
    with repo.lying():
        repo.sign("timestamp", signers=new_signers())
        error = refused(driver, "timestamp", "timestamp.json: signed by 0 of the 1 keys that root version 1 asks for")
        assert error.refusal.reason is Reason.SIGNATURES
    driver.refresh()


def test_a_timestamp_below_its_threshold_is_refused(driver: Driver, repo: RepositorySimulator) -> None:
    repo.rotate("timestamp", keys=3, threshold=2)
    with repo.lying():
        repo.sign("timestamp", signers=repo.signers["timestamp"][:1])
        refused(driver, "timestamp", "signed by 1 of the 2 keys")
    repo.sign("timestamp", signers=repo.signers["timestamp"][1:])
    driver.refresh()


def test_a_rolled_back_timestamp_is_refused_and_not_kept(driver: Driver, repo: RepositorySimulator) -> None:
    old = repo.save()
    repo.publish()
    driver.refresh()
    with repo.lying():
        repo.restore(old)
        error = refused(driver, "timestamp", "rollback of timestamp to version 2", "version 3 was accepted before")
        assert error.refusal.reason is Reason.ROLLBACK
    driver.refresh()


def test_a_rolled_back_timestamp_is_refused_when_only_the_floors_are_left(
    driver: Driver, repo: RepositorySimulator
) -> None:
    old = repo.save()
    repo.publish()
    driver.refresh()
    driver.held.clear()
    with repo.lying():
        repo.restore(old)
        refused(driver, "timestamp", "rollback of timestamp to version 2", "version 3 was accepted before")
    driver.refresh()


def test_a_timestamp_of_the_same_version_is_no_news(driver: Driver, repo: RepositorySimulator) -> None:
    driver.refresh()
    held = dict(driver.held)
    repo.timestamp.expires += timedelta(hours=1)
    repo.sign("timestamp")
    driver.refresh()
    assert driver.held == held


def test_a_timestamp_of_the_same_version_does_not_outlive_the_one_that_is_held(
    driver: Driver, repo: RepositorySimulator
) -> None:
    driver.refresh()
    driver.now = NOW + timedelta(days=2)
    refused(driver, "timestamp", "timestamp.json")
    repo.now = driver.now
    repo.publish()
    driver.refresh()


def test_a_timestamp_that_names_an_older_snapshot_is_refused(driver: Driver, repo: RepositorySimulator) -> None:
    repo.publish()
    driver.refresh()
    with repo.edit("timestamp") as timestamp:
        timestamp.snapshot_meta.version -= 1
    error = refused(driver, "timestamp", "rollback of snapshot to version 2", "version 3 was accepted before")
    assert error.refusal.role == "snapshot"
    repo.publish()
    driver.refresh()


def test_an_expired_timestamp_is_refused_with_its_date_and_age(driver: Driver, repo: RepositorySimulator) -> None:
    driver.now = NOW + timedelta(days=4)
    with pytest.raises(ExpiredError) as caught:
        driver.refresh()
    assert caught.value.refusal.role == "timestamp"
    assert "2026-01-02T00:00:00Z" in str(caught.value)
    assert "3 days" in str(caught.value)
    assert (Area.METADATA, "timestamp") not in driver.held
    repo.now = driver.now
    repo.publish()
    driver.refresh()


def test_at_the_second_of_its_expiry_a_timestamp_has_expired(driver: Driver) -> None:
    driver.now = NOW + timedelta(days=1) - timedelta(seconds=1)
    driver.refresh()
    driver.now = NOW + timedelta(days=1)
    with pytest.raises(ExpiredError):
        driver.refresh()


def test_staleness_is_accepted_up_to_what_the_policy_allows(driver: Driver) -> None:
    driver.now = NOW + timedelta(days=3)
    driver.max_staleness = timedelta(days=2, seconds=1)
    driver.refresh()
    driver.max_staleness = timedelta(days=2)
    with pytest.raises(ExpiredError):
        driver.refresh()


def test_a_time_asked_for_stands_below_the_time_floor(driver: Driver) -> None:
    state = driver.refresh()
    floors = replace(state.floors, time=NOW)
    asked = Freshness(reference_time=NOW - timedelta(days=9), as_of=True)
    assert asked.above(floors).reference_time == NOW - timedelta(days=9)
    assert replace(asked, as_of=False).above(floors).reference_time == NOW


def test_a_timestamp_that_is_accepted_raises_the_floor_even_if_its_snapshot_is_refused(
    driver: Driver, repo: RepositorySimulator
) -> None:
    driver.refresh()
    old = repo.files["metadata/timestamp.json"]
    repo.publish()
    snapshot = repo.path_of("snapshot")
    with repo.lying():
        repo.sign("snapshot", signers=new_signers())
        refused(driver, "snapshot", repo.path_of("snapshot").removeprefix("metadata/"))
    assert driver.held[Area.METADATA, "timestamp"] == repo.files["metadata/timestamp.json"]
    with repo.lying():
        repo.replace("metadata/timestamp.json", old)
        refused(driver, "timestamp", "rollback of timestamp")
    driver.refresh()
    assert driver.held[Area.METADATA, "snapshot"] == repo.files[snapshot]


def test_a_snapshot_by_a_wrong_key_is_refused_and_not_kept(driver: Driver, repo: RepositorySimulator) -> None:
    with repo.lying():
        data = repo.sign("snapshot", signers=new_signers())
        with repo.edit("timestamp") as timestamp:
            timestamp.snapshot_meta.length = len(data)
            timestamp.snapshot_meta.hashes = None
        refused(driver, "snapshot", "2.snapshot.json: signed by 0 of the 1 keys that root version 1 asks for")
    repo.publish()
    driver.refresh()


def test_a_snapshot_of_another_version_than_the_timestamp_names_is_refused(
    driver: Driver, repo: RepositorySimulator
) -> None:
    repo.publish()
    with repo.lying():
        repo.replace("metadata/3.snapshot.json", repo.files["metadata/2.snapshot.json"])
        refused(driver, "snapshot", "3.snapshot.json: ")
    driver.refresh()


def test_other_bytes_than_the_timestamp_names_are_refused() -> None:
    repo = RepositorySimulator(now=NOW)
    driver = Driver(repo, NOW)
    with repo.lying():
        repo.replace("metadata/1.snapshot.json", repo.files["metadata/1.snapshot.json"] + b" ")
        assert refused(driver, "snapshot", "1.snapshot.json: ").refusal.reason is Reason.CONTENT
    with repo.lying():
        data = repo.files["metadata/1.snapshot.json"]
        repo.replace("metadata/1.snapshot.json", data.replace(b'"', b"'", 1))
        assert "sha256" in str(refused(driver, "snapshot", "1.snapshot.json: "))
    driver.refresh()


@pytest.mark.parametrize("role", ["targets", "registry"])
def test_a_snapshot_that_rolls_a_role_back_is_refused(driver: Driver, repo: RepositorySimulator, role: str) -> None:
    with repo.edit(role):
        pass
    driver.refresh()
    with repo.edit("snapshot") as snapshot:
        snapshot.meta[f"{role}.json"].version -= 1
    error = refused(driver, "snapshot", f"rollback of {role} to version", "was accepted before")
    assert error.refusal.reason is Reason.ROLLBACK
    assert error.refusal.role == role
    repo.publish()
    driver.refresh()


def test_a_snapshot_that_no_longer_lists_a_role_is_refused(driver: Driver, repo: RepositorySimulator) -> None:
    driver.refresh()
    with repo.edit("snapshot") as snapshot:
        del snapshot.meta["registry.json"]
    error = refused(driver, "snapshot", "no longer lists the role registry")
    assert error.refusal.reason is Reason.ROLLBACK
    repo.publish()
    driver.refresh()


def test_an_expired_snapshot_is_refused(driver: Driver, repo: RepositorySimulator) -> None:
    with repo.edit("snapshot") as snapshot:
        snapshot.expires = NOW
    with pytest.raises(ExpiredError) as caught:
        driver.refresh()
    assert caught.value.refusal.role == "snapshot"
    assert (Area.METADATA, "snapshot") not in driver.held
    repo.publish()
    driver.refresh()


def test_a_held_snapshot_that_expires_while_the_timestamp_lives_on_is_refused(
    driver: Driver, repo: RepositorySimulator
) -> None:
    driver.refresh()
    driver.now = repo.now = NOW + timedelta(days=8)
    with repo.edit("timestamp"):
        pass
    with pytest.raises(ExpiredError) as caught:
        driver.refresh()
    assert caught.value.refusal.role == "snapshot"
    repo.publish()
    driver.refresh()


def test_what_has_not_changed_is_not_fetched_again(driver: Driver, repo: RepositorySimulator) -> None:
    driver.refresh()
    driver.requests.clear()
    repo.publish()
    driver.refresh()
    assert driver.requests == ["metadata/2.root.json", "metadata/timestamp.json", "metadata/3.snapshot.json"]


@pytest.mark.parametrize("path", ["timestamp.json", "2.snapshot.json", "2.targets.json"])
def test_a_file_that_is_named_and_not_there_is_a_failed_fetch(
    driver: Driver, repo: RepositorySimulator, path: str
) -> None:
    with repo.lying():
        repo.replace(f"metadata/{path}", None)
        with pytest.raises(FetchError, match=f"{path}: is not there"):
            driver.refresh()
    driver.refresh()


def test_without_consistent_snapshots_files_bear_no_version(driver: Driver, repo: RepositorySimulator) -> None:
    with repo.edit("root") as root:
        root.consistent_snapshot = False
    with repo.edit("targets"):
        pass
    driver.refresh()
    assert driver.requests[-2:] == ["metadata/snapshot.json", "metadata/targets.json"]


def test_a_held_snapshot_of_the_right_version_with_other_bytes_is_fetched_again() -> None:
    """Its version was signed twice: what the timestamp of today names is what counts."""
    repo = RepositorySimulator(now=NOW)
    repo.publish()
    driver = Driver(repo, NOW)
    first = driver.refresh().snapshot
    with repo.edit("snapshot") as snapshot:
        snapshot.version -= 1
        snapshot.unrecognized_fields["x-branch"] = "another"
    second = driver.refresh().snapshot
    assert first is not None
    assert second is not None
    assert first.signed.version == second.signed.version
    assert second.data == repo.files[repo.path_of("snapshot")] != first.data

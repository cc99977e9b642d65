"""The online job, and what goes with it: taking up what is published, dropping what is old, reading back."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner, Signature
from tuf.api.metadata import Timestamp

from kedge.client.anchor import Anchor
from kedge.client.client import TrustClient
from kedge.client.settings import FixedClock
from kedge.errors import ExpiredError, InputError, StoreError, VerificationError
from kedge.transport.mirror import Mirror
from kedge.tuf.metadata import parse
from kedge_repo.bins.lines import BinTarget, in_batches
from kedge_repo.bins.update import update_bins
from kedge_repo.events.plan import add_target
from kedge_repo.events.plan_roles import plan_delegation, plan_renewal, plan_role
from kedge_repo.publish.destination import TIMESTAMP_PATH, BehindError, Destination, Held, TakenError
from kedge_repo.publish.files import collect_files
from kedge_repo.publish.folder import FolderDestination
from kedge_repo.publish.online import Upkeep, keep_online, metrics, sign_online
from kedge_repo.publish.prune import prune_destination
from kedge_repo.publish.publish import adopt, publish_workspace
from kedge_repo.publish.replay import read_back, read_with_kedge
from repo_tools.ceremony import NPM, Ceremony, contents
from repo_tools.test_bins import packages
from repo_tools.test_destinations import Fragile, KilledError, twin
from support.clock import SettableClock

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
DAY = timedelta(days=1)
READERS = {"kedge": read_with_kedge}


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Ceremony:
    return Ceremony(tmp_path_factory.mktemp("founded"), now=NOW).ready()


@pytest.fixture
def ready(founded: Ceremony, tmp_path: Path) -> Ceremony:
    return twin(founded, tmp_path / "mine")


@pytest.fixture
def place(tmp_path: Path) -> FolderDestination:
    return FolderDestination(folder=tmp_path / "out")


def run(
    ceremony: Ceremony,
    *places: Destination,
    now: datetime = NOW,
    attempts: int = 3,
    pauses: list[float] | None = None,
    signer: CryptoSigner | None = None,
) -> Upkeep:
    return keep_online(
        ceremony.workspace,
        [signer or ceremony.signers["ci"]],
        places,
        now=lambda: now,
        pause=(pauses if pauses is not None else []).append,
        attempts=attempts,
        readers=READERS,
    )


def test_nothing_is_signed_while_nothing_is_due(ready: Ceremony, place: FolderDestination) -> None:
    first = run(ready, place)
    assert (first.due, first.published, first.timestamp) == (None, (place.name,), 1)
    before = contents(ready.workspace.root), contents(place.folder)
    again = run(ready, place, now=NOW + 3 * DAY)
    assert (again.due, again.published, again.attempts) == (None, (), 1)
    assert (contents(ready.workspace.root), contents(place.folder)) == before


def test_a_timestamp_inside_its_signing_period_is_signed_and_published(
    ready: Ceremony, place: FolderDestination
) -> None:
    run(ready, place)
    done = run(ready, place, now=NOW + 6 * DAY)
    assert done.due == "the timestamp expires on 2026-11-28T12:00:00Z"
    assert (done.timestamp, done.published) == (2, (place.name,))
    assert done.expires == NOW + 13 * DAY


def test_what_keyholders_have_changed_is_due(ready: Ceremony, place: FolderDestination) -> None:
    run(ready, place)
    ready.change(lambda view: add_target(view, f"{NPM}/more.json", b"{}"))
    ready.sign("npm-team")
    ready.merge()
    assert run(ready, place).due == f"{NPM} has changed"
    assert run(ready, place).due is None


@dataclass
class Failing(Fragile):
    """A destination that cannot be reached so many times."""

    failures: int = 0

    def read(self, path: str) -> Held | None:
        if self.failures:
            self.failures -= 1
            raise StoreError("the store cannot be reached")
        return super().read(path)


def test_what_fails_is_tried_again_after_longer_and_longer_pauses(ready: Ceremony, place: FolderDestination) -> None:
    pauses: list[float] = []
    done = run(ready, Failing(place, left=99, failures=2), pauses=pauses)
    assert (done.attempts, pauses) == (3, [2.0, 4.0])
    with pytest.raises(StoreError, match="cannot be reached"):
        run(ready, Failing(place, left=99, failures=3), now=NOW + 6 * DAY)


def test_a_role_of_keyholders_that_has_expired_is_an_alarm(ready: Ceremony, place: FolderDestination) -> None:
    run(ready, place)
    with pytest.raises(ExpiredError, match=rf"1\.{NPM}\.json: expired") as caught:
        run(ready, place, now=NOW + 200 * DAY)
    text = metrics(None, caught.value, started=NOW).decode()
    assert "kedge_online_exit_code 4\n" in text
    assert "kedge_timestamp" not in text


def test_a_clock_behind_what_was_signed_is_said_and_nothing_changes(ready: Ceremony, place: FolderDestination) -> None:
    run(ready, place)
    before = contents(ready.workspace.root), contents(place.folder)
    with pytest.raises(StoreError, match="clock says 2026-10-22T12:00:00Z, and the timestamp was issued at 2026-11-21"):
        run(ready, place, now=NOW - 30 * DAY)
    assert (contents(ready.workspace.root), contents(place.folder)) == before
    assert run(ready, place, now=NOW - timedelta(minutes=5)).due is None


def test_the_metrics_of_a_good_run_say_until_when(ready: Ceremony, place: FolderDestination) -> None:
    text = metrics(run(ready, place), None, started=NOW).decode()
    values = dict(line.split(" ") for line in text.splitlines() if not line.startswith("#"))
    assert values == {
        "kedge_online_exit_code": "0",
        "kedge_online_last_run_seconds": str(int(NOW.timestamp())),
        "kedge_timestamp_expires_seconds": str(int((NOW + 7 * DAY).timestamp())),
        "kedge_timestamp_version": "1",
    }


def test_an_older_workspace_goes_on_where_the_last_job_stopped(
    ready: Ceremony, place: FolderDestination, tmp_path: Path
) -> None:
    older = twin(ready, tmp_path / "older")
    run(ready, place)
    run(ready, place, now=NOW + 6 * DAY)
    done = run(older, place, now=NOW + 8 * DAY)
    assert (done.adopted, done.due, done.timestamp) == (True, None, 2)
    done = run(older, place, now=NOW + 12 * DAY)
    assert (done.adopted, done.timestamp) == (False, 3)


def test_a_workspace_without_what_keyholders_signed_is_told(
    ready: Ceremony, place: FolderDestination, tmp_path: Path
) -> None:
    older = twin(ready, tmp_path / "older")
    ready.change(lambda view: add_target(view, f"{NPM}/more.json", b"{}"))
    ready.sign("npm-team")
    ready.merge()
    run(ready, place)
    before = contents(place.folder)
    with pytest.raises(BehindError, match=f"names version 2 of {NPM}, and this workspace has less"):
        run(older, place, now=NOW + 6 * DAY)
    assert contents(place.folder) == before


def test_what_is_published_by_strangers_is_not_taken_up(ready: Ceremony, tmp_path: Path) -> None:
    other = Ceremony(tmp_path / "other", now=NOW).ready()
    other.online()
    publish_workspace(other.workspace, tmp_path / "theirs", now=NOW, readers=READERS)
    with pytest.raises(VerificationError, match="signed by 0 of the 1 keys"):
        adopt(ready.workspace, FolderDestination(folder=tmp_path / "theirs"))


def test_a_snapshot_name_that_a_dead_publisher_took_is_passed_over(
    ready: Ceremony, place: FolderDestination, tmp_path: Path
) -> None:
    run(ready, place)
    ready.change(lambda view: add_target(view, f"{NPM}/more.json", b"{}"))
    ready.sign("npm-team")
    ready.merge()
    dead = twin(ready, tmp_path / "dead")
    sign_online(dead.workspace, [dead.signers["ci"]], now=NOW + timedelta(hours=1))
    path = "metadata/2.snapshot.json"
    place.create(path, (dead.workspace.root / path).read_bytes())
    with pytest.raises(TakenError, match=r"2\.snapshot\.json: holds other bytes") as caught:
        run(twin(ready, tmp_path / "once"), place, attempts=1)
    assert caught.value.path == path
    done = run(ready, place)
    assert (done.attempts, done.due) == (2, "the snapshot's name was taken")
    assert read_back(collect_files(ready.workspace), place.name, clock=FixedClock(NOW)).faults == ()


class CrashingSigner(CryptoSigner):
    """A signer whose machine may stop before it has signed."""

    def __init__(self, inner: CryptoSigner, crashes: Callable[[], bool]) -> None:
        super().__init__(inner._private_key, inner.public_key)
        self._crashes = crashes

    def sign(self, payload: bytes) -> Signature:
        if self._crashes():
            raise KilledError
        return super().sign(payload)


def test_over_a_year_of_crashes_no_timestamp_expires_and_nothing_rolls_back(
    ready: Ceremony, place: FolderDestination, tmp_path: Path
) -> None:
    chance = random.Random(9)
    ready.change(lambda view: plan_role(view, "timestamp", expiry_days=28, signing_days=20))
    ready.merge()
    committed = twin(ready, tmp_path / "committed")
    run(ready, place)
    clock = SettableClock(NOW)
    anchor = Anchor(
        name="example", initial_root=collect_files(ready.workspace).roots[0], mirrors=(Mirror(url=place.name),)
    )
    signer = CrashingSigner(ready.signers["ci"], lambda: chance.random() < 0.15)
    version, killed, seen = 0, 0, set()
    for day in range(2, 367, 2):
        clock.moment = ready.now = NOW + day * DAY
        if day % 100 == 0:
            ready.change(lambda view: plan_renewal(view, ["root", "targets", NPM]))
            ready.sign("alice", "bob", "npm-team")
            ready.merge()
            committed = twin(ready, tmp_path / f"committed-{day}")
        try:
            run(ready, Fragile(place, left=chance.choice([0, 1, 2, 99, 99])), now=clock.moment, signer=signer)
        except KilledError:
            killed += 1
            if chance.random() < 0.5:  # and the machine is gone: the next begins from what is in git
                shutil.rmtree(ready.folder)
                shutil.copytree(committed.folder, ready.folder)
        held = place.read(TIMESTAMP_PATH)
        assert held is not None
        timestamp = parse(held.data, Timestamp, file="timestamp.json").signed
        assert timestamp.expires > clock.moment
        if timestamp.version != version or day % 50 == 0:
            with TrustClient(anchor, state=tmp_path / "state", clock=clock) as client:
                trust = client.refresh()
            assert trust.refreshed
            assert trust.timestamp.version > version or day % 50 == 0
            version = trust.timestamp.version
            seen.add(version)
    assert killed >= 10
    assert len(seen) >= 365 // 20


def grown(ready: Ceremony, place: FolderDestination, days: Sequence[int]) -> None:
    """A role with bins, of which one changes on each of ``days``."""
    ready.change(lambda view: plan_delegation(view, packages(2)))
    ready.sign("alice", "bob")
    ready.merge()
    for day in days:
        ready.now = NOW + day * DAY
        target = BinTarget(path="packages/a", length=day, sha256="0" * 64)
        update_bins(ready.workspace, "packages", in_batches([target]), [ready.signers["ci"]], now=ready.now)
        ready.online()
        publish_workspace(ready.workspace, place.folder, now=ready.now, readers=READERS)


def test_snapshots_and_bins_are_dropped_once_no_timestamp_leads_to_them(
    ready: Ceremony, place: FolderDestination
) -> None:
    grown(ready, place, [0, 2, 4, 30])  # timestamps last 7 days; until day 11 one may lead to snapshot 4
    before = contents(place.folder)
    snapshots = [f"metadata/{version}.snapshot.json" for version in (1, 2, 3, 4, 5)]
    assert prune_destination(ready.workspace, place, now=NOW + 7 * DAY) == ()
    planned = prune_destination(ready.workspace, place, now=NOW + 31 * DAY, dry_run=True)
    assert contents(place.folder) == before or snapshots[0] not in before
    dropped = prune_destination(ready.workspace, place, now=NOW + 31 * DAY)
    assert dropped == planned
    assert {path for path in dropped if "snapshot" in path} == {path for path in snapshots[:-1] if path in before}
    bins = {path for path in dropped if "packages-" in path}
    assert len(bins) == 3
    assert set(contents(place.folder)) == set(before) - set(dropped)
    found = read_back(collect_files(ready.workspace), place.name, clock=FixedClock(NOW + 31 * DAY))
    assert (found.faults, found.lookups) == ((), 1)
    assert prune_destination(ready.workspace, place, now=NOW + 31 * DAY) == ()


def test_a_client_with_a_valid_timestamp_of_before_still_finds_its_bins(
    ready: Ceremony, place: FolderDestination, tmp_path: Path
) -> None:
    grown(ready, place, [0, 5])
    held = place.read(TIMESTAMP_PATH)
    clock = SettableClock(NOW + 5 * DAY)
    anchor = Anchor(
        name="example", initial_root=collect_files(ready.workspace).roots[0], mirrors=(Mirror(url=place.name),)
    )
    with TrustClient(anchor, state=tmp_path / "state", clock=clock) as client:
        client.refresh()
    grown_again = BinTarget(path="packages/a", length=99, sha256="1" * 64)
    ready.now = NOW + 11 * DAY
    update_bins(ready.workspace, "packages", in_batches([grown_again]), [ready.signers["ci"]], now=ready.now)
    ready.online()
    publish_workspace(ready.workspace, place.folder, now=ready.now, readers=READERS)
    prune_destination(ready.workspace, place, now=ready.now)
    assert held is not None
    old = {**contents(place.folder), TIMESTAMP_PATH: held.data}
    read_with_kedge(old, anchor.initial_root, (), NOW + 11 * DAY, ("packages/a",))
    prune_destination(ready.workspace, place, now=NOW + 14 * DAY)
    old = {**contents(place.folder), TIMESTAMP_PATH: held.data}
    with pytest.raises(VerificationError, match="not there"):
        read_with_kedge(old, anchor.initial_root, (), NOW + 11 * DAY, ("packages/a",))


def test_a_shorter_life_of_timestamps_makes_a_snapshot_that_says_how_long_the_old_ones_last(ready: Ceremony) -> None:
    ready.change(lambda view: plan_role(view, "timestamp", expiry_days=1, signing_days=0))
    ready.merge()
    ready.now = NOW + DAY
    assert ready.online().snapshot_is_new
    snapshot = ready.workspace.signed().snapshot
    assert snapshot is not None
    assert snapshot.signed.unrecognized_fields["x-kedge-former-until"] == "2026-11-28T12:00:00Z"
    ready.now = NOW + 2 * DAY
    assert not ready.online().snapshot_is_new


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (f"metadata/1.{NPM}.json", f"1.{NPM}.json"),
        (TIMESTAMP_PATH, "timestamp.json"),
    ],
)
def test_reading_back_says_what_a_client_would_miss(
    ready: Ceremony, place: FolderDestination, spoil: str, fault: str
) -> None:
    run(ready, place)
    files = collect_files(ready.workspace)
    assert read_back(files, place.name, clock=FixedClock(NOW)).faults == ()
    (place.folder / spoil).unlink()
    found = read_back(files, place.name, clock=FixedClock(NOW))
    assert fault in found.faults[0]


def test_reading_back_says_that_a_cache_shows_an_older_state(ready: Ceremony, place: FolderDestination) -> None:
    run(ready, place)
    ready.online()
    found = read_back(collect_files(ready.workspace), place.name, clock=FixedClock(NOW))
    assert found.faults == ("serves timestamp version 1, and the workspace has 2",)


def test_a_job_that_nobody_could_run_says_what_is_missing(tmp_path: Path, place: FolderDestination) -> None:
    ceremony = Ceremony(tmp_path / "empty", now=NOW).found()
    with pytest.raises(InputError, match="is missing"):
        run(ceremony, place)
    with suppress(FileNotFoundError):
        assert contents(place.folder) == {}

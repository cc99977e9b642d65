"""A19 and A26: several mirrors of one repository, some of which lag, lie, stall or contradict each other.

Every refusal has its control: the attack undone, the same state folder gives the keys.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from kedge.errors import FetchError, Reason
from kedge.transport.mirror import Deadline
from kedge.transport.mirrors import MirrorsTransport
from kedge.tuf.steps import Fetch, Missing
from support.world import KEYS, MemoryTransport, World

HUGE = 2**31


@dataclass
class FolderMirror(MemoryTransport):
    """A mirror that serves what was copied to it, and can be told to stall or to be away."""

    copied: dict[str, bytes] = field(default_factory=dict)
    stalled: threading.Event | None = None
    away: bool = False

    def sync(self) -> FolderMirror:
        """Copy what the repository has published by now."""
        self.copied = dict(self.repo.files)
        return self

    def get(self, request: Fetch, deadline: Deadline) -> bytes | Missing:
        """Serve the copy."""
        if self.away:
            raise FetchError(f"{self.source}: is away")
        if self.stalled is not None:
            self.stalled.wait(deadline.remaining_s())
            raise FetchError(f"{self.source}: no complete answer")
        with serving(self.repo, self.copied):
            return super().get(request, deadline)


lock = threading.RLock()


@contextmanager
def serving(repo: object, files: dict[str, bytes]) -> Iterator[None]:
    """Let the simulator's files be ``files`` for a moment."""
    with lock:
        present = repo.files  # type: ignore[attr-defined] # any simulator
        repo.files = files  # type: ignore[attr-defined] # any simulator
        try:
            yield
        finally:
            repo.files = present  # type: ignore[attr-defined] # any simulator


class Mirrors:
    """Three mirrors of one world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.one, self.two, self.three = (FolderMirror(world.repo, source=f"mirror-{n}").sync() for n in (1, 2, 3))
        self.transport = MirrorsTransport([self.one, self.two, self.three], patience_s=5)

    def sync(self) -> None:
        """Bring all of them up to date."""
        for mirror in (self.one, self.two, self.three):
            mirror.sync()

    def keys(self) -> bytes:
        """Get the target in a new run."""
        return self.world.client(self.transport).target(KEYS).data


@pytest.fixture
def mirrors(world: World) -> Iterator[Mirrors]:
    made = Mirrors(world)
    yield made
    made.transport.close()


def test_a19_the_freshest_verified_answer_wins_and_the_laggard_is_named(mirrors: Mirrors) -> None:
    old = mirrors.world.repo.timestamp.version
    mirrors.world.tomorrow(hours=3)
    mirrors.three.sync()
    trust = mirrors.world.client(mirrors.transport).refresh()
    assert trust.timestamp.version == old + 1
    lag = f"lags: it serves timestamp.json of version {old}, others have {old + 1}"
    assert trust.warnings == (f"mirror mirror-1: {lag}", f"mirror mirror-2: {lag}")
    assert trust.source == "mirror-3"
    mirrors.sync()
    assert mirrors.world.client(mirrors.transport).refresh().warnings == ()


def test_a19_garbage_with_a_huge_version_is_named_and_passed_over(mirrors: Mirrors) -> None:
    mirrors.world.tomorrow()
    mirrors.sync()
    document = json.loads(mirrors.two.copied["metadata/timestamp.json"])
    document["signed"]["version"] = HUGE
    mirrors.two.copied["metadata/timestamp.json"] = json.dumps(document).encode()
    mirrors.one.copied["metadata/timestamp.json"] = b"garbage"
    trust = mirrors.world.client(mirrors.transport).refresh()
    assert trust.timestamp.version == mirrors.world.repo.timestamp.version
    assert any(line.startswith("mirror mirror-1: timestamp.json: is not JSON") for line in trust.warnings)
    assert any(line.startswith("mirror mirror-2: timestamp.json: signed by 0 of the 1 keys") for line in trust.warnings)


def test_a19_a_root_that_one_mirror_keeps_back_comes_from_another(mirrors: Mirrors) -> None:
    mirrors.world.repo.rotate("timestamp")
    mirrors.world.tomorrow()
    mirrors.three.sync()
    assert mirrors.world.client(mirrors.transport).refresh().root.version == 2


def test_a19_a_wrong_snapshot_or_target_is_taken_from_the_next_mirror(mirrors: Mirrors) -> None:
    for mirror in (mirrors.one, mirrors.two):
        for path in list(mirror.copied):
            if "snapshot" in path or path.startswith("targets/"):
                mirror.copied[path] = b"garbage"
    assert mirrors.keys() == b"the keys"


def test_a19_all_mirrors_wrong_is_refused(mirrors: Mirrors) -> None:
    honest = dict(mirrors.one.copied)
    for mirror in (mirrors.one, mirrors.two, mirrors.three):
        mirror.copied["metadata/timestamp.json"] = b"garbage"
    mirrors.world.refused("timestamp.json: is not JSON", reason=Reason.MALFORMED, run=mirrors.keys)
    mirrors.two.copied = honest
    assert mirrors.keys() == b"the keys"


def test_a19_a_stalled_mirror_is_not_waited_for_once_another_has_answered(mirrors: Mirrors) -> None:
    mirrors.one.stalled = threading.Event()
    try:
        client = mirrors.world.client(mirrors.transport)
        assert client.target(KEYS).data == b"the keys"
        assert "mirror mirror-1: did not answer within 5 seconds of the others" in client.trust.warnings
        # It is asked once a run: its first question is still open.
        assert mirrors.one.requests == []
    finally:
        mirrors.one.stalled.set()


def test_a19_a_mirror_that_is_days_behind_is_named_with_the_age_of_what_it_serves(mirrors: Mirrors) -> None:
    mirrors.world.tomorrow(days=3)
    mirrors.three.sync()
    trust = mirrors.world.client(mirrors.transport).refresh()
    assert trust.refreshed
    assert len([line for line in trust.warnings if "expired on" in line and "2 days before" in line]) == 2


def test_a19_mirrors_that_are_away_are_named_and_with_all_away_nothing_is_answered(mirrors: Mirrors) -> None:
    mirrors.one.away = mirrors.two.away = True
    trust = mirrors.world.client(mirrors.transport).refresh()
    assert {"mirror mirror-1: mirror-1: is away", "mirror mirror-2: mirror-2: is away"} <= set(trust.warnings)
    mirrors.three.away = True
    fresh = World(mirrors.world.folder.with_name("another"))
    with pytest.raises(FetchError, match="is away"):
        fresh.client(mirrors.transport).refresh()


@pytest.mark.parametrize("role", ["timestamp", "root"])
def test_a26_one_version_in_two_rightly_signed_forms_is_refused_and_both_are_kept(mirrors: Mirrors, role: str) -> None:
    world = mirrors.world
    world.refresh()
    saved = world.repo.save()

    def publish(marker: str) -> None:
        with world.repo.edit(role) as signed:
            signed.unrecognized_fields["x-marker"] = marker
        if role == "timestamp":
            world.repo.publish()

    publish("one")
    mirrors.one.sync()
    world.repo.restore(saved)
    publish("two")
    mirrors.two.sync()
    mirrors.three.sync()
    error = world.refused("mirror-1 and mirror-2", "both rightly signed", reason=Reason.CONFLICT, run=mirrors.keys)
    kept = {path.read_bytes() for path in (world.folder / "evidence").iterdir()}
    assert kept == set(error.refusal.exhibits)
    assert len(kept) == 2
    mirrors.one.sync()
    assert mirrors.keys() == b"the keys"

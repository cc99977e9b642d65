"""Attacks and faults that need two things at once: several mirrors or roots, or an odd file beside a right one."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from kedge.client.anchor import Anchor
from kedge.client.client import TrustClient
from kedge.client.lockfile import LockedAnchor
from kedge.errors import FetchError, Reason, VerificationError
from kedge.transport.directory import DirectoryTransport
from kedge.transport.mirror import Deadline, Mirror
from kedge.transport.mirrors import MirrorsTransport
from kedge.tuf.state import Floors, OnlineFloor
from kedge.tuf.steps import MISSING, Area, Fetch, Missing
from support.clock import SettableClock
from support.world import KEYS, NOW, MemoryTransport, World


class Without(MemoryTransport):
    """A mirror that lacks some files, or stalls on them."""

    lacking: tuple[str, ...] = ()
    stalled: threading.Event | None = None

    def get(self, request: Fetch, deadline: Deadline) -> bytes | Missing:
        """Answer like the repository, but for these files."""
        if any(part in request.path for part in self.lacking):
            if self.stalled is not None:
                self.stalled.wait(deadline.remaining_s())
                raise FetchError(f"{self.source}: stalled")
            return MISSING
        return super().get(request, deadline)


class Eager(MemoryTransport):
    """A transport that takes what is asked ahead at once, before it answers what is asked."""

    taken: dict[str, bytes | Missing]

    def get(self, request: Fetch, deadline: Deadline) -> bytes | Missing:
        """Answer from what was taken ahead, unless it is asked again."""
        for ahead in request.ahead:
            self.taken.setdefault(ahead.path, super().get(ahead, deadline))
        taken = self.taken.pop(request.path, None)
        return super().get(request, deadline) if taken is None or request.again else taken


@pytest.fixture
def two(world: World) -> Iterator[tuple[World, Without, MirrorsTransport]]:
    lame = Without(world.repo, source="lame")
    both = MirrorsTransport([lame, MemoryTransport(world.repo, source="whole")], patience_s=5)
    yield world, lame, both
    both.close()


def test_a19_a_mirror_that_lacks_a_file_does_not_excuse_one_that_serves_a_wrong_one(
    two: tuple[World, Without, MirrorsTransport],
) -> None:
    world, lame, both = two
    world.client(both).refresh()
    world.tomorrow(hours=1)
    lame.lacking = ("timestamp.json",)
    with world.repo.lying():
        world.repo.replace("metadata/timestamp.json", b"garbage")
        with pytest.raises(VerificationError) as caught:
            world.client(both).refresh()
    assert caught.value.refusal.reason is Reason.MALFORMED
    assert world.client(both).refresh().refreshed


def test_a19_a_mirror_that_stalls_on_one_file_is_overtaken(two: tuple[World, Without, MirrorsTransport]) -> None:
    world, lame, both = two
    lame.lacking, lame.stalled = ("snapshot",), threading.Event()
    try:
        client = world.client(both, timeout_s=20)
        assert client.target(KEYS).data == b"the keys"
    finally:
        lame.stalled.set()


def test_a_snapshot_entry_that_is_no_metadata_file_leaves_a_state_that_can_be_used(world: World) -> None:
    with world.repo.edit("snapshot") as snapshot:
        snapshot.meta["odd"] = snapshot.meta["targets.json"]
    world.repo.publish()
    world.keys()
    assert world.client().status().snapshot.version == world.repo.snapshot.version
    world.tomorrow(hours=1)
    assert world.keys() == b"the keys"


def test_a5_a_recovery_whose_root_was_stored_by_itself_is_stored_whole_by_the_next_refresh(world: World) -> None:
    world.repo.timestamp.version = 2**31
    world.repo.publish()
    world.refresh()
    world.repo.rotate("timestamp")
    world.repo.timestamp.version = 1
    world.repo.publish()
    with world.repo.lying():
        world.repo.replace("metadata/timestamp.json", None)
        with pytest.raises(FetchError):
            world.client(timeout_s=5).refresh()
    assert world.refresh().root.version == 2
    assert world.client().status().timestamp.version == world.repo.timestamp.version


def test_a25_a_timestamp_asked_ahead_of_the_root_that_replaced_its_key_is_asked_for_again(world: World) -> None:
    world.keys()
    world.repo.rotate("timestamp", republish=False)

    def publish_meanwhile(path: str) -> None:
        if path.endswith("/2.root.json"):
            world.repo.publish()

    eager = Eager(world.repo, before=publish_meanwhile)
    eager.taken = {}
    assert world.client(eager).refresh().root.version == 2
    assert eager.requests.count("metadata/timestamp.json") == 2


def test_a_pipe_in_a_mirrors_folder_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "metadata").mkdir()
    os.mkfifo(tmp_path / "metadata" / "timestamp.json")
    transport = DirectoryTransport(tmp_path, Mirror(url=str(tmp_path)))
    with pytest.raises(FetchError, match="is no regular file"):
        transport.get(Fetch(Area.METADATA, "timestamp.json", 100), Deadline(5))


def test_a_role_whose_name_is_like_a_root_files_is_an_ordinary_role(world: World) -> None:
    for name in ("1.root", "9" * 5000 + ".root"):
        world.repo.delegate(name, paths=[f"{len(name)}/*"])
        world.repo.add_target(f"{len(name)}/file", b"content", role=name)
    world.repo.publish()
    for _ in range(2):
        assert world.client().target("6/file").data == b"content"


def test_a_mirrors_folder_may_have_any_name(world: World, tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    world.repo.write(folder)
    anchor = Anchor(name="test", initial_root=world.repo.initial_root, mirrors=(Mirror(url=str(folder)),))
    for _ in range(2):
        client = TrustClient(anchor, state=world.folder, clock=SettableClock(NOW))
        assert client.target(KEYS).data == b"the keys"


def test_a11_floors_from_before_a_recovery_do_not_void_those_after_it() -> None:
    before = LockedAnchor(
        initial_root="0" * 64,
        root="1" * 64,
        floors=Floors(root=1, timestamp=OnlineFloor(version=2**31, keys=("a" * 64,)), roles={"targets": 99}),
    )
    after = LockedAnchor(
        initial_root="0" * 64,
        root="2" * 64,
        floors=Floors(root=2, timestamp=OnlineFloor(version=7, keys=("b" * 64,)), roles={"targets": 3}),
    )
    for merged in (before.merged(after), after.merged(before)):
        assert merged == after
    same_keys = replace(after, floors=replace(after.floors, timestamp=OnlineFloor(version=7, keys=("a" * 64,))))
    assert before.merged(same_keys).floors.timestamp == before.floors.timestamp


def test_a_length_that_is_signed_does_not_lift_the_limit(world: World) -> None:
    from kedge.tuf.steps import Limits

    with pytest.raises(VerificationError) as caught:
        world.client(limits=Limits(snapshot_bytes=100)).refresh()
    assert caught.value.refusal.reason is Reason.TOO_LARGE

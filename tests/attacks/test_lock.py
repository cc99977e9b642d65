"""A11 and A24: an old mirror before a machine without a past, and a lock that somebody planted.

Every refusal has its control: the attack undone, the same state folder gives the keys.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from kedge.client.client import TrustClient
from kedge.client.lockfile import LOCK_FILE, Lock, find_lock, read_lock
from kedge.errors import ExitCode, ExpiredError, InputError, Reason, VerificationError
from kedge.tuf.state import Floors, OnlineFloor
from support.simulator import RepositorySimulator
from support.world import KEYS, MemoryTransport, World


@pytest.fixture
def locked(world: World, old_mirror: MemoryTransport, tmp_path: Path) -> tuple[World, Path]:
    """A world, and the lock that a project committed when everything was up to date; the state is another machine's."""
    assert old_mirror.repo.files  # made before time passes
    world.tomorrow(hours=2)
    path = tmp_path / LOCK_FILE
    path.write_bytes(Lock(anchors={"test": world.client().lock()}).to_bytes())
    world.folder = tmp_path / "fresh"
    return world, path


def client(world: World, path: Path | None, transport: MemoryTransport | None = None) -> TrustClient:
    return TrustClient(
        world.anchor(),
        state=world.folder,
        transport=transport or world.mirror,
        clock=world.clock,
        lock=read_lock(path) if path is not None else None,
    )


@pytest.fixture
def old_mirror(world: World) -> MemoryTransport:
    """A mirror that stopped before the lock was made; nothing that it serves has expired."""
    mirror = MemoryTransport(RepositorySimulator(now=world.repo.now))
    mirror.repo.files = dict(world.repo.files)
    return mirror


def test_a11_a_fresh_machine_with_an_old_mirror_is_saved_by_the_lock(
    locked: tuple[World, Path], old_mirror: MemoryTransport
) -> None:
    world, path = locked
    assert client(world, None, old_mirror).refresh().refreshed  # without the lock there is nothing to tell
    world.folder = world.folder.with_name("fresher")
    version = world.repo.timestamp.version
    with pytest.raises(VerificationError) as caught:
        client(world, path, old_mirror).target(KEYS)
    assert caught.value.exit_code == ExitCode.REFUSED
    assert caught.value.refusal.reason is Reason.LOCKED
    line = next(n for n, text in enumerate(path.read_text().splitlines(), 1) if '"timestamp"' in text)
    assert f"{path}:{line}: timestamp version {version} is locked" in str(caught.value)
    assert f"the repository serves version {version - 1}" in str(caught.value)
    assert not (world.folder / "state.json").exists()
    assert client(world, path).target(KEYS).data == b"the keys"


def test_a11_a_shorter_chain_of_roots_is_refused_and_another_chain_too(locked: tuple[World, Path]) -> None:
    world, path = locked
    lock = read_lock(path)
    held = lock.anchors["test"]
    for changed, text in (
        (replace(held, floors=replace(held.floors, root=9)), "root version 9 is locked"),
        (replace(held, root="0" * 64), "root version 1 with sha256 0000"),
    ):
        path.write_bytes(Lock(anchors={"test": changed}).to_bytes())
        with pytest.raises(VerificationError, match=text) as caught:
            client(world, path).refresh()
        assert str(caught.value).startswith(f"{path}:")
    path.write_bytes(lock.to_bytes())
    assert client(world, path).target(KEYS).data == b"the keys"


def test_a11_a_role_below_the_lock_is_refused_and_not_kept(locked: tuple[World, Path]) -> None:
    world, path = locked
    lock = read_lock(path)
    held = lock.anchors["test"]
    roles = {**held.floors.roles, "registry.example": 77}
    planted = replace(held, floors=replace(held.floors, roles=roles))
    path.write_bytes(Lock(anchors={"test": planted}).to_bytes())
    with pytest.raises(VerificationError, match=r"registry\.example version 77 is locked"):
        client(world, path).refresh()
    path.write_bytes(lock.to_bytes())
    assert client(world, path).target(KEYS).data == b"the keys"


def test_a11_the_floors_are_void_once_a_newer_root_has_replaced_the_keys(locked: tuple[World, Path]) -> None:
    world, path = locked
    held = read_lock(path).anchors["test"]
    high = OnlineFloor(version=2**31, keys=held.floors.timestamp.keys if held.floors.timestamp else ())
    path.write_bytes(Lock(anchors={"test": replace(held, floors=replace(held.floors, timestamp=high))}).to_bytes())
    with pytest.raises(VerificationError, match="is locked"):
        client(world, path).refresh()
    world.repo.rotate("timestamp")
    world.tomorrow(hours=1)
    assert client(world, path).refresh().root.version == 2


def test_a24_absurd_floors_refuse_this_run_and_leave_the_state_untouched(locked: tuple[World, Path]) -> None:
    world, path = locked
    client(world, path).target(KEYS)
    before = {file.name: file.read_bytes() for file in world.folder.iterdir() if file.is_file()}
    held = read_lock(path).anchors["test"]
    absurd = Floors(root=2**40, timestamp=held.floors.timestamp, roles=held.floors.roles)
    path.write_bytes(Lock(anchors={"test": replace(held, floors=absurd)}).to_bytes())
    with pytest.raises(VerificationError, match=f"^{path}:"):
        client(world, path).refresh()
    with pytest.raises(VerificationError, match=f"^{path}:"):
        client(world, path).status()
    assert {file.name: file.read_bytes() for file in world.folder.iterdir() if file.is_file()} == before
    assert client(world, None).refresh().refreshed


def test_a24_a_time_far_ahead_refuses_this_run_and_is_not_remembered(locked: tuple[World, Path]) -> None:
    world, path = locked
    held = read_lock(path).anchors["test"]
    ahead = replace(held.floors, time=world.clock.moment + timedelta(days=4000))
    path.write_bytes(Lock(anchors={"test": replace(held, floors=ahead)}).to_bytes())
    with pytest.raises(ExpiredError):
        client(world, path).refresh()
    trust = client(world, None).refresh()
    assert trust.refreshed
    assert trust.warnings == ()


def test_a10_a_clock_behind_the_lock_is_judged_by_the_locks_time_and_said(locked: tuple[World, Path]) -> None:
    world, path = locked
    world.clock.advance(timedelta(days=-400))
    trust = client(world, path).refresh()
    assert any(f"{path}:" in line and "clock is" in line for line in trust.warnings)
    state = json.loads((world.folder / "floors.json").read_text())
    assert state["time"] < world.repo.now.isoformat()  # what the lock says is never written down


def test_a24_the_lock_is_looked_for_up_to_the_repositorys_top_and_no_higher(tmp_path: Path) -> None:
    project = tmp_path / "work" / "project"
    inner = project / "a" / "b"
    inner.mkdir(parents=True)
    (tmp_path / "work" / LOCK_FILE).write_text("planted above the top")
    (project / ".git").mkdir()
    assert find_lock(inner) == (None, ())
    (project / LOCK_FILE).write_text("{}")
    assert find_lock(inner) == (project / LOCK_FILE, ())


def test_a24_outside_of_a_repository_only_the_working_folder_counts(tmp_path: Path) -> None:
    inner = tmp_path / "a"
    inner.mkdir()
    (tmp_path / LOCK_FILE).write_text("planted")
    assert find_lock(inner) == (None, ())
    assert find_lock(tmp_path)[0] == tmp_path / LOCK_FILE


@pytest.mark.parametrize("what", ["folder", "file"])
def test_a24_a_lock_of_another_owner_is_passed_over_and_named(tmp_path: Path, what: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file to somebody else")
    project = tmp_path / "project"
    (project / ".git").mkdir(parents=True)
    path = project / LOCK_FILE
    path.write_text("{}")
    os.chown(project if what == "folder" else path, 65534, 65534)
    assert find_lock(project) == (None, (f"{path}: ignored, it belongs to another user or is a link",))


def test_a24_a_link_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / "other.lock").write_text("{}")
    (tmp_path / LOCK_FILE).symlink_to("other.lock")
    found, passed_over = find_lock(tmp_path)
    assert found is None
    assert len(passed_over) == 1


def test_merging_two_locks_takes_the_higher_floor_of_each(locked: tuple[World, Path]) -> None:
    world, path = locked
    ours = read_lock(path)
    world.tomorrow(hours=2)
    theirs = Lock(anchors={"test": world.client().lock(), "other": ours.anchors["test"]})
    merged = ours.merged(theirs)
    assert merged.anchors == theirs.merged(ours).anchors
    assert merged.anchors["test"].floors.timestamp == theirs.anchors["test"].floors.timestamp
    assert set(merged.anchors) == {"test", "other"}
    foreign = Lock(anchors={"test": replace(ours.anchors["test"], root="0" * 64)}, file="theirs.lock")
    with pytest.raises(InputError, match=r"theirs\.lock lock the anchor test to different roots"):
        ours.merged(foreign)


def test_a_lock_that_cannot_be_read_names_the_file_and_the_place(tmp_path: Path) -> None:
    path = tmp_path / LOCK_FILE
    path.write_text('{"format": "kedge.lock/1", "anchors": {"a": {"root": "x"}}}')
    with pytest.raises(InputError, match=r"kedge\.lock: anchors\.a\.initial_root: is missing"):
        read_lock(path)
    path.write_text('{"format": "kedge.lock/2", "anchors": {}}')
    with pytest.raises(InputError, match="a newer kedge is needed"):
        read_lock(path)

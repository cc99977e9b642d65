"""A12, A22 and B5: the state folder was changed by somebody, or damaged by something."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from kedge.errors import FetchError, KedgeError, Reason, StoreError, VerificationError
from kedge.transport.mirror import Deadline
from kedge.tuf.steps import Fetch, Missing
from support.simulator import RepositorySimulator
from support.world import KEYS, NOW, World


class Unreachable:
    """A mirror that cannot be reached."""

    source = "https://mirror.invalid"
    notices = ()

    def get(self, request: Fetch, deadline: Deadline) -> bytes | Missing:  # noqa: ARG002 never answered
        raise FetchError(f"{self.source}/{request.path}: cannot connect", hint="check the network")

    def begin(self, requests: Sequence[Fetch], deadline: Deadline) -> None:
        """Nothing is asked ahead."""

    def close(self) -> None:
        pass


OFFLINE = Unreachable()


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def plant(world: World, data: bytes) -> str:
    """Put a blob into the store, as somebody would who can write there."""
    (world.folder / "blobs" / digest(data)).write_bytes(data)
    return digest(data)


def tamper(world: World, change: Callable[[dict[str, object]], None]) -> None:
    path = world.folder / "state.json"
    record = json.loads(path.read_bytes())
    change(record)
    path.write_text(json.dumps(record))


def answer_offline(world: World) -> bytes | None:
    """What an offline run answers, or None where it refuses."""
    try:
        return world.client(OFFLINE).target(KEYS).data
    except KedgeError:
        return None


# Row A12: a tampered cache


def test_a12_offline_an_unchanged_state_answers_and_says_that_it_was_not_refreshed(world: World) -> None:
    world.keys()
    client = world.client(OFFLINE)
    trust = client.refresh()
    assert not trust.refreshed
    assert any("not refreshed: https://mirror.invalid" in warning for warning in trust.warnings)
    assert client.target(KEYS).data == b"the keys"


def test_a12_a_changed_target_is_never_returned(world: World) -> None:
    world.keys()
    blob = world.folder / "blobs" / digest(b"the keys")
    blob.write_bytes(b"THE KEYS")
    assert answer_offline(world) is None
    assert world.keys() == b"the keys"
    assert blob.read_bytes() == b"the keys"


def test_a12_a_record_that_names_another_target_is_not_believed(world: World) -> None:
    world.keys()
    planted = plant(world, b"THE KEYS")
    tamper(world, lambda record: record.update(targets={KEYS: planted}))
    assert answer_offline(world) is None
    assert world.keys() == b"the keys"


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets", "registry.example"])
def test_a12_metadata_of_other_keys_in_the_record_is_not_believed(world: World, role: str) -> None:
    world.keys()
    other = World(world.folder.parent / "other")
    other.repo.replace(other.repo.path_of_target(KEYS, b"the keys"), b"THE KEYS")
    planted = plant(world, other.repo.files[other.repo.path_of(role)])

    def change(record: dict[str, object]) -> None:
        if role in ("timestamp", "snapshot"):
            record[role] = planted
        else:
            roles = record["roles"]
            assert isinstance(roles, dict)
            roles[role] = planted

    tamper(world, change)
    assert answer_offline(world) in (None, b"the keys")
    assert world.keys() == b"the keys"


def test_a12_a_whole_state_of_another_repository_is_refused(world: World, tmp_path: Path) -> None:
    world.keys()
    floors = world.floors()
    theirs = World(tmp_path / "theirs")
    theirs.repo.add_target(KEYS, b"THE KEYS", role="registry.example")
    theirs.repo.publish()
    assert theirs.keys() == b"THE KEYS"
    ours = tmp_path / "ours"
    shutil.copytree(world.folder, ours)
    shutil.rmtree(world.folder)
    shutil.copytree(theirs.folder, world.folder)
    assert answer_offline(world) is None
    for run in (world.client(OFFLINE).status, world.client().refresh, world.client(theirs.mirror).refresh):
        with pytest.raises(VerificationError, match="is of another initial root") as caught:
            run()
        assert caught.value.refusal.reason is Reason.ANCHOR
    shutil.rmtree(world.folder)
    shutil.copytree(ours, world.folder)
    assert world.keys() == b"the keys"
    assert world.floors() == floors


def test_a12_a_root_that_somebody_appended_to_the_chain_is_not_believed(world: World) -> None:
    world.keys()
    forged = RepositorySimulator(now=NOW)
    with forged.edit("root"):
        pass
    planted = plant(world, forged.files["metadata/2.root.json"])

    def append(record: dict[str, object]) -> None:
        roots = record["roots"]
        assert isinstance(roots, list)
        roots.append(planted)

    tamper(world, append)
    assert answer_offline(world) in (None, b"the keys")
    assert world.keys() == b"the keys"
    assert world.refresh().root.version == 1


# Row A22: planted links


@pytest.mark.parametrize("name", ["state.json", "state.json.prev", "floors.json", "lock", "blobs/*"])
def test_a22_a_planted_link_is_not_followed(world: World, tmp_path: Path, name: str) -> None:
    world.keys()
    world.tomorrow(hours=1)
    world.keys()
    victim = tmp_path / "victim"
    for path in list(world.folder.glob(name)):
        victim.write_bytes(b"precious")
        path.unlink()
        path.symlink_to(victim)
    world.tomorrow(hours=1)
    assert world.keys() == b"the keys"
    assert victim.read_bytes() == b"precious"


def test_a22_a_planted_link_in_place_of_the_blobs_folder_is_not_written_through(world: World, tmp_path: Path) -> None:
    world.keys()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.rmtree(world.folder / "blobs")
    (world.folder / "blobs").symlink_to(elsewhere)
    world.tomorrow(hours=1)
    assert world.keys() == b"the keys"
    assert list(elsewhere.iterdir()) == []


# Row B5: damage

DAMAGE: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "garbage": lambda path: path.write_bytes(b"\x00\xff garbage \n"),
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "missing": lambda path: path.unlink(),
}


def damage_and_recover(world: World, names: list[Path], how: str) -> None:
    floors = world.floors()
    for path in names:
        DAMAGE[how](path)
    assert answer_offline(world) in (None, b"the keys")
    world.tomorrow(hours=1)
    assert world.keys() == b"the keys"
    assert world.refresh().timestamp.version == world.repo.timestamp.version
    new = world.floors()
    assert new["root"] >= floors["root"]
    assert new["timestamp"]["version"] > floors["timestamp"]["version"]


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("name", ["state.json", "state.json.prev", "floors.json", "state.json*", "blobs/*"])
def test_b5_damage_is_mended_by_the_next_refresh(world: World, name: str, how: str) -> None:
    world.repo.rotate("root", keys=3, threshold=2)
    world.keys()
    world.tomorrow(hours=1)
    world.keys()
    damage_and_recover(world, sorted(world.folder.glob(name)), how)


@pytest.mark.parametrize("name", ["state.json", "state.json.prev", "floors.json", "lock", "blobs/*"])
def test_b5_a_folder_in_place_of_a_file_hinders_no_answer(world: World, name: str) -> None:
    world.keys()
    world.tomorrow(hours=1)
    world.keys()
    for path in sorted(world.folder.glob(name)):
        path.unlink()
        path.mkdir()
    assert answer_offline(world) in (None, b"the keys")
    world.tomorrow(hours=1)
    assert world.keys() == b"the keys"


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("kept", ["state.json", "state.json.prev", "floors.json"])
def test_b5_a_mirror_rolled_back_at_the_same_time_is_refused_while_one_record_is_left(
    world: World, kept: str, how: str
) -> None:
    world.keys()
    old = world.repo.save()
    for _ in range(2):
        world.tomorrow(hours=1)
        world.keys()
    for name in {"state.json", "state.json.prev", "floors.json"} - {kept}:
        DAMAGE[how](world.folder / name)
    moment = world.clock.moment
    with world.repo.lying():
        world.repo.restore(old)
        world.clock.moment = moment
        world.refused("rollback", "was accepted before", reason=Reason.ROLLBACK)
    assert world.keys() == b"the keys"


def test_b5_an_older_set_below_the_floor_is_no_answer(world: World) -> None:
    world.keys()
    world.tomorrow(hours=1)
    world.keys()
    shutil.copy(world.folder / "state.json.prev", world.folder / "state.json")
    world.refused("no complete set", kind=StoreError, run=world.client(OFFLINE).status)
    assert answer_offline(world) is None
    assert world.keys() == b"the keys"


def test_b5_with_everything_lost_offline_it_says_what_to_do(world: World) -> None:
    world.keys()
    for path in world.folder.glob("blobs/*"):
        path.write_bytes(b"")
    error = world.refused("no complete set", kind=StoreError, run=world.client(OFFLINE).status)
    assert "refresh" in error.hint
    assert world.keys() == b"the keys"

"""The store keeps bytes: whole or not at all, and follows nothing that somebody planted."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path

import pytest
from filelock import FileLock

from kedge.client.store import MAX_UNNAMED_BLOBS, Change, Records, Store
from kedge.errors import StoreError

EMPTY = Records(state=None, previous=None, floors=None)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "state", lock_timeout_s=0.05)


def named(state: bytes) -> Iterable[str]:
    """A record of these tests names digests by containing them."""
    return re.findall("[0-9a-f]{64}", state.decode())


def put(store: Store, state: bytes, floors: bytes = b"floors", *, keep_previous: bool = True) -> None:
    def change(records: Records) -> Change:
        return Change(state=state, floors=floors, previous=records.state if keep_previous else None)

    store.update(change, named=named)


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_that_is_not_there_holds_nothing_and_is_not_made_by_reading(store: Store) -> None:
    assert store.read() == EMPTY
    assert store.blob(hashlib.sha256(b"x").hexdigest()) is None
    assert not store.folder.exists()


def test_what_is_kept_is_found_by_its_digest(store: Store) -> None:
    digest = store.keep(b"some bytes")
    assert digest == hashlib.sha256(b"some bytes").hexdigest()
    assert store.blob(digest) == b"some bytes"
    assert store.keep(b"some bytes") == digest


@pytest.mark.parametrize("damage", [b"", b"other", b"some bytes and more"])
def test_a_damaged_blob_is_as_good_as_absent_and_can_be_kept_again(store: Store, damage: bytes) -> None:
    digest = store.keep(b"some bytes")
    (store.folder / "blobs" / digest).write_bytes(damage)
    assert store.blob(digest) is None
    store.keep(b"some bytes")
    assert store.blob(digest) == b"some bytes"


@pytest.mark.parametrize("name", ["../state.json", "", "A" * 64, "a" * 63, "a" * 64 + "\n"])
def test_a_name_that_is_no_digest_is_no_blob(store: Store, name: str) -> None:
    put(store, b"{}")
    assert store.blob(name) is None


def test_an_update_keeps_the_record_before_it(store: Store) -> None:
    put(store, b"one", b"floors 1")
    assert store.read() == Records(state=b"one", previous=None, floors=b"floors 1")
    put(store, b"two", b"floors 2")
    assert store.read() == Records(state=b"two", previous=b"one", floors=b"floors 2")


def test_an_update_sees_the_records_and_may_leave_them(store: Store) -> None:
    put(store, b"one")
    seen: list[Records] = []

    def look(records: Records) -> Change | None:
        seen.append(records)
        return None

    store.update(look, named=named)
    assert seen == [Records(state=b"one", previous=None, floors=b"floors")]
    assert store.read() == seen[0]


def test_the_same_record_again_does_not_push_the_former_one_out(store: Store) -> None:
    put(store, b"one")
    put(store, b"two")
    put(store, b"two", b"higher floors", keep_previous=False)
    assert store.read() == Records(state=b"two", previous=b"one", floors=b"higher floors")


def test_an_update_that_fails_changes_nothing(store: Store) -> None:
    put(store, b"one")

    def fail(_: Records) -> Change | None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.update(fail, named=named)
    assert store.read().state == b"one"
    put(store, b"two")
    assert files(store.folder) == {"state.json", "state.json.prev", "floors.json", "lock"}


def test_readers_take_no_lock_and_writers_say_who_is_in_the_way(store: Store) -> None:
    put(store, b"one")
    with FileLock(store.folder / "lock"):
        assert store.read().state == b"one"
        store.keep(b"a blob needs no lock")
        with pytest.raises(StoreError, match=r"lock: is held by another process for more than 0\.05 seconds"):
            put(store, b"two")
    assert store.read().state == b"one"
    put(store, b"two")
    assert store.read().state == b"two"


def test_blobs_that_are_named_stay_and_others_go_in_time(store: Store) -> None:
    keep = store.keep(b"kept")
    put(store, keep.encode())
    for number in range(MAX_UNNAMED_BLOBS + 10):
        store.keep(b"%d" % number)
    put(store, keep.encode() + b" again")
    assert store.blob(keep) == b"kept"
    assert len(list((store.folder / "blobs").iterdir())) == MAX_UNNAMED_BLOBS + 1


def test_blobs_of_the_record_before_stay_for_whoever_reads_it(store: Store) -> None:
    old = store.keep(b"old")
    put(store, old.encode())
    new = store.keep(b"new")
    for number in range(MAX_UNNAMED_BLOBS + 10):
        store.keep(b"%d" % number)
    put(store, new.encode())
    assert store.blob(old) == b"old"
    assert store.blob(new) == b"new"


@pytest.mark.parametrize("name", ["state.json", "state.json.prev", "floors.json"])
def test_a_planted_link_is_neither_read_nor_written_through(store: Store, tmp_path: Path, name: str) -> None:
    put(store, b"one")
    put(store, b"two")
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (store.folder / name).unlink()
    (store.folder / name).symlink_to(victim)
    field = {"state.json": "state", "state.json.prev": "previous", "floors.json": "floors"}[name]
    assert getattr(store.read(), field) is None
    put(store, b"three", b"new floors")
    put(store, b"four", b"newer floors")
    assert victim.read_bytes() == b"precious"
    assert not (store.folder / name).is_symlink()
    assert store.read() == Records(state=b"four", previous=b"three", floors=b"newer floors")


def test_a_planted_link_at_a_blob_is_replaced(store: Store, tmp_path: Path) -> None:
    digest = store.keep(b"bytes")
    victim = tmp_path / "victim"
    victim.write_bytes(b"bytes")
    blob = store.folder / "blobs" / digest
    blob.unlink()
    blob.symlink_to(victim)
    assert store.blob(digest) is None
    store.keep(b"bytes")
    assert store.blob(digest) == b"bytes"
    assert not blob.is_symlink()


def test_a_planted_link_at_the_lock_leaves_its_victim_alone(store: Store, tmp_path: Path) -> None:
    put(store, b"one")
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (store.folder / "lock").unlink()
    (store.folder / "lock").symlink_to(victim)
    with pytest.raises(StoreError):
        put(store, b"two")
    assert victim.read_bytes() == b"precious"
    (store.folder / "lock").unlink()
    put(store, b"two")


def test_a_planted_link_at_the_blobs_folder_is_not_written_through(store: Store, tmp_path: Path) -> None:
    put(store, b"one")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (store.folder / "blobs").symlink_to(elsewhere)
    with pytest.raises(StoreError, match="blobs"):
        store.keep(b"bytes")
    assert list(elsewhere.iterdir()) == []
    (store.folder / "blobs").unlink()
    store.keep(b"bytes")


def test_a_pipe_in_place_of_a_record_is_not_waited_for(store: Store) -> None:
    put(store, b"one")
    (store.folder / "state.json").unlink()
    os.mkfifo(store.folder / "state.json")
    assert store.read().state is None
    put(store, b"two")
    assert store.read().state == b"two"


def test_only_the_owner_can_read_what_is_kept(store: Store) -> None:
    store.keep(b"bytes")
    put(store, b"one")
    for path in store.folder.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    store = Store(tmp_path / "file" / "state")
    assert store.read() == EMPTY
    for write in (lambda: store.keep(b"x"), lambda: put(store, b"x")):
        with pytest.raises(StoreError, match="cannot be written: not a directory") as caught:
            write()
        assert "\n" not in str(caught.value)
        assert "KEDGE_STATE_DIR" in (caught.value.hint or "")


def test_what_a_killed_writer_left_behind_is_cleared_away(store: Store) -> None:
    put(store, b"one")
    store.keep(b"x")
    for leftover in (store.folder / ".state.json.abcdefgh", store.folder / "blobs" / ".0123.abcdefgh"):
        leftover.write_bytes(b"half")
        os.utime(leftover, (0, 0))
    for number in range(MAX_UNNAMED_BLOBS):
        store.keep(b"%d" % number)
    put(store, b"two")
    assert not list(store.folder.rglob(".*"))


@pytest.mark.parametrize("count", [2, 30], ids=["a few", "many"])
def test_every_new_file_reaches_the_disk_before_a_record_names_it(
    store: Store, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    reached: list[str] = []
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        fsync(descriptor)
        reached.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)

    monkeypatch.setattr(os, "fsync", noted)
    digests = [store.keep(b"%d" % number) for number in range(count)]
    (store.folder / "blobs" / digests[0]).unlink()  # by another process: it is not waited for
    put(store, b"a record")
    assert sorted(reached[: count - 1]) == sorted(digests[1:])
    assert reached[count - 1] == "blobs"


@pytest.mark.parametrize("count", [2, 30], ids=["a few", "many"])
def test_a_disk_that_does_not_take_a_file_is_no_place_for_a_record_that_names_it(
    store: Store, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    digests = [store.keep(b"%d" % number) for number in range(count)]
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="no space left"):
        put(store, digests[0].encode())
    assert store.read() == EMPTY

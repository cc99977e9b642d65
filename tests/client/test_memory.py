"""The memory of what was seen: it forgets nothing, is shared by processes, and takes no damage for "never seen"."""

from __future__ import annotations

import json
import stat
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from architecture import schemas
from kedge.errors import StoreError
from kedge.registries.last_seen import Memory

Seen = Mapping[str, Any] | None


def test_what_was_never_seen_is_none_and_makes_no_folder(tmp_path: Path) -> None:
    assert Memory("apt", state=tmp_path / "state").recall("a suite") is None
    assert list(tmp_path.iterdir()) == []


def test_what_was_seen_is_recalled_by_whoever_comes_next(tmp_path: Path) -> None:
    assert Memory("apt", state=tmp_path).update("a suite", lambda _: {"date": "d"}) == {"date": "d"}
    assert Memory("apt", state=tmp_path).recall("a suite") == {"date": "d"}
    assert Memory("apt", state=tmp_path).recall("another suite") is None
    assert Memory("hex", state=tmp_path).recall("a suite") is None


def test_a_record_fits_its_schema_and_is_for_its_owner_only(tmp_path: Path) -> None:
    memory = Memory("apt", state=tmp_path)
    memory.update("a suite", lambda _: {"date": "d"})
    path = memory.path("a suite")
    assert schemas.faults("memory", json.loads(path.read_bytes())) == []
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_the_change_is_asked_with_what_holds_under_the_lock(tmp_path: Path) -> None:
    def one_more(seen: Seen) -> Seen:
        return {"count": (seen or {"count": 0})["count"] + 1}

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: Memory("apt", state=tmp_path).update("a suite", one_more), range(40)))
    assert Memory("apt", state=tmp_path).recall("a suite") == {"count": 40}


def test_a_change_that_raises_or_gives_nothing_leaves_the_record(tmp_path: Path) -> None:
    memory = Memory("apt", state=tmp_path)
    memory.update("a suite", lambda _: {"date": "d"})
    before = memory.path("a suite").stat().st_ino

    def refuse(_: Seen) -> Seen:
        raise ValueError("older")

    with pytest.raises(ValueError, match="older"):
        memory.update("a suite", refuse)
    assert memory.update("a suite", lambda _: None) == {"date": "d"}
    assert memory.path("a suite").stat().st_ino == before


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "is empty"),
        (b"{", "is not JSON"),
        (b'{"format": "kedge.memory/2"}', "a newer kedge is needed"),
        (b'{"format": "kedge.memory/1", "kind": "apt", "subject": "other", "seen": {}}', "it is of apt: other"),
        (b'{"format": "kedge.memory/1", "kind": "hex", "subject": "a suite", "seen": {}}', "it is of hex: a suite"),
        (b'{"format": "kedge.memory/1", "kind": "apt", "subject": "a suite", "seen": []}', "seen: must be a table"),
    ],
)
def test_a_damaged_record_is_an_error_and_not_a_first_time(tmp_path: Path, data: bytes, problem: str) -> None:
    memory = Memory("apt", state=tmp_path)
    memory.update("a suite", lambda _: {"date": "d"})
    memory.path("a suite").write_bytes(data)
    with pytest.raises(StoreError, match=problem) as caught:
        memory.recall("a suite")
    assert "forgets" in (caught.value.hint or "")
    with pytest.raises(StoreError):
        memory.update("a suite", lambda _: {"date": "newer"})
    assert memory.path("a suite").read_bytes() == data
    assert memory.forget("a suite")
    assert memory.recall("a suite") is None
    assert not memory.forget("a suite")


def test_a_planted_link_is_neither_read_nor_written_through(tmp_path: Path) -> None:
    memory = Memory("apt", state=tmp_path / "state")
    memory.update("a suite", lambda _: {"date": "d"})
    path = memory.path("a suite")
    outside = tmp_path / "outside"
    path.rename(outside)
    path.symlink_to(outside)
    with pytest.raises(StoreError, match="cannot be read"):
        memory.recall("a suite")
    path.parent.rename(tmp_path / "elsewhere")
    path.parent.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="symbolic link"):
        memory.update("another suite", lambda _: {"date": "d"})


def test_a_disk_that_refuses_is_named_and_the_record_stays(tmp_path: Path) -> None:
    memory = Memory("apt", state=tmp_path)
    memory.update("a suite", lambda _: {"date": "d"})
    (tmp_path / ".memory" / "apt.lock").unlink(missing_ok=True)
    (tmp_path / ".memory").rename(tmp_path / "kept")
    (tmp_path / ".memory").write_bytes(b"")  # a file where the folder should be
    with pytest.raises(StoreError, match="cannot be written"):
        memory.update("a suite", lambda _: {"date": "newer"})

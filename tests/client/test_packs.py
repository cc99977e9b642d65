"""Many files as one: found by what they are, and no worse for whatever happens to the pack."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedge.client.store import KEPT_ALONE, MAX_PACKS, MAX_UNNAMED, Packs, Store, _files
from kedge.errors import StoreError


def files(count: int, text: str = "file") -> list[bytes]:
    return [f"{text} {number}".encode() for number in range(count)]


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_many_files_become_one_and_are_found_by_their_digests(tmp_path: Path) -> None:
    many = files(KEPT_ALONE + 1)
    Store(tmp_path).keep_many(many)
    assert len(list((tmp_path / "packs").iterdir())) == 1
    assert not (tmp_path / "blobs").exists()
    other = Store(tmp_path)
    assert [other.blob(digest(data)) for data in many] == many
    assert other.blob("0" * 64) is None
    assert other.keep(many[0]) == digest(many[0])


def test_a_few_files_stay_files(tmp_path: Path) -> None:
    Store(tmp_path).keep_many(files(KEPT_ALONE))
    assert len(list((tmp_path / "blobs").iterdir())) == KEPT_ALONE
    assert not (tmp_path / "packs").exists()


@pytest.mark.parametrize("cut", [0, 3, 9, 20])
def test_a_pack_that_is_cut_short_holds_what_is_whole_and_nothing_wrong(tmp_path: Path, cut: int) -> None:
    many = files(3)
    Packs(tmp_path).add(many)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:cut])
    found = Packs(tmp_path)
    whole = [data for index, data in enumerate(many) if (index + 1) * 14 <= cut]
    assert [found.get(digest(data)) for data in many] == [*whole, *[None] * (3 - len(whole))]


@given(st.binary(max_size=300))
def test_whatever_a_pack_holds_a_file_is_what_its_digest_says(data: bytes) -> None:
    assert all(digest(content) == name for name, content in _files(data).items())


def test_a_changed_byte_loses_a_file_and_gives_no_other_for_it(tmp_path: Path) -> None:
    many = files(3)
    Packs(tmp_path).add(many)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes().replace(b"file 1", b"evil 1"))
    assert [Packs(tmp_path).get(digest(data)) for data in many] == [many[0], None, many[2]]


def test_what_another_process_packed_is_found_by_who_looked_before(tmp_path: Path) -> None:
    first, second = Packs(tmp_path), Packs(tmp_path)
    assert first.get(digest(b"file 0")) is None
    second.add(files(2))
    assert first.get(digest(b"file 0")) == b"file 0"


def test_packs_that_nothing_names_go_and_many_that_something_names_become_one(tmp_path: Path) -> None:
    packs = Packs(tmp_path)
    named: set[str] = set()
    for number in range(MAX_PACKS + 1):
        some = files(3, f"pack {number}")
        packs.add(some)
        named.add(digest(some[0]))
    for number in range(MAX_UNNAMED + 2):
        packs.add(files(3, f"unnamed {number}"))
    packs.clear(named)
    assert len(list(tmp_path.iterdir())) == MAX_UNNAMED + 1
    again = Packs(tmp_path)
    assert all(again.get(each) is not None for each in named)


def test_what_killed_writers_left_is_removed_but_for_what_may_be_under_way(tmp_path: Path) -> None:
    for number in range(MAX_UNNAMED + 2):
        (tmp_path / f".left.{number}").write_bytes(b"half")
        os.utime(tmp_path / f".left.{number}", (number, number))
    packs = Packs(tmp_path)
    assert packs.get("0" * 64) is None
    packs.clear(set())
    assert sorted(path.name for path in tmp_path.iterdir()) == [".left.2", ".left.3"]


def test_a_link_in_the_place_of_the_folder_or_of_a_pack_is_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    state = tmp_path / "state"
    state.mkdir()
    (state / "packs").symlink_to(elsewhere)
    with pytest.raises(StoreError, match="is a symbolic link, expected a folder"):
        Store(state).keep_many(files(KEPT_ALONE + 1))
    assert list(elsewhere.iterdir()) == []
    (state / "packs").unlink()
    Packs(elsewhere).add(files(2))
    (pack,) = elsewhere.iterdir()
    (state / "packs").mkdir()
    (state / "packs" / pack.name).symlink_to(pack)
    assert Store(state).blob(digest(b"file 0")) is None

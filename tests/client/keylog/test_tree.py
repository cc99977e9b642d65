"""The Merkle tree: against RFC 6962's own words, and against a verifier that others wrote."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import metamorphic_log
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedge.documents import DocumentError
from kedge.errors import Reason, VerificationError
from kedge.tlog import tree
from kedge.tlog.tree import Tile, TileTree, check_consistency, check_inclusion, leaf_hash, root_hash

LEAVES = [leaf_hash(str(number).encode()) for number in range(70_000)]


def by_the_book(hashes: Sequence[bytes]) -> bytes:
    """MTH of RFC 6962 §2.1, word for word, over leaf hashes."""
    if not hashes:
        return hashlib.sha256(b"").digest()
    if len(hashes) == 1:
        return hashes[0]
    split = 1
    while split * 2 < len(hashes):
        split *= 2
    left, right = by_the_book(hashes[:split]), by_the_book(hashes[split:])
    return hashlib.sha256(b"\x01" + left + right).digest()


def tiled(size: int) -> TileTree:
    tiles = dict(tree.build_tiles(LEAVES[:size]))
    return TileTree(size, lambda tile: tiles[tile])


@pytest.mark.parametrize("size", [*range(20), 255, 256, 257, 511, 513, 1000])
def test_the_root_hash_is_that_of_rfc_6962(size: int) -> None:
    assert root_hash(LEAVES[:size]) == by_the_book(LEAVES[:size])
    if size:
        assert tiled(size).root() == by_the_book(LEAVES[:size])


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 70, 256, 257, 70_000])
def test_a_proof_from_tiles_shows_inclusion_also_to_another_verifier(size: int) -> None:
    made, root = tiled(size), root_hash(LEAVES[:size])
    for index in {0, size // 3, size // 2, size - 1}:
        proof = made.inclusion(index)
        check_inclusion(LEAVES[index], index=index, size=size, proof=proof, root=root)
        metamorphic_log.verify_inclusion(index, size, LEAVES[index], proof, root)
        assert made.leaf(index) == LEAVES[index]


def test_every_inclusion_and_consistency_of_small_trees_is_shown_and_no_other() -> None:
    for size in range(1, 34):
        made, root = tiled(size), root_hash(LEAVES[:size])
        for index in range(size):
            proof = made.inclusion(index)
            check_inclusion(LEAVES[index], index=index, size=size, proof=proof, root=root)
            for wrong in {index + 1, size, index ^ 1} - {index}:
                with pytest.raises(VerificationError):
                    check_inclusion(LEAVES[index], index=wrong, size=size, proof=proof, root=root)
        for old in range(size + 1):
            proof, old_root = made.consistency(old), root_hash(LEAVES[:old])
            check_consistency(old_size=old, old_root=old_root, size=size, root=root, proof=proof)
            other = root_hash([*LEAVES[: max(old - 1, 0)], LEAVES[100]])
            with pytest.raises(VerificationError) as caught:
                check_consistency(old_size=max(old, 1), old_root=other, size=size, root=root, proof=proof)
            assert caught.value.refusal.reason is Reason.UNPROVEN


@pytest.mark.parametrize(("old", "size"), [(1, 2), (3, 8), (6, 8), (255, 257), (256, 70_000), (69_999, 70_000)])
def test_a_proof_from_tiles_shows_consistency_also_to_another_verifier(old: int, size: int) -> None:
    made, old_root, root = tiled(size), root_hash(LEAVES[:old]), root_hash(LEAVES[:size])
    proof = made.consistency(old)
    check_consistency(old_size=old, old_root=old_root, size=size, root=root, proof=proof)
    metamorphic_log.verify_consistency(old, size, proof, old_root, root)
    assert made.root(old) == old_root


def test_a_proof_with_any_bit_changed_or_a_hash_more_or_less_is_refused() -> None:
    made, root = tiled(7), root_hash(LEAVES[:7])
    inclusion, consistency = made.inclusion(4), made.consistency(5)

    def check(inclusion: list[bytes], consistency: list[bytes]) -> None:
        check_inclusion(LEAVES[4], index=4, size=7, proof=inclusion, root=root)
        check_consistency(old_size=5, old_root=root_hash(LEAVES[:5]), size=7, root=root, proof=consistency)

    check(inclusion, consistency)
    for proof, other in ((inclusion, consistency), (consistency, inclusion)):
        wrong = [proof[:-1], proof[1:], [*proof, bytes(32)], [bytes(32), *proof], []]
        for number, item in enumerate(proof):
            for bit in range(256):
                changed = (int.from_bytes(item) ^ 1 << bit).to_bytes(32)
                wrong.append([*proof[:number], changed, *proof[number + 1 :]])
        for candidate in wrong:
            with pytest.raises(VerificationError):
                check(*((candidate, other) if proof is inclusion else (other, candidate)))


def test_a_log_has_the_tiles_that_the_specification_names() -> None:
    # The example of tlog-tiles: a tree of size 70,000.
    tiles = list(tree.tiles_of(70_000))
    widths = {level: [tile.width for tile in tiles if tile.level == level] for level in range(4)}
    assert widths == {0: [256] * 273 + [112], 1: [256, 17], 2: [1], 3: []}
    assert [tile.path for tile in tree.tiles_of(256)] == ["tile/0/000", "tile/1/000.p/1"]
    assert Tile(0, 1_234_067).path == "tile/0/x001/x234/067"
    assert Tile(0, 273, 112).entries_path == "tile/entries/273.p/112"
    assert Tile(3, 4, 5).full == Tile(3, 4)


@pytest.mark.parametrize(("since", "size"), [(0, 5), (5, 9), (256, 300), (250, 70_000), (65_536, 65_537)])
def test_a_log_that_has_grown_needs_only_its_new_tiles(since: int, size: int) -> None:
    held = dict(tree.build_tiles(LEAVES[:since]))
    held.update(tree.build_tiles(LEAVES[:size], since=since))
    every = dict(tree.build_tiles(LEAVES[:size]))
    assert {tile: held[tile] for tile in every} == every


@pytest.mark.parametrize("data", [b"".join(LEAVES[:4]), b"".join(LEAVES[:5]) + b"x", b""])
def test_a_tile_that_is_too_short_or_too_long_is_refused(data: bytes) -> None:
    with pytest.raises(DocumentError, match=r"tile/0/000\.p/5 must hold 5 hashes"):
        TileTree(5, lambda _: data).root()


@given(st.lists(st.binary(max_size=300), max_size=8))
def test_a_bundle_gives_the_entries_back(entries: list[bytes]) -> None:
    data = tree.join_entries(entries)
    assert tree.split_entries(data) == entries
    for end in range(len(data)):
        try:
            assert tree.split_entries(data[:end]) == entries[: len(tree.split_entries(data[:end]))]
        except DocumentError as error:
            assert "breaks off" in error.problem  # noqa: PT017 both ends are right: between entries, or inside one


def test_an_entry_that_is_too_long_is_not_written() -> None:
    assert tree.split_entries(tree.join_entries([bytes(65_535)])) == [bytes(65_535)]
    with pytest.raises(ValueError, match="65536 bytes"):
        tree.join_entries([bytes(65_536)])

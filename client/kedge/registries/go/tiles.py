"""The tiles of a checksum database: asked for together, and authentic before anything is proven with them.

A tile is authentic if its hashes lead up to the root hash that was signed: a full tile through the entry for it in
the tile above, the tiles at the right edge through the root itself. So a proof that fails over authentic tiles fails
because the trees differ, and never because whoever serves the tiles made them up; the two have different culprits.

Source: golang.org/x/mod/sumdb/tlog (tiles of height 8 under ``/tile/8/``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from kedge.errors import Reason, Refusal, VerificationError
from kedge.keylog.tree import HASH_BYTES, TILE_HEIGHT, TILE_WIDTH, Tile, TileTree, index_path, root_hash
from kedge.registries.go.head import TreeHead

__all__ = ["authentic_tree", "tile_path", "wanted_tiles"]


def tile_path(tile: Tile) -> str:
    """Where a database serves a tile: ``tile/8/0/x001/067.p/12``."""
    partial = "" if tile.width == TILE_WIDTH else f".p/{tile.width}"
    return f"tile/{TILE_HEIGHT}/{tile.level}/{index_path(tile.index)}{partial}"


def wanted_tiles(head: TreeHead, *, records: Iterable[int], sizes: Iterable[int]) -> tuple[Tile, ...]:
    """The tiles that prove records and smaller trees to be in the tree of ``head``, and themselves authentic."""
    asked: dict[Tile, None] = {}

    def note(tile: Tile) -> bytes:
        asked[tile] = None
        return bytes(tile.width * HASH_BYTES)

    tree = TileTree(head.size, note)
    if head.size:
        tree.root()
    for record in records:
        tree.inclusion(record)
        tree.leaf(record)
    for size in sizes:
        tree.consistency(size)
    for tile in list(asked):
        while tile.width == TILE_WIDTH:
            tile = _above(tile, head.size)  # noqa: PLW2901 up, until the right edge
            asked[tile] = None
    return tuple(asked)


def authentic_tree(head: TreeHead, read: Callable[[Tile], bytes], *, source: str) -> TileTree:
    """A tree whose tiles are checked as they are read; ``read`` gives each one's bytes as they were served.

    Raises:
        VerificationError: the tiles do not lead to the root hash of ``head`` (``unproven``), or one has another length
            (``malformed``); so may its methods.
    """
    tiles: dict[Tile, bytes] = {}

    def authentic(tile: Tile) -> bytes:
        if tile not in tiles:
            data = read(tile)
            if len(data) != tile.width * HASH_BYTES:
                raise _malformed(tile, len(data), source)
            if tile.width == TILE_WIDTH:
                _check_entry(tile, data, authentic(_above(tile, head.size)), source)
            tiles[tile] = data
        return tiles[tile]

    tree = TileTree(head.size, authentic)
    if tree.root() != head.root:
        raise _lying("the tiles at the right edge", source)
    return tree


def _check_entry(tile: Tile, data: bytes, above: bytes, source: str) -> None:
    start = tile.index % TILE_WIDTH * HASH_BYTES
    hashes = [data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES)]
    if root_hash(hashes) != above[start : start + HASH_BYTES]:
        raise _lying(tile_path(tile), source)


def _above(tile: Tile, size: int) -> Tile:
    level, index = tile.level + 1, tile.index // TILE_WIDTH
    width = min(TILE_WIDTH, (size >> (TILE_HEIGHT * level)) - index * TILE_WIDTH)
    return Tile(level, index, width)


def _malformed(tile: Tile, length: int, source: str) -> VerificationError:
    text = f"{tile_path(tile)}: has {length} bytes, not {tile.width * HASH_BYTES} (served by {source})"
    return VerificationError(text, refusal=Refusal(reason=Reason.MALFORMED, file=tile_path(tile), source=source))


def _lying(what: str, source: str) -> VerificationError:
    refusal = Refusal(
        reason=Reason.UNPROVEN, file=what, expected="hashes that lead to the signed root hash", source=source
    )
    return VerificationError(
        f"{what}: the hashes do not lead to the root hash that was signed (served by {source})",
        refusal=refusal,
        hint="whoever serves the tiles changed them: ask the database itself, and tell whoever runs the mirror",
    )

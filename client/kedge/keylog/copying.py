"""The files of a whole log, made anew from its entries: what a copy serves, and a bundle of a large log carries."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kedge.document import DocumentError
from kedge.keylog.checkpoint import Checkpoint
from kedge.keylog.proof import LogProof, proof_path
from kedge.keylog.tree import TILE_WIDTH, TileTree, build_tiles, join_entries, leaf_hashes
from kedge.keylog.view import View

__all__ = ["log_files", "proof_files"]


def log_files(entries: Sequence[bytes], checkpoint: bytes, proven: Iterable[int]) -> dict[str, bytes]:
    """Tiles, entry bundles, a proof for each leaf of the places ``proven``, and the checkpoint, by path below the log.

    The entries must be those whose root hash the checkpoint has.
    """
    hashes = leaf_hashes(entries)
    tiles = dict(build_tiles(hashes))
    files = {tile.path: data for tile, data in tiles.items()}
    for tile in tiles:
        if tile.level == 0:
            start = tile.index * TILE_WIDTH
            files[tile.entries_path] = join_entries(entries[start : start + tile.width])
    tree = TileTree(len(entries), lambda tile: tiles[tile])
    for index in sorted({*proven}):
        proof = LogProof(index=index, hashes=tuple(tree.inclusion(index)), checkpoint=checkpoint)
        files[proof_path(hashes[index])] = proof.to_bytes()
    return {**files, "checkpoint": checkpoint}


def proof_files(view: View) -> dict[str, bytes]:
    """A proof for each leaf that is held, by path below the log; none while one tile shows where each leaf stands."""
    try:
        size = Checkpoint.from_bytes(view.checkpoint).size
        if size <= TILE_WIDTH:
            return {}
        tree = TileTree(size, lambda tile: view.tiles[tile.path])
        return {
            proof_path(bytes.fromhex(leaf)): LogProof(
                index=index, hashes=tuple(tree.inclusion(index)), checkpoint=view.checkpoint
            ).to_bytes()
            for leaf, index in view.leaves.items()
            if index < size
        }
    except (DocumentError, KeyError):
        return {}  # damaged, or of before the log grew: the next refresh mends it

"""The Merkle tree of a transparency log: its hashes, its proofs, and the tiles that it is served in.

The tree is RFC 6962's (§2.1, SHA-256), the proofs are checked as RFC 9162 §2.1.3.2 and §2.1.4.2 write it down, the
tiles and entry bundles are those of C2SP tlog-tiles: 256 hashes each, of height 8.

Invariants:

- Nothing that a tile says is trusted. Proofs are *made* of tiles, and *checked* against a root hash that somebody
  signed: a tile that lies makes a proof that does not check.
- A checking function returns nothing, or raises.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from kedge.documents import DocumentError
from kedge.errors import Reason, Refusal, VerificationError

HASH_BYTES = 32
TILE_HEIGHT = 8
TILE_WIDTH = 1 << TILE_HEIGHT
MAX_ENTRY_BYTES = 65_535
EMPTY_ROOT = hashlib.sha256(b"").digest()
"""The root hash of the tree without leaves."""

_sha256 = hashlib.sha256


def leaf_hash(entry: bytes) -> bytes:
    """The hash of one entry of the log."""
    return _sha256(b"\x00" + entry).digest()


def leaf_hashes(entries: Iterable[bytes]) -> list[bytes]:
    """The hash of each of many entries."""
    sha256 = _sha256
    return [sha256(b"\x00" + entry).digest() for entry in entries]


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of two subtrees beside each other."""
    return _sha256(b"\x01" + left + right).digest()


def root_hash(hashes: Sequence[bytes]) -> bytes:
    """The root hash of a tree, from the hashes of all its leaves."""
    if not hashes:
        return EMPTY_ROOT
    level, sha256 = list(hashes), _sha256
    while len(level) > 1:
        # What stands alone at the end goes up as it is: that is RFC 6962's split at the largest power of two.
        alone = level[-1:] if len(level) % 2 else []
        pairs = zip(level[::2], level[1::2], strict=False)
        level = [sha256(b"\x01" + left + right).digest() for left, right in pairs] + alone
    return level[0]


def check_inclusion(
    leaf: bytes, *, index: int, size: int, proof: Sequence[bytes], root: bytes, file: str = "the proof"
) -> None:
    """Check that the leaf with the hash ``leaf`` stands at ``index`` in the tree of ``size`` leaves with ``root``.

    Raises:
        VerificationError: the proof does not show that.
    """
    if not 0 <= index < size:
        raise _unproven(file, f"leaf {index} is not within a tree of {size}")
    # As _climb goes, but without a generator: this is what every proof of every file costs.
    found, here, last, sha256 = leaf, index, size - 1, _sha256
    for sibling in proof:
        if not last:
            raise _unproven(file, "the proof is too long")
        if here & 1 or here == last:
            found = sha256(b"\x01" + sibling + found).digest()
            while here and not here & 1:
                here, last = here >> 1, last >> 1
        else:
            found = sha256(b"\x01" + found + sibling).digest()
        here, last = here >> 1, last >> 1
    if last:
        raise _unproven(file, "the proof is too short")
    if found != root:
        raise _unproven(file, f"leaf {index} is not in the tree of {size} leaves with this root hash")


def check_consistency(
    *, old_size: int, old_root: bytes, size: int, root: bytes, proof: Sequence[bytes], file: str = "the proof"
) -> None:
    """Check that the tree of ``size`` leaves begins with the tree of ``old_size`` leaves, unchanged.

    Raises:
        VerificationError: the proof does not show that.
    """
    if not 0 <= old_size <= size:
        raise _unproven(file, f"a tree of {size} leaves does not begin with one of {old_size}")
    if old_size in (0, size):
        if proof or old_root != (root if old_size else EMPTY_ROOT):
            raise _unproven(file, f"the trees of {old_size} and {size} leaves are not consistent")
        return
    # Where the old tree is one complete subtree, its root hash is the first of the proof and need not stand there.
    path = list(proof) if old_size & (old_size - 1) else [old_root, *proof]
    if not path:
        raise _unproven(file, "the proof is too short")
    here, last = old_size - 1, size - 1
    while here & 1:
        here, last = here >> 1, last >> 1
    old_found, found = _climb_both(here, last, path, file)
    if found != root:
        raise _unproven(file, f"the tree of {size} leaves has another root hash")
    if old_found != old_root:
        raise _unproven(file, f"the tree of {size} leaves does not begin with that of {old_size} leaves")


def _climb_both(here: int, last: int, path: Sequence[bytes], file: str) -> tuple[bytes, bytes]:
    """The root hashes of the old and the new tree, as a proof of consistency has them."""
    old_found = found = path[0]
    for sibling, is_left in _climb(here, last, path[1:], file):
        if is_left:
            old_found = node_hash(sibling, old_found)
        found = node_hash(sibling, found) if is_left else node_hash(found, sibling)
    return old_found, found


def _climb(here: int, last: int, proof: Sequence[bytes], file: str) -> Iterator[tuple[bytes, bool]]:
    """Go up from the node ``here`` to the root: each hash of the proof, and whether it stands on the left."""
    for sibling in proof:
        if not last:
            raise _unproven(file, "the proof is too long")
        is_left = bool(here & 1) or here == last
        yield sibling, is_left
        while is_left and here and not here & 1:
            here, last = here >> 1, last >> 1
        here, last = here >> 1, last >> 1
    if last:
        raise _unproven(file, "the proof is too short")


@dataclass(frozen=True, slots=True)
class Tile:
    """One tile's place: its level, its index within the level, and how many hashes it holds (256 when it is full)."""

    level: int
    index: int
    width: int = TILE_WIDTH

    @property
    def full(self) -> Tile:
        """The same tile when it is full."""
        return Tile(self.level, self.index)

    @property
    def path(self) -> str:
        """Where it lies below the log: ``tile/0/x001/067.p/12``."""
        return f"tile/{self.level}/{index_path(self.index)}{self._partial}"

    @property
    def entries_path(self) -> str:
        """Where the entries of a tile of level 0 lie: ``tile/entries/x001/067.p/12``."""
        return f"tile/entries/{index_path(self.index)}{self._partial}"

    @property
    def _partial(self) -> str:
        return "" if self.width == TILE_WIDTH else f".p/{self.width}"


def index_path(index: int) -> str:
    """A tile's index as path elements of three digits: ``x001/x234/067``."""
    path = f"{index % 1000:03d}"
    while index := index // 1000:
        path = f"x{index % 1000:03d}/{path}"
    return path


def tiles_of(size: int, *, since: int = 0) -> Iterator[Tile]:
    """The tiles of a tree of ``size`` leaves, without those that were full in a tree of ``since`` leaves."""
    level = 0
    while size:
        for index in range(since >> TILE_HEIGHT, size >> TILE_HEIGHT):
            yield Tile(level, index)
        if width := size % TILE_WIDTH:
            yield Tile(level, size >> TILE_HEIGHT, width)
        level, size, since = level + 1, size >> TILE_HEIGHT, since >> TILE_HEIGHT


def build_tiles(hashes: Sequence[bytes], *, since: int = 0) -> Iterator[tuple[Tile, bytes]]:
    """Make the tiles of :func:`tiles_of` from the hashes of all leaves."""
    level = 0
    row = list(hashes)
    for tile in tiles_of(len(hashes), since=since):
        while tile.level > level:
            row = [
                root_hash(row[start : start + TILE_WIDTH]) for start in range(0, len(row) - TILE_WIDTH + 1, TILE_WIDTH)
            ]
            level += 1
        start = tile.index * TILE_WIDTH
        yield tile, b"".join(row[start : start + tile.width])


class TileTree:
    """A tree of which the tiles can be read one by one, to make proofs of."""

    def __init__(self, size: int, read: Callable[[Tile], bytes]) -> None:
        """Read the tiles of a tree of ``size`` leaves with ``read``, each of them once."""
        self.size = size
        self._read = read
        self._tiles: dict[tuple[int, int], bytes] = {}

    def leaf(self, index: int) -> bytes:
        """The hash of a leaf.

        Raises:
            DocumentError: a tile does not hold as many hashes as it must; as for all methods here.
        """
        start = index % TILE_WIDTH * HASH_BYTES
        return self._tile(0, index // TILE_WIDTH)[start : start + HASH_BYTES]

    def root(self, size: int | None = None) -> bytes:
        """The root hash of the whole tree, or of its first ``size`` leaves."""
        end = self.size if size is None else size
        return self._range(0, end) if end else EMPTY_ROOT

    def inclusion(self, index: int) -> list[bytes]:
        """The proof that the leaf at ``index`` is in the tree."""
        proof: list[bytes] = []
        low, high = 0, self.size
        while high - low > 1:
            middle = low + _split(high - low)
            if index < middle:
                proof.append(self._range(middle, high))
                high = middle
            else:
                proof.append(self._range(low, middle))
                low = middle
        return proof[::-1]

    def consistency(self, old_size: int) -> list[bytes]:
        """The proof that the tree begins with the tree of ``old_size`` leaves."""
        if old_size in (0, self.size):
            return []
        proof: list[bytes] = []
        low, high, whole = 0, self.size, True
        while old_size != high:
            middle = low + _split(high - low)
            if old_size <= middle:
                proof.append(self._range(middle, high))
                high = middle
            else:
                proof.append(self._range(low, middle))
                low, whole = middle, False
        if not whole:
            proof.append(self._range(low, high))
        return proof[::-1]

    def _range(self, low: int, high: int) -> bytes:
        """The hash over the leaves from ``low`` to ``high``, which stand below one node of the tree."""
        parts: list[bytes] = []
        while low < high:
            # The largest complete subtree that begins here.
            level = (high - low).bit_length() - 1
            if low:
                level = min(level, (low & -low).bit_length() - 1)
            parts.append(self._subtree(level, low >> level))
            low += 1 << level
        found = parts.pop()
        while parts:
            found = node_hash(parts.pop(), found)
        return found

    def _subtree(self, level: int, index: int) -> bytes:
        """The hash of the ``index``-th complete subtree of ``2**level`` leaves."""
        height, inside = level // TILE_HEIGHT, level % TILE_HEIGHT
        first = index << inside
        data = self._tile(height, first // TILE_WIDTH)
        start = first % TILE_WIDTH * HASH_BYTES
        piece = data[start : start + (HASH_BYTES << inside)]
        return root_hash([piece[at : at + HASH_BYTES] for at in range(0, len(piece), HASH_BYTES)])

    def _tile(self, level: int, index: int) -> bytes:
        data = self._tiles.get((level, index))
        if data is None:
            width = min(TILE_WIDTH, (self.size >> (TILE_HEIGHT * level)) - index * TILE_WIDTH)
            tile = Tile(level, index, width)
            data = self._read(tile)
            if len(data) != width * HASH_BYTES:
                raise DocumentError("", f"{tile.path} must hold {width} hashes of {HASH_BYTES} bytes, not {len(data)}")
            self._tiles[level, index] = data
        return data


def join_entries(entries: Sequence[bytes]) -> bytes:
    """Write entries as an entry bundle: each with its length before it, in two bytes.

    Raises:
        ValueError: one is longer than 65,535 bytes.
    """
    parts: list[bytes] = []
    for entry in entries:
        if len(entry) > MAX_ENTRY_BYTES:
            raise ValueError(f"an entry has {len(entry)} bytes, at most {MAX_ENTRY_BYTES} can be logged")
        parts += (len(entry).to_bytes(2), entry)
    return b"".join(parts)


def split_entries(data: bytes) -> list[bytes]:
    """Read an entry bundle.

    Raises:
        DocumentError: it breaks off.
    """
    entries: list[bytes] = []
    at, end = 0, len(data)
    while at < end:
        start = at + 2
        at = start + int.from_bytes(data[at:start])
        if start > end or at > end:
            raise DocumentError("", f"breaks off inside entry {len(entries)}")
        entries.append(data[start:at])
    return entries


def _split(size: int) -> int:
    """The largest power of two below ``size``."""
    return 1 << ((size - 1).bit_length() - 1)


def _unproven(file: str, problem: str) -> VerificationError:
    refusal = Refusal(reason=Reason.UNPROVEN, file=file, expected="a proof that checks", found=problem)
    return VerificationError(f"{file}: {problem}", refusal=refusal, hint="the log or whoever serves it lies: report it")

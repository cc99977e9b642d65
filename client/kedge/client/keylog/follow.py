"""Following a log from what was seen of it: pure, as the TUF workflow is. It says what to ask for, and judges.

Each function is a generator that yields :class:`~kedge.tuf.steps.Fetch` in the area of the log and receives the file's
bytes or ``MISSING``.

Invariants:

- A log only grows: a checkpoint that is smaller than one that was seen, or does not begin with it, is refused, and both
  are handed out as exhibits.
- A leaf counts once a tile holds it, and the tile's hashes lead to the root hash that log and witnesses signed.
- Nothing that a mirror says of itself counts: an index is a hint, a tile is checked, a missing file proves nothing.

What a client holds of a log: the last checkpoint, the tiles that prove what it stands on, the policy in force.

It is a record, not trust: its checkpoint's signatures and its tiles are checked again each time that it is used.

The files of a whole log, made anew from its entries: what a copy serves, and a bundle of a large log carries.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeAlias, TypeVar

from kedge.documents import DocumentError, Fields, blame_served, load_json
from kedge.errors import FetchError, Reason, Refusal, VerificationError
from kedge.tlog import (
    HASH_BYTES,
    MAX_CHECKPOINT_BYTES,
    MAX_ENTRY_BYTES,
    MAX_PROOF_BYTES,
    TILE_WIDTH,
    Checkpoint,
    LogPolicy,
    LogProof,
    Tile,
    TileTree,
    Witnessed,
    build_tiles,
    check_checkpoint,
    check_consistency,
    check_inclusion,
    decode_base64,
    join_entries,
    leaf_hash,
    leaf_hashes,
    proof_path,
    read_served_proof,
    root_hash,
    split_entries,
    tiles_of,
)
from kedge.tuf import Area, Fetch, Judge, Merit, Missing


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A log as it was seen (``kedge.log/1``).

    ``tiles`` are by their path, ``leaves`` say where a leaf stands, by its hash: a hint, which a tile must bear out.
    """

    FORMAT = "kedge.log/1"

    policy: bytes
    checkpoint: bytes
    tiles: Mapping[str, bytes] = field(default_factory=dict)
    leaves: Mapping[str, int] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """This value as the file's bytes."""
        document = {
            "format": self.FORMAT,
            "policy": self.policy.decode("utf-8"),
            "checkpoint": self.checkpoint.decode("utf-8"),
            "tiles": {path: base64.b64encode(data).decode("ascii") for path, data in self.tiles.items()},
            "leaves": dict(self.leaves),
        }
        return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False).encode() + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes) -> View:
        """Read what :meth:`to_bytes` wrote.

        Raises:
            DocumentError: the bytes are not such a record.
        """
        fields = Fields(load_json(data))
        fields.format(cls.FORMAT)
        tiles, leaves = fields.table("tiles"), fields.table("leaves")
        view = cls(
            policy=fields.text("policy").encode(),
            checkpoint=fields.text("checkpoint").encode(),
            tiles={path: _tile(tiles, path) for path in tiles.names()},
            leaves={name: leaves.integer(name) for name in leaves.names()},
        )
        fields.end()
        return view


def _tile(tiles: Fields, path: str) -> bytes:
    try:
        return decode_base64(tiles.text(path), "the tile")
    except DocumentError as error:
        if error.path:
            raise
        tiles.fail(path, error.problem)


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


R = TypeVar("R")
Steps: TypeAlias = Generator[Fetch, bytes | Missing, R]

CHECKPOINT = Fetch(Area.LOG, "checkpoint", MAX_CHECKPOINT_BYTES, mutable=True)
_TILE_BYTES = HASH_BYTES * TILE_WIDTH


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """A log at one checkpoint that counts, with what is held of its tree."""

    view: View
    witnessed: Witnessed

    @property
    def size(self) -> int:
        """How many leaves the log has."""
        return self.witnessed.size

    def alone(self) -> Head:
        """The checkpoint without anything of its tree: what was held of that may be damaged."""
        return replace(self, view=replace(self.view, tiles={}, leaves={}))


@dataclass(frozen=True, slots=True)
class Wanted:
    """A leaf that must be in the log: its entry, and what it stands for in words."""

    entry: bytes
    what: str


def recall(view: View, policy: LogPolicy) -> Head:
    """Take up what was seen before.

    Raises:
        VerificationError: its checkpoint does not count by ``policy``.
    """
    witnessed = check_checkpoint(view.checkpoint, policy, file="the stored checkpoint")
    return Head(view=replace(view, policy=policy.data), witnessed=witnessed)


def follow(held: Head | None, policy: LogPolicy, *, again: bool = False) -> Steps[Head]:
    """Get the newest checkpoint, and check that the log has only grown since the one that is ``held``.

    Raises:
        VerificationError: it does not count, or the log was rolled back (``rollback``) or forked (``fork``).
        FetchError: there is none.
    """
    judge = partial(_judge, policy)
    data = yield replace(CHECKPOINT, judge=judge, again=again)
    if not isinstance(data, bytes):
        raise FetchError("tlog/checkpoint: is not there", hint="the repository has no log, or this mirror lacks it")
    if held is not None and data == held.view.checkpoint:
        return held
    witnessed = check_checkpoint(data, policy)
    empty = View(policy=policy.data, checkpoint=data)
    if held is None or held.witnessed.origin != witnessed.origin:
        return Head(view=empty, witnessed=witnessed)
    if witnessed.size < held.size:
        problem = f"rollback of the log {witnessed.origin} to size {witnessed.size}; size {held.size} was seen before"
        raise _contradiction(Reason.ROLLBACK, problem, held.witnessed, witnessed)
    if witnessed.size == held.size:
        if witnessed.root != held.witnessed.root:
            problem = f"fork of the log {witnessed.origin}: two trees of size {witnessed.size}"
            raise _contradiction(Reason.FORK, problem, held.witnessed, witnessed)
        return Head(view=replace(held.view, checkpoint=data), witnessed=witnessed)
    still_there = {tile.path for tile in tiles_of(witnessed.size)}
    tiles = {path: data for path, data in held.view.tiles.items() if path in still_there}
    grown = replace(empty, tiles=tiles, leaves=held.view.leaves)
    return (yield from _grown(held, Head(view=grown, witnessed=witnessed)))


def prove(head: Head, wanted: Iterable[Wanted]) -> Steps[Head]:
    """Check that each of these leaves is in the log; what proves it is kept in the view that is returned.

    Raises:
        VerificationError: one is not there (``not-logged``), or a tile does not lead to the root hash (``unproven``).
        FetchError: a tile is missing.
    """
    tiles = _Tiles(head)
    leaves: dict[str, int] = {}
    proven: set[int] = set()
    for each in wanted:
        leaf = leaf_hash(each.entry)
        index = yield from _index_of(tiles, leaf, each.what)
        if index // TILE_WIDTH not in proven:
            # One leaf's proof is made of hashes over all others of its tile, so it vouches for the whole tile.
            proof = yield from tiles.computing(partial(TileTree.inclusion, index=index))
            root, size = head.witnessed.root, head.size
            check_inclusion(leaf, index=index, size=size, proof=proof, root=root, file="tlog/tile")
            proven.add(index // TILE_WIDTH)
        leaves[leaf.hex()] = index
    view = replace(head.view, tiles={**head.view.tiles, **tiles.used}, leaves={**head.view.leaves, **leaves})
    return replace(head, view=view)


def fetch_entries(size: int, *, since: int = 0) -> Steps[list[bytes]]:
    """Get the entries of a log of ``size`` leaves, from index ``since`` on; they still have to be checked.

    Raises:
        VerificationError: a bundle cannot be read.
        FetchError: one is missing.
    """
    entries: list[bytes] = []
    first = since // TILE_WIDTH
    for index in range(first, -(-size // TILE_WIDTH)):
        tile = Tile(0, index, min(TILE_WIDTH, size - index * TILE_WIDTH))
        data = yield from _fetch_either(tile.entries_path, tile.full.entries_path, TILE_WIDTH * (MAX_ENTRY_BYTES + 2))
        with blame_served(f"tlog/{tile.entries_path}"):
            bundle = split_entries(data)[: tile.width]
            if len(bundle) != tile.width:
                raise DocumentError("", f"must hold {tile.width} entries, not {len(bundle)}")
        entries += bundle
    return entries[since - first * TILE_WIDTH :]


def _judge(policy: LogPolicy, data: bytes) -> Merit:
    witnessed = check_checkpoint(data, policy)
    return Merit(witnessed.size, witnessed.root.hex())


def _grown(held: Head, new: Head) -> Steps[Head]:
    tiles, old_size = _Tiles(new), held.size
    proof = yield from tiles.computing(partial(TileTree.consistency, old_size=old_size))
    beginning = yield from tiles.computing(partial(TileTree.root, size=old_size))
    # Tiles that lie are no fork: they must lead to the new root hash before anything is made of what they say.
    root = new.witnessed.root
    check_consistency(old_size=old_size, old_root=beginning, size=new.size, root=root, proof=proof, file="tlog/tile")
    if beginning != held.witnessed.root:
        problem = f"fork of the log {new.witnessed.origin}: size {new.size} does not begin with size {old_size}"
        raise _contradiction(Reason.FORK, problem, held.witnessed, new.witnessed)
    return replace(new, view=replace(new.view, tiles={**new.view.tiles, **tiles.used}))


def _index_of(tiles: _Tiles, leaf: bytes, what: str) -> Steps[int]:
    """Say where a leaf stands, by a tile that holds it there; the tile itself still has to be checked."""
    head = tiles.head
    hint = head.view.leaves.get(leaf.hex())
    if hint is not None and hint < head.size and tiles.held_leaf(hint) == leaf:
        return hint
    found = yield from _search(tiles, leaf)
    if found is None or found >= head.size:
        raise _not_logged(head, what)
    if (yield from tiles.computing(partial(TileTree.leaf, index=found))) != leaf:
        raise _not_logged(head, what)
    return found


def _search(tiles: _Tiles, leaf: bytes) -> Steps[int | None]:
    size = tiles.head.size
    if size > TILE_WIDTH:
        path = proof_path(leaf)
        proof = yield Fetch(Area.LOG, path, MAX_PROOF_BYTES)
        return read_served_proof(proof, file=f"tlog/{path}").index if isinstance(proof, bytes) else None
    if not size:
        return None
    # All leaves stand in one tile: whoever has it needs nobody to say where.
    yield from tiles.computing(partial(TileTree.leaf, index=0))
    data = tiles.used[Tile(0, 0, size).path]
    return next((at for at in range(size) if data[at * HASH_BYTES : (at + 1) * HASH_BYTES] == leaf), None)


class _NeededError(Exception):
    """A tile that is not here yet."""

    def __init__(self, tile: Tile) -> None:
        super().__init__(tile.path)
        self.tile = tile


class _Tiles:
    """A tree whose tiles are fetched when they are needed. ``used`` are those that were."""

    def __init__(self, head: Head) -> None:
        self.head = head
        self.used: dict[str, bytes] = {}
        self._held = dict(head.view.tiles)
        self.tree = TileTree(head.size, self._read)

    def computing(self, compute: Callable[[TileTree], R]) -> Steps[R]:
        while True:
            try:
                return compute(self.tree)
            except _NeededError as needed:
                tile = needed.tile
                judge = self._judge_only_tile if self.head.size <= TILE_WIDTH else None
                data = yield from _fetch_either(tile.path, tile.full.path, _TILE_BYTES, judge)
                self._held[tile.path] = data[: tile.width * HASH_BYTES]
            except DocumentError as error:
                with blame_served("tlog"):
                    raise error from None

    def _judge_only_tile(self, data: bytes) -> Merit:
        """Of several mirrors, one that serves another tile must not be taken for the log: here the tile is the tree."""
        size, root = self.head.size, self.head.witnessed.root
        hashes = [data[at : at + HASH_BYTES] for at in range(0, size * HASH_BYTES, HASH_BYTES)]
        check_consistency(old_size=size, old_root=root_hash(hashes), size=size, root=root, proof=(), file="tlog/tile")
        return Merit(0)

    def held_leaf(self, index: int) -> bytes | None:
        """The hash of a leaf, where its tile is held."""
        try:
            return self.tree.leaf(index)
        except (_NeededError, DocumentError):
            return None

    def _read(self, tile: Tile) -> bytes:
        data = self._held.get(tile.path)
        if data is None:
            raise _NeededError(tile)
        self.used[tile.path] = data
        return data


def _fetch_either(path: str, full: str, max_bytes: int, judge: Judge | None = None) -> Steps[bytes]:
    """Get a partial tile, or the full one that has taken its place since."""
    data: bytes | Missing = yield Fetch(Area.LOG, path, max_bytes, judge=judge)
    if isinstance(data, Missing) and full != path:
        data = yield Fetch(Area.LOG, full, max_bytes, judge=judge)
    if not isinstance(data, bytes):
        at = f": {data.where}" if data.where else ""
        raise FetchError(f"tlog/{path}: is not there{at}", hint="the log names it, so this mirror is incomplete")
    return data


def _not_logged(head: Head, what: str) -> VerificationError:
    log = f"the log {head.witnessed.origin} of size {head.size}"
    refusal = Refusal(reason=Reason.NOT_LOGGED, file="tlog/checkpoint", expected=what, found=log)
    return VerificationError(
        f"{what} is not in {log}",
        refusal=refusal,
        hint="whoever made it kept it out of the log that everybody watches: report it, with the file",
    )


def _contradiction(reason: Reason, problem: str, old: Witnessed, new: Witnessed) -> VerificationError:
    refusal = Refusal(
        reason=reason,
        file="tlog/checkpoint",
        expected=f"size {old.size}, root hash {old.root.hex()}, unchanged",
        found=f"size {new.size}, root hash {new.root.hex()}",
        exhibits=(old.checkpoint.data, new.checkpoint.data),
    )
    hint = "different things are shown to different people: report it, with both checkpoints"
    return VerificationError(f"tlog/checkpoint: {problem}", refusal=refusal, hint=hint)

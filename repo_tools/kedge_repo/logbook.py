"""The log of a repository as a value: what stands in it, what is missing in it, and its files.

Every root, every version of a targets role and every key event gets a leaf (:mod:`kedge.keylog.leaf`). The leaves are
made of the signed files alone, so that a client makes the same ones from what it holds.

Invariants:

- A log only grows. What is appended is appended in one order: roots, then each role's versions from the oldest on, and
  behind a version the key events and the key documents that it brings.
- A log that contradicts itself is not continued.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from tuf.api.metadata import TargetFile

from kedge.document import DocumentError
from kedge.errors import InputError
from kedge.keylog.leaf import EventKind, RoleLeaf, RootLeaf, document_leaf, key_events
from kedge.keylog.proof import LogProof, proof_path
from kedge.keylog.replay import replay
from kedge.keylog.tree import TILE_WIDTH, Tile, TileTree, build_tiles, join_entries, leaf_hashes, tiles_of
from kedge_repo.keydocument import KeyDocument, key_document

__all__ = ["LogBook", "RoleVersion", "missing_entries"]

ReadTarget = Callable[[str, TargetFile], bytes | None]
"""``read(path, target)``: the bytes that a role lists, or None where that version of them is not kept any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleVersion:
    """One signed version of a targets role: its file, and the targets that it lists."""

    role: str
    version: int
    data: bytes
    targets: Sequence[tuple[str, TargetFile]]


@dataclass(frozen=True)
class LogBook:
    """The entries of a log, in order."""

    entries: tuple[bytes, ...] = ()

    @property
    def size(self) -> int:
        """How many there are."""
        return len(self.entries)

    @cached_property
    def hashes(self) -> tuple[bytes, ...]:
        """The hash of each leaf."""
        return tuple(leaf_hashes(self.entries))

    @cached_property
    def tree(self) -> TileTree:
        """The tree over them."""
        tiles = dict(build_tiles(self.hashes))
        return TileTree(self.size, lambda tile: tiles[tile])

    def with_entries(self, more: Iterable[bytes]) -> LogBook:
        """The log with ``more`` behind what it holds."""
        return LogBook((*self.entries, *more))

    def files(self, *, since: int = 0) -> dict[str, bytes]:
        """The tiles and entry bundles, by path below the log; without those that were full at size ``since``."""
        found = {tile.path: data for tile, data in build_tiles(self.hashes, since=since)}
        for tile in tiles_of(self.size, since=since):
            if tile.level == 0:
                found[tile.entries_path] = join_entries(self._covered(tile))
        return found

    def proofs(self, leaves: Iterable[bytes], checkpoint: bytes) -> dict[str, bytes]:
        """The proof of each of these entries in one file, by path below the log."""
        places = {entry: index for index, entry in enumerate(self.entries)}
        found: dict[str, bytes] = {}
        for entry in leaves:
            index = places[entry]
            proof = LogProof(index=index, hashes=tuple(self.tree.inclusion(index)), checkpoint=checkpoint)
            found[proof_path(self.hashes[index])] = proof.to_bytes()
        return found

    def _covered(self, tile: Tile) -> Sequence[bytes]:
        return self.entries[tile.index * TILE_WIDTH : tile.index * TILE_WIDTH + tile.width]


def missing_entries(
    book: LogBook, roots: Iterable[tuple[int, bytes]], roles: Iterable[RoleVersion], read: ReadTarget, *, now: datetime
) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """Give the entries that are to be appended, and all entries that clients will ask for.

    ``roots`` are versions with their files from the first on, ``roles`` every kept version of every targets role.

    Raises:
        InputError: the log contradicts itself, or a key document cannot be read.
    """
    writing = _Writing(book, read, now)
    for version, data in roots:
        writing.need(RootLeaf.of(version, data).to_bytes())
    ordered = sorted(roles, key=lambda each: (each.role != "targets", each.role, each.version))
    newest = {each.role: each.version for each in ordered}
    for role in ordered:
        leaf, is_newest = RoleLeaf.of(role.role, role.version, role.data), newest[role.role] == role.version
        is_news = writing.need(leaf.to_bytes(), lasting=is_newest)
        for path, target in sorted(role.targets, key=lambda each: each[0]):
            document = key_document(path)
            if document is not None and (is_news or is_newest):
                writing.document(document, target, is_news=is_news, lasting=is_newest)
    return tuple(writing.new), tuple(writing.needed)


class _Writing:
    """What is appended, and in which state each registry's keys are by then."""

    def __init__(self, book: LogBook, read: ReadTarget, now: datetime) -> None:
        history = replay(book.entries)
        if history.faults:
            fault = history.faults[0]
            raise InputError(f"tlog: entry {fault.index}: {fault.problem}", hint="this log cannot be continued")
        self.new: list[bytes] = []
        self.needed: dict[bytes, None] = {}
        self._logged = set(book.entries)
        self._keys = history.keys
        self._latest = {registry: leaves[-1] for registry, leaves in history.documents.items()}
        self._read = read
        self._now = now

    def need(self, entry: bytes, *, lasting: bool = True) -> bool:
        """Append an entry where it is missing, and say whether it was; ``lasting``: clients will ask for it again."""
        is_new = entry not in self._logged
        if is_new:
            self._append(entry)
        if lasting or is_new:
            self.needed[entry] = None
        return is_new

    def document(self, document: KeyDocument, target: TargetFile, *, is_news: bool, lasting: bool) -> None:
        """Append what a key document brings; a document that comes back after another one is news again."""
        data = self._read(document.path, target)
        if data is None:
            return
        try:
            keys = document.read(data, target.custom, now=self._now)
        except DocumentError as error:
            raise InputError(f"targets/{document.path}: {error}") from error
        leaf = document_leaf(keys)
        entry = leaf.to_bytes()
        if (is_news and self._latest.get(leaf.registry) != leaf) or entry not in self._logged:
            states = self._keys.setdefault(leaf.registry, {})
            for event in key_events(states, keys):
                self._append(event.to_bytes())
                if event.event is EventKind.REMOVED:
                    del states[event.key.name]
                else:
                    states[event.key.name] = event.key
            self._append(entry)
            self._latest[leaf.registry] = leaf
            lasting = True
        if lasting:
            self.needed[entry] = None

    def _append(self, entry: bytes) -> None:
        self._logged.add(entry)
        self.new.append(entry)

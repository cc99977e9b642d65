"""Asks a checksum database, or a proxy's copy of it, for records, tiles and the latest tree head.

Nothing is believed here: what comes is read, and proven elsewhere. A record is what ``/lookup/`` answers: its number,
the lines that it stands for, and a signed tree head in which it is.

Source: golang.org/x/mod/sumdb (``ServerOps``), tlog (ParseRecord).

Tree heads of a checksum database: what is signed, what was seen last, and whether one tree goes on from another.

A tree head says how many records the database holds and what their root hash is. It carries no time and no expiry, so
an old one is as right as a new one; what a mirror can be caught at is going back, and telling two stories.

- A head is *older* than another one if its tree is smaller. That is no fault in an answer to a look-up, which proxies
  keep for long, as long as the larger tree begins with the smaller one.
- It is a *rollback* if the newest that is served is older than what this machine has seen, and a *fork* if two trees
  contradict each other. Both are refused, and both heads are kept: whoever signed them cannot deny it.

Sources: golang.org/x/mod/sumdb/tlog (ParseTree), RFC 6962 §2.1.2.

The tiles of a checksum database: asked for together, and authentic before anything is proven with them.

A tile is authentic if its hashes lead up to the root hash that was signed: a full tile through the entry for it in
the tile above, the tiles at the right edge through the root itself. So a proof that fails over authentic tiles fails
because the trees differ, and never because whoever serves the tiles made them up; the two have different culprits.

Source: golang.org/x/mod/sumdb/tlog (tiles of height 8 under ``/tile/8/``).
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from kedge.documents import DocumentError, Fields, blame_served
from kedge.errors import FetchError, Reason, Refusal, StoreError, VerificationError
from kedge.registries.go.sumfile import escaped
from kedge.tlog import (
    HASH_BYTES,
    TILE_HEIGHT,
    TILE_WIDTH,
    Note,
    Tile,
    TileTree,
    VerifierKey,
    check_consistency,
    decode_base64,
    index_path,
    root_hash,
    verify,
)
from kedge.transport import Deadline, Transport
from kedge.tuf import Area, Fetch

_TEXT = re.compile(r"go\.sum database tree\n(0|[1-9][0-9]{0,14})\n([A-Za-z0-9+/=]{1,64})\n.*", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeHead:
    """A signed tree head: how many records, their root hash, the note, and the ids of the keys that signed it."""

    size: int
    root: bytes
    note: bytes
    signers: tuple[str, ...]

    def describe(self) -> str:
        """The head in a few words."""
        return f"{self.size} records, root hash {base64.b64encode(self.root).decode('ascii')}"

    def to_table(self) -> dict[str, Any]:
        """The head as it is remembered."""
        return {
            "size": self.size,
            "root": base64.b64encode(self.root).decode("ascii"),
            "note": self.note.decode("utf-8"),
            "signers": list(self.signers),
        }


def open_head(data: bytes, keys: Iterable[VerifierKey], *, file: str) -> TreeHead:
    """Read a signed tree head; one of ``keys`` at least must have signed it.

    Raises:
        VerificationError: it cannot be read (``malformed``), none of the keys signed it (``signatures``), or a known
            key's signature is not right (``bad-signature``).
    """
    with blame_served(file):
        note = Note.from_bytes(data)
    signed = verify(note, keys, file=file)
    with blame_served(file):
        match = _TEXT.fullmatch(note.text)
        if match is None:
            raise DocumentError("", "is signed, and is no tree head of a checksum database")
        root = decode_base64(match[2], "the root hash")
        if len(root) != HASH_BYTES:
            raise DocumentError("", f"the root hash has {len(root)} bytes, not {HASH_BYTES}")
    signers = tuple(f"{each.key.name}+{each.key.id.hex()}" for each in signed)
    return TreeHead(size=int(match[1]), root=root, note=data, signers=signers)


def remembered(seen: Mapping[str, Any] | None, *, place: str) -> TreeHead | None:
    """The head that was seen last, as :meth:`TreeHead.to_table` wrote it.

    Raises:
        StoreError: the record is damaged.
    """
    if seen is None:
        return None
    try:
        fields = Fields(seen)
        root = decode_base64(fields.text("root"), "root")
        if len(root) != HASH_BYTES:
            fields.fail("root", f"must be {HASH_BYTES} bytes")
        note, size = fields.text("note").encode("utf-8"), fields.integer("size")
        head = TreeHead(size=size, root=root, note=note, signers=fields.texts("signers"))
        fields.end()
    except DocumentError as error:
        hint = "restore it; deleting it forgets what was seen, so that a rollback would not be noticed"
        raise StoreError(f"{place}: the tree head that was seen last is damaged: {error}", hint=hint) from error
    return head


def later(seen: TreeHead | None, head: TreeHead) -> TreeHead:
    """Which of two heads of one tree is to be remembered."""
    return head if seen is None or head.size > seen.size else seen


def check_not_older(newest: TreeHead, seen: TreeHead, *, source: str) -> None:
    """Check that what is served now reaches as far as what was seen before.

    Raises:
        VerificationError: it does not (``rollback``).
    """
    if newest.size >= seen.size:
        return
    refusal = Refusal(
        reason=Reason.ROLLBACK,
        file="the tree head",
        expected=f"at least {seen.size} records",
        found=f"{newest.size} records",
        source=source,
        exhibits=(seen.note, newest.note),
    )
    raise VerificationError(
        f"rollback of the checksum database to {newest.size} records; {seen.size} were seen before"
        f" (served by {source})",
        refusal=refusal,
        hint="the mirror serves an old tree: ask the database itself, and tell whoever runs the mirror",
    )


def check_same_tree(old: TreeHead, new: TreeHead, tree: TileTree, *, source: str) -> None:
    """Check that the tree of ``new``, of which ``tree`` reads authentic tiles, begins with the tree of ``old``.

    Raises:
        VerificationError: it does not (``conflict``).
    """
    if old.size == new.size and old.root == new.root:
        return
    fork = VerificationError(
        f"the checksum database tells two stories: {old.describe()}, and {new.describe()} (served by {source})",
        refusal=Refusal(
            reason=Reason.CONFLICT,
            file="the tree head",
            expected=old.describe(),
            found=new.describe(),
            source=source,
            exhibits=(old.note, new.note),
        ),
        hint="both are signed, and no tree holds both: report it to whoever runs the database, with the two heads",
    )
    if old.size >= new.size:
        raise fork
    proof = tree.consistency(old.size)
    try:
        check_consistency(old_size=old.size, old_root=old.root, size=new.size, root=new.root, proof=proof)
    except VerificationError as error:
        raise fork from error


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


AHEAD = 16
MAX_ANSWER_BYTES = 1_000_000

Module = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A record as it was served: its number in the tree, its text (what a leaf of the tree is), and a signed head."""

    number: int
    text: bytes
    head: bytes

    def digests(self, path: str, version: str) -> dict[str, tuple[str, ...]]:
        """The hashes that the record states, by ``version`` and ``version/go.mod``."""
        found: dict[str, list[str]] = {}
        for line in self.text.decode("utf-8").splitlines():
            parts = line.split(" ")
            if len(parts) == 3 and parts[0] == path and parts[1] in (version, f"{version}/go.mod"):
                found.setdefault(parts[1], []).append(parts[2])
        return {name: tuple(digests) for name, digests in found.items()}


def read_record(data: bytes) -> Record:
    """Read the answer to a look-up.

    Raises:
        DocumentError: it is none.
    """
    number, newline, rest = data.partition(b"\n")
    if not newline or re.fullmatch(rb"0|[1-9][0-9]{0,14}", number) is None:
        raise DocumentError("", "must begin with a record's number")
    text, blank, head = rest.partition(b"\n\n")
    if not blank or not text or text.startswith(b"\n"):
        raise DocumentError("", "must hold a record's lines, an empty line and a signed tree head")
    try:
        text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DocumentError("", "the record is not UTF-8") from error
    return Record(number=int(number), text=text + b"\n", head=head)


class SumDatabase:
    """A checksum database that is reached over a transport; all that is asked shares one deadline."""

    def __init__(self, transport: Transport, *, timeout_s: float) -> None:
        """Ask over ``transport``, for ``timeout_s`` seconds in all."""
        self._transport = transport
        self._deadline = Deadline(timeout_s)

    @property
    def source(self) -> str:
        """Where it is asked, as messages name it."""
        return self._transport.source

    def latest(self) -> bytes | None:
        """The newest signed tree head; None where this is not served.

        Raises:
            FetchError: it cannot be had.
        """
        answer = self._transport.get(_request("latest"), self._deadline)
        return answer if isinstance(answer, bytes) else None

    def look_up(self, modules: Sequence[Module]) -> Iterator[tuple[Module, bytes | FetchError | None]]:
        """The answer for each module; None where the database has none, and why where it cannot be had."""
        paths = [quote(f"lookup/{escaped(path)}@{escaped(version)}", safe="/@!+~") for path, version in modules]
        yield from zip(modules, self._answers(paths), strict=True)

    def tiles(self, tiles: Sequence[Tile]) -> dict[Tile, bytes]:
        """Tiles as they are served; one at the right edge may be had as the fuller one that it has become.

        Raises:
            FetchError: one of them cannot be had.
        """
        found: dict[Tile, bytes] = {}
        for tile, answer in zip(tiles, self._answers([tile_path(tile) for tile in tiles]), strict=True):
            if isinstance(answer, FetchError):
                raise answer
            if answer is None and tile.full != tile:
                whole = self._transport.get(_request(tile_path(tile.full)), self._deadline)
                answer = whole[: tile.width * HASH_BYTES] if isinstance(whole, bytes) else None  # noqa: PLW2901
            if answer is None:
                raise FetchError(
                    f"{self.source}/{tile_path(tile)}: is not there, so that nothing can be proven",
                    hint="a proxy that answers look-ups must serve tiles as well: ask the database itself",
                )
            found[tile] = answer
        return found

    def _answers(self, paths: Sequence[str]) -> Iterator[bytes | FetchError | None]:
        requests = [_request(path) for path in paths]
        for index, request in enumerate(requests):
            ahead = tuple(requests[index + 1 : index + AHEAD])
            try:
                answer = self._transport.get(_ahead(request, ahead), self._deadline)
            except FetchError as error:
                yield error
                continue
            yield answer if isinstance(answer, bytes) else None


def _request(path: str) -> Fetch:
    return Fetch(Area.TARGETS, path, MAX_ANSWER_BYTES)


def _ahead(request: Fetch, ahead: tuple[Fetch, ...]) -> Fetch:
    return Fetch(request.area, request.path, request.max_bytes, ahead=ahead)

"""Asks a checksum database, or a proxy's copy of it, for records, tiles and the latest tree head.

Nothing is believed here: what comes is read, and proven elsewhere. A record is what ``/lookup/`` answers: its number,
the lines that it stands for, and a signed tree head in which it is.

Source: golang.org/x/mod/sumdb (``ServerOps``), tlog (ParseRecord).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from kedge.document import DocumentError
from kedge.errors import FetchError
from kedge.keylog.tree import HASH_BYTES, Tile
from kedge.registries.go.sumfile import escaped
from kedge.registries.go.tiles import tile_path
from kedge.steps import Area, Fetch
from kedge.transport import Deadline, Transport

__all__ = ["Record", "SumDatabase", "read_record"]

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

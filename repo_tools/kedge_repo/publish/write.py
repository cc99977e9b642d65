"""Writing a publication, in the order that is its guarantee, to whatever destination.

First come the files that never change, create-only; then the roots that are new and ``timestamp.json`` (compared with
what was there, and swapped), in the order that leaves clients a whole state in between:

- a new root first, where the timestamp that is there holds under it as well (most root rotations);
- the timestamp first, where it holds under the old root too (keys of targets or online keys change, and both the old
  and the new threshold signed);
- where neither holds, the root first, and :attr:`Published.gap` says that a client in between is refused.

So, but for such a gap, a publication that is cut off anywhere shows clients the old state or the new one, whole;
running again completes it. A name that is taken by other bytes is never overwritten, and a destination that is ahead of
this workspace is left alone. Of two publishers who begin at the same timestamp one wins; the other is told.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from itertools import islice

from tuf.api.metadata import Root, Timestamp

from kedge.errors import InputError, VerificationError
from kedge.metadata import count_signatures, parse
from kedge_repo.publish.destination import BehindError, Destination, Held, Overlay, TakenError
from kedge_repo.publish.files import TIMESTAMP_PATH, PublishedFiles
from kedge_repo.publish.present import listed_at
from kedge_repo.publish.replay import read_with_kedge

__all__ = ["Published", "write_to"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What a publication came to: the files that are new there, in the order in which they were written.

    ``gap``: between the new root and the new timestamp, no order left clients a whole state.
    """

    where: str
    written: tuple[str, ...]
    timestamp: int
    replayed: int
    gap: bool


def write_to(
    destination: Destination, files: PublishedFiles, *, now: datetime, replayed: int = 0, dry_run: bool = False
) -> Published:
    """Write ``files``, in the order that the module describes; ``dry_run`` only says what would be written.

    Raises:
        InputError: the destination holds other bytes under an immutable name, or a newer state, or cannot compare and
            swap.
        VerificationError: a bin does not verify.
        StoreError: the destination cannot be reached, locked, read or written.
    """
    with destination.exclusive():
        new_roots = _new_roots(files, destination)
        present = destination.read(TIMESTAMP_PATH)
        there = _check_not_behind(files, destination, present) if present is not None else set()
        order = _order(files, destination, present, new_roots, now)
        writer = _Writer(destination, present, dry_run=dry_run)
        for group in files.contents(listed_at(destination, present)):
            writer.create_all((path, data) for path, data in group if path not in there)
        if order is _Order.TIMESTAMP_FIRST:
            writer.timestamp(files.timestamp)
        for path, data in new_roots.items():
            writer.create(path, data)
        writer.timestamp(files.timestamp)
    return Published(
        where=destination.name,
        written=tuple(writer.written),
        timestamp=files.timestamp_version,
        replayed=replayed,
        gap=order is _Order.ROOT_FIRST_WITH_GAP,
    )


_AT_ONCE = 16


class _Writer:
    """Writes one file after the other, and notes which were new."""

    def __init__(self, destination: Destination, present: Held | None, *, dry_run: bool) -> None:
        self._destination = destination
        self._present = present
        self._dry_run = dry_run
        self.written: list[str] = []

    def create(self, path: str, data: bytes) -> None:
        if self._create(path, data):
            self.written.append(path)

    def create_all(self, files: Iterable[tuple[str, bytes]]) -> None:
        """Create files that may become visible in any order: where there are many, several at a time."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            rest = iter(files)
            while some := list(islice(rest, _AT_ONCE * 4)):
                paths, contents = zip(*some, strict=True)
                several = pool.map if len(some) > _AT_ONCE else map
                for path, new in zip(paths, several(self._create, paths, contents), strict=True):
                    self.written += [path] if new else []

    def _create(self, path: str, data: bytes) -> bool:
        if not self._dry_run and self._destination.create(path, data):
            return True
        there = self._destination.read(path)
        if there is not None and there.data != data:
            raise TakenError(self._destination.place(path), path)
        return there is None

    def timestamp(self, data: bytes) -> None:
        if TIMESTAMP_PATH in self.written or (self._present is not None and self._present.data == data):
            return
        if not self._dry_run and not self._destination.replace(TIMESTAMP_PATH, data, self._present):
            there = self._destination.read(TIMESTAMP_PATH)
            if there is None or there.data != data:  # else an answer was lost, and it was we who wrote it
                place = self._destination.place(TIMESTAMP_PATH)
                raise BehindError(place, "has changed while the files before it were written")
        self.written.append(TIMESTAMP_PATH)


class _Order(Enum):
    ROOT_FIRST = "root first"
    TIMESTAMP_FIRST = "timestamp first"
    ROOT_FIRST_WITH_GAP = "root first, with a gap"


def _order(
    files: PublishedFiles, destination: Destination, present: Held | None, new: Mapping[str, bytes], now: datetime
) -> _Order:
    known = [data for path, data in files.root_files.items() if path not in new]
    if not new or not known or present is None:
        return _Order.ROOT_FIRST  # nothing stands in between, or nobody is here yet
    if _holds(Overlay(destination, {**files.immutable, **new}), known, now):
        return _Order.ROOT_FIRST
    if _holds(Overlay(destination, {**files.immutable, TIMESTAMP_PATH: files.timestamp}), known, now):
        return _Order.TIMESTAMP_FIRST
    return _Order.ROOT_FIRST_WITH_GAP


def _holds(state: Mapping[str, bytes], roots: list[bytes], now: datetime) -> bool:
    try:
        for root in roots:
            read_with_kedge(state, root, (), now)
    except VerificationError:
        return False
    return True


def _new_roots(files: PublishedFiles, destination: Destination) -> dict[str, bytes]:
    """The roots that are not there yet; those that are must be ours, and none may come after ours."""
    new: dict[str, bytes] = {}
    for path, data in files.root_files.items():
        held = destination.read(path)
        if held is None:
            new[path] = data
        elif held.data != data:
            raise TakenError(destination.place(path), path)
    following = f"metadata/{len(files.roots) + 1}.root.json"
    if destination.read(following) is not None:
        raise InputError(
            f"{destination.place(following)}: is newer than this workspace",
            hint="update the workspace before publishing",
        )
    return new


def _check_not_behind(files: PublishedFiles, destination: Destination, present: Held) -> set[str]:
    """Compare before any write: a destination that somebody else is ahead in must not change at all.

    The paths of the immutable files that are there already are returned.
    """
    place = destination.place(TIMESTAMP_PATH)
    try:
        parsed = parse(present.data, Timestamp, file=place)
    except VerificationError as error:
        raise InputError(error.message, hint="what is there is no timestamp: look who wrote it") from error
    root, version = parse(files.roots[-1], Root, file="newest root"), parsed.signed.version
    # By a key that the newest root has replaced: with that root, clients forget its version (TUF 1.0.34 §5.3.11).
    if not count_signatures(root.signed, Timestamp.type, parsed).met:
        version = 0
    if version > files.timestamp_version or (version == files.timestamp_version and present.data != files.timestamp):
        raise BehindError(place, f"is version {version}, and this workspace's is {files.timestamp_version}")
    there: set[str] = set()
    for path, data in files.immutable.items():
        held = destination.read(path)
        if held is not None and held.data != data:
            raise TakenError(destination.place(path), path)
        if held is not None:
            there.add(path)
    return there

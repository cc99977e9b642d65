"""Many targets at once, each straight to disk: memory does not grow with their size.

A target is verified while it is written, under a name that no client asks for, and takes its own name only once it is
what the repository signed. Whoever names it next waits until it is on disk (:meth:`MirrorFolder.sync_files`). Several
mirrors are asked in turn, until one serves the right file.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, BinaryIO, Final

from kedge.checks import STRONG_DIGESTS
from kedge.errors import FetchError, KedgeError, Reason, Refusal, VerificationError
from kedge.steps import Area, Fetch
from kedge.sync.folder import MirrorFolder
from kedge.sync.plan import TargetCopy
from kedge.transport import Deadline, ReadableMirror

if TYPE_CHECKING:
    from tuf.api.metadata import TargetFile

__all__ = ["Fetched", "fetch_targets", "matches"]

BYTES_PER_S: Final = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """How many targets, and bytes, were fetched."""

    files: int
    bytes: int


def fetch_targets(
    targets: Iterable[TargetCopy],
    folder: MirrorFolder,
    mirrors: Sequence[ReadableMirror],
    *,
    jobs: int,
    file_s: float,
    done: Callable[[int], None],
) -> Fetched:
    """Fetch targets, ``jobs`` at a time; ``done`` is told of each that came.

    A file may take ``file_s`` seconds, and a second more for each :data:`BYTES_PER_S` of it.

    Raises:
        FetchError: one of them cannot be had.
        VerificationError: no mirror serves one of them as it was signed.
        StoreError: the disk refuses.
    """
    files = size = 0
    workers = ThreadPoolExecutor(jobs, thread_name_prefix="kedge-sync")
    waiting: dict[Future[None], tuple[TargetCopy, Deadline]] = {}
    queue = iter(targets)
    try:
        while True:
            for target in islice(queue, 2 * jobs - len(waiting)):
                deadline = Deadline(file_s + target.target.length / BYTES_PER_S)
                waiting[workers.submit(_fetch, target, folder, mirrors, deadline)] = target, deadline
            if not waiting:
                return Fetched(files=files, bytes=size)
            for future in wait(waiting, timeout=file_s / 4, return_when=FIRST_COMPLETED).done:
                future.result()
                target, _ = waiting.pop(future)
                files, size = files + 1, size + target.target.length
                done(1)
            _check_deadlines(waiting.values())
    finally:
        # What is under way after a failure is of no use: its sockets are shut, so that its threads end.
        if waiting:
            for mirror in mirrors:
                mirror.close()
        workers.shutdown(wait=True, cancel_futures=True)


def _check_deadlines(waiting: Iterable[tuple[TargetCopy, Deadline]]) -> None:
    # A server that sends its headers a byte at a time is noticed by nobody else.
    for target, deadline in waiting:
        if not deadline.remaining_s():
            raise FetchError(
                f"{target.target.path}: no complete answer within {deadline.seconds:g} seconds",
                hint="the server is too slow or stalls: try another mirror, or again: what has come is kept",
            )


def _fetch(target: TargetCopy, folder: MirrorFolder, mirrors: Sequence[ReadableMirror], deadline: Deadline) -> None:
    faults: list[KedgeError] = []
    request = Fetch(Area.TARGETS, target.request, target.target.length)
    for mirror in mirrors:
        try:
            if mirror.read(request, deadline, partial(_write, target, folder)) is None:
                return
            faults.append(FetchError(f"{target.target.path}: is not there", hint="the mirror is incomplete"))
        except VerificationError as error:
            faults.append(error.served_by(mirror.source))
        except FetchError as error:
            faults.append(error)
    raise next((fault for fault in faults if isinstance(fault, VerificationError)), faults[0])


def _write(target: TargetCopy, folder: MirrorFolder, pieces: Iterator[bytes]) -> None:
    """Write and verify one target, and give it its names."""
    first, *others = target.paths
    with folder.blaming():
        descriptor, partial_file = folder.partial(first)
        try:
            with os.fdopen(descriptor, "wb") as file:
                _check(target.target, _measured(target.target, _written(file, pieces)))
                file.flush()
                os.fchmod(descriptor, 0o644)
            for other in others:
                place = folder.place(other)
                place.unlink(missing_ok=True)
                os.link(partial_file, place)
            partial_file.replace(folder.place(first))
        except BaseException:
            partial_file.unlink(missing_ok=True)
            raise


def matches(target: TargetFile, pieces: Iterator[bytes]) -> bool:
    """Whether a file that is there is the one that was signed for."""
    return not _faults(target, _measured(target, pieces))


def _written(file: BinaryIO, pieces: Iterator[bytes]) -> Iterator[bytes]:
    for piece in pieces:
        file.write(piece)
        yield piece


def _measured(target: TargetFile, pieces: Iterator[bytes]) -> dict[str, str]:
    """The length, and the digests that are listed, as far as this machine computes them."""
    hashes = {name: hashlib.new(name) for name in target.hashes if name in hashlib.algorithms_available}
    size = 0
    for piece in pieces:
        size += len(piece)
        for each in hashes.values():
            each.update(piece)
    return {"length": str(size), **{name: each.hexdigest() for name, each in hashes.items()}}


def _faults(target: TargetFile, found: dict[str, str]) -> list[tuple[str, str]]:
    """What was expected, and what was found instead."""
    expected = {"length": str(target.length), **target.hashes}
    if not STRONG_DIGESTS & set(expected):
        return [("a digest such as sha256 among those listed", "none")]
    return [
        (f"{name} {value}", f"{name} {found.get(name, 'which this machine cannot compute')}")
        for name, value in expected.items()
        if found.get(name) != value
    ]


def _check(target: TargetFile, found: dict[str, str]) -> None:
    faults = _faults(target, found)
    if not faults:
        return
    expected, seen = (", ".join(texts) for texts in zip(*faults, strict=True))
    refusal = Refusal(reason=Reason.CONTENT, file=target.path, expected=expected, found=seen)
    raise VerificationError(
        f"{target.path}: is not the file that was signed for: expected {expected}, found {seen}", refusal=refusal
    )

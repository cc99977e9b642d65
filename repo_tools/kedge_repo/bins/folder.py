"""A folder's files as targets: their paths below it, hashed by several threads at once.

Hashing lets other threads run, so that threads are enough; files are read in pieces, so that size does not matter.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from kedge.errors import InputError
from kedge_repo.bins.lines import BinTarget

__all__ = ["folder_targets"]

_AHEAD = 64


def folder_targets(folder: Path, *, prefix: str = "", threads: int | None = None) -> Iterator[BinTarget]:
    """Every file below ``folder`` as a target at ``prefix`` and its path there, in order of folders and names.

    Names that begin with a dot are left out, and links are not followed.

    Raises:
        InputError: the folder or a file cannot be read.
    """
    threads = threads or min(8, os.cpu_count() or 1)
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[BinTarget]] = deque()
        for path in _files(folder):
            waiting.append(pool.submit(_target, path, f"{prefix}{path.relative_to(folder).as_posix()}"))
            if len(waiting) >= _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _files(folder: Path) -> Iterator[Path]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(f"{folder}: cannot be read: {(error.strerror or str(error)).lower()}") from error
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _files(Path(entry.path))
        elif entry.is_file(follow_symlinks=False):
            yield Path(entry.path)


def _target(path: Path, name: str) -> BinTarget:
    try:
        with path.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
            length = stream.tell()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}") from error
    return BinTarget(path=name, length=length, sha256=sha256)

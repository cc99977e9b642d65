"""One publisher at a time in a folder, without a file of ours among those that are served.

The lock is on the folder itself (``flock``), whichever workspace the publisher works in. A file system that cannot lock
a folder (some network file systems) gets a lock file in it instead; web servers hide names that begin with a dot.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from kedge.errors import StoreError

__all__ = ["LOCK_FILE", "publishing"]

LOCK_FILE = ".kedge-publish.lock"

_HELD = {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES}
_UNABLE = {errno.EBADF, errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
_PAUSE_S = 0.05


@contextmanager
def publishing(folder: Path, *, timeout_s: float) -> Iterator[None]:
    """Keep other publishers out of ``folder``, which is there.

    Raises:
        StoreError: another publisher is at work for longer than ``timeout_s``.
        OSError: the folder cannot be opened or locked.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if _lock(descriptor, folder, timeout_s):
            yield
        else:
            with _lock_file(folder, timeout_s):
                yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, folder: Path, timeout_s: float) -> bool:
    """Lock the folder; false where its file system cannot."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _UNABLE:
                return False
            if error.errno not in _HELD:
                raise
            if time.monotonic() > deadline:
                raise _busy(folder) from error
            time.sleep(_PAUSE_S)
        else:
            return True


@contextmanager
def _lock_file(folder: Path, timeout_s: float) -> Iterator[None]:
    try:
        with FileLock(folder / LOCK_FILE, timeout=timeout_s):
            yield
    except Timeout as error:
        raise _busy(folder) from error


def _busy(folder: Path) -> StoreError:
    return StoreError(f"{folder}: another publisher is writing here", hint="run the command again")

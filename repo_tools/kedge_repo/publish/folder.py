"""A folder as a destination, which a web server, rsync or a USB stick then carries on.

One publisher at a time in a folder, without a file of ours among those that are served.

The lock is on the folder itself (``flock``), whichever workspace the publisher works in. A file system that cannot lock
a folder (some network file systems) gets a lock file in it instead; web servers hide names that begin with a dot.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from kedge.errors import StoreError
from kedge_repo.publish.destination import Held
from kedge_repo.workspace import LOCK_TIMEOUT_S, create_file, read_file, remove_file, replace_file

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


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderDestination:
    """A folder. It has a lock and renames in one step, so that nothing else is asked of the file system."""

    folder: Path

    @property
    def name(self) -> str:
        """The folder's path."""
        return str(self.folder)

    def place(self, path: str) -> str:
        """The path of a file."""
        return str(self.folder / path)

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Make the folder if it is not there, and lock it.

        Raises:
            StoreError: it cannot be made, or another publisher holds it.
        """
        with self._blame():
            self.folder.mkdir(parents=True, exist_ok=True)
            with publishing(self.folder, timeout_s=LOCK_TIMEOUT_S):
                yield

    def read(self, path: str) -> Held | None:
        """The file at ``path``; its tag is not needed, for the folder is locked.

        Raises:
            InputError: it cannot be read.
        """
        file = self.folder / path
        return Held(data=read_file(file), tag="") if file.is_file() else None

    def create(self, path: str, data: bytes) -> bool:
        """Put a file where none is.

        Raises:
            StoreError: the disk refused.
        """
        try:
            create_file(self.folder / path, data)
        except FileExistsError:
            return False
        return True

    def replace(self, path: str, data: bytes, former: Held | None) -> bool:
        """Replace a file, unless it changed although the folder is locked.

        Raises:
            StoreError: the disk refused.
        """
        held = self.read(path)
        if (held.data if held else None) != (former.data if former else None):
            return False
        replace_file(self.folder / path, data)
        return True

    def paths(self, folder: str) -> Iterator[str]:
        """The files directly in ``folder``.

        Raises:
            StoreError: it cannot be read.
        """
        with self._blame():
            if (self.folder / folder).is_dir():
                names = sorted(entry.name for entry in os.scandir(self.folder / folder) if entry.is_file())
                yield from (f"{folder}/{name}" for name in names)

    def remove(self, paths: Iterable[str]) -> None:
        """Remove files.

        Raises:
            StoreError: the disk refused.
        """
        for path in paths:
            remove_file(self.folder / path)

    @contextmanager
    def _blame(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(f"{self.folder}: cannot be written: {(error.strerror or str(error)).lower()}") from error

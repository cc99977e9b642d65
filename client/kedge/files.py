"""Files that several processes share: whole, durable, never through a planted link.

A write goes to a temporary file beside its place (``O_EXCL``, mode 0600), reaches the disk, takes its name in one step,
and then the folder itself reaches the disk. A read sees one whole regular file, or nothing. What the disk says no to is
a ``StoreError`` that says which file, and what can be done.

Where kedge keeps things on this machine: configuration, and trust state.

Trust state is not a cache: deleting it would forget the floors. ``KEDGE_CONFIG_DIR`` and ``KEDGE_STATE_DIR`` say where,
else the platform's own places (XDG on Linux).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from kedge.errors import StoreError

__all__ = [
    "blaming",
    "config_folder",
    "locked",
    "make_folder",
    "read_file",
    "state_folder",
    "sync",
    "sync_files",
    "write_file",
]

_LOCK_PAUSE_S: Final = 0.02
_THREADS: Final = 4
_WORTH_THREADS: Final = 8


@contextmanager
def blaming(folder: Path, *, otherwise: str = "set KEDGE_STATE_DIR to another folder") -> Iterator[None]:
    """Turn an ``OSError`` of a write below ``folder`` into a ``StoreError``; ``otherwise`` is what else can be done.

    Raises:
        StoreError: the block raised ``OSError``.
    """
    try:
        yield
    except OSError as error:
        where = error.filename or folder
        raise StoreError(
            f"{where}: cannot be written: {(error.strerror or str(error)).lower()}",
            hint=f"make room or mend the permissions below {folder}, or {otherwise}",
        ) from error


@contextmanager
def locked(path: Path, *, timeout_s: float) -> Iterator[None]:
    """Hold the lock file ``path``, which other writers wait for.

    Raises:
        StoreError: another process holds it for longer than ``timeout_s`` seconds.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        end = time.monotonic() + timeout_s
        while not _takes_lock(descriptor):
            if time.monotonic() >= end:
                raise StoreError(
                    f"{path}: is held by another process for more than {timeout_s:g} seconds",
                    hint="see what else runs kedge with this state folder",
                )
            time.sleep(_LOCK_PAUSE_S)
        yield
    finally:
        os.close(descriptor)  # which lets go of it, as the end of the process does


def _takes_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def make_folder(folder: Path, *, ours: bool = False) -> None:
    """Make ``folder``, for its owner only; where it is ``ours`` by name, a link in its place is refused.

    Raises:
        OSError: it cannot be made, or is a link.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if ours and folder.is_symlink():
        raise OSError(errno.ELOOP, "is a symbolic link, expected a folder", str(folder))


def read_file(path: Path, max_bytes: int | None) -> bytes | None:
    """A regular file's bytes; None where it is missing, unreadable, no regular file, or longer than ``max_bytes``."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or (max_bytes is not None and status.st_size > max_bytes):
            return None
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read()
    except OSError:
        return None
    finally:
        os.close(descriptor)


def write_file(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Put ``data`` at ``path`` in one step; ``durable`` waits until it is on the disk.

    Raises:
        OSError: the disk refuses; what was there stays.
    """
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name[:16]}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(descriptor)
        os.replace(temporary, path)  # noqa: PTH105 the name for what the docstring promises
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)  # noqa: PTH108 as above
        raise
    if durable:
        sync(path.parent, os.O_RDONLY | os.O_DIRECTORY)


def sync_files(paths: Sequence[Path]) -> None:
    """Wait until all of these files are on the disk, but for those that are not there.

    They are asked for at the same time: a journal writes in one go what waits for it, and one after the other in many.

    Raises:
        OSError: the disk refuses.
    """
    if len(paths) < _WORTH_THREADS:
        for path in paths:
            _sync_if_there(path)
        return
    faults: list[OSError] = []

    def sync_some(part: Sequence[Path]) -> None:
        try:
            for path in part:
                _sync_if_there(path)
        except OSError as error:
            faults.append(error)

    threads = [threading.Thread(target=sync_some, args=(paths[first::_THREADS],)) for first in range(_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if faults:
        raise faults[0]


def _sync_if_there(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        sync(path, os.O_RDONLY)


def sync(path: Path, flags: int) -> None:
    """Wait until a file or folder, opened with ``flags``, is on the disk.

    Raises:
        OSError: the disk refuses, or there is no such thing.
    """
    descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def config_folder() -> Path:
    """The folder of the anchors that were added."""
    named = os.environ.get("KEDGE_CONFIG_DIR")
    if named:
        return Path(named)
    from platformdirs import user_config_path

    return user_config_path("kedge", appauthor=False)


def state_folder() -> Path:
    """The folder of the trust states, one folder an anchor below it."""
    named = os.environ.get("KEDGE_STATE_DIR")
    if named:
        return Path(named)
    from platformdirs import user_state_path

    return user_state_path("kedge", appauthor=False)

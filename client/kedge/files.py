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
import os
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from kedge.errors import InputError, StoreError

__all__ = [
    "READING",
    "blaming",
    "config_folder",
    "locked",
    "make_folder",
    "read_file",
    "read_if_there",
    "state_folder",
    "sync",
    "sync_files",
    "sync_folder",
    "write_file",
]

# What not every system has: there it is left out.
_NO_FOLLOW: Final = getattr(os, "O_NOFOLLOW", 0)
_NO_WAIT: Final = getattr(os, "O_NONBLOCK", 0)
_CLOSE_ON_EXEC: Final = getattr(os, "O_CLOEXEC", 0)
_BINARY: Final = getattr(os, "O_BINARY", 0)
READING: Final = os.O_RDONLY | _NO_WAIT | _CLOSE_ON_EXEC | _BINARY
"""How a file that somebody else may have put there is opened: a pipe in its place is not waited for."""
_FOLDER: Final = getattr(os, "O_DIRECTORY", None)

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
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _NO_FOLLOW | _CLOSE_ON_EXEC, 0o600)
    _held.add(descriptor)
    taken = False
    try:
        end = time.monotonic() + timeout_s
        while not _takes_lock(descriptor):
            if time.monotonic() >= end:
                raise StoreError(
                    f"{path}: is held by another process for more than {timeout_s:g} seconds",
                    hint="see what else runs kedge with this state folder",
                )
            time.sleep(_LOCK_PAUSE_S)
        taken = True
        yield
    finally:
        # Closing lets go of it, as the end of the process does, unless a process that was forked has it open too.
        if taken:
            _let_go(descriptor)
        _held.discard(descriptor)
        os.close(descriptor)


_held: set[int] = set()
"""The lock files that this process has open."""


def _close_inherited() -> None:
    # In a process that was forked: its locks are its parent's, which they would outlive.
    for descriptor in _held:
        with contextlib.suppress(OSError):
            os.close(descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_inherited)

try:
    import fcntl
except ImportError:  # Windows
    import msvcrt

    def _takes_lock(descriptor: int) -> bool:
        try:
            os.lseek(descriptor, 0, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined] # of Windows only
        except OSError:
            return False
        return True

    def _let_go(descriptor: int) -> None:
        os.lseek(descriptor, 0, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)  # type: ignore[attr-defined] # of Windows only

else:

    def _takes_lock(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _let_go(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


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
        return read_if_there(path, max_bytes)
    except OSError:
        return None


def read_if_there(path: Path, max_bytes: int | None) -> bytes | None:
    """A regular file's bytes; None where there is nothing of that name.

    Raises:
        OSError: there is something, and it cannot be read, is no regular file or is longer than ``max_bytes``.
    """
    try:
        descriptor = os.open(path, READING | _NO_FOLLOW)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "is no regular file", str(path))
        if max_bytes is not None and status.st_size > max_bytes:
            raise OSError(errno.EFBIG, f"is longer than {max_bytes} bytes", str(path))
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read()
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
        sync_folder(path.parent)


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
        sync(path)


def sync_folder(folder: Path) -> None:
    """Wait until what names the files of a folder is on the disk, where folders can be opened at all.

    Raises:
        OSError: the disk refuses, or there is no such folder.
    """
    if _FOLDER is not None:
        sync(folder, _FOLDER)


def sync(path: Path, flags: int = 0) -> None:
    """Wait until a file, opened with ``flags`` more than for reading, is on the disk.

    Raises:
        OSError: the disk refuses, or there is no such thing.
    """
    # Windows syncs only what may be written.
    access = os.O_RDWR if os.name == "nt" else os.O_RDONLY
    descriptor = os.open(path, access | flags | _CLOSE_ON_EXEC | _NO_FOLLOW)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def config_folder() -> Path:
    """The folder of the anchors that were added.

    Raises:
        InputError: this user has no home folder, and ``KEDGE_CONFIG_DIR`` names none.
    """
    named = os.environ.get("KEDGE_CONFIG_DIR")
    if named:
        return Path(named)
    from platformdirs import user_config_path

    return _of_somebody(user_config_path, "KEDGE_CONFIG_DIR")


def state_folder() -> Path:
    """The folder of the trust states, one folder an anchor below it.

    Raises:
        InputError: this user has no home folder, and ``KEDGE_STATE_DIR`` names none.
    """
    named = os.environ.get("KEDGE_STATE_DIR")
    if named:
        return Path(named)
    from platformdirs import user_state_path

    return _of_somebody(user_state_path, "KEDGE_STATE_DIR")


def _of_somebody(choose: Callable[..., Path], variable: str) -> Path:
    try:
        folder = choose("kedge", appauthor=False)
    except RuntimeError:
        folder = Path()
    # Where nobody knows a home, "~" may stay as it is, and would be a folder below the working folder.
    if not folder.is_absolute():
        raise InputError("this user has no home folder: HOME is not set", hint=f"set HOME, or {variable} to a folder")
    return folder

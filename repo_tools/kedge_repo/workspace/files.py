"""Files that are there whole or not at all.

Each write goes to a temporary file in the same folder, reaches the disk (fsync), and takes its name in one step; then
the folder itself reaches the disk. Whoever is interrupted anywhere, a kill -9 included, leaves no half file under a
final name; what is raised here has removed its temporary file.

Faults of the machine are ``StoreError``; a file of the user's that cannot be read is ``InputError``.

Optional parts of the installation: what is missing is one line with the command that installs it.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from kedge.errors import InputError, StoreError, extra_hint

MAX_FILE_BYTES = 64 * 1024 * 1024
_TEMPORARY = ".kedge-"
_SYNCED_ALONE = 64


def read_file(path: Path, *, what: str = "file", max_bytes: int = MAX_FILE_BYTES) -> bytes:
    """Read a file of the user's whole.

    Raises:
        InputError: it is not there, not a file, not readable, or larger than ``max_bytes``.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(max_bytes + 1)
    except FileNotFoundError as error:
        raise InputError(f"{path}: there is no such {what}") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {_reason(error)}") from error
    if len(data) > max_bytes:
        raise InputError(f"{path}: is larger than {max_bytes} bytes")
    return data


def replace_file(path: Path, data: bytes) -> None:
    """Put ``data`` at ``path``, whatever was there.

    Raises:
        StoreError: the disk refused.
    """
    with _temporary(path, data, 0o644) as temporary:
        temporary.replace(path)


def replace_many(files: Iterable[tuple[Path, bytes]]) -> int:
    """Put many files in their places, whatever was there, and give their number.

    Each is whole or as it was. Above a few they are brought to the disk together: one by one each would wait for it.

    Raises:
        StoreError: the disk refused; some may have been replaced.
    """
    count = 0
    for path, data in files:
        if count < _SYNCED_ALONE:
            replace_file(path, data)
        else:
            with _temporary(path, data, 0o644, durable=False) as temporary:
                temporary.replace(path)
        count += 1
    if count > _SYNCED_ALONE:
        os.sync()
    return count


def create_file(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Put ``data`` at ``path``, where nothing may be.

    Raises:
        FileExistsError: there is something; it was not touched.
        StoreError: the disk refused.
    """
    with _temporary(path, data, mode) as temporary:
        path.hardlink_to(temporary)


def remove_file(path: Path) -> None:
    """Remove a file if it is there.

    Raises:
        StoreError: the disk refused.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"{path}: cannot be removed: {_reason(error)}") from error


def remove_folder(folder: Path) -> None:
    """Remove a folder with all that is in it; it loses its name first, so that half of it is never seen.

    Raises:
        StoreError: the disk refused.
    """
    grave = folder.with_name(f"{_TEMPORARY}removed-{folder.name}")
    try:
        if grave.exists():
            _remove_tree(grave)
        folder.rename(grave)
        _sync_folder(folder.parent)
        _remove_tree(grave)
    except OSError as error:
        raise StoreError(f"{folder}: cannot be removed: {_reason(error)}") from error


@contextmanager
def _temporary(path: Path, data: bytes, mode: int, *, durable: bool = True) -> Iterator[Path]:
    temporary: Path | None = None
    _make_folder(path.parent)
    try:
        descriptor, name = tempfile.mkstemp(prefix=_TEMPORARY, dir=path.parent)
        temporary = Path(name)
        with os.fdopen(descriptor, "wb") as stream:
            os.fchmod(stream.fileno(), mode)
            stream.write(data)
            stream.flush()
            if durable:
                os.fsync(stream.fileno())
        yield temporary
        if durable:
            _sync_folder(path.parent)
    except FileExistsError:
        raise
    except OSError as error:
        raise StoreError(f"{path}: cannot be written: {_reason(error)}") from error
    finally:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:  # a file that stands in the way is one of them, and must not look like a taken name
        raise StoreError(f"{folder}: cannot be made a folder: {_reason(error)}") from error


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_tree(folder: Path) -> None:
    for parent, folders, files in os.walk(folder, topdown=False):
        for name in files:
            Path(parent, name).unlink()
        for name in folders:
            Path(parent, name).rmdir()
    folder.rmdir()


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def load_extra(module: str, *, extra: str, what: str) -> Any:
    """Import ``module``, which the extra ``extra`` of kedge brings; ``what`` needs it.

    Raises:
        InputError: it is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise InputError(
            f"{what}: needs the Python package {module.partition('.')[0]}",
            hint=extra_hint(extra),
        ) from error

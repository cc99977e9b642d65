"""Files that a command was asked to write: whole or not at all, and never through a planted link."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from kedge.errors import StoreError

__all__ = ["replace_file"]


def replace_file(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Put ``data`` at ``path`` in one step: a reader sees the old file or the new one, whole.

    Raises:
        StoreError: it cannot be written; what was there stays.
    """
    try:
        _replace(path, data, mode)
    except OSError as error:
        text = f"{path}: cannot be written: {(error.strerror or str(error)).lower()}"
        raise StoreError(text, hint="make room, mend the permissions, or name another file") from error


def _replace(path: Path, data: bytes, mode: int) -> None:
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name[:40]}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        os.replace(temporary, path)  # noqa: PTH105 the name for what the docstring promises
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)  # noqa: PTH108 as above
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)

"""A repository in a folder: a published one, a mirror's copy, a mounted disk."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote

from kedge.errors import FetchError, Reason, Refusal, VerificationError
from kedge.steps import MISSING, Area, Fetch, Missing
from kedge.transport.source import Deadline, Mirror

__all__ = ["DirectoryTransport"]


class DirectoryTransport:
    """Reads files below a folder."""

    def __init__(self, folder: Path, mirror: Mirror) -> None:
        """Read below ``folder``, in the layout of ``mirror``."""
        self._folder = folder
        self._areas = {Area.METADATA: folder / mirror.metadata, Area.TARGETS: folder / mirror.targets}

    @property
    def source(self) -> str:
        """The folder."""
        return str(self._folder)

    @property
    def notices(self) -> tuple[str, ...]:
        """A single source has nothing to be compared with."""
        return ()

    def begin(self, requests: Sequence[Fetch], deadline: Deadline) -> None:
        """A folder answers at once."""

    def get(self, request: Fetch, deadline: Deadline) -> bytes | Missing:  # noqa: ARG002 a folder answers at once
        """Read one file.

        Raises:
            FetchError: the folder is not there, or the file cannot be read.
            VerificationError: the file is longer than allowed.
        """
        base = self._areas[request.area]
        path = base.joinpath(*map(_file_name, request.path.split("/")))
        try:
            # Without O_NONBLOCK, a named pipe in the folder would be waited for as long as nobody writes to it.
            with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:  # noqa: PTH123 a descriptor
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise FetchError(f"{path}: is no regular file")
                data = file.read(request.max_bytes + 1)
        except (FileNotFoundError, NotADirectoryError):
            if not base.is_dir():
                raise FetchError(f"{base}: there is no such folder", hint="check the mirror's path") from None
            return MISSING
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise FetchError(f"{path}: cannot be read: {reason.lower()}") from error
        if len(data) > request.max_bytes:
            raise too_large(str(path), request.max_bytes)
        return data

    def close(self) -> None:
        """Nothing is held open."""


def _file_name(segment: str) -> str:
    """One segment of a quoted path as one file name: plain where that is one, as it is where it would be more."""
    plain = unquote(segment)
    return segment if plain in ("", ".", "..") or "/" in plain or "\0" in plain else plain


def too_large(file: str, max_bytes: int) -> VerificationError:
    """The refusal of a file that is longer than what was announced or allowed."""
    refusal = Refusal(reason=Reason.TOO_LARGE, file=file, expected=f"at most {max_bytes} bytes", found="more")
    return VerificationError(f"{file}: is longer than the {max_bytes} bytes that are allowed", refusal=refusal)

"""A repository in a folder: a published one, a mirror's copy, a mounted disk."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final, TypeVar
from urllib.parse import unquote

from kedge.errors import FetchError, Reason, Refusal, VerificationError
from kedge.files import READING
from kedge.transport.mirror import Deadline, Mirror
from kedge.tuf import Area, Fetch, Missing

_PIECE_BYTES: Final = 1 << 20

R = TypeVar("R")


class DirectoryTransport:
    """Reads files below a folder."""

    def __init__(self, folder: Path, mirror: Mirror) -> None:
        """Read below ``folder``, in the layout of ``mirror``."""
        self._folder = folder
        folders = {Area.METADATA: mirror.metadata, Area.TARGETS: mirror.targets, Area.LOG: mirror.log}
        self._areas = {area: folder / name for area, name in folders.items()}

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

    def get(self, request: Fetch, deadline: Deadline) -> bytes | Missing:
        """Read one file.

        Raises:
            FetchError: the folder is not there, or the file cannot be read.
            VerificationError: the file is longer than allowed.
        """
        return self.read(request, deadline, b"".join)

    def read(
        self,
        request: Fetch,
        deadline: Deadline,  # noqa: ARG002 a folder answers at once
        consume: Callable[[Iterator[bytes]], R],
    ) -> R | Missing:
        """Read one file in pieces.

        Raises:
            FetchError: the folder is not there, or the file cannot be read.
            VerificationError: the file is longer than allowed.
        """
        base = self._areas[request.area]
        path = base.joinpath(*map(file_name, request.path.split("/")))
        try:
            # Without O_NONBLOCK, a named pipe in the folder would be waited for as long as nobody writes to it.
            with open(os.open(path, READING), "rb") as file:  # noqa: PTH123 a descriptor
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise FetchError(f"{path}: is no regular file")
                return consume(_pieces(file, path, request.max_bytes))
        except (FileNotFoundError, NotADirectoryError):
            if not base.is_dir():
                raise FetchError(f"{base}: there is no such folder", hint="check the mirror's path") from None
            return Missing(f"{path} (no such file)")
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise FetchError(f"{path}: cannot be read: {reason.lower()}") from error

    def close(self) -> None:
        """Nothing is held open."""


def _pieces(file: BinaryIO, path: Path, max_bytes: int) -> Iterator[bytes]:
    size = 0
    while piece := file.read(min(_PIECE_BYTES, max_bytes + 1 - size)):
        size += len(piece)
        if size > max_bytes:
            raise too_large(str(path), max_bytes)
        yield piece


def file_name(segment: str) -> str:
    """One segment of a quoted path as one file name: plain where that is one, as it is where it would be more."""
    plain = unquote(segment)
    return segment if plain in ("", ".", "..") or "/" in plain or "\0" in plain else plain


def too_large(file: str, max_bytes: int) -> VerificationError:
    """The refusal of a file that is longer than what was announced or allowed."""
    refusal = Refusal(reason=Reason.TOO_LARGE, file=file, expected=f"at most {max_bytes} bytes", found="more")
    return VerificationError(f"{file}: is longer than the {max_bytes} bytes that are allowed", refusal=refusal)

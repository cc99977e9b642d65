"""A folder as a destination, which a web server, rsync or a USB stick then carries on."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kedge.errors import StoreError
from kedge_repo import disk
from kedge_repo.publish.destination import Held
from kedge_repo.publish.exclusive import publishing
from kedge_repo.workspace import LOCK_TIMEOUT_S

__all__ = ["FolderDestination"]


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
        return Held(data=disk.read(file), tag="") if file.is_file() else None

    def create(self, path: str, data: bytes) -> bool:
        """Put a file where none is.

        Raises:
            StoreError: the disk refused.
        """
        try:
            disk.create(self.folder / path, data)
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
        disk.replace(self.folder / path, data)
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
            disk.remove(self.folder / path)

    @contextmanager
    def _blame(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(f"{self.folder}: cannot be written: {(error.strerror or str(error)).lower()}") from error

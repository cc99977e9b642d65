"""Many small files kept as one: what a look-up of a thousand targets leaves behind.

::

    packs/<name>        each file's length in eight bytes, and the file; and so on

Making a thousand files costs a file system more than writing what is in them. A pack is written whole and durable,
under a name that is new, and is never changed. Nothing that it says of itself is believed: a file is known by the
SHA-256 that is computed when the pack is read, so that a damaged pack holds fewer files, and no wrong ones.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from kedge.durable import make_folder, read_file, write_file

__all__ = ["Packs"]

MAX_BYTES = 1 << 30
# More packs than this are put together into one; as many that nothing names stay, for who reads an older record.
MAX_PACKS = 8
MAX_UNNAMED = 2
_LENGTH_BYTES = 8


class Packs:
    """The packs in one folder."""

    def __init__(self, folder: Path) -> None:
        """Use ``folder``, which is made at the first write."""
        self._folder = folder
        self._read: dict[str, Mapping[str, bytes]] = {}

    def get(self, digest: str) -> bytes | None:
        """The file with this SHA-256 digest, or None where no pack holds it."""
        for files in self._read.values():
            if digest in files:
                return files[digest]
        for name in self._names():
            if name not in self._read:
                self._read[name] = _files(read_file(self._folder / name, MAX_BYTES) or b"")
                if digest in self._read[name]:
                    return self._read[name][digest]
        return None

    def add(self, files: Iterable[bytes]) -> None:
        """Keep files, durably.

        Raises:
            OSError: the disk refuses.
        """
        data = b"".join(len(each).to_bytes(_LENGTH_BYTES) + each for each in files)
        make_folder(self._folder, ours=True)
        name = hashlib.sha256(data).hexdigest()
        write_file(self._folder / name, data)
        self._read[name] = _files(data)

    def clear(self, named: set[str]) -> None:
        """Remove packs of which nothing is ``named``, and put the rest together where there are many of them.

        Raises:
            OSError: the disk refuses.
        """
        unnamed: list[str] = []
        kept: list[str] = []
        for name in self._names():
            files = self._read.get(name) or _files(read_file(self._folder / name, MAX_BYTES) or b"")
            self._read[name] = files
            (unnamed if named.isdisjoint(files) else kept).append(name)
        self._remove(self._oldest(unnamed))
        self._remove(self._oldest(self._names(unfinished=True)))
        if len(kept) > MAX_PACKS:
            live = {digest: data for name in kept for digest, data in self._read[name].items() if digest in named}
            self.add(live.values())
            self._remove(kept)

    def _names(self, *, unfinished: bool = False) -> list[str]:
        """The packs that are there; or what writers are at, and what those that were killed left behind."""
        with contextlib.suppress(OSError):  # no such folder, or none that may be read
            return sorted(entry.name for entry in os.scandir(self._folder) if entry.name.startswith(".") is unfinished)
        return []

    def _oldest(self, names: Iterable[str]) -> list[str]:
        """All but the youngest few, which somebody may be about to need."""
        aged = []
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                aged.append(((self._folder / name).lstat().st_mtime, name))
        return [name for _, name in sorted(aged)[: max(0, len(aged) - MAX_UNNAMED)]]

    def _remove(self, names: Iterable[str]) -> None:
        for name in names:
            self._read.pop(name, None)
            (self._folder / name).unlink(missing_ok=True)


def _files(data: bytes) -> dict[str, bytes]:
    """The files in a pack by digest, as far as it is whole."""
    found: dict[str, bytes] = {}
    at = 0
    while at + _LENGTH_BYTES <= len(data):
        start = at + _LENGTH_BYTES
        at = start + int.from_bytes(data[at:start])
        if at > len(data):
            break
        each = data[start:at]
        found[hashlib.sha256(each).hexdigest()] = each
    return found

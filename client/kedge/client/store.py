"""Keeps bytes on disk: whole, durable, and shared by many processes. It knows no TUF and trusts nothing that it reads.

::

    <folder>/
      blobs/<sha256>      immutable files by content; made once, never changed
      packs/              many of them together, where many came at once
      state.json          the record that names the present set
      state.json.prev     the record before it
      history/            records of every set that was trusted, where the anchor asks for it
      evidence/           what two mirrors contradicted each other with
      floors.json         what may never be undercut, apart from the set, so that losing one does not lose the other
      log.json            what was seen of the repository's log, where the anchor asks for it
      lock                held while a record is replaced

The happy path of a write, for a record F: a temporary file beside F (``O_EXCL``, mode 0600), write, fsync, rename to F,
fsync of the folder. Blobs are written in the same way, and synced together before a record names them. A record is
replaced only after every blob that it names is durable, and ``floors.json`` before the record, so that a kill at any
moment leaves an old set with old or newer floors, never a new set with lost ones.

Invariants:

- Readers take no lock and see one whole record; a blob is right or it is as good as absent.
- Nothing is followed: a symbolic link planted at any of these names is replaced or ignored.
- Writers exclude each other for the moment of the write only, never while the network is waited for.

Many small files kept as one: what a look-up of a thousand targets leaves behind.

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
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kedge.files import blaming, locked, make_folder, read_file, read_if_there, sync_files, sync_folder, write_file

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
        for files in list(self._read.values()):  # another thread may read one more meanwhile
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


STATE, PREVIOUS, FLOORS, HISTORY = "state.json", "state.json.prev", "floors.json", "history"
LOG = "log.json"
"""What was seen of the repository's log; whoever keeps it takes the same lock."""
_TEMPORARY = tuple(f".{name}" for name in (STATE, FLOORS, LOG))
MAX_RECORD_BYTES = 64_000_000
# Blobs that no record names are kept until there are this many: a reader may hold a record that was just replaced.
MAX_UNNAMED_BLOBS = 64
# So many new files become blobs of their own; more of them, one pack.
KEPT_ALONE = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """The records as they are on disk; None where a file is missing or cannot be read.

    ``state`` is the present set, ``previous`` the one before it. ``unreadable`` are those that are there and cannot be
    read, each with the reason.
    """

    state: bytes | None
    previous: bytes | None
    floors: bytes | None
    unreadable: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """New records; ``previous`` goes to where the set before the present one is kept (None: leave it as it is).

    ``history`` is a record that stays for ever, and its name; with ``keep_blobs`` nothing is cleared away.
    """

    state: bytes
    floors: bytes
    previous: bytes | None
    history: tuple[str, bytes] | None = None
    keep_blobs: bool = False


class Store:
    """One anchor's folder."""

    def __init__(self, folder: Path, *, lock_timeout_s: float = 10.0) -> None:
        """Use ``folder``, which is made at the first write; wait at most ``lock_timeout_s`` seconds for its lock."""
        self.folder = folder
        self._lock_timeout_s = lock_timeout_s
        self._fresh: set[str] = set()
        self._packs = Packs(folder / "packs")

    def read(self) -> Records:
        """Read the records, without a lock."""
        unreadable: list[str] = []

        def read(name: str) -> bytes | None:
            try:
                return read_if_there(self.folder / name, MAX_RECORD_BYTES)
            except OSError as error:
                unreadable.append(f"{name} {(error.strerror or str(error)).lower()}")
                return None

        state, previous, floors = read(STATE), read(PREVIOUS), read(FLOORS)
        return Records(state=state, previous=previous, floors=floors, unreadable=tuple(unreadable))

    def blob(self, digest: str) -> bytes | None:
        """The file with this SHA-256 digest, or None where it is absent or damaged."""
        if re.fullmatch("[0-9a-f]{64}", digest) is None:
            return None
        data = read_file(self.folder / "blobs" / digest, None)
        if data is not None and hashlib.sha256(data).hexdigest() == digest:
            return data
        return self._packs.get(digest)

    def keep(self, data: bytes) -> str:
        """Put ``data`` on disk and return its SHA-256 digest; it is made durable before a record names it.

        Raises:
            StoreError: it cannot be written.
        """
        digest = hashlib.sha256(data).hexdigest()
        path = self.folder / "blobs" / digest
        with blaming(self.folder):
            self._fresh.add(digest)  # also what another process wrote a moment ago: its sync may not have come yet
            if self.blob(digest) is not None:
                with contextlib.suppress(FileNotFoundError):  # it is in a pack
                    os.utime(path, follow_symlinks=False)  # in use again: not among the first to be cleared away
                return digest
            make_folder(path.parent, ours=True)
            write_file(path, data, durable=False)
        return digest

    def keep_many(self, files: Sequence[bytes]) -> None:
        """Put files on disk, before a record names them: many of them as one.

        Raises:
            StoreError: they cannot be written.
        """
        if len(files) <= KEPT_ALONE:
            for data in files:
                self.keep(data)
            return
        with blaming(self.folder):
            make_folder(self.folder)
            self._packs.add(files)

    def keep_exhibit(self, data: bytes, *, suffix: str = "json") -> Path:
        """Keep a file that proves something, below ``evidence/``, where nothing is ever cleared away; give its path.

        Raises:
            StoreError: it cannot be written.
        """
        path = self.folder / "evidence" / f"{hashlib.sha256(data).hexdigest()}.{suffix}"
        with blaming(self.folder):
            make_folder(self.folder)
            make_folder(path.parent, ours=True)
            write_file(path, data)
        return path

    def update(self, change: Callable[[Records], Change | None], *, named: Callable[[bytes], Iterable[str]]) -> None:
        """Replace the records under the lock, where there is something to change.

        ``change`` gets the records as they are now, and returns the new ones, or None to leave them; it may be asked
        twice. ``named`` tells which blobs a state record names; others are cleared away in time.

        Raises:
            StoreError: the lock cannot be had in time, or the disk refuses.
        """
        if change(self.read()) is None:
            return
        with blaming(self.folder):
            make_folder(self.folder)
            self._sync_fresh()
            with locked(self.folder / "lock", timeout_s=self._lock_timeout_s):
                records = self.read()
                changed = change(records)
                if changed is None:
                    return
                if changed.floors != records.floors:
                    write_file(self.folder / FLOORS, changed.floors)
                if changed.previous is not None:
                    write_file(self.folder / PREVIOUS, changed.previous)
                if changed.history is not None:
                    self._write_history(*changed.history)
                if changed.state != records.state:
                    write_file(self.folder / STATE, changed.state)
                former = self.read().previous
                if not changed.keep_blobs:
                    self._clear({*named(changed.state), *(named(former) if former is not None else ())})

    def history(self) -> Iterator[bytes]:
        """Every record that was to stay for ever, in the order of their names."""
        for path in sorted((self.folder / HISTORY).glob("*.json")):
            data = read_file(path, MAX_RECORD_BYTES)
            if data is not None:
                yield data

    def _write_history(self, name: str, record: bytes) -> None:
        folder = self.folder / HISTORY
        make_folder(folder, ours=True)
        if read_file(folder / name, MAX_RECORD_BYTES) != record:
            write_file(folder / name, record)

    def _sync_fresh(self) -> None:
        if not self._fresh:
            return
        # One that is not there was cleared away by another process: nobody names it.
        sync_files([self.folder / "blobs" / digest for digest in self._fresh])
        sync_folder(self.folder / "blobs")
        self._fresh.clear()

    def _clear(self, named: set[str]) -> None:
        for entry in os.scandir(self.folder):
            if entry.name.startswith(_TEMPORARY):  # left by a writer that was killed: we hold the lock
                Path(entry).unlink(missing_ok=True)
        self._packs.clear(named)
        blobs = self.folder / "blobs"
        if not blobs.is_dir():
            return
        unnamed = [entry for entry in os.scandir(blobs) if entry.name not in named]
        if len(unnamed) <= MAX_UNNAMED_BLOBS:
            return
        unnamed.sort(key=lambda entry: entry.stat(follow_symlinks=False).st_mtime)
        for entry in unnamed[: len(unnamed) - MAX_UNNAMED_BLOBS]:
            with contextlib.suppress(FileNotFoundError):
                Path(entry).unlink()

"""The folder of a copy: whole files only, one writer at a time, and a stated rule for what is cleared away.

::

    <folder>/
      metadata/ targets/       what clients ask for (the layout is that of the source)
      .kedge-mirror.json       since when files are no longer part of the newest copy (``kedge.mirror/1``)
      .kedge-mirror.lock       held while it is written
      .kedge-mirror.running    there while targets are fetched: if it is found, the last run was cut off

A file is written beside its place, under a name that begins with a dot, and takes its name in one step once it is
verified. Targets reach the disk together, before metadata names them; after a run that was cut off before that, what is
there is read again. Files that are whole are not fetched again.

What left the newest copy stays; where the user says for how long, it is cleared away when it has been out for so long,
and never in the run in which it left. Roots stay for ever.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from kedge.documents import Fields, blame_user, format_time, load_json
from kedge.errors import InputError
from kedge.files import blaming, locked, read_file, sync, sync_folder, write_file

RECORD, LOCK, PARTIAL = ".kedge-mirror.json", ".kedge-mirror.lock", ".kedge-partial-"
RUNNING = ".kedge-mirror.running"
SYNC_JOBS = 32
MAX_RECORD_BYTES = 256_000_000
MAX_FILE_BYTES = 1 << 30
_PIECE_BYTES = 1 << 20
_AT_FDCWD, _EXCHANGE = -100, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class MirrorRecord:
    """What the folder is a copy of, and since when files in it are no longer part of the newest copy, by path."""

    FORMAT = "kedge.mirror/1"

    initial_root: str
    superseded: Mapping[str, datetime] = field(default_factory=dict)

    @classmethod
    def from_bytes(cls, data: bytes) -> MirrorRecord:
        """Read what :meth:`to_bytes` wrote.

        Raises:
            DocumentError: it is not that.
        """
        fields = Fields(load_json(data))
        fields.format(cls.FORMAT)
        superseded = fields.table("superseded")
        record = cls(
            initial_root=fields.sha256("initial_root"),
            superseded={path: superseded.time(path) for path in superseded.names()},
        )
        fields.end()
        return record

    def to_bytes(self) -> bytes:
        """This value as the file's bytes."""
        superseded = {path: format_time(since) for path, since in sorted(self.superseded.items())}
        document = {"format": self.FORMAT, "initial_root": self.initial_root, "superseded": superseded}
        return json.dumps(document, indent=1, ensure_ascii=False).encode() + b"\n"


class MirrorFolder:
    """Reads and writes the folder; every path is relative to it."""

    def __init__(self, root: Path) -> None:
        """Use ``root``, which is made at the first write."""
        self.root = root

    def blaming(self) -> AbstractContextManager[None]:
        """Turn an ``OSError`` of a write into a ``StoreError`` that names the folder."""
        return blaming(self.root, otherwise="name another folder")

    @contextmanager
    def writing(self, *, timeout_s: float = 10.0) -> Iterator[None]:
        """Be the only writer, in a folder in which nothing half-written is left.

        Raises:
            StoreError: another process writes, or the folder cannot be made.
        """
        with self.blaming():
            self.root.mkdir(mode=0o755, parents=True, exist_ok=True)
            with locked(self.root / LOCK, timeout_s=timeout_s):
                for path in (*self.root.rglob(f"{PARTIAL}*"), *self.root.glob(f".{RECORD[:16]}.*")):
                    path.unlink(missing_ok=True)
                yield

    def begin(self, initial_root: str) -> MirrorRecord:
        """Give what was written down about the copy; where nothing is there yet, write down that it has begun.

        Raises:
            InputError: the folder holds something else already, or a record that cannot be read.
            StoreError: the disk refuses.
        """
        data = read_file(self.root / RECORD, MAX_RECORD_BYTES)
        if data is not None:
            with blame_user(str(self.root / RECORD)):
                return MirrorRecord.from_bytes(data)
        if any(path.name != LOCK for path in self.root.iterdir()):
            raise InputError(
                f"{self.root}: holds files already, and is no copy that kedge mirror sync made",
                hint="name an empty folder",
            )
        record = MirrorRecord(initial_root=initial_root)
        with self.blaming():
            write_file(self.root / RECORD, record.to_bytes())
        return record

    def read(self, path: str) -> bytes | None:
        """A file's bytes, or None where there is none."""
        return read_file(self.root / path, MAX_FILE_BYTES)

    def size(self, path: str) -> int | None:
        """A file's length, or None where there is no regular file."""
        place = self.root / path
        return place.stat().st_size if place.is_file() and not place.is_symlink() else None

    def write(self, path: str, data: bytes) -> bool:
        """Put a file in its place, whole and durable; False where it is there already.

        Raises:
            StoreError: the disk refuses.
        """
        if self.read(path) == data:
            return False
        with self.blaming():
            descriptor, partial = self.partial(path)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fchmod(descriptor, 0o644)
                os.fsync(descriptor)
            partial.replace(self.place(path))
            self.sync_folders([path])
        return True

    def sync_folders(self, paths: Iterable[str]) -> None:
        """Wait until the names of these files are on disk.

        Raises:
            StoreError: the disk refuses.
        """
        with self.blaming():
            for folder in {(self.root / path).parent for path in paths}:
                sync_folder(folder)

    def begin_run(self) -> bool:
        """Take note that files are about to come; whether the last run was cut off while they did.

        Raises:
            StoreError: the disk refuses.
        """
        with self.blaming():
            was_cut_off = (self.root / RUNNING).exists()
            if not was_cut_off:
                write_file(self.root / RUNNING, b"")
        return was_cut_off

    def end_run(self) -> None:
        """Take note that all that came is on disk, and named.

        Raises:
            StoreError: the disk refuses.
        """
        with self.blaming():
            (self.root / RUNNING).unlink(missing_ok=True)

    def sync_files(self, paths: Iterable[str]) -> None:
        """Wait until these files, and their names, are on disk.

        Raises:
            StoreError: the disk refuses.
        """
        named = list(paths)
        # A disk that is asked for many files at once writes them together.
        with self.blaming(), ThreadPoolExecutor(SYNC_JOBS, thread_name_prefix="kedge-disk") as workers:
            for done in [workers.submit(sync, self.root / path) for path in named]:
                done.result()
        self.sync_folders(named)

    def pieces(self, path: str) -> Iterator[bytes]:
        """A file's content in pieces; nothing, where there is none."""
        place = self.root / path
        if place.is_file() and not place.is_symlink():
            with place.open("rb") as file:
                while piece := file.read(_PIECE_BYTES):
                    yield piece

    def place(self, path: str) -> Path:
        """Where a file goes, in a folder that is there."""
        place = self.root / path
        place.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        return place

    def partial(self, path: str) -> tuple[int, Path]:
        """Open a file beside the place of another one, to be written and then renamed."""
        descriptor, name = tempfile.mkstemp(prefix=PARTIAL, dir=self.place(path).parent)
        return descriptor, Path(name)

    def files(self) -> Iterator[str]:
        """The path of every file that a client might ask for."""
        for folder, _, names in os.walk(self.root):
            for name in names:
                path = (Path(folder) / name).relative_to(self.root).as_posix()
                if path not in (RECORD, LOCK, RUNNING):
                    yield path

    def note_and_clear(
        self, newest: frozenset[str], record: MirrorRecord, *, now: datetime, keep: timedelta | None
    ) -> list[str]:
        """Write down what is no longer part of the newest copy, clear away what is due, and say what that was.

        Raises:
            StoreError: the disk refuses.
        """
        outdated = [path for path in self.files() if path not in newest and not path.endswith(".root.json")]
        superseded = {path: record.superseded.get(path, now) for path in outdated}
        due = [] if keep is None else [path for path in record.superseded if path in superseded]
        due = [path for path in due if keep is not None and now - superseded[path] >= keep]
        with self.blaming():
            for path in due:
                (self.root / path).unlink(missing_ok=True)
                del superseded[path]
            kept = MirrorRecord(initial_root=record.initial_root, superseded=superseded)
            if kept != record:
                write_file(self.root / RECORD, kept.to_bytes())
        return due

    @contextmanager
    def as_a_whole(self) -> Iterator[MirrorFolder]:
        """Give a second folder that holds the same files; at the end of the block it takes the place of this one.

        No reader sees a state in between; only where the file system cannot exchange folders, the folder is not there
        for a moment. Files are shared until they are replaced.

        Raises:
            StoreError: the disk refuses.
        """
        with self.blaming():
            beside = Path(tempfile.mkdtemp(prefix=f".{self.root.name}.", dir=self.root.parent))
            try:
                beside.chmod(0o755)
                for path in (*self.files(), *(name for name in (RECORD, LOCK) if (self.root / name).exists())):
                    place = beside / path
                    place.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
                    os.link(self.root / path, place)
                yield MirrorFolder(beside)
                _exchange(beside, self.root)
                sync_folder(self.root.parent)
            finally:
                shutil.rmtree(beside, ignore_errors=True)


def _exchange(one: Path, other: Path) -> None:
    """Let two folders exchange their names: in one step (renameat2), where the system can, else in two."""
    libc = ctypes.CDLL(None, use_errno=True)
    if hasattr(libc, "renameat2"):
        if libc.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _EXCHANGE) == 0:
            return
        number = ctypes.get_errno()
        if number not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
            raise OSError(number, os.strerror(number), str(other))
    former = one.with_name(f"{one.name}.former")
    other.rename(former)
    one.rename(other)
    former.rename(one)

"""Publishing to a folder, which a web server, rsync or a USB stick then carries on.

The order is the guarantee. First come the files that never change, create-only; then the roots that are new and
``timestamp.json`` (by an atomic rename), in the order that leaves clients a whole state in between:

- a new root first, where the timestamp that is there holds under it as well (most root rotations);
- the timestamp first, where it holds under the old root too (keys of targets or online keys change, and both the old
  and the new threshold signed);
- where neither holds, the root first, and :attr:`Published.gap` says that a client in between is refused.

So, but for such a gap, a publication that is cut off anywhere shows clients the old state or the new one, whole;
running again completes it. A name that is taken by other bytes is never overwritten, and a folder that is ahead of this
workspace is left alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from pathlib import Path

from tuf.api.metadata import Timestamp

from kedge.errors import InputError, StoreError, VerificationError
from kedge.metadata import parse
from kedge_repo import disk
from kedge_repo.publish.exclusive import publishing
from kedge_repo.publish.files import TIMESTAMP_PATH, PublishedFiles, collect_files
from kedge_repo.publish.replay import READERS, Reader, read_with_kedge, replay
from kedge_repo.workspace import LOCK_TIMEOUT_S, Workspace

__all__ = ["Overlay", "Published", "destinations", "publish", "write_files"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What a publication came to: the files that are new in the folder, in the order in which they were written.

    ``gap``: between the new root and the new timestamp, no order left clients a whole state.
    """

    folder: Path
    written: tuple[str, ...]
    timestamp: int
    replayed: int
    gap: bool


def publish(
    workspace: Workspace, folder: Path | None = None, *, now: datetime, readers: Mapping[str, Reader] = READERS
) -> tuple[Published, ...]:
    """Publish to ``folder``, or to every destination of the policy, after readers have accepted it.

    Before anything is written, every reader replays the new metadata from every root ever published, as of ``now``.

    Raises:
        InputError: there is nothing to publish, no destination, or the folder holds other bytes or a newer state.
        VerificationError: the metadata does not verify, or a reader refuses it.
        StoreError: the folder cannot be locked or written.
    """
    chosen: Sequence[Path] = [folder] if folder is not None else destinations(workspace)
    files = collect_files(workspace)
    count = replay(files, now=now, readers=readers)
    return tuple(write_files(files, destination, now=now, replayed=count) for destination in chosen)


def write_files(files: PublishedFiles, folder: Path, *, now: datetime, replayed: int = 0) -> Published:
    """Write ``files`` to ``folder``, in the order that the module describes.

    Raises:
        InputError: the folder holds other bytes under an immutable name, or a newer state.
        StoreError: the folder cannot be locked or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with publishing(folder, timeout_s=LOCK_TIMEOUT_S):
            _check_not_behind(files, folder)
            order = _order(files, folder, now)
            written = _write_immutable(folder, files.immutable)
            if order is _Order.TIMESTAMP_FIRST:
                written += _write_timestamp(files, folder)
            written += _write_immutable(folder, files.root_files)
            written += _write_timestamp(files, folder)
    except OSError as error:
        raise StoreError(f"{folder}: cannot be written: {(error.strerror or str(error)).lower()}") from error
    return Published(
        folder=folder,
        written=tuple(written),
        timestamp=files.timestamp_version,
        replayed=replayed,
        gap=order is _Order.ROOT_FIRST_WITH_GAP,
    )


class _Order(Enum):
    ROOT_FIRST = "root first"
    TIMESTAMP_FIRST = "timestamp first"
    ROOT_FIRST_WITH_GAP = "root first, with a gap"


def _order(files: PublishedFiles, folder: Path, now: datetime) -> _Order:
    new = {path: data for path, data in files.root_files.items() if not (folder / path).exists()}
    known = [data for path, data in files.root_files.items() if path not in new]
    if not new or not known or not (folder / TIMESTAMP_PATH).exists():
        return _Order.ROOT_FIRST  # nothing stands in between, or nobody is here yet
    if _holds(Overlay(folder, {**files.immutable, **new}), known, now):
        return _Order.ROOT_FIRST
    if _holds(Overlay(folder, {**files.immutable, TIMESTAMP_PATH: files.timestamp}), known, now):
        return _Order.TIMESTAMP_FIRST
    return _Order.ROOT_FIRST_WITH_GAP


def _holds(state: Mapping[str, bytes], roots: list[bytes], now: datetime) -> bool:
    try:
        for root in roots:
            read_with_kedge(state, root, (), now)
    except VerificationError:
        return False
    return True


class Overlay(Mapping[str, bytes]):
    """A folder's files with others on top, read when they are asked for."""

    def __init__(self, folder: Path, above: Mapping[str, bytes]) -> None:
        self._folder = folder
        self._above = above

    def __getitem__(self, path: str) -> bytes:
        if path in self._above:
            return self._above[path]
        if not (self._folder / path).is_file():
            raise KeyError(path)
        return disk.read(self._folder / path)

    def __iter__(self) -> Iterator[str]:
        files = (path for path in self._folder.rglob("*") if path.is_file())
        return iter({*self._above, *(path.relative_to(self._folder).as_posix() for path in files)})

    def __len__(self) -> int:
        return sum(1 for _ in self)


def destinations(workspace: Workspace) -> list[Path]:
    """The folders that the policy publishes to.

    Raises:
        InputError: it names none.
    """
    folders = [(workspace.root / destination.folder).resolve() for destination in workspace.policy().destinations]
    if not folders:
        raise InputError("kedge-repo.toml: destination: is missing", hint="name a folder: kedge-repo publish FOLDER")
    return folders


def _check_not_behind(files: PublishedFiles, folder: Path) -> None:
    """Compare before any write: a folder that somebody else is ahead in must not change at all."""
    for path, data in {**files.immutable, **files.root_files}.items():
        present = folder / path
        if present.exists() and disk.read(present) != data:
            raise InputError(f"{present}: holds other bytes than this workspace; published files never change")
    next_root = folder / f"metadata/{len(files.roots) + 1}.root.json"
    if next_root.exists():
        raise InputError(f"{next_root}: is newer than this workspace", hint="update the workspace before publishing")
    present = folder / TIMESTAMP_PATH
    if not present.exists():
        return
    data = disk.read(present)
    try:
        version = parse(data, Timestamp, file=str(present)).signed.version
    except VerificationError as error:
        raise InputError(error.message) from error
    if version > files.timestamp_version or (version == files.timestamp_version and data != files.timestamp):
        raise InputError(
            f"{present}: is version {version}, and this workspace's is {files.timestamp_version}: "
            f"somebody else has published",
            hint="update the workspace, then run kedge-repo online",
        )


def _write_immutable(folder: Path, files: Mapping[str, bytes]) -> list[str]:
    written: list[str] = []
    for path, data in files.items():
        try:
            disk.create(folder / path, data)
        except FileExistsError as error:
            if disk.read(folder / path) != data:
                raise InputError(f"{folder / path}: holds other bytes than this workspace") from error
        else:
            written.append(path)
    return written


def _write_timestamp(files: PublishedFiles, folder: Path) -> list[str]:
    present = folder / TIMESTAMP_PATH
    if present.exists() and disk.read(present) == files.timestamp:
        return []
    disk.replace(present, files.timestamp)
    return [TIMESTAMP_PATH]

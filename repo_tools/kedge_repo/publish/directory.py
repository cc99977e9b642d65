"""Publishing to a folder, which a web server, rsync or a USB stick then carries on.

The order is the guarantee: every immutable file first, create-only; ``timestamp.json`` last, by an atomic rename. Cut
off at any moment, the folder shows clients the old state or the new one, whole; running again completes it. A name that
is taken by other bytes is never overwritten, and a folder that is ahead of this workspace is left alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout
from tuf.api.metadata import Timestamp

from kedge.errors import InputError, StoreError, VerificationError
from kedge.metadata import parse
from kedge_repo import disk
from kedge_repo.publish.files import TIMESTAMP_PATH, PublishedFiles, collect_files
from kedge_repo.publish.replay import READERS, Reader, replay
from kedge_repo.workspace import LOCK_TIMEOUT_S, Workspace

__all__ = ["Published", "publish", "write_files"]

LOCK_FILE = ".kedge-publish.lock"


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What a publication came to: the files that are new in the folder, in the order in which they were written."""

    folder: Path
    written: tuple[str, ...]
    timestamp: int
    replayed: int


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
    destinations: Sequence[Path] = [folder] if folder is not None else _destinations(workspace)
    files = collect_files(workspace)
    count = replay(files, now=now, readers=readers)
    return tuple(write_files(files, destination, replayed=count) for destination in destinations)


def write_files(files: PublishedFiles, folder: Path, *, replayed: int = 0) -> Published:
    """Write ``files`` to ``folder``: immutable ones create-only, the timestamp last.

    Raises:
        InputError: the folder holds other bytes under an immutable name, or a newer timestamp.
        StoreError: the folder cannot be locked or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / LOCK_FILE, timeout=LOCK_TIMEOUT_S):
            _check_not_behind(files, folder)
            written = [path for path, data in files.immutable.items() if _create(folder, path, data)]
            if _write_timestamp(files, folder):
                written.append(TIMESTAMP_PATH)
    except Timeout as error:
        raise StoreError(f"{folder}: another publisher is writing here", hint="run the command again") from error
    except OSError as error:
        raise StoreError(f"{folder}: cannot be written: {(error.strerror or str(error)).lower()}") from error
    return Published(folder=folder, written=tuple(written), timestamp=files.timestamp_version, replayed=replayed)


def _destinations(workspace: Workspace) -> list[Path]:
    folders = [(workspace.root / destination.folder).resolve() for destination in workspace.policy().destinations]
    if not folders:
        raise InputError("kedge-repo.toml: destination: is missing", hint="name a folder: kedge-repo publish FOLDER")
    return folders


def _check_not_behind(files: PublishedFiles, folder: Path) -> None:
    """Compare before any write: a folder that somebody else is ahead in must not change at all."""
    for path, data in files.immutable.items():
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


def _create(folder: Path, path: str, data: bytes) -> bool:
    try:
        disk.create(folder / path, data)
    except FileExistsError as error:
        if disk.read(folder / path) != data:
            raise InputError(f"{folder / path}: holds other bytes than this workspace") from error
        return False
    return True


def _write_timestamp(files: PublishedFiles, folder: Path) -> bool:
    present = folder / TIMESTAMP_PATH
    if present.exists() and disk.read(present) == files.timestamp:
        return False
    disk.replace(present, files.timestamp)
    return True

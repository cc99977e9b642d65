"""Publishing a workspace: read back first, then written to a folder or to the policy's destinations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from kedge_repo.publish.destination import Destination
from kedge_repo.publish.files import PublishedFiles, collect_files
from kedge_repo.publish.folder import FolderDestination
from kedge_repo.publish.open import destinations_of
from kedge_repo.publish.replay import READERS, Reader, replay
from kedge_repo.publish.write import Published, write_to
from kedge_repo.workspace import Workspace

__all__ = ["Published", "publish", "publish_to", "write_files"]


def publish(
    workspace: Workspace, folder: Path | None = None, *, now: datetime, readers: Mapping[str, Reader] = READERS
) -> tuple[Published, ...]:
    """Publish to ``folder``, or to every destination of the policy, after readers have accepted it.

    Raises:
        InputError: there is nothing to publish, no destination, or the folder holds other bytes or a newer state.
        VerificationError: the metadata does not verify, or a reader refuses it.
        StoreError: a destination cannot be reached, locked or written.
    """
    destinations = [FolderDestination(folder=folder)] if folder is not None else destinations_of(workspace)
    return publish_to(workspace, destinations, now=now, readers=readers)


def publish_to(
    workspace: Workspace,
    destinations: Sequence[Destination],
    *,
    now: datetime,
    readers: Mapping[str, Reader] = READERS,
    dry_run: bool = False,
) -> tuple[Published, ...]:
    """Publish to every one of ``destinations``.

    Before anything is written, every reader replays the new metadata from every root ever published, as of ``now``.

    Raises:
        InputError: there is nothing to publish, or a destination holds other bytes or a newer state.
        VerificationError: the metadata does not verify, or a reader refuses it.
        StoreError: a destination cannot be reached, locked or written.
    """
    files = collect_files(workspace)
    count = replay(files, now=now, readers=readers)
    return tuple(write_to(place, files, now=now, replayed=count, dry_run=dry_run) for place in destinations)


def write_files(files: PublishedFiles, folder: Path, *, now: datetime) -> Published:
    """Write ``files`` to a folder, in the order of :mod:`kedge_repo.publish.write`.

    Raises:
        InputError: the folder holds other bytes under an immutable name, or a newer state.
        StoreError: the folder cannot be locked or written.
    """
    return write_to(FolderDestination(folder=folder), files, now=now)

"""The destinations that a policy or a command names."""

from __future__ import annotations

from pathlib import Path

from kedge.errors import InputError
from kedge_repo.policy import Destination as DestinationPolicy
from kedge_repo.publish.destination import Destination
from kedge_repo.publish.folder import FolderDestination
from kedge_repo.publish.objectstore import SCHEMES, ObjectStoreDestination
from kedge_repo.workspace import Workspace

__all__ = ["destination_at", "destinations_of"]


def destinations_of(workspace: Workspace) -> list[Destination]:
    """Every destination of the policy.

    Raises:
        InputError: there is none, or one cannot be opened.
    """
    found = [_opened(workspace, destination) for destination in workspace.policy().destinations]
    if not found:
        raise InputError("kedge-repo.toml: destination: is missing", hint="name a folder: kedge-repo publish FOLDER")
    return found


def destination_at(workspace: Workspace, text: str) -> Destination:
    """The destination that somebody names: a URL of an object store, with the policy's settings for it, or a folder.

    Raises:
        InputError: it cannot be opened.
    """
    for destination in workspace.policy().destinations:
        if destination.url is not None and destination.url.rstrip("/") == text.rstrip("/"):
            return _opened(workspace, destination)
    if text.partition("://")[0] in SCHEMES:
        return ObjectStoreDestination(text)
    if "://" in text:
        raise InputError(f"{text}: must be a folder, or begin with {', '.join(f'{scheme}://' for scheme in SCHEMES)}")
    return FolderDestination(folder=Path(text))


def _opened(workspace: Workspace, destination: DestinationPolicy) -> Destination:
    if destination.url is not None:
        return ObjectStoreDestination(destination.url, options=destination.options)
    return FolderDestination(folder=(workspace.root / (destination.folder or "")).resolve())

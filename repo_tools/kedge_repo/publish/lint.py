"""Compare the key documents of a workspace with those that are published."""

from __future__ import annotations

from dataclasses import replace

from kedge_repo.lint import DocumentChange, workspace_documents
from kedge_repo.publish.destination import Destination, Overlay
from kedge_repo.publish.replay import target_as_published
from kedge_repo.workspace import Workspace

__all__ = ["publication_changes"]


def publication_changes(workspace: Workspace, destination: Destination) -> tuple[DocumentChange, ...]:
    """The key documents of a workspace that differ from those that are published at ``destination``.

    Raises:
        InputError: the workspace, or the bytes of a target, cannot be read.
        StoreError: the destination cannot be reached or read.
    """
    signed, served = workspace.signed(), Overlay(destination, {})
    first = served.get("metadata/1.root.json")
    changes: list[DocumentChange] = []
    for change in workspace_documents(workspace, signed):
        found = target_as_published(served, first, change.document.path) if first is not None else None
        old = (found[0], found[1].custom) if found is not None else None
        if old is None or old != change.new:
            changes.append(replace(change, old=old))
    return tuple(changes)

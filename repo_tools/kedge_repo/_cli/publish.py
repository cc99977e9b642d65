"""``kedge-repo publish``: write the repository to a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kedge_repo._cli.lint import AcceptFindings, require_lint
from kedge_repo._cli.options import WorkspaceFolder, open_workspace, present
from kedge_repo._cli.output import answer, say
from kedge_repo.lint import publication_changes
from kedge_repo.publish.directory import destinations
from kedge_repo.publish.directory import publish as publish_workspace

__all__ = ["publish"]


def publish(
    destination: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="Where to (default: the policy's destinations).")
    ] = None,
    accept_lint_errors: AcceptFindings = False,
    folder: WorkspaceFolder = None,
) -> None:
    """Replay the metadata from every root ever published, then write it: the timestamp last."""
    workspace, now = open_workspace(folder), present()
    for place in [destination] if destination is not None else destinations(workspace):
        require_lint(publication_changes(workspace, place), now=now, accept_errors=accept_lint_errors)
    for published in publish_workspace(workspace, destination, now=now):
        say(f"read back {published.replayed} times, by kedge and by python-tuf, from every root")
        say(f"{published.folder}: timestamp version {published.timestamp}, {len(published.written)} new files")
        if published.gap:
            say("note: clients that read between the new root and the new timestamp were refused, and had to try again")
        answer(*(str(published.folder / path) for path in published.written))

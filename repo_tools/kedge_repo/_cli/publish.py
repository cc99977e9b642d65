"""``kedge-repo publish``: write the repository to a folder or an object store."""

from __future__ import annotations

from typing import Annotated

import typer

from kedge_repo._cli.lint import AcceptFindings, require_lint
from kedge_repo._cli.options import WorkspaceFolder, open_workspace, present
from kedge_repo._cli.output import answer, say
from kedge_repo.lint import publication_changes
from kedge_repo.publish.directory import publish_to
from kedge_repo.publish.open import destination_at, destinations_of

__all__ = ["publish"]


def publish(
    destination: Annotated[
        str | None, typer.Argument(metavar="[DIR|URL]", help="Where to (default: the policy's destinations).")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write nothing; print what would be written.")] = False,
    accept_lint_errors: AcceptFindings = False,
    folder: WorkspaceFolder = None,
) -> None:
    """Replay the metadata from every root ever published, then write it: the timestamp last."""
    workspace, now = open_workspace(folder), present()
    places = [destination_at(workspace, destination)] if destination else destinations_of(workspace)
    for place in places:
        require_lint(publication_changes(workspace, place), now=now, accept_errors=accept_lint_errors)
    done = publish_to(workspace, places, now=now, dry_run=dry_run)
    for place, published in zip(places, done, strict=True):
        say(f"read back {published.replayed} times, by kedge and by python-tuf, from every root")
        new = "files would be new" if dry_run else "new files"
        say(f"{published.where}: timestamp version {published.timestamp}, {len(published.written)} {new}")
        if published.gap:
            say("note: whoever reads between the new root and the new timestamp is refused, and has to try again")
        answer(*(place.place(path) for path in published.written))

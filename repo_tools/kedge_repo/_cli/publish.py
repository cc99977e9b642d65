"""``kedge-repo publish``: write the repository to a folder or an object store."""

from __future__ import annotations

from typing import Annotated

import typer

from kedge_repo._cli.lint import AcceptFindings, require_lint
from kedge_repo._cli.lint_policy import require_guarantees
from kedge_repo._cli.options import (
    AllowUnencrypted,
    PassphraseFd,
    WorkspaceFolder,
    open_workspace,
    passphrase_source,
    present,
    protection_of,
)
from kedge_repo._cli.output import answer, say
from kedge_repo.lint import publication_changes
from kedge_repo.logwriter import LogWriter
from kedge_repo.publish.directory import publish_to
from kedge_repo.publish.log import publish_log
from kedge_repo.publish.open import destination_at, destinations_of
from kedge_repo.signers import open_keyholders
from kedge_repo.witness import HttpPost

__all__ = ["publish"]


def publish(
    destination: Annotated[
        str | None, typer.Argument(metavar="[DIR|URL]", help="Where to (default: the policy's destinations).")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write nothing; print what would be written.")] = False,
    accept_lint_errors: AcceptFindings = False,
    passphrase_fd: PassphraseFd = None,
    unencrypted: AllowUnencrypted = False,
    folder: WorkspaceFolder = None,
) -> None:
    """Replay the metadata from every root ever published, then write it: the timestamp last.

    Where the policy names a log, it is written first, and witnesses sign it: that needs the log's key.
    """
    workspace, now = open_workspace(folder), present()
    places = [destination_at(workspace, destination)] if destination else destinations_of(workspace)
    for place in places:
        require_lint(publication_changes(workspace, place), now=now, accept_errors=accept_lint_errors)
    require_guarantees(workspace)
    wish = workspace.policy().log
    if wish is not None and not dry_run:
        secret, protection = passphrase_source(passphrase_fd), protection_of(unencrypted)
        (signer,) = open_keyholders(workspace, [wish.keyholder], secret, protection=protection)
        log = publish_log(workspace, LogWriter(workspace, wish.origin, signer), places, now=now, post=HttpPost())
        for fault in log.faults:
            say(f"warning: {fault}; the quorum signed without it")
        say(f"the log {wish.origin} is witnessed at size {log.size}")
    done = publish_to(workspace, places, now=now, dry_run=dry_run)
    for place, published in zip(places, done, strict=True):
        say(f"read back {published.replayed} times, by kedge and by python-tuf, from every root")
        new = "files would be new" if dry_run else "new files"
        say(f"{published.where}: timestamp version {published.timestamp}, {len(published.written)} {new}")
        if published.gap:
            say("note: whoever reads between the new root and the new timestamp is refused, and has to try again")
        answer(*(place.place(path) for path in published.written))

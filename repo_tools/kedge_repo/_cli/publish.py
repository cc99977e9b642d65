"""``kedge-repo publish``: write the repository to a folder or an object store, read it back, drop what is old."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, TypeAlias

import typer
from typer.core import TyperGroup

from kedge._cli import PLAIN
from kedge.errors import ExitCode
from kedge_repo._cli.lint import AcceptFindings, require_guarantees, require_lint
from kedge_repo._cli.options import (
    AllowUnencrypted,
    AsJson,
    PassphraseFd,
    WorkspaceFolder,
    answer,
    answer_json,
    open_workspace,
    passphrase_source,
    present,
    protection_of,
    say,
)
from kedge_repo.publish import (
    Destination,
    HttpPost,
    LogWriter,
    ReadBack,
    collect_files,
    destination_at,
    destinations_of,
    publication_changes,
    publish_log,
    publish_to,
    read_back,
)
from kedge_repo.publish import adopt as adopt_published
from kedge_repo.publish import prune_destination as prune_published
from kedge_repo.signing import KeyProtection, Passphrase, open_keyholders
from kedge_repo.workspace import Workspace


class _OrTo(TyperGroup):
    """Takes ``publish [DIR|URL]`` for ``publish to [DIR|URL]``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] not in ctx.help_option_names):
            args = ["to", *args]
        return super().parse_args(ctx, args)


MAX_SHOWN = 20

app = typer.Typer(
    **PLAIN,
    cls=_OrTo,
    help="Publish to a folder or an object store: publish [DIR|URL]; verify, adopt, prune what is there.",
)

Place: TypeAlias = Annotated[
    str | None, typer.Argument(metavar="[DIR|URL]", help="Where (default: the policy's destinations).")
]
DryRun: TypeAlias = Annotated[bool, typer.Option("--dry-run", help="Change nothing; print what would be changed.")]


@app.command("to")
def to(
    destination: Place = None,
    dry_run: DryRun = False,
    accept_lint_errors: AcceptFindings = False,
    passphrase_fd: PassphraseFd = None,
    unencrypted: AllowUnencrypted = False,
    folder: WorkspaceFolder = None,
) -> None:
    """Replay the metadata from every root ever published, then write it: the timestamp last.

    Where the policy names a log, it is written first, and witnesses sign it: that needs the log's key.
    """
    workspace, now = open_workspace(folder), present()
    places = _places(workspace, destination)
    for place in places:
        require_lint(publication_changes(workspace, place), now=now, accept_errors=accept_lint_errors)
    require_guarantees(workspace)
    if not dry_run:
        secret = passphrase_source(passphrase_fd)
        write_log(workspace, places, now=now, secret=secret, protection=protection_of(unencrypted))
    done = publish_to(workspace, places, now=now, dry_run=dry_run)
    for place, published in zip(places, done, strict=True):
        say(f"read back {published.replayed} times, by kedge and by python-tuf, from every root")
        new = "files would be new" if dry_run else "new files"
        say(f"{published.where}: timestamp version {published.timestamp}, {len(published.written)} {new}")
        if published.gap:
            say("note: whoever reads between the new root and the new timestamp is refused, and has to try again")
        _answer_places([place.place(path) for path in published.written])


@app.command("verify")
def verify(
    url: Annotated[str, typer.Argument(metavar="URL", help="Where clients read: the mirror's URL, or a folder.")],
    folder: WorkspaceFolder = None,
    as_json: AsJson = False,
) -> None:
    """Read back as a client does that knows the first root only; what is served must be what the workspace has."""
    found = read_back(collect_files(open_workspace(folder)), url)
    if as_json:
        answer_json(_table(found))
    else:
        say(*(f"{url}: {fault}" for fault in found.faults))
    if found.faults:
        raise typer.Exit(ExitCode.FAULTS)
    if not as_json:
        answer(f"{url}: root version {found.root}, timestamp version {found.timestamp}, as in the workspace")
        answer(f"{found.targets} targets downloaded, {found.lookups} looked up in bins")


@app.command("adopt")
def adopt(destination: Place = None, folder: WorkspaceFolder = None) -> None:
    """Take up the snapshot and timestamp that are published, where they are newer than the workspace's."""
    workspace = open_workspace(folder)
    for place in _places(workspace, destination):
        taken = adopt_published(workspace, place)
        answer(f"{place.name}: {'taken up' if taken else 'nothing newer'}")


@app.command("prune")
def prune(destination: Place = None, dry_run: DryRun = False, folder: WorkspaceFolder = None) -> None:
    """Drop old snapshots, and bins that only they name, once no timestamp that leads to them is valid."""
    workspace, now = open_workspace(folder), present()
    for place in _places(workspace, destination):
        dropped = prune_published(workspace, place, now=now, dry_run=dry_run)
        say(f"{place.name}: {len(dropped)} files {'would be ' if dry_run else ''}dropped")
        _answer_places([place.place(path) for path in dropped])


def _answer_places(places: Sequence[str]) -> None:
    # A program gets them all; a person who reads thousands of bins' names would look for the other lines in vain.
    if sys.stdout.isatty() and len(places) > MAX_SHOWN:
        answer(*places[:MAX_SHOWN], f"... and {len(places) - MAX_SHOWN} more")
    else:
        answer(*places)


def write_log(
    workspace: Workspace,
    places: Sequence[Destination],
    *,
    now: datetime,
    secret: Passphrase,
    protection: KeyProtection,
) -> None:
    """Bring the log that the policy names up to date at each of ``places``; without one there is nothing to do."""
    wish = workspace.policy().log
    if wish is None:
        return
    (signer,) = open_keyholders(workspace, [wish.keyholder], secret, protection=protection)
    log = publish_log(workspace, LogWriter(workspace, wish.origin, signer), places, now=now, post=HttpPost())
    for fault in log.faults:
        say(f"warning: {fault}; the quorum signed without it")
    say(f"the log {wish.origin} is witnessed at size {log.size}")


def _places(workspace: Workspace, destination: str | None) -> list[Destination]:
    return [destination_at(workspace, destination)] if destination is not None else destinations_of(workspace)


def _table(found: ReadBack) -> dict[str, Any]:
    return {
        "format": "kedge.read-back/1",
        "url": found.url,
        "root": found.root,
        "timestamp": found.timestamp,
        "targets": found.targets,
        "lookups": found.lookups,
        "faults": list(found.faults),
    }

"""``kedge-repo pub``: signed listings of a pub registry's packages."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from kedge._cli import PLAIN
from kedge.errors import ExitCode, InputError
from kedge.registries.pub import Pub
from kedge_repo._cli.options import (
    AllowUnencrypted,
    BinKeys,
    EventName,
    PassphraseFd,
    Reason,
    WorkspaceFolder,
    answer,
    bin_signers,
    open_workspace,
    present,
    say,
)
from kedge_repo.events import (
    Answers,
    Gathered,
    folder_answers,
    gather,
    has_bins,
    into_bins,
    into_event,
    read_names,
    web_answers,
)
from kedge_repo.workspace import Content, Workspace, read_file

MAX_NAMES_BYTES = 16_000_000

app = typer.Typer(**PLAIN, help="Signed listings of a pub registry (Dart, Flutter).", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keep ``sync`` a command of its own, though it is the only one."""


@app.command("sync")
def sync(
    role: Annotated[
        str, typer.Argument(metavar="ROLE", help="The role that signs the listings, or has bins for them.")
    ],
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="A folder of answers (NAME.json, api/packages/NAME), or a URL.")
    ],
    registry: Annotated[str, typer.Option(metavar="ID", help="The registry's id.")] = "pub/pub.dev",
    names: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="With a URL: the packages' names, one a line; - is stdin.", show_default=False
        ),
    ] = None,
    accept: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Take this package's answer, though it changes what was released (repeat)."),
    ] = None,
    key: BinKeys = None,
    event: EventName = None,
    reason: Reason = None,
    passphrase_fd: PassphraseFd = None,
    unencrypted: AllowUnencrypted = False,
    folder: WorkspaceFolder = None,
) -> None:
    """Turn a registry's answers into signed listings.

    In a role with hash bins, the bins that change are signed at once; in another, an event is opened for the role's
    keyholders. An answer that changes or hides a version that was signed before is not taken: exit status 5.
    """
    Pub().target_path(registry)
    workspace = open_workspace(folder)
    content = has_bins(workspace, role)
    if content is Content.ELSEWHERE:
        hint = "let the policy say workspace, for kedge-repo writes the listings itself"
        raise InputError(f'kedge-repo.toml: delegations.{role}.bins.content: is "elsewhere"', hint=hint)
    gathered = gather(workspace, registry, _answers(source, names), accepted=accept or ())
    for name, text in gathered.refused.items():
        say(f"refused: {name}: {text}")
    if gathered.without_digest:
        say(f"note: of {len(gathered.without_digest)} packages some version has no digest, and cannot be verified")
    say(f"{len(gathered.files)} listings, {len(gathered.changed)} of them new or changed")
    if content is not None:
        signers = bin_signers(workspace, role, key, passphrase_fd, unencrypted=unencrypted)
        made = into_bins(workspace, role, gathered, signers, now=present())
        if made.bins:
            say(f"{made.bins} bins signed; sign snapshot and timestamp with kedge-repo online")
        answer(str(made.bins))
    else:
        _into_event(workspace, role, gathered, event, reason)
    if gathered.refused:
        raise typer.Exit(ExitCode.FAULTS)


def _into_event(workspace: Workspace, role: str, gathered: Gathered, event: str | None, reason: str | None) -> None:
    if not gathered.changed:
        say(f"{role} has all of it already")
        return
    made = into_event(workspace, role, gathered, now=present(), event=event, reason=reason)
    say(*made.changes)
    answer(made.event.name)


def _answers(source: str, names: str | None) -> Answers:
    if "://" not in source:
        if names is not None:
            raise InputError("--names: is for a URL; a folder holds the names itself")
        return folder_answers(Path(source))
    if names is None:
        raise InputError(f"{source}: which packages?", hint="name them in a file: --names FILE")
    if names == "-":
        return web_answers(source, read_names(sys.stdin.buffer.read(MAX_NAMES_BYTES), file="stdin"))
    data = read_file(Path(names), what="file of names", max_bytes=MAX_NAMES_BYTES)
    return web_answers(source, read_names(data, file=names))

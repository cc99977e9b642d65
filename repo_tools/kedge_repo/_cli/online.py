"""``kedge-repo online``: sign snapshot and timestamp."""

from __future__ import annotations

from typing import Annotated

import typer

from kedge.document import format_time
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
from kedge_repo.online import online_keyholders, sign_online
from kedge_repo.signers import open_keyholders, open_signer

__all__ = ["online"]


def online(
    key: Annotated[
        list[str] | None,
        typer.Option("--key", metavar="URI", help="An online key (default: the locations that the policy has)."),
    ] = None,
    at_least: Annotated[
        int,
        typer.Option(
            "--at-least", metavar="N", min=1, max=999_999_999, help="The lowest version: above what a thief has taken."
        ),
    ] = 1,
    passphrase_fd: PassphraseFd = None,
    unencrypted: AllowUnencrypted = False,
    folder: WorkspaceFolder = None,
) -> None:
    """Sign a timestamp, and a snapshot where something changed, with the online keys."""
    workspace = open_workspace(folder)
    secret, protection = passphrase_source(passphrase_fd), protection_of(unencrypted)
    if key:
        signers = tuple(open_signer(uri, secret, protection=protection) for uri in key)
    else:
        signers = open_keyholders(workspace, online_keyholders(workspace), secret, protection=protection)
    made = sign_online(workspace, signers, now=present(), at_least=at_least)
    if made.bins:
        say(f"{made.bins} bins signed again")
    if made.bins_due:
        say(f"note: {made.bins_due} bins are to be signed again, and none of their keys was given")
    answer(
        f"snapshot version {made.snapshot} ({'new' if made.snapshot_is_new else 'kept'})",
        f"timestamp version {made.timestamp}, valid until {format_time(made.expires)}",
    )

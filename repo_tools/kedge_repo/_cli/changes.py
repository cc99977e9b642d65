"""What every command that changes something shares: its options, and what it prints."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, TypeAlias

import typer
from securesystemslib.signer import Key

from kedge.document import blame_user, parse_time
from kedge.errors import InputError
from kedge_repo import disk
from kedge_repo._cli.options import open_workspace, present
from kedge_repo._cli.output import answer, say
from kedge_repo.maintain import Wish
from kedge_repo.maintain import change as make_change
from kedge_repo.publickey import parse_public_key

__all__ = ["DropSignatures", "OnTop", "change", "moment", "read_public_key"]

DropSignatures: TypeAlias = Annotated[
    bool, typer.Option("--drop-signatures", help="Go on even if signatures that were collected are lost.")
]
OnTop: TypeAlias = Annotated[
    bool,
    typer.Option("--on-top", help="Where the event changes root already, make one more version and keep that one."),
]


def change(
    folder: Path | None,
    wish: Wish,
    *,
    event: str | None,
    reason: str | None,
    drop_signatures: bool,
    on_top: bool = False,
) -> None:
    """Make a change and print what it came to; the answer is the event's name.

    Raises:
        InputError: the change is not possible.
        StoreError: the workspace cannot be locked or written.
    """
    made = make_change(
        open_workspace(folder),
        wish,
        now=present(),
        event=event,
        reason=reason,
        drop_signatures=drop_signatures,
        on_top=on_top,
    )
    say(*made.changes)
    for role, keyholder in made.dropped:
        say(f"dropped: the signature of {keyholder} on {role}")
    if made.opened:
        say("opened a signing event")
    if not made.event.payloads:
        say("nothing has to be signed: merge it with kedge-repo event merge")
    answer(made.event.name)


def read_public_key(file: Path) -> Key:
    """The public key in ``file``.

    Raises:
        InputError: it cannot be read, or holds no public key.
    """
    data = disk.read(file, what="public key", max_bytes=100_000)
    with blame_user(str(file)):
        return parse_public_key(data)


def moment(text: str | None, option: str) -> datetime:
    """The time that ``text`` says (2025-01-27 or 2025-01-27T00:00:00Z); without a text the present.

    Raises:
        InputError: it is no time.
    """
    if text is None:
        return present()
    try:
        return parse_time(text if "T" in text else f"{text}T00:00:00Z")
    except ValueError as error:
        raise InputError(f"{option} {text}: must be a time such as 2025-01-27 or 2025-01-27T00:00:00Z") from error

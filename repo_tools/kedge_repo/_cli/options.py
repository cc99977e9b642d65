"""Options that several verbs share, and what they come to.

The keys of a role's hash bins, for the verbs that sign them at once.

Answers go to stdout, everything else to stderr; what a terminal would act on is escaped, whoever wrote it.

What every command that changes something shares: its options, and what it prints.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer
from securesystemslib.signer import Key, Signer

from kedge.documents import blame_user, parse_time
from kedge.errors import InputError, KedgeError
from kedge_repo.bins import require_bins
from kedge_repo.events import Change, Wish
from kedge_repo.events import change as make_change
from kedge_repo.signing import (
    KeyProtection,
    KeyRule,
    Passphrase,
    Sample,
    ask_passphrase,
    open_keyholders,
    open_signer,
    passphrase_from,
    read_sample,
)
from kedge_repo.workspace import POLICY_FILE, POLICY_FORMAT, Workspace, find_workspace, parse_public_key, read_file

WorkspaceFolder: TypeAlias = Annotated[
    Path | None,
    typer.Option("--workspace", "-w", metavar="DIR", help="The workspace (default: found upwards from here)."),
]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Answer with one JSON object.")]
AsOf: TypeAlias = Annotated[
    str | None, typer.Option("--as-of", metavar="TIME", help="Judge by this time, such as 2026-01-31T00:00:00Z.")
]
EventName: TypeAlias = Annotated[
    str | None, typer.Option("--event", metavar="NAME", help="The signing event, where several are open.")
]
Reason: TypeAlias = Annotated[
    str | None, typer.Option("--reason", metavar="TEXT", help="Why, for those who sign; kept in the event it opens.")
]
PassphraseFd: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--passphrase-fd", metavar="N", help="Read passphrases and PINs from this file descriptor, a line each."
    ),
]
SampleFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--sample", metavar="PACKUMENT", help="Count how many releases of this package stop verifying afterwards."
    ),
]
AcceptKeyFault: TypeAlias = Annotated[
    list[KeyRule] | None,
    typer.Option(
        "--accept-key-fault",
        metavar="RULE",
        help="Sign although this is wrong with the keys: keyid, material-changed, one-key-twice, online-key-in-root.",
    ),
]
AllowUnencrypted: TypeAlias = Annotated[
    bool,
    typer.Option("--allow-unencrypted-key-file", help="Use or make a private key file that is not encrypted."),
]


def judged_at(as_of: str | None) -> datetime:
    """The time that ``--as-of`` names, or the present.

    Raises:
        InputError: it is no time.
    """
    if as_of is None:
        return present()
    try:
        return parse_time(as_of)
    except ValueError as error:
        raise InputError(f"--as-of: {error}, not {as_of[:80]}") from error


def open_sample(file: Path | None) -> Sample | None:
    """The packument that ``--sample`` names.

    Raises:
        InputError: it cannot be read, or is no packument.
    """
    if file is None:
        return None
    data = read_file(file, what="packument")
    with blame_user(str(file)):
        return read_sample(data)


def open_workspace(folder: Path | None) -> Workspace:
    """The workspace that was named, or the one that the working folder stands in.

    Raises:
        InputError: there is none.
    """
    if folder is None:
        return find_workspace(Path())
    if not (folder / POLICY_FILE).is_file():
        raise InputError(f"{folder / POLICY_FILE}: there is no such file, expected a policy ({POLICY_FORMAT})")
    return Workspace(root=folder)


def passphrase_source(descriptor: int | None) -> Passphrase:
    """Where passphrases come from: a descriptor if one was named, else the terminal."""
    return ask_passphrase if descriptor is None else passphrase_from(descriptor)


def protection_of(allow_unencrypted: bool) -> KeyProtection:
    """What ``--allow-unencrypted-key-file`` means."""
    return KeyProtection.UNENCRYPTED_KEY_FILE_ALLOWED if allow_unencrypted else KeyProtection.ENCRYPTED


def present() -> datetime:
    """The present: the one place where the tool reads the system's clock."""
    return datetime.now(UTC)


BinKeys: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--key", metavar="URI", help="A key of the bins (default: the locations that the policy has)."),
]


def bin_signers(
    workspace: Workspace, role: str, keys: list[str] | None, passphrase_fd: int | None, *, unencrypted: bool
) -> tuple[Signer, ...]:
    """The signers that ``--key`` names, or those of the bins' keyholders.

    Raises:
        InputError: the role has no bins, or a key cannot be opened.
        FetchError: a key service could not be reached, or refused.
    """
    secret, protection = passphrase_source(passphrase_fd), protection_of(unencrypted)
    if keys:
        return tuple(open_signer(uri, secret, protection=protection) for uri in keys)
    delegation, _ = require_bins(workspace, role)
    return open_keyholders(workspace, delegation.policy.keyholders, secret, protection=protection)


def columns() -> int:
    """How wide the terminal is, or what ``COLUMNS`` says; 0 where there is neither, and nothing is to be wrapped."""
    return shutil.get_terminal_size(fallback=(0, 0)).columns


def answer(*lines: str) -> None:
    """Print lines of the answer."""
    for line in lines:
        print(_printable(line))


def answer_json(value: Mapping[str, Any]) -> None:
    """Print the answer as one JSON object."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def say(*lines: str) -> None:
    """Print what is not the answer."""
    for line in lines:
        print(_printable(line), file=sys.stderr)


def report(error: KedgeError) -> None:
    """Print an error and its hint."""
    say(f"kedge-repo: {error.message}")
    if error.hint is not None:
        say(f"hint: {error.hint}")


def table(rows: Iterable[tuple[str, ...]]) -> list[str]:
    """Align columns; the last is never padded."""
    rows = list(rows)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))] if rows else []
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _printable(line: str) -> str:
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in line)


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
    tell_others(made)
    if not made.event.payloads:
        say("nothing has to be signed: merge it with kedge-repo event merge")
    answer(made.event.name)


def tell_others(made: Change) -> None:
    """Say which other open events the change gets in the way of, and which can only be cancelled."""
    for name, role in made.rivals:
        say(f"note: event {name} changes {role} as well: once one of the two is merged, the other no longer fits")
    for name in made.stale:
        if name != made.event.name:
            say(f"note: event {name} no longer fits: discard it with kedge-repo event cancel --event {name} --yes")


def read_public_key(file: Path) -> Key:
    """The public key in ``file``.

    Raises:
        InputError: it cannot be read, or holds no public key.
    """
    data = read_file(file, what="public key", max_bytes=100_000)
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

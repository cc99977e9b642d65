"""Options that several verbs share, and what they come to."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from kedge.document import blame_user, parse_time
from kedge.errors import InputError
from kedge_repo import disk
from kedge_repo.keydiff import Sample, read_sample
from kedge_repo.policy import POLICY_FORMAT
from kedge_repo.signers import KeyProtection, Passphrase, ask_passphrase, passphrase_from
from kedge_repo.workspace import POLICY_FILE, Workspace, find_workspace

__all__ = [
    "AllowUnencrypted",
    "AsJson",
    "AsOf",
    "EventName",
    "PassphraseFd",
    "Reason",
    "SampleFile",
    "WorkspaceFolder",
    "judged_at",
    "open_sample",
    "open_workspace",
    "passphrase_source",
    "present",
    "protection_of",
]

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
    data = disk.read(file, what="packument")
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

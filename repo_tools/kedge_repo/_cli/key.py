"""``kedge-repo key``: list, make and rotate keys."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kedge.document import blame_user
from kedge_repo import disk, plan
from kedge_repo._cli.options import (
    AllowUnencrypted,
    AsJson,
    EventName,
    PassphraseFd,
    Reason,
    WorkspaceFolder,
    open_workspace,
    passphrase_source,
    present,
    protection_of,
)
from kedge_repo._cli.output import answer, answer_json, table
from kedge_repo._cli.target import DropSignatures, tell
from kedge_repo.maintain import change
from kedge_repo.publickey import parse_public_key
from kedge_repo.signers import Algorithm, ask_passphrase, asked_twice, new_key
from kedge_repo.status import HeldKey, key_list

__all__ = ["app"]

app = typer.Typer(help="List, make and rotate keys.", no_args_is_help=True)


@app.command("list")
def list_keys(folder: WorkspaceFolder = None, as_json: AsJson = False) -> None:
    """List the keyholders, their keys and their roles."""
    keys = key_list(open_workspace(folder))
    if as_json:
        answer_json({"format": "kedge.key-list/1", "keys": [_value(key) for key in keys]})
        return
    answer(*table((key.keyholder, key.algorithm, key.fingerprint[:16], ", ".join(key.roles)) for key in keys))


@app.command("new")
def new(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Where the private key goes; FILE.pub is the public one.")
    ],
    algorithm: Annotated[Algorithm, typer.Option("--algorithm", help="The kind of key.")] = Algorithm.ED25519,
    passphrase_fd: PassphraseFd = None,
    unencrypted: AllowUnencrypted = False,
) -> None:
    """Make a key file, encrypted with a passphrase."""
    ask = asked_twice(ask_passphrase) if passphrase_fd is None else passphrase_source(passphrase_fd)
    secret = None if unencrypted and passphrase_fd is None else ask(f"the new key {file}")
    answer(str(new_key(file, algorithm, secret, protection=protection_of(unencrypted))))


@app.command("rotate")
def rotate(
    keyholder: Annotated[str, typer.Argument(metavar="NAME", help="Whose key it is.")],
    file: Annotated[Path, typer.Argument(metavar="FILE.pub", help="The new public key, in PEM.")],
    event: EventName = None,
    reason: Reason = None,
    drop_signatures: DropSignatures = False,
    folder: WorkspaceFolder = None,
) -> None:
    """Replace a keyholder's key wherever it stands."""
    data = disk.read(file, what="public key", max_bytes=100_000)
    with blame_user(str(file)):
        key = parse_public_key(data)
    tell(
        change(
            open_workspace(folder),
            lambda view: plan.rotate_key(view, keyholder, key),
            now=present(),
            event=event,
            reason=reason,
            drop_signatures=drop_signatures,
        )
    )


def _value(key: HeldKey) -> dict[str, object]:
    value: dict[str, object] = {
        "keyholder": key.keyholder,
        "public": key.public,
        "algorithm": key.algorithm,
        "fingerprint": key.fingerprint,
        "keyid": key.keyid,
        "roles": list(key.roles),
    }
    return value if key.location is None else {**value, "location": key.location}

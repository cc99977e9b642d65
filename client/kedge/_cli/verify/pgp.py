"""``kedge verify pgp``: hold a file and its detached OpenPGP signature against a verified keyring."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kedge._cli.keys import speaking_anchor
from kedge._cli.options import AnchorName, Json, RequireRefresh, open_client, takes_mirrors
from kedge._cli.output import read_file
from kedge._cli.verify import basis_of, conclude
from kedge.errors import InputError
from kedge.registries import Checklist, KeyFormat
from kedge.registries.pgp import GOOD, MAX_SIGNATURE_BYTES, find_checker, verify_file


@takes_mirrors
def pgp(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What was signed.")],
    signature: Annotated[Path, typer.Argument(metavar="SIG", help="The detached signature: .asc, .sig or .gpg.")],
    registry: Annotated[
        str, typer.Option("--registry", "-r", metavar="ID", help="Whose keys: pgp/NAME, gradle/NAME or apt/NAME.")
    ],
    anchor: AnchorName = None,
    require_refresh: RequireRefresh = False,
    json: Json = False,
) -> None:
    """Verify a detached OpenPGP signature.

    At least one signature must be good, by a key of the registry that is neither revoked nor over, and none bad. Exit
    status 5: it is not verified.
    """
    if not file.is_file():
        raise InputError(f"{file}: there is no such file")
    data = read_file(signature, MAX_SIGNATURE_BYTES, what="signature")
    with open_client(speaking_anchor(registry, anchor), require_refresh=require_refresh) as client:
        keys, trust = client.registry_keys(registry), client.trust
    if any(key.format is not KeyFormat.OPENPGP for key in keys.keys):
        raise InputError(
            f"{registry}: its keys are no OpenPGP keys", hint="name one of pgp/NAME, gradle/NAME, apt/NAME"
        )
    check = verify_file(file, data, keys, find_checker())
    found = Checklist(
        kind="pgp",
        subject=str(file),
        things=("file", "files"),
        good=GOOD,
        items=(check,),
        basis=basis_of(keys, trust),
    )
    conclude(found, trust, everything=True, json=json)

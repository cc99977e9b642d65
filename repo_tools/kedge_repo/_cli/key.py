"""``kedge-repo key``: list, make, show, add, rotate and revoke keys, of keyholders and (``--registry``) registries."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from kedge._cli import PLAIN
from kedge.errors import InputError
from kedge_repo._cli.options import (
    AllowUnencrypted,
    AsJson,
    DropSignatures,
    EventName,
    OnTop,
    PassphraseFd,
    Reason,
    WorkspaceFolder,
    answer,
    answer_json,
    change,
    moment,
    open_workspace,
    passphrase_source,
    protection_of,
    read_public_key,
    say,
    table,
)
from kedge_repo.audit import HeldKey, key_list
from kedge_repo.events import (
    Plan,
    View,
    add_key,
    add_registry_key,
    revoke_key,
    revoke_registry_key,
    rotate_key,
    rotate_registry_key,
)
from kedge_repo.signing import Algorithm, ask_passphrase, asked_twice, new_key, open_signer
from kedge_repo.workspace import to_pem

app = typer.Typer(**PLAIN, help="List, make, show, add, rotate and revoke keys.", no_args_is_help=True)

_SHORT = 12

RegistryName: TypeAlias = Annotated[
    str | None,
    typer.Option("--registry", metavar="REGISTRY", help="It is a key of this registry, such as registry.npmjs.org."),
]
Location: TypeAlias = Annotated[
    str | None, typer.Option("--location", metavar="URI", help="Where the keyholder's machine finds the private key.")
]
NewKeyid: TypeAlias = Annotated[
    str | None,
    typer.Option("--keyid", metavar="ID", help="A registry's name for the key (default: its OpenSSH fingerprint)."),
]
From: TypeAlias = Annotated[
    str | None, typer.Option("--from", metavar="TIME", help="A registry's key: valid from (default: now).")
]


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
    if secret and len(secret.decode("utf-8", "replace")) < _SHORT:
        say(f"{file}: its passphrase has fewer than {_SHORT} characters: whoever copies the file can guess it")
    answer(str(new_key(file, algorithm, secret, protection=protection_of(unencrypted))))


@app.command("public")
def public(
    location: Annotated[
        str, typer.Argument(metavar="URI", help="A key: file:PATH, pkcs11:..., ssh-agent:KEY, awskms:...")
    ],
    passphrase_fd: PassphraseFd = None,
    unencrypted: AllowUnencrypted = False,
) -> None:
    """Print the public half of a key, in PEM: what a keyholder hands to the maintainers."""
    signer = open_signer(location, passphrase_source(passphrase_fd), protection=protection_of(unencrypted))
    answer(*to_pem(signer.public_key).decode().splitlines())


@app.command("add")
def add(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="The keyholder; with --registry, FILE.pub stands here.")
    ] = None,
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE.pub]", help="The public key of a keyholder who is new.")
    ] = None,
    role: Annotated[list[str] | None, typer.Option("--role", metavar="ROLE", help="A role that they sign.")] = None,
    location: Location = None,
    registry: RegistryName = None,
    keyid: NewKeyid = None,
    start: From = None,
    usage: Annotated[
        list[str] | None,
        typer.Option("--usage", metavar="USAGE", help="A registry's key: what for (default: as its other keys)."),
    ] = None,
    event: EventName = None,
    reason: Reason = None,
    drop_signatures: DropSignatures = False,
    on_top: OnTop = False,
    folder: WorkspaceFolder = None,
) -> None:
    """Add a keyholder to roles, or (--registry) a key to a registry's key document."""
    if name is None:
        raise InputError("key add: name the keyholder, or with --registry the file of the key")
    if registry is None:
        _only(registry, {"--keyid": keyid, "--from": start, "--usage": usage})
        key = None if file is None else read_public_key(file)

        def wish(view: View) -> Plan:
            return add_key(view, name, key, roles=role or [], location=location)
    else:
        _only(registry, {"--role": role, "--location": location, "a second argument": file})
        fresh, begin = read_public_key(Path(name)), moment(start, "--from")

        def wish(view: View) -> Plan:
            return add_registry_key(view, registry, fresh, keyid=keyid, start=begin, usages=usage or ())

    change(folder, wish, event=event, reason=reason, drop_signatures=drop_signatures, on_top=on_top)


@app.command("rotate")
def rotate(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose key it is; with --registry, the old keyid.")],
    file: Annotated[Path, typer.Argument(metavar="FILE.pub", help="The new public key.")],
    location: Location = None,
    registry: RegistryName = None,
    keyid: NewKeyid = None,
    start: From = None,
    until: Annotated[
        str | None,
        typer.Option("--until", metavar="TIME", help="A registry's old key: valid to (default: where the new begins)."),
    ] = None,
    event: EventName = None,
    reason: Reason = None,
    drop_signatures: DropSignatures = False,
    on_top: OnTop = False,
    folder: WorkspaceFolder = None,
) -> None:
    """Replace a keyholder's key wherever it stands, or (--registry) bring a registry's new key and end the old one."""
    key = read_public_key(file)
    if registry is None:
        _only(registry, {"--keyid": keyid, "--from": start, "--until": until})

        def wish(view: View) -> Plan:
            return rotate_key(view, name, key, location=location)
    else:
        _only(registry, {"--location": location})
        begin = moment(start, "--from")
        end = begin if until is None else moment(until, "--until")

        def wish(view: View) -> Plan:
            return rotate_registry_key(view, registry, name, key, keyid=keyid, start=begin, end=end)

    change(folder, wish, event=event, reason=reason, drop_signatures=drop_signatures, on_top=on_top)


@app.command("revoke")
def revoke(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose key it is; with --registry, the keyid.")],
    registry: RegistryName = None,
    event: EventName = None,
    reason: Reason = None,
    drop_signatures: DropSignatures = False,
    on_top: OnTop = False,
    folder: WorkspaceFolder = None,
) -> None:
    """Take a keyholder's key out of every role, or (--registry) revoke a registry's key: nothing it signed counts."""

    def wish(view: View) -> Plan:
        return revoke_key(view, name) if registry is None else revoke_registry_key(view, registry, name)

    change(folder, wish, event=event, reason=reason, drop_signatures=drop_signatures, on_top=on_top)


def _only(registry: str | None, options: dict[str, object]) -> None:
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise InputError(f"key: {given[0]} does not go {'without' if registry is None else 'with'} --registry")


def _value(key: HeldKey) -> dict[str, object]:
    return {
        "keyholder": key.keyholder,
        "public": key.public,
        "location": key.location,
        "algorithm": key.algorithm,
        "fingerprint": key.fingerprint,
        "keyid": key.keyid,
        "roles": list(key.roles),
    }

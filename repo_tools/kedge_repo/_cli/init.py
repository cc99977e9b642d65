"""``kedge-repo init``: begin a repository."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from kedge.errors import InputError
from kedge_repo import disk
from kedge_repo._cli.interview import Answers, ask_for
from kedge_repo._cli.options import present
from kedge_repo._cli.output import answer, say
from kedge_repo.catalogue import catalogue_entry
from kedge_repo.found import DEFAULT_EXPIRIES, DELEGATION_EXPIRY, Charter, Delegate, Expiry, found_repository

__all__ = ["init"]


def init(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="The workspace to make.")] = Path(),
    *,
    name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="What the repository is called.")] = None,
    keyholder: Annotated[
        list[str] | None,
        typer.Option("--keyholder", metavar="NAME=FILE.pub", help="A keyholder of root and targets; once for each."),
    ] = None,
    online: Annotated[
        list[str] | None,
        typer.Option("--online", metavar="NAME=FILE.pub", help="A key that signs snapshot and timestamp by itself."),
    ] = None,
    root_threshold: Annotated[
        int | None, typer.Option("--root-threshold", metavar="N", help="How many keyholders must sign root.")
    ] = None,
    targets_threshold: Annotated[
        int | None, typer.Option("--targets-threshold", metavar="N", help="How many keyholders must sign targets.")
    ] = None,
    delegate: Annotated[
        list[str] | None,
        typer.Option(
            "--delegate", metavar="ROLE=NAME[,NAME][/N]", help="Delegate ROLE/* to keyholders, N of whom must sign."
        ),
    ] = None,
    delegate_key: Annotated[
        list[str] | None,
        typer.Option("--delegate-key", metavar="NAME=FILE.pub", help="A keyholder who stands in delegations only."),
    ] = None,
    registry: Annotated[
        list[str] | None,
        typer.Option("--registry", metavar="REGISTRY", help="Begin with this registry's keys from the catalogue."),
    ] = None,
    location: Annotated[
        list[str] | None,
        typer.Option(
            "--location", metavar="NAME=URI", help="Where the private key of a keyholder is (file:PATH, pkcs11:...)."
        ),
    ] = None,
    expiry: Annotated[
        list[str] | None,
        typer.Option("--expiry", metavar="ROLE=DAYS/DAYS", help="How long a role's version lasts / is signed ahead."),
    ] = None,
    publish_to: Annotated[
        str | None, typer.Option("--publish-to", metavar="DIR", help="The folder that kedge-repo publish writes to.")
    ] = None,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why.")] = "first ceremony",
) -> None:
    """Begin a repository: write the policy and open the first ceremony, to be signed by the keyholders.

    Without any of --name, --keyholder, --online and the thresholds, on a terminal, it asks for them.
    """
    given = Answers(
        name=name,
        keyholders=keyholder or [],
        online=online or [],
        root_threshold=root_threshold,
        targets_threshold=targets_threshold,
        registries=registry or [],
        delegates=delegate or [],
        delegate_keys=delegate_key or [],
        destination=publish_to,
    )
    answers = ask_for(given) if given.is_blank and os.isatty(0) else given
    charter = Charter(
        **_required(answers),
        delegate_keys=_key_files(answers.delegate_keys, "--delegate-key"),
        delegates=tuple(_delegate(text) for text in answers.delegates),
        registries=tuple(catalogue_entry(item) for item in answers.registries),
        locations=_pairs(location or [], "--location", "NAME=URI"),
        expiries={role: _expiry(role, text) for role, text in _pairs(expiry or [], "--expiry", "ROLE=DAYS").items()},
        destination=answers.destination,
        reason=reason,
    )
    workspace, event = found_repository(folder, charter, now=present())
    for change in event.changes:
        say(change)
    say(f"event {event.name} is open: sign it with kedge-repo sign, or hand it over with kedge-repo event export")
    answer(str(workspace.root))


def _required(answers: Answers) -> dict[str, Any]:
    needed = {
        "--name": answers.name,
        "--keyholder": answers.keyholders,
        "--online": answers.online,
        "--root-threshold": answers.root_threshold,
        "--targets-threshold": answers.targets_threshold,
    }
    missing = [option for option, value in needed.items() if not value]
    if missing:
        raise InputError(f"init: needs {', '.join(missing)}", hint="on a terminal, kedge-repo init alone asks for them")
    return {
        "name": answers.name,
        "keyholders": _key_files(answers.keyholders, "--keyholder"),
        "online": _key_files(answers.online, "--online"),
        "root_threshold": answers.root_threshold,
        "targets_threshold": answers.targets_threshold,
    }


def _pairs(texts: list[str], option: str, form: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not (separator and name and value):
            raise InputError(f"{option} {text}: must be {form}")
        if name in found:
            raise InputError(f"{option} {text}: {name} stands there twice")
        found[name] = value
    return found


def _key_files(texts: list[str], option: str) -> dict[str, bytes]:
    pairs = _pairs(texts, option, "NAME=FILE.pub")
    return {name: disk.read(Path(file), what="public key", max_bytes=100_000) for name, file in pairs.items()}


def _delegate(text: str) -> Delegate:
    role, separator, rest = text.partition("=")
    names, _, threshold = rest.partition("/")
    if not (separator and role and names) or (threshold and not threshold.isdecimal()):
        raise InputError(f"--delegate {text}: must be ROLE=NAME[,NAME][/THRESHOLD]")
    return Delegate(role=role, keyholders=tuple(names.split(",")), threshold=int(threshold or 1))


def _expiry(role: str, text: str) -> Expiry:
    days, _, signing = text.partition("/")
    if not days.isdecimal() or (signing and not signing.isdecimal()):
        raise InputError(f"--expiry {role}={text}: must be ROLE=DAYS or ROLE=DAYS/SIGNING_DAYS")
    usual = DEFAULT_EXPIRIES.get(role, DELEGATION_EXPIRY)
    ahead = int(signing) if signing else int(days) * usual.signing_days // usual.expiry_days
    return Expiry(expiry_days=int(days), signing_days=ahead)

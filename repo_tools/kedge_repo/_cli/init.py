"""``kedge-repo init``: begin a repository.

What ``kedge-repo init`` asks on a terminal, where no flags were given: the same things, one after another.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from kedge.errors import InputError
from kedge_repo._cli.options import answer, present, say
from kedge_repo.events import (
    DEFAULT_EXPIRIES,
    DELEGATION_EXPIRY,
    Charter,
    Delegate,
    Expiry,
    check_is_new,
    found_repository,
)
from kedge_repo.workspace import catalogue_entry, catalogue_names, read_file


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What a repository begins with, as text: each field is what its flag takes."""

    name: str | None = None
    keyholders: list[str] = field(default_factory=list)
    online: list[str] = field(default_factory=list)
    root_threshold: int | None = None
    targets_threshold: int | None = None
    registries: list[str] = field(default_factory=list)
    delegates: list[str] = field(default_factory=list)
    delegate_keys: list[str] = field(default_factory=list)
    destination: str | None = None

    @property
    def is_blank(self) -> bool:
        """Whether none of what must be said was said."""
        return not (self.name or self.keyholders or self.online or self.root_threshold or self.targets_threshold)


def ask_for(given: Answers) -> Answers:
    """Ask on the terminal; what was given with flags (registries, delegations, a destination) is kept."""
    name = _ask("What is the repository called?")
    typer.echo("Who holds the keys of root and targets? An empty name ends the list.", err=True)
    keyholders = _ask_keys("keyholder", at_least=1)
    count = len(keyholders)
    usual = count // 2 + 1
    root = _ask_number(f"How many of the {count} must sign root?", usual, count)
    targets = _ask_number(f"How many of the {count} must sign targets?", usual, count)
    typer.echo("Which keys sign snapshot and timestamp by themselves? An empty name ends the list.", err=True)
    online = _ask_keys("online key", at_least=1)
    registries = [*given.registries, *_ask_registries(given.registries)]
    destination = given.destination or _ask("Which folder is published to? (empty: none yet)", empty=True)
    return replace(
        given,
        name=name,
        keyholders=keyholders,
        online=online,
        root_threshold=root,
        targets_threshold=targets,
        registries=registries,
        destination=destination or None,
    )


def _ask_registries(given: list[str]) -> list[str]:
    known = [name for name in catalogue_names() if name not in given]
    typer.echo(f"The catalogue has keys of: {', '.join(known)}", err=True)
    while True:
        named = _ask("With whose keys does it begin? (names, spaces between; empty: none)", empty=True).split()
        unknown = [name for name in named if name not in known]
        if not unknown:
            return list(dict.fromkeys(named))
        typer.echo(f"The catalogue has nothing of {', '.join(unknown)}.", err=True)


def _ask(question: str, *, empty: bool = False) -> str:
    text = ""
    while not text:
        text = str(typer.prompt(question, default="", show_default=False, err=True)).strip()
        if empty:
            break
    return text


def _ask_keys(what: str, *, at_least: int) -> list[str]:
    found: list[str] = []
    while True:
        name = _ask(f"Name of {what} {len(found) + 1}", empty=True)
        if not name:
            if len(found) >= at_least:
                return found
            continue
        file = _ask(f"File of the public key of {name}")
        while not Path(file).expanduser().is_file():
            file = _ask(f"There is no file {file}. File of the public key of {name}")
        found.append(f"{name}={Path(file).expanduser()}")


def _ask_number(question: str, usual: int, most: int) -> int:
    number = 0
    while not 1 <= number <= most:
        number = int(typer.prompt(question, default=usual, type=int, err=True))
    return number


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
    check_is_new(folder)
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
    return {name: read_file(Path(file), what="public key", max_bytes=100_000) for name, file in pairs.items()}


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

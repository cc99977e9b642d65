"""What ``kedge-repo init`` asks on a terminal, where no flags were given: the same things, one after another."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import typer

from kedge_repo.catalogue import catalogue_names

__all__ = ["Answers", "ask_for"]


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

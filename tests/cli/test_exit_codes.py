"""The table of exit codes in docs/reference/errors.md: every row is brought about, for every verb where it says so."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import pytest
from typer.main import get_command

from kedge._cli import run
from kedge._cli.app import application
from kedge._cli.options import project_lock, settings
from support.simulator import RepositorySimulator

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "errors.md"
ROWS = re.findall(r"^\| `(kedge [^`]+)` \| ([^|]+) \| (\d+) \|$", PAGE.read_text("utf-8"), re.MULTILINE)


class Place:
    """A user with empty folders, and a repository in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.repo = RepositorySimulator(now=datetime.now(UTC))
        self.repo.publish()
        self.publish()
        (folder / "root.json").write_bytes(self.repo.initial_root)
        (folder / "no.kedge").write_bytes(b"nonsense\n")
        mirror = ("--mirror", str(folder / "repo"), "--registry", "registry.example")
        assert run(["anchor", "add", "own", "--root", str(folder / "root.json"), *mirror]) == 0

    def publish(self) -> None:
        self.repo.write(self.folder / "repo")

    def away(self) -> None:
        assert run(["refresh"]) == 0
        (self.folder / "repo").rename(self.folder / "away")

    def never_there(self) -> None:
        (self.folder / "repo").rename(self.folder / "away")

    def unstorable(self) -> None:
        (self.folder / "state").write_bytes(b"in the way")

    def unreadable(self) -> None:
        assert run(["refresh"]) == 0
        for path in (self.folder / "state" / "own").glob("*.json*"):
            path.write_bytes(bytes(100))

    def forged(self) -> None:
        other = RepositorySimulator(now=datetime.now(UTC))
        self.repo.replace("metadata/timestamp.json", other.files["metadata/timestamp.json"])
        self.publish()

    def expired(self) -> None:
        with self.repo.edit("timestamp") as timestamp:
            timestamp.expires = datetime.now(UTC) - timedelta(days=1)
        self.publish()

    def expired_soon(self) -> None:
        # Kept while it was valid, by a record of its own: as --as-of keeps nothing, the state is made by the library.
        from kedge.client import TrustClient, load_anchor
        from support.clock import SettableClock

        anchor = load_anchor("own", self.folder / "config")
        self.expired()
        clock = SettableClock(datetime.now(UTC) - timedelta(days=2))
        with TrustClient(anchor, state=self.folder / "state" / "own", clock=clock) as client:
            client.refresh()


def nothing(_place: Place) -> None:
    """All is as it should be."""


BROUGHT_ABOUT: dict[str, Callable[[Place], None]] = {
    "everything is up to date and stored": nothing,
    "the repository cannot be reached; what is stored is valid": Place.away,
    "the repository cannot be reached": Place.never_there,
    "what is new cannot be stored": Place.unstorable,
    "what is stored is there and cannot be read": Place.unreadable,
    "what is served is not signed by the repository's keys": Place.forged,
    "the repository's metadata has expired": Place.expired,
    "what is stored has expired": Place.expired_soon,
    "the file is no bundle": nothing,
    "no trust anchor is configured for the registry": nothing,
    "nothing is stored yet": nothing,
    "the repository has no log": nothing,
    "there is nothing to mend": nothing,
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    for name in [name for name in os.environ if name.startswith("KEDGE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("KEDGE_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("KEDGE_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    settings.cache_clear()
    project_lock.cache_clear()
    yield Place(tmp_path)
    settings.cache_clear()
    project_lock.cache_clear()


def verbs(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every verb of the command line."""
    if hasattr(command, "list_commands"):
        context = click.Context(command)
        for name in command.list_commands(context):
            yield from verbs(command.get_command(context, name), (*path, name))
    else:
        yield path


@pytest.mark.parametrize(("command", "situation", "code"), ROWS)
def test_a_command_ends_as_the_table_says(command: str, situation: str, code: str, request: Any) -> None:
    if "VERB" in command:
        last = command.rsplit(maxsplit=1)[-1]
        found = list(verbs(get_command(application())))
        assert len(found) > 30
        assert {verb: run([*verb, last]) for verb in found if verb != ("corepack", "exec")} == {
            verb: int(code) for verb in found if verb != ("corepack", "exec")
        }
        return
    place: Place = request.getfixturevalue("place")
    BROUGHT_ABOUT[situation](place)
    registry = "registry.invalid" if "no trust anchor" in situation else "registry.example"
    arguments = command.replace("FILE", "no.kedge").replace("REGISTRY", registry).split()[1:]
    assert run(arguments) == int(code)


def test_the_table_has_rows() -> None:
    assert len(ROWS) >= 15

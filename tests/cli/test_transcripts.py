"""Whole transcripts: each file under ``transcripts`` is typed again, and every character must come out as it stands.

``$`` is a command, ``!`` a line of stderr, ``=`` an exit status that is not 0, all else is stdout. ``# text`` is
something that happens meanwhile: one of the functions below. ``<here>`` is the test's folder, ``<now>`` the present.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cli.conftest import NEW, OLD, World, key_document

TRANSCRIPTS = Path(__file__).with_name("transcripts")


def the_old_key_is_revoked(world: World) -> None:
    world.publish(key_document(NEW), custom={"kedge": {"v": 1, "revoked": [OLD[0]], "time_basis": "log-time"}})


def the_key_document_loses_a_field(world: World) -> None:
    document = json.loads(key_document(OLD, NEW))
    del document["keys"][1]["publicKey"]["rawBytes"]
    world.publish(json.dumps(document).encode())


def the_key_document_names_no_key(world: World) -> None:
    world.publish(key_document())


def the_mirror_changes_the_key_document(world: World) -> None:
    path = world.repo.path_of_target("registry.example/keys.json", key_document(OLD, NEW))
    world.repo.replace(path, key_document(OLD))
    world.publish()


def the_mirror_gives_back_what_was_signed(world: World) -> None:
    world.publish(key_document(OLD, NEW))


def the_mirror_is_gone(world: World) -> None:
    shutil.rmtree(world.folder)


def the_repository_was_abandoned_long_ago(world: World) -> None:
    world.repo.now = datetime(2024, 1, 1, tzinfo=UTC)
    with world.repo.edit("root"):
        pass
    world.publish(key_document(OLD, NEW))


def root_json_is_spoilt(world: World) -> None:
    document = json.loads(world.repo.initial_root)
    document["signed"]["roles"]["root"]["threshold"] = 0
    (world.folder.parent / "root.json").write_text(json.dumps(document))


def anchor_toml_is_spoilt(world: World) -> None:
    path = world.shell.config / "anchors" / "repo" / "anchor.toml"
    path.write_text(path.read_text().replace("url =", "uri ="))


EVENTS: dict[str, Callable[[World], None]] = {
    function.__name__.replace("_", " "): function
    for function in (
        the_old_key_is_revoked,
        the_key_document_loses_a_field,
        the_key_document_names_no_key,
        the_mirror_changes_the_key_document,
        the_mirror_gives_back_what_was_signed,
        the_mirror_is_gone,
        the_repository_was_abandoned_long_ago,
        root_json_is_spoilt,
        anchor_toml_is_spoilt,
    )
}


@pytest.mark.parametrize("path", sorted(TRANSCRIPTS.glob("*.txt")), ids=lambda path: path.stem)
def test_every_command_says_what_its_transcript_says(path: Path, world: World) -> None:
    expected = path.read_text()
    said: list[str] = []
    for line in expected.splitlines():
        if line.startswith("$ "):
            said.append(world.shell.typed(line.removeprefix("$ ")))
        elif line.startswith("# "):
            EVENTS[line.removeprefix("# ")](world)
            said.append(f"{line}\n")
    assert "".join(said) == expected


def test_every_event_stands_in_a_transcript() -> None:
    used = "".join(path.read_text() for path in TRANSCRIPTS.glob("*.txt"))
    assert [name for name in EVENTS if f"# {name}\n" not in used] == []

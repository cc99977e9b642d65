"""``kedge history`` as a process: from bundles, a copy, and a state that keeps everything."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cli.conftest import NEW, OLD, World, key_document

REGISTRY = "registry.example"


@pytest.fixture
def bundles(world: World, tmp_path: Path) -> Path:
    """Two bundles, of a day with the old key and of a later one with the new key."""
    folder = tmp_path / "bundles"
    folder.mkdir()
    world.add_anchor("repo", "--keep-history")
    begin = datetime.now(UTC).replace(microsecond=0) - timedelta(days=20)
    for number, keys in enumerate(((OLD,), (NEW,))):
        world.repo.add_target("registry.example/keys.json", key_document(*keys))
        world.repo.publish()
        with world.repo.edit("timestamp") as timestamp:
            made = begin + timedelta(days=10 * number)
            timestamp.unrecognized_fields["x-kedge-issued"] = made.strftime("%Y-%m-%dT%H:%M:%SZ")
        world.publish()
        done = world.shell.run("bundle", "create", folder / f"{number}.kedge")
        assert done.code == 0, done.err
    return folder


def test_a_day_is_answered_and_two_days_are_compared(world: World, bundles: Path) -> None:
    now = datetime.now(UTC)
    then, today = ((now - timedelta(days=days)).strftime("%Y-%m-%d") for days in (15, 1))
    for more in (("--from", bundles), ()):  # without a place, the state answers
        done = world.shell.run("history", "--at", then, *more)
        assert (done.code, done.err) == (0, "")
        assert f"retired  {OLD[0]} npm:signatures; allowed since " in done.out
        assert NEW[0] not in done.out
        assert "(signed), by targets version " in done.out
    compared = world.shell.run("history", "diff", then, today, "--from", bundles)
    assert compared.code == 0
    assert f"registry.example key {OLD[0]} for npm:signatures" in compared.out
    windows = world.shell.run("history", "keys", REGISTRY, "--from", bundles)
    assert windows.out.startswith("registry.example: 2 entries\n")
    assert "dropped since " in windows.out
    listed = json.loads(world.shell.run("history", "--json").out)
    assert len(listed["moments"]) == 2


def test_what_has_no_history_says_so(world: World) -> None:
    world.add_anchor()
    for arguments, text in (
        ((), "keeps no history"),
        (("--from", "nowhere"), "nowhere: there is no such folder"),
        (("--at", "yesterday"), "keeps no history"),
    ):
        done = world.shell.run("history", *arguments)
        assert (done.code, done.out) == (2, "")
        assert text in done.err
    done = world.shell.run("history", "--from", world.folder, "--at", "yesterday")
    assert "must be a time such as" in done.err
    assert world.shell.run("history", "--from", world.folder).code == 0

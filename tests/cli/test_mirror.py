"""``kedge mirror``: a copy that is made, made again, served, and used as a mirror."""

from __future__ import annotations

import json
import signal
import urllib.request
from pathlib import Path

from cli.conftest import World


def test_a_copy_is_made_and_made_again_and_is_a_mirror(world: World, tmp_path: Path) -> None:
    world.add_anchor()
    made = world.shell.run("mirror", "sync", tmp_path / "copy")
    assert (made.code, made.err) == (0, "")
    assert made.out.startswith(f"{tmp_path}/copy\n  targets      1 (1 fetched now, ")
    world.repo.add_target("more.json", b"1")
    world.publish(b'{"keys": []}')
    again = world.shell.run("mirror", "sync", tmp_path / "copy", "--registry", "registry.example", "--json")
    answer = json.loads(again.out)
    assert (answer["targets"], answer["fetched"], answer["first_root"]) == (1, 1, 1)
    (world.folder / "metadata" / "timestamp.json").unlink()
    refreshed = world.shell.run("refresh", "--mirror", tmp_path / "copy")
    assert (refreshed.code, refreshed.err) == (0, "")


def test_a_copy_is_served_until_interrupted(world: World, tmp_path: Path) -> None:
    world.add_anchor()
    with world.shell.start("mirror", "sync", tmp_path / "copy", "--serve", "--json") as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        url = line.rpartition(" ")[2].strip()
        with urllib.request.urlopen(f"{url}/metadata/timestamp.json", timeout=10) as answer:
            assert answer.read() == world.repo.files["metadata/timestamp.json"]
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 130
        assert process.stdout is not None
        assert json.loads(process.stdout.read())["targets"] == 1


def test_what_cannot_be_copied_or_served_is_said_in_one_line(world: World, tmp_path: Path) -> None:
    world.add_anchor()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis").write_text("")
    for arguments, text in (
        (("sync", tmp_path / "full"), "holds files already"),
        (("serve", tmp_path / "nowhere"), "there is no such folder"),
    ):
        done = world.shell.run("mirror", *arguments)
        assert (done.code, done.out) == (2, "")
        assert text in done.err


def test_a_bundle_becomes_a_copy_that_other_clients_can_use(world: World, tmp_path: Path) -> None:
    world.add_anchor()
    world.repo.add_target("more.json", b"1")
    world.repo.delegate("elsewhere", paths=["elsewhere/*"])
    world.publish(b'{"keys": []}')
    assert world.shell.run("bundle", "create", tmp_path / "x.kedge").code == 0
    made = world.shell.run("mirror", "sync", tmp_path / "copy", "--mirror", tmp_path / "x.kedge", "--json")
    assert made.code == 0, made.err
    assert json.loads(made.out)["targets"] == 1
    names = {path.name for path in (tmp_path / "copy").rglob("*.json")}
    assert {"1.root.json", "timestamp.json"} <= names
    assert not [name for name in names if "elsewhere" in name or "more" in name]
    refreshed = world.shell.run("refresh", "--mirror", tmp_path / "copy")
    assert (refreshed.code, refreshed.err) == (0, "")

"""``kedge bundle``, and ``--mirror`` wherever a repository is asked: as processes, each with folders of its own."""

from __future__ import annotations

import importlib.util
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cli.conftest import World
from cli.shell import Shell
from conftest import Require
from kedge.client import anchor as anchors
from kedge.client.anchor import Anchor
from kedge.client.client import TrustClient
from kedge.mirror.bundle import make_bundle, to_frames
from kedge.transport.mirror import Mirror


def add_anchor(shell: Shell, world: World, mirror: Path, *, name: str = "repo", metadata: str = "metadata") -> None:
    """As ``kedge anchor add`` does, without a process."""
    anchor = Anchor(
        name=name,
        initial_root=world.repo.initial_root,
        mirrors=(Mirror(url=str(mirror), metadata=metadata),),
        registries=("registry.example",),
    )
    anchors.add_anchor(anchor, shell.config)


@pytest.fixture
def inside(tmp_path: Path, world: World) -> Shell:
    """A user behind the gap, whose anchor's mirror is out of reach."""
    folder = tmp_path / "inside"
    folder.mkdir()
    shell = Shell(folder=folder)
    add_anchor(world.shell, world, world.folder)
    add_anchor(shell, world, folder / "gone")
    return shell


@pytest.fixture
def bundle(world: World, inside: Shell) -> Path:
    """A bundle that was made outside and carried in."""
    anchor = anchors.load_anchor("repo", world.shell.config)
    path = inside.folder / "out.kedge"
    with TrustClient(anchor, state=world.shell.state / "repo") as client:
        path.write_bytes(make_bundle(client, ["registry.example/keys.json"]))
    return path


def test_a_bundle_that_was_applied_answers_where_nothing_else_can(bundle: Path, inside: Shell) -> None:
    assert inside.run("keys", "show", "registry.example").code == 1
    assert inside.run("bundle", "verify", bundle).code == 0
    assert inside.run("keys", "show", "registry.example").code == 1
    applied = inside.run("bundle", "apply", bundle)
    assert (applied.code, applied.err) == (0, "")
    shown = inside.run("keys", "show", "registry.example", "--json")
    assert shown.code == 0
    (entry,) = json.loads(shown.out)["registries"]
    assert entry["trust"]["source"] == str(bundle)


@pytest.mark.parametrize(
    "arguments",
    [
        "refresh",
        "keys show registry.example",
        "keys list",
        "keys export npm-endpoint registry.example",
        "lock",
    ],
)
def test_a_bundle_is_a_mirror_for_every_command_that_asks_one(bundle: Path, inside: Shell, arguments: str) -> None:
    done = inside.run(*arguments.split(), "--mirror", bundle)
    assert (done.code, done.err.count("warning")) == (0, 0), done.err


def test_a_lockfile_is_verified_with_keys_from_a_bundle(bundle: Path, inside: Shell) -> None:
    (inside.folder / "package-lock.json").write_text('{"lockfileVersion": 3, "packages": {}}')
    npm = ("verify", "npm", "--registry", "http://127.0.0.1:9", "--upstream", "registry.example")
    assert inside.run(*npm, "--mirror", bundle).code == 0


def test_a_mirror_that_is_named_is_asked_in_the_anchors_layout(world: World, tmp_path: Path) -> None:
    (tmp_path / "flat").mkdir()
    for path in (world.folder / "metadata").iterdir():
        (tmp_path / "flat" / path.name).write_bytes(path.read_bytes())
    (world.folder / "targets").rename(tmp_path / "flat" / "targets")
    add_anchor(world.shell, world, tmp_path / "nowhere", metadata="")
    done = world.shell.run("keys", "show", "registry.example", "--mirror", tmp_path / "flat")
    assert done.code == 0, done.err


def test_a_mirror_is_of_one_repository(world: World) -> None:
    for name in ("one", "two"):
        add_anchor(world.shell, world, world.folder, name=name)
    done = world.shell.run("refresh", "--mirror", world.folder)
    assert done.code == 2
    assert done.err == (
        "kedge: --mirror is for one repository, not for one and two\nhint: name its anchor with --anchor\n"
    )
    assert world.shell.run("refresh", "--anchor", "two", "--mirror", world.folder).code == 0


def test_a_mirror_that_is_not_there_is_said(world: World) -> None:
    add_anchor(world.shell, world, world.folder)
    for place, kind in (("nowhere", "folder"), ("nowhere.kedge", "bundle")):
        done = world.shell.run("refresh", "--mirror", place)
        assert (done.code, done.out) == (2, "")
        assert done.err.startswith(f"kedge: {place}: there is no such {kind}\n")


def test_an_anchor_may_lead_to_a_bundle(bundle: Path, inside: Shell, tmp_path: Path) -> None:
    # The fixture of the world has put the initial root there.
    added = inside.run("anchor", "add", "carried", "--root", tmp_path / "root.json", "--mirror", bundle)
    assert added.code == 0, added.err
    assert inside.run("refresh", "--anchor", "carried").code == 0


def test_a_delta_is_made_since_a_bundle_and_since_a_state(world: World, bundle: Path, inside: Shell) -> None:
    assert inside.run("bundle", "apply", bundle).code == 0
    world.repo.now = datetime(2098, 1, 1, 6, tzinfo=UTC)
    world.publish(b'{"keys": []}')
    delta, other = inside.folder / "delta.kedge", inside.folder / "other.kedge"
    for since, file in ((bundle, delta), (inside.state / "repo", other)):
        made = world.shell.run("bundle", "create", file, "--since", since, "--json")
        assert made.code == 0, made.err
        assert json.loads(made.out)["carries"]["targets"] == ["registry.example/keys.json"]
    assert inside.run("bundle", "apply", delta).code == 0
    assert inside.run("bundle", "apply", other).code == 0
    refused = inside.run("bundle", "apply", bundle)
    assert (refused.code, refused.out) == (3, "")
    assert refused.err.startswith("kedge: timestamp.json: rollback of timestamp to version ")


def test_a_bundle_is_named_as_one_and_nothing_is_written_where_it_cannot_be_made(world: World, tmp_path: Path) -> None:
    add_anchor(world.shell, world, world.folder)
    done = world.shell.run("bundle", "create", tmp_path / "bundle.zip")
    assert (done.code, done.out) == (2, "")
    assert "a bundle's name ends in .kedge" in done.err
    (world.folder / "metadata" / "timestamp.json").write_text("{}")
    done = world.shell.run("bundle", "create", tmp_path / "out.kedge")
    assert (done.code, done.out) == (3, "")
    assert not (tmp_path / "out.kedge").exists()


def test_a_file_that_cannot_be_read_is_the_users(inside: Shell) -> None:
    for verb in ("inspect", "verify", "apply"):
        done = inside.run("bundle", verb, "nowhere.kedge")
        assert (done.code, done.out) == (2, "")
        assert done.err == "kedge: nowhere.kedge: cannot be read: no such file or directory\n"


def test_every_target_or_those_that_are_named_are_carried(world: World, bundle: Path) -> None:
    assert bundle.is_file()
    world.repo.add_target("more/data.json", b"1")
    world.publish(b'{"keys": []}')
    keys = "registry.example/keys.json"
    for options, carried in (
        ((), [keys]),
        (("--target", "more/data.json"), ["more/data.json", keys]),
        (("--registry", "registry.example"), [keys]),
        (("--all-targets",), ["more/data.json", keys]),
    ):
        done = world.shell.run("bundle", "create", bundle, *options, "--json")
        assert done.code == 0, done.err
        assert [target["path"] for target in json.loads(done.out)["targets"]] == carried


def test_a_bundle_crosses_as_qr_codes(world: World, bundle: Path, inside: Shell, require: Require) -> None:
    require(importlib.util.find_spec("segno"), "segno is not installed: pip install '.[qr]'")
    drawn = world.shell.run("bundle", "create", bundle, "--qr", inside.folder / "code.svg")
    assert drawn.code == 0, drawn.err
    images = sorted(inside.folder.glob("code*.svg"))
    assert len(images) > 1
    assert drawn.err.splitlines() == [f"kedge: wrote {path}" for path in images]
    shown = world.shell.run("bundle", "create", bundle, "--qr", "-")
    assert shown.out.startswith(f"1 of {len(images)}\n")
    text = inside.folder / "read.txt"
    text.write_text("\n".join(reversed(to_frames(bundle.read_bytes()))))
    again = inside.folder / "again.kedge"
    assert inside.run("bundle", "from-qr-text", again, text).code == 0
    assert again.read_bytes() == bundle.read_bytes()
    assert inside.run("bundle", "apply", again).code == 0


def test_codes_that_cannot_be_drawn_or_read_are_said(world: World, bundle: Path, inside: Shell) -> None:
    for options, text in (
        (("--qr", "code.jpg"), "QR codes are written as .png or .svg"),
        (("--qr", "-", "--json"), "both want stdout"),
    ):
        done = world.shell.run("bundle", "create", bundle, *options)
        assert (done.code, done.out) == (2, "")
        assert text in done.err
    (inside.folder / "read.txt").write_text(to_frames(bundle.read_bytes())[0])
    done = inside.run("bundle", "from-qr-text", "again.kedge", "read.txt")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("kedge: read.txt: lacks frame 2")
    assert not (inside.folder / "again.kedge").exists()
    assert inside.run("bundle", "from-qr-text", "again.kedge", "nowhere.txt").code == 2

"""What the process does beside printing: exit statuses, interruption, other packages' commands, what it leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from threading import Event

import pytest

from cli.conftest import NEW, OLD, World, key_document
from cli.shell import Shell
from kedge.errors import extra_hint
from support.server import Exchange, HostileServer

HELPS = [(), ("-h",), ("--help",)]


@pytest.mark.parametrize("arguments", HELPS)
def test_kedge_alone_says_what_to_do_next(shell: Shell, arguments: tuple[str, ...]) -> None:
    done = shell.run(*arguments)
    assert done.code == 0
    assert "kedge keys show registry.npmjs.org" in done.out
    assert "kedge anchor add NAME --root root.json" in done.out
    assert shell.files() == {}


@pytest.mark.parametrize("group", ["keys", "anchor"])
def test_a_group_alone_lists_its_commands(shell: Shell, group: str) -> None:
    done = shell.run(group)
    assert (done.code, done.err) == (0, "")
    assert "  show " in done.out


@pytest.mark.parametrize(
    "arguments",
    [
        ("no-such-command",),
        ("refresh", "--no-such-option"),
        ("keys", "show"),
        ("status", "--as-of", "2025-01-27"),
        ("anchor", "add", "repo"),
    ],
)
def test_wrong_usage_is_said_on_stderr_alone(shell: Shell, arguments: tuple[str, ...]) -> None:
    done = shell.run(*arguments)
    assert (done.code, done.out) == (2, "")
    assert "Error: " in done.err
    assert "Traceback" not in done.err
    assert shell.files() == {}


def test_the_version_is_said(shell: Shell) -> None:
    done = shell.run("--version")
    assert (done.code, done.out.split()[0], done.err) == (0, "kedge", "")


def test_without_the_extra_one_line_says_how_to_get_it(shell: Shell) -> None:
    code = "import sys; sys.modules['typer'] = None; from kedge.__main__ import main; sys.exit(main())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=shell.environment())
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"kedge: the command line is not installed\nhint: {extra_hint('cli')}\n"


def test_faults_of_the_users_files_leave_nothing_behind(world: World) -> None:
    (world.folder.parent / "root.json").write_text("{}")
    root = world.folder.parent / "root.json"
    assert world.shell.run("anchor", "add", "repo", "--root", root, "--mirror", world.folder).code == 2
    assert world.shell.files() == {}


def test_an_answer_for_another_time_leaves_nothing_behind(world: World) -> None:
    world.add_anchor()
    before = world.shell.files()
    assert world.shell.run("keys", "show", "registry.example", "--as-of", "2097-01-01").code == 0
    assert world.shell.run("refresh", "--as-of", "2097-01-01").code == 0
    assert world.shell.files() == before


def test_nothing_of_a_refused_key_document_is_kept(world: World) -> None:
    world.add_anchor()
    spoilt = key_document(NEW)
    world.repo.replace(world.repo.path_of_target("registry.example/keys.json", key_document(OLD, NEW)), spoilt)
    world.publish()
    done = world.shell.run("keys", "show", "registry.example")
    assert (done.code, done.out) == (3, "")
    assert spoilt not in world.shell.files().values()


def test_a_timestamp_that_is_not_signed_is_refused_in_one_line(world: World) -> None:
    world.add_anchor()
    with world.repo.tamper("metadata/timestamp.json") as timestamp:
        timestamp["signed"]["version"] = 9
    world.publish()
    done = world.shell.run("refresh", "--json")
    assert (done.code, done.out) == (3, "")
    assert done.err.startswith("kedge: timestamp.json: ")


def test_two_anchors_for_one_registry_are_the_users_to_choose_from(world: World) -> None:
    world.add_anchor("one")
    world.add_anchor("two")
    done = world.shell.run("keys", "show", "registry.example")
    assert (done.code, done.out) == (2, "")
    assert done.err == (
        "kedge: registry.example: the anchors one and two both speak for it\nhint: choose one with --anchor NAME\n"
    )
    assert world.shell.run("keys", "show", "registry.example", "--anchor", "two").code == 0


def test_an_added_anchor_goes_before_the_one_that_ships(world: World) -> None:
    world.repo.add_target("registry.npmjs.org/keys.json", key_document(NEW))
    world.repo.publish()
    world.publish()
    world.add_anchor("mine", "--registry", "registry.npmjs.org")
    done = world.shell.run("keys", "show", "registry.npmjs.org", "--json")
    assert done.code == 0
    assert json.loads(done.out)["registries"][0]["trust"]["anchor"] == "mine"


def test_of_several_faults_the_gravest_gives_the_exit_status(world: World) -> None:
    world.add_anchor("good")
    world.add_anchor("gone")
    toml = world.shell.config / "anchors" / "gone" / "anchor.toml"
    toml.write_text(toml.read_text().replace(str(world.folder), str(world.folder / "gone")))
    assert world.shell.run("refresh", "--anchor", "gone").code == 1
    world.repo.replace("metadata/2.snapshot.json", b"{}")
    world.publish()
    done = world.shell.run("refresh", "--json")
    assert (done.code, done.out) == (3, "")
    assert [line.split(":")[0] for line in done.err.splitlines() if line.startswith("kedge")] == ["kedge", "kedge"]
    assert "there is no such folder" in done.err.splitlines()[0]
    assert "2.snapshot.json" in done.err


def test_several_anchors_are_refreshed_in_one_go(world: World) -> None:
    world.add_anchor("one")
    world.add_anchor("two")
    done = world.shell.run("refresh", "--json")
    assert done.code == 0
    answers = json.loads(done.out)["anchors"]
    assert [(trust["anchor"], trust["refreshed"]) for trust in answers] == [("one", True), ("two", True)]


def test_ctrl_c_ends_with_130_and_leaves_no_partial_file(world: World) -> None:
    with HostileServer(world.folder) as server:
        asked = Event()

        def silence(exchange: Exchange) -> None:
            asked.set()
            exchange.wait(60)

        server.misbehave("metadata/2.snapshot.json", silence)
        root = world.folder.parent / "root.json"
        assert world.shell.run("anchor", "add", "repo", "--root", root, "--mirror", server.url).code == 0
        with world.shell.start("refresh") as process:
            assert asked.wait(30)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30)
        assert (process.returncode, out, err) == (130, "", "kedge: interrupted\n")
        assert [path for path in world.shell.files() if Path(path).name.startswith(".")] == []
        server.behave()
        assert world.shell.run("refresh").code == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_behind_stdout_is_one_line(world: World) -> None:
    world.add_anchor()
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            world.shell.command("keys", "list"),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=world.shell.environment(),
        )
    assert (done.returncode, done.stderr) == (1, "kedge: stdout cannot be written: no space left on device\n")


def test_a_reader_that_went_away_is_no_traceback(world: World) -> None:
    world.add_anchor()
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        world.shell.command("keys", "list"),
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        env=world.shell.environment(),
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


def with_commands(folder: Path, commands: dict[str, str]) -> dict[str, str]:
    """The environment of a machine on which a package ``plug`` is installed that offers these commands."""
    about = folder / "plug-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: plug\nVersion: 1.0\n")
    lines = [f"{name} = {value}" for name, value in commands.items()]
    (about / "entry_points.txt").write_text("\n".join(["[kedge.commands]", *lines, ""]))
    (folder / "plug.py").write_text(
        'def hello(name: str = "you", loud: bool = False) -> None:\n'
        '    """Greet."""\n'
        '    print(f"hello {name}{loud * chr(33)}")\n'
    )
    (folder / "plug_broken.py").write_text("1 / 0\n")
    return {"PYTHONPATH": str(folder)}


def test_a_command_of_another_package_joins(shell: Shell, tmp_path: Path) -> None:
    environment = with_commands(tmp_path / "site", {"hello": "plug:hello"})
    done = shell.run("hello", "--name", "sailor", "--loud", **environment)
    assert (done.code, done.out, done.err) == (0, "hello sailor!\n", "")
    assert "  hello " in shell.run(**environment).out


def test_a_broken_command_of_another_package_is_named_and_breaks_nothing_else(shell: Shell, tmp_path: Path) -> None:
    broken = {"wreck": "plug_broken:x", "lost": "plug_absent:x", "hello": "plug:hello"}
    environment = with_commands(tmp_path / "site", broken)
    assert shell.run("anchor", "list", **environment).err == ""
    done = shell.run("-h", **environment)
    assert (done.code, "  hello " in done.out, "wreck" in done.out) == (0, True, False)
    assert "kedge: warning: the command wreck of plug cannot be loaded: ZeroDivisionError: division by zero" in done.err
    assert "kedge: warning: the command lost of plug cannot be loaded: ModuleNotFoundError" in done.err
    done = shell.run("wreck", **environment)
    assert (done.code, done.out) == (1, "")
    assert done.err == "kedge: the command wreck of plug cannot be loaded: ZeroDivisionError: division by zero\n"


def test_another_package_cannot_replace_a_command_of_ours(shell: Shell, tmp_path: Path) -> None:
    environment = with_commands(tmp_path / "site", {"status": "plug:hello"})
    assert "hello" not in shell.run("status", **environment).out


# A real repository: Sigstore's, as it was published in August 2026.


@pytest.fixture
def sigstore(shell: Shell, shared_vectors: Path) -> Shell:
    repository = shared_vectors / "sigstore-repo"
    root = repository / "metadata" / "5.root.json"
    added = shell.run("anchor", "add", "sig", "--root", root, "--mirror", repository, "--metadata", "metadata")
    assert added.code == 0, added.err
    return shell


def test_sigstores_repository_leads_from_its_fifth_root_to_npms_keys(sigstore: Shell) -> None:
    command = ["keys", "show", "registry.npmjs.org", "--anchor", "sig", "--as-of", "2026-08-22T00:00:00Z"]
    done = sigstore.run(*command, "--json")
    assert (done.code, done.err) == (0, "")
    (answer,) = json.loads(done.out)["registries"]
    assert [(key["id"], key["usages"], key["status"]) for key in answer["keys"]] == [
        (OLD[0], ["npm:signatures"], "retired"),
        (OLD[0], ["npm:attestations"], "retired"),
        (NEW[0], ["npm:signatures"], "active"),
        (NEW[0], ["npm:attestations"], "active"),
    ]
    assert answer["sha256"] == "160677eb6e1c7083c89b166b20f8fe4e837fb71181506aff1991b80b89184f7d"
    versions = {role: answer["trust"][role]["version"] for role in ("root", "timestamp", "snapshot", "targets")}
    assert versions == {"root": 15, "timestamp": 762, "snapshot": 165, "targets": 14}
    assert answer["trust"]["as_of"] == "2026-08-22T00:00:00Z"
    words = sigstore.run(*command)
    assert words.code == 0
    assert f"{OLD[0]}\n  npm:signatures    retired, valid from 1999-01-01 until 2025-01-29\n" in words.out
    assert "  as of        2026-08-22, and nothing was kept\n" in words.out
    assert not sigstore.state.exists()


def test_sigstores_repository_of_august_is_expired_today(sigstore: Shell) -> None:
    done = sigstore.run("keys", "show", "registry.npmjs.org", "--anchor", "sig")
    assert (done.code, done.out) == (4, "")
    first, hint = done.err.splitlines()
    assert first.startswith("kedge: 15.root.json: root version 15 expired on 2026-11-20T13:58:18Z, ")
    assert " before 20" in first
    assert hint.startswith("hint: ")

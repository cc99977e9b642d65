"""``kedge lock``, ``anchor add --root-sha256``, ``anchor reset-time`` and ``--require-refresh``, as processes."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cli.shell import Done, Shell
from support.server import HostileServer
from support.simulator import RepositorySimulator

KEYS = b'{"keys": []}'


@pytest.fixture
def repo() -> RepositorySimulator:
    made = RepositorySimulator(now=datetime.now(UTC).replace(microsecond=0))
    made.add_target("registry.example/keys.json", KEYS)
    made.publish()
    return made


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    (tmp_path / ".git").mkdir()
    return Shell(folder=tmp_path)


@pytest.fixture
def added(shell: Shell, repo: RepositorySimulator) -> Shell:
    repo.write(shell.folder / "repo")
    (shell.folder / "root.json").write_bytes(repo.initial_root)
    assert shell.run("anchor", "add", "own", "--root", "root.json", "--mirror", "repo").code == 0
    return shell


def lines(done: Done) -> list[str]:
    assert done.out == "" or done.code == 0
    return done.err.splitlines()


def test_a_fresh_machine_keeps_to_the_projects_lock(added: Shell, repo: RepositorySimulator) -> None:
    old = repo.save()
    repo.publish()
    repo.write(added.folder / "repo")
    done = added.run("lock", "--json")
    assert (done.code, json.loads(done.out)["anchors"]) == (0, ["own"])
    assert lines(done)[0].startswith(f"kedge: {added.folder / 'kedge.lock'}: own is locked at root 1, timestamp ") or (
        lines(done)[0].startswith("kedge: kedge.lock: own is locked at root 1, timestamp ")
    )
    repo.restore(old)
    repo.write(added.folder / "repo")
    fresh = added.run("refresh", KEDGE_STATE_DIR=str(added.folder / "fresh"))
    assert fresh.code == 3
    assert "kedge.lock:" in fresh.err
    assert "is locked, and the repository serves version" in fresh.err
    assert not (added.folder / "fresh" / "own" / "state.json").exists()
    (added.folder / "kedge.lock").unlink()
    assert added.run("refresh", KEDGE_STATE_DIR=str(added.folder / "fresh")).code == 0


def test_a_lock_is_found_from_below_and_merges_with_another(added: Shell) -> None:
    assert added.run("lock", "--file", "other.lock").code == 0
    done = added.run("lock", "--merge", "other.lock")
    assert done.code == 0
    assert (added.folder / "kedge.lock").read_bytes() == (added.folder / "other.lock").read_bytes()


def test_without_the_network_nothing_is_locked(added: Shell) -> None:
    assert added.run("refresh").code == 0
    (added.folder / "repo").rename(added.folder / "away")
    done = added.run("lock")
    assert done.code == 1
    assert "there is no such folder" in done.err
    assert not (added.folder / "kedge.lock").exists()


def test_a_refresh_that_refreshed_nothing_has_failed(added: Shell) -> None:
    assert added.run("refresh").code == 0
    (added.folder / "repo").rename(added.folder / "away")
    done = added.run("refresh", "--json")
    assert (done.code, done.out) == (1, "")
    assert "own: not refreshed: " in done.err
    assert "there is no such folder" in done.err
    assert "hint: what is stored answers until " in done.err
    assert added.run("refresh", "--require-refresh").code == 1
    assert added.run("status").code == 0
    done = added.run("refresh", "--require-refresh")
    assert (done.code, done.out) == (1, "")


def test_first_contact_by_digest_brings_the_root_whatever_its_version(shell: Shell, repo: RepositorySimulator) -> None:
    repo.rotate("timestamp")
    repo.rotate("snapshot")
    third = hashlib.sha256(repo.files["metadata/3.root.json"]).hexdigest()
    with HostileServer(repo) as server:
        done = shell.run("anchor", "add", "own", "--mirror", server.url, "--root-sha256", third, "--json")
        assert (done.code, done.err) == (0, "")
        assert json.loads(done.out)["anchors"][0]["root"] | {"expires": ""} == {
            "version": 3,
            "sha256": third,
            "expires": "",
        }
        assert shell.run("refresh").code == 0


def test_a_digest_that_no_root_has_is_refused_and_nothing_is_added(shell: Shell, repo: RepositorySimulator) -> None:
    with HostileServer(repo) as server:
        done = shell.run("anchor", "add", "own", "--mirror", server.url, "--root-sha256", "0" * 64)
        assert (done.code, done.out) == (3, "")
        assert lines(done)[0].startswith(f"kedge: {server.url}: serves roots 1 to 1, none of which has the sha256 000")
        done = shell.run("anchor", "add", "own", "--mirror", server.url, "--root-sha256", "abc")
        assert (done.code, lines(done)) == (
            2,
            ["kedge: abc: is no SHA-256 digest, expected 64 lower-case hexadecimal digits"],
        )
    assert "own" not in shell.run("anchor", "list").out


@pytest.mark.parametrize("options", [(), ("--root", "root.json", "--root-sha256", "0" * 64)])
def test_a_root_comes_in_one_way_only(added: Shell, options: tuple[str, ...]) -> None:
    done = added.run("anchor", "add", "again", "--mirror", "repo", *options)
    assert (done.code, lines(done)) == (
        2,
        ["kedge: say what the initial root is: --root FILE, or --root-sha256 HEX"],
    )


def test_a_clock_that_was_far_ahead_is_forgotten_on_request_and_versions_are_not(
    added: Shell, repo: RepositorySimulator
) -> None:
    assert added.run("refresh").code == 0
    folder = added.state / "own"
    ahead = (datetime.now(UTC) + timedelta(days=300)).strftime("%Y-%m-%dT%H:%M:%SZ")
    for name in ("floors.json", "state.json", "state.json.prev"):
        if (folder / name).exists():
            document = json.loads((folder / name).read_text())
            document.get("floors", document)["time"] = ahead
            (folder / name).write_text(json.dumps(document))
    assert added.run("refresh").code == 4
    done = added.run("anchor", "reset-time", "own")
    assert done.code == 2
    assert "--yes-forget-time" in done.err
    done = added.run("anchor", "reset-time", "own", "--yes-forget-time")
    assert (done.code, lines(done)) == (0, [f"kedge: the time floor of own is forgotten; it was {ahead}"])
    assert added.run("refresh").code == 0
    assert json.loads((folder / "floors.json").read_text())["timestamp"]["version"] == repo.timestamp.version


def test_reset_time_without_a_state_says_so(added: Shell) -> None:
    done = added.run("anchor", "reset-time", "own", "--yes-forget-time")
    assert done.code == 1
    assert lines(done)[0].endswith("own: no trust state is stored there")

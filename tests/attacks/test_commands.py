"""A, B, G: once for each group of attacks, through the command's process: exit code, empty stdout, and one line why."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from kedge.client import anchor as anchors
from kedge.client.anchor import Anchor
from kedge.transport.mirror import Mirror
from support.server import (
    Behaviour,
    HostileServer,
    captive_portal,
    cut_body,
    endless_body,
    endless_headers,
    redirect,
    status,
)
from support.simulator import RepositorySimulator, new_signers

TIMESTAMP = "metadata/timestamp.json"


class Command:
    """``kedge`` with one configured anchor, whose mirror is a server on the loopback."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "state" / "test"
        self.repo = RepositorySimulator(now=datetime.now(UTC).replace(microsecond=0), root=(2, 3))
        self.repo.publish()

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        environment |= {
            "KEDGE_CONFIG_DIR": str(self.folder / "config"),
            "KEDGE_STATE_DIR": str(self.folder / "state"),
            "NO_COLOR": "1",
            "COLUMNS": "1000",
        }
        command = [sys.executable, "-m", "kedge", *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=environment, stdin=subprocess.DEVNULL)

    def anchor(self, mirror: str, **options: Any) -> None:
        made = Anchor(
            name="test",
            initial_root=self.repo.initial_root,
            mirrors=(Mirror(url=mirror, **options),),
            registries=("registry.example",),
        )
        anchors.add_anchor(made, self.folder / "config")

    def refresh(self) -> dict[str, Any]:
        done = self("refresh", "--anchor", "test", "--json")
        assert done.returncode == 0, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def refused(self, exit_code: int, *texts: str, command: str = "refresh", options: tuple[str, ...] = ()) -> str:
        """The command ends with ``exit_code``, says nothing on stdout, and why in one line on stderr."""
        done = self(command, "--anchor", "test", *options)
        assert done.returncode == exit_code, done.stderr
        assert done.stdout == ""
        assert "Traceback" not in done.stderr
        lines = done.stderr.splitlines()
        for text in texts:
            assert text in lines[0]
        assert len(lines) <= 2, "a refusal is one line, and a hint"
        return done.stderr


@pytest.fixture
def kedge(tmp_path: Path) -> Command:
    return Command(tmp_path)


@pytest.fixture
def server(kedge: Command) -> Iterator[HostileServer]:
    with HostileServer(kedge.repo) as running:
        kedge.anchor(running.url)
        yield running


@pytest.mark.usefixtures("server")
def test_a_a_rolled_back_timestamp(kedge: Command) -> None:
    old = kedge.repo.save()
    kedge.repo.publish()
    kedge.refresh()
    with kedge.repo.lying():
        kedge.repo.restore(old)
        kedge.refused(3, "timestamp.json: rollback of timestamp to version 2; version 3 was accepted before")
    kedge.refresh()


@pytest.mark.usefixtures("server")
def test_a_a_frozen_repository(kedge: Command) -> None:
    with kedge.repo.lying():
        with kedge.repo.edit("timestamp") as timestamp:
            timestamp.expires = kedge.repo.now - timedelta(days=85, hours=1)
        expires = timestamp.expires.strftime("%Y-%m-%dT%H:%M:%SZ")
        kedge.refused(4, "timestamp", expires, "85 days")
    kedge.refresh()


@pytest.mark.usefixtures("server")
def test_a_a_timestamp_by_another_key(kedge: Command) -> None:
    with kedge.repo.lying():
        kedge.repo.sign("timestamp", signers=new_signers())
        kedge.refused(3, "timestamp.json: signed by 0 of the 1 keys that root version 1 asks for")
        kedge.refused(3, "timestamp.json: signed by 0 of the 1 keys", options=("--json",))
        kedge.refused(1, "no complete set", command="status")
    kedge.refresh()


@pytest.mark.usefixtures("server")
def test_a_a_root_below_the_threshold(kedge: Command) -> None:
    with kedge.repo.lying():
        kedge.repo.rotate("root", keys=3, threshold=2)
        kedge.repo.sign("root", signers=kedge.repo.signers["root"])
        kedge.refused(3, "2.root.json: signed by 0 of the 2 keys that root version 1 asks for")
    kedge.refresh()


@pytest.mark.usefixtures("server")
def test_a_a_document_with_a_key_twice(kedge: Command) -> None:
    with kedge.repo.lying():
        data = kedge.repo.files[TIMESTAMP]
        kedge.repo.replace(TIMESTAMP, data.replace(b'"version":', b'"version":999,"version":', 1))
        kedge.refused(3, 'timestamp.json: holds the key "version" twice')
    kedge.refresh()


SERVERS: dict[str, tuple[Behaviour, int, str]] = {
    "endless": (endless_body(), 3, "is longer than the 65536 bytes"),
    "headers": (endless_headers(), 1, "headers"),
    "elsewhere": (redirect("http://127.0.0.2:9/x"), 3, "redirects to another origin"),
    "file": (redirect("file:///etc/passwd"), 3, "redirects to another origin"),
    "portal": (captive_portal(), 3, "is a page of HTML"),
    "unauthorized": (status(401), 1, "answers 401"),
    "busy": (status(503, retry_after="999999"), 1, "answers 503"),
    "cut": (cut_body(), 1, "the connection breaks off"),
}


@pytest.mark.parametrize("name", SERVERS)
def test_a_a_server_that_misbehaves(kedge: Command, server: HostileServer, name: str) -> None:
    behaviour, exit_code, text = SERVERS[name]
    server.misbehave(TIMESTAMP, behaviour)
    kedge.refused(exit_code, "timestamp.json", text)
    server.behave()
    kedge.refresh()


@pytest.mark.parametrize("name", ["portal", "unauthorized", "busy"])
def test_a_a_server_that_misbehaves_at_the_next_root(kedge: Command, server: HostileServer, name: str) -> None:
    behaviour, exit_code, text = SERVERS[name]
    server.misbehave("metadata/2.root.json", behaviour)
    kedge.refused(exit_code, "2.root.json", text)
    server.behave()
    kedge.refresh()


@pytest.mark.usefixtures("server")
def test_b_a_damaged_state(kedge: Command) -> None:
    kedge.refresh()
    for name in ("state.json", "state.json.prev", "floors.json"):
        (kedge.state / name).write_bytes(b"")
    for command in ("status", "refresh"):
        kedge.refused(1, "is stored there and cannot be read: state.json is damaged", command=command)
    shutil.rmtree(kedge.state)  # as the hint says
    kedge.refresh()
    assert kedge("status", "--anchor", "test").returncode == 0


@pytest.mark.usefixtures("server")
def test_b_a_state_folder_that_cannot_be_made(kedge: Command) -> None:
    (kedge.folder / "state").write_bytes(b"in the way")
    kedge.refused(1, "could not be stored")
    (kedge.folder / "state").unlink()
    kedge.refresh()


def test_b_a_mirror_that_cannot_be_reached(kedge: Command) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{reserved.getsockname()[1]}"
        kedge.anchor(url)
        text = kedge.refused(1, f"{url}/metadata/2.root.json: cannot connect: connection refused")
        assert "hint: " in text


def test_b_a_mirrors_folder_that_is_not_there(kedge: Command) -> None:
    mirror = kedge.folder / "mirror"
    kedge.repo.write(mirror)
    kedge.anchor(str(mirror))
    kedge.refresh()
    shutil.rmtree(mirror)
    kedge.refused(1, "not refreshed: ", "there is no such folder")
    assert kedge("status", "--anchor", "test").returncode == 0
    shutil.rmtree(kedge.state)
    kedge.refused(1, "there is no such folder")
    kedge.repo.write(mirror)
    kedge.refresh()


@pytest.mark.usefixtures("server")
def test_b_an_answer_from_state_is_no_refresh(kedge: Command, server: HostileServer) -> None:
    assert kedge.refresh()
    server.misbehave("*", status(401))
    kedge.refused(1, "not refreshed: ", "2.root.json: the server answers 401")
    kedge.refused(1, "2.root.json: the server answers 401", options=("--require-refresh",))
    server.behave()
    assert kedge("refresh", "--anchor", "test", "--require-refresh").returncode == 0


def test_a_credentials_come_from_a_file_and_are_shown_nowhere(kedge: Command) -> None:
    secret = kedge.folder / "credentials"
    secret.write_text("bearer hush-hush-token\n")
    with HostileServer(kedge.repo) as server:
        kedge.anchor(server.url, credentials_file=str(secret))
        answer = kedge.refresh()
        assert {request.headers["authorization"] for request in server.requests} == {"Bearer hush-hush-token"}
        shown = [json.dumps(answer), kedge("anchor", "show", "test").stdout, kedge("status", "--anchor", "test").stdout]
        server.misbehave("*", status(401))
        shown.append(kedge.refused(1, "answers 401", options=("--require-refresh",)))
    kept = [path.read_text(errors="replace") for path in (kedge.folder / "state").rglob("*") if path.is_file()]
    assert "hush" not in "".join([*shown, *kept])


def test_a_credentials_in_an_address_are_refused_and_not_shown(kedge: Command) -> None:
    root = kedge.folder / "root.json"
    root.write_bytes(kedge.repo.initial_root)
    done = kedge("anchor", "add", "test", "--root", str(root), "--mirror", "https://user:hush@mirror.example")
    assert done.returncode == 2
    assert "holds no credentials" in done.stderr
    assert "hush" not in done.stdout + done.stderr


def test_g_a_bundle_that_is_not_whole_and_one_that_is_old_are_refused(kedge: Command, tmp_path: Path) -> None:
    kedge.repo.write(tmp_path / "repository")
    kedge.anchor(str(tmp_path / "repository"))
    old, new, spoilt = (tmp_path / f"{name}.kedge" for name in ("old", "new", "spoilt"))
    assert kedge("bundle", "create", str(old), "--all-targets").returncode == 0
    kedge.repo.publish()
    kedge.repo.write(tmp_path / "repository")
    assert kedge("bundle", "create", str(new), "--all-targets").returncode == 0
    shutil.rmtree(kedge.state)
    assert kedge("bundle", "apply", str(new)).returncode == 0
    spoilt.write_bytes(new.read_bytes()[:-1])
    before = {path: path.read_bytes() for path in kedge.state.rglob("*.json*")}
    for bundle, text in ((spoilt, "cut off"), (old, "rollback of timestamp")):
        done = kedge("bundle", "apply", str(bundle))
        assert (done.returncode, done.stdout) == (3, "")
        assert done.stderr.count("\n") == 2
        assert text in done.stderr
    assert {path: path.read_bytes() for path in kedge.state.rglob("*.json*")} == before
    assert kedge("bundle", "apply", str(new)).returncode == 0

"""``kedge-repo init`` on a terminal: it asks for what no flag says, and begins the same repository."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from kedge.errors import ExitCode
from kedge_repo.signing.signers.keyfile import Algorithm, new_key
from repo_tools.machine import Machine

ANSWERS = [
    ("What is the repository called?", "example"),
    ("Name of keyholder 1", "alice"),
    ("File of the public key of alice", "alice.pem.pub"),
    ("Name of keyholder 2", "bob"),
    ("File of the public key of bob", "nowhere.pub"),
    ("There is no file nowhere.pub", "bob.pem.pub"),
    ("Name of keyholder 3", ""),
    ("must sign root?", "7"),
    ("must sign root?", ""),
    ("must sign targets?", "1"),
    ("Name of online key 1", ""),
    ("Name of online key 1", "ci"),
    ("File of the public key of ci", "ci.pem.pub"),
    ("Name of online key 2", ""),
    ("With whose keys does it begin?", "registry.npmjs.org nowhere"),
    ("The catalogue has nothing of nowhere.", "registry.npmjs.org"),
    ("Which folder is published to?", "../public"),
]


def converse(folder: Path, answers: list[tuple[str, str]], *command: str) -> tuple[int, str]:
    """Run a command on a terminal, and answer each question when it has been asked."""
    terminal, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "kedge_repo", *command],
        cwd=folder,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "dumb", "NO_COLOR": "1", "COLUMNS": "200"},
    )
    os.close(theirs)
    said, unread = "", ""
    deadline = time.monotonic() + 60
    waiting = list(answers)
    while time.monotonic() < deadline:
        readable, _, _ = select.select([terminal], [], [], 0.2)
        try:
            part = os.read(terminal, 4096).decode() if readable else ""
        except OSError:  # the terminal is gone with the process
            break
        said, unread = said + part, unread + part
        if waiting and waiting[0][0] in unread and not select.select([terminal], [], [], 0.1)[0]:
            if waiting[0][1] == "\x03":
                process.send_signal(signal.SIGINT)  # it is no terminal of its own that would do so
            else:
                os.write(terminal, f"{waiting[0][1]}\n".encode())
            unread = ""
            waiting.pop(0)
        if process.poll() is not None and not readable:
            break
    if process.poll() is None:
        process.kill()
    os.close(terminal)
    assert waiting == [], said
    return process.wait(10), said


@pytest.mark.parametrize("answered", [0, 1, 7, 10, 14])
def test_ctrl_c_at_any_prompt_is_130(tmp_path: Path, answered: int) -> None:
    for name in ("alice", "bob", "ci"):
        new_key(tmp_path / f"{name}.pem", Algorithm.ED25519, b"a long passphrase")
    answers = [*ANSWERS[:answered], (ANSWERS[answered][0], "\x03")]
    code, said = converse(tmp_path, answers, "init", "trust")
    assert code == ExitCode.INTERRUPTED, said
    assert "Traceback" not in said
    assert not (tmp_path / "trust").exists()


def test_ctrl_c_at_a_passphrase_is_130(tmp_path: Path) -> None:
    code, said = converse(tmp_path, [("passphrase of", "\x03")], "key", "new", "alice.pem")
    assert code == ExitCode.INTERRUPTED, said
    assert list(tmp_path.iterdir()) == []


def test_init_on_a_terminal_asks_for_what_a_repository_needs(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    for name in ("alice", "bob", "ci"):
        machine.ok("key", "new", f"{name}.pem", "--passphrase-fd", 0, secret=f"{name}\n")
    code, said = converse(tmp_path, ANSWERS, "init", "ws")
    assert code == 0, said
    policy = tomllib.loads((tmp_path / "ws/kedge-repo.toml").read_text())
    assert policy["roles"]["root"] == {
        "keyholders": ["alice", "bob"],
        "threshold": 2,
        "expiry_days": 365,
        "signing_days": 60,
    }
    assert policy["roles"]["targets"]["threshold"] == 1
    assert policy["roles"]["timestamp"]["keyholders"] == ["ci"]
    assert policy["destination"] == [{"folder": "../public"}]
    assert "registry.npmjs.org/keys.json" in (tmp_path / "ws/events/first-ceremony/event.json").read_text()


def test_init_without_a_terminal_says_what_is_missing(tmp_path: Path) -> None:
    done = Machine(tmp_path).run("init", "ws", "--name", "example", "--root-threshold", 2)
    assert (done.code, done.out) == (2, "")
    assert done.err == (
        "kedge-repo: init: needs --keyholder, --online, --targets-threshold\n"
        "hint: on a terminal, kedge-repo init alone asks for them\n"
    )
    assert list(tmp_path.iterdir()) == []

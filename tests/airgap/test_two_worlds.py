"""Two network namespaces that share nothing but a folder: sixty days, and a courier who is not always good.

Outside, a repository publishes every day and changes root, online key and registry keys; each week a bundle of it is
made over HTTP. Inside, a verifier lives by these bundles alone: one is lost, one comes late, one is tampered with, and
one is older than the last.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from conftest import Require

PROGRAMS = Path(__file__).with_name("programs")
CHANGES = {10: "root", 18: "online-key", 33: "new-key", 50: "revoke"}
OWN_NETWORK = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--net"]


class World:
    """A program in a network namespace of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def __call__(self, command: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"{command}: the program ended"
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextmanager
def world(name: str, folder: Path, shared: Path, repository: Path) -> Iterator[World]:
    folder.mkdir()
    program = ["sh", "-c", 'ip link set lo up && exec "$@"', "sh", sys.executable, str(PROGRAMS / f"{name}.py")]
    environment = {**os.environ, "PYTHONPATH": str(repository / "tests"), "HOME": str(folder)}
    with subprocess.Popen(
        [*OWN_NETWORK, *program, str(folder), str(shared)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        try:
            yield World(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(timeout=20)


@pytest.fixture
def worlds(require: Require, tmp_path: Path, repository: Path) -> Iterator[tuple[World, World, Path]]:
    for tool in ("unshare", "ip"):
        require(shutil.which(tool), f"{tool} is not installed (Debian: util-linux, iproute2)")
    probe = subprocess.run([*OWN_NETWORK, "ip", "link", "set", "lo", "up"], capture_output=True, text=True)
    if probe.returncode:
        # Not a tool that could be installed: this kernel, or the container around it, forbids it.
        pytest.skip(f"network namespaces cannot be made here: {probe.stderr.strip()}")
    shared = tmp_path / "shared"
    shared.mkdir()
    with (
        world("outside", tmp_path / "outside", shared, repository) as outside,
        world("inside", tmp_path / "inside", shared, repository) as inside,
    ):
        yield outside, inside, shared


def tamper(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-40] ^= 1
    path.write_bytes(data)


def test_sixty_days_behind_an_air_gap(worlds: tuple[World, World, Path]) -> None:
    outside, inside, shared = worlds
    answers: dict[int, dict[str, Any]] = {}
    for day in range(61):
        outside(f"publish {day} {CHANGES.get(day, '')}")
        if day % 7 == 0:
            # The last two are deltas; no word of what arrived comes back.
            since = {49: "day42", 56: "day49"}.get(day, "")
            made = outside(f"bundle {day} day{day} {since}")
            assert made["bytes"] > 0
            assert not inside(f"reach {made['url']}")["reached"]
        courier(day, inside, shared)
        answers[day] = inside(f"keys {day}")

    ids = {day: answer.get("keys") for day, answer in answers.items()}
    assert {day for day, answer in answers.items() if answer["code"] != 0} == {37, 38}, (
        "past the red line, and only then"
    )
    assert answers[37]["code"] == 4
    assert "is 16 days old" in answers[37]["error"]
    assert "red line" in answers[37]["error"]
    assert {day for day, answer in answers.items() if answer.get("late")} == {
        *range(15, 21),
        *range(29, 37),
        *range(39, 43),
    }
    assert all(ids[day] == ["old"] for day in range(43) if ids[day] is not None)
    assert all(ids[day] == ["old", "new"] for day in range(43, 56))
    assert all(ids[day] == ["new"] for day in range(56, 61))
    assert {day for day, answer in answers.items() if answer.get("stale")} == {
        *range(17, 21),
        *range(31, 37),
        *range(39, 43),
    }


def courier(day: int, inside: World, shared: Path) -> None:
    """What is brought on a day, and what becomes of it."""
    if day in (0, 7, 21, 49, 56):
        assert inside(f"apply {day} day{day}")["code"] == 0
    elif day == 39:  # the bundle of day 28, eleven days late; that of day 35 never comes
        late = inside("apply 39 day28")
        assert (late["code"], late["root"]) == (0, 3)
    elif day == 42:
        shutil.copy(shared / "day42.kedge", shared / "tampered.kedge")
        tamper(shared / "tampered.kedge")
        refused = inside("apply 42 tampered")
        assert (refused["code"], refused["untouched"]) == (3, True)
    elif day == 43:  # the true one is brought the next day
        assert inside("apply 43 day42")["code"] == 0
    elif day == 45:
        older = inside("apply 45 day28")
        assert (older["code"], older["untouched"]) == (3, True)
        assert "rollback of timestamp" in older["error"]

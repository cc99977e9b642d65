"""``kedge-repo bins``, ``publish`` and ``online --job`` as processes, and the files that run the job elsewhere."""

from __future__ import annotations

import configparser
import contextlib
import hashlib
import io
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from architecture import schemas
from kedge_repo._cli.app import run as run_command
from repo_tools.machine import Machine, Result

ADAPTERS = Path(__file__).resolve().parents[2] / "adapters" / "online"
PASSPHRASE = "made for a test"
BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Desk:
    """Runs ``kedge-repo`` in a folder, in this process; the passphrase goes through a descriptor."""

    folder: Path

    def run(self, *arguments: object) -> Result:
        out, err = io.StringIO(), io.StringIO()
        reading, writing = os.pipe()
        os.write(writing, f"{PASSPHRASE}\n".encode() * 3)
        os.close(writing)
        line = [str(reading) if part == "FD" else str(part) for part in arguments]
        try:
            with contextlib.chdir(self.folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = run_command(line)
        finally:
            with contextlib.suppress(OSError):
                os.close(reading)
        return Result(code, out.getvalue(), err.getvalue())

    def ok(self, *arguments: object) -> Result:
        result = self.run(*arguments)
        assert result.code == 0, result.err
        return result


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of alice and an online key, whose role packages has bins."""
    folder = tmp_path_factory.mktemp("made")
    desk = Desk(folder)
    for name in ("alice", "ci"):
        desk.ok("key", "new", f"{name}.pem", "--passphrase-fd", "FD")
    desk.ok(
        *("init", "ws", "--name", "example", "--keyholder", "alice=alice.pem.pub", "--root-threshold", "1"),
        *("--targets-threshold", "1", "--online", "ci=ci.pem.pub", "--location", "ci=file:../ci.pem"),
        *("--publish-to", "../public"),
    )
    desk.ok(
        *("delegate", "packages", "--keyholder", "alice", "--bins-for", "1000", "--bin-keyholder", "ci"),
        *("--bin-content", "elsewhere", "-w", "ws"),
    )
    desk.ok("sign", "-w", "ws", "--key", "file:alice.pem", "--yes", "--passphrase-fd", "FD")
    desk.ok("event", "merge", "-w", "ws")
    return folder


@pytest.fixture
def desk(made: Path, tmp_path: Path) -> Desk:
    shutil.copytree(made, tmp_path / "copy")
    return Desk(tmp_path / "copy")


def with_key(desk: Desk, *arguments: object) -> Result:
    return desk.run(*arguments, "-w", "ws", "--passphrase-fd", "FD")


def lines(count: int) -> str:
    return "".join(f"packages/p{number} {number} {hashlib.sha256(b'').hexdigest()}\n" for number in range(count))


def test_lines_go_into_bins_and_out_to_clients(desk: Desk) -> None:
    (desk.folder / "lines").write_text(lines(500))
    done = with_key(desk, "bins", "import", "packages", "lines")
    assert (done.code, done.out) == (0, "8\n")
    assert done.err.splitlines() == [
        "500 added, 0 changed, 0 removed; 500 targets",
        "8 bins signed; sign snapshot and timestamp with kedge-repo online",
    ]
    assert with_key(desk, "bins", "import", "packages", "lines").out == "0\n"
    done = with_key(desk, "bins", "remove", "packages", "packages/p1", "packages/gone")
    assert done.err.splitlines()[-1] == "note: 1 of these paths were in no bin"
    shown = json.loads(desk.ok("bins", "show", "packages", "-w", "ws", "--json").out)
    assert schemas.faults("bins-status", shown) == []
    assert (shown["bins"], shown["targets"], shown["bit_length_by_rule"]) == (8, 499, 2)
    status = json.loads(desk.ok("status", "-w", "ws", "--json").out)
    assert schemas.faults("repo-status", status) == []
    assert "\npackages: 499 targets in 8 bins, the first until " in desk.ok("status", "-w", "ws").out
    assert "499 targets in 8 bins" in desk.ok("bins", "show", "packages", "-w", "ws").out
    assert with_key(desk, "online").code == 0
    assert "timestamp.json" in desk.ok("publish", "-w", "ws", "--dry-run").out
    assert not (desk.folder / "public").exists() or not any((desk.folder / "public").iterdir())
    desk.ok("publish", "-w", "ws")
    read = desk.ok("publish", "verify", "public", "-w", "ws")
    assert read.out.splitlines() == [
        "public: root version 1, timestamp version 1, as in the workspace",
        "0 targets downloaded, 3 looked up in bins",
    ]
    answer = json.loads(desk.ok("publish", "verify", "public", "-w", "ws", "--json").out)
    assert schemas.faults("read-back", answer) == []
    index = json.loads((desk.folder / "ws/bins/packages/index.json").read_text())
    assert schemas.faults("bins", index) == []


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("bins import packages missing", 2, "missing: there is no such file"),
        ("bins import packages .", 2, ".: is a folder"),
        ("bins import npm lines", 2, "npm: delegates to no bins; there are packages"),
        ("bins add packages elsewhere/x lines", 2, "target elsewhere/x: targets version"),
        ("bins import packages lines", 2, "lines: line 1: must be PATH LENGTH SHA256"),
    ],
)
def test_bad_input_is_one_line_and_changes_nothing(desk: Desk, arguments: str, code: int, message: str) -> None:
    (desk.folder / "lines").write_text("no line\n")
    done = with_key(desk, *arguments.split())
    assert (done.code, done.out) == (code, "")
    assert message in done.err
    assert not (desk.folder / "ws/bins/packages/index.json").exists()


def test_bins_whose_bytes_the_workspace_publishes_take_no_bare_lines(desk: Desk) -> None:
    desk.ok("delegate", "packages", "--bin-content", "workspace", "-w", "ws")
    desk.ok("event", "merge", "-w", "ws")
    done = with_key(desk, "bins", "import", "packages", "lines")
    assert (done.code, "use kedge-repo bins folder" in done.err) == (2, True)
    (desk.folder / "files").mkdir()
    (desk.folder / "files/a").write_text("content of a")
    assert with_key(desk, "bins", "folder", "packages", "files").code == 0
    assert with_key(desk, "online").code == 0
    published = desk.ok("publish", "-w", "ws").out
    assert f"targets/packages/{hashlib.sha256(b'content of a').hexdigest()}.a" in published


def test_a_mirror_that_lags_is_said_and_taken_up(desk: Desk) -> None:
    assert with_key(desk, "online").code == 0
    desk.ok("publish", "-w", "ws")
    shutil.copytree(desk.folder / "ws", desk.folder / "older")
    assert with_key(desk, "online").code == 0
    late = desk.run("publish", "verify", "public", "-w", "ws")
    assert (late.code, late.out) == (5, "")
    assert late.err == "public: serves timestamp version 1, and the workspace has 2\n"
    desk.ok("publish", "-w", "ws")
    assert desk.ok("publish", "adopt", "-w", "older").out.endswith("public: taken up\n")
    assert desk.ok("publish", "adopt", "-w", "older").out.endswith("public: nothing newer\n")
    assert desk.ok("publish", "prune", "-w", "ws").out == ""


def job(desk: Desk) -> Result:
    """Run the script that the schedules run, as they do."""
    passphrase = desk.folder / "passphrase"
    passphrase.write_text(f"{PASSPHRASE}\n")
    environment = {
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "KEDGE_WORKSPACE": str(desk.folder / "ws"),
        "KEDGE_PASSPHRASE_FILE": str(passphrase),
        "KEDGE_METRICS": str(desk.folder / "kedge.prom"),
    }
    return Machine(desk.folder, environment).process(ADAPTERS / "keep-online.sh")


def test_the_job_signs_publishes_and_then_has_nothing_to_do(desk: Desk) -> None:
    first = job(desk)
    assert (first.code, first.out.partition(",")[0]) == (0, "timestamp version 1")
    assert first.err.startswith("signed, for there is no timestamp yet\npublished to ")
    again = job(desk)
    assert (again.code, again.err) == (0, "nothing due\n")
    assert "kedge_online_exit_code 0" in (desk.folder / "kedge.prom").read_text()


def test_the_job_says_by_its_exit_code_and_metrics_what_went_wrong(desk: Desk) -> None:
    policy = desk.folder / "ws/kedge-repo.toml"
    policy.write_text(policy.read_text().replace("file:../ci.pem", "file:../alice.pem"))
    failed = job(desk)
    assert (failed.code, failed.out) == (2, "")
    assert "kedge_online_exit_code 2" in (desk.folder / "kedge.prom").read_text()


def test_the_schedules_run_what_is_there() -> None:
    script = ADAPTERS / "keep-online.sh"
    assert script.stat().st_mode & stat.S_IXUSR
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign] # systemd's names have capitals
    unit.read(ADAPTERS / "kedge-online.service")
    assert unit["Service"]["ExecStart"].endswith(f"/{script.name}")
    timer = configparser.ConfigParser(interpolation=None)
    timer.read(ADAPTERS / "kedge-online.timer")
    assert timer["Timer"]["Persistent"] == "yes"
    command = next(line for line in (ADAPTERS / "crontab").read_text().splitlines() if line.startswith("17 "))
    assert f"/{script.name} " in command
    checked = subprocess.run(["sh", "-n", "-c", command.split(" ", 5)[5]], capture_output=True)
    assert checked.returncode == 0
    for name, job_name in (("github.yml", "online"), ("gitlab-ci.yml", "online-roles")):
        document = yaml.safe_load((ADAPTERS / name).read_text())
        steps = json.dumps(document["jobs"][job_name]["steps"] if "jobs" in document else document[job_name]["script"])
        assert re.search(r"kedge-repo online --job -w .* --passphrase-fd 0", steps)

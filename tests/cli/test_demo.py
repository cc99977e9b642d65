"""``kedge demo`` as a user runs it: a process, its output, its exit code, and the repository that it leaves."""

from __future__ import annotations

import html
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tuf.ngclient import Updater, UpdaterConfig

from kedge_repo.demo import story as facts
from kedge_repo.demo.story import Act, Line, LoopbackMirror, Report

COMMAND = [sys.executable, "-m", "kedge", "demo"]
LIES = ("rollback", "freeze", "changed target", "mixed snapshots", "a new root, signed with alice's stolen key alone")


def run(*options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *options], capture_output=True, text=True, env={**os.environ, **environment}, timeout=120
    )


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], Path]:
    folder = tmp_path_factory.mktemp("demo") / "kept"
    return run("--json", "--keep", str(folder)), folder


def test_every_line_comes_out_as_promised(kept: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    done, _ = kept
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert told["format"] == "kedge.demo/1"
    assert told["kept"] is True
    assert len(told["acts"]) == 4
    assert all(line["kept"] for act in told["acts"] for line in act["lines"])


def test_each_lie_is_refused_in_the_users_words_and_has_its_control(
    kept: tuple[subprocess.CompletedProcess[str], Path],
) -> None:
    lines = json.loads(kept[0].stdout)["acts"][3]["lines"]
    for lie in LIES:
        index = next(index for index, line in enumerate(lines) if line["promise"].startswith(lie))
        assert lines[index]["said"][0].startswith("kedge: ")
        assert lines[index]["said"][-1] == ("exit code 4" if lie == "freeze" else "exit code 3")
        assert lines[index + 1]["promise"].startswith("control: ")


def test_the_picture_in_the_readme_shows_what_it_prints(
    kept: tuple[subprocess.CompletedProcess[str], Path], repository: Path
) -> None:
    assert "(docs/demo.svg)" in (repository / "README.md").read_text()
    picture = (repository / "docs" / "demo.svg").read_text()
    assert "url(http" not in picture.replace('"', "")
    shown = " ".join(html.unescape(re.sub(r"<[^>]+>", " ", picture)).split())
    for act in json.loads(kept[0].stdout)["acts"]:
        assert act["title"] in shown
        for line in act["lines"]:
            assert line["promise"] in shown
    assert "21 of 21 checks passed" in shown


def test_python_tuf_refreshes_the_repository_that_it_leaves(
    kept: tuple[subprocess.CompletedProcess[str], Path], tmp_path: Path
) -> None:
    published = kept[1] / "repository"
    with LoopbackMirror(published) as mirror:
        updater = Updater(
            metadata_dir=str(tmp_path / "metadata"),
            metadata_base_url=f"{mirror.url}/metadata/",
            target_dir=str(tmp_path),
            target_base_url=f"{mirror.url}/targets/",
            config=UpdaterConfig(prefix_targets_with_hash=True),
            bootstrap=(published / "metadata/1.root.json").read_bytes(),
        )
        updater.refresh()
        target = updater.get_targetinfo(f"{facts.REGISTRY}/keys.json")
        assert target is not None
        text = Path(updater.download_target(target)).read_text()
    assert facts.NEW_KEYID in text


@pytest.mark.parametrize("columns", ["40", "120"])
def test_it_reads_well_in_a_narrow_and_a_wide_terminal(columns: str) -> None:
    done = run(COLUMNS=columns)
    assert done.returncode == 0
    assert "checks passed" in " ".join(done.stdout.split())
    assert max(map(len, done.stdout.splitlines())) <= int(columns)
    assert "\x1b" not in done.stdout


def test_a_terminal_that_knows_no_check_marks_gets_plain_ones() -> None:
    done = run(PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert "  + " in done.stdout


def test_a_folder_that_is_in_use_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    done = run("--keep", str(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"kedge: {tmp_path}: is there already, expected a new or empty folder\n"


def test_an_interrupt_ends_it_with_130_and_leaves_no_folder(tmp_path: Path) -> None:
    process = subprocess.Popen(
        COMMAND, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "TMPDIR": str(tmp_path)}
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(b"1. "):
            break
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"Traceback" not in errors
    assert list(tmp_path.iterdir()) == []


def test_a_line_that_is_not_kept_shows_in_the_sum() -> None:
    good, bad = Line(promise="this", kept=True), Line(promise="that", kept=False)
    assert Report((Act("one", [good]),), None).kept
    assert not Report((Act("one", [good, bad]),), None).kept
    assert not Report((), None).kept

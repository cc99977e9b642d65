"""Several processes for one run: every task is done once, whatever becomes of the other processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from kedge.errors import FetchError
from kedge.registries.npm.fetch import FetchLimits
from kedge.registries.npm.pool import Work, ask_all
from support import crew_work
from support.crew_work import Scene

TASKS = range(200)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(os.getpid(), tmp_path)


def done_by(work: Work, *, processes: int = 2, jobs: int = 4) -> list[int]:
    done: list[int] = []
    ask_all(TASKS, work, done.append, limits=FetchLimits(), jobs=jobs, processes=processes)
    return sorted(done)


def is_gone(process: int) -> bool:
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":  # dead, and nobody has asked how it ended
            return True
        time.sleep(0.02)
    return False


def test_several_processes_share_the_work_and_do_each_task_once(scene: Scene) -> None:
    results: list[tuple[int, int]] = []
    work = partial(crew_work.count_others, scene, 2)
    ask_all(TASKS, work, results.append, limits=FetchLimits(), jobs=3, processes=3)
    assert sorted(task for task, _ in results) == list(TASKS)
    assert {process for _, process in results} == {os.getpid(), *scene.seen()}
    assert len(scene.seen()) == 2
    assert all(is_gone(process) for process in scene.seen())


def test_files_of_the_working_folder_are_not_run(
    scene: Scene, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path_factory.mktemp("project")
    for name in ("kedge", "pickle", "json", "sitecustomize"):
        (folder / f"{name}.py").write_text("import os; os.abort()\n")
    monkeypatch.chdir(folder)
    assert done_by(partial(crew_work.fail_elsewhere, scene)) == list(TASKS)
    assert scene.seen()  # it began all the same


def test_a_process_that_is_killed_costs_no_answer(scene: Scene) -> None:
    assert done_by(partial(crew_work.die_elsewhere, scene), processes=3) == list(TASKS)
    assert scene.seen()


def test_what_fails_in_another_process_is_done_here(scene: Scene, capfd: pytest.CaptureFixture[str]) -> None:
    assert done_by(partial(crew_work.fail_elsewhere, scene)) == list(TASKS)
    assert scene.seen()
    assert capfd.readouterr().err == ""


def test_what_fails_everywhere_is_raised_here() -> None:
    with pytest.raises(FetchError, match="cannot be done"):
        done_by(crew_work.fail)


def test_work_that_cannot_leave_this_process_is_done_here() -> None:
    assert done_by(lambda task, _asker: int(task)) == list(TASKS)


def test_other_processes_end_when_a_run_is_broken_off(scene: Scene) -> None:
    def interrupt(task: int) -> None:
        raise KeyboardInterrupt(task)

    with pytest.raises(KeyboardInterrupt):
        ask_all(
            TASKS,
            partial(crew_work.linger_elsewhere, scene),
            interrupt,
            limits=FetchLimits(),
            jobs=2,
            processes=2,
        )
    (other,) = scene.seen()
    assert is_gone(other)


def test_other_processes_end_when_this_one_is_killed(scene: Scene) -> None:
    program = f"""
import os, sys
sys.path[:] = {sys.path!r}
from functools import partial
from pathlib import Path
from kedge.registries.npm.pool import ask_all
from kedge.registries.npm.fetch import FetchLimits
from support import crew_work
scene = crew_work.Scene(os.getpid(), Path({str(scene.folder)!r}))
work = partial(crew_work.linger_elsewhere, scene)
ask_all(range(200), work, print, limits=FetchLimits(), jobs=2, processes=2)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.DEVNULL) as run:
        scene.wait_for_others(1)
        run.send_signal(signal.SIGKILL)
    (other,) = scene.seen()
    assert is_gone(other)

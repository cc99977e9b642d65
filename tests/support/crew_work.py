"""Work that another process can be told to do, since it finds it by its name."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import NamedTuple

from kedge.errors import FetchError
from kedge.registries.npm.fetch import Asker


class Scene(NamedTuple):
    """The process that gives the orders, and a folder in which each other process leaves its number."""

    parent: int
    folder: Path

    @property
    def is_elsewhere(self) -> bool:
        return os.getpid() != self.parent

    def seen(self) -> list[int]:
        return [int(path.name) for path in self.folder.iterdir()]

    def show(self) -> None:
        (self.folder / str(os.getpid())).touch()

    def wait_for_others(self, count: int) -> None:
        end = time.monotonic() + 30
        while len(self.seen()) < count and time.monotonic() < end:
            time.sleep(0.01)


def count_others(scene: Scene, count: int, task: int, asker: Asker) -> tuple[int, int]:
    """Say which process did it; the first one waits until so many others have begun."""
    del asker
    if scene.is_elsewhere:
        scene.show()
    else:
        scene.wait_for_others(count)
    return task, os.getpid()


def die_elsewhere(scene: Scene, task: int, asker: Asker) -> int:
    """Kill any process but the first."""
    del asker
    if scene.is_elsewhere:
        scene.show()
        os.kill(os.getpid(), signal.SIGKILL)
    scene.wait_for_others(1)
    return task


def fail_elsewhere(scene: Scene, task: int, asker: Asker) -> int:
    """Raise in any process but the first."""
    del asker
    if scene.is_elsewhere:
        scene.show()
        raise FetchError("elsewhere")
    scene.wait_for_others(1)
    return task


def fail(task: int, asker: Asker) -> int:
    """Raise in every process."""
    del asker
    raise FetchError(f"task {task} cannot be done")


def linger_elsewhere(scene: Scene, task: int, asker: Asker) -> int:
    """Never end in any process but the first."""
    del asker
    if scene.is_elsewhere:
        scene.show()
        time.sleep(600)
    scene.wait_for_others(1)
    return task

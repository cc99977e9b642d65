"""Threads that wait for servers. They are daemons: an answer that nobody waits for keeps no process alive.

A thread is kept for the next job, since starting one costs more than what a small answer does. There is always one for
a job: whoever waits for a silent server keeps no other job waiting.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from queue import SimpleQueue

__all__ = ["Workers"]


class Workers:
    """As many threads as there are jobs at once."""

    def __init__(self, name: str) -> None:
        """Start none yet; ``name`` is what they are called."""
        self._name = name
        self._begin()

    def _begin(self) -> None:
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._threads: list[threading.Thread] = []

    def do(self, job: Callable[[], None]) -> None:
        """Begin a job, which must not raise."""
        self._jobs.put(job)
        if not self._idle.acquire(blocking=False):
            thread = threading.Thread(target=_work, args=(self._jobs, self._idle), name=self._name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def end(self, within_s: float) -> None:
        """Let every thread end after its job, and wait for that, but not longer than ``within_s``."""
        jobs, threads, end = self._jobs, self._threads, time.monotonic() + within_s
        self._begin()
        for _ in threads:
            jobs.put(None)
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))


def _work(jobs: SimpleQueue[Callable[[], None] | None], idle: threading.Semaphore) -> None:
    while (job := jobs.get()) is not None:
        job()
        idle.release()

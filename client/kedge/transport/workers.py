"""Threads that wait for servers. They are daemons: an answer that nobody waits for keeps no process alive.

A thread is kept for the next job, since starting one costs more than what a small answer does. There is always one for
a job: whoever waits for a silent server keeps no other job waiting.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Generic, TypeVar

__all__ = ["Begun", "Workers"]

R = TypeVar("R")


class Begun(Generic[R]):
    """A job that a thread has, and what it comes to."""

    def __init__(self, job: Callable[[], R], faults: tuple[type[Exception], ...]) -> None:
        """Keep a job for whoever calls; what of ``faults`` it raises is for whoever waits."""
        self._job = job
        self._faults = faults
        self._over = threading.Event()
        self._result: R | None = None
        self._fault: Exception | None = None

    def __call__(self) -> None:
        """Do it."""
        try:
            self._result = self._job()
        except self._faults as error:
            self._fault = error
        self._over.set()

    @property
    def is_over(self) -> bool:
        """Whether it has come to something."""
        return self._over.is_set()

    def result(self, timeout_s: float) -> R:
        """Wait for what it comes to, and give it or raise it.

        Raises:
            TimeoutError: it is not over in time.
        """
        if not self._over.wait(timeout_s):
            raise TimeoutError
        if self._fault is not None:
            raise self._fault
        result: R = self._result  # type: ignore[assignment] # what the job returned, which may be None
        return result


class Workers:
    """As many threads as there are jobs at once."""

    def __init__(self, name: str) -> None:
        """Start none yet; ``name`` is what they are called."""
        self._name = name
        self._anew()

    def _anew(self) -> None:
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._threads: list[threading.Thread] = []

    def begin(self, job: Callable[[], R], *, faults: tuple[type[Exception], ...] = ()) -> Begun[R]:
        """Begin a job. What it raises of ``faults`` is raised where its result is asked for; it raises nothing else."""
        begun = Begun(job, faults)
        self._jobs.put(begun)
        if not self._idle.acquire(blocking=False):
            thread = threading.Thread(target=_work, args=(self._jobs, self._idle), name=self._name, daemon=True)
            self._threads.append(thread)
            thread.start()
        return begun

    def end(self, within_s: float) -> None:
        """Let every thread end after its job; where one has a job, wait for that, but not longer than ``within_s``."""
        jobs, threads, end = self._jobs, self._threads, time.monotonic() + within_s
        are_idle = all(self._idle.acquire(blocking=False) for _ in threads)
        self._anew()
        for _ in threads:
            jobs.put(None)
        for thread in () if are_idle else threads:
            thread.join(max(0.0, end - time.monotonic()))


def _work(jobs: SimpleQueue[Callable[[], None] | None], idle: threading.Semaphore) -> None:
    while (job := jobs.get()) is not None:
        job()
        idle.release()

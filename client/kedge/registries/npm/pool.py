"""Many hands for one run: threads that ask and judge, and processes beside this one where one core is not enough.

What a packument costs is processor time (HTTP, decompressing, looking for a version), and the threads of one Python
share one core. So a long list is worked on by this process and by a few beside it, each with threads of its own, and
all of them take from the list as they get done.

Invariants:

- What another process does not answer, for whatever reason, is done here: one that cannot start, or is killed, costs
  time and no answer. What fails there is raised here, where it fails again.
- Another process runs the same Python with the same search path, and nothing of the working folder; orders and answers
  go through pipes that nobody else holds.
- It has nothing to lose, so it is killed when the run is over or broken off, and ends by itself when this process dies.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from typing import IO, Any, Final, TypeAlias

from kedge.errors import KedgeError
from kedge.registries.npm.fetch import Asker, FetchLimits, Watch

Work: TypeAlias = Callable[[Any, Asker], Any]
"""Does one task. Another process can do it if it can be pickled: a function of a module, or a ``partial`` of one."""

_TASKS_A_PROCESS: Final = 400
"""So many tasks are worth the start of a process."""

_MOST_PROCESSES: Final = 4
_MOST_AT_ONCE: Final = 32
_BATCHES_AHEAD: Final = 2


def ask_all(
    tasks: Sequence[Any],
    work: Work,
    done: Callable[[Any], None],
    *,
    limits: FetchLimits,
    jobs: int,
    processes: int | None = None,
) -> None:
    """Do ``work`` for every task, at most ``jobs`` at a time, and hand each result to ``done``, one after the other.

    ``processes`` are used, this one among them; by default as many as are worth it and as there are cores.

    Raises:
        KedgeError: ``work`` raised it; what is not done by then is left.
    """
    wanted = min(_MOST_PROCESSES, _cores(), len(tasks) // _TASKS_A_PROCESS) if processes is None else processes
    orders = _orders(work, limits, max(1, jobs // max(1, wanted)))
    undone = _Undone(tasks)
    with _others(wanted - 1 if orders is not None else 0, orders or b"") as others:
        hands = max(1, jobs // (len(others) + 1))
        _work(undone, work, done, limits=limits, jobs=hands, others=others)
    if undone:
        _work(undone, work, done, limits=limits, jobs=jobs, others=())


class _Undone:
    """The tasks that nobody has taken yet."""

    def __init__(self, tasks: Sequence[Any]) -> None:
        self._tasks = deque(tasks)
        self._lock = threading.Lock()

    def __bool__(self) -> bool:
        return bool(self._tasks)

    def take(self, most: int = 1) -> list[Any]:
        """Take some: a small part of what is left, so that all hands end at about the same time."""
        with self._lock:
            count = min(most, len(self._tasks), 1 + len(self._tasks) // 8)
            return [self._tasks.popleft() for _ in range(count)]

    def give_back(self, tasks: Sequence[Any]) -> None:
        """Put back what was taken and not done."""
        with self._lock:
            self._tasks.extend(tasks)


def _work(
    undone: _Undone,
    work: Work,
    done: Callable[[Any], None],
    *,
    limits: FetchLimits,
    jobs: int,
    others: Sequence[_Other],
) -> None:
    watch, one_by_one = Watch(limits), threading.Lock()

    def finish(results: Sequence[Any]) -> None:
        with one_by_one:
            for result in results:
                done(result)

    def ask() -> None:
        asker = Asker(watch)
        try:
            while not watch.ended.is_set() and (taken := undone.take()):
                finish([work(task, asker) for task in taken])
        finally:
            asker.close()

    hands = [ask] * jobs + [partial(other.direct, undone, finish) for other in others]
    workers = ThreadPoolExecutor(len(hands), thread_name_prefix="kedge-npm")
    try:
        for future in wait([workers.submit(hand) for hand in hands], return_when=FIRST_EXCEPTION).done:
            future.result()
    finally:
        watch.close()
        for other in others:
            other.kill()
        workers.shutdown(cancel_futures=True)


class _Other:
    """A process beside this one."""

    def __init__(self, orders: bytes) -> None:
        """Start it; ``orders`` are what it is told first.

        Raises:
            OSError: it cannot be started.
        """
        code = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import serve; serve()"
        # A process group of its own: an interrupt from the keyboard comes to this process, which ends the other.
        self._process = subprocess.Popen(  # noqa: S603 this Python, with our own code
            [sys.executable, "-I", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0
        )
        self._orders = orders

    def direct(self, undone: _Undone, finish: Callable[[Sequence[Any]], None]) -> None:
        """Give it tasks as long as there are any; what it does not answer goes back."""
        given: deque[list[Any]] = deque()
        to, back = _pipe(self._process.stdin), _pipe(self._process.stdout)
        try:
            to.write(self._orders)
            while True:
                # One batch more than it works on: it does not wait for this process to read.
                while len(given) < _BATCHES_AHEAD and (batch := undone.take(_MOST_AT_ONCE)):
                    given.append(batch)
                    pickle.dump(batch, to)
                to.flush()
                if not given:
                    return
                results = pickle.load(back)  # noqa: S301 our own process, through a pipe that nobody else holds
                given.popleft()
                finish(results)
        except (OSError, EOFError, pickle.UnpicklingError):
            return  # it has died, or was killed because the run is over
        finally:
            for batch in given:
                undone.give_back(batch)

    def kill(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Close the pipes, once nobody reads or writes any more."""
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(BrokenPipeError):  # what was not written is not wanted any more
                _pipe(pipe).close()


@contextlib.contextmanager
def _others(count: int, orders: bytes) -> Iterator[list[_Other]]:
    others: list[_Other] = []
    try:
        for _ in range(count):
            with contextlib.suppress(OSError):  # this process does all of it then
                others.append(_Other(orders))
        yield others
    finally:
        for other in others:
            other.kill()
            other.close()


def _orders(work: Work, limits: FetchLimits, jobs: int) -> bytes | None:
    if not sys.executable or getattr(sys, "frozen", False):
        return None  # an application that holds a Python, and is none
    try:
        return pickle.dumps(_Orders(work=work, limits=limits, jobs=jobs))
    except (pickle.PicklingError, TypeError, AttributeError):
        return None  # it stands on something that cannot leave this process


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise RuntimeError("the process was started with pipes")
    return pipe


@dataclass(frozen=True, slots=True, kw_only=True)
class _Orders:
    """What another process is told first."""

    work: Work
    limits: FetchLimits
    jobs: int


def serve() -> None:
    """Be that other process: do what comes in, and answer, until nothing comes any more."""
    orders = sys.stdin.buffer
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)  # what is printed by mistake is no answer
        told: _Orders = pickle.load(orders)  # noqa: S301 the process that started this one
        hired = _Hired(told, answers)
        with contextlib.suppress(EOFError):
            while True:
                hired.take(pickle.load(orders))  # noqa: S301 as above
        os._exit(0)  # whoever would read the rest is gone


class _Hired:
    """The hands of another process."""

    def __init__(self, told: _Orders, answers: IO[bytes]) -> None:
        self._told = told
        self._answers = answers
        self._watch = Watch(told.limits)
        self._own = threading.local()
        self._lock = threading.Lock()
        self._workers = ThreadPoolExecutor(told.jobs, thread_name_prefix="kedge-npm")

    def take(self, batch: Sequence[Any]) -> None:
        """Begin with some tasks."""
        results: list[Any] = []
        for task in batch:
            self._workers.submit(self._do, task, results, len(batch)).add_done_callback(_end_if_broken)

    def _do(self, task: Any, results: list[Any], count: int) -> None:
        if not hasattr(self._own, "asker"):
            self._own.asker = Asker(self._watch)
        result = self._told.work(task, self._own.asker)
        with self._lock:
            results.append(result)
            if len(results) == count:
                pickle.dump(results, self._answers)
                self._answers.flush()


def _end_if_broken(done: Future[None]) -> None:
    error = done.exception()
    if error is None:
        return
    if not isinstance(error, KedgeError | OSError):
        sys.excepthook(type(error), error, error.__traceback__)
    os._exit(1)  # it is tried again, and fails, where the orders come from

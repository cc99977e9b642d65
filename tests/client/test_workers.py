"""The threads that wait for servers: kept for the next job, and never in its way."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from kedge.transport.http import Workers


def waiting_for(event: threading.Event) -> Callable[[], None]:
    def job() -> None:
        event.wait(30)

    return job


def test_a_thread_is_kept_for_the_next_job() -> None:
    workers, seen = Workers("test"), []
    for _ in range(20):
        done = threading.Event()

        def job(done: threading.Event = done) -> None:
            seen.append(threading.get_ident())
            done.set()

        workers.begin(job)
        assert done.wait(10)
    workers.end(10)
    assert len(set(seen)) < 10  # a job may come before the thread of the last one has come back for it


def test_what_a_job_returns_or_raises_is_for_who_waits_for_it() -> None:
    workers = Workers("test")
    assert workers.begin(lambda: 42).result(10) == 42
    failing = workers.begin(lambda: int("x"), faults=(ValueError,))
    with pytest.raises(ValueError, match="invalid literal"):
        failing.result(10)
    assert failing.is_over
    stuck = threading.Event()
    waiting = workers.begin(waiting_for(stuck))
    with pytest.raises(TimeoutError):
        waiting.result(0.01)
    assert not waiting.is_over
    stuck.set()
    workers.end(10)


def test_a_job_that_does_not_end_keeps_no_other_waiting() -> None:
    workers, stuck, done = Workers("test"), threading.Event(), threading.Event()
    for _ in range(8):
        workers.begin(waiting_for(stuck))
    workers.begin(done.set)
    assert done.wait(10)
    stuck.set()
    workers.end(10)


def test_ending_waits_no_longer_than_asked_and_a_new_job_begins_anew() -> None:
    workers, stuck, done = Workers("test"), threading.Event(), threading.Event()
    workers.begin(waiting_for(stuck))
    workers.end(0.05)
    workers.begin(done.set)
    assert done.wait(10)
    stuck.set()
    workers.end(10)

"""Drives the pure workflow: answers what it asks for, and says what may not be accepted."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

from kedge.checks import Freshness, describe_age
from kedge.document import format_time
from kedge.session import Session
from kedge.state import TrustedState
from kedge.steps import MISSING, Accepted, Answer, Fetch, Gate, Missing, Phase, Recall
from kedge.workflow import Workflow

if TYPE_CHECKING:
    from kedge.lockfile import Lock

__all__ = ["clock_warning", "drive", "drive_afresh", "gate", "no_network"]

R = TypeVar("R")


def drive(steps: Workflow[R], session: Session, get: Callable[[Fetch], bytes | Missing]) -> R:
    """Run ``steps`` to their end: ``get`` answers for the repository, ``session`` for what is held, and keeps.

    Raises:
        KedgeError: as the steps do, and as ``get`` does.
    """
    return _run(steps, get, session.recall, session.accept)


def drive_afresh(steps: Workflow[R], get: Callable[[Fetch], bytes | Missing]) -> R:
    """Run ``steps`` as one who holds nothing from before, and keeps nothing.

    Raises:
        KedgeError: as the steps do, and as ``get`` does.
    """
    return _run(steps, get, lambda _: MISSING, lambda _: None)


def _run(
    steps: Workflow[R],
    get: Callable[[Fetch], bytes | Missing],
    recall: Callable[[Recall], bytes | Missing],
    accept: Callable[[Accepted], None],
) -> R:
    answer: Answer = None
    while True:
        try:
            step = steps.send(answer)
        except StopIteration as end:
            result: R = end.value
            return result
        match step:
            case Fetch():
                answer = get(step)
            case Recall():
                answer = recall(step)
            case Accepted():
                accept(step)
                answer = None


def no_network(request: Fetch) -> Missing:  # noqa: ARG001 the signature of a transport's get
    """Answer that nothing is there, for steps that must do with what is held."""
    return MISSING


def gate(session: Session, lock: Lock | None) -> Gate:
    """What is asked before a state is accepted: that the chain is the anchor's, and that it is not below the lock."""

    def check(phase: Phase, state: TrustedState) -> None:
        if phase is Phase.ROOT:
            session.require_anchor(state)
        if lock is not None:
            lock.check(session.anchor, phase, state)

    return check


def clock_warning(freshness: Freshness, now: datetime, lock: Lock | None, anchor: str) -> tuple[str, ...]:
    """What is to be said where this machine's clock is behind the time that is judged by."""
    if freshness.as_of or freshness.reference_time <= now:
        return ()
    floor = format_time(freshness.reference_time)
    behind = describe_age(freshness.reference_time - now)
    seen = "which a refresh has seen"
    if lock is not None and lock.time(anchor) == freshness.reference_time:
        seen = f"which {lock.place(anchor, 'time')} holds"
    return (f"this machine's clock is {behind} behind {floor}, {seen}: judged by that time",)

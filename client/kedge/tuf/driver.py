"""Run the workflow: answer what it asks for, by a transport and by what is held.

::

    state = run(workflow.refresh(begin(root), freshness), get)     # nothing is held from before, and nothing is kept
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from kedge.tuf.steps import MISSING, Accepted, Answer, Fetch, Missing, Recall
from kedge.tuf.workflow import Workflow

R = TypeVar("R")


def _nothing_held(_: Recall) -> Missing:
    return MISSING


def _keep_nothing(_: Accepted) -> None:
    return None


def run(
    steps: Workflow[R],
    get: Callable[[Fetch], bytes | Missing],
    *,
    recall: Callable[[Recall], bytes | Missing] = _nothing_held,
    accept: Callable[[Accepted], None] = _keep_nothing,
) -> R:
    """Run ``steps`` to their end: ``get`` answers for the repository, ``recall`` for what is held, ``accept`` keeps.

    Raises:
        KedgeError: as the steps do, and as ``get`` does.
    """
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

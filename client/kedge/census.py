"""Every targets role that a repository delegates to, and every target that one of them may list.

The client's own look-up (:func:`kedge.workflow.find`) loads only the roles on its way. Whoever copies a repository, or
shows its history, needs all of them: this is the same walk without a path to look for.

A role that the snapshot does not list, although it is delegated to, was never published and is passed over. A target
counts where the delegations on the way to its role cover its path: others are in no client's reach.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, TypeAlias

from kedge import checks, workflow
from kedge.checks import Freshness
from kedge.errors import Reason, Refusal, VerificationError
from kedge.metadata import TARGETS
from kedge.state import TrustedState
from kedge.steps import Answer, Area, Fetch, Limits, Recall
from kedge.workflow import Workflow

if TYPE_CHECKING:
    from tuf.api.metadata import TargetFile, Targets

__all__ = ["MAX_ROLES", "Listed", "every_role", "every_target"]

MAX_ROLES = 100_000

Covers: TypeAlias = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Listed:
    """A target, and the role that lists it."""

    role: str
    target: TargetFile


def every_role(state: TrustedState, freshness: Freshness, *, limits: Limits | None = None) -> Workflow[TrustedState]:
    """Load every role that is delegated to and published, and verify it by whoever delegates to it.

    Raises:
        VerificationError: one of them must not be trusted, or there are more than :data:`MAX_ROLES`.
        ExpiredError: one of them has expired.
    """
    limits = limits or Limits()
    waiting, seen = [TARGETS.type], {TARGETS.type}
    while waiting:
        delegator = state.roles[waiting.pop()].signed
        children = [child for child in _children(delegator) if child not in seen and _is_published(state, child)]
        if len(seen) + len(children) > MAX_ROLES:
            refusal = Refusal(reason=Reason.LIMIT, file="snapshot.json", expected=f"at most {MAX_ROLES} roles")
            raise VerificationError(f"more than {MAX_ROLES} roles are delegated to", refusal=refusal)
        missing = yield from _not_held(state, children)
        for child in children:
            ahead: tuple[Fetch, ...] = ()
            if missing and missing[0] == child:
                missing.popleft()
                coming = islice(missing, limits.root_window)
                ahead = tuple(workflow.role_request(state, name, delegator, freshness, limits) for name in coming)
            state = yield from _with_ahead(workflow.update_role(state, child, delegator, freshness, limits), ahead)
        seen.update(children)
        waiting += children
    return state


def _not_held(state: TrustedState, roles: Iterable[str]) -> Workflow[deque[str]]:
    """The roles whose newest version is not held from before, in their order."""
    missing: deque[str] = deque()
    for role in roles:
        held = yield Recall(Area.METADATA, role)
        if not isinstance(held, bytes) or not checks.content_matches(checks.role_meta(state, role), held):
            missing.append(role)
    return missing


def _with_ahead(steps: Workflow[TrustedState], ahead: tuple[Fetch, ...]) -> Workflow[TrustedState]:
    """The same steps, whose requests also name what will be asked for next."""
    answer: Answer = None
    while True:
        try:
            step = steps.send(answer)
        except StopIteration as end:
            state: TrustedState = end.value
            return state
        answer = yield replace(step, ahead=ahead) if isinstance(step, Fetch) else step


def every_target(state: TrustedState) -> Iterator[Listed]:
    """Give every target that is in reach, of the roles that ``state`` holds; one that two roles list comes twice."""
    waiting: list[tuple[str, tuple[Covers, ...]]] = [(TARGETS.type, ())]
    seen = {TARGETS.type}
    while waiting:
        role, way = waiting.pop()
        signed = state.roles[role].signed
        for path, target in signed.targets.items():
            if all(covers(path) for covers in way):
                yield Listed(role, target)
        for child in _children(signed):
            if child in state.roles and child not in seen:
                seen.add(child)
                waiting.append((child, (*way, _coverage(signed, child))))


def _children(delegator: Targets) -> Iterator[str]:
    delegations = delegator.delegations
    if delegations is None:
        return
    if delegations.roles is not None:
        yield from delegations.roles
    if delegations.succinct_roles is not None:
        yield from delegations.succinct_roles.get_roles()


def _coverage(delegator: Targets, child: str) -> Covers:
    """Which paths a delegation to ``child`` covers."""
    delegations = delegator.delegations
    if delegations is not None and delegations.roles is not None:
        return delegations.roles[child].is_delegated_path
    bins = delegations.succinct_roles if delegations is not None else None
    return lambda path: bins is not None and bins.get_role_for_target(path) == child


def _is_published(state: TrustedState, role: str) -> bool:
    return state.snapshot is not None and f"{role}.json" in state.snapshot.signed.meta

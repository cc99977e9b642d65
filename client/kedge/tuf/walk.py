"""Many target paths looked up at once: each role on the way is read once, and files are asked for side by side.

The answer for each path is that of :func:`kedge.tuf.workflow.find`: the same walk through the delegations, in the same
order of trust, with the same limits. What differs is when the roles are read: all searches go on step by step
together, so that a role which many of them come to (a registry's role above its hash bins, or a bin) is read and
checked once, and what the next step needs is known before the first of it is asked for.

Source: TUF 1.0.34 §5.6.7, TAP 15.

Every targets role that a repository delegates to, and every target that one of them may list.

The client's own look-up (:func:`find`) loads only the roles on its way. Whoever copies a repository, or
shows its history, needs all of them: this is the same walk without a path to look for.

A role that the snapshot does not list, although it is delegated to, was never published and is passed over. A target
counts where the delegations on the way to its role cover its path: others are in no client's reach.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, TypeAlias

from kedge.errors import Reason, Refusal, VerificationError
from kedge.tuf import checks, workflow
from kedge.tuf.checks import Freshness
from kedge.tuf.metadata import TARGETS
from kedge.tuf.state import TrustedState, sha256_hex
from kedge.tuf.steps import Answer, Area, Fetch, Found, Limits, Recall
from kedge.tuf.trust import Target
from kedge.tuf.workflow import Workflow

if TYPE_CHECKING:
    from tuf.api.metadata import TargetFile, Targets


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


Follow: TypeAlias = Callable[[Callable[[TrustedState, Freshness], Workflow[TrustedState]]], TrustedState]
"""A client's :meth:`~kedge.client.client.TrustClient.follow`, with the time that it may take."""

AHEAD = 8
"""How many files are asked for ahead of the one that is waited for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookups:
    """What came of it: the target of each path that a role lists; and the state, with all roles that were read."""

    found: Mapping[str, Found]
    state: TrustedState


@dataclass(slots=True)
class _Search:
    """One path's walk: the roles that wait, each with its delegator, the last one next; and those that were visited."""

    path: str
    waiting: list[tuple[str, str | None]] = field(default_factory=lambda: [(TARGETS.type, None)])
    visited: set[str] = field(default_factory=set)

    def next(self) -> tuple[str, str | None] | None:
        """The role to visit next; None at the end."""
        # §5.6.7.1 a role is visited once; cycles end here
        while self.waiting and self.waiting[-1][0] in self.visited:
            self.waiting.pop()
        return self.waiting[-1] if self.waiting else None

    def visit(self, state: TrustedState, limits: Limits) -> TargetFile | None:
        """Look into the role that is next, and on to those that it delegates to."""
        role, _ = self.waiting.pop()
        if len(self.visited) > limits.delegations:
            message = f"{self.path}: more than {limits.delegations} delegations lead to it"
            raise VerificationError(message, refusal=Refusal(reason=Reason.LIMIT, file=self.path))
        self.visited.add(role)
        signed = state.roles[role].signed
        target = signed.targets.get(self.path)
        if target is not None or signed.delegations is None:
            return target
        # §5.6.7.2 delegations in their order; a terminating one ends the search behind it
        children: list[tuple[str, str | None]] = []
        for child, terminating in signed.delegations.get_roles_for_target(self.path):
            children.append((child, role))
            if terminating:
                self.waiting.clear()
                break
        self.waiting.extend(reversed(children))
        return None


def find_all(
    state: TrustedState, paths: Iterable[str], freshness: Freshness, *, limits: Limits | None = None
) -> Workflow[Lookups]:
    """Look target paths up; one that nobody lists who may speak for it is left out of the answer.

    Raises:
        VerificationError: a role on the way must not be trusted, or more delegations lead to a path than the limit.
        ExpiredError: a role on the way has expired.
        FetchError: a role on the way is not there.
    """
    limits = limits or Limits()
    searches = [_Search(path) for path in dict.fromkeys(paths)]
    targets: dict[str, tuple[str, TargetFile]] = {}
    checked: set[tuple[str, str | None]] = set()
    while searches:
        wanted = dict.fromkeys(role for search in searches if (role := search.next()) is not None)
        state = yield from _update_roles(state, [role for role in wanted if role not in checked], freshness, limits)
        checked.update(wanted)
        going_on: list[_Search] = []
        for search in searches:
            role = search.next()
            if role is None:
                continue
            target = search.visit(state, limits)
            if target is None:
                going_on.append(search)
            else:
                targets[search.path] = role[0], target
        searches = going_on
    return Lookups(found={path: Found(role, target, state) for path, (role, target) in targets.items()}, state=state)


def download_all(found: Sequence[Found]) -> Workflow[list[bytes]]:
    """Take the targets' files from what is held, or fetch them, and check them.

    Raises:
        VerificationError: a length or a digest is not what the role lists, or a path leads out of the repository.
        FetchError: one of them is not there.
    """
    files: dict[int, bytes] = {}
    missing: list[tuple[int, Fetch]] = []
    for index, each in enumerate(found):
        held = yield from workflow.held_target(each)
        if held is None:
            missing.append((index, workflow.target_request(each)))
        else:
            files[index] = held
    requests = [request for _, request in missing]
    for number, (index, request) in enumerate(missing):
        files[index] = yield from workflow.fetch_target(found[index], _with_ahead_lookups(request, requests, number))
    return [files[index] for index in range(len(found))]


def get_all(follow: Follow, paths: Iterable[str], *, limits: Limits | None = None) -> dict[str, Target]:
    """Give many targets at once; what nobody lists who may speak for it is left out.

    Raises:
        VerificationError: a role or a file must not be trusted.
        ExpiredError: a role has expired beyond what the policy allows.
        FetchError: something cannot be had.
    """
    got: dict[str, Target] = {}

    def steps(state: TrustedState, freshness: Freshness) -> Workflow[TrustedState]:
        looked_up = yield from find_all(state, paths, freshness, limits=limits)
        found = list(looked_up.found.values())
        files = yield from download_all(found)
        got.update((each.target.path, _target(each, data)) for each, data in zip(found, files, strict=True))
        return looked_up.state

    follow(steps)
    return got


def _target(found: Found, data: bytes) -> Target:
    custom = found.target.custom
    return Target(
        path=found.target.path,
        data=data,
        sha256=sha256_hex(data),
        role=found.role,
        custom=custom if isinstance(custom, Mapping) else None,
    )


def _update_roles(
    state: TrustedState, roles: Sequence[tuple[str, str | None]], freshness: Freshness, limits: Limits
) -> Workflow[TrustedState]:
    missing: list[tuple[str, str | None, Fetch]] = []
    for role, delegator in roles:
        signed = state.root if delegator is None else state.roles[delegator].signed
        state, is_current = yield from workflow.held_role(state, role, signed, freshness)
        if not is_current:
            missing.append((role, delegator, workflow.role_request(state, role, signed, freshness, limits)))
    requests = [request for _, _, request in missing]
    for number, (role, delegator, request) in enumerate(missing):
        signed = state.root if delegator is None else state.roles[delegator].signed
        asked = _with_ahead_lookups(request, requests, number)
        state = yield from workflow.fetch_role(state, role, signed, freshness, asked)
    return state


def _with_ahead_lookups(request: Fetch, requests: Sequence[Fetch], number: int) -> Fetch:
    return replace(request, ahead=tuple(requests[number + 1 : number + 1 + AHEAD]))

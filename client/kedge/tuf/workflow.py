"""The TUF client workflow, complete and pure: it says what to ask for next, and never asks itself.

Each function is a generator. It yields

- :class:`Recall`: a file that may be held from before; the answer is its bytes or ``MISSING``;
- :class:`Fetch`: a file of the repository; the answer is its bytes or ``MISSING``;
- :class:`Accepted`: a file that has passed, with the state that now holds; the answer is None;

and returns the last state. Whoever drives it (:mod:`kedge.client.client`, a test) does the reading and writing.

Invariants:

- No file, no socket, no clock: the reference time comes in with :class:`~kedge.tuf.checks.Freshness`.
- Nothing that is recalled is trusted for having been held: it passes the same checks again, from the initial root on.
- A limit is an error with its own text, never a silent end: a client that stops early would take a revoked key for a
  good one.
- ``Fetch.ahead`` names files that will probably be asked for next. It is a hint, and changes no decision.

Source: TUF 1.0.34 §5, TAP 15 for hash bins.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeAlias, TypeVar
from urllib.parse import quote

from kedge.errors import FetchError, Reason, Refusal, VerificationError
from kedge.tuf import checks
from kedge.tuf.checks import Freshness
from kedge.tuf.metadata import ROOT, TARGETS, TIMESTAMP, parse
from kedge.tuf.state import Floors, TrustedState, sha256_hex
from kedge.tuf.steps import (
    MISSING,
    Accepted,
    Answer,
    Area,
    Fetch,
    Found,
    Gate,
    Judge,
    Limits,
    Merit,
    Missing,
    Phase,
    Recall,
    Step,
)

if TYPE_CHECKING:
    from tuf.api.metadata import MetaFile, Root, TargetFile, Targets


R = TypeVar("R")
Workflow: TypeAlias = Generator[Step, Answer, R]


def restore(state: TrustedState, freshness: Freshness) -> Workflow[TrustedState]:
    """Take up what is held from before, as far as it still verifies; what does not is left out.

    A file that is refused here was damaged on this machine or is superseded; the repository is asked for it again.
    """
    while isinstance(held := (yield Recall(Area.ROOTS, str(state.root.version + 1))), bytes):
        try:
            state = checks.accept_root(state, held)
        except VerificationError:
            break
    for name in ("timestamp", "snapshot", "targets"):
        held = yield Recall(Area.METADATA, name)
        if not isinstance(held, bytes):
            break
        try:
            if name == "timestamp":
                state = checks.accept_timestamp(state, held, freshness)
            elif name == "snapshot":
                state = checks.accept_snapshot(state, held, freshness)
            else:
                state = checks.accept_role(state, held, TARGETS.type, state.root, freshness)
        except VerificationError:
            break
    return state


def refresh(
    state: TrustedState,
    freshness: Freshness,
    *,
    recorded: Iterable[Floors] = (),
    limits: Limits | None = None,
    gate: Gate | None = None,
) -> Workflow[TrustedState]:
    """Bring the four top-level roles up to date.

    ``recorded`` are the floors of earlier runs, which count even where the files that set them are lost.
    ``gate`` may refuse what is right by the specification, before it is accepted.

    Raises:
        VerificationError: something served must not be trusted.
        ExpiredError: something has expired.
        FetchError: a file that the metadata names is not there.
    """
    limits = limits or Limits()
    recorded = tuple(recorded)
    state = state.raise_floors(Floors(root=max((floors.root for floors in recorded), default=0)))
    started = state.root.version
    state, end = yield from _update_root(state, limits)
    gate = gate or _let_pass
    try:
        return (yield from _update_rest(state, freshness, recorded, limits, gate, end=end))
    except VerificationError as error:
        if error.refusal.reason is not Reason.SIGNATURES or not limits.root_window:
            raise
        # A new root may have been published between two requests: ask once more, in order, before refusing. Or the
        # timestamp was asked ahead, before a root that is known now replaced its key.
        newer, end = yield from _update_root(state, replace(limits, root_window=0), again=True)
        if newer.root.version == started:
            raise
    return (yield from _update_rest(newer, freshness, recorded, limits, gate, end=end, again=True))


def find(state: TrustedState, path: str, freshness: Freshness, *, limits: Limits | None = None) -> Workflow[Found]:
    """Look a target path up: in the targets role, then through its delegations, in order of trust.

    Raises:
        VerificationError: nobody who may speak for the path lists it (reason ``not-found``), or a role on the way must
            not be trusted, or there are more delegations than the limit.
    """
    limits = limits or Limits()
    waiting: list[tuple[str, str | None]] = [(TARGETS.type, None)]
    visited: set[str] = set()
    # §5.6.7 pre-order depth-first search through the delegations
    while waiting:
        role, delegator = waiting.pop()
        # §5.6.7.1 a role is visited once; cycles end here
        if role in visited:
            continue
        if len(visited) > limits.delegations:
            raise _limit(f"{path}: more than {limits.delegations} delegations lead to it", path)
        state = yield from update_role(state, role, _signed(state, delegator), freshness, limits)
        visited.add(role)
        signed = state.roles[role].signed
        target = signed.targets.get(path)
        if target is not None:
            return Found(role, target, state)
        # §5.6.7.2 delegations in their order; a terminating one ends the search behind it
        children: list[tuple[str, str | None]] = []
        for child, terminating in signed.delegations.get_roles_for_target(path) if signed.delegations else ():
            children.append((child, role))
            if terminating:
                waiting.clear()
                break
        waiting.extend(reversed(children))
    refusal = Refusal(reason=Reason.NOT_FOUND, file=path, expected="a role that lists it", found="none")
    raise VerificationError(f"{path}: no role that may speak for it lists this target", refusal=refusal)


def download(found: Found) -> Workflow[bytes]:
    """Take the target's file from what is held, or fetch it, and check it.

    Raises:
        VerificationError: its length or a digest is not what the role lists, or its path leads out of the repository.
        FetchError: it is not there.
    """
    held = yield from held_target(found)
    if held is not None:
        return held
    return (yield from fetch_target(found, target_request(found)))


def held_target(found: Found) -> Workflow[bytes | None]:
    """Take the target's file from what is held; None where that is not what the role lists."""
    held = yield Recall(Area.TARGETS, found.target.path)
    return held if isinstance(held, bytes) and checks.content_matches(found.target, held) else None


def target_request(found: Found) -> Fetch:
    """What to ask the repository for, to have a target's file.

    Raises:
        VerificationError: its path leads out of the repository.
    """
    # §5.7.1 with consistent snapshots a digest stands before the file's name
    path, *_ = target_paths(found.target, consistent=bool(found.state.root.consistent_snapshot))
    check = partial(checks.check_target, found.target)
    return Fetch(Area.TARGETS, path, found.target.length, judge=_passing(check))


def fetch_target(found: Found, request: Fetch) -> Workflow[bytes]:
    """Fetch a target's file and check it.

    Raises:
        VerificationError: its length or a digest is not what the role lists.
        FetchError: it is not there.
    """
    data = yield from _fetch(request)
    checks.check_target(found.target, data)
    yield Accepted(Area.TARGETS, found.target.path, data, found.state)
    return data


def update_role(
    state: TrustedState, role: str, delegator: Root | Targets, freshness: Freshness, limits: Limits
) -> Workflow[TrustedState]:
    """Bring one targets role up to date, as ``delegator`` delegates to it.

    Raises:
        VerificationError: what is served must not be trusted.
        ExpiredError: it has expired.
        FetchError: it is not there.
    """
    state, is_current = yield from held_role(state, role, delegator, freshness)
    if is_current:
        return state
    request = role_request(state, role, delegator, freshness, limits)
    return (yield from fetch_role(state, role, delegator, freshness, request))


def held_role(
    state: TrustedState, role: str, delegator: Root | Targets, freshness: Freshness
) -> Workflow[tuple[TrustedState, bool]]:
    """Take a targets role from what is held, as far as that is what the snapshot and ``delegator`` ask for today.

    Gives the state, and whether the role is in it now; else the repository must be asked (:func:`fetch_role`).

    Raises:
        VerificationError: the snapshot does not list the role.
    """
    checks.role_meta(state, role)
    if role in state.roles:
        try:
            checks.check_held_role(state, role, delegator, freshness)
        except VerificationError:
            state = replace(state, roles={name: held for name, held in state.roles.items() if name != role})
        else:
            return state, True
    recalled = yield Recall(Area.METADATA, role)
    if isinstance(recalled, bytes):
        try:
            return checks.accept_role(state, recalled, role, delegator, freshness), True
        except VerificationError:
            pass  # superseded or damaged: the repository has the right one
    return state, False


def role_request(
    state: TrustedState, role: str, delegator: Root | Targets, freshness: Freshness, limits: Limits
) -> Fetch:
    """What to ask the repository for, to have a targets role as the snapshot names it."""
    meta = checks.role_meta(state, role)
    prefix = f"{meta.version}." if state.root.consistent_snapshot else ""
    accept = partial(checks.accept_role, state, role=role, delegator=delegator, freshness=freshness)
    path = f"{prefix}{quote(role, safe='')}.json"
    return Fetch(Area.METADATA, path, _bound(meta, limits.targets_bytes), judge=_passing(accept))


def fetch_role(
    state: TrustedState, role: str, delegator: Root | Targets, freshness: Freshness, request: Fetch
) -> Workflow[TrustedState]:
    """Fetch a targets role and check it.

    Raises:
        VerificationError: what is served must not be trusted.
        ExpiredError: it has expired.
        FetchError: it is not there.
    """
    # §5.6.1 fetch
    data = yield from _fetch(request)
    state = checks.accept_role(state, data, role, delegator, freshness)
    # §5.6.6 keep it
    yield Accepted(Area.METADATA, role, data, state)
    return state


def _update_root(state: TrustedState, limits: Limits, *, again: bool = False) -> Workflow[tuple[TrustedState, Missing]]:
    """Follow the chain of roots to its end; the answer that ended it says where the next one was looked for."""
    ahead = opening(state.root.version, limits, cold=state.timestamp is None)[1:]
    # §5.3.3 ask for one root after the other until there is no next one
    for _ in range(limits.root_rotations):
        request = root_request(state.root.version + 1, limits)
        answer = yield replace(request, ahead=ahead, again=again, judge=partial(_judge_root, state))
        if not isinstance(answer, bytes):
            return state, answer or MISSING
        state = checks.accept_root(state, answer)
        # §5.3.8 keep it
        yield Accepted(Area.ROOTS, str(state.root.version), answer, state)
        # A chain has begun: take it in windows.
        ahead = tuple(root_request(state.root.version + step, limits) for step in range(2, limits.root_window + 1))
    # §5.3.3 the limit on roots is an error: what comes after it may have revoked the key that signs next
    answer = yield root_request(state.root.version + 1, limits)
    if isinstance(answer, bytes):
        message = f"{state.root.version + 1}.root.json: more than {limits.root_rotations} new roots in one refresh"
        raise _limit(message, f"{state.root.version + 1}.root.json")
    return state, answer or MISSING


def opening(root: int, limits: Limits, *, cold: bool) -> tuple[Fetch, ...]:
    """What a refresh that starts from version ``root`` asks for first, all at once.

    Mostly there is no newer root, and the timestamp is next. Where nothing is held yet, a chain of roots is likely.
    """
    if not limits.root_window:
        return (root_request(root + 1, limits),)
    steps = limits.root_window if cold else 1
    roots = tuple(root_request(root + step, limits) for step in range(1, steps + 1))
    return (*roots, _timestamp_request(limits))


def root_request(version: int, limits: Limits) -> Fetch:
    """How a root is asked for, which may be missing."""
    return Fetch(Area.METADATA, f"{version}.root.json", limits.root_bytes, mutable=True, may_be_missing=True)


def _timestamp_request(limits: Limits) -> Fetch:
    return Fetch(Area.METADATA, "timestamp.json", limits.timestamp_bytes, mutable=True)


def _update_rest(
    state: TrustedState,
    freshness: Freshness,
    recorded: tuple[Floors, ...],
    limits: Limits,
    gate: Gate,
    *,
    end: Missing,
    again: bool = False,
) -> Workflow[TrustedState]:
    gate(Phase.ROOT, state)
    checks.check_final_root(state)
    state = checks.settle_floors(state, recorded)
    freshness = freshness.above(state.floors)
    # §5.3.10 freeze: the final root must not have expired
    checks.require_unexpired(state.newest_root, ROOT.type, freshness, no_newer=end.where)
    state = yield from _update_timestamp(state, freshness, limits, gate, again=again)
    state = yield from _update_snapshot(state, freshness, limits, gate)
    return (yield from update_role(state, TARGETS.type, state.root, freshness, limits))


def _update_timestamp(
    state: TrustedState, freshness: Freshness, limits: Limits, gate: Gate, *, again: bool
) -> Workflow[TrustedState]:
    # §5.4.1 fetch
    judge = partial(_judge_timestamp, state, freshness)
    data = yield from _fetch(replace(_timestamp_request(limits), judge=judge, again=again))
    accepted = checks.accept_timestamp(state, data, freshness)
    gate(Phase.TIMESTAMP, accepted)
    if accepted is not state:
        # §5.4.5 keep it
        yield Accepted(Area.METADATA, "timestamp", data, accepted)
    return accepted


def _update_snapshot(state: TrustedState, freshness: Freshness, limits: Limits, gate: Gate) -> Workflow[TrustedState]:
    if state.timestamp is None:
        raise RuntimeError("the snapshot comes after the timestamp")
    meta = state.timestamp.signed.snapshot_meta
    held = state.snapshot
    if held is not None and held.signed.version == meta.version and checks.content_matches(meta, held.data):
        checks.require_unexpired(held, "snapshot", freshness)
        gate(Phase.SNAPSHOT, state)
        return state
    # §5.5.1 fetch
    prefix = f"{meta.version}." if state.root.consistent_snapshot else ""
    request = Fetch(Area.METADATA, f"{prefix}snapshot.json", _bound(meta, limits.snapshot_bytes))
    accept = partial(checks.accept_snapshot, state, freshness=freshness)
    data = yield from _fetch(replace(request, judge=_passing(accept)))
    state = checks.accept_snapshot(state, data, freshness)
    gate(Phase.SNAPSHOT, state)
    # §5.5.7 keep it
    yield Accepted(Area.METADATA, "snapshot", data, state)
    return state


def _bound(meta: MetaFile, limit: int) -> int:
    """The most that is read: what the metadata says, and never more than the limit."""
    return limit if meta.length is None else min(meta.length, limit)


def _signed(state: TrustedState, delegator: str | None) -> Root | Targets:
    return state.root if delegator is None else state.roles[delegator].signed


def _let_pass(phase: Phase, state: TrustedState) -> None:
    """Refuse nothing."""


def _judge_root(state: TrustedState, data: bytes) -> Merit:
    newest = checks.accept_root(state, data).newest_root
    return Merit(newest.signed.version, sha256_hex(newest.payload))


def _judge_timestamp(state: TrustedState, freshness: Freshness, data: bytes) -> Merit:
    checks.accept_timestamp(state, data, freshness)
    parsed = parse(data, TIMESTAMP, file="timestamp.json")
    return Merit(parsed.signed.version, sha256_hex(parsed.payload))


def _passing(check: Callable[[bytes], object]) -> Judge:
    """Judge a file that cannot change: it passes or not, and there is no newer one."""

    def judge(data: bytes) -> Merit:
        check(data)
        return Merit(0)

    return judge


def _fetch(request: Fetch) -> Workflow[bytes]:
    answer = yield request
    if isinstance(answer, bytes):
        return answer
    at = f": {answer.where}" if answer is not None and answer.where else ""
    raise FetchError(
        f"{request.path}: is not there{at}",
        hint="the repository names it, so the mirror is incomplete, or its address is not that of a TUF repository",
    )


def target_paths(target: TargetFile, *, consistent: bool) -> tuple[str, ...]:
    """The paths, below the repository's targets, under which clients ask for a target; the first is what we ask for.

    With consistent snapshots a digest stands before the name. Which one, where several are listed, clients decide
    differently: ours takes sha256, python-tuf the first, go-tuf any of them; so the file lies under all those names.

    Raises:
        VerificationError: the target's path leads out of the repository.
    """
    if not consistent:
        return (_quoted_path(target, None),)
    return tuple(_quoted_path(target, digest) for digest in prefixes(target.hashes))


def prefixes(hashes: Mapping[str, str]) -> tuple[str, ...]:
    """The digests that clients put before a target's name in a consistent snapshot; the first is what we put there."""
    digests = (hashes["sha256"], *hashes.values()) if "sha256" in hashes else hashes.values()
    return tuple(dict.fromkeys(digests))


def _quoted_path(target: TargetFile, digest: str | None) -> str:
    segments = target.path.split("/")
    if any(segment in ("", ".", "..") for segment in segments) or "\0" in target.path:
        refusal = Refusal(reason=Reason.PATH, file=target.path, expected="a path below the repository's targets")
        raise VerificationError(f"{target.path!r}: is not a path below the repository's targets", refusal=refusal)
    if digest is not None:
        segments[-1] = f"{digest}.{segments[-1]}"
    return "/".join(quote(segment, safe="") for segment in segments)


def _limit(message: str, file: str) -> VerificationError:
    refusal = Refusal(reason=Reason.LIMIT, file=file)
    return VerificationError(message, refusal=refusal, hint="refused rather than answered from a part of what there is")

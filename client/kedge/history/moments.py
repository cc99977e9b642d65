"""A kept set, verified from the verifier's anchor: one moment of the repository.

It is verified as a client verifies, but for one thing: it may have expired, since it tells of the past. Where nobody
knows how new the newest root was then (a copy says so nowhere), it is the newest under which the timestamp verifies,
and none that a later moment did not know.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from kedge import checks, workflow
from kedge.aging import AgeBasis, issued_at
from kedge.anchor import Anchor
from kedge.checks import Freshness, signers_of
from kedge.drive import run
from kedge.errors import FetchError, Reason, VerificationError
from kedge.history.places import KeptSet
from kedge.keys import KeySet
from kedge.metadata import Parsed
from kedge.registry import find_registry, read_served_keys
from kedge.state import TrustedState
from kedge.steps import MISSING, Fetch, Limits, Missing

__all__ = ["Moment", "RegistryKeys", "Story", "tell"]

# Nothing had expired then: whether a set may have expired by now is not the question.
_ANY_TIME = Freshness(reference_time=datetime(1970, 1, 1, tzinfo=UTC), max_staleness=timedelta.max, as_of=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryKeys:
    """A registry's keys at one moment, and the role that listed them: its version, and who signed it."""

    keys: KeySet
    custom: Mapping[str, Any] | None
    role: str
    version: int
    signed_by: tuple[str, ...]

    def as_of(self, moment: datetime) -> KeySet:
        """The same keys, with their status as of a time.

        Raises:
            VerificationError: the key document cannot be read.
        """
        registry = self.keys.registry
        module = find_registry(registry)
        return read_served_keys(module, self.keys.document, registry=registry, custom=self.custom, now=moment)


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What a set says, once it is verified.

    ``since`` is when its timestamp was made, as it says itself (``signed``), or when this machine first trusted it
    (``seen``); None where nobody says. ``registries`` are keys by registry, as far as the set holds them.
    """

    origin: str
    since: datetime | None
    basis: AgeBasis | None
    valid_until: datetime
    versions: Mapping[str, int]
    signed_by: Mapping[str, tuple[str, ...]]
    registries: Mapping[str, RegistryKeys]

    @property
    def order(self) -> tuple[int, int]:
        """Moments of one repository come in this order."""
        return self.versions["root"], self.versions["timestamp"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """All moments, in order, and what was left out and why."""

    moments: tuple[Moment, ...]
    left_out: tuple[str, ...]


def tell(anchor: Anchor, sets: Iterable[KeptSet], registries: Iterable[str]) -> Story:
    """Verify every set, and put the moments in order; one that does not verify is left out, and said.

    Raises:
        VerificationError: none of them verifies; the first one's refusal.
    """
    moments: dict[tuple[int, int], Moment] = {}
    left_out: list[str] = []
    first: VerificationError | None = None
    newest_root: int | None = None
    wanted = tuple(registries)
    for kept in sets:
        try:
            state = _verified(anchor, kept, newest_root if kept.root is None else kept.root)
            moment = _moment(kept, state, wanted)
        except VerificationError as error:
            first = first or error.served_by(kept.origin)
            left_out.append(f"{kept.origin}: {error.message}")
            continue
        if kept.root is None:
            newest_root = moment.versions["root"]
        known = moments.get(moment.order)
        # One moment that several sets tell of: the earliest of what this machine saw, and all that they hold.
        moments[moment.order] = moment if known is None else _together(known, moment)
    if not moments and first is not None:
        raise first
    return Story(moments=tuple(moments[order] for order in sorted(moments)), left_out=tuple(left_out))


def _verified(anchor: Anchor, kept: KeptSet, newest_root: int | None) -> TrustedState:
    state = checks.begin(anchor.initial_root, file=f"the initial root of anchor {anchor.name}")
    roots = [state]
    while newest_root is None or roots[-1].root.version < newest_root:
        data = kept.get(workflow.root_request(roots[-1].root.version + 1, Limits()))
        if not isinstance(data, bytes):
            break
        roots.append(checks.accept_root(roots[-1], data))
    while True:
        try:
            return run(workflow.refresh(roots[-1], _ANY_TIME), lambda request: _no_roots(kept, request))
        except VerificationError as error:
            if kept.root is not None or error.refusal.reason is not Reason.SIGNATURES or len(roots) == 1:
                raise
            roots.pop()


def _no_roots(kept: KeptSet, request: Fetch) -> bytes | Missing:
    return MISSING if request.path.endswith(".root.json") else kept.get(request)


def _moment(kept: KeptSet, state: TrustedState, registries: tuple[str, ...]) -> Moment:
    timestamp, snapshot = state.timestamp, state.snapshot
    if timestamp is None or snapshot is None:
        raise RuntimeError("a refresh gives a complete state")
    issued = issued_at(timestamp)
    found: dict[str, RegistryKeys] = {}
    for registry in registries:
        entry, state = _keys(kept, state, registry)
        if entry is not None:
            found[registry] = entry
    held: dict[str, Parsed[Any]] = {
        "root": state.newest_root,
        "timestamp": timestamp,
        "snapshot": snapshot,
        **state.roles,
    }
    return Moment(
        origin=kept.origin,
        since=issued if issued is not None else kept.seen,
        basis=AgeBasis.SIGNED if issued is not None else AgeBasis.SEEN if kept.seen is not None else None,
        valid_until=min(parsed.signed.expires for parsed in held.values()),
        versions={name: parsed.signed.version for name, parsed in held.items()},
        signed_by={name: signers_of(state, name, parsed) for name, parsed in held.items()},
        registries=found,
    )


def _keys(kept: KeptSet, state: TrustedState, registry: str) -> tuple[RegistryKeys | None, TrustedState]:
    module = find_registry(registry)
    try:
        found = run(workflow.find(state, module.target_path(registry), _ANY_TIME), kept.get)
        data = run(workflow.download(found), kept.get)
    except FetchError:
        return None, state  # not in this set, which proves nothing about the keys
    except VerificationError as error:
        if error.refusal.reason is Reason.NOT_FOUND:
            return None, state
        raise
    role, given = found.state.roles[found.role], found.target.unrecognized_fields.get("custom")
    custom = given if isinstance(given, dict) else None
    keys = read_served_keys(module, data, registry=registry, custom=custom, now=role.signed.expires)
    signers = signers_of(found.state, found.role, role)
    entry = RegistryKeys(keys=keys, custom=custom, role=found.role, version=role.signed.version, signed_by=signers)
    return entry, found.state


def _together(one: Moment, other: Moment) -> Moment:
    first = one
    if one.since is None or (other.since is not None and other.since < one.since):
        first = other
    return replace(one, since=first.since, basis=first.basis, registries={**other.registries, **one.registries})

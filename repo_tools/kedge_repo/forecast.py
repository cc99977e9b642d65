"""When a role expires next, and by when a signing event must be open so that it does not: pure.

How long signing takes is measured: from opening an event to merging it, over the events of this repository that signed
the role (:mod:`kedge_repo.signinglog`). The slowest of them counts, and of ten or more the one that nine in ten were
not slower than; where the role was never signed in a recorded event, those of all roles count, and before there is any
record the signing period of the policy stands in, and is said to. Snapshot and timestamp are signed by a machine: for
them the policy's period is what must be left.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from kedge.errors import ExitCode
from kedge_repo.policy import Policy
from kedge_repo.signed import SignedMetadata
from kedge_repo.signinglog import Signing

__all__ = ["Basis", "Forecast", "Outlook", "RoleForecast", "forecast"]

ONLINE = frozenset({"snapshot", "timestamp"})
MANY = 10


class Outlook(StrEnum):
    """How a role stands."""

    CALM = "calm"
    SIGNING_DUE = "signing-due"
    LATE = "late"
    EXPIRED = "expired"


class Basis(StrEnum):
    """Where the time that signing takes is from."""

    ROLE = "measured-role"
    REPOSITORY = "measured-repository"
    POLICY = "policy"


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleForecast:
    """One role. ``last_safe`` is the last moment to open an event, by the time that signing ``takes``.

    ``basis`` says where that time is from, ``samples`` how many events it was measured on; ``events`` are open events
    that sign the role already. ``online``: a machine signs it, and no event is needed.
    """

    role: str
    version: int
    expires: datetime
    signing_from: datetime
    takes: timedelta
    basis: Basis
    samples: int
    last_safe: datetime
    outlook: Outlook
    events: tuple[str, ...]
    online: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """All roles, the one that is due first at the top."""

    repository: str
    at: datetime
    roles: tuple[RoleForecast, ...]

    @property
    def exit_code(self) -> ExitCode:
        """4 where something has expired, 5 where an event should have been open by now."""
        outlooks = {role.outlook for role in self.roles}
        if Outlook.EXPIRED in outlooks:
            return ExitCode.EXPIRED
        return ExitCode.FAULTS if Outlook.LATE in outlooks else ExitCode.DONE


def forecast(
    signed: SignedMetadata,
    policy: Policy,
    signings: Sequence[Signing],
    *,
    now: datetime,
    open_events: Mapping[str, Iterable[str]] | None = None,
) -> Forecast:
    """Forecast every role that is signed. ``open_events`` are the roles that each open event signs, by its name."""
    roles = [
        _role(name, parsed.signed.version, parsed.signed.expires, policy, signings, now, open_events or {})
        for name, parsed in signed.everything().items()
    ]
    return Forecast(
        repository=policy.name, at=now, roles=tuple(sorted(roles, key=lambda role: (role.last_safe, role.role)))
    )


def _role(
    name: str,
    version: int,
    expires: datetime,
    policy: Policy,
    signings: Sequence[Signing],
    now: datetime,
    open_events: Mapping[str, Iterable[str]],
) -> RoleForecast:
    role = policy.role(name)
    period = role.signing if role is not None else timedelta(0)
    online = name in ONLINE
    takes, basis, samples = (period, Basis.POLICY, 0) if online else _measured(name, period, signings)
    events = tuple(event for event, roles in open_events.items() if name in roles)
    last_safe = expires - takes
    return RoleForecast(
        role=name,
        version=version,
        expires=expires,
        signing_from=expires - period,
        takes=takes,
        basis=basis,
        samples=samples,
        last_safe=last_safe,
        outlook=_outlook(now, expires, expires - period, last_safe, begun=bool(events)),
        events=events,
        online=online,
    )


def _measured(role: str, period: timedelta, signings: Sequence[Signing]) -> tuple[timedelta, Basis, int]:
    own = [signing.took for signing in signings if role in signing.roles]
    if own:
        return _slow(own), Basis.ROLE, len(own)
    if signings:
        return _slow([signing.took for signing in signings]), Basis.REPOSITORY, len(signings)
    return period, Basis.POLICY, 0


def _slow(times: list[timedelta]) -> timedelta:
    """The slowest; of many, the one that nine in ten were not slower than."""
    ordered = sorted(times)
    return ordered[-1] if len(ordered) < MANY else ordered[math.ceil(0.9 * len(ordered)) - 1]


def _outlook(now: datetime, expires: datetime, signing_from: datetime, last_safe: datetime, *, begun: bool) -> Outlook:
    if now >= expires:
        return Outlook.EXPIRED
    if now > last_safe and not begun:
        return Outlook.LATE
    return Outlook.SIGNING_DUE if now >= signing_from else Outlook.CALM

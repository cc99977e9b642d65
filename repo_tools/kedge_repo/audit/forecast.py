"""When a role expires next, and by when a signing event must be open so that it does not: pure.

How long signing takes is measured: from opening an event to merging it, over the events of this repository that signed
the role (:mod:`kedge_repo.events.event`). The slowest of them counts, and of ten or more the one that nine in ten were
not slower than; where the role was never signed in a recorded event, those of all roles count, and before there is any
record the signing period of the policy stands in, and is said to. It is also the least that is allowed: quick events
never bring the safe day nearer to the expiry than the policy does. Snapshot and timestamp are signed by a machine: for
them the policy's period is what must be left.

A forecast for other programs: ``kedge.forecast/1``, an iCalendar file (RFC 5545), Prometheus metrics.

The calendar has one whole day for the last safe day to open an event and one moment for each expiry; their identities
stay the same for a version of a role, so that a calendar that reads the file again moves nothing it has.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from kedge.documents import format_time
from kedge.errors import ExitCode
from kedge_repo.events import Signing
from kedge_repo.workspace import Policy, SignedMetadata, load_extra

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


def forecast_expiry(
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
    if takes < period:  # one quick event is no promise that the next is
        takes, basis = period, Basis.POLICY
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


ALARM_DAYS = 7


def forecast_table(found: Forecast) -> dict[str, Any]:
    """The JSON object."""
    return {
        "format": "kedge.forecast/1",
        "repository": found.repository,
        "at": format_time(found.at),
        "exit_code": int(found.exit_code),
        "roles": [
            {
                "role": role.role,
                "version": role.version,
                "expires": format_time(role.expires),
                "signing_from": format_time(role.signing_from),
                "last_safe": format_time(role.last_safe),
                "takes_s": int(role.takes.total_seconds()),
                "basis": role.basis.value,
                "samples": role.samples,
                "outlook": role.outlook.value,
                "events": list(role.events),
                "online": role.online,
            }
            for role in found.roles
        ],
    }


def forecast_calendar(found: Forecast) -> bytes:
    """The iCalendar file.

    Raises:
        InputError: the Python package icalendar is not installed.
    """
    icalendar = load_extra("icalendar", extra="calendar", what="--calendar")
    calendar = icalendar.Calendar()
    calendar.add("prodid", "-//kedge//kedge-repo forecast//EN")
    calendar.add("version", "2.0")
    calendar.add("x-wr-calname", f"{found.repository}: signing")
    for role in found.roles:
        if not role.online:
            calendar.add_component(_last_safe_day(icalendar, found, role))
        calendar.add_component(_expiry(icalendar, found, role))
    data: bytes = calendar.to_ical()
    return data


def forecast_metrics(found: Forecast) -> str:
    """The metrics in Prometheus' text form."""
    return "".join(f"{line}\n" for line in _metrics(found))


def _last_safe_day(icalendar: Any, found: Forecast, role: RoleForecast) -> Any:
    event = _event(icalendar, found, role, "last-safe")
    event.add("summary", f"{found.repository}: last safe day to open an event for {role.role}")
    event.add("dtstart", role.last_safe.date())
    event.add("dtend", role.last_safe.date() + timedelta(days=1))
    event.add("transp", "TRANSPARENT")
    event.add(
        "description",
        f"{role.role} version {role.version} expires {format_time(role.expires)}; "
        f"signing takes {_days(role.takes)} ({role.basis}, {role.samples} events).",
    )
    alarm = icalendar.Alarm()
    alarm.add("action", "DISPLAY")
    alarm.add("description", f"open a signing event for {role.role}")
    alarm.add("trigger", timedelta(days=-ALARM_DAYS))
    event.add_component(alarm)
    return event


def _expiry(icalendar: Any, found: Forecast, role: RoleForecast) -> Any:
    event = _event(icalendar, found, role, "expires")
    event.add("summary", f"{found.repository}: {role.role} version {role.version} expires")
    event.add("dtstart", role.expires)
    event.add("transp", "TRANSPARENT")
    return event


def _event(icalendar: Any, found: Forecast, role: RoleForecast, kind: str) -> Any:
    event = icalendar.Event()
    event.add("uid", f"{kind}.{role.version}.{role.role}.{found.repository}@kedge-repo")
    event.add("dtstamp", found.at)
    return event


def _days(span: timedelta) -> str:
    return f"{span.total_seconds() / 86_400:.1f} days"


_METRICS: tuple[tuple[str, str, Callable[[RoleForecast], float]], ...] = (
    ("version", "Version of the role that is signed.", lambda role: role.version),
    ("expires_timestamp_seconds", "When it expires.", lambda role: _stamp(role.expires)),
    ("signing_from_timestamp_seconds", "When signing is due by the policy.", lambda role: _stamp(role.signing_from)),
    ("last_safe_timestamp_seconds", "Last safe moment to open an event.", lambda role: _stamp(role.last_safe)),
    ("signing_seconds", "How long signing takes.", lambda role: role.takes.total_seconds()),
    ("signing_samples", "Events that this was measured on; 0 is the policy's word.", lambda role: role.samples),
    ("open_events", "Open events that sign the role.", lambda role: len(role.events)),
)


def _metrics(found: Forecast) -> Iterator[str]:
    for name, text, value in _METRICS:
        yield f"# HELP kedge_repo_role_{name} {text}"
        yield f"# TYPE kedge_repo_role_{name} gauge"
        for role in found.roles:
            labels = f'repository="{found.repository}",role="{role.role}"'  # names hold nothing that must be escaped
            yield f"kedge_repo_role_{name}{{{labels}}} {value(role):.0f}"


def _stamp(moment: datetime) -> float:
    return moment.timestamp()

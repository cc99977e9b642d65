"""A forecast for other programs: ``kedge.forecast/1``, an iCalendar file (RFC 5545), Prometheus metrics.

The calendar has one whole day for the last safe day to open an event and one moment for each expiry; their identities
stay the same for a version of a role, so that a calendar that reads the file again moves nothing it has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

from kedge.document import format_time
from kedge_repo.extras import load_extra
from kedge_repo.forecast import Forecast, RoleForecast

__all__ = ["forecast_calendar", "forecast_metrics", "forecast_table"]

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

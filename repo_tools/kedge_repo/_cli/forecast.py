"""``kedge-repo forecast``: what expires next, and by when an event must be open."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from kedge.document import format_time
from kedge_repo import disk
from kedge_repo._cli.options import AsJson, AsOf, WorkspaceFolder, judged_at, open_workspace
from kedge_repo._cli.output import answer, answer_json, say, table
from kedge_repo.forecast import Basis, Forecast, RoleForecast
from kedge_repo.forecast import forecast as forecast_roles
from kedge_repo.forecastforms import forecast_calendar, forecast_metrics, forecast_table
from kedge_repo.signinglog import read_signings
from kedge_repo.standing import open_roles, read_signed

__all__ = ["forecast"]


def forecast(
    calendar: Annotated[
        Path | None, typer.Option("--calendar", metavar="FILE", help="Write an iCalendar file (.ics) as well.")
    ] = None,
    metrics: Annotated[
        Path | None,
        typer.Option(
            "--prometheus", metavar="FILE", help="Write metrics as well, for node_exporter's textfile collector."
        ),
    ] = None,
    as_of: AsOf = None,
    folder: WorkspaceFolder = None,
    as_json: AsJson = False,
) -> None:
    """Say what expires next, and the last safe day to open a signing event, by how long signing took here before.

    Exit 5 where an event should have been open by now, 4 where something has expired.
    """
    workspace = open_workspace(folder)
    signed = read_signed(workspace)
    found = forecast_roles(
        signed,
        workspace.policy(),
        read_signings(workspace),
        now=judged_at(as_of),
        open_events=open_roles(workspace, signed),
    )
    if calendar is not None:
        disk.replace(calendar, forecast_calendar(found))
    if metrics is not None:
        disk.replace(metrics, forecast_metrics(found).encode())
    if as_json:
        answer_json(forecast_table(found))
    elif found.roles:
        answer(*_lines(found))
    else:
        say("nothing is signed yet, so nothing expires")
    raise typer.Exit(found.exit_code)


def _lines(found: Forecast) -> Iterator[str]:
    yield f"repository {found.repository} at {format_time(found.at)}"
    yield ""
    yield from table([("role", "expires", "last safe day", "", "signing takes"), *map(_row, found.roles)])


def _row(role: RoleForecast) -> tuple[str, ...]:
    last = format_time(role.last_safe) if role.online else f"{role.last_safe:%Y-%m-%d}"
    events = f", event {', '.join(role.events)} is open" if role.events else ""
    return (
        f"{role.role} version {role.version}",
        format_time(role.expires),
        last,
        role.outlook.value,
        f"{_span(role.takes)}: {_basis(role)}{events}",
    )


def _basis(role: RoleForecast) -> str:
    if role.online:
        return "a machine signs it, by the policy"
    if role.basis is Basis.POLICY:
        return "assumed from the policy, nothing is measured yet"
    events = "1 event" if role.samples == 1 else f"{role.samples} events"
    return f"measured on {events}" + (" of other roles" if role.basis is Basis.REPOSITORY else "")


def _span(span: timedelta) -> str:
    if span < timedelta(days=2):
        return f"{span.total_seconds() / 3600:.0f} hours"
    return f"{span.total_seconds() / 86_400:.0f} days"

"""``kedge-repo audit``: a whole repository, through its whole history.

``kedge-repo forecast``: what expires next, and by when an event must be open.

``kedge-repo report``: the repository on one static page.

``kedge-repo status``: what is signed, for how long, and what is open.

An audit as the JSON object that ``--json`` answers with, ``kedge.audit/1``.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from kedge.documents import format_time
from kedge_repo._cli.options import (
    AsJson,
    AsOf,
    WorkspaceFolder,
    answer,
    answer_json,
    judged_at,
    open_workspace,
    present,
    say,
    table,
)
from kedge_repo.audit import (
    Audit,
    AuditFinding,
    Basis,
    Forecast,
    RoleForecast,
    VersionFact,
    WorkspaceStatus,
    forecast_calendar,
    forecast_metrics,
    forecast_table,
    gather,
    open_source,
    page,
    workspace_status,
)
from kedge_repo.audit import audit as audit_source
from kedge_repo.audit import (
    forecast_expiry as forecast_roles,
)
from kedge_repo.events import open_roles, read_signed, read_signings
from kedge_repo.workspace import find_workspace, replace_file


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
        replace_file(calendar, forecast_calendar(found))
    if metrics is not None:
        replace_file(metrics, forecast_metrics(found).encode())
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
    events = "1 event" if role.samples == 1 else f"{role.samples} events"
    if role.basis is Basis.POLICY:
        return f"by the policy, {events} took less" if role.samples else "by the policy, nothing is measured yet"
    return f"measured on {events}" + (" of other roles" if role.basis is Basis.REPOSITORY else "")


def _span(span: timedelta) -> str:
    if span < timedelta(days=2):
        return f"{span.total_seconds() / 3600:.0f} hours"
    return f"{span.total_seconds() / 86_400:.0f} days"


def report(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Where to.")] = Path("report.html"),
    as_of: AsOf = None,
    folder: WorkspaceFolder = None,
) -> None:
    """Write one HTML page: roles, keys, expiry, registries, signing, history and audit; nothing in it runs."""
    facts = gather(open_workspace(folder), now=judged_at(as_of))
    replace_file(out, page(facts))
    answer(str(out))


def status(folder: WorkspaceFolder = None, as_json: AsJson = False) -> None:
    """Show what is signed, how long it is valid, when signing must begin, and which events are open."""
    found = workspace_status(open_workspace(folder), now=present())
    if as_json:
        answer_json(_value(found))
    else:
        answer(*_lines_status(found))


def _lines_status(found: WorkspaceStatus) -> Iterator[str]:
    yield f"repository {found.repository}"
    yield ""
    if found.roles:
        yield from table(
            (role.role, str(role.version), f"until {format_time(role.expires)}", role.health.value)
            for role in found.roles
        )
    else:
        yield "nothing is signed yet"
    for bins in found.bins:
        until = f"the first until {format_time(bins.first_expiry)}" if bins.first_expiry else "not signed yet"
        yield f"{bins.role}: {bins.targets} targets in {bins.bins} bins, {until}"
    if found.targets:
        yield ""
        yield from (f"{target.path}  {target.length} bytes  {target.sha256[:16]}" for target in found.targets)
    yield ""
    yield f"open events: {', '.join(found.events) or 'none'}"


def _value(found: WorkspaceStatus) -> dict[str, object]:
    return {
        "format": "kedge.repo-status/1",
        "repository": found.repository,
        "roles": [
            {
                "role": role.role,
                "version": role.version,
                "expires": format_time(role.expires),
                "signing_from": format_time(role.signing_from),
                "health": role.health.value,
            }
            for role in found.roles
        ],
        "bins": [
            {
                "role": bins.role,
                "bins": bins.bins,
                "targets": bins.targets,
                "first_expiry": format_time(bins.first_expiry) if bins.first_expiry else None,
            }
            for bins in found.bins
        ],
        "targets": [
            {"path": target.path, "role": target.role, "length": target.length, "sha256": target.sha256}
            for target in found.targets
        ],
        "events": list(found.events),
    }


def audit_table(found: Audit) -> dict[str, Any]:
    """The object."""
    return {
        "format": "kedge.audit/1",
        "source": found.source,
        "at": format_time(found.at),
        "exit_code": int(found.exit_code),
        "roots": found.roots,
        "bootstrap_floors": dict(found.floors),
        "findings": [_finding(finding) for finding in found.findings],
        "history": [_version(fact) for fact in found.history],
    }


def _finding(finding: AuditFinding) -> dict[str, Any]:
    return {
        "rule": finding.rule.value,
        "severity": finding.severity.value,
        "file": finding.file,
        "role": finding.role,
        "version": finding.version,
        "below_floor": finding.below_floor,
        "message": finding.message,
    }


def _version(fact: VersionFact) -> dict[str, Any]:
    return {
        "role": fact.role,
        "version": fact.version,
        "file": fact.file,
        "expires": format_time(fact.expires),
        "signed_by": list(fact.signed_by),
        "threshold": fact.threshold,
        "under": fact.under,
    }


def audit(
    place: Annotated[
        str | None, typer.Argument(metavar="PLACE", help="A workspace, a folder or a URL (default: this workspace).")
    ] = None,
    metadata: Annotated[
        str,
        typer.Option("--metadata", metavar="PATH", help="Where metadata lies below PLACE; '' for PLACE itself."),
    ] = "metadata",
    targets: Annotated[str, typer.Option("--targets", metavar="PATH", help="Where targets lie.")] = "targets",
    floor: Annotated[
        int | None,
        typer.Option("--floor", metavar="N", min=1, help="The oldest root that clients must get through from."),
    ] = None,
    timeout: Annotated[float, typer.Option("--timeout", metavar="S", min=1, help="How long a URL may take.")] = 300,
    plain_http: Annotated[
        bool, typer.Option("--allow-plain-http", help="Ask a host other than this machine without TLS.")
    ] = False,
    as_of: AsOf = None,
    as_json: AsJson = False,
) -> None:
    """Read every version that is there, let clients walk from every root, and say all that is wrong.

    Exit 3 for what refuses or misleads a client of today, 4 for what has expired, 5 for other findings.
    """
    where = str(find_workspace(Path()).root) if place is None else place
    source = open_source(where, metadata=metadata, targets=targets, timeout_s=timeout, allow_plain_http=plain_http)
    try:
        found = audit_source(source, now=judged_at(as_of), floor=floor)
    finally:
        source.transport.close()
    if as_json:
        answer_json(audit_table(found))
    else:
        answer(*_lines_audit(found))
    raise typer.Exit(found.exit_code)


def _lines_audit(found: Audit) -> Iterator[str]:
    yield f"audit of {found.source} at {format_time(found.at)}"
    roles = {fact.role for fact in found.history}
    yield f"{found.roots} roots, {len(found.history)} versions of {len(roles)} roles read"
    for name, version in found.floors.items():
        nowhere = "not known, for not all roots could be read" if found.lacks_roots else "no root"
        reach = f"root version {version}" if version is not None else nowhere
        yield f"bootstrap floor of {name}: {reach}"
    above = [finding for finding in found.findings if not finding.below_floor]
    below = [finding for finding in found.findings if finding.below_floor]
    yield ""
    yield from _listed(above) if above else ("nothing found",)
    if below:
        yield ""
        yield "below the bootstrap floor, where no client of today comes:"
        yield from _listed(below)


def _listed(findings: list[AuditFinding]) -> list[str]:
    return table((finding.severity.value, finding.file, f"{finding.rule}: {finding.message}") for finding in findings)

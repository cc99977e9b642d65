"""``kedge-repo audit``: a whole repository, through its whole history."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from kedge.document import format_time
from kedge_repo._cli.options import AsJson, AsOf, judged_at
from kedge_repo._cli.output import answer, answer_json, table
from kedge_repo.audit import Audit, AuditFinding, open_source
from kedge_repo.audit import audit as audit_source
from kedge_repo.auditjson import audit_table
from kedge_repo.workspace import find_workspace

__all__ = ["audit"]


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
        answer(*_lines(found))
    raise typer.Exit(found.exit_code)


def _lines(found: Audit) -> Iterator[str]:
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

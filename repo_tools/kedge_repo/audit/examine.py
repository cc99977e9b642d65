"""An audit: everything of a repository is read, clients walk, the rules are applied; the result is one value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path

from kedge.errors import KedgeError
from kedge.findings import Severity
from kedge_repo.audit.archive import Archive
from kedge_repo.audit.floor import bootstrap_floors
from kedge_repo.audit.judge import judge
from kedge_repo.audit.read import read_archive
from kedge_repo.audit.source import Source
from kedge_repo.audit.verdict import Audit, AuditFinding, Rule
from kedge_repo.standing import stand
from kedge_repo.workspace import POLICY_FILE, Workspace

__all__ = ["audit", "audit_archive"]


def audit(source: Source, *, now: datetime, floor: int | None = None) -> Audit:
    """Audit ``source`` through its whole history, as of ``now``; nothing that it holds raises or is written.

    ``floor`` is the oldest root that clients must still be able to start from: a workspace of one's own answers for its
    first root unless told otherwise.
    """
    archive = read_archive(source)
    expected = 1 if floor is None and source.is_workspace else floor
    found = audit_archive(archive, now=now, floor=expected)
    if not source.is_workspace:
        return found
    extra = tuple(_workspace(Workspace(root=Path(source.name))))
    return Audit(
        source=found.source,
        at=found.at,
        roots=found.roots,
        floors=found.floors,
        findings=(*found.findings, *extra),
        history=found.history,
    )


def audit_archive(archive: Archive, *, now: datetime, floor: int | None = None) -> Audit:
    """Audit what was read already."""
    floors = bootstrap_floors(archive, now=now)
    reached = [version for version in floors.values() if version is not None]
    judged = judge(archive, floor=_bound(reached, floor), now=now)
    return Audit(
        source=archive.source,
        at=now,
        roots=max(archive.roots, default=0),
        floors=floors,
        findings=(*judged.findings, *(() if _lacks_roots(archive) else _floor_findings(floors, floor))),
        history=tuple(judged.history),
    )


def _bound(reached: list[int], expected: int | None) -> int | None:
    """Below which root a break meets no client: none of them gets through from there, and none is promised to."""
    if not reached:
        return None
    return min(reached) if expected is None else min(*reached, expected)


def _lacks_roots(archive: Archive) -> bool:
    """Whether the chain could not be read whole: then no floor says anything of the repository."""
    return bool(archive.limits) or any(file.endswith(".root.json") for file, _ in archive.unread)


def _floor_findings(floors: Mapping[str, int | None], expected: int | None) -> Iterator[AuditFinding]:
    for name, version in floors.items():
        if version is None:
            severity, text = Severity.ERROR, f"{name} gets through from no root at all"
        elif expected is not None and version > expected:
            text = f"{name} gets through from root version {version} on, and has to from version {expected} on"
            severity = Severity.ERROR
        elif version > 1:
            text = f"{name} gets through from root version {version} on; whoever has an older one needs a newer client"
            severity = Severity.WARNING
        else:
            continue
        yield AuditFinding(
            rule=Rule.BOOTSTRAP_FLOOR, severity=severity, file="root.json", role="root", version=version, message=text
        )


def _workspace(workspace: Workspace) -> Iterator[AuditFinding]:
    """What a workspace holds beside its metadata: the policy with its keys, and open events."""
    try:
        workspace.keys(workspace.policy())
    except KedgeError as error:
        yield AuditFinding(rule=Rule.POLICY, severity=Severity.ERROR, file=POLICY_FILE, message=error.message)
        return
    for name in workspace.events():
        try:
            stand(workspace, name)
        except KedgeError as error:
            file = f"events/{name}/event.json"
            yield AuditFinding(rule=Rule.EVENT, severity=Severity.WARNING, file=file, message=error.message)

"""The rules of an audit: pure, from what was read to what is wrong with it. Never a stop at the first.

- Each root is signed by itself and by the one before it, and no version is left out.
- Each version of each other role was signed by the threshold that its delegator named then.
- What timestamp and snapshot name is there, with the digests, lengths and versions that they name; no snapshot names
  an older version than the one before it.
- Nothing that clients will never ask for lies about, no signature is empty or stray, no keyid does not fit.

A break that lies wholly below the bootstrap floor can meet no client of today, and is a finding instead.
"""

from __future__ import annotations

from datetime import datetime

from tuf.api.metadata import MetaFile, Snapshot, Timestamp

from kedge.checks import content_matches
from kedge.document import format_time
from kedge.findings import Severity
from kedge_repo.audit.archive import Archive, Entry, TargetFact
from kedge_repo.audit.judged import Judged, finding, missing
from kedge_repo.audit.roles import DelegationIndex, judge_role
from kedge_repo.audit.roots import judge_roots
from kedge_repo.audit.verdict import AuditFinding, Rule

__all__ = ["judge"]


def judge(archive: Archive, *, floor: int | None, now: datetime) -> Judged:
    """Hold the archive to the rules; ``floor`` is the oldest root from which clients get through, None for nowhere."""
    judged, index = Judged(), DelegationIndex(archive)
    judge_roots(archive, floor or 1, judged)
    for role, versions in archive.roles.items():
        judge_role(archive, index, role, versions, floor or 1, judged)
    if archive.timestamp is not None:
        judge_role(archive, index, Timestamp.type, {0: archive.timestamp}, 1, judged)
        _check_named(archive, judged)
    elif not archive.is_unread("timestamp.json"):
        judged.report(missing("timestamp.json", Timestamp.type, None, "every client asks for it"))
    _check_snapshots(archive, judged)
    for fact in archive.targets:
        if fact.problem is not None:
            judged.report(_target(fact))
    for bins in archive.bins:
        judged.findings += bins.findings
    _check_leftovers(archive, judged)
    _check_expiry(archive, index, now, judged)
    return judged


def _check_named(archive: Archive, judged: Judged) -> None:
    entry = archive.timestamp
    if entry is not None and entry.parsed is not None:
        _check_content(archive, Snapshot.type, entry.parsed.signed.snapshot_meta, entry, judged)


def _check_snapshots(archive: Archive, judged: Judged) -> None:
    before: Snapshot | None = None
    for entry in archive.roles.get(Snapshot.type, {}).values():
        if entry.parsed is None:
            continue
        snapshot: Snapshot = entry.parsed.signed
        for file, meta in snapshot.meta.items():
            _check_content(archive, file.removesuffix(".json"), meta, entry, judged)
            earlier = before.meta.get(file) if before is not None else None
            if earlier is not None and earlier.version > meta.version:
                text = f"names {file} version {meta.version}, and the snapshot before it version {earlier.version}"
                judged.report(finding(Rule.ROLLBACK, Severity.ERROR, entry, text))
        for file in sorted(before.meta.keys() - snapshot.meta.keys()) if before is not None else ():
            text = f"no longer names {file}, which the snapshot before it did: clients refuse that"
            judged.report(finding(Rule.ROLLBACK, Severity.ERROR, entry, text))
        before = snapshot


def _check_content(archive: Archive, role: str, meta: MetaFile, by: Entry, judged: Judged) -> None:
    entry = archive.roles.get(role, {}).get(meta.version)
    if entry is not None and entry.parsed is not None and not content_matches(meta, entry.parsed.data):
        text = f"is not the file that {by.file} names: its length or digest is another one"
        judged.report(finding(Rule.CONTENT, Severity.ERROR, entry, text))


def _target(fact: TargetFact) -> AuditFinding:
    return AuditFinding(
        rule=Rule.MISSING if fact.problem == "is missing" else Rule.CONTENT,
        severity=Severity.ERROR if fact.newest else Severity.WARNING,
        file=f"targets/{fact.file}",
        role=fact.role,
        version=fact.version,
        message=f"{fact.problem}; {fact.role} version {fact.version} names it as {fact.path}",
    )


def _check_leftovers(archive: Archive, judged: Judged) -> None:
    """Files that nobody asks for, and what could not be read."""
    for role, versions in archive.roles.items():
        named = archive.named_version(role)
        for version, entry in versions.items():
            if named is not None and version > named and not archive.is_workspace:
                text = f"is newer than version {named}, to which clients are led: nobody asks for it"
                judged.report(finding(Rule.UNREACHABLE, Severity.WARNING, entry, text))
    for file in archive.others:
        text = "is named by no metadata: nobody asks for it"
        judged.report(AuditFinding(rule=Rule.UNREACHABLE, severity=Severity.WARNING, file=file, message=text))
    for file, reason in archive.unread:
        judged.report(AuditFinding(rule=Rule.UNREAD, severity=Severity.WARNING, file=file, message=reason))
    for reason in archive.limits:
        judged.report(AuditFinding(rule=Rule.LIMIT, severity=Severity.WARNING, file=archive.source, message=reason))


def _check_expiry(archive: Archive, index: DelegationIndex, now: datetime, judged: Judged) -> None:
    root = archive.newest_root
    current = [archive.roots.get(root.signed.version) if root is not None else None, archive.timestamp]
    current += [archive.in_force(role) for role in archive.roles if index.leads_to(role)]
    for entry in current:
        if entry is not None and entry.parsed is not None and entry.parsed.signed.is_expired(now):
            text = f"expired on {format_time(entry.parsed.signed.expires)}, and it is judged by {format_time(now)}"
            judged.report(finding(Rule.EXPIRED, Severity.ERROR, entry, text))
    for bins in archive.bins:
        if bins.first_expiry is not None and bins.first_expiry <= now:
            text = f"expired on {format_time(bins.first_expiry)}, the first of the {bins.count} bins of {bins.role}"
            judged.report(
                AuditFinding(
                    rule=Rule.EXPIRED, severity=Severity.ERROR, file=bins.first_file, role=bins.role, message=text
                )
            )

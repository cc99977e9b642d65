"""What the rules of an audit write into, and how one finding is put."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from kedge.findings import Severity
from kedge.metadata import Parsed
from kedge_repo.audit.archive import Entry
from kedge_repo.audit.verdict import AuditFinding, Rule, VersionFact

__all__ = ["Judged", "finding", "lowered", "missing"]


@dataclass(slots=True)
class Judged:
    """The findings and the history, in the order in which they were come upon."""

    findings: list[AuditFinding] = field(default_factory=list)
    history: list[VersionFact] = field(default_factory=list)

    def report(self, found: AuditFinding) -> None:
        """Keep one finding."""
        self.findings.append(found)

    def read(self, entry: Entry, *, below: bool) -> Parsed[Any] | None:
        """What ``entry`` says, or None after a finding that says why it cannot be read."""
        if entry.fault is not None:
            self.report(lowered(finding(Rule.UNREADABLE, Severity.ERROR, entry, entry.fault), below))
        elif entry.parsed is not None and entry.version and entry.parsed.signed.version != entry.version:
            text = f"is version {entry.parsed.signed.version}, and its name says {entry.version}"
            self.report(lowered(finding(Rule.WRONG_VERSION, Severity.ERROR, entry, text), below))
        return entry.parsed

    def remember(
        self, parsed: Parsed[Any], role: str, signed_by: tuple[str, ...], under: tuple[str, int] | None
    ) -> None:
        """Keep one version for the history; ``under`` is the delegator's version and its threshold."""
        self.history.append(
            VersionFact(
                role=role,
                version=parsed.signed.version,
                file=parsed.file,
                expires=parsed.signed.expires,
                signed_by=signed_by,
                threshold=under[1] if under is not None else None,
                under=under[0] if under is not None else None,
            )
        )


def finding(rule: Rule, severity: Severity, entry: Entry, message: str) -> AuditFinding:
    """A finding about ``entry``."""
    version = entry.version or (entry.parsed.signed.version if entry.parsed is not None else None)
    return AuditFinding(
        rule=rule, severity=severity, file=entry.file, role=entry.role, version=version, message=message
    )


def missing(file: str, role: str, version: int | None, why: str) -> AuditFinding:
    """The finding that a file is not there."""
    return AuditFinding(
        rule=Rule.MISSING,
        severity=Severity.ERROR,
        file=file,
        role=role,
        version=version,
        message=f"is missing: {why}",
    )


def lowered(found: AuditFinding, below: bool) -> AuditFinding:
    """The finding, or what it comes to ``below`` the bootstrap floor."""
    return replace(found, severity=Severity.WARNING, below_floor=True) if below else found

"""An audit as the JSON object that ``--json`` answers with, ``kedge.audit/1``."""

from __future__ import annotations

from typing import Any

from kedge.document import format_time
from kedge_repo.audit import Audit, AuditFinding, VersionFact

__all__ = ["audit_table"]


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

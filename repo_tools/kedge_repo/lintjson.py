"""The findings of a lint as the JSON object that ``--json`` answers with, ``kedge.lint/1``, and as SARIF."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from kedge.findings import Finding
from kedge.sarif import SarifResult, sarif_log
from kedge_repo.lint import RULES, exit_code

__all__ = ["finding_table", "lint_sarif", "lint_table"]


def lint_table(documents: Sequence[str], findings: Sequence[Finding]) -> dict[str, Any]:
    """The object; ``documents`` are the target paths that were looked at."""
    return {
        "format": "kedge.lint/1",
        "documents": list(documents),
        "exit_code": int(exit_code(findings)),
        "findings": [finding_table(finding) for finding in findings],
    }


def finding_table(finding: Finding) -> dict[str, Any]:
    """One finding."""
    return {
        "rule": finding.rule,
        "severity": finding.severity.value,
        "place": finding.place,
        "message": finding.message,
        "hint": finding.hint,
    }


def lint_sarif(findings: Iterable[Finding]) -> dict[str, Any]:
    """The log of one run."""
    findings = list(findings)
    rules = {finding.rule: f"A rule of the registry module {finding.rule.partition('/')[0]}." for finding in findings}
    results = [_result(finding) for finding in findings]
    return sarif_log("kedge-repo lint", {**rules, **RULES}, results, exit_code=int(exit_code(findings)))


def _result(finding: Finding) -> SarifResult:
    path, _, inside = finding.place.partition(": ")
    return SarifResult(
        rule=finding.rule,
        level=finding.severity.value,
        message=f"{finding.place}: {finding.message}",
        uri=f"targets/{path}",
        line=None,
        subject=inside or path,
        kind="member",
        identity=f"{finding.rule} {finding.place} {finding.message}",
    )

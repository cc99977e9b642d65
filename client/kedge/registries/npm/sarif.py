"""The faults of a report as SARIF 2.1.0, which code hosts show beside a change.

One result for each package that had to be verified and is not, at its line in the lockfile where one can be told; one
rule for each outcome.
"""

from __future__ import annotations

from typing import Any

from kedge.registries.npm.attestation import Attesting
from kedge.registries.npm.report import Report
from kedge.registries.npm.verdict import FAULTLESS, Outcome, Verdict
from kedge.sarif import SarifResult, sarif_log

__all__ = ["sarif"]

MEANING = {
    Outcome.VERIFIED_TIME_UNSIGNED: "Signed by a retired key, at a time that only the registry states.",
    Outcome.UNSIGNED: "The registry serves no signature.",
    Outcome.UNKNOWN_KEY: "Signed by a key that is not among the verified keys.",
    Outcome.REVOKED_KEY: "Signed by a key that was revoked.",
    Outcome.OUTSIDE_VALIDITY: "Signed by a key that was not valid then, or nobody knows when.",
    Outcome.BAD_SIGNATURE: "The signature is not over this package.",
    Outcome.DIGEST_MISMATCH: "The content is not the one that is locked.",
    Outcome.NO_KEYS: "No verified keys are known for this registry.",
    Outcome.NOT_FOUND: "The registry does not serve this package.",
    Outcome.UNREACHABLE: "The registry gave no usable answer.",
    Outcome.SKIPPED: "This package could not be held against what the registry signs.",
}
PROVENANCE = {
    Attesting.LOST: "Has no provenance, though an earlier version of the same release line had one.",
    Attesting.MISSING: "Has no provenance, and one is asked for.",
    Attesting.REFUSED: "What is served as its attestations is not to be trusted.",
    Attesting.UNEXPECTED: "Was built from another source, or by another builder, than expected.",
    Attesting.UNREACHABLE: "Its attestations cannot be had.",
}


def sarif(report: Report, text: str) -> dict[str, Any]:
    """Give the log of one run; ``text`` is the lockfile's, in which packages' lines are looked up."""
    rules = {outcome.value: MEANING[outcome] for outcome in Outcome if outcome in MEANING}
    rules |= {f"provenance-{status.value}": PROVENANCE[status] for status in PROVENANCE}
    faults = report.faults
    lines = _Lines(text) if faults else None
    results = [_result(verdict, report, lines) for verdict in faults]
    return sarif_log("kedge verify npm", rules, results, exit_code=int(report.exit_code))


def _result(verdict: Verdict, report: Report, lines: _Lines | None) -> SarifResult:
    package, outcome, attested = verdict.package, verdict.outcome, verdict.attested
    rule, detail, is_warning = outcome.value, verdict.detail or MEANING.get(outcome, ""), outcome in FAULTLESS
    if attested is not None and attested.is_fault(strict=report.policy.strict) and outcome in FAULTLESS:
        rule, is_warning = f"provenance-{attested.status.value}", attested.status is Attesting.LOST
        detail = attested.detail
    return SarifResult(
        rule=rule,
        level="warning" if is_warning else "error",
        message=f"{package.spec}: {rule}. {detail}",
        uri=report.lockfile.name,
        line=lines.find(package.where) if lines is not None else None,
        subject=package.spec,
        kind="package",
        identity=f"{package.spec} {rule}",
    )


class _Lines:
    """Finds the line of a place in a lockfile: of its key, as it is written there."""

    def __init__(self, text: str) -> None:
        self._first: dict[str, int] = {}
        for number, line in enumerate(text.splitlines(), 1):
            self._first.setdefault(line.strip().partition(": ")[0].rstrip(":").strip("\"'"), number)

    def find(self, where: tuple[str, ...]) -> int | None:
        for place in where:
            if place.startswith("line ") and place[5:].isdecimal():
                return int(place[5:])
            if place in self._first:
                return self._first[place]
        return None

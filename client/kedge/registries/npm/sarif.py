"""The faults of a report as SARIF 2.1.0, which code hosts show beside a change.

One result for each package that had to be verified and is not, at its line in the lockfile where one can be told; one
rule for each outcome.

Source: OASIS SARIF 2.1.0.
"""

from __future__ import annotations

import hashlib
from typing import Any

from kedge._version import __version__
from kedge.registries.npm.report import Report
from kedge.registries.npm.verdict import FAULTLESS, Outcome, Verdict

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


def sarif(report: Report, text: str) -> dict[str, Any]:
    """Give the log of one run; ``text`` is the lockfile's, in which packages' lines are looked up."""
    rules = [outcome for outcome in Outcome if outcome in MEANING]
    faults = report.faults
    lines = _Lines(text) if faults else None
    results = [_result(verdict, report, rules, lines) for verdict in faults]
    return {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "kedge verify npm",
                        "version": __version__,
                        "rules": [
                            {"id": outcome.value, "shortDescription": {"text": MEANING[outcome]}} for outcome in rules
                        ],
                    }
                },
                "invocations": [{"executionSuccessful": True, "exitCode": int(report.exit_code)}],
                "results": results,
            }
        ],
    }


def _result(verdict: Verdict, report: Report, rules: list[Outcome], lines: _Lines | None) -> dict[str, Any]:
    package = verdict.package
    place: dict[str, Any] = {"artifactLocation": {"uri": report.lockfile.name}}
    line = lines.find(package.where) if lines is not None else None
    if line is not None:
        place["region"] = {"startLine": line}
    identity = hashlib.sha256(f"{package.spec} {verdict.outcome.value}".encode()).hexdigest()
    return {
        "ruleId": verdict.outcome.value,
        "ruleIndex": rules.index(verdict.outcome),
        "level": "warning" if verdict.outcome in FAULTLESS else "error",
        "message": {"text": f"{package.spec}: {verdict.outcome.value}. {verdict.detail or MEANING[verdict.outcome]}"},
        "locations": [
            {
                "physicalLocation": place,
                "logicalLocations": [{"name": package.spec, "kind": "package"}],
            }
        ],
        "partialFingerprints": {"package/v1": identity},
    }


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

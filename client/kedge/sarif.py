"""Faults as SARIF 2.1.0, which code hosts show beside a change.

A result names its rule, its file, the line where one can be told, and what it is about; its fingerprint stays the same
from run to run, so that a host can tell a fault that it has seen.

Source: OASIS SARIF 2.1.0.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kedge._version import __version__

__all__ = ["SarifResult", "sarif_log"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SarifResult:
    """One result. ``subject`` is what it is about (a package, a key), ``kind`` of which kind that is.

    ``identity`` is what makes it the same result in another run.
    """

    rule: str
    level: str
    message: str
    uri: str
    line: int | None
    subject: str
    kind: str
    identity: str


def sarif_log(tool: str, rules: Mapping[str, str], results: Sequence[SarifResult], *, exit_code: int) -> dict[str, Any]:
    """Give the log of one run of ``tool``; ``rules`` says of each rule what it means."""
    order = list(rules)
    return {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": tool,
                        "version": __version__,
                        "rules": [{"id": rule, "shortDescription": {"text": text}} for rule, text in rules.items()],
                    }
                },
                "invocations": [{"executionSuccessful": True, "exitCode": exit_code}],
                "results": [_result(result, order) for result in results],
            }
        ],
    }


def _result(result: SarifResult, order: list[str]) -> dict[str, Any]:
    place: dict[str, Any] = {"artifactLocation": {"uri": result.uri}}
    if result.line is not None:
        place["region"] = {"startLine": result.line}
    identity = hashlib.sha256(result.identity.encode()).hexdigest()
    return {
        "ruleId": result.rule,
        "ruleIndex": order.index(result.rule),
        "level": result.level,
        "message": {"text": result.message},
        "locations": [{"physicalLocation": place, "logicalLocations": [{"name": result.subject, "kind": result.kind}]}],
        "partialFingerprints": {f"{result.kind}/v1": identity},
    }

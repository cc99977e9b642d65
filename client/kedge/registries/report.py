"""What became of many things that were checked, as a value: each with its outcome, counted, and the exit status.

The kinds of registries whose verification is "each of these must be right" share it: lines of ``go.sum``, packages of
NuGet, versions that a ``pubspec.lock`` names. What an outcome means is the kind's own; here they are texts that stand
in ``--json`` (``kedge.checklist/1``) and never change their meaning.

Faults as SARIF 2.1.0, which code hosts show beside a change.

A result names its rule, its file, the line where one can be told, and what it is about; its fingerprint stays the same
from run to run, so that a host can tell a fault that it has seen.

Source: OASIS SARIF 2.1.0.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from kedge._version import __version__
from kedge.errors import ExitCode

MAX_NOTES = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """One thing: what it is called, its outcome, why, and whether it had to be verified and is not.

    ``facts`` are what else a program may want to know of it.
    """

    name: str
    outcome: StrEnum
    detail: str = ""
    is_fault: bool
    notes: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    def to_table(self) -> dict[str, Any]:
        """The thing in ``--json``."""
        return {
            "name": self.name,
            "outcome": self.outcome.value,
            "detail": self.detail or None,
            "fault": self.is_fault,
            "notes": list(self.notes[:MAX_NOTES]),
            "facts": dict(self.facts),
        }


UNREACHABLE = "unreachable"
"""What every kind of registry calls the outcome of an answer that could not be had."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checklist:
    """Everything that one run found out.

    ``kind`` is the kind of registry, ``subject`` what was checked, ``things`` what its items are called ("lines"),
    ``good`` the outcome of what is in order. ``basis`` says by what all of it was judged, in labels and values.
    """

    FORMAT = "kedge.checklist/1"

    kind: str
    subject: str
    things: tuple[str, str]
    good: frozenset[StrEnum]
    items: tuple[Checked, ...]
    basis: tuple[tuple[str, str], ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def faults(self) -> tuple[Checked, ...]:
        """What had to be verified and is not."""
        return tuple(item for item in self.items if item.is_fault)

    @property
    def verified(self) -> int:
        """How many are verified."""
        return sum(item.outcome in self.good and not item.is_fault for item in self.items)

    @property
    def counts(self) -> dict[StrEnum, int]:
        """How many there are of each outcome that occurs, in the order in which the kind lists its outcomes."""
        counted = Counter(item.outcome for item in self.items)
        return {outcome: counted[outcome] for outcome in sorted(counted, key=_rank)}

    @property
    def exit_code(self) -> ExitCode:
        """``FAULTS`` unless everything is verified that had to be; nothing verified is a fault, but for no items.

        ``COULD_NOT`` where nothing failed, and only answers are missing that could not be had.
        """
        if self.faults and all(item.outcome == UNREACHABLE for item in self.faults):
            return ExitCode.COULD_NOT
        if self.faults or (self.items and not self.verified):
            return ExitCode.FAULTS
        return ExitCode.DONE

    def to_table(self, trusts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The answer of ``--json``; ``trusts`` is the trust that it stands on, as tables."""
        return {
            "format": self.FORMAT,
            "kind": self.kind,
            "subject": self.subject,
            "exit_code": int(self.exit_code),
            "checked_count": len(self.items),
            "verified_count": self.verified,
            "faults_count": len(self.faults),
            "counts": {outcome.value: count for outcome, count in self.counts.items()},
            "items": [item.to_table() for item in self.items],
            "basis": dict(self.basis),
            "remarks": list(self.remarks),
            "trust": list(trusts),
        }


def _rank(outcome: StrEnum) -> int:
    return list(type(outcome)).index(outcome)


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

"""What an audit finds, and what the sum of it is worth.

A finding names its file and, where there is one, its role and version. An ``error`` is a break: a client that comes
here is refused or misled. A ``warning`` is what ought not to be and stops nobody of today; a ``note`` is worth knowing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from kedge.errors import ExitCode
from kedge.registries import Severity


class Rule(StrEnum):
    """What is wrong. The values stand in ``--json`` answers."""

    UNREADABLE = "unreadable"
    WRONG_VERSION = "wrong-version"
    SIGNATURES = "signatures"
    EMPTY_SIGNATURE = "empty-signature"
    STRAY_SIGNATURE = "stray-signature"
    WRONG_SIGNATURE = "wrong-signature"
    UNCHECKED_SIGNATURE = "unchecked-signature"
    KEYID = "keyid"
    ONE_KEY_TWICE = "one-key-twice"
    MATERIAL_CHANGED = "material-changed"
    ONLINE_KEY_IN_ROOT = "online-key-in-root"
    CONTENT = "content"
    ROLLBACK = "rollback"
    MISSING = "missing"
    UNREACHABLE = "unreachable"
    EXPIRED = "expired"
    EVENT = "event"
    POLICY = "policy"
    BOOTSTRAP_FLOOR = "bootstrap-floor"
    UNREAD = "unread"
    LIMIT = "limit"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFinding:
    """One finding. ``below_floor``: it is a break that no client of today can meet any more."""

    rule: Rule
    severity: Severity
    file: str
    message: str
    role: str | None = None
    version: int | None = None
    below_floor: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionFact:
    """One version in the history: who signed it (keyids), under which version of its delegator, until when it held."""

    role: str
    version: int
    file: str
    expires: datetime
    signed_by: tuple[str, ...]
    threshold: int | None
    under: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """The result. ``floors`` is the oldest root from which each client gets through, None where none does."""

    source: str
    at: datetime
    roots: int
    floors: Mapping[str, int | None]
    findings: tuple[AuditFinding, ...]
    history: tuple[VersionFact, ...]

    @property
    def lacks_roots(self) -> bool:
        """Whether the chain could not be read whole: then no floor says anything of the repository."""
        return any(
            finding.rule is Rule.LIMIT or (finding.rule is Rule.UNREAD and finding.file.endswith(".root.json"))
            for finding in self.findings
        )

    @property
    def exit_code(self) -> ExitCode:
        """3 for a break, 4 for what has expired, 5 for other findings, 1 where something could not be had."""
        rules = {finding.rule for finding in self.findings}
        breaks = [finding for finding in self.findings if finding.severity is Severity.ERROR]
        if any(finding.rule not in _NO_BREAK for finding in breaks):
            return ExitCode.REFUSED
        if Rule.EXPIRED in rules:
            return ExitCode.EXPIRED
        if any(finding.severity is Severity.WARNING and finding.rule not in _NO_BREAK for finding in self.findings):
            return ExitCode.FAULTS
        return ExitCode.COULD_NOT if rules & _COULD_NOT else ExitCode.DONE


_COULD_NOT = frozenset({Rule.UNREAD, Rule.LIMIT, Rule.UNCHECKED_SIGNATURE})
_NO_BREAK = frozenset({Rule.EXPIRED, *_COULD_NOT})

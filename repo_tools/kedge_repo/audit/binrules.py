"""The rules for hash bins (TAP 15), one bin after the other: what snapshot names is there, and signed as it has to be.

Nothing of a bin is kept but what is wrong with it and when the first of them expires, so that any number can be judged.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from tuf.api.metadata import Key, MetaFile, Targets

from kedge.checks import content_matches
from kedge.errors import VerificationError
from kedge.findings import Severity
from kedge.metadata import Parsed, parse
from kedge_repo.audit.archive import BinsFact, Entry
from kedge_repo.audit.judged import finding, missing
from kedge_repo.audit.signatures import count, odd_signatures
from kedge_repo.audit.verdict import AuditFinding, Rule

__all__ = ["BinJudge"]


@dataclass(slots=True)
class BinJudge:
    """Judges the bins of ``role`` by its version of today, ``delegator``, which delegates to ``expected`` of them."""

    role: str
    delegator: Targets
    expected: int
    findings: list[AuditFinding] = field(default_factory=list)
    bins: int = 0
    first: tuple[datetime, str] | None = None

    def judge(
        self, name: str, meta: MetaFile, file: str, data: bytes | None, fault: str | None
    ) -> Parsed[Targets] | None:
        """Judge one bin; ``data`` is None where it is not there, ``fault`` why it cannot be read."""
        self.bins += 1
        if data is None:
            if fault is None:
                self.findings.append(missing(file, name, meta.version, "clients are led to it"))
            else:
                entry = Entry(file=file, role=name, version=meta.version, fault=fault)
                self.findings.append(finding(Rule.UNREADABLE, Severity.ERROR, entry, fault))
            return None
        try:
            parsed = parse(data, Targets, file=file)
        except VerificationError as error:
            entry = Entry(file=file, role=name, version=meta.version)
            text = error.message.removeprefix(f"{file}: ")
            self.findings.append(finding(Rule.UNREADABLE, Severity.ERROR, entry, text))
            return None
        self._hold(Entry(file=file, role=name, version=meta.version, data=data, parsed=parsed), parsed, meta)
        return parsed

    def fact(self) -> BinsFact:
        """The sum of it."""
        if self.bins < self.expected:
            text = f"delegates to {self.expected} bins, and the snapshot names {self.bins} of them"
            self.findings.append(
                AuditFinding(
                    rule=Rule.MISSING,
                    severity=Severity.ERROR,
                    file=f"{self.role}.json",
                    role=self.role,
                    version=self.delegator.version,
                    message=text,
                )
            )
        return BinsFact(
            role=self.role,
            count=self.bins,
            findings=tuple(self.findings),
            first_expiry=self.first[0] if self.first is not None else None,
            first_file=self.first[1] if self.first is not None else "",
        )

    def _hold(self, entry: Entry, parsed: Parsed[Targets], meta: MetaFile) -> None:
        if parsed.signed.version != meta.version:
            text = f"is version {parsed.signed.version}, and the snapshot names {meta.version}"
            self.findings.append(finding(Rule.WRONG_VERSION, Severity.ERROR, entry, text))
        if not content_matches(meta, entry.data):
            text = "is not the file that the snapshot names: its length or digest is another one"
            self.findings.append(finding(Rule.CONTENT, Severity.ERROR, entry, text))
        counted = count(self.delegator, entry, {}, self.findings.append)
        if counted is not None and not counted.met:
            text = f"is signed by {len(counted.keyids)} of the {counted.threshold} keys that {self.role} asks for"
            self.findings.append(finding(Rule.SIGNATURES, Severity.ERROR, entry, text))
        right = counted.keyids if counted is not None else ()
        self.findings += odd_signatures(entry, self._keys(), right)
        expires = (parsed.signed.expires, entry.file)
        self.first = min(self.first, expires) if self.first is not None else expires

    def _keys(self) -> dict[str, Key]:
        delegations = self.delegator.delegations
        return dict(delegations.keys) if delegations is not None else {}

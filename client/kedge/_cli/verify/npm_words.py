"""What ``kedge verify`` says to people: a summary, the packages that need attention, and what the answer means."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from kedge._cli.output import Screen, Tone
from kedge._cli.verify.build_words import build_lines, row_of
from kedge.registries.npm.attestation import Attesting
from kedge.registries.npm.keyring import Issued
from kedge.registries.npm.report import Report
from kedge.registries.npm.verdict import FAULTLESS, Outcome, Verdict

__all__ = ["report_lines"]

Row = tuple[str, str] | tuple[str, str, Tone]

MAX_LISTED = 40
TONES = {Outcome.VERIFIED: Tone.GOOD, Outcome.VERIFIED_TIME_UNSIGNED: Tone.CAUTION, Outcome.SKIPPED: Tone.PLAIN}
ATTESTING_TONES = {Attesting.VERIFIED: Tone.GOOD, Attesting.ABSENT: Tone.PLAIN, Attesting.LOST: Tone.CAUTION}


def report_lines(screen: Screen, report: Report, *, everything: bool) -> list[str]:
    """The whole answer; ``everything`` lists each package, also those that are verified."""
    faults = report.faults
    tone = Tone.BAD if report.exit_code else Tone.GOOD
    lines = screen.heading(f"{report.lockfile.name}: {_result(report)}", tone)
    lines += screen.rows(_counts(report))
    if everything:
        lines += _packages(screen, "packages", report.verdicts, None)
    elif faults:
        lines += _packages(screen, "not verified", faults, MAX_LISTED)
    noted = [verdict for verdict in report.verdicts if verdict.outcome in FAULTLESS and _remarkable(verdict)]
    if noted and not everything:
        lines += _packages(screen, "verified, with a note", noted, MAX_LISTED)
    lines += _provenance(screen, report, everything=everything)
    lines += ["", *screen.heading("by whose keys"), *screen.rows(_issuers(report))]
    for text in report.remarks():
        lines += ["", *screen.heading(text, Tone.PLAIN)]
    return lines


def _provenance(screen: Screen, report: Report, *, everything: bool) -> list[str]:
    """How many packages have a provenance, which lost theirs, and the table of those that were verified."""
    found = [(verdict.package.spec, verdict.attested) for verdict in report.verdicts if verdict.attested is not None]
    if not found:
        return []
    counts = Counter(attested.status for _, attested in found)
    told: list[Row] = [
        (status.value, str(counts[status]), ATTESTING_TONES.get(status, Tone.BAD))
        for status in Attesting
        if counts[status]
    ]
    lines = ["", *screen.heading("provenance"), *screen.rows(told)]
    lost = [(spec, attested.detail) for spec, attested in found if attested.status is Attesting.LOST]
    lines += screen.rows(lost[:MAX_LISTED])
    rows = [
        row_of(spec, attested.build, attested.published.place if attested.published is not None else None)
        for spec, attested in found
        if attested.build is not None or attested.published is not None
    ]
    lines += build_lines(screen, rows if everything else rows[:MAX_LISTED])
    if not everything and len(rows) > MAX_LISTED:
        lines += screen.rows([("", f"and {len(rows) - MAX_LISTED} more: --all lists them, --json too")])
    return lines


def _result(report: Report) -> str:
    total = len(report.verdicts)
    if not total:
        return "empty, nothing to verify"
    verified = report.verified - (report.counts[Outcome.VERIFIED_TIME_UNSIGNED] if report.policy.strict else 0)
    return f"{verified} of {total} {'package' if total == 1 else 'packages'} verified"


def _counts(report: Report) -> list[Row]:
    rows: list[Row] = []
    for outcome, count in report.counts.items():
        if not count:
            continue
        found = [verdict for verdict in report.verdicts if verdict.outcome is outcome]
        issuers = Counter(verdict.issuer for verdict in found if verdict.issuer)
        causes = Counter(verdict.cause.value for verdict in found if verdict.cause)
        told = [f"{number} by {issuer}" for issuer, number in issuers.items()] if len(report.issued) > 1 else []
        if outcome is Outcome.SKIPPED:
            told = [f"{number} {cause}" for cause, number in causes.items()]
        tone = TONES.get(outcome, Tone.BAD)
        rows.append((outcome.value, f"{count} ({', '.join(told)})" if told else str(count), tone))
    return rows


def _packages(screen: Screen, title: str, verdicts: Sequence[Verdict], limit: int | None) -> list[str]:
    lines = ["", *screen.heading(title)]
    rows: list[Row] = []
    for verdict in verdicts[:limit]:
        also = "".join(f" and {outcome.value}" for outcome in verdict.also)
        detail = f": {verdict.detail}" if verdict.detail else ""
        what = f"{verdict.outcome.value}{also}{detail}"
        attested = verdict.attested
        if attested is not None and attested.detail:
            what += f"; provenance {attested.status.value}: {attested.detail}"
        if verdict.outcome in FAULTLESS and verdict.notes:
            what += f"; {'; '.join(verdict.notes)}"
        rows.append((verdict.package.spec, what))
    lines += screen.rows(rows)
    if limit is not None and len(verdicts) > limit:
        lines += screen.rows([("", f"and {len(verdicts) - limit} more: --all lists them, --json too")])
    return lines


def _remarkable(verdict: Verdict) -> bool:
    return any(note.startswith(("beside it", "the registry states")) for note in verdict.notes)


def _issuers(report: Report) -> list[Row]:
    rows: list[Row] = []
    by_issuer = report.by_issuer()
    for name, issued in report.issued.items():
        if isinstance(issued, Issued):
            ids = len({key.id for key in issued.keys.keys})
            keys = f"{ids} {'key' if ids == 1 else 'keys'} of {issued.keys.target}, anchor {issued.anchor}"
            rows.append((name, f"{by_issuer[name]} verified; {keys}"))
        else:
            rows.append((name, f"no keys: {issued.detail}", Tone.BAD))
    if not rows:
        rows.append(("none", "no package needed any"))
    if report.root is not None:
        root = report.root.keys
        rows.append((root.registry, f"the trusted root {root.target}, anchor {report.root.anchor}"))
    asked = dict.fromkeys(verdict.source for verdict in report.verdicts if verdict.source)
    rows += [("asked" if not index else "", url) for index, url in enumerate(asked)]
    rows.append(("retired keys", report.policy.retired_keys.value + (", strict" if report.policy.strict else "")))
    return rows

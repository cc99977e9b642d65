"""What a run of ``kedge verify npm`` says: the verdicts, counted, and what they rest on (``kedge.verify-npm/1``).

The faults of a report as SARIF 2.1.0, which code hosts show beside a change.

One result for each package that had to be verified and is not, at its line in the lockfile where one can be told; one
rule for each outcome.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kedge.documents import format_time
from kedge.errors import ExitCode
from kedge.registries import SarifResult, sarif_log
from kedge.registries.npm.attestations import Attesting
from kedge.registries.npm.judge import (
    FAULTLESS,
    Cause,
    Outcome,
    Policy,
    RetiredKeys,
    SignatureResult,
    Verdict,
)
from kedge.registries.npm.keyring import Issued, NoKeys
from kedge.registries.npm.verify import NO_ARCHIVE
from kedge.tuf import Trust


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """The lockfile that was read: its name as the user gave it, its kind, and the digest of its bytes."""

    name: str
    kind: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything that one run found out; ``root`` is the trusted root that attestations were judged by, if any were."""

    FORMAT = "kedge.verify-npm/1"

    lockfile: Input
    policy: Policy
    verdicts: tuple[Verdict, ...]
    issued: Mapping[str, Issued | NoKeys]
    root: Issued | None = None
    archives: bool = False
    warnings: tuple[str, ...] = ()
    counts: Mapping[Outcome, int] = field(init=False)

    def __post_init__(self) -> None:
        counted = Counter(verdict.outcome for verdict in self.verdicts)
        object.__setattr__(self, "counts", {outcome: counted[outcome] for outcome in Outcome})

    @property
    def faults(self) -> tuple[Verdict, ...]:
        """The packages that had to be verified and are not."""
        return tuple(verdict for verdict in self.verdicts if verdict.is_fault(self.policy))

    @property
    def verified(self) -> int:
        """How many packages are verified, with a time that is signed or not."""
        return sum(self.counts[outcome] for outcome in FAULTLESS)

    @property
    def exit_code(self) -> ExitCode:
        """``FAULTS`` unless everything that had to be verified is; nothing verified is a fault, but for no packages.

        ``COULD_NOT`` where nothing failed, and only answers of registries are missing that could not be had.
        """
        outside = [verdict for verdict in self.verdicts if verdict.cause is not Cause.WORKSPACE]
        if self.faults and all(_is_unanswered(verdict) for verdict in self.faults):
            return ExitCode.COULD_NOT
        if self.faults or (outside and not self.verified):
            return ExitCode.FAULTS
        return ExitCode.DONE

    @property
    def trusts(self) -> tuple[Trust, ...]:
        """What the keys stand on, one for each anchor."""
        used = (*self.issued.values(), *((self.root,) if self.root is not None else ()))
        found = {issued.anchor: issued.trust for issued in used if isinstance(issued, Issued)}
        return tuple(found.values())

    def by_issuer(self) -> dict[str, int]:
        """How many packages each issuer's keys verified; an issuer that verified none stands there too."""
        counted = Counter(verdict.issuer for verdict in self.verdicts if verdict.outcome in FAULTLESS)
        return {issuer: counted[issuer] for issuer in self.issued}

    def remarks(self) -> list[str]:
        """What a reader must know about this answer: what retired keys mean, and what was not checked."""
        return [*_retired(self), *_attested(self), *_unchecked(self)]

    def to_table(self, trusts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The answer of ``--json``; ``trusts`` are :attr:`trusts` as tables."""
        by_issuer = self.by_issuer()
        return {
            "format": self.FORMAT,
            "lockfile": {"name": self.lockfile.name, "kind": self.lockfile.kind, "sha256": self.lockfile.sha256},
            "policy": {"retired_keys": self.policy.retired_keys.value, "strict": self.policy.strict},
            "exit_code": int(self.exit_code),
            "packages_count": len(self.verdicts),
            "faults_count": len(self.faults),
            "counts": {outcome.value: count for outcome, count in self.counts.items()},
            "issuers": [_issuer(name, issued, by_issuer[name]) for name, issued in self.issued.items()],
            "trusted_root": _root(self.root) if self.root is not None else None,
            "packages": [package_table(verdict, self.policy) for verdict in self.verdicts],
            "remarks": self.remarks(),
            "warnings": list(self.warnings),
            "trust": list(trusts),
        }


def _is_unanswered(verdict: Verdict) -> bool:
    """Whether there was no answer at all; one that nobody can read is the registry's fault."""
    return verdict.outcome is Outcome.UNREACHABLE and verdict.cause is not Cause.MALFORMED


def package_table(verdict: Verdict, policy: Policy) -> dict[str, Any]:
    """One package in ``--json``."""
    return {
        "name": verdict.package.name,
        "version": verdict.package.version or None,
        "outcome": verdict.outcome.value,
        "cause": verdict.cause.value if verdict.cause else None,
        "detail": verdict.detail or None,
        "fault": verdict.is_fault(policy),
        "also": [outcome.value for outcome in verdict.also],
        "registry": verdict.source,
        "digest": verdict.digest,
        "issuer": verdict.issuer,
        "keyid": verdict.keyid,
        "published": format_time(verdict.published) if verdict.published else None,
        "where": list(verdict.package.where),
        "signatures": [_signature(result) for result in verdict.signatures],
        "notes": list(verdict.notes),
        "aliases": list(verdict.package.aliases),
        "attestations": verdict.attested.to_table() if verdict.attested is not None else None,
    }


def _issuer(name: str, issued: Issued | NoKeys, verified: int) -> dict[str, Any]:
    keys = issued.keys if isinstance(issued, Issued) else None
    return {
        "registry": name,
        "anchor": issued.anchor if isinstance(issued, Issued) else None,
        "target": keys.target if keys else None,
        "sha256": keys.sha256 if keys else None,
        "keys": list(dict.fromkeys(key.id for key in keys.keys)) if keys else [],
        "verified": verified,
        "detail": issued.detail if isinstance(issued, NoKeys) else None,
    }


def _root(root: Issued) -> dict[str, Any]:
    keys = root.keys
    return {"registry": keys.registry, "anchor": root.anchor, "target": keys.target, "sha256": keys.sha256}


def _signature(result: SignatureResult) -> dict[str, Any]:
    return {
        "keyid": result.keyid,
        "issuer": result.issuer,
        "outcome": result.outcome.value,
        "cause": result.cause.value if result.cause else None,
        "detail": result.detail or None,
    }


def _retired(report: Report) -> list[str]:
    count = report.counts[Outcome.VERIFIED_TIME_UNSIGNED]
    if report.policy.retired_keys is RetiredKeys.REJECT:
        return ["Signatures by retired keys were rejected, as you asked: whoever stole a retired key can sign today."]
    if not count:
        return []
    are, were = ("package is", "it was") if count == 1 else ("packages are", "they were")
    text = (
        f"{count} {are} signed by a retired key. The signature is right, and the registry says that {were} published "
        "while the key was valid; but nobody signs that time. Whoever stole the retired key, and stands between here "
        "and the registry, could sign today and date it back. --retired-keys reject takes no such signature; --strict "
        "counts it as a fault."
    )
    return [text]


def _attested(report: Report) -> list[str]:
    found = [verdict.attested for verdict in report.verdicts if verdict.attested is not None]
    remarks: list[str] = []
    if any(each.build is not None for each in found):
        text = (
            "A provenance says where a package was built: repository, commit and workflow by the word of the service "
            "that ran the build, the rest by the build's own. It does not say that what was built is good."
        )
        remarks.append(text)
    lost = sum(each.status is Attesting.LOST for each in found)
    if lost:
        text = (
            f"{lost} came without a provenance, though an earlier version of the same release line had one: so do "
            "releases that were made with a stolen token. Nobody signs that claim about the earlier one; a mirror can "
            "hide it. --strict counts it as a fault, --require-provenance lets no package be without."
        )
        remarks.append(text)
    return remarks


def _unchecked(report: Report) -> list[str]:
    if not report.verdicts:
        return ["The lockfile is empty: it names no package, so that nothing was verified."]
    if not report.verified:
        yet = ["Nothing was verified."]
    else:
        checked = "the archives on disk, and the lockfile's digests" if report.archives else "the lockfile's digests"
        text = (
            "Checked: that a registry's key signed name, version and content of each verified package, held against "
            f"{checked}. Not checked: whether newer or other versions exist that the registry does not show; who wrote "
            "a package; what an installed folder holds today."
        )
        yet = [text]
    if report.counts[Outcome.NO_KEYS]:
        text = (
            "Where no anchor speaks for a registry, there are no keys to judge by. If it passes on the packages of "
            "another one, say which: --upstream registry.npmjs.org, or npm.toml in kedge's configuration."
        )
        yet.append(text)
    missing = sum(NO_ARCHIVE in verdict.notes for verdict in report.verdicts)
    if missing:
        yet.append(f"The folder that --tarballs names holds no archive of {missing} of them.")
    unbound = sum(verdict.cause is Cause.NOT_BOUND for verdict in report.verdicts)
    if unbound:
        text = (
            f"{unbound} could not be bound: the lockfile does not say which content is meant, in a form that the "
            "registry signs. --tarballs DIR binds them to their archives."
        )
        yet.append(text)
    return yet


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
    Outcome.NOT_IN_REGISTRY: "Comes from a source that no registry signs, and that your policy does not allow.",
    Outcome.ALIAS: "Is installed under another package's name.",
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

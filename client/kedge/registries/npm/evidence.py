"""The evidence of a run, in one file (``kedge.evidence/1``), with which anybody can judge it again, without a network.

It holds what was locked, what was served, and the signed metadata that the keys came from. It does not say which anchor
to start from: that is the verifier's knowledge. What it *records* as an outcome is compared with what comes out when it
is judged again, and never believed.

A file like this shows what was looked at; it cannot show that nothing was left out. It names the lockfile by digest, so
that whoever holds the lockfile can count.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from kedge.document import DocumentError, Fields, format_time, load_json
from kedge.keys import KeySet
from kedge.registries.npm.attest import Attestor
from kedge.registries.npm.exhibited import Attestations, attested_table, read_attested
from kedge.registries.npm.integrity import Digest, parse_sri
from kedge.registries.npm.judge import judge
from kedge.registries.npm.keyring import NoKeys
from kedge.registries.npm.locked import LockedPackage, Skip, check_name, check_version
from kedge.registries.npm.packument import MAX_SIGNATURES, Served, ServedSignature
from kedge.registries.npm.proof import Proof
from kedge.registries.npm.report import Input, Report
from kedge.registries.npm.verdict import FAULTLESS, Cause, Outcome, Policy, RetiredKeys, Verdict

__all__ = ["Evidence", "Exhibit"]

# Outcomes that rest on signatures, which therefore must be judged again.
_SIGNED = frozenset(
    {
        *FAULTLESS,
        Outcome.UNSIGNED,
        Outcome.UNKNOWN_KEY,
        Outcome.REVOKED_KEY,
        Outcome.OUTSIDE_VALIDITY,
        Outcome.BAD_SIGNATURE,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exhibit:
    """One package: its verdict as it was recorded, and the issuers whose keys it was judged by."""

    verdict: Verdict
    issuers: tuple[str, ...]

    def judge(self, keys: Mapping[str, KeySet | NoKeys], policy: Policy, attestor: Attestor | None = None) -> Verdict:
        """Judge it by these keys. What was not served cannot be judged, and stays the fault that it was."""
        recorded = self.verdict
        if recorded.served is None:
            return recorded
        found: list[KeySet] = []
        for issuer in self.issuers:
            each = keys[issuer]
            if isinstance(each, NoKeys):
                return Verdict(package=recorded.package, outcome=Outcome.NO_KEYS, detail=each.detail)
            found.append(each)
        content = parse_sri(recorded.content)[0] if recorded.content is not None else None
        again = partial(judge, recorded.package, issuers=found, policy=policy, content=content)
        verdict = again(recorded.served)
        if attestor is None or recorded.attested is None:
            return verdict
        return attestor.again(verdict, recorded.attested, found, again)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """The file. ``claimed_at`` is the reference time by which the run judged.

    ``attestations`` is what it went by where it asked for attestations.
    """

    FORMAT = "kedge.evidence/1"

    claimed_at: datetime
    lockfile: Input
    policy: Policy
    proofs: tuple[Proof, ...]
    exhibits: tuple[Exhibit, ...]
    attestations: Attestations | None = None

    @classmethod
    def of(
        cls,
        report: Report,
        proofs: Sequence[Proof],
        issuers: Mapping[str, tuple[str, ...]],
        attestor: Attestor | None = None,
    ) -> Evidence:
        """Make the evidence of a report; ``issuers`` are those of each registry's URL."""
        return cls(
            claimed_at=max(proof.reference_time for proof in proofs),
            lockfile=report.lockfile,
            policy=report.policy,
            proofs=tuple(proofs),
            exhibits=tuple(
                Exhibit(verdict=verdict, issuers=issuers.get(verdict.source or "", ())) for verdict in report.verdicts
            ),
            attestations=Attestations.of(attestor) if attestor is not None else None,
        )

    def to_bytes(self) -> bytes:
        """Write the file."""
        document = {
            "format": self.FORMAT,
            "claimed_at": format_time(self.claimed_at),
            "lockfile": {"name": self.lockfile.name, "kind": self.lockfile.kind, "sha256": self.lockfile.sha256},
            "policy": {"retired_keys": self.policy.retired_keys.value, "strict": self.policy.strict},
            "proofs": [proof.to_table() for proof in self.proofs],
            "packages": [_package(exhibit) for exhibit in self.exhibits],
        }
        if self.attestations is not None:
            document["attestations"] = self.attestations.to_table()
        return json.dumps(document, indent=1).encode() + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes) -> Evidence:
        """Read the file.

        Raises:
            DocumentError: it is not such a file; the path leads to the fault.
        """
        fields = Fields(load_json(data))
        fields.format(cls.FORMAT)
        locked, policy = fields.table("lockfile"), fields.table("policy")
        evidence = cls(
            claimed_at=fields.time("claimed_at"),
            lockfile=Input(name=locked.text("name"), kind=locked.text("kind"), sha256=locked.sha256("sha256")),
            policy=Policy(
                retired_keys=RetiredKeys(_one_of(policy, "retired_keys", RetiredKeys)), strict=policy.boolean("strict")
            ),
            proofs=tuple(Proof.from_fields(entry) for entry in fields.tables("proofs")),
            exhibits=tuple(_exhibit(entry) for entry in fields.tables("packages")),
            attestations=(Attestations.from_fields(fields.table("attestations")) if "attestations" in fields else None),
        )
        for table in (locked, policy, fields):
            table.end()
        return evidence


def _package(exhibit: Exhibit) -> dict[str, Any]:
    verdict = exhibit.verdict
    package, served = verdict.package, verdict.served
    table = {
        "name": package.name,
        "version": package.version or None,
        "locked": [digest.sri for digest in package.digests],
        "unbound": package.unbound,
        "skip": package.skip.value if package.skip else None,
        "where": list(package.where),
        "registry": verdict.source,
        "issuers": list(exhibit.issuers),
        "content": verdict.content,
        "served": None if served is None else _served(served),
        "outcome": verdict.outcome.value,
        "cause": verdict.cause.value if verdict.cause else None,
        "detail": verdict.detail or None,
        "attestations": attested_table(verdict.attested) if verdict.attested is not None else None,
    }
    return {name: value for name, value in table.items() if value is not None}


def _served(served: Served) -> dict[str, Any]:
    table = {
        "integrity": served.integrity,
        "shasum": served.shasum,
        "signatures": [{"keyid": each.keyid, "sig": each.sig} for each in served.signatures],
        "broken": served.broken,
        "published": format_time(served.published) if served.published else None,
    }
    return {name: value for name, value in table.items() if value is not None}


def _exhibit(fields: Fields) -> Exhibit:
    skip = Skip(_one_of(fields, "skip", Skip)) if "skip" in fields else None
    package = LockedPackage(
        name=fields.text("name") if skip else check_name(fields.text("name"), fields.at("name")),
        version=_version(fields, skipped=skip is not None),
        digests=tuple(_digest(text, fields, "locked") for text in fields.texts("locked")),
        unbound=fields.optional("unbound", fields.text),
        skip=skip,
        where=fields.texts("where"),
    )
    outcome = Outcome(_one_of(fields, "outcome", Outcome))
    cause = Cause(_one_of(fields, "cause", Cause)) if "cause" in fields else None
    content, issuers = fields.optional("content", fields.text), fields.texts("issuers")
    if content is not None and _digest(content, fields, "content").algorithm != "sha512":
        fields.fail("content", "must be a sha512 digest")
    served = _read_served(fields.table("served")) if "served" in fields else None
    if served is None and outcome in _SIGNED:
        fields.fail("served", f"must be there, since the outcome is {outcome.value}")
    if served is not None and (skip is not None or not issuers):
        fields.fail("served", "must not be there: no issuer's key could have signed it")
    verdict = Verdict(
        package=package,
        outcome=outcome,
        cause=cause,
        detail=fields.optional("detail", fields.text) or "",
        served=served,
        content=content,
        source=fields.optional("registry", fields.text),
        attested=read_attested(fields.table("attestations")) if "attestations" in fields else None,
    )
    fields.end()
    return Exhibit(verdict=verdict, issuers=issuers)


def _read_served(fields: Fields) -> Served:
    entries = fields.tables("signatures")
    if len(entries) > MAX_SIGNATURES:
        fields.fail("signatures", f"must be at most {MAX_SIGNATURES}")
    served = Served(
        integrity=fields.optional("integrity", fields.text),
        shasum=fields.optional("shasum", fields.text),
        signatures=tuple(ServedSignature(entry.text("keyid"), entry.text("sig")) for entry in entries),
        broken=fields.integer("broken"),
        published=fields.optional("published", fields.time),
    )
    for table in (*entries, fields):
        table.end()
    return served


def _version(fields: Fields, *, skipped: bool) -> str:
    version = fields.optional("version", fields.text)
    if version is None:
        return "" if skipped else fields.fail("version", "is missing: only what is skipped may have none")
    return version if skipped else check_version(version, fields.at("version"))


def _digest(text: str, fields: Fields, name: str) -> Digest:
    try:
        digest = parse_sri(text)[0]
    except ValueError as error:
        raise DocumentError(fields.at(name), f"must be one digest such as sha512-…: {error}") from error
    if text != digest.sri:
        fields.fail(name, "must be one digest such as sha512-…, and nothing beside it")
    return digest


def _one_of(fields: Fields, name: str, kind: type[Outcome | Cause | Skip | RetiredKeys]) -> str:
    values = [str(member.value) for member in kind]
    return fields.text(name, pattern="|".join(values), expected=f"one of {', '.join(values)}")

"""The evidence of a run, in one file (``kedge.evidence/1``), with which anybody can judge it again, without a network.

It holds what was locked, what was served, and the signed metadata that the keys came from. It does not say which anchor
to start from: that is the verifier's knowledge. What it *records* as an outcome is compared with what comes out when it
is judged again, and never believed.

A file like this shows what was looked at; it cannot show that nothing was left out. It names the lockfile by digest, so
that whoever holds the lockfile can count.

Attestations inside an evidence file: what was served, what it came to, and what was expected.

The served document is what is judged again. What it is *recorded* to have come to is compared and never believed; only
where nothing was served does the record stand, as it does for a package that was not served.

The signed metadata that keys came from, carried inside an evidence file, and served from there as a mirror would.

A :class:`Proof` is taken from the state folder right after a run, and read by a ``TrustClient`` that starts from the
verifier's own anchor, in an empty state, as of the claimed time. Nothing in it is believed: it is a mirror like any
other, which happens to need no network.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any
from urllib.parse import unquote

from kedge.client import Store, stored_log_files
from kedge.documents import DocumentError, Fields, format_time, load_json
from kedge.errors import FetchError, InputError, StoreError
from kedge.registries import KeySet
from kedge.registries.npm import (
    FAULTLESS,
    MAX_SIGNATURES,
    Attested,
    Attesting,
    Attestor,
    Cause,
    Digest,
    Input,
    LockedPackage,
    NoKeys,
    Outcome,
    Policy,
    Report,
    RetiredKeys,
    Served,
    ServedSignature,
    Skip,
    Verdict,
    check_name,
    check_version,
    judge_package,
    judge_unsigned,
    parse_sri,
)
from kedge.registries.sigstore import BundleVerifier, Expectations, NpmRule, Sigstore
from kedge.tlog import POLICY_TARGET
from kedge.transport import Deadline
from kedge.tuf import MISSING, Area, Fetch, Missing, StateRecord

_NOT_SERVED = frozenset({Attesting.ABSENT, Attesting.LOST, Attesting.MISSING, Attesting.UNREACHABLE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Attestations:
    """What a run went by that asked for attestations: the Sigstore instance, and the rules in their order."""

    instance: str
    everything: bool
    rules: tuple[NpmRule, ...]

    @classmethod
    def of(cls, attestor: Attestor) -> Attestations:
        """What an attestor went by."""
        rules = attestor.expectations.npm
        return cls(instance=attestor.instance, everything=attestor.everything, rules=rules)

    def attestor(self, verifier: BundleVerifier) -> Attestor:
        """An attestor that goes by the same, with another trusted root."""
        expectations = Expectations(npm=self.rules)
        return Attestor(
            instance=self.instance, verifier=verifier, everything=self.everything, expectations=expectations
        )

    def to_table(self) -> dict[str, Any]:
        """This value as part of the evidence file."""
        rules = [
            {
                "package": rule.package,
                "required": rule.required,
                "source_repository": rule.source_repository,
                "builder": rule.builder,
                "issuer": rule.issuer,
            }
            for rule in self.rules
        ]
        return {"trusted_root": self.instance, "everything": self.everything, "rules": [_told(rule) for rule in rules]}

    @classmethod
    def from_fields(cls, fields: Fields) -> Attestations:
        """Read what :meth:`to_table` wrote.

        Raises:
            DocumentError: it is not that.
        """
        entries, instance = fields.tables("rules"), fields.text("trusted_root")
        try:
            Sigstore().target_path(instance)
        except InputError as error:
            fields.fail("trusted_root", error.message)
        found = cls(
            instance=instance,
            everything=fields.boolean("everything"),
            rules=tuple(
                NpmRule(
                    package=entry.text("package"),
                    required=entry.boolean("required"),
                    source_repository=entry.optional("source_repository", entry.text),
                    builder=entry.optional("builder", entry.text),
                    issuer=entry.optional("issuer", entry.text),
                )
                for entry in entries
            ),
        )
        for table in (*entries, fields):
            table.end()
        return found


def attested_table(attested: Attested) -> dict[str, Any]:
    """One package's attestations as part of the evidence file."""
    return _told(
        {
            "status": attested.status.value,
            "detail": attested.detail or None,
            "lost_since": attested.lost_since,
            "served": attested.document.decode("utf-8", errors="replace") if attested.document is not None else None,
        }
    )


def read_attested(fields: Fields) -> Attested:
    """Read what :func:`attested_table` wrote.

    Raises:
        DocumentError: it is not that, or records a status that nothing in it can show.
    """
    values = [status.value for status in Attesting]
    status = Attesting(fields.text("status", pattern="|".join(values), expected=f"one of {', '.join(values)}"))
    served = fields.optional("served", fields.text)
    if served is None and status not in _NOT_SERVED:
        fields.fail("served", f"must be there, since the status is {status.value}")
    attested = Attested(
        status=status,
        detail=fields.optional("detail", fields.text) or "",
        lost_since=fields.optional("lost_since", fields.text),
        document=served.encode() if served is not None else None,
    )
    fields.end()
    return attested


def _told(table: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in table.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """One repository's files, as a run left them. ``roots`` are in order; ``issuers`` have their keys in it.

    ``log`` holds what proves the repository's log, by path below it, where the run's anchor asked for that.
    """

    issuers: tuple[str, ...]
    reference_time: datetime
    roots: tuple[bytes, ...]
    timestamp: bytes
    snapshot: bytes
    roles: Mapping[str, bytes]
    targets: Mapping[str, bytes]
    log: Mapping[str, bytes] = field(default_factory=dict)

    @classmethod
    def from_store(
        cls, store: Store, *, issuers: tuple[str, ...], targets: tuple[str, ...], reference_time: datetime
    ) -> Proof:
        """Take what a client has just kept.

        Raises:
            StoreError: the set is not whole, or does not hold these targets.
        """
        data = store.read().state
        try:
            record = StateRecord.from_bytes(data or b"")
        except DocumentError as error:
            raise _not_whole(store) from error

        def blob(digest: str | None) -> bytes:
            held = store.blob(digest) if digest is not None else None
            if held is None:
                raise _not_whole(store)
            return held

        log = stored_log_files(store)
        return cls(
            issuers=issuers,
            reference_time=reference_time,
            roots=tuple(blob(digest) for digest in record.roots),
            timestamp=blob(record.timestamp),
            snapshot=blob(record.snapshot),
            roles={name: blob(digest) for name, digest in record.roles.items()},
            targets={path: blob(record.targets.get(path)) for path in (*targets, *_log_policy(record, log))},
            log=log,
        )

    def to_table(self) -> dict[str, Any]:
        """This value as part of the evidence file."""
        return {
            "issuers": list(self.issuers),
            "reference_time": format_time(self.reference_time),
            "roots": [_text(data) for data in self.roots],
            "timestamp": _text(self.timestamp),
            "snapshot": _text(self.snapshot),
            "roles": {name: _text(data) for name, data in self.roles.items()},
            "targets": {path: _text(data) for path, data in self.targets.items()},
            **({"log": {path: _text(data) for path, data in self.log.items()}} if self.log else {}),
        }

    @classmethod
    def from_fields(cls, fields: Fields) -> Proof:
        """Read what :meth:`to_table` wrote.

        Raises:
            DocumentError: it is not that.
        """
        roles, targets = fields.table("roles"), fields.table("targets")
        proof = cls(
            issuers=fields.texts("issuers"),
            reference_time=fields.time("reference_time"),
            roots=tuple(_bytes(text, fields.at("roots")) for text in fields.texts("roots")),
            timestamp=_bytes(fields.text("timestamp"), fields.at("timestamp")),
            snapshot=_bytes(fields.text("snapshot"), fields.at("snapshot")),
            roles={name: _bytes(roles.text(name), roles.at(name)) for name in roles.names()},
            targets={path: _bytes(targets.text(path), targets.at(path)) for path in targets.names()},
            log=_log(fields.table("log")) if "log" in fields else {},
        )
        fields.end()
        return proof


class ProofTransport:
    """Answers a client's requests from a proof."""

    source = "the evidence file"
    notices: tuple[str, ...] = ()

    def __init__(self, proof: Proof) -> None:
        """Answer from ``proof``."""
        self._proof = proof
        self._roots = {version: data for data in proof.roots if (version := _version(data)) is not None}

    def begin(self, requests: Sequence[Fetch], deadline: Deadline) -> None:
        """It answers at once."""

    def get(self, request: Fetch, deadline: Deadline) -> bytes | Missing:  # noqa: ARG002 it answers at once
        """Give one file; a longer one than allowed is missing."""
        if request.area is Area.LOG:
            data = self._proof.log.get(request.path)
        else:
            data = self._metadata(request.path) if request.area is Area.METADATA else self._target(request.path)
        return MISSING if data is None or len(data) > request.max_bytes else data

    def close(self) -> None:
        """Nothing is held open."""

    def _metadata(self, path: str) -> bytes | None:
        if match := re.fullmatch(r"([0-9]{1,15})\.root\.json", path):
            return self._roots.get(int(match[1]))
        match = re.fullmatch(r"(?:[0-9]+\.)?(.+)\.json", path)
        name = unquote(match[1]) if match else ""
        single = {"timestamp": self._proof.timestamp, "snapshot": self._proof.snapshot}
        return single.get(name, self._proof.roles.get(name))

    def _target(self, path: str) -> bytes | None:
        folder, slash, name = unquote(path).rpartition("/")
        plain = f"{folder}{slash}{name}"
        bare = f"{folder}{slash}{name.partition('.')[2]}"
        return self._proof.targets.get(plain, self._proof.targets.get(bare))


class Offline:
    """A transport that reaches nothing: answers come from what is stored."""

    source = "what is stored here"
    notices: tuple[str, ...] = ()

    def begin(self, requests: Sequence[Fetch], deadline: Deadline) -> None:
        """Nothing is asked."""

    def get(self, request: Fetch, deadline: Deadline) -> bytes | Missing:  # noqa: ARG002 nothing is asked
        """Refuse.

        Raises:
            FetchError: always.
        """
        raise FetchError(f"{request.path}: not asked for: evidence is judged without the network")

    def close(self) -> None:
        """Nothing is open."""


def _not_whole(store: Store) -> StoreError:
    return StoreError(
        f"{store.folder}: the trust state could not be kept whole, so that no evidence can be taken from it",
        hint="see the warnings above; the state folder must be writable",
    )


def _version(root: bytes) -> int | None:
    """A root's version by its own word; the client checks it."""
    try:
        version = json.loads(root)["signed"]["version"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return version if isinstance(version, int) else None


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _bytes(text: str, path: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:  # also for what is not ASCII
        raise DocumentError(path, "must be base64") from error


def _log_policy(record: StateRecord, log: Mapping[str, bytes]) -> Iterator[str]:
    if log and POLICY_TARGET in record.targets:
        yield POLICY_TARGET


def _log(fields: Fields) -> dict[str, bytes]:
    return {path: _bytes(fields.text(path), fields.at(path)) for path in fields.names()}


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
        """Judge it by these keys. What was not served cannot be judged: it is a failure, whatever was recorded."""
        recorded = self.verdict
        if recorded.package.skip is not None:
            return judge_unsigned(recorded.package, policy)
        if recorded.served is None:
            if recorded.outcome in FAULTLESS or recorded.outcome is Outcome.SKIPPED:
                detail = f"the file holds nothing that a registry served, and calls it {recorded.outcome.value}"
                return Verdict(package=recorded.package, outcome=Outcome.NOT_FOUND, detail=detail)
            return recorded
        found: list[KeySet] = []
        for issuer in self.issuers:
            each = keys[issuer]
            if isinstance(each, NoKeys):
                return Verdict(package=recorded.package, outcome=Outcome.NO_KEYS, detail=each.detail)
            found.append(each)
        # What was on disk is the file's own word. It can only contradict what was locked, and never stand in for it.
        again = partial(judge_package, recorded.package, issuers=found, policy=policy)
        if (other := _other_content(recorded)) is not None:
            detail = f"the file records the content {recorded.content}, and {other.sri} is locked"
            return Verdict(package=recorded.package, outcome=Outcome.DIGEST_MISMATCH, detail=detail)
        verdict = again(recorded.served)
        if attestor is None or recorded.attested is None:
            return verdict
        return attestor.again(verdict, recorded.attested, found, again)


def _other_content(recorded: Verdict) -> Digest | None:
    """The digest that is locked, where the recorded content is another one."""
    locked = [digest for digest in recorded.package.digests if digest.algorithm == "sha512"]
    return next((digest for digest in locked if recorded.content not in (None, digest.sri)), None)


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
        if not evidence.exhibits:
            fields.fail("packages", "names no package: such a file shows nothing")
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
        version=_version_evidence(fields, skipped=skip is not None),
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


def _version_evidence(fields: Fields, *, skipped: bool) -> str:
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

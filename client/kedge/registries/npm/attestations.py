"""npm's attestations of one package: what its registry says of publishing it, and what a build says of building it.

A registry serves both beside the packument, as Sigstore bundles. Neither is believed because of where it came from:

- the *publish attestation* is signed by a key of the registry itself (usage ``npm:attestations``). The log's time of it
  is a time of publishing that somebody signed, which judges retired keys as nothing else can;
- the *provenance* is signed by a build, with a certificate that names repository, commit and workflow.

Both must be about this name, this version and the digest that is *locked*. One that is not, or two that disagree, is a
fault, never a package without attestations.

Sources: npm's ``GET /-/npm/v1/attestations/NAME@VERSION``; the publish attestation v0.1; SLSA provenance v0.2 and v1.

What a packument *claims* about provenance: which versions have one, and which release line lost it. Nobody signs it.

A claim serves two ends only. It says where to ask, and it shows that a release line which had a provenance came without
one: the mark that stolen publishing tokens leave. A mirror that takes the claims of all versions out hides that; a rule
that requires a provenance does not let it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from urllib.parse import quote

from kedge.documents import DocumentError, Fields, format_time, load_json
from kedge.errors import Reason, StoreError, VerificationError
from kedge.registries import KeySet
from kedge.registries.npm.locked import Digest
from kedge.registries.sigstore import (
    SLSA,
    Build,
    Bundle,
    BundleVerifier,
    LogPlace,
    NpmRule,
    Part,
    SignedStatement,
    Statement,
    read_build,
    refuse,
)

ATTESTATIONS = "npm:attestations"
"""The usage of the keys with which a registry signs its publish attestations."""

PUBLISH = "https://github.com/npm/attestation/tree/main/specs/publish/v0.1"
MAX_ATTESTATIONS = 16


class Attesting(StrEnum):
    """What became of a package's attestations. The values stand in ``--json`` and in evidence files."""

    VERIFIED = "verified"
    ABSENT = "absent"
    LOST = "lost"
    MISSING = "missing"
    REFUSED = "refused"
    UNEXPECTED = "unexpected"
    UNREACHABLE = "unreachable"


FAULTY = frozenset({Attesting.MISSING, Attesting.REFUSED, Attesting.UNEXPECTED, Attesting.UNREACHABLE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """That the registry published this content: by which key, when by the log's word, and where the log has it."""

    keyid: str
    issuer: str
    at: datetime
    place: LogPlace

    def to_table(self) -> dict[str, Any]:
        """This value in ``--json``."""
        return {
            "issuer": self.issuer,
            "keyid": self.keyid,
            "at": format_time(self.at),
            "log": self.place.log,
            "log_index": self.place.index,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Attested:
    """What a package's attestations came to.

    ``lost_since`` is the earlier version of the same release line that had a provenance, where this one has none.
    ``document`` is what was served, None where nothing was. ``unknown_key`` says that they were refused because of a
    key that nobody here knows: a newer key document may name it.
    """

    status: Attesting
    detail: str = ""
    published: Published | None = None
    build: Build | None = None
    lost_since: str | None = None
    document: bytes | None = None
    unknown_key: bool = False

    def is_fault(self, *, strict: bool) -> bool:
        """Whether this is a fault of the package."""
        return self.status in FAULTY or (strict and self.status is Attesting.LOST)

    def to_table(self) -> dict[str, Any]:
        """This value in ``--json``."""
        return {
            "status": self.status.value,
            "detail": self.detail or None,
            "lost_since": self.lost_since,
            "published": self.published.to_table() if self.published is not None else None,
            "build": self.build.to_table() if self.build is not None else None,
        }


def judge_attestations(
    name: str,
    version: str,
    digest: Digest,
    document: bytes,
    issuers: Sequence[KeySet],
    verifier: BundleVerifier,
    rule: NpmRule | None,
) -> Attested:
    """Judge what a registry served as the attestations of ``name@version`` whose content has this SHA-512 digest."""
    published: Published | None = None
    builds: list[Build] = []
    try:
        for kind, bundle in _read(document):
            if kind == PUBLISH:
                found = verifier.verify_statement(bundle, signers=_signers(bundle, issuers), usage=ATTESTATIONS)
                _require_about(found.statement, kind, name, version, digest)
                published = _published(found, published)
            elif kind in SLSA:
                found = verifier.verify_statement(bundle)
                _require_about(found.statement, kind, name, version, digest)
                builds.append(read_build(found))
        build = _agreed(builds)
    except VerificationError as error:
        unknown = error.refusal.reason is Reason.UNKNOWN_KEY
        return Attested(status=Attesting.REFUSED, detail=error.message, document=document, unknown_key=unknown)
    except DocumentError as error:
        return Attested(status=Attesting.REFUSED, detail=f"cannot be read: {error}", document=document)
    except StoreError as error:
        detail = f"{error.message} ({error.hint})" if error.hint else error.message
        return Attested(status=Attesting.UNREACHABLE, detail=detail, document=document)
    if build is None:
        return without_attestations(rule, published=published, document=document)
    problem = _unexpected(build, rule)
    return Attested(
        status=Attesting.UNEXPECTED if problem else Attesting.VERIFIED,
        detail=problem,
        published=published,
        build=build,
        document=document,
    )


def without_attestations(
    rule: NpmRule | None,
    *,
    lost_since: str | None = None,
    published: Published | None = None,
    document: bytes | None = None,
) -> Attested:
    """What it means that a package has no provenance: a fault where one is asked for, else a fact."""
    status, detail = Attesting.ABSENT, ""
    if lost_since is not None:
        status, detail = Attesting.LOST, f"has no provenance, and {lost_since} of the same release line had one"
    if rule is not None and rule.asks:
        missing = f"has no provenance, and the rule for {rule.package} asks for one"
        status, detail = Attesting.MISSING, f"{missing}; {lost_since} had one" if lost_since else missing
    return Attested(status=status, detail=detail, published=published, lost_since=lost_since, document=document)


def purl(name: str, version: str) -> str:
    """The name that attestations give to a package: ``pkg:npm/%40scope/name@version``."""
    return f"pkg:npm/{quote(name, safe='/')}@{version}"


def _read(document: bytes) -> list[tuple[str, Bundle]]:
    """The attestations that are served, each with the kind that it is announced as."""
    value = load_json(document)
    entries = Fields(value).tables("attestations")
    if len(entries) > MAX_ATTESTATIONS:
        raise DocumentError("attestations", f"must be at most {MAX_ATTESTATIONS}, not {len(entries)}")
    found = []
    for index, entry in enumerate(entries):
        kind = entry.text("predicateType")
        if kind == PUBLISH or kind in SLSA:
            served = value["attestations"][index].get("bundle")
            found.append((kind, Bundle.from_value(served, entry.at("bundle"))))
    return found


def _signers(bundle: Bundle, issuers: Sequence[KeySet]) -> KeySet:
    """The issuer that knows the key which the bundle names; where none does, the first answers for all."""
    if bundle.certificate is not None:
        problem = "a publish attestation is signed by the registry's key, and this one by a certificate"
        raise refuse(Part.SIGNER, problem, reason=Reason.UNKNOWN_KEY)
    known = [keys for keys in issuers if bundle.hint in {*keys.revoked, *(key.id for key in keys.keys)}]
    return (known or list(issuers))[0]


def _require_about(statement: Statement, kind: str, name: str, version: str, digest: Digest) -> None:
    """Check that a statement is of the kind it is announced as, and about this package and this content alone."""
    if statement.predicate_type != kind:
        problem = f"is announced as {kind}, and is {statement.predicate_type[:200]}"
        raise refuse(Part.STATEMENT, problem, reason=Reason.CONFLICT, expected=kind, found=statement.predicate_type)
    wanted = purl(name, version)
    if len(statement.subjects) != 1 or statement.subjects[0].name != wanted:
        found = ", ".join(subject.name for subject in statement.subjects)[:300]
        raise refuse(
            Part.SUBJECT, f"is {found}, expected {wanted}", reason=Reason.CONTENT, expected=wanted, found=found
        )
    stated = statement.subjects[0].digests.get(digest.algorithm, "")
    if stated != digest.value.hex():
        problem = f"is {digest.algorithm} {stated[:160] or 'not stated'}, and {digest.value.hex()} is locked"
        raise refuse(Part.DIGEST, problem, reason=Reason.CONTENT, expected=digest.value.hex(), found=stated)
    said = statement.predicate or {}
    if kind == PUBLISH and (said.get("name"), said.get("version")) != (name, version):
        problem = f"says that {said.get('name')}@{said.get('version')} was published, expected {name}@{version}"
        raise refuse(Part.STATEMENT, problem[:400], reason=Reason.CONTENT)


def _published(found: SignedStatement, before: Published | None) -> Published:
    evidence = found.signed.key
    if evidence is None:
        raise RuntimeError("a publish attestation is verified by a key")
    published = Published(
        keyid=evidence.key.id, issuer=evidence.key.registry, at=found.signed.at, place=found.signed.place
    )
    if before is None:
        return published
    # Both are right; the later one may be a repetition, so the earlier time proves the less.
    return max(before, published, key=lambda each: each.at)


def _agreed(builds: Sequence[Build]) -> Build | None:
    for build in builds[1:]:
        first = builds[0]
        if (build.issuer, build.repository, build.commit) != (first.issuer, first.repository, first.commit):
            problem = f"two provenances disagree: {_source(first)}, and {_source(build)}"
            raise refuse(Part.SOURCE, problem, reason=Reason.CONFLICT, expected=_source(first), found=_source(build))
    return builds[0] if builds else None


def _source(build: Build) -> str:
    return f"{build.repository or build.signer} at {build.commit or 'no commit'}"


def _unexpected(build: Build, rule: NpmRule | None) -> str:
    """What a rule expects and this build is not; empty if it is all that."""
    if rule is None:
        return ""
    wanted = rule.source_repository
    if wanted is not None and (build.repository or "").casefold() != wanted.removesuffix(".git").casefold():
        return f"was built from {build.repository or 'no repository that is named'}, expected {wanted}"
    if rule.builder is not None and build.builder != rule.builder:
        return f"was built by {build.builder or 'nobody who is named'}, expected {rule.builder}"
    if rule.builder is not None and not build.backed:
        return f"was built by {build.builder}, which is the build's own word: its certificate does not say it"
    for url in (wanted, rule.builder):
        if url is not None and build.issuer != (trusted := rule.trusted_issuer(url)):
            nobody = "nobody is known to be; name its issuer in your rule"
            return f"{build.issuer} vouches for the build, and is not trusted for {url}: {trusted or nobody}"
    return ""


_VERSION = re.compile(r"(\d{1,9})\.(\d{1,9})\.(\d{1,9})(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?")


@dataclass(frozen=True, slots=True)
class Claims:
    """The versions that are said to have attestations, and those of them that are said to have a provenance."""

    attested: frozenset[str] = frozenset()
    built: frozenset[str] = frozenset()

    def lost_since(self, version: str) -> str | None:
        """The last version before this one, in its release line, that is said to have a provenance.

        A release line is a major version; below 1.0.0 a minor one. Only whole releases count as having had one.
        """
        mine = _parts(version)
        if mine is None or version in self.built:
            return None
        earlier = [
            (parts, other)
            for other in self.built
            if (parts := _parts(other)) is not None and "-" not in other and _line(parts) == _line(mine)
        ]
        before = [entry for entry in earlier if entry[0] < mine]
        return max(before)[1] if before else None


def read_claims(data: bytes) -> Claims:
    """Read the claims of a packument's bytes; none, where they cannot be read."""
    try:
        listed = json.loads(data).get("versions")
    except (ValueError, RecursionError, AttributeError):
        return Claims()
    attested, built = set(), set()
    for version, manifest in listed.items() if isinstance(listed, dict) else ():
        claim = _claim(manifest)
        if claim is not None:
            attested.add(version)
            if isinstance(claim.get("provenance"), dict):
                built.add(version)
    return Claims(frozenset(attested), frozenset(built))


def _claim(manifest: Any) -> dict[str, Any] | None:
    dist = manifest.get("dist") if isinstance(manifest, dict) else None
    claim = dist.get("attestations") if isinstance(dist, dict) else None
    return claim if isinstance(claim, dict) else None


def _parts(version: str) -> tuple[int, int, int] | None:
    match = _VERSION.fullmatch(version)
    return (int(match[1]), int(match[2]), int(match[3])) if match else None


def _line(parts: tuple[int, int, int]) -> tuple[int, ...]:
    return parts[:1] if parts[0] else parts[:2]

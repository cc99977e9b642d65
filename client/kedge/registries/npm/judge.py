"""Judges one package: what is locked, what the registry served, and the keys of one issuer or several. Pure.

The order of the questions:

1. Which content is meant? The digest of the bytes on disk, if they were given; else the lockfile's strongest one. It
   must be *one*, and the bytes must be what the lockfile says.
2. Does the registry state the same content? If it states another, the outcome is ``digest-mismatch``, and the
   signatures are judged over what it states, so that the report says whose content that is.
3. Did a key sign ``name@version:digest``? One good signature is enough; what stands beside it is noted. An active key
   needs no time. A retired one needs a time at which it was valid, and the policy says whose word is taken for it.

A revoked key verifies nothing, at whatever time.

What an npm registry signs: ``name@version:integrity``, and how one entry of ``dist.signatures`` is checked.

The message is made of texts that were checked to be a name, a version and one digest, so that no other package could
be meant by the same bytes.

Source: npm's registry signatures (ECDSA P-256 over SHA-256); a Sigstore key document names the key.

What became of one package, as a value: the outcome, and all that it rests on.

Every locked package gets exactly one :class:`Verdict`. ``VERIFIED`` means: a key that the repository's keyholders
signed for made a signature over this name, this version and the digest *that is locked* (or the digest of the bytes on
disk). What a registry merely says today is never enough.

Verdicts and results are named tuples, since there is one for every package: making a frozen dataclass of so many fields
takes some microseconds, beside the sixty that checking a signature takes.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from kedge.documents import DocumentError, Fields, format_time
from kedge.errors import Reason, Refusal, StoreError, VerificationError
from kedge.registries import Allowances, Evidence, KeySet, KeyStatus, RegistryKey, TimeBasis
from kedge.registries.npm.locked import Digest, LockedPackage, Skip, parse_shasum, parse_sri, strongest
from kedge.registries.npm.packument import Served, ServedSignature

if TYPE_CHECKING:
    from kedge.registries.npm.attestations import Attested


SIGNATURES = "npm:signatures"
"""The usage of the keys that sign packages."""

_NAME = r"(@[^\x00-\x20\x7f-\x9f@:/]+/)?[^\x00-\x20\x7f-\x9f@:/]+"
_VERSION = r"[0-9A-Za-z.+-]+"
_INTEGRITY = r"sha[0-9]+-[A-Za-z0-9+/]+={0,2}"


def signed_message(name: str, version: str, integrity: str) -> bytes:
    """Give the bytes that npm signs for one package version: ``name@version:integrity``, in UTF-8.

    ``name`` carries its scope (``@scope/name``), ``integrity`` is one whole SRI value (``sha512-…``).

    Raises:
        DocumentError: one of the three is not such a text. Its path is ``name``, ``version`` or ``integrity``. What is
            refused here could otherwise be read as another name, version or digest in the same bytes.
    """
    fields = Fields({"name": name, "version": version, "integrity": integrity})
    fields.text("name", pattern=_NAME, expected="a package name such as lodash or @scope/name")
    fields.text("version", pattern=_VERSION, expected="a version such as 1.0.0")
    fields.text("integrity", pattern=_INTEGRITY, expected="one SRI digest such as sha512-…")
    try:
        return f"{name}@{version}:{integrity}".encode()
    except UnicodeEncodeError as error:
        raise DocumentError("name", "holds a lone surrogate, which is not a character") from error


def verify_signature(
    keys: KeySet,
    name: str,
    version: str,
    integrity: str,
    *,
    keyid: str,
    signature: str,
    published: datetime | None = None,
) -> Evidence:
    """Check one entry of ``dist.signatures`` (``keyid`` and ``sig``, which is base64), and give the evidence.

    ``published`` is the moment of publishing, an aware time, if somebody whom the caller trusts states it; None if not.

    Raises:
        DocumentError: name, version or integrity is not such a text.
        VerificationError: ``unknown-key``, ``revoked-key``, ``outside-validity`` or ``bad-signature``.
        StoreError: this kedge, or this machine's cryptography, cannot check signatures of this kind.
    """
    message = signed_message(name, version, integrity)
    try:
        raw = base64.b64decode(signature, validate=True)
    except ValueError as error:
        refusal = Refusal(reason=Reason.BAD_SIGNATURE, file=keys.target, expected="base64")
        text = f"{keys.registry}: the signature of {name}@{version} is not base64"
        raise VerificationError(text, refusal=refusal) from error
    return keys.verify(message, keyid=keyid, signature=raw, usage=SIGNATURES, at=published)


class Outcome(StrEnum):
    """The outcome for one package. The values stand in ``--json``, SARIF and evidence files."""

    VERIFIED = "verified"
    VERIFIED_TIME_UNSIGNED = "verified-time-unsigned"
    UNSIGNED = "unsigned"
    UNKNOWN_KEY = "unknown-key"
    REVOKED_KEY = "revoked-key"
    OUTSIDE_VALIDITY = "outside-validity"
    BAD_SIGNATURE = "bad-signature"
    DIGEST_MISMATCH = "digest-mismatch"
    NO_KEYS = "no-keys"
    NOT_FOUND = "not-found"
    UNREACHABLE = "unreachable"
    NOT_IN_REGISTRY = "not-in-registry"
    ALIAS = "alias"
    SKIPPED = "skipped"


FAULTLESS = (Outcome.VERIFIED, Outcome.VERIFIED_TIME_UNSIGNED)


class Cause(StrEnum):
    """Why, where the outcome alone does not say it."""

    LOCAL = "local"
    GIT = "git"
    WORKSPACE = "workspace"
    BUNDLED = "bundled"
    RULE = "rule"
    REMOTE = "remote"
    OUTSIDE = "outside"
    UNKNOWN = "unknown"
    ALLOWED = "allowed"
    NOT_BOUND = "not-bound"
    TWO_DIGESTS = "two-digests"
    REGISTRY_DIFFERS = "registry-differs"
    BYTES_DIFFER = "bytes-differ"
    TIME_UNKNOWN = "time-unknown"
    UNSUPPORTED = "unsupported"
    WRONG_PACKAGE = "wrong-package"
    MALFORMED = "malformed"


class RetiredKeys(StrEnum):
    """Which time decides whether a retired key had signed while it was valid."""

    LOG_TIME = "log-time"
    REGISTRY_TIME = "registry-time"
    REJECT = "reject"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the user decides. ``strict`` counts ``verified-time-unsigned``, and a lost provenance, among the faults.

    ``allowances`` are the user's exceptions for what no registry can vouch for; ``aliases`` allows that a package is
    installed under another package's name.
    """

    retired_keys: RetiredKeys = RetiredKeys.REGISTRY_TIME
    strict: bool = False
    allowances: Allowances | None = None
    aliases: bool = True


class SignatureResult(NamedTuple):
    """What one served signature is worth against the keys of one issuer."""

    keyid: str
    issuer: str
    outcome: Outcome
    cause: Cause | None = None
    detail: str = ""


class Verdict(NamedTuple):
    """The verdict on one package.

    ``also`` are further faults beside the outcome. ``digest`` is the one that was judged (SRI). ``keyid`` and
    ``issuer`` name the key that verified it, ``published`` the unsigned time that the registry states. ``served`` is
    what was judged, None where the registry gave nothing. ``attested`` is what its attestations came to, None where
    nobody asked for them.
    """

    package: LockedPackage
    outcome: Outcome
    cause: Cause | None = None
    detail: str = ""
    also: tuple[Outcome, ...] = ()
    digest: str | None = None
    keyid: str | None = None
    issuer: str | None = None
    published: datetime | None = None
    signatures: tuple[SignatureResult, ...] = ()
    notes: tuple[str, ...] = ()
    served: Served | None = None
    content: str | None = None
    source: str | None = None
    attested: Attested | None = None

    def is_fault(self, policy: Policy) -> bool:
        """Whether this package had to be verified and is not."""
        if self.attested is not None and self.attested.is_fault(strict=policy.strict):
            return True
        if self.outcome is Outcome.SKIPPED:
            return self.cause is Cause.NOT_BOUND
        if self.outcome is Outcome.VERIFIED_TIME_UNSIGNED:
            return policy.strict
        return self.outcome is not Outcome.VERIFIED


SIGN_EVERYTHING = frozenset({"registry.npmjs.org"})
"""Registries that are known to sign every package."""

_BOUND_BY = frozenset({"sha1", "sha512"})
_OUTCOMES = {
    Reason.UNKNOWN_KEY: Outcome.UNKNOWN_KEY,
    Reason.REVOKED_KEY: Outcome.REVOKED_KEY,
    Reason.OUTSIDE_VALIDITY: Outcome.OUTSIDE_VALIDITY,
    Reason.BAD_SIGNATURE: Outcome.BAD_SIGNATURE,
}
# Of several signatures that verify nothing, the one that says most names the outcome.
_TELLING = (
    Outcome.VERIFIED,
    Outcome.VERIFIED_TIME_UNSIGNED,
    Outcome.REVOKED_KEY,
    Outcome.BAD_SIGNATURE,
    Outcome.OUTSIDE_VALIDITY,
    Outcome.UNKNOWN_KEY,
)


def judge_unsigned(package: LockedPackage, policy: Policy) -> Verdict:
    """Judge an entry for which no registry's signature can vouch: what is not the project's own must be allowed."""
    skip = package.skip or Skip.UNKNOWN
    cause = Cause(skip.value)
    if skip.is_own:
        return Verdict(package=package, outcome=Outcome.SKIPPED, cause=cause, detail=_NO_REGISTRY[skip])
    source = package.resolved or package.spec
    detail = f"{_NO_REGISTRY[skip]}: {package.unbound or source}"
    kind = "local" if skip is Skip.OUTSIDE else skip.value
    found = policy.allowances.find(kind, source) if policy.allowances is not None else None
    if found is not None:
        return Verdict(package=package, outcome=Outcome.SKIPPED, cause=Cause.ALLOWED, detail=f"{detail}; {found.text}")
    if policy.allowances is not None:
        detail += f"; {policy.allowances.explain(kind, source)}"
    return Verdict(package=package, outcome=Outcome.NOT_IN_REGISTRY, cause=cause, detail=detail)


def judge_alias(verdict: Verdict, policy: Policy) -> Verdict:
    """Say under which other names a verified package is installed, which is a failure if the policy says so."""
    names = verdict.package.aliases
    if not names or verdict.outcome not in FAULTLESS:
        return verdict
    told = f"installed as {', '.join(names)}"
    if policy.aliases:
        return verdict._replace(notes=(told, *verdict.notes))
    return verdict._replace(outcome=Outcome.ALIAS, detail=f"{told}, under another package's name")


_NO_REGISTRY = {
    Skip.LOCAL: "a folder or archive of this project",
    Skip.WORKSPACE: "a workspace of this project",
    Skip.BUNDLED: "inside the archive of the package that bundles it",
    Skip.GIT: "from git, which no registry signs",
    Skip.REMOTE: "an archive from a URL, which no registry signs",
    Skip.OUTSIDE: "from outside of the project's folder",
    Skip.UNKNOWN: "not understood",
}


def judge_package(
    package: LockedPackage,
    served: Served,
    issuers: Sequence[KeySet],
    policy: Policy,
    *,
    content: Digest | None = None,
    source: str | None = None,
    notes: tuple[str, ...] = (),
) -> Verdict:
    """Judge a package that is neither skipped nor missing.

    ``issuers`` are the upstream's keys, then those of further issuers; at least one. ``content`` is the SHA-512 of the
    package's archive on disk, if that was given. ``source`` and ``notes`` become part of the verdict.
    """
    wanted = content or _one(package.digests)
    told = _unbindable(package) if wanted is None else _told(package, served, wanted, issuers, policy)
    return Verdict(
        package=package,
        outcome=told.outcome,
        cause=told.cause,
        detail=told.detail,
        also=told.also,
        digest=wanted.sri if wanted is not None else None,
        keyid=told.keyid,
        issuer=told.issuer,
        published=served.published,
        signatures=told.signatures,
        notes=(*told.notes, *notes) if notes else told.notes,
        served=served,
        content=content.sri if content is not None else None,
        source=source,
    )


class _Told(NamedTuple):
    """What the questions came to; the part of a verdict that is not known before."""

    outcome: Outcome
    cause: Cause | None = None
    detail: str = ""
    also: tuple[Outcome, ...] = ()
    keyid: str | None = None
    issuer: str | None = None
    signatures: tuple[SignatureResult, ...] = ()
    notes: tuple[str, ...] = ()


def _told(package: LockedPackage, served: Served, wanted: Digest, issuers: Sequence[KeySet], policy: Policy) -> _Told:
    stated = _stated(served, wanted)
    if stated != wanted:
        return _differs(package, served, wanted, stated, issuers, policy)
    if wanted.algorithm not in _BOUND_BY:
        return _not_bound(f"the lockfile's digest is {wanted.algorithm}, and npm registries sign sha512")
    told = _by_signatures(package, served, wanted, issuers, policy)
    if wanted.algorithm == "sha1" and told.outcome is Outcome.BAD_SIGNATURE and served.integrity is not None:
        return _not_bound("the lockfile holds a sha1 digest only, and the registry signs another digest")
    return told


def _one(digests: tuple[Digest, ...]) -> Digest | None:
    best = strongest(digests) if len(digests) > 1 else digests
    return best[0] if len(best) == 1 else None


def _unbindable(package: LockedPackage) -> _Told:
    if len(strongest(package.digests)) > 1:
        detail = "the lockfile allows several contents for this version: two digests of the strongest algorithm"
        return _Told(outcome=Outcome.DIGEST_MISMATCH, cause=Cause.TWO_DIGESTS, detail=detail)
    return _not_bound(package.unbound or "the lockfile holds no digest of this package")


def _not_bound(detail: str) -> _Told:
    return _Told(outcome=Outcome.SKIPPED, cause=Cause.NOT_BOUND, detail=detail)


def _stated(served: Served, wanted: Digest) -> Digest:
    """The digest of the same algorithm that the registry states: one that differs, if there is one.

    Where it states none in a form that anybody could install from, the signature decides about the wanted one.
    """
    if served.integrity == wanted.sri:
        return wanted
    for text, parse in ((served.integrity, parse_sri), (served.shasum, _shasum)):
        try:
            found = parse(text) if text is not None else ()
        except ValueError:
            continue
        for digest in found:
            if digest.algorithm == wanted.algorithm and digest != wanted:
                return digest
    return wanted


def _shasum(text: str) -> tuple[Digest, ...]:
    return (parse_shasum(text),)


def _differs(
    package: LockedPackage,
    served: Served,
    wanted: Digest,
    stated: Digest,
    issuers: Sequence[KeySet],
    policy: Policy,
) -> _Told:
    """The registry states another content than the one that is locked: judge whose content that is."""
    told = _by_signatures(package, served, stated, issuers, policy)
    detail = f"locked is {wanted.sri}, the registry states {stated.sri}"
    if told.outcome in FAULTLESS:
        detail += f", which {told.issuer} did sign: the lockfile was changed, or made through a mirror that lied"
        also: tuple[Outcome, ...] = ()
    else:
        also = (told.outcome,)
        detail += f"; and that is not signed either: {told.detail}"
    return _Told(
        outcome=Outcome.DIGEST_MISMATCH,
        cause=Cause.REGISTRY_DIFFERS,
        detail=detail,
        also=also,
        signatures=told.signatures,
    )


def _by_signatures(
    package: LockedPackage, served: Served, digest: Digest, issuers: Sequence[KeySet], policy: Policy
) -> _Told:
    if not served.signatures:
        return _unsigned(served, issuers[0].registry)
    message = f"{package.name}@{package.version}:{digest.sri}".encode()
    results = tuple(
        [
            _check(keys, message, signature, served, policy)
            for signature in served.signatures
            for keys in _who_may_have_signed(signature, issuers)
        ]
    )
    best = results[0] if len(results) == 1 else min(results, key=lambda result: _TELLING.index(result.outcome))
    good = best.outcome in FAULTLESS
    return _Told(
        outcome=best.outcome,
        cause=best.cause,
        detail="" if good else best.detail,
        keyid=best.keyid if good else None,
        issuer=best.issuer if good else None,
        signatures=results,
        notes=tuple(_notes(results, best, served)),
    )


def _unsigned(served: Served, upstream: str) -> _Told:
    if served.broken:
        detail = "what is served as its signatures is none: somebody between here and the registry changed it"
        return _Told(outcome=Outcome.UNSIGNED, cause=Cause.MALFORMED, detail=detail)
    if upstream in SIGN_EVERYTHING:
        detail = f"no signature is served, and {upstream} signs everything: somebody on the way took it out"
    else:
        detail = f"no signature is served, and {upstream} has keys that sign packages"
    return _Told(outcome=Outcome.UNSIGNED, detail=detail)


def _who_may_have_signed(signature: ServedSignature, issuers: Sequence[KeySet]) -> Sequence[KeySet]:
    """The issuers that know the keyid; where none does, the first answers for all."""
    if len(issuers) == 1:
        return issuers
    known = [keys for keys in issuers if signature.keyid in keys.revoked or _knows(keys, signature.keyid)]
    return known or issuers[:1]


def _knows(keys: KeySet, keyid: str) -> bool:
    return any(key.id == keyid for key in keys.keys)


def _check(keys: KeySet, message: bytes, signature: ServedSignature, served: Served, policy: Policy) -> SignatureResult:
    try:
        raw = base64.b64decode(signature.sig, validate=True)
    except ValueError:
        return _result(keys, signature, Outcome.BAD_SIGNATURE, detail="the signature is not base64")
    try:
        key = keys.find(signature.keyid, SIGNATURES)
        # A key that is not valid *yet* stays so: a time that nobody signed must not bring it forward.
        if key.status is KeyStatus.RETIRED:
            return _check_retired(keys, key, message, signature, raw, served, policy)
        keys.check(key, message, raw)
    except VerificationError as error:
        outcome = _OUTCOMES.get(error.refusal.reason, Outcome.BAD_SIGNATURE)
        return _result(keys, signature, outcome, detail=error.message)
    except StoreError as error:
        return _result(keys, signature, Outcome.UNKNOWN_KEY, cause=Cause.UNSUPPORTED, detail=error.message)
    early = served.published is not None and key.valid_from is not None and served.published < key.valid_from
    detail = "the registry states a time of publishing before this key was valid; nobody signs that time"
    return _result(keys, signature, Outcome.VERIFIED, detail=detail if early else "")


def _check_retired(
    keys: KeySet,
    key: RegistryKey,
    message: bytes,
    signature: ServedSignature,
    raw: bytes,
    served: Served,
    policy: Policy,
) -> SignatureResult:
    """Check a signature by a retired key, at a log's time if there is one, else at the time that the policy takes."""
    problem, published = None, served.published
    if served.logged is not None and policy.retired_keys is not RetiredKeys.REJECT:
        keys.verify(message, keyid=signature.keyid, signature=raw, usage=SIGNATURES, at=served.logged)
        detail = f"by a retired key, and published at {format_time(served.logged)} by the log's word"
        return _result(keys, signature, Outcome.VERIFIED, detail=detail)
    if policy.retired_keys is RetiredKeys.LOG_TIME:
        problem = "no log says when this was published: it has no publish attestation"
    elif policy.retired_keys is not RetiredKeys.REGISTRY_TIME:
        problem = f"by the policy {policy.retired_keys.value} the registry's word for the time is not taken"
    elif key.time_basis is not TimeBasis.PUBLISH_TIME:
        problem = f"its validity is measured by {key.time_basis.value}, which the registry cannot state"
    elif published is None:
        problem = "the registry states no time of publishing"
    if problem is not None:
        until = format_time(key.valid_until) if key.valid_until is not None else "a time that nobody states"
        detail = f"key {_short(key.id)} was retired at {until}, and {problem}"
        return _result(keys, signature, Outcome.OUTSIDE_VALIDITY, cause=Cause.TIME_UNKNOWN, detail=detail)
    keys.check(key, message, raw, at=published)
    return _result(keys, signature, Outcome.VERIFIED_TIME_UNSIGNED)


def _result(
    keys: KeySet, signature: ServedSignature, outcome: Outcome, *, cause: Cause | None = None, detail: str = ""
) -> SignatureResult:
    return SignatureResult(keyid=signature.keyid, issuer=keys.registry, outcome=outcome, cause=cause, detail=detail)


def _notes(results: Sequence[SignatureResult], best: SignatureResult, served: Served) -> Iterator[str]:
    if best.outcome is Outcome.VERIFIED and best.detail:
        yield best.detail
    for result in results:
        if result is not best:
            yield f"beside it: a signature by {_short(result.keyid)}: {result.outcome.value} ({result.issuer})"
    if served.broken:
        yield f"beside it: {served.broken} entries among the signatures that are none"


def _short(keyid: str) -> str:
    shown = keyid if keyid.isprintable() else ascii(keyid)[1:-1]
    return shown if len(shown) <= 60 else f"{shown[:57]}..."

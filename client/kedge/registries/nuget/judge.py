"""Judges one package: its signatures, which are right by themselves, by certificates that keyholders signed for. Pure.

One good signature is enough, the repository's word before the author's: a repository's (primary or counter-signature)
by a certificate of the feed, or an author's primary signature by a certificate of that author. A fingerprint counts
in its own place only. What NuGet does not do and this does:

- the service index that a repository signed into the package must be the feed's: NuGet never compares it;
- a certificate's time counts. One that is valid now needs nothing else. One that has expired needs a time stamp
  inside its validity; if that comes from an authority that the keyholders pinned, the package is verified, and if it
  comes from any other, the package is "verified, time unverified": who stole the expired key could have made one.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from kedge.document import format_time
from kedge.errors import Reason, VerificationError
from kedge.keys import KeySet, KeyStatus
from kedge.registries.nuget.cms import CmsError
from kedge.registries.nuget.document import AUTHOR, REPOSITORY, TIMESTAMP, Feed
from kedge.registries.nuget.signature import Kind, PackageSignature, Signature
from kedge.registries.nuget.timestamp import pinned_certificate

__all__ = ["GOOD", "Outcome", "Result", "judge"]


class Outcome(StrEnum):
    """What became of one package."""

    VERIFIED = "verified"
    VERIFIED_TIME_UNVERIFIED = "verified-time-unverified"
    REVOKED_KEY = "revoked-key"
    WRONG_SOURCE = "wrong-source"
    OUTSIDE_VALIDITY = "outside-validity"
    UNKNOWN_KEY = "unknown-key"
    DIGEST_MISMATCH = "digest-mismatch"
    WRONG_NAME = "wrong-name"
    BAD_SIGNATURE = "bad-signature"
    UNSUPPORTED = "unsupported"
    UNSIGNED = "unsigned"
    MALFORMED = "malformed"


GOOD = frozenset({Outcome.VERIFIED, Outcome.VERIFIED_TIME_UNVERIFIED})

_REASONS = {Reason.REVOKED_KEY: Outcome.REVOKED_KEY, Reason.UNKNOWN_KEY: Outcome.UNKNOWN_KEY}
_USAGES = {Kind.AUTHOR: AUTHOR, Kind.REPOSITORY: REPOSITORY}


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one signature, or the whole package, is worth; ``notes`` are what should be known beside it."""

    outcome: Outcome
    detail: str = ""
    signature: Signature | None = None
    notes: tuple[str, ...] = ()


def judge(signed: PackageSignature, keys: KeySet, feed: Feed) -> Result:
    """Judge a package whose content is what was signed."""
    results = [_judge(signature, keys, feed) for signature in signed.signatures]
    best = min(results, key=lambda result: list(Outcome).index(result.outcome))
    beside = [_beside(result) for result in results if result is not best and result.outcome is not Outcome.UNKNOWN_KEY]
    return Result(outcome=best.outcome, detail=best.detail, signature=best.signature, notes=(*best.notes, *beside))


def _judge(signature: Signature, keys: KeySet, feed: Feed) -> Result:
    try:
        key = keys.find(signature.fingerprint, _USAGES[signature.kind])
    except VerificationError as error:
        outcome = _REASONS.get(error.refusal.reason, Outcome.UNKNOWN_KEY)
        return Result(outcome=outcome, detail=f"{_who(signature)}: {error.message}", signature=signature)
    if key.status is KeyStatus.REVOKED:
        detail = f"{_who(signature)}: its certificate {signature.fingerprint} was revoked"
        return Result(outcome=Outcome.REVOKED_KEY, detail=detail, signature=signature)
    if signature.service_index is not None:
        wrong = feed.check_service_index(signature.service_index)
        if wrong is not None:
            detail = f"{_who(signature)} names another service index: {wrong}"
            return Result(outcome=Outcome.WRONG_SOURCE, detail=detail, signature=signature)
    return _judge_time(signature, keys)


def _judge_time(signature: Signature, keys: KeySet) -> Result:
    now, stamp = keys.reference_time, signature.time_stamp
    start, end = signature.valid_from, signature.valid_until
    window = f"its certificate is valid from {format_time(start)} to {format_time(end)}"
    if stamp is not None and not start <= stamp.time <= end:
        detail = f"{_who(signature)}: {window}, and its time stamp says {format_time(stamp.time)}"
        return Result(outcome=Outcome.OUTSIDE_VALIDITY, detail=detail, signature=signature)
    if start <= now <= end:
        note = () if stamp is not None else (f"{signature.time_fault}: it will not outlive its certificate",)
        return Result(outcome=Outcome.VERIFIED, signature=signature, notes=note)
    if stamp is None:
        detail = f"{_who(signature)}: {window}, it is {format_time(now)} now, and {signature.time_fault}"
        return Result(outcome=Outcome.OUTSIDE_VALIDITY, detail=detail, signature=signature)
    if _is_pinned(signature, keys):
        return Result(outcome=Outcome.VERIFIED, signature=signature)
    detail = f"{window}; that it was signed at {format_time(stamp.time)} is the word of an authority that nobody pinned"
    return Result(outcome=Outcome.VERIFIED_TIME_UNVERIFIED, detail=detail, signature=signature)


def _is_pinned(signature: Signature, keys: KeySet) -> bool:
    pinned = {key.id for key in keys.keys if TIMESTAMP in key.usages and key.status is not KeyStatus.REVOKED}
    if signature.time_stamp is None or not pinned:
        return False
    try:
        return pinned_certificate(signature.time_stamp, pinned) is not None
    except CmsError:
        return False


def _who(signature: Signature) -> str:
    if signature.kind is Kind.AUTHOR:
        return "the author's signature"
    return "the repository's counter-signature" if signature.is_counter else "the repository's signature"


def _beside(result: Result) -> str:
    who = _who(result.signature) if result.signature is not None else "a signature"
    return f"beside it, {who}: {result.outcome.value}"

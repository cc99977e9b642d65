"""Judges the signatures on one file against the keys of one issuer. Pure: what gpgv said comes from :mod:`.signatures`.

The rule is apt's: at least one good signature by a key that counts, and no bad one. Signatures by other keys are no
harm: Debian's ``InRelease`` has three, and an installed keyring knows one. A key that the repository revoked counts for
nothing, whatever gpgv, which cannot know it, says of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from kedge.document import format_time
from kedge.keys import KeySet, KeyStatus, RegistryKey
from kedge.registries.pgp.signatures import Signature, Standing

__all__ = ["Judged", "SignatureOutcome", "judge"]


class SignatureOutcome(StrEnum):
    """What the signatures on a file came to. The values stand in ``--json``."""

    VERIFIED = "verified"
    UNSIGNED = "unsigned"
    BAD_SIGNATURE = "bad-signature"
    REVOKED_KEY = "revoked-key"
    EXPIRED_KEY = "expired-key"
    EXPIRED_SIGNATURE = "expired-signature"
    WEAK_DIGEST = "weak-digest"
    UNKNOWN_KEY = "unknown-key"
    UNCHECKED = "unchecked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """The judgement: ``key`` is the fingerprint of the certificate that counts, ``notes`` what stands beside it."""

    outcome: SignatureOutcome
    detail: str = ""
    key: str | None = None
    notes: tuple[str, ...] = ()


# Of several signatures that verify nothing, the first of these that is among them names the outcome.
_TELLING = (
    SignatureOutcome.BAD_SIGNATURE,
    SignatureOutcome.VERIFIED,
    SignatureOutcome.REVOKED_KEY,
    SignatureOutcome.EXPIRED_KEY,
    SignatureOutcome.EXPIRED_SIGNATURE,
    SignatureOutcome.WEAK_DIGEST,
    SignatureOutcome.UNCHECKED,
    SignatureOutcome.UNKNOWN_KEY,
)
_PLAIN = {
    Standing.BAD: (SignatureOutcome.BAD_SIGNATURE, "did not make this signature over this content"),
    Standing.UNKNOWN_KEY: (SignatureOutcome.UNKNOWN_KEY, "is not in the verified keyring"),
    Standing.EXPIRED_KEY: (SignatureOutcome.EXPIRED_KEY, "has expired"),
    Standing.REVOKED_KEY: (SignatureOutcome.REVOKED_KEY, "was revoked by its owner"),
    Standing.EXPIRED_SIGNATURE: (SignatureOutcome.EXPIRED_SIGNATURE, "signed for a time that is over"),
    Standing.WEAK_DIGEST: (SignatureOutcome.WEAK_DIGEST, "signed a digest that can be forged"),
    Standing.UNCHECKED: (SignatureOutcome.UNCHECKED, "made a signature that could not be checked"),
}


def judge(signatures: Sequence[Signature], keys: KeySet) -> Judged:
    """Judge the signatures on one file."""
    if not signatures:
        return Judged(outcome=SignatureOutcome.UNSIGNED, detail="there is no signature")
    told = [(signature, *_tell(signature, keys)) for signature in signatures]
    signature, outcome, detail = min(told, key=lambda each: _TELLING.index(each[1]))
    if outcome is not SignatureOutcome.VERIFIED:
        many = f" ({len(told)} signatures)" if len(told) > 1 else ""
        return Judged(outcome=outcome, detail=f"{signature.key} {detail}{many}")
    beside = [each for each in told if each[1] is not SignatureOutcome.VERIFIED]
    notes = tuple(f"beside it: {other.key} {text}" for other, _, text in beside)
    return Judged(outcome=outcome, key=signature.primary or signature.key, notes=notes)


def _tell(signature: Signature, keys: KeySet) -> tuple[SignatureOutcome, str]:
    is_revoked = signature.key in keys.revoked or signature.primary in keys.revoked
    if is_revoked and signature.standing is not Standing.BAD:
        return SignatureOutcome.REVOKED_KEY, f"was revoked in the repository that holds {keys.target}"
    if signature.standing is not Standing.GOOD:
        outcome, text = _PLAIN[signature.standing]
        return outcome, f"{text} ({signature.detail})" if signature.detail else text
    key = next((key for key in keys.keys if key.id == signature.primary), None)
    if key is None:
        return SignatureOutcome.UNKNOWN_KEY, "is not in the verified keyring"
    if key.status is KeyStatus.REVOKED:
        return SignatureOutcome.REVOKED_KEY, "was revoked by its owner"
    if _is_over(key, keys):
        return SignatureOutcome.EXPIRED_KEY, f"ended at {format_time(key.valid_until)}" if key.valid_until else ""
    return SignatureOutcome.VERIFIED, ""


def _is_over(key: RegistryKey, keys: KeySet) -> bool:
    # gpgv goes by this machine's clock, which may be behind the time that trust has reached.
    return key.valid_until is not None and key.valid_until <= keys.reference_time

"""What became of one package, as a value: the outcome, and all that it rests on.

Every locked package gets exactly one :class:`Verdict`. ``VERIFIED`` means: a key that the repository's keyholders
signed for made a signature over this name, this version and the digest *that is locked* (or the digest of the bytes on
disk). What a registry merely says today is never enough.

Verdicts and results are named tuples, since there is one for every package: making a frozen dataclass of so many fields
takes some microseconds, beside the sixty that checking a signature takes.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from kedge.registries.npm.locked import LockedPackage
from kedge.registries.npm.packument import Served

if TYPE_CHECKING:
    from kedge.registries.npm.attestation import Attested

__all__ = ["FAULTLESS", "Cause", "Outcome", "Policy", "RetiredKeys", "SignatureResult", "Verdict"]


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
    """What the user decides. ``strict`` counts ``verified-time-unsigned``, and a lost provenance, among the faults."""

    retired_keys: RetiredKeys = RetiredKeys.REGISTRY_TIME
    strict: bool = False


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
            return self.cause in (Cause.REMOTE, Cause.NOT_BOUND)
        if self.outcome is Outcome.VERIFIED_TIME_UNSIGNED:
            return policy.strict
        return self.outcome is not Outcome.VERIFIED

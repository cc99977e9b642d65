"""A registry's public keys, and what they say about a signature. Pure values: no file, no network, no clock.

The ideas:

- A keyid is an opaque text that the registry chose. It is compared and never computed.
- One keyid may stand several times, once for each usage, each with its own validity (npm's keys sign packages since
  1999 and attestations since 2022). A key speaks for the usages it names and for nothing else.
- A key's validity is a window ``valid_from <= t < valid_until`` on the moment of *signing*. Where nobody says when that
  was, an active key verifies and a retired one does not: its thief could have signed today.
- A revoked key verifies nothing, whatever the time, also after its entry has left the key document.
- Verifying returns evidence of what was verified, or raises; it never returns a bool. What this machine cannot check
  (an algorithm that it does not know) is this machine's fault, and never called a bad signature.

Sources: Sigstore's ``PublicKey`` and ``PublicKeyDetails`` (the algorithm names), RFC 5280 §4.1.2.7 (SPKI), RFC 5758
§3.2 (ECDSA over P-256 and SHA-256, DER), RFC 8032 (Ed25519), RFC 8017 §8.2 (RSASSA-PKCS1-v1_5).
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import lru_cache, partial
from typing import TYPE_CHECKING

from kedge.documents import format_time
from kedge.errors import Reason, Refusal, StoreError, VerificationError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes


MAX_SHOWN = 100
MIN_RSA_BITS = 2048


class KeyStatus(StrEnum):
    """What became of a key: in use, replaced in good order, or withdrawn because it cannot be trusted any more."""

    ACTIVE = "active"
    RETIRED = "retired"
    REVOKED = "revoked"

    @classmethod
    def at(cls, now: datetime, *, until: datetime | None, is_revoked: bool) -> KeyStatus:
        """The status at ``now`` of a key that ends at ``until``."""
        if is_revoked:
            return cls.REVOKED
        return cls.RETIRED if until is not None and until <= now else cls.ACTIVE


class TimeBasis(StrEnum):
    """Which time a key's validity is measured against.

    ``NOW`` means the moment of verifying; for the others the caller brings the time and knows who vouches for it.
    """

    PUBLISH_TIME = "publish-time"
    LOG_TIME = "log-time"
    SIGNATURE_TIMESTAMP = "signature-timestamp"
    NOW = "now"
    NONE = "none"


class KeyFormat(StrEnum):
    """How a key's bytes are laid out. ``RAW`` leaves it to the algorithm: one that this kedge does not know.

    ``CERTIFICATE_SHA256`` is no key but the digest of a certificate, which whoever signs brings along.
    """

    SPKI_DER = "spki-der"
    OPENPGP = "openpgp"
    X509_DER = "x509-der"
    VKEY = "vkey"
    CERTIFICATE_SHA256 = "certificate-sha256"
    RAW = "raw"


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryKey:
    """One public key of a registry, for the usages that it names. Times are aware UTC; None means open on that side."""

    id: str
    registry: str
    usages: tuple[str, ...]
    material: bytes
    format: KeyFormat
    algorithm: str
    valid_from: datetime | None
    valid_until: datetime | None
    time_basis: TimeBasis
    status: KeyStatus

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the key's bytes, or of the certificate that they are the digest of, as hexadecimal digits."""
        if self.format is KeyFormat.CERTIFICATE_SHA256:
            return self.material.hex()
        return hashlib.sha256(self.material).hexdigest()

    @property
    def pem(self) -> str | None:
        """The key as PEM text (``-----BEGIN PUBLIC KEY-----``), or None where its format has no such form."""
        if self.format is not KeyFormat.SPKI_DER:
            return None
        text = base64.b64encode(self.material).decode("ascii")
        lines = [text[start : start + 64] for start in range(0, len(text), 64)]
        return "\n".join(["-----BEGIN PUBLIC KEY-----", *lines, "-----END PUBLIC KEY-----", ""])


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a verified signature rests on: the key, the message's SHA-256, and the key document that holds the key.

    ``at`` is the time of signing that the caller stated (None: none was known); ``reference_time`` the time by which
    the key document was current.
    """

    key: RegistryKey
    usage: str | None
    message_sha256: str
    at: datetime | None
    target: str
    target_sha256: str
    reference_time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySet:
    """The keys of one registry, out of one verified key document.

    ``target`` and ``sha256`` name that document, ``reference_time`` is the time its keys' status was judged at.
    ``revoked`` lists every revoked keyid, also those that no longer stand in the document. ``document`` is the document
    itself, as it was signed for.
    """

    registry: str
    keys: tuple[RegistryKey, ...]
    target: str
    sha256: str
    reference_time: datetime
    revoked: tuple[str, ...] = field(default=())
    document: bytes = field(default=b"", repr=False)

    @classmethod
    def of_document(
        cls,
        document: bytes,
        *,
        registry: str,
        target: str,
        keys: Iterable[RegistryKey],
        now: datetime,
        revoked: tuple[str, ...] = (),
    ) -> KeySet:
        """What a registry's module read out of a key document, at ``now``."""
        return cls(
            registry=registry,
            keys=tuple(keys),
            target=target,
            sha256=hashlib.sha256(document).hexdigest(),
            reference_time=now,
            revoked=revoked,
            document=document,
        )

    def find(self, keyid: str, usage: str | None = None) -> RegistryKey:
        """Give the key ``keyid`` for ``usage``; without a usage the document's first entry of that keyid.

        Raises:
            VerificationError: there is no such key (``unknown-key``), or the repository revoked it and took its entry
                out (``revoked-key``).
        """
        entries = [key for key in self.keys if key.id == keyid]
        if not entries:
            if keyid in self.revoked:
                raise self._refuse(Reason.REVOKED_KEY, keyid, "was revoked: nothing that it signed is accepted")
            count = len({key.id for key in self.keys})
            known = "1 key" if count == 1 else f"{count} keys"
            raise self._refuse(Reason.UNKNOWN_KEY, keyid, f"is not among the {known} of {self.target}")
        for key in entries:
            if usage is None or usage in key.usages:
                return key
        others = ", ".join(dict.fromkeys(name for key in entries for name in key.usages))
        problem = f"stands in {self.target} for {others} only, not for {_visible(usage or '')}"
        raise self._refuse(Reason.UNKNOWN_KEY, keyid, problem)

    def verify(
        self, message: bytes, *, keyid: str, signature: bytes, usage: str | None = None, at: datetime | None = None
    ) -> Evidence:
        """Check that ``keyid`` signed ``message`` while it was valid, and give the evidence.

        ``at`` is the moment of signing, an aware time, from a source that the caller trusts; None if nobody knows.

        Raises:
            VerificationError: ``unknown-key``, ``revoked-key``, ``outside-validity`` or ``bad-signature``.
            StoreError: this kedge, or this machine's cryptography, cannot check signatures of this kind.
        """
        key = self.find(keyid, usage)
        self.check(key, message, signature, at=at)
        return Evidence(
            key=key,
            usage=usage,
            message_sha256=hashlib.sha256(message).hexdigest(),
            at=at,
            target=self.target,
            target_sha256=self.sha256,
            reference_time=self.reference_time,
        )

    def check(self, key: RegistryKey, message: bytes, signature: bytes, *, at: datetime | None = None) -> None:
        """Check that ``key``, which :meth:`find` gave, signed ``message`` while it was valid: verifying, and no more.

        Raises:
            VerificationError: ``revoked-key``, ``outside-validity`` or ``bad-signature``.
            StoreError: as :meth:`verify`.
        """
        if key.status is KeyStatus.REVOKED or key.id in self.revoked:
            raise self._refuse(Reason.REVOKED_KEY, key.id, "was revoked: nothing that it signed is accepted")
        self._require_validity(key, at)
        if not _is_signed(key, message, signature):
            raise self._refuse(Reason.BAD_SIGNATURE, key.id, "did not make this signature over this content")

    def _require_validity(self, key: RegistryKey, at: datetime | None) -> None:
        stated = at if key.time_basis is not TimeBasis.NOW else None
        moment = stated or self.reference_time
        if key.valid_from is not None and moment < key.valid_from:
            problem = f"is valid from {format_time(key.valid_from)} on"
        elif key.valid_until is not None and moment >= key.valid_until:
            problem = f"was retired at {format_time(key.valid_until)}"
        elif key.valid_until is None and key.status is KeyStatus.RETIRED:
            problem = "was retired, nobody says when"
        else:
            return
        if stated:
            when = f"this was signed at {format_time(stated)}"
        elif key.time_basis is TimeBasis.NOW:
            when = f"it is {format_time(moment)} now"
        else:
            when = f"the time of this signature is unknown (it is {format_time(moment)} now)"
        raise self._refuse(Reason.OUTSIDE_VALIDITY, key.id, f"{problem}, and {when}", expected=_window(key), found=when)

    def _refuse(
        self, reason: Reason, keyid: str, problem: str, *, expected: str | None = None, found: str | None = None
    ) -> VerificationError:
        refusal = Refusal(reason=reason, file=self.target, expected=expected, found=found or keyid)
        return VerificationError(f"{self.registry}: key {_visible(keyid)} {problem}", refusal=refusal)


def parser_errors() -> tuple[type[BaseException], ...]:
    """What parsers of foreign bytes end in where the bytes are broken: Python's own errors, and cryptography's.

    For ``except parser_errors()`` around one foreign parser; what is raised there is a refusal of what was read. A
    panic in Rust is no ``Exception`` and each library has its own, so the one that is being handled is looked at.
    """
    from cryptography import x509
    from cryptography.exceptions import InternalError, UnsupportedAlgorithm

    own = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError, NotImplementedError)
    certificates = (
        x509.AttributeNotFound,
        x509.DuplicateExtension,
        x509.ExtensionNotFound,
        x509.InvalidVersion,
        x509.UnsupportedGeneralNameType,
        x509.verification.VerificationError,
    )
    handled = sys.exc_info()[0]
    panics = (handled,) if handled is not None and handled.__module__ == "pyo3_runtime" else ()
    return (*own, *certificates, UnsupportedAlgorithm, InternalError, *panics)


@lru_cache(maxsize=256)
def load_public_key(material: bytes, algorithm: str) -> PublicKeyTypes:
    """Read an SPKI DER public key and check that it is one of ``algorithm``, which must be one of ``ALGORITHMS``.

    Raises:
        ValueError: the bytes are no public key of that kind; the text says what was expected.
        StoreError: this machine's cryptography cannot read keys of this kind.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    scheme = ALGORITHMS[algorithm]
    try:
        key = load_der_public_key(material)
    except UnsupportedAlgorithm as error:
        raise _cannot_check(algorithm) from error
    except parser_errors() as error:
        raise ValueError(f"must be {scheme.expected}") from error
    if not scheme.fits(key):
        raise ValueError(f"must be {scheme.expected}, as its algorithm {algorithm} says")
    return key


def ssh_fingerprint(public: PublicKeyTypes) -> str:
    """The fingerprint of a key that ``ssh-keygen -l`` prints: SHA-256 over the key as OpenSSH writes it."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    wire = base64.b64decode(public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).split()[1])
    return "SHA256:" + base64.b64encode(hashlib.sha256(wire).digest()).decode("ascii").rstrip("=")


def _is_signed(key: RegistryKey, message: bytes, signature: bytes) -> bool:
    if key.format is not KeyFormat.SPKI_DER or key.algorithm not in ALGORITHMS:
        raise StoreError(
            f"{key.registry}: key {_visible(key.id)} is a {_visible(key.algorithm)} key, which this kedge cannot check",
            hint="a newer kedge may read it; nothing is said about the signature",
        )
    try:
        verify = _verifier(key.material, key.algorithm)
    except ValueError as error:
        refusal = Refusal(reason=Reason.MALFORMED, found=key.fingerprint)
        text = f"{key.registry}: the bytes of key {_visible(key.id)} {error}"
        raise VerificationError(text, refusal=refusal) from error
    return verify(signature, message)


@lru_cache(maxsize=256)
def _verifier(material: bytes, algorithm: str) -> Callable[[bytes, bytes], bool]:
    """Make what tells of a signature and a message whether this key made the one over the other.

    It is made once for each key: a lockfile holds thousands of signatures by two.
    """
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

    check = ALGORITHMS[algorithm].checker(load_public_key(material, algorithm))

    def is_right(signature: bytes, message: bytes) -> bool:
        try:
            check(signature, message)
        except InvalidSignature:
            return False
        except UnsupportedAlgorithm as error:
            raise _cannot_check(algorithm) from error
        return True

    return is_right


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scheme:
    """One way of signing: which keys fit it, and what makes of such a key a check of a signature and a message.

    The check raises cryptography's ``InvalidSignature``.
    """

    expected: str
    fits: Callable[[PublicKeyTypes], bool]
    checker: Callable[[PublicKeyTypes], Callable[[bytes, bytes], None]]


def _fits_p256(key: PublicKeyTypes) -> bool:
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey

    return isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1)


def _check_p256(key: PublicKeyTypes) -> Callable[[bytes, bytes], None]:
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.hashes import SHA256

    if not isinstance(key, EllipticCurvePublicKey):
        raise TypeError("load_public_key gave another kind of key")
    return partial(key.verify, signature_algorithm=ECDSA(SHA256()))


def _fits_ed25519(key: PublicKeyTypes) -> bool:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    return isinstance(key, Ed25519PublicKey)


def _check_ed25519(key: PublicKeyTypes) -> Callable[[bytes, bytes], None]:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    if not isinstance(key, Ed25519PublicKey):
        raise TypeError("load_public_key gave another kind of key")
    return key.verify


def _fits_rsa(key: PublicKeyTypes) -> bool:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    return isinstance(key, RSAPublicKey) and key.key_size >= MIN_RSA_BITS


def _check_rsa_sha512(key: PublicKeyTypes) -> Callable[[bytes, bytes], None]:
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.hashes import SHA512

    if not isinstance(key, RSAPublicKey):
        raise TypeError("load_public_key gave another kind of key")
    padding, digest = PKCS1v15(), SHA512()
    return lambda signature, message: key.verify(signature, message, padding, digest)


ALGORITHMS = {
    "PKIX_ECDSA_P256_SHA_256": _Scheme(
        expected="an ECDSA P-256 public key (SubjectPublicKeyInfo, DER)", fits=_fits_p256, checker=_check_p256
    ),
    "PKIX_ED25519": _Scheme(
        expected="an Ed25519 public key (SubjectPublicKeyInfo, DER)", fits=_fits_ed25519, checker=_check_ed25519
    ),
    # Named as Sigstore would: its list has RSA over SHA-256 only, and Hex signs over SHA-512.
    "PKIX_RSA_PKCS1V15_SHA512": _Scheme(
        expected=f"an RSA public key of at least {MIN_RSA_BITS} bits (SubjectPublicKeyInfo, DER)",
        fits=_fits_rsa,
        checker=_check_rsa_sha512,
    ),
}


def _cannot_check(algorithm: str) -> StoreError:
    text = f"the Python package cryptography on this machine cannot check {algorithm} keys"
    return StoreError(text, hint="upgrade cryptography; nothing is said about the signature")


def _window(key: RegistryKey) -> str:
    start = format_time(key.valid_from) if key.valid_from else "any time"
    return f"{start} to {format_time(key.valid_until)}" if key.valid_until else f"{start} on"


def _visible(text: str) -> str:
    """Show a text that somebody else chose on one line, whatever it holds."""
    return text if re.fullmatch(rf"[!-~]{{1,{MAX_SHOWN}}}", text) else json.dumps(text[:MAX_SHOWN])

"""What a signature is over, and whether a public key made it.

A file may be known by its SHA-256 alone (``sha256:…``): then what only its bytes can show is refused.

Keys: ECDSA on P-256, P-384 and P-521, RSA of 2048 bits or more (PKCS #1 v1.5 with SHA-256), Ed25519. On P-384 and P-521
the signature may be over the hash of the curve's size, or over SHA-256, which cosign takes for every key.

Sources: Sigstore protobuf-specs ``PublicKeyDetails``; sigstore-go ``pkg/verify/signature.go``.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kedge.documents import DocumentError
from kedge.errors import Reason
from kedge.registries import parser_errors
from kedge.registries.sigstore.bundle import Bundle, Envelope, Part, parsing, refuse

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

_HASHES = ("sha256", "sha384", "sha512")
_KEYS = "an ECDSA key (P-256, P-384, P-521), an RSA key of 2048 bits or more, or an Ed25519 key"


@dataclass(frozen=True, slots=True, kw_only=True)
class Digest:
    """A digest and the name of its algorithm, as hashlib has it."""

    algorithm: str
    value: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What was signed: its bytes, or None and its SHA-256."""

    data: bytes | None = field(repr=False)
    sha256: bytes

    @classmethod
    def of_bytes(cls, data: bytes) -> Content:
        """What these bytes are."""
        return cls(data=data, sha256=hashlib.sha256(data).digest())

    @classmethod
    def of_sha256(cls, digest: bytes) -> Content:
        """What has this SHA-256, and is not here."""
        return cls(data=None, sha256=digest)

    def can_digest(self, algorithm: str) -> bool:
        """Whether :meth:`digest` can be had."""
        return algorithm == "sha256" or (self.data is not None and algorithm in _HASHES)

    def digest(self, algorithm: str) -> Digest:
        """The digest by ``algorithm``.

        Raises:
            VerificationError: the file is known by another digest only.
        """
        if algorithm == "sha256":
            return Digest(algorithm=algorithm, value=self.sha256)
        if self.data is None:
            problem = f"is {algorithm}, and the file is known by its sha256 only: give the file"
            raise refuse(Part.DIGEST, problem, reason=Reason.CONTENT)
        return Digest(algorithm=algorithm, value=hashlib.new(algorithm, self.data).digest())


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagedKey:
    """A public key (SPKI, DER) that the user trusts for a bundle, in place of a certificate."""

    material: bytes

    @classmethod
    def from_bytes(cls, data: bytes) -> ManagedKey:
        """Read a public key: PEM (``-----BEGIN PUBLIC KEY-----``), or DER.

        Raises:
            DocumentError: it is none, or of a kind that is not accepted.
        """
        from cryptography.hazmat.primitives.serialization import (
            Encoding,
            PublicFormat,
            load_der_public_key,
            load_pem_public_key,
        )

        try:
            key = load_pem_public_key(data) if data.lstrip().startswith(b"-----BEGIN") else load_der_public_key(data)
            material = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        except parser_errors() as error:
            raise DocumentError("", "must be a public key (PEM or DER)") from error
        if not _checks(key):
            raise DocumentError("", f"must be {_KEYS}")
        return cls(material=material)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the key, as hexadecimal digits."""
        return hashlib.sha256(self.material).hexdigest()

    def require(self, bundle: Bundle, content: Content) -> bytes:
        """Check that this key signed ``content`` in ``bundle``, and give the key (DER).

        Raises:
            VerificationError: a certificate names the signer, or another key signed.
        """
        from cryptography.hazmat.primitives.serialization import load_der_public_key

        if bundle.certificate is not None:
            problem = "a certificate names the signer, and a key was expected: name an identity and its issuer"
            raise refuse(Part.SIGNER, problem, reason=Reason.UNKNOWN_KEY)
        if isinstance(bundle.content, Envelope) and bundle.content.keyid not in ("", bundle.hint):
            problem = f"the bundle names the key {(bundle.hint or '')[:100]!a}, and its signature another"
            raise refuse(Part.SIGNER, problem, reason=Reason.MALFORMED, found=bundle.content.keyid)
        with parsing(Part.SIGNER):
            require_signature(load_der_public_key(self.material), bundle.content.signature, content, Part.SIGNER)
        return self.material


def require_signature(key: PublicKeyTypes, signature: bytes, content: Content, holder: Part) -> None:
    """Check that ``key``, which ``holder`` holds, made ``signature`` over ``content``.

    Raises:
        VerificationError: it did not (``bad-signature``), or it is of a kind that is not accepted (``malformed``).
    """
    from cryptography.exceptions import InvalidSignature

    checks = _checks(key)
    if not checks:
        raise refuse(holder, f"its key must be {_KEYS}", reason=Reason.MALFORMED, found=type(key).__name__)
    for algorithm, scheme in checks:
        try:
            _check(key, signature, content, algorithm, scheme)
        except InvalidSignature:
            continue
        return
    raise refuse(Part.SIGNATURE, f"was not made over this content by the key of the {holder.value}")


def _checks(key: PublicKeyTypes) -> tuple[tuple[str, Any], ...]:
    """The ways in which a key may sign: the hash, and the padding of RSA; none for a key that is not accepted."""
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    if isinstance(key, EllipticCurvePublicKey):
        curves = {"secp256r1": ("sha256",), "secp384r1": ("sha384", "sha256"), "secp521r1": ("sha512", "sha256")}
        return tuple((algorithm, None) for algorithm in curves.get(key.curve.name, ()))
    if isinstance(key, RSAPublicKey):
        return (("sha256", PKCS1v15()),) if key.key_size >= 2048 else ()
    return (("", None),) if isinstance(key, Ed25519PublicKey) else ()


def _check(key: Any, signature: bytes, content: Content, algorithm: str, padding: Any) -> None:
    """Let cryptography check; it raises ``InvalidSignature``."""
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
    from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
    from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512

    if not algorithm:
        if content.data is None:
            problem = "is by an Ed25519 key, which signs the file itself and no digest: give the file"
            raise refuse(Part.SIGNATURE, problem, reason=Reason.CONTENT)
        key.verify(signature, content.data)
        return
    hashes: dict[str, Any] = {"sha256": SHA256, "sha384": SHA384, "sha512": SHA512}
    hashed, value = Prehashed(hashes[algorithm]()), content.digest(algorithm).value
    if padding is None:
        key.verify(signature, value, ECDSA(hashed))
    else:
        key.verify(signature, value, padding, hashed)

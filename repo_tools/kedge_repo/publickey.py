"""Public keys of keyholders: PEM on disk, TUF key objects in metadata, fingerprints for people.

A keyholder's public key is a PEM file (SubjectPublicKeyInfo), Ed25519 or ECDSA P-256. In metadata it becomes a TUF key
object whose keyid is the default one (SHA-256 of the canonical key object), and which holds nothing beside the key:
owners and locations stand in the policy, so that mending them never changes a keyid.

People compare fingerprints, not keyids: the hexadecimal SHA-256 of the DER-encoded SubjectPublicKeyInfo, which
``openssl pkey -pubin -in alice.pub -outform DER | sha256sum`` prints as well.
"""

from __future__ import annotations

import hashlib

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from securesystemslib.signer import Key, SSlibKey

from kedge.document import DocumentError

__all__ = ["algorithm", "fingerprint", "parse_public_key", "to_pem"]

_EXPECTED = "a public key in PEM, Ed25519 or ECDSA P-256"


def parse_public_key(data: bytes) -> SSlibKey:
    """Read a PEM public key (Ed25519 or ECDSA P-256) as a TUF key object with the default keyid.

    Raises:
        DocumentError: the bytes are something else.
    """
    if b"PRIVATE KEY" in data:
        raise DocumentError("", f"holds a private key, expected {_EXPECTED}")
    try:
        key = load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise DocumentError("", f"must be {_EXPECTED}") from error
    if not isinstance(key, Ed25519PublicKey) and not (
        isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1)
    ):
        raise DocumentError("", f"must be {_EXPECTED}, not another kind of key")
    return SSlibKey.from_crypto(key)


def to_pem(key: Key) -> bytes:
    """Write a TUF key object as a PEM public key.

    Raises:
        DocumentError: the key is of a kind that has no PEM form.
    """
    public = key.keyval.get("public", "")
    try:
        if key.keytype == "ed25519":
            loaded = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public))
            return loaded.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        return load_pem_public_key(public.encode()).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise DocumentError("", f"the key {key.keyid} is not {_EXPECTED}") from error


def fingerprint(key: Key) -> str:
    """The hexadecimal SHA-256 of the key's DER-encoded SubjectPublicKeyInfo.

    A key of a kind that has no such form (another tool's metadata may list one) is named by its keyid instead.
    """
    try:
        loaded = load_pem_public_key(to_pem(key))
    except DocumentError:
        return f"keyid:{key.keyid}"
    return hashlib.sha256(loaded.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def algorithm(key: Key) -> str:
    """The key's algorithm as people call it."""
    return {"ed25519": "Ed25519", "ecdsa-sha2-nistp256": "ECDSA P-256"}.get(key.scheme, f"{key.keytype}/{key.scheme}")

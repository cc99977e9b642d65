"""Public keys of keyholders: files on disk, TUF key objects in metadata, fingerprints for people.

A keyholder's public key is Ed25519, ECDSA P-256 or ML-DSA (44 or 65), in PEM (SubjectPublicKeyInfo) or, for the first
two, as OpenSSH writes it (``ssh-ed25519 AAAA… comment``). In metadata it becomes a TUF key object whose keyid is the
default one (SHA-256 of the canonical key object), and which holds nothing beside the key: owners and locations stand in
the policy, so that mending them never changes a keyid.

People compare fingerprints, not keyids: the hexadecimal SHA-256 of the DER-encoded SubjectPublicKeyInfo, which
``openssl pkey -pubin -in alice.pub -outform DER | sha256sum`` prints as well, or the form of ``ssh-keygen -l``.
"""

from __future__ import annotations

import hashlib

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey, MLDSA65PublicKey
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
    load_ssh_public_key,
)
from securesystemslib.signer import Key, SSlibKey

from kedge.documents import DocumentError
from kedge.registries import parser_errors, ssh_fingerprint

KINDS = "Ed25519, ECDSA P-256, ML-DSA-44 or ML-DSA-65"
_EXPECTED = f"a public key in PEM or as OpenSSH writes it, {KINDS}"
_SSH_KINDS = (b"ssh-ed25519 ", b"ecdsa-sha2-nistp256 ", b"ssh-rsa ", b"ecdsa-sha2-", b"sk-")


def parse_public_key(data: bytes) -> SSlibKey:
    """Read a public key file as a TUF key object with the default keyid.

    Raises:
        DocumentError: the bytes are something else.
    """
    if b"PRIVATE KEY" in data:
        raise DocumentError("", f"holds a private key, expected {_EXPECTED}")
    try:
        key = load_ssh_public_key(data) if data.startswith(_SSH_KINDS) else load_pem_public_key(data)
    except parser_errors() as error:
        raise DocumentError("", f"must be {_EXPECTED}") from error
    return from_crypto(key)


def from_crypto(key: object) -> SSlibKey:
    """Give the TUF key object, with the default keyid, of a key that the library cryptography holds.

    Raises:
        DocumentError: it is another kind of key.
    """
    fits = isinstance(key, Ed25519PublicKey | MLDSA44PublicKey | MLDSA65PublicKey)
    if not fits and not (isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1)):
        raise DocumentError("", f"must be {_EXPECTED}, not another kind of key")
    return SSlibKey.from_crypto(key)  # type: ignore[arg-type] # narrowed by the checks above, which mypy cannot join


def to_pem(key: Key) -> bytes:
    """Write a TUF key object as a PEM public key.

    Raises:
        DocumentError: the key is of a kind that has no PEM form.
    """
    return _load(key).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def fingerprint(key: Key) -> str:
    """The hexadecimal SHA-256 of the key's DER-encoded SubjectPublicKeyInfo.

    A key of a kind that has no such form (another tool's metadata may list one) is named by its keyid instead.
    """
    try:
        loaded = _load(key)
    except DocumentError:
        return f"keyid:{key.keyid}"
    return hashlib.sha256(loaded.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def ssh_fingerprint_of(key: Key) -> str | None:
    """The fingerprint as ``ssh-keygen -l`` prints it (``SHA256:…``), or None for a kind that OpenSSH does not know."""
    try:
        loaded = _load(key)
    except DocumentError:
        return None
    if not isinstance(loaded, Ed25519PublicKey | EllipticCurvePublicKey):
        return None
    return ssh_fingerprint(loaded)


def algorithm(key: Key) -> str:
    """The key's algorithm as people call it."""
    names = {
        "ed25519": "Ed25519",
        "ecdsa-sha2-nistp256": "ECDSA P-256",
        "ml-dsa-44/1": "ML-DSA-44",
        "ml-dsa-65/1": "ML-DSA-65",
    }
    return names.get(key.scheme, f"{key.keytype}/{key.scheme}")


def _load(key: Key) -> PublicKeyTypes:
    public = key.keyval.get("public", "")
    if not isinstance(public, str):  # OpenPGP keys, which other tools' metadata may list
        raise DocumentError("", f"the key {key.keyid} is not {_EXPECTED}")
    try:
        if key.keytype == "ed25519":
            return Ed25519PublicKey.from_public_bytes(bytes.fromhex(public))
        return load_pem_public_key(public.encode())
    except parser_errors() as error:
        raise DocumentError("", f"the key {key.keyid} is not {_EXPECTED}") from error

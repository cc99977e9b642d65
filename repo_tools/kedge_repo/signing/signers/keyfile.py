"""``file:PATH``: private keys in files, encrypted; and making new ones.

PKCS#8 in PEM (Ed25519, ECDSA P-256, ML-DSA-44, ML-DSA-65) and OpenSSH's own format (the first two); ``~`` is the user's
home. Private keys stay where they are: they are read, used, and never copied into a workspace, a request, a log or a
message.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from enum import Enum
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey, MLDSA65PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_ssh_private_key,
)
from securesystemslib.signer import CryptoSigner, Signer

from kedge.errors import InputError
from kedge.registries import parser_errors
from kedge_repo.signing.signers.secret import Passphrase
from kedge_repo.workspace import KINDS, create_file, load_extra, read_file, remove_file

PrivateKey = Ed25519PrivateKey | EllipticCurvePrivateKey | MLDSA44PrivateKey | MLDSA65PrivateKey

_OPENSSH = b"-----BEGIN OPENSSH PRIVATE KEY-----"
_OPENSSH_MAGIC = b"openssh-key-v1\0"


class Algorithm(Enum):
    """The kinds of key that are made here."""

    ED25519 = "ed25519"
    ECDSA_P256 = "ecdsa-p256"
    ML_DSA_44 = "ml-dsa-44"
    ML_DSA_65 = "ml-dsa-65"


class KeyProtection(Enum):
    """Whether a private key file must be encrypted. The second is for online keys on machines that guard their disk."""

    ENCRYPTED = "encrypted"
    UNENCRYPTED_KEY_FILE_ALLOWED = "unencrypted-key-file-allowed"


def open_file(path: Path, passphrase: Passphrase, protection: KeyProtection) -> Signer:
    """Open the private key in the file ``path``.

    Raises:
        InputError: there is no such key, it cannot be opened, or it is not encrypted and must be.
    """
    data = read_file(path, what="key file", max_bytes=100_000)
    private = _load(path, data, passphrase, protection)
    if isinstance(private, EllipticCurvePrivateKey) and not isinstance(private.curve, SECP256R1):
        private = None
    if not isinstance(private, PrivateKey):
        raise InputError(f"{path}: must be a key of the kind {KINDS}, not another one")
    return CryptoSigner(private)


def new_key(
    path: Path,
    algorithm: Algorithm,
    passphrase: bytes | None,
    *,
    protection: KeyProtection = KeyProtection.ENCRYPTED,
) -> Path:
    """Make a key: the private half at ``path`` (mode 0600), the public one at ``<path>.pub``, whose path is returned.

    Raises:
        InputError: one of the files is there already, or no passphrase was given for a key that must be encrypted.
        StoreError: the disk refused.
    """
    if not passphrase and protection is KeyProtection.ENCRYPTED:
        raise InputError(f"{path}: the passphrase is empty, expected one that protects the key file")
    public_path = path.with_name(f"{path.name}.pub")
    private = _GENERATE[algorithm]()
    encryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    _create(path, private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption), 0o600)
    try:
        _create(public_path, public, 0o644)
    except BaseException:
        remove_file(path)  # half of a pair is no key
        raise
    return public_path


_GENERATE: dict[Algorithm, Callable[[], PrivateKey]] = {
    Algorithm.ED25519: Ed25519PrivateKey.generate,
    Algorithm.ECDSA_P256: lambda: generate_private_key(SECP256R1()),
    Algorithm.ML_DSA_44: MLDSA44PrivateKey.generate,
    Algorithm.ML_DSA_65: MLDSA65PrivateKey.generate,
}


def _create(path: Path, data: bytes, mode: int) -> None:
    try:
        create_file(path, data, mode=mode)
    except FileExistsError as error:
        raise InputError(f"{path}: is there already, and key files are never overwritten") from error


def _load(path: Path, data: bytes, passphrase: Passphrase, protection: KeyProtection) -> object:
    if b"-----BEGIN ENCRYPTED PRIVATE KEY-----" in data:
        return _decrypt(path, data, passphrase(str(path)), load_pem_private_key)
    if _OPENSSH in data and _is_encrypted_openssh(data):
        load_extra("bcrypt", extra="ssh", what=f"{path}: an encrypted OpenSSH key file")
        return _decrypt(path, data, passphrase(str(path)), load_ssh_private_key)
    if not any(mark in data for mark in (b"-----BEGIN PRIVATE KEY-----", b"-----BEGIN EC PRIVATE KEY-----", _OPENSSH)):
        raise InputError(f"{path}: is not a private key in PEM (PKCS#8) or OpenSSH's format")
    if protection is KeyProtection.ENCRYPTED:
        how = "ssh-keygen -p -f" if _OPENSSH in data else "openssl pkcs8 -topk8 -in"
        raise InputError(
            f"{path}: the private key is not encrypted",
            hint=f"encrypt it with {how} {path.name}, or allow it with --allow-unencrypted-key-file",
        )
    return _decrypt(path, data, None, load_ssh_private_key if _OPENSSH in data else load_pem_private_key)


def _is_encrypted_openssh(data: bytes) -> bool:
    """Whether an OpenSSH key file is encrypted: the first text after the magic names the cipher."""
    body = data.partition(_OPENSSH)[2].partition(b"-----END")[0]
    try:
        raw = base64.b64decode(b"".join(body.split()))
    except binascii.Error:
        return False
    head = len(_OPENSSH_MAGIC) + 4
    return raw.startswith(_OPENSSH_MAGIC) and raw[head : head + 4] != b"none"


def _decrypt(path: Path, data: bytes, passphrase: bytes | None, load: Callable[..., object]) -> object:
    try:
        return load(data, passphrase)
    except parser_errors() as error:
        problem = "cannot be read as a private key" if passphrase is None else "the passphrase is wrong"
        raise InputError(f"{path}: {problem}") from error

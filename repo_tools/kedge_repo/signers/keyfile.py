"""From a key's location (a URI) to something that signs; and making new key files.

``file:PATH`` is a PEM file in PKCS#8, encrypted, Ed25519 or ECDSA P-256; ``~`` is the user's home.

Private keys stay where they are: they are read, used, and never copied into a workspace, a request, a log or a message.
Passphrases come from a prompt or a file descriptor, never from the command line or the environment, where other
processes can read them.
"""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from securesystemslib.signer import CryptoSigner, Key, Signer

from kedge.errors import InputError
from kedge_repo import disk
from kedge_repo.publickey import fingerprint
from kedge_repo.workspace import Workspace

__all__ = [
    "Algorithm",
    "KeyProtection",
    "Passphrase",
    "ask_passphrase",
    "asked_twice",
    "new_key",
    "open_keyholders",
    "open_signer",
    "passphrase_from",
]

Passphrase = Callable[[str], bytes]
"""Asked with what the passphrase is for (``/home/alice/alice.pem``); gives the passphrase."""

_MAX_PASSPHRASE_BYTES = 1024


class Algorithm(Enum):
    """The kinds of key that are made here."""

    ED25519 = "ed25519"
    ECDSA_P256 = "ecdsa-p256"


class KeyProtection(Enum):
    """Whether a private key file must be encrypted. The second is for online keys on machines that guard their disk."""

    ENCRYPTED = "encrypted"
    UNENCRYPTED_KEY_FILE_ALLOWED = "unencrypted-key-file-allowed"


def open_signer(
    location: str,
    passphrase: Passphrase,
    *,
    public: Key | None = None,
    protection: KeyProtection = KeyProtection.ENCRYPTED,
    folder: Path | None = None,
) -> Signer:
    """Open the private key at ``location``; with ``public``, it must be the private half of that key.

    A relative path is taken from ``folder`` (default: the working folder).

    Raises:
        InputError: there is no such key, it cannot be opened, or it is another key than ``public``.
    """
    scheme, separator, rest = location.partition(":")
    if not separator or scheme != "file":
        raise InputError(f'{location}: is not a key location that this kedge-repo opens, expected "file:PATH"')
    path = (folder or Path()) / Path(rest).expanduser()
    private = _load(path, passphrase, protection)
    signer = CryptoSigner(private)
    if public is not None and fingerprint(signer.public_key) != fingerprint(public):
        raise InputError(
            f"{path}: is another key than expected: its fingerprint is {fingerprint(signer.public_key)}, "
            f"expected {fingerprint(public)}"
        )
    return signer


def open_keyholders(
    workspace: Workspace,
    names: Sequence[str],
    passphrase: Passphrase,
    *,
    protection: KeyProtection = KeyProtection.ENCRYPTED,
) -> tuple[Signer, ...]:
    """Open the keys of keyholders at the locations that the policy names.

    Raises:
        InputError: the policy has no such keyholder, or no location for one, or a key there cannot be opened.
    """
    policy = workspace.policy()
    public = workspace.keys(policy)
    signers: list[Signer] = []
    for name in names:
        if name not in policy.keyholders:
            raise InputError(f'kedge-repo.toml: keyholders: there is no keyholder "{name}"')
        location = policy.keyholders[name].location
        if location is None:
            raise InputError(
                f"kedge-repo.toml: keyholders.{name}.location: is missing", hint="name the key with --key URI"
            )
        signers.append(
            open_signer(location, passphrase, public=public[name], protection=protection, folder=workspace.root)
        )
    return tuple(signers)


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
    private = Ed25519PrivateKey.generate() if algorithm is Algorithm.ED25519 else generate_private_key(SECP256R1())
    encryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    _create(path, private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption), 0o600)
    try:
        _create(public_path, public, 0o644)
    except BaseException:
        disk.remove(path)  # half of a pair is no key
        raise
    return public_path


def ask_passphrase(what: str) -> bytes:
    """Ask on the terminal.

    Raises:
        InputError: there is no terminal to ask on.
    """
    if not os.isatty(0):
        raise InputError(f"{what}: needs a passphrase and there is no terminal", hint="use --passphrase-fd")
    return getpass.getpass(f"passphrase of {what}: ").encode("utf-8")


def asked_twice(ask: Passphrase) -> Passphrase:
    """Ask twice and compare: for a passphrase that nothing can check yet.

    Raises (when a passphrase is needed):
        InputError: the two differ.
    """

    def compared(what: str) -> bytes:
        first = ask(what)
        if ask(f"{what}, again") != first:
            raise InputError(f"{what}: the two passphrases differ")
        return first

    return compared


def passphrase_from(descriptor: int) -> Passphrase:
    """Read passphrases from a file descriptor, one line each, in the order in which they are needed.

    Raises (when a passphrase is needed):
        InputError: the descriptor cannot be read, or holds no further line.
    """

    def read_line(what: str) -> bytes:
        line = bytearray()
        try:
            while (byte := os.read(descriptor, 1)) not in {b"", b"\n"}:
                line += byte
                if len(line) > _MAX_PASSPHRASE_BYTES:
                    raise InputError(f"file descriptor {descriptor}: holds a line of more than 1024 bytes")
        except OSError as error:
            raise InputError(
                f"file descriptor {descriptor}: cannot be read: {(error.strerror or '').lower()}"
            ) from error
        if not line:
            raise InputError(f"file descriptor {descriptor}: holds no passphrase for {what}")
        return bytes(line)

    return read_line


def _create(path: Path, data: bytes, mode: int) -> None:
    try:
        disk.create(path, data, mode=mode)
    except FileExistsError as error:
        raise InputError(f"{path}: is there already, and key files are never overwritten") from error


def _load(path: Path, passphrase: Passphrase, protection: KeyProtection) -> Ed25519PrivateKey | EllipticCurvePrivateKey:
    data = disk.read(path, what="key file", max_bytes=100_000)
    if b"-----BEGIN ENCRYPTED PRIVATE KEY-----" in data:
        private = _decrypt(path, data, passphrase(str(path)))
    elif b"-----BEGIN PRIVATE KEY-----" in data or b"-----BEGIN EC PRIVATE KEY-----" in data:
        if protection is KeyProtection.ENCRYPTED:
            raise InputError(
                f"{path}: the private key is not encrypted",
                hint="encrypt it with openssl pkcs8 -topk8, or allow it with --allow-unencrypted-key-file",
            )
        private = _decrypt(path, data, None)
    else:
        raise InputError(f"{path}: is not a private key in PEM (PKCS#8)")
    if isinstance(private, Ed25519PrivateKey):
        return private
    if isinstance(private, EllipticCurvePrivateKey) and isinstance(private.curve, SECP256R1):
        return private
    raise InputError(f"{path}: must be an Ed25519 or ECDSA P-256 key, not another kind")


def _decrypt(path: Path, data: bytes, passphrase: bytes | None) -> object:
    try:
        return load_pem_private_key(data, passphrase)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        problem = "cannot be read as a private key" if passphrase is None else "the passphrase is wrong"
        raise InputError(f"{path}: {problem}") from error

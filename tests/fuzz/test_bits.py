"""One changed bit in what a library parses for us: read or refused in kedge's own words, and nothing else.

2,000 changes or more in every run of the tests; ``make bits`` makes 100,000. A change is of one bit of what a base64
text holds, so that it reaches the parser behind it, or of one bit of the file.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import random
import zipfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as generate_ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from kedge.documents import DocumentError
from kedge.errors import InputError, KedgeError
from kedge.registries.npm.attestations import Attesting, judge_attestations
from kedge.registries.npm.locked import Digest
from kedge.registries.npm.registry import NPM
from kedge.registries.nuget.cms import CmsError
from kedge.registries.nuget.signature import read_signature
from kedge.registries.pgp.packets import dearmor
from kedge.registries.pypi.attestation import verify_provenance
from kedge.registries.sigstore import BundleVerifier, Content, ManagedKey, Sigstore
from kedge.registries.sigstore.bundle import MessageSignature, read_bundles
from kedge.tuf.metadata import parse
from kedge_repo.signing.signers.keyfile import KeyProtection, _load
from kedge_repo.workspace.public_key import parse_public_key
from support.attested import RealAttestations

Read = Callable[[bytes], object]
Require = Callable[[object, str], None]

CHANGES = int(os.environ.get("KEDGE_BITS", "2400"))
SHARED = Path(__file__).resolve().parents[3] / "shared"
NOW = datetime(2026, 8, 22, tzinfo=UTC)
SDIST = "pypi_attestations-0.0.19.tar.gz"
SHA256 = "9bb1add04b1b4e182be6b0b80931593f7a291eb49d69b4fd728a5d4cbcdc4bd3"
MIN_BASE64 = 16


def test_one_changed_bit_is_read_or_refused_in_our_own_words(
    require: Require, shared_vectors: Path, tmp_path: Path
) -> None:
    require(find_spec("rfc3161_client"), "rfc3161-client is not installed: run make signers")
    require(find_spec("asn1crypto"), "asn1crypto is not installed: run make signers")
    targets = {**json_targets(shared_vectors), **binary_targets(shared_vectors, tmp_path)}
    chosen, escaped = random.Random(25), []
    for name, (document, read) in targets.items():
        for changed in changes(document, chosen, CHANGES // len(targets)):
            try:
                read(changed)
            except (KedgeError, DocumentError, CmsError) as error:
                if "\n" in f"{error}":
                    escaped.append((name, f"the message is not one line: {error}"[:200]))
            except BaseException as error:  # what must not get out, a panic in Rust too
                if isinstance(error, KeyboardInterrupt | SystemExit):
                    raise
                escaped.append((name, f"{type(error).__name__}: {error}"[:200]))
    assert escaped == []


def json_targets(vectors: Path) -> dict[str, tuple[bytes, Read]]:
    facts = RealAttestations(vectors)
    keys = Sigstore().parse(facts.trusted_root, registry="sigstore", custom=None, now=NOW)
    npm = NPM().parse(facts.npm_keys, registry="registry.npmjs.org", custom=None, now=NOW)
    verifier, digest = BundleVerifier(keys), Digest("sha512", b"\0" * 64)

    def read_npm(data: bytes) -> None:
        found = judge_attestations("sigstore", "1.0.0", digest, data, [npm], verifier, None)
        assert found.status is Attesting.REFUSED  # the digest is another one, whatever was changed

    targets: dict[str, tuple[bytes, Read]] = {
        "npm": (facts.served(), read_npm),
        "pypi": (
            facts.pypi_provenance,
            lambda data: verify_provenance(data, filename=SDIST, sha256=SHA256, verifier=verifier),
        ),
        "npm keys": (
            facts.npm_keys,
            lambda data: NPM().parse(data, registry="registry.npmjs.org", custom=None, now=NOW),
        ),
    }
    suite = SHARED / "sigstore-conformance.zip"
    if suite.is_file():
        with zipfile.ZipFile(suite) as archive:
            folder = "bundle-verify/rekor2-timestamp-with-embedded-cert"
            root, bundle = archive.read(f"{folder}/trusted_root.json"), archive.read(f"{folder}/bundle.sigstore.json")
            content = Content.of_bytes(archive.read("bundle-verify/a.txt"))

        def verify(root: bytes, bundle: bytes) -> None:
            judge = BundleVerifier(Sigstore().parse(root, registry="sigstore", custom=None, now=NOW))
            judge.verify_file(read_bundles(bundle)[0], content)

        targets["timestamped bundle"] = (bundle, lambda data: verify(root, data))
        targets["trusted root"] = (root, lambda data: verify(data, bundle))
    return targets


def binary_targets(vectors: Path, folder: Path) -> dict[str, tuple[bytes, Read]]:
    ec, ed = generate_ec(SECP256R1()), Ed25519PrivateKey.generate()
    pem = ec.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    ssh = ed.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    pkcs8 = ec.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    openssh = ed.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())

    def no_passphrase(path: str) -> bytes:
        raise InputError(f"{path}: no passphrase is given")

    def load(data: bytes) -> object:
        return _load(folder / "key", data, no_passphrase, KeyProtection.UNENCRYPTED_KEY_FILE_ALLOWED)

    from tuf.api.metadata import Root

    return {
        "managed key": (pem, ManagedKey.from_bytes),
        "public key": (pem, parse_public_key),
        "OpenSSH public key": (ssh, parse_public_key),
        "private key": (pkcs8, load),
        "OpenSSH private key": (openssh, load),
        "NuGet signature": ((vectors / "nuget" / "signature.p7s").read_bytes(), read_signature),
        "OpenPGP": ((vectors / "apt" / "debian-archive-bookworm-automatic.asc").read_bytes(), dearmor),
        "TUF root": (
            (vectors / "sigstore" / "metadata" / "16.root.json").read_bytes(),
            lambda data: parse(data, Root, file="16.root.json"),
        ),
    }


def changes(document: bytes, chosen: random.Random, count: int) -> Iterator[bytes]:
    """``document`` with one bit changed, ``count`` times: in a base64 text of JSON, in PEM's body, or anywhere."""
    texts = list(_texts(document))
    weights = [len(raw) for _, raw in texts]
    for _ in range(count):
        if not texts:
            yield _flip(document, chosen)
            continue
        text, raw = chosen.choices(texts, weights)[0]
        yield document.replace(text, base64.b64encode(_flip(raw, chosen)), 1)


def _texts(document: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The base64 texts in a JSON document or a PEM file, and what they hold."""
    if document.startswith(b"-----BEGIN"):
        body = b"\n".join(line for line in document.strip().splitlines() if b"-----" not in line and b":" not in line)
        candidates: list[bytes] = [body]
    elif document.lstrip().startswith(b"{"):
        candidates = [text.encode() for text in _leaves(json.loads(document))]
    else:
        candidates = document.split()
    for text in candidates:
        try:
            raw = base64.b64decode(text.replace(b"\n", b""), validate=True)
        except (binascii.Error, ValueError):
            continue
        if len(raw) >= MIN_BASE64 and text in document:
            yield text, raw


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _leaves(each)
    elif isinstance(value, str) and value.isascii():
        yield value


def _flip(data: bytes, chosen: random.Random) -> bytes:
    at = chosen.randrange(len(data) * 8)
    changed = bytearray(data)
    changed[at // 8] ^= 1 << (at % 8)
    return bytes(changed)


@pytest.mark.parametrize(
    "name", ["pypi/pypi-duplicate-extension.provenance", "sigstore/sigstore-bad-timestamp.bundle.json"]
)
def test_a_reported_case_is_refused_in_our_own_words(require: Require, shared_vectors: Path, name: str) -> None:
    cases = SHARED / "cases.zip"
    require(cases.is_file(), "../shared/cases.zip is not beside this repository")
    require(find_spec("rfc3161_client"), "rfc3161-client is not installed: run make signers")
    with zipfile.ZipFile(cases) as archive:
        data = archive.read(f"cases/{name}")
    root = RealAttestations(shared_vectors).trusted_root
    verifier = BundleVerifier(Sigstore().parse(root, registry="sigstore", custom=None, now=NOW))

    def read() -> object:
        if name.endswith(".provenance"):
            return verify_provenance(data, filename=SDIST, sha256=SHA256, verifier=verifier)
        (bundle,) = read_bundles(data)
        stated = bundle.content.digest if isinstance(bundle.content, MessageSignature) else None
        return verifier.verify_file(bundle, Content.of_sha256(stated or b""))

    with pytest.raises(KedgeError, match="cannot be read"):
        read()

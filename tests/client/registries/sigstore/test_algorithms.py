"""Keys that certificates of real instances hold, beside P-256; and statements whose subjects bear no name."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256K1, SECP384R1, SECP521R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from kedge.documents import DocumentError
from kedge.errors import VerificationError
from kedge.registries.sigstore import Bundle, BundleVerifier, Content, ManagedKey, Sigstore
from kedge.registries.sigstore.bundle import Part
from kedge.registries.sigstore.content import require_signature
from support.attested import SigstoreInstance, statement

DATA = b"what was signed"


def rsa_key(bits: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


@pytest.mark.parametrize(
    ("key", "how"),
    [
        (generate_private_key(SECP384R1()), (ECDSA(SHA384()),)),
        (generate_private_key(SECP384R1()), (ECDSA(SHA256()),)),
        (generate_private_key(SECP521R1()), (ECDSA(SHA512()),)),
        (generate_private_key(SECP521R1()), (ECDSA(SHA256()),)),
        (rsa_key(2048), (padding.PKCS1v15(), SHA256())),
        (Ed25519PrivateKey.generate(), ()),
    ],
)
def test_a_signature_by_each_kind_of_key_is_verified_and_no_other_content_with_it(
    key: Any, how: tuple[Any, ...]
) -> None:
    signature, public = key.sign(DATA, *how), key.public_key()
    require_signature(public, signature, Content.of_bytes(DATA), Part.CERTIFICATE)
    with pytest.raises(VerificationError, match="was not made over this content"):
        require_signature(public, signature, Content.of_bytes(DATA + b"."), Part.CERTIFICATE)


@pytest.mark.parametrize("key", [generate_private_key(SECP256K1()), rsa_key(1024)])
def test_a_key_of_another_kind_is_refused_and_the_kinds_are_named(key: Any) -> None:
    public = key.public_key()
    with pytest.raises(VerificationError, match="its key must be an ECDSA key"):
        require_signature(public, b"", Content.of_bytes(DATA), Part.CERTIFICATE)
    with pytest.raises(DocumentError, match="must be an ECDSA key"):
        ManagedKey.from_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def test_a_subject_without_a_name_is_known_by_its_digest() -> None:
    instance, content = SigstoreInstance(), Content.of_bytes(DATA)
    said = statement("x", "https://example.com/p", None, sha256=content.sha256.hex())
    del said["subject"][0]["name"]
    keys = Sigstore().parse(instance.trusted_root(), registry="sigstore", custom=None, now=datetime.now(UTC))
    verifier, bundle = BundleVerifier(keys), Bundle.from_value(instance.attest(said))
    assert verifier.verify_file(bundle, content).predicate_type == "https://example.com/p"
    with pytest.raises(VerificationError, match="a file without a name, none with the bytes of this file"):
        verifier.verify_file(bundle, Content.of_bytes(b"other"))

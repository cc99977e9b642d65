"""CMS SignedData (RFC 5652) as values: who signed what, and the mathematics of one signature.

asn1crypto reads the structures and ``cryptography`` does the arithmetic; neither is asked to decide anything. What is
verified here is exactly this: the digest in the signed attributes is that of the content, and the signature over the
attributes was made with the key of a certificate that travels in the message, and that the attributes name by its
digest (ESSCertIDv2, or ESSCertID in old time stamps). Whether that certificate may be trusted is the caller's question.

A certificate that nobody pins must not be able to *explain* a signature that somebody else vouches for: with a key of
one's own choosing, one and the same signature can be made to fit other content, and a repository's counter-signature
covers the author's signature but not the author's certificate. That the signed attributes name the certificate by its
digest is what prevents it, so it is required; and only RSA with PKCS #1 v1.5 padding, an exponent of usual size, and
2,048 to 16,384 bits is accepted (with ECDSA a fitting key can be computed from any signature).

Sources: RFC 5652 §5.4, §11; RFC 5035 §5 (ESSCertIDv2); RFC 2634 §5.4 (ESSCertID); Blake-Wilson and Menezes, "Unknown
key-share attacks on the station-to-station protocol" (key substitution).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kedge.registries import parser_errors

DIGESTS = {
    "2.16.840.1.101.3.4.2.1": "sha256",
    "2.16.840.1.101.3.4.2.2": "sha384",
    "2.16.840.1.101.3.4.2.3": "sha512",
}
"""The digest algorithms that NuGet signs with, by object identifier."""

MAX_CERTIFICATES = 100
MAX_BYTES = 1 << 20
MIN_RSA_BITS, MAX_RSA_BITS = 2_048, 16_384
MIN_EXPONENT, MAX_EXPONENT = 65_537, 1 << 32

_CONTENT_TYPE, _MESSAGE_DIGEST = "1.2.840.113549.1.9.3", "1.2.840.113549.1.9.4"
_SIGNING_CERTIFICATE, _SIGNING_CERTIFICATE_V2 = "1.2.840.113549.1.9.16.2.12", "1.2.840.113549.1.9.16.2.47"
_SIGNED_DATA = "1.2.840.113549.1.7.2"
_RSA = frozenset({"1.2.840.113549.1.1.1", *(f"1.2.840.113549.1.1.{last}" for last in (11, 12, 13))})


class CmsError(ValueError):
    """The message is not what it should be, or a signature in it is not right; the text says what."""


class Unsupported(CmsError):  # noqa: N818 what it is, rather than that it is an error
    """The message may be right, and uses a digest, a key or an algorithm that is not accepted here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """One signature: the certificate that it names, its attributes by object identifier, and the signature's bytes.

    ``signed`` are the bytes that the signature is over, ``certificate`` is DER.
    """

    certificate: bytes
    digest: str
    signed: bytes
    signature: bytes
    signed_attributes: dict[str, tuple[Any, ...]]
    unsigned_attributes: dict[str, tuple[Any, ...]]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate, as hexadecimal digits."""
        return hashlib.sha256(self.certificate).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A CMS message: its content, that content's type, its certificates and the one who signed it."""

    content_type: str
    content: bytes
    certificates: tuple[bytes, ...]
    signer: Signer


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Turn whatever the parser ends in into a ``CmsError`` that names ``what``.

    Raises:
        CmsError: the block failed.
    """
    try:
        yield
    except CmsError:
        raise
    except parser_errors() as error:
        raise CmsError(f"{what} cannot be read") from error


def parse_message(data: bytes, *, what: str) -> Message:
    """Read a CMS SignedData message with one signer.

    Raises:
        CmsError: it is none.
        Unsupported: it uses what is not accepted here.
        StoreError: asn1crypto is not installed.
    """
    cms = _asn1()
    if len(data) > MAX_BYTES:
        raise CmsError(f"{what} is longer than {MAX_BYTES >> 10} KiB")
    with reading(what):
        info = cms.ContentInfo.load(data, strict=True)
        return _message(info, what)


def message_of(info: Any, *, what: str) -> Message:
    """Read a message that stands inside another one.

    Raises:
        CmsError: it is none.
        Unsupported: it uses what is not accepted here.
    """
    with reading(what):
        return _message(info, what)


def _message(info: Any, what: str) -> Message:
    from asn1crypto.core import OctetString, ParsableOctetString

    if info["content_type"].dotted != _SIGNED_DATA:
        raise CmsError(f"{what} is no CMS signed data")
    signed = info["content"]
    certificates = _certificates(signed["certificates"], what)
    signers = signed["signer_infos"]
    if len(signers) != 1:
        raise CmsError(f"{what} has {len(signers)} signers, where one must be")
    inner = signed["encap_content_info"]
    content = inner["content"]
    if not isinstance(content, OctetString | ParsableOctetString):
        raise CmsError(f"{what} does not hold what it signs")
    return Message(
        content_type=inner["content_type"].dotted,
        content=bytes(content),
        certificates=certificates,
        signer=parse_signer(signers[0], certificates, what=what),
    )


def parse_signer(info: Any, certificates: Sequence[bytes], *, what: str) -> Signer:
    """Read one SignerInfo; its certificate is sought among ``certificates`` by the digest that the attributes name.

    Raises:
        CmsError: it cannot be read, or its certificate is not there.
        Unsupported: it uses what is not accepted here.
    """
    with reading(what):
        oid = info["digest_algorithm"]["algorithm"].dotted
        if oid not in DIGESTS:
            raise Unsupported(f"{what} uses the digest algorithm {oid}, where SHA-256, SHA-384 or SHA-512 is accepted")
        algorithm = info["signature_algorithm"]["algorithm"].dotted
        if algorithm not in _RSA:
            raise Unsupported(f"{what} is signed with {algorithm}, where RSA with PKCS #1 v1.5 padding is accepted")
        attributes = _attributes(info["signed_attrs"], what)
        return Signer(
            certificate=_named_certificate(attributes, certificates, what),
            digest=DIGESTS[oid],
            # RFC 5652 §5.4: what is signed is the set by itself, and not its implicit tag
            signed=b"\x31" + info["signed_attrs"].dump()[1:],
            signature=info["signature"].native,
            signed_attributes=attributes,
            unsigned_attributes=_attributes(info["unsigned_attrs"], what),
        )


def verify(signer: Signer, content: bytes, content_type: str | None, *, what: str) -> None:
    """Check that ``signer`` signed ``content``; a counter-signature names no ``content_type``, or any.

    Raises:
        CmsError: it did not.
        Unsupported: its key is not one that is accepted here.
        StoreError: this machine's cryptography cannot read such a key.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15

    with reading(what):
        stated = one_attribute(signer, _MESSAGE_DIGEST, what=what).native
        named = one_attribute(signer, _CONTENT_TYPE, what=what).dotted if content_type is not None else None
    if named != content_type:
        raise CmsError(f"{what}: the signed attributes are about content of another type")
    if stated != hashlib.new(signer.digest, content).digest():
        raise CmsError(f"{what}: what was signed is not this content")
    chosen = {"sha256": hashes.SHA256(), "sha384": hashes.SHA384(), "sha512": hashes.SHA512()}[signer.digest]
    try:
        public_key(signer.certificate, what=what).verify(signer.signature, signer.signed, PKCS1v15(), chosen)
    except InvalidSignature as error:
        raise CmsError(f"{what}: its certificate's key did not make this signature") from error


def public_key(certificate: bytes, *, what: str) -> Any:
    """The RSA key of a certificate.

    Raises:
        CmsError: the certificate cannot be read.
        Unsupported: its key is not one that is accepted here.
    """
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    loaded = load_certificate(certificate, what=what)
    try:
        key = loaded.public_key()
    except parser_errors() as error:
        raise Unsupported(f"{what}: the key of its certificate cannot be read") from error
    if not isinstance(key, RSAPublicKey) or not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
        raise Unsupported(f"{what}: its certificate's key is no RSA key of {MIN_RSA_BITS} to {MAX_RSA_BITS} bits")
    if not MIN_EXPONENT <= key.public_numbers().e <= MAX_EXPONENT:
        raise Unsupported(f"{what}: its certificate's key has an unusual exponent")
    return key


def load_certificate(data: bytes, *, what: str) -> Any:
    """Read a certificate.

    Raises:
        CmsError: it is none.
    """
    from cryptography.x509 import load_der_x509_certificate

    try:
        return load_der_x509_certificate(data)
    except parser_errors() as error:
        raise CmsError(f"{what}: its certificate cannot be read") from error


def window(certificate: bytes, *, what: str) -> tuple[datetime, datetime]:
    """From when until when a certificate is valid, both included.

    Raises:
        CmsError: it cannot be read.
    """
    loaded = load_certificate(certificate, what=what)
    with reading(f"{what}: the validity of its certificate"):
        return loaded.not_valid_before_utc, loaded.not_valid_after_utc


def one_attribute(signer: Signer, oid: str, *, what: str, required: bool = True) -> Any:
    """The one value of a signed attribute.

    Raises:
        CmsError: it is not there though it is required, or it is there several times.
    """
    values = signer.signed_attributes.get(oid, ())
    if len(values) == 1:
        return values[0]
    if not values and not required:
        return None
    raise CmsError(f"{what} has {len(values)} signed attributes {oid}, where one must be")


def _attributes(attributes: Any, what: str) -> dict[str, tuple[Any, ...]]:
    from asn1crypto.core import Void

    found: dict[str, tuple[Any, ...]] = {}
    for attribute in () if isinstance(attributes, Void) else attributes:
        oid = attribute["type"].dotted
        if oid in found:
            raise CmsError(f"{what} has the attribute {oid} twice")
        found[oid] = tuple(attribute["values"])
    return found


def _certificates(choices: Any, what: str) -> tuple[bytes, ...]:
    if len(choices) > MAX_CERTIFICATES:
        raise CmsError(f"{what} brings {len(choices)} certificates, at most {MAX_CERTIFICATES} are read")
    return tuple(dict.fromkeys(choice.chosen.dump() for choice in choices if choice.name == "certificate"))


def _named_certificate(attributes: dict[str, tuple[Any, ...]], certificates: Sequence[bytes], what: str) -> bytes:
    """The certificate whose digest the signed attributes name."""
    for oid in (_SIGNING_CERTIFICATE_V2, _SIGNING_CERTIFICATE):
        for value in attributes.get(oid, ())[:1]:
            first = value["certs"][0]
            algorithm = "sha1"
            if oid == _SIGNING_CERTIFICATE_V2:
                named = first["hash_algorithm"]["algorithm"].dotted
                if named not in DIGESTS:
                    raise Unsupported(f"{what} names its certificate by the digest algorithm {named}")
                algorithm = DIGESTS[named]
            wanted = first["cert_hash"].native
            for certificate in certificates:
                if hashlib.new(algorithm, certificate).digest() == wanted:
                    return certificate
            raise CmsError(f"{what}: the certificate that it names is not in the message")
    raise CmsError(f"{what} does not say by which certificate it was made")


def _asn1() -> Any:
    try:
        import asn1crypto.tsp  # noqa: F401 it registers what a time stamp's content is
        from asn1crypto import cms
    except ImportError as error:
        from kedge.errors import StoreError, extra_hint

        hint = extra_hint("nuget")
        raise StoreError("reading NuGet signatures needs the Python package asn1crypto", hint=hint) from error
    return cms

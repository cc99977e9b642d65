"""NuGet packages made and signed here: certificates, signatures in DER written by hand, and zips.

::

    author, repository, authority = new_party("author"), new_party("repository"), new_party("tsa", stamps=True)
    data = sign_package(unsigned("Example", "1.0.0"), author, repository, stamped_by=authority, at=JUNE)

What is written here is written without asn1crypto, which the client reads it with.
"""

from __future__ import annotations

import hashlib
import io
import struct
import zipfile
import zlib
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

__all__ = [
    "AUTHOR",
    "NOW",
    "REPOSITORY",
    "SERVICE_INDEX",
    "Party",
    "attributes",
    "content_of",
    "insert_signature",
    "new_party",
    "sign_content",
    "sign_package",
    "time_stamp",
    "unsigned",
]

NOW = datetime(2026, 8, 22, tzinfo=UTC)
SERVICE_INDEX = "https://nuget.example/v3/index.json"
AUTHOR, REPOSITORY = "1.2.840.113549.1.9.16.6.1", "1.2.840.113549.1.9.16.6.2"
SHA256, RSA = "2.16.840.1.101.3.4.2.1", "1.2.840.113549.1.1.1"
DATA, SIGNED_DATA, TST_INFO = "1.2.840.113549.1.7.1", "1.2.840.113549.1.7.2", "1.2.840.113549.1.9.16.1.4"


@dataclass(frozen=True, slots=True, kw_only=True)
class Party:
    """Somebody with a key and a certificate."""

    key: rsa.RSAPrivateKey
    certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...] = ()

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(self.der).hexdigest()


@cache
def _key(name: str, bits: int) -> rsa.RSAPrivateKey:  # noqa: ARG001 a key for each name
    return rsa.generate_private_key(public_exponent=65_537, key_size=bits)


def new_party(
    name: str,
    *,
    start: datetime = NOW - timedelta(days=1_000),
    end: datetime = NOW + timedelta(days=300),
    stamps: bool = False,
    authority: bool = False,
    issuer: Party | None = None,
    bits: int = 2_048,
) -> Party:
    """A party of that name; its key is the same in every test of a run. ``stamps`` makes it a time stamp authority."""
    key = _key(name, bits)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer is not None else subject)
        .public_key(key.public_key())
        .serial_number(1_000 + len(name))
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    )
    if stamps:
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING])
        builder = builder.add_extension(usage, critical=True)
    certificate = builder.sign(issuer.key if issuer is not None else key, hashes.SHA256())
    chain = () if issuer is None else (issuer.certificate, *issuer.chain)
    return Party(key=key, certificate=certificate, chain=chain)


# DER


def tlv(tag: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    if len(body) < 128:
        return bytes((tag, len(body))) + body
    size = len(body).to_bytes((len(body).bit_length() + 7) // 8)
    return bytes((tag, 0x80 | len(size))) + size + body


def seq(*parts: bytes) -> bytes:
    return tlv(0x30, *parts)


def set_of(*parts: bytes) -> bytes:
    return tlv(0x31, *sorted(parts))


def integer(value: int) -> bytes:
    return tlv(0x02, value.to_bytes(value.bit_length() // 8 + 1))


def octets(value: bytes) -> bytes:
    return tlv(0x04, value)


def oid(text: str) -> bytes:
    first, second, *rest = map(int, text.split("."))
    body = bytes((first * 40 + second,))
    for number in rest:
        digits = [number & 0x7F]
        while number := number >> 7:
            digits.append(0x80 | number & 0x7F)
        body += bytes(reversed(digits))
    return tlv(0x06, body)


def algorithm(text: str) -> bytes:
    return seq(oid(text), tlv(0x05))


def time_of(moment: datetime) -> bytes:
    return tlv(0x18, moment.strftime("%Y%m%d%H%M%SZ").encode())


# CMS


def attribute(name: str, *values: bytes) -> bytes:
    return seq(oid(name), set_of(*values))


def attributes(
    party: Party,
    message: bytes,
    *,
    content_type: str = DATA,
    commitment: str | None = None,
    service_index: str | None = None,
    owners: Sequence[str] = (),
) -> list[bytes]:
    """The signed attributes of a signature over ``message``."""
    named = seq(seq(seq(octets(hashlib.sha256(party.der).digest()))))
    found = [
        attribute("1.2.840.113549.1.9.3", oid(content_type)),
        attribute("1.2.840.113549.1.9.4", octets(hashlib.sha256(message).digest())),
        attribute("1.2.840.113549.1.9.16.2.47", named),
    ]
    if commitment is not None:
        found.append(attribute("1.2.840.113549.1.9.16.2.16", seq(oid(commitment))))
    if service_index is not None:
        found.append(attribute("1.3.6.1.4.1.311.84.2.1.1.1", tlv(0x16, service_index.encode())))
    if owners:
        names = seq(*(tlv(0x0C, owner.encode()) for owner in owners))
        found.append(attribute("1.3.6.1.4.1.311.84.2.1.1.2", names))
    return found


def raw_signature(party: Party, signed: Sequence[bytes]) -> bytes:
    return party.key.sign(set_of(*signed), padding.PKCS1v15(), hashes.SHA256())


def signer_info(
    party: Party, signed: Sequence[bytes], signature: bytes, unsigned: Sequence[bytes] = (), *, digest: str = SHA256
) -> bytes:
    who = seq(party.certificate.issuer.public_bytes(), integer(party.certificate.serial_number))
    parts = [integer(1), who, algorithm(digest), tlv(0xA0, set_of(*signed)[header(set_of(*signed)) :])]
    parts += [algorithm(RSA), octets(signature)]
    if unsigned:
        body = set_of(*unsigned)
        parts.append(tlv(0xA1, body[header(body) :]))
    return seq(*parts)


def header(der: bytes) -> int:
    return 2 if der[1] < 0x80 else 2 + (der[1] & 0x7F)


def message(content: bytes, signers: Sequence[bytes], certificates: Sequence[bytes], content_type: str = DATA) -> bytes:
    inner = seq(oid(content_type), tlv(0xA0, octets(content)))
    body = seq(integer(3), set_of(algorithm(SHA256)), inner, tlv(0xA0, *sorted(certificates)), set_of(*signers))
    return seq(oid(SIGNED_DATA), tlv(0xA0, body))


def time_stamp(
    signature: bytes, authority: Party, at: datetime, *, certificates: Sequence[bytes] | None = None
) -> bytes:
    """A time stamp token over a signature's bytes."""
    imprint = seq(algorithm(SHA256), octets(hashlib.sha256(signature).digest()))
    info = seq(integer(1), oid("1.2.3.4"), imprint, integer(7), time_of(at))
    signed = attributes(authority, info, content_type=TST_INFO)
    found = [certificate.public_bytes(Encoding.DER) for certificate in (authority.certificate, *authority.chain)]
    signer = signer_info(authority, signed, raw_signature(authority, signed))
    return message(info, [signer], found if certificates is None else certificates, TST_INFO)


def content_of(package: bytes, *, name: str = SHA256, algorithm_name: str = "sha256") -> bytes:
    """What is signed of an unsigned package."""
    digest = b64encode(hashlib.new(algorithm_name, package).digest()).decode()
    return f"Version:1\n\n{name}-Hash:{digest}\n\n".encode()


def sign_content(
    content: bytes,
    author: Party | None,
    repository: Party | None,
    *,
    stamped_by: Party | None = None,
    at: datetime = NOW,
    service_index: str = SERVICE_INDEX,
    certificates: Sequence[Party] = (),
) -> bytes:
    """``.signature.p7s``: by an author, countersigned by a repository, or by a repository alone."""

    def stamps(signature: bytes) -> list[bytes]:
        if stamped_by is None:
            return []
        return [attribute("1.2.840.113549.1.9.16.2.14", time_stamp(signature, stamped_by, at))]

    def by_repository(party: Party, over: bytes) -> tuple[list[bytes], bytes]:
        signed = attributes(party, over, commitment=REPOSITORY, service_index=service_index, owners=("alice", "bob"))
        return signed, raw_signature(party, signed)

    if author is None:
        assert repository is not None
        signed, signature = by_repository(repository, content)
        primary = signer_info(repository, signed, signature, stamps(signature))
        return message(content, [primary], [repository.der, *(party.der for party in certificates)])
    signed = attributes(author, content, commitment=AUTHOR)
    signature = raw_signature(author, signed)
    unsigned_attributes = stamps(signature)
    brought = [author.der, *(party.der for party in certificates)]
    if repository is not None:
        counter, counter_signature = by_repository(repository, signature)
        info = signer_info(repository, counter, counter_signature, stamps(counter_signature))
        unsigned_attributes.append(attribute("1.2.840.113549.1.9.6", info))
        brought.append(repository.der)
    return message(content, [signer_info(author, signed, signature, unsigned_attributes)], brought)


# Packages


def unsigned(name: str, version: str, files: dict[str, bytes] | None = None) -> bytes:
    """A package without a signature."""
    manifest = (
        '<?xml version="1.0" encoding="utf-8"?>\n'
        '<package xmlns="http://schemas.microsoft.com/packaging/2013/05/nuspec.xsd"><metadata>'
        f"<id>{name}</id><version>{version}</version></metadata></package>"
    )
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in {f"{name}.nuspec": manifest.encode(), **(files or {"lib/a.dll": b"code " * 100})}.items():
            archive.writestr(zipfile.ZipInfo(path, (2026, 1, 1, 0, 0, 0)), data)
    return out.getvalue()


def insert_signature(
    package: bytes, signature: bytes, *, first: bool = False, name: bytes = b".signature.p7s"
) -> bytes:
    """The package with one more entry: behind the others, where NuGet puts it, or before them."""
    end_at = package.rfind(b"PK\x05\x06")
    count, size, directory_at = struct.unpack_from("<HII", package, end_at + 10)
    crc = zlib.crc32(signature)
    common = struct.pack("<HHHHIIIHH", 0, 0, 0, 0, crc, len(signature), len(signature), len(name), 0)
    local = b"PK\x03\x04" + struct.pack("<H", 20) + common + name + signature
    at = 0 if first else directory_at
    record = b"PK\x01\x02" + struct.pack("<HH", 20, 20) + common + struct.pack("<HHHII", 0, 0, 0, 0, at) + name
    directory = bytearray(package[directory_at : directory_at + size])
    if first:
        where = 0
        while where < len(directory):
            (offset,) = struct.unpack_from("<I", directory, where + 42)
            struct.pack_into("<I", directory, where + 42, offset + len(local))
            where += 46 + sum(struct.unpack_from("<HHH", directory, where + 28))
    end = struct.pack(
        "<4sHHHHIIH", b"PK\x05\x06", 0, 0, count + 1, count + 1, size + len(record), directory_at + len(local), 0
    )
    body = package[:at] + local + package[at:directory_at]
    return body + bytes(directory) + record + end


def sign_package(
    package: bytes,
    author: Party | None,
    repository: Party | None,
    *,
    stamped_by: Party | None = None,
    at: datetime = NOW,
    service_index: str = SERVICE_INDEX,
) -> bytes:
    """A signed package."""
    content = content_of(package)
    signature = sign_content(content, author, repository, stamped_by=stamped_by, at=at, service_index=service_index)
    return insert_signature(package, signature)

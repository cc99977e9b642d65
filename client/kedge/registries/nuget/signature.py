"""What a NuGet package signature says: the content's digest, who signed it, who countersigned it, and when.

The primary signature is an author's or a repository's. A repository that takes an author-signed package adds its own as
a counter-signature: it covers the author's signature, which covers the digest. Both are verified here as mathematics;
what the certificates are worth is judged elsewhere (:mod:`kedge.registries.nuget.verify`).

Source: NuGet "Package signatures technical specification"; RFC 5652 §11.4 (counter-signature).

RFC 3161 time stamps: when a signature existed at the latest, by the word of an authority.

A time stamp is a CMS message of its own, over the digest of the signature's bytes. That it is right by itself is
checked when it is read. Whose word it is comes next: an authority counts where a chain of certificates, all valid at
that time, leads from it to one that the repository's keyholders pinned. Without such a chain the time is somebody's
claim, no more: whoever stole an expired certificate's key could have made it yesterday.

Sources: RFC 3161 §2.3 (a key for nothing else), §2.4.2 (TSTInfo); RFC 5280 §6.1, of which a pinned chain needs little.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from kedge.registries import parser_errors
from kedge.registries.nuget import cms
from kedge.registries.nuget.cms import DIGESTS, CmsError, Message, Signer, Unsupported

MAX_CHAIN = 8
_TST_INFO = "1.2.840.113549.1.9.16.1.4"
_WHAT = "the time stamp"


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeStamp:
    """A time stamp that is right by itself: ``authority`` (DER) says that the signature existed at ``time``."""

    time: datetime
    authority: bytes
    certificates: tuple[bytes, ...]


def read_timestamp(token: Any, signature: bytes) -> TimeStamp:
    """Read a time stamp token of asn1crypto's, and check that it is over ``signature``.

    Raises:
        CmsError: it is none, is over something else, or its own signature is wrong.
        Unsupported: it uses a digest, a key or an algorithm that is not accepted.
    """
    from asn1crypto.tsp import TSTInfo

    message = cms.message_of(token, what=_WHAT)
    cms.verify(message.signer, message.content, _TST_INFO, what=_WHAT)
    if message.content_type != _TST_INFO:
        raise CmsError("the time stamp is a message of another kind")
    with cms.reading(_WHAT):
        info = TSTInfo.load(message.content, strict=True)
        imprint = info["message_imprint"]
        oid = imprint["hash_algorithm"]["algorithm"].dotted
        stated = imprint["hashed_message"].native
        time = info["gen_time"].native.astimezone(UTC)
    if oid not in DIGESTS:
        raise Unsupported(f"the time stamp digests by {oid}, where SHA-256, SHA-384 or SHA-512 is accepted")
    if stated != hashlib.new(DIGESTS[oid], signature).digest():
        raise CmsError("the time stamp is over another signature")
    return TimeStamp(time=time, authority=message.signer.certificate, certificates=message.certificates)


def pinned_certificate(stamp: TimeStamp, pinned: Collection[str]) -> str | None:
    """The pinned certificate, by its SHA-256, to which a chain leads from the authority; None where none does.

    Raises:
        CmsError: a certificate of the token cannot be read.
    """
    from cryptography import x509

    authority = cms.load_certificate(stamp.authority, what=_WHAT)
    if not _may_stamp(authority, x509):
        return None
    issuers = [cms.load_certificate(data, what=_WHAT) for data in stamp.certificates]
    current, chain = authority, [authority]
    for _ in range(MAX_CHAIN):
        if not current.not_valid_before_utc <= stamp.time <= current.not_valid_after_utc:
            return None
        digest = hashlib.sha256(_der(current)).hexdigest()
        if digest in pinned:
            return digest
        issuer = next((other for other in issuers if other not in chain and _is_issuer(other, current, x509)), None)
        if issuer is None:
            return None
        current = issuer
        chain.append(issuer)
    return None


def _may_stamp(certificate: Any, x509: Any) -> bool:
    """RFC 3161 §2.3: the key is for time stamps, and the certificate says so."""
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    except parser_errors():
        return False
    return bool(usage.critical) and list(usage.value) == [x509.ExtendedKeyUsageOID.TIME_STAMPING]


def _is_issuer(issuer: Any, certificate: Any, x509: Any) -> bool:
    from cryptography.exceptions import InvalidSignature

    try:
        constraints = issuer.extensions.get_extension_for_class(x509.BasicConstraints)
        certificate.verify_directly_issued_by(issuer)
    except InvalidSignature:
        return False
    except parser_errors():
        return False
    return bool(constraints.value.ca)


def _der(certificate: Any) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return bytes(certificate.public_bytes(Encoding.DER))


MAX_OWNERS = 1_000

_DATA = "1.2.840.113549.1.7.1"
_COMMITMENT = "1.2.840.113549.1.9.16.2.16"
_COUNTER, _TIME_STAMP = "1.2.840.113549.1.9.6", "1.2.840.113549.1.9.16.2.14"
_SERVICE_INDEX, _OWNERS = "1.3.6.1.4.1.311.84.2.1.1.1", "1.3.6.1.4.1.311.84.2.1.1.2"
_CONTENT = re.compile(rb"Version:1\n\n([0-9.]{3,40})-Hash:([A-Za-z0-9+/]{1,128}={0,2})\n\n")


class Kind(StrEnum):
    """On whose behalf something was signed."""

    AUTHOR = "author"
    REPOSITORY = "repository"


_KINDS = {"1.2.840.113549.1.9.16.6.1": Kind.AUTHOR, "1.2.840.113549.1.9.16.6.2": Kind.REPOSITORY}


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """One signature that is right by itself.

    ``valid_from`` and ``valid_until`` are its certificate's own. ``time_stamp`` is the one that stands with it;
    ``time_fault`` says why there is none that counts. ``service_index`` and ``owners`` are a repository's.
    """

    kind: Kind
    is_counter: bool
    certificate: bytes
    fingerprint: str
    valid_from: datetime
    valid_until: datetime
    service_index: str | None
    owners: tuple[str, ...]
    time_stamp: TimeStamp | None
    time_fault: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageSignature:
    """A package's signature file: the digest that was signed, the primary signature, and the repository's on top."""

    algorithm: str
    digest: bytes
    primary: Signature
    counter: Signature | None

    @property
    def signatures(self) -> tuple[Signature, ...]:
        """All of them, the repository's word about an author's first."""
        return (self.primary,) if self.counter is None else (self.counter, self.primary)


def read_signature(data: bytes) -> PackageSignature:
    """Read ``.signature.p7s``, and verify every signature in it over what it is over.

    Raises:
        CmsError: it is not what it should be, or one of the signatures is wrong.
        Unsupported: it uses a digest, a key or an algorithm that is not accepted.
        StoreError: asn1crypto is not installed.
    """
    message = cms.parse_message(data, what="the signature")
    cms.verify(message.signer, message.content, _DATA, what="the primary signature")
    algorithm, digest = _content(message.content)
    primary = _signature(message.signer, is_counter=False, what="the primary signature")
    counter = _counter(message)
    if counter is not None and primary.kind is Kind.REPOSITORY:
        raise CmsError("a repository's signature bears a repository's counter-signature, where only an author's may")
    return PackageSignature(algorithm=algorithm, digest=digest, primary=primary, counter=counter)


def _content(content: bytes) -> tuple[str, bytes]:
    match = _CONTENT.fullmatch(content)
    if match is None:
        raise CmsError("what is signed is not a package's digest (Version:1, and a hash)")
    oid = match[1].decode("ascii")
    if oid not in DIGESTS:
        raise Unsupported(f"the package is digested by {oid}, where SHA-256, SHA-384 or SHA-512 is accepted")
    try:
        digest = base64.b64decode(match[2], validate=True)
    except ValueError as error:
        raise CmsError("the package's digest is not base64") from error
    if len(digest) * 8 != int(DIGESTS[oid].removeprefix("sha")):
        raise CmsError(f"the package's digest has {len(digest)} bytes, which {DIGESTS[oid]} has not")
    return DIGESTS[oid], digest


def _counter(message: Message) -> Signature | None:
    found: list[Signature] = []
    for info in message.signer.unsigned_attributes.get(_COUNTER, ()):
        what = "the counter-signature"
        signer = cms.parse_signer(info, message.certificates, what=what)
        if _kind(signer, what) is not Kind.REPOSITORY:
            continue  # others may countersign: NuGet gives it no meaning, and neither does this
        cms.verify(signer, message.signer.signature, None, what=what)
        found.append(_signature(signer, is_counter=True, what=what))
    if len(found) > 1:
        raise CmsError(f"{len(found)} repositories countersigned, where one may")
    return found[0] if found else None


def _signature(signer: Signer, *, is_counter: bool, what: str) -> Signature:
    kind = _kind(signer, what)
    if kind is None:
        raise CmsError(f"{what} does not say whether it is an author's or a repository's")
    valid_from, valid_until = cms.window(signer.certificate, what=what)
    time_stamp, fault = _time_stamp(signer)
    return Signature(
        kind=kind,
        is_counter=is_counter,
        certificate=signer.certificate,
        fingerprint=signer.fingerprint,
        valid_from=valid_from,
        valid_until=valid_until,
        service_index=_service_index(signer, what) if kind is Kind.REPOSITORY else None,
        owners=_owners(signer, what) if kind is Kind.REPOSITORY else (),
        time_stamp=time_stamp,
        time_fault=fault,
    )


def _time_stamp(signer: Signer) -> tuple[TimeStamp | None, str | None]:
    """The time stamp, or why there is none: it stands outside of what is signed, so anybody can break it."""
    tokens = signer.unsigned_attributes.get(_TIME_STAMP, ())
    if len(tokens) != 1:
        return None, "it bears no time stamp" if not tokens else f"it bears {len(tokens)} time stamps"
    try:
        return read_timestamp(tokens[0], signer.signature), None
    except CmsError as error:
        return None, str(error)


def _kind(signer: Signer, what: str) -> Kind | None:
    from asn1crypto.core import Sequence

    value = cms.one_attribute(signer, _COMMITMENT, what=what, required=False)
    if value is None:
        return None
    with cms.reading(f"{what}: its commitment type"):
        return _KINDS.get(_oid(Sequence.load(value.dump())[0]))


def _oid(value: Any) -> str:
    from asn1crypto.core import ObjectIdentifier

    return str(value.dotted) if isinstance(value, ObjectIdentifier) else ""


def _service_index(signer: Signer, what: str) -> str:
    from asn1crypto.core import IA5String

    value = cms.one_attribute(signer, _SERVICE_INDEX, what=what)
    with cms.reading(f"{what}: its service index"):
        return str(IA5String.load(value.dump(), strict=True).native)


def _owners(signer: Signer, what: str) -> tuple[str, ...]:
    from asn1crypto.core import SequenceOf, UTF8String

    class Owners(SequenceOf):  # type: ignore[misc]  # asn1crypto has no types
        _child_spec = UTF8String

    value = cms.one_attribute(signer, _OWNERS, what=what, required=False)
    if value is None:
        return ()
    with cms.reading(f"{what}: its owners"):
        owners = tuple(str(owner.native) for owner in Owners.load(value.dump(), strict=True))
    if len(owners) > MAX_OWNERS:
        raise CmsError(f"{what} names {len(owners)} owners")
    return owners

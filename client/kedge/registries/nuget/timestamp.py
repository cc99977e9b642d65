"""RFC 3161 time stamps: when a signature existed at the latest, by the word of an authority.

A time stamp is a CMS message of its own, over the digest of the signature's bytes. That it is right by itself is
checked when it is read. Whose word it is comes next: an authority counts where a chain of certificates, all valid at
that time, leads from it to one that the repository's keyholders pinned. Without such a chain the time is somebody's
claim, no more: whoever stole an expired certificate's key could have made it yesterday.

Sources: RFC 3161 §2.3 (a key for nothing else), §2.4.2 (TSTInfo); RFC 5280 §6.1, of which a pinned chain needs little.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from kedge.registries.nuget import cms
from kedge.registries.nuget.cms import DIGESTS, CmsError, Unsupported

__all__ = ["TimeStamp", "pinned_certificate", "read_timestamp"]

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
    except (x509.ExtensionNotFound, ValueError):
        return False
    return bool(usage.critical) and list(usage.value) == [x509.ExtendedKeyUsageOID.TIME_STAMPING]


def _is_issuer(issuer: Any, certificate: Any, x509: Any) -> bool:
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

    try:
        constraints = issuer.extensions.get_extension_for_class(x509.BasicConstraints)
        certificate.verify_directly_issued_by(issuer)
    except (x509.ExtensionNotFound, InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        return False
    return bool(constraints.value.ca)


def _der(certificate: Any) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return bytes(certificate.public_bytes(Encoding.DER))

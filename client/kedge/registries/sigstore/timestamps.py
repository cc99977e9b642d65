"""Signed timestamps (RFC 3161): when a signature was made, by the word of a time-stamper of the trusted root.

Reading them takes the package ``rfc3161-client``, which the extra ``sigstore`` brings; it is imported when a bundle
holds one. Every timestamp of a bundle must be right: one that is not was changed.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from kedge.document import format_time
from kedge.errors import Reason, StoreError, VerificationError
from kedge.keys import KeySet
from kedge.registries.sigstore.document import authority_id
from kedge.registries.sigstore.faults import Part, refuse
from kedge.registries.sigstore.trustedroot import Authority, TrustedRoot

if TYPE_CHECKING:
    from rfc3161_client import TimeStampResponse

__all__ = ["check_timestamps"]


def check_timestamps(
    responses: tuple[bytes, ...], signature: bytes, root: TrustedRoot, keys: KeySet
) -> tuple[datetime, ...]:
    """Give the time of each timestamp over ``signature``.

    Raises:
        VerificationError: one of them is no timestamp, over something else, or by nobody whom the trusted root names.
        StoreError: the package that reads them is not installed.
    """
    if not responses:
        return ()
    if len(set(responses)) != len(responses):
        raise refuse(Part.TIMESTAMP, "stands there twice", reason=Reason.MALFORMED)
    return tuple(_check(data, signature, root, keys) for data in responses)


def _check(data: bytes, signature: bytes, root: TrustedRoot, keys: KeySet) -> datetime:
    try:
        from rfc3161_client import decode_timestamp_response
    except ImportError as error:
        text = "this bundle holds a signed timestamp, which needs the package rfc3161-client"
        raise StoreError(text, hint="pip install 'kedge[sigstore]'") from error
    try:
        response = decode_timestamp_response(data)
        moment: datetime = response.tst_info.gen_time
    except ValueError as error:
        raise refuse(Part.TIMESTAMP, "cannot be read", reason=Reason.MALFORMED, found=str(error)) from error
    known = {der for authority in root.timestampers for der in authority.certificates}
    if not known.issuperset(response.signed_data.certificates):
        raise refuse(Part.TIMESTAMP, "holds a certificate that the trusted root does not", reason=Reason.UNKNOWN_KEY)
    late: VerificationError | None = None
    for authority in root.timestampers:
        if not _is_by(response, signature, authority):
            continue
        if authority_id(authority) in keys.revoked:
            problem = f"is by {authority.uri}, which was revoked: nothing that it signed is accepted"
            raise refuse(Part.TIMESTAMP, problem, reason=Reason.REVOKED_KEY)
        if authority.covers(moment):
            return moment
        problem = f"is by {authority.uri}, which was not to be trusted at {format_time(moment)}"
        late = refuse(Part.TIMESTAMP, problem, reason=Reason.OUTSIDE_VALIDITY)
    raise late or refuse(Part.TIMESTAMP, "is not by a time-stamper of the trusted root over this signature")


def _is_by(response: TimeStampResponse, signature: bytes, authority: Authority) -> bool:
    from cryptography.x509 import load_der_x509_certificate
    from rfc3161_client import VerificationError as NotByThisError
    from rfc3161_client import VerifierBuilder

    certificates = [load_der_x509_certificate(der) for der in authority.certificates]
    if len(certificates) < 2:
        return False  # a time-stamper's own certificate alone leads to no root
    builder = VerifierBuilder().tsa_certificate(certificates[0]).add_root_certificate(certificates[-1])
    for certificate in certificates[1:-1]:
        builder = builder.add_intermediate_certificate(certificate)
    try:
        builder.build().verify_message(response, signature)
    except NotByThisError:
        return False
    return True

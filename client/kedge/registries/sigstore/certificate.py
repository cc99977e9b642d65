"""A Fulcio certificate: that a trusted authority issued it, that a certificate log saw it, and whom it names.

A signing certificate lives ten minutes. So everything is judged at the time of signing that somebody signed: the
certificate's own window, the authority's window in the trusted root, and that of the certificate log.

The claims come from the token that the build presented to Fulcio: who ran is said by the build's *service*, not by the
build. Certificates from before 2023-05 carry fewer of them, under older numbers.

Sources: RFC 5280, RFC 6962 §3.2 and §3.3 (what a certificate log signs), Fulcio ``oid-info.md``.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from kedge.documents import format_time
from kedge.errors import Reason, VerificationError
from kedge.registries import KeySet
from kedge.registries.sigstore.bundle import Part, parsing, refuse
from kedge.registries.sigstore.registry import CERTIFICATE_LOG, authority_id, verify_by_log
from kedge.registries.sigstore.trustedroot import Authority, TrustedRoot

if TYPE_CHECKING:
    from cryptography.x509 import Certificate
    from cryptography.x509.verification import Store


GITHUB = "https://token.actions.githubusercontent.com"
_FULCIO = "1.3.6.1.4.1.57264.1."


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Whom a certificate names: ``subject`` in the words of ``issuer``, who vouches for it.

    The rest is what a build's service says of the build; None where the certificate does not say it. ``workflow`` is a
    URL with the ref it ran at, ``commit`` that of the source repository.
    """

    issuer: str
    subject: str
    repository: str | None = None
    commit: str | None = None
    ref: str | None = None
    workflow: str | None = None
    runner: str | None = None
    run: str | None = None


class CertificateJudge:
    """Judges signing certificates by one trusted root; ``keys`` are the same document as keys, with what is revoked."""

    def __init__(self, root: TrustedRoot, keys: KeySet) -> None:
        """Load the authorities' certificates."""
        from cryptography.x509 import load_der_x509_certificate
        from cryptography.x509.verification import Store

        self._keys = keys
        self._known = {der for authority in root.issuers for der in authority.certificates}
        self._issuers: list[tuple[Authority, Store]] = [
            (authority, Store([load_der_x509_certificate(der) for der in authority.certificates]))
            for authority in root.issuers
        ]

    def judge(self, der: bytes, beside: tuple[bytes, ...], at: tuple[datetime, ...]) -> tuple[Certificate, Identity]:
        """Check a signing certificate at every time in ``at``, and say whom it names.

        ``beside`` are the other certificates that the bundle holds: nothing hangs on them, so they must be known ones.

        Raises:
            VerificationError: it was not issued by a trusted authority, not in time, or no certificate log saw it.
            StoreError: this machine cannot check signatures by the certificate log's key.
        """
        with parsing(Part.CERTIFICATE):
            return self._judge(der, beside, at)

    def _judge(self, der: bytes, beside: tuple[bytes, ...], at: tuple[datetime, ...]) -> tuple[Certificate, Identity]:
        """The same; cryptography reads a certificate's parts when they are used, and fails as late as that."""
        from cryptography.x509 import load_der_x509_certificate

        certificate = load_der_x509_certificate(der)
        identity = _identity(certificate)
        if not self._known.issuperset(beside):
            raise refuse(Part.CERTIFICATE, "its chain names an authority that the trusted root does not hold")
        for moment in at:
            _require_in_time(certificate, moment)
        issuers = [self._issuer_at(certificate, moment) for moment in at]
        _require_signing_use(certificate)
        self._require_logged(certificate, issuers[0])
        return certificate, identity

    def _issuer_at(self, certificate: Certificate, moment: datetime) -> Certificate:
        """The certificate of the authority that issued this one, and was trusted at that moment."""
        late: Authority | None = None
        for authority, store in self._issuers:
            issuer = _issued_by(certificate, store, moment)
            if issuer is None:
                continue
            if not authority.covers(moment):
                late = authority
                continue
            if authority_id(authority) in self._keys.revoked:
                problem = f"was issued by {authority.uri}, which was revoked: nothing that it issued is accepted"
                raise refuse(Part.CERTIFICATE, problem, reason=Reason.REVOKED_KEY)
            return issuer
        if late is not None:
            problem = f"was issued by {late.uri}, which was not to be trusted at {format_time(moment)}"
            raise refuse(Part.CERTIFICATE, problem, reason=Reason.OUTSIDE_VALIDITY)
        problem = "was not issued by an authority of the trusted root, or was changed"
        raise refuse(Part.CERTIFICATE, problem, reason=Reason.UNKNOWN_KEY)

    def _require_logged(self, certificate: Certificate, issuer: Certificate) -> None:
        """Check the certificate log's own signature inside the certificate (RFC 6962 §3.3)."""
        from cryptography.x509 import ExtensionNotFound, PrecertificateSignedCertificateTimestamps

        try:
            found = certificate.extensions.get_extension_for_class(PrecertificateSignedCertificateTimestamps).value
        except ExtensionNotFound:
            raise refuse(Part.CERTIFICATE_TIME, "is missing: no certificate log saw this certificate") from None
        if len(found) != 1:
            raise refuse(Part.CERTIFICATE_TIME, f"must be one, not {len(found)}")
        (promise,) = found
        at = promise.timestamp.replace(tzinfo=UTC)
        entry = certificate.tbs_precertificate_bytes
        message = b"".join(
            (
                b"\x00\x00",  # version 1, a certificate's timestamp
                (round(at.timestamp() * 1000)).to_bytes(8, "big"),
                b"\x00\x01",  # an entry of a precertificate
                hashlib.sha256(_public_bytes(issuer)).digest(),
                len(entry).to_bytes(3, "big") + entry,
                len(promise.extension_bytes).to_bytes(2, "big") + promise.extension_bytes,
            )
        )
        keyid = base64.b64encode(promise.log_id).decode("ascii")
        try:
            verify_by_log(self._keys, keyid, message, promise.signature, usage=CERTIFICATE_LOG, at=at)
        except VerificationError as error:
            raise refuse(Part.CERTIFICATE_TIME, error.message, reason=error.refusal.reason) from error


def _issued_by(certificate: Certificate, store: Store, moment: datetime) -> Certificate | None:
    from cryptography.x509 import ExtendedKeyUsage, UnsupportedGeneralNameType
    from cryptography.x509.verification import Criticality, ExtensionPolicy, PolicyBuilder, VerificationError

    # The usual policies for the web ask for authenticating clients; Fulcio's certificates are for signing code.
    authority = ExtensionPolicy.webpki_defaults_ca().may_be_present(ExtendedKeyUsage, Criticality.NON_CRITICAL, None)
    signer = ExtensionPolicy.webpki_defaults_ee().may_be_present(ExtendedKeyUsage, Criticality.NON_CRITICAL, None)
    builder = PolicyBuilder().store(store).time(moment)
    verifier = builder.extension_policies(ca_policy=authority, ee_policy=signer).build_client_verifier()
    try:
        return verifier.verify(certificate, []).chain[1]
    except (VerificationError, UnsupportedGeneralNameType):
        return None


def _require_in_time(certificate: Certificate, moment: datetime) -> None:
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not start <= moment <= end:
        window = f"{format_time(start)} to {format_time(end)}"
        problem = f"was valid from {window}, and this was signed at {format_time(moment)}"
        raise refuse(
            Part.CERTIFICATE, problem, reason=Reason.OUTSIDE_VALIDITY, expected=window, found=format_time(moment)
        )


def _require_signing_use(certificate: Certificate) -> None:
    from cryptography.x509 import ExtendedKeyUsage, ExtensionNotFound, KeyUsage
    from cryptography.x509.oid import ExtendedKeyUsageOID

    try:
        usage = certificate.extensions.get_extension_for_class(KeyUsage).value
        purposes = certificate.extensions.get_extension_for_class(ExtendedKeyUsage).value
    except ExtensionNotFound:
        raise refuse(Part.CERTIFICATE, "does not say that it is for signing code") from None
    if not usage.digital_signature or ExtendedKeyUsageOID.CODE_SIGNING not in purposes:
        raise refuse(Part.CERTIFICATE, "is not for signing code")


def _public_bytes(certificate: Certificate) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _identity(certificate: Certificate) -> Identity:
    claims = dict(_claims(certificate))
    issuer = claims.get("8") or claims.get("1") or ""
    repository, ref = claims.get("12"), claims.get("14") or claims.get("6")
    if repository is None and issuer == GITHUB and "5" in claims:
        repository = f"https://github.com/{claims['5']}"
    subject = _subject(certificate)
    return Identity(
        issuer=issuer,
        subject=subject,
        repository=repository,
        commit=claims.get("13") or claims.get("3"),
        ref=ref,
        workflow=claims.get("18") or (subject if issuer == GITHUB else None),
        runner=claims.get("11"),
        run=claims.get("21"),
    )


def _claims(certificate: Certificate) -> Iterator[tuple[str, str]]:
    """Fulcio's claims by the last part of their numbers: texts as they are up to 6, as DER from 8 on."""
    from cryptography.x509 import UnrecognizedExtension

    for extension in certificate.extensions:
        name = extension.oid.dotted_string
        if name.startswith(_FULCIO) and isinstance(extension.value, UnrecognizedExtension):
            which, value = name.removeprefix(_FULCIO), extension.value.value
            if which in {"1", "2", "3", "4", "5", "6"}:
                yield which, value.decode()
            elif value[:1] == b"\x0c":
                yield which, _der_text(value).decode()


def _der_text(value: bytes) -> bytes:
    """What a DER UTF8String holds.

    Raises:
        ValueError: it is not one, of fewer than 64 KiB.
    """
    size, start = value[1] if len(value) > 1 else 0, 2
    if size > 0x7F:
        count = size & 0x7F
        size, start = int.from_bytes(value[2 : 2 + count], "big"), 2 + count
    if start > 4 or len(value) != start + size:
        raise ValueError("a claim is no text")
    return value[start:]


def _subject(certificate: Certificate) -> str:
    """The one name that the certificate is for: a URI, an e-mail address, or Fulcio's own form of a name."""
    from cryptography.x509 import ExtensionNotFound, OtherName, RFC822Name, SubjectAlternativeName
    from cryptography.x509 import UniformResourceIdentifier as Uri

    try:
        names = list(certificate.extensions.get_extension_for_class(SubjectAlternativeName).value)
    except ExtensionNotFound:
        names = []
    if len(names) != 1:
        raise ValueError(f"must name one subject, not {len(names)}")
    (name,) = names
    if isinstance(name, Uri | RFC822Name):
        return name.value
    if isinstance(name, OtherName):
        return _der_text(name.value).decode()
    raise ValueError("names its subject in a way that Fulcio does not")

"""Sigstore's ``trusted_root.json``: the logs, certificate authorities and time-stampers that a verifier believes.

The document is Sigstore's own, byte for byte. It arrives verified by TUF and is read strictly all the same. What nobody
here knows is left alone, and a key of an algorithm that this kedge cannot check is kept: whoever needs it is told so.

Everything in it has a window on the time of *signing*. What has ended stays in the document, for what was signed then.

Source: Sigstore protobuf-specs ``TrustedRoot`` in ProtoJSON (``sigstore_trustroot.proto``).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from kedge.documents import DocumentError, Fields, load_json
from kedge.registries import ALGORITHMS, load_public_key, parser_errors
from kedge.registries.sigstore.bundle import base64_bytes, without_nulls

MEDIA_TYPES = (
    "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
    "application/vnd.dev.sigstore.trustedroot.v0.1+json",
    "application/vnd.dev.sigstore.trustedroot.v0.2+json",
)
"""The forms that are read; the first is what every client reads that was tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """A log and the key that it signs with. ``id`` is what entries call it: opaque bytes."""

    id: bytes
    url: str
    algorithm: str
    material: bytes
    valid_from: datetime | None
    valid_until: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """A certificate authority: its certificates (DER), the one that issues first, the root last."""

    uri: str
    certificates: tuple[bytes, ...]
    valid_from: datetime | None
    valid_until: datetime | None

    def covers(self, moment: datetime) -> bool:
        """Whether this authority was to be believed at ``moment``; both ends of its window belong to it."""
        early = self.valid_from is not None and moment < self.valid_from
        late = self.valid_until is not None and moment > self.valid_until
        return not early and not late


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedRoot:
    """The document: transparency logs, those of certificates, the issuers of certificates, and the time-stampers."""

    media_type: str
    logs: tuple[Log, ...]
    certificate_logs: tuple[Log, ...]
    issuers: tuple[Authority, ...]
    timestampers: tuple[Authority, ...]

    @classmethod
    def from_bytes(cls, data: bytes) -> TrustedRoot:
        """Read the document.

        Raises:
            DocumentError: it is not one; the path leads to the fault.
            StoreError: this machine's cryptography cannot read keys of a kind that kedge knows.
        """
        fields = Fields(without_nulls(load_json(data)))
        media_type = fields.text("mediaType")
        if media_type not in MEDIA_TYPES:
            fields.fail("mediaType", f"must be {MEDIA_TYPES[0]}, or a newer form of it that this kedge knows")
        return cls(
            media_type=media_type,
            logs=_logs(fields, "tlogs"),
            certificate_logs=_logs(fields, "ctlogs"),
            issuers=_authorities(fields, "certificateAuthorities"),
            timestampers=_authorities(fields, "timestampAuthorities"),
        )


def _logs(fields: Fields, name: str) -> tuple[Log, ...]:
    return tuple(_log(entry) for entry in (fields.tables(name) if name in fields else ()))


def _log(fields: Fields) -> Log:
    public = fields.table("publicKey")
    algorithm = public.text("keyDetails", pattern="[A-Z][A-Z0-9_]{0,99}", expected="a name such as PKIX_ED25519")
    material = base64_bytes(public, "rawBytes")
    if algorithm in ALGORITHMS:
        try:
            load_public_key(material, algorithm)
        except parser_errors() as error:
            public.fail("rawBytes", str(error))
    valid_from, valid_until = _window(public)
    return Log(
        id=base64_bytes(fields.table("logId"), "keyId"),
        url=fields.optional("baseUrl", fields.text) or "",
        algorithm=algorithm,
        material=material,
        valid_from=valid_from,
        valid_until=valid_until,
    )


def _authorities(fields: Fields, name: str) -> tuple[Authority, ...]:
    return tuple(_authority(entry) for entry in (fields.tables(name) if name in fields else ()))


def _authority(fields: Fields) -> Authority:
    chain = fields.table("certChain")
    certificates = tuple(_certificate(entry) for entry in chain.tables("certificates"))
    if not certificates:
        chain.fail("certificates", "must not be empty")
    valid_from, valid_until = _window(fields)
    uri = fields.optional("uri", fields.text) or ""
    return Authority(uri=uri, certificates=certificates, valid_from=valid_from, valid_until=valid_until)


def _certificate(fields: Fields) -> bytes:
    from cryptography.x509 import load_der_x509_certificate

    data = base64_bytes(fields, "rawBytes")
    try:
        load_der_x509_certificate(data)
    except parser_errors() as error:
        raise DocumentError(fields.at("rawBytes"), "must be an X.509 certificate (DER)") from error
    return data


def _window(fields: Fields) -> tuple[datetime | None, datetime | None]:
    if "validFor" not in fields:
        return None, None
    window = fields.table("validFor")
    start, end = window.optional("start", window.time), window.optional("end", window.time)
    if start is not None and end is not None and end <= start:
        window.fail("end", "must be later than start")
    return start, end

"""A Sigstore bundle, versions 0.1 to 0.3, as a value: what was signed, by whom it says, and what shows when.

Strict where a verifier could be led astray: exactly one log entry, exactly one signature, canonical base64, one way to
name the signer. What a version asks for must be there:

- 0.1: a promise of the log (signed entry timestamp); an inclusion proof may stand beside it, also without checkpoint.
- 0.2 and 0.3: an inclusion proof with a checkpoint, and a promise or a signed timestamp, since a time is needed.
- 0.3: the signing certificate alone. Before that a chain, whose first certificate signs.

Source: Sigstore protobuf-specs ``sigstore_bundle.proto``, ``sigstore_rekor.proto``; DSSE 1.0.2.

What can be wrong with a bundle, by the meaning of what is wrong: the words that a refusal begins with.

Readers for what ProtoJSON allows and plain JSON documents of ours do not: nulls, numbers as texts, base64.

A null is an absent field, and a 64-bit number is a text. Base64 is taken in its one canonical form: of two texts for
the same bytes one is refused, so that no character of a document can be altered unseen.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from kedge.documents import DocumentError, Fields, load_json
from kedge.errors import Reason, Refusal, VerificationError
from kedge.registries import parser_errors


class Part(StrEnum):
    """The parts of a signed bundle. The values stand in messages and in ``--json``."""

    BUNDLE = "bundle"
    CERTIFICATE = "signing certificate"
    CERTIFICATE_TIME = "certificate's log entry"
    SIGNER = "signer's key"
    SIGNATURE = "signature"
    LOG_ENTRY = "log entry"
    LOG_TIME = "log's time"
    INCLUSION = "inclusion proof"
    CHECKPOINT = "log's checkpoint"
    TIMESTAMP = "signed timestamp"
    PAYLOAD_TYPE = "payload type"
    STATEMENT = "statement"
    SUBJECT = "subject"
    DIGEST = "subject's digest"
    IDENTITY = "identity"
    SOURCE = "source"


def refuse(
    part: Part, problem: str, *, reason: Reason = Reason.BAD_SIGNATURE, expected: str | None = None, found: str = ""
) -> VerificationError:
    """Make a refusal that names the part (in ``refusal.role``) and what is wrong with it."""
    refusal = Refusal(reason=reason, role=part.value, expected=expected, found=found or None)
    return VerificationError(f"{part.value}: {problem}", refusal=refusal)


def part_of(error: VerificationError) -> str | None:
    """The part that a refusal names."""
    return error.refusal.role


@contextmanager
def reading(part: Part) -> Iterator[None]:
    """Blame what cannot be read on whoever served the bundle.

    Raises:
        VerificationError: the block raised ``DocumentError``; the reason is ``malformed``.
    """
    try:
        yield
    except DocumentError as error:
        raise refuse(part, str(error), reason=Reason.MALFORMED, expected=error.problem, found=error.path) from error


@contextmanager
def parsing(part: Part, what: str = "") -> Iterator[None]:
    """Refuse ``part`` where a parser that is not ours fails over its bytes, whatever that parser ends in.

    Raises:
        VerificationError: the block failed in one of the errors of parsers; the reason is ``malformed``.
    """
    try:
        yield
    except parser_errors() as error:
        text = f"{what} cannot be read".strip()
        raise refuse(part, text, reason=Reason.MALFORMED, found=f"{type(error).__name__}: {error}"[:300]) from error


_LAST_SECOND = 253_402_300_799  # the end of the year 9999, the last that a datetime holds


def without_nulls(value: Any) -> Any:
    """Take every field out of a parsed document whose value is null."""
    if isinstance(value, dict):
        return {name: without_nulls(item) for name, item in value.items() if item is not None}
    if isinstance(value, list):
        return [without_nulls(item) for item in value]
    return value


def base64_bytes(fields: Fields, name: str) -> bytes:
    """The bytes that a field holds in canonical base64.

    Raises:
        DocumentError: it holds something else, or nothing.
    """
    text = fields.text(name)
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        fields.fail(name, "must be base64")
    if base64.b64encode(data).decode("ascii") != text:
        fields.fail(name, "must be base64 in its canonical form, without stray bits at its end")
    return data


def number(fields: Fields, name: str) -> int:
    """A 64-bit number: a text of digits, or a plain number.

    Raises:
        DocumentError: it is none, or has more than 15 digits.
    """
    try:
        return fields.integer(name)
    except ValueError:
        return int(fields.text(name, pattern="0|[1-9][0-9]{0,14}", expected="a number of at most 15 digits"))


def unix_time(fields: Fields, name: str) -> datetime | None:
    """A time in seconds since 1970; None for 0, which ProtoJSON writes for a time that is not set.

    Raises:
        DocumentError: it is no such time.
    """
    seconds = number(fields, name)
    if seconds > _LAST_SECOND:
        fields.fail(name, "is later than the year 9999")
    return datetime.fromtimestamp(seconds, UTC) if seconds else None


_MEDIA_TYPE = re.compile(r"application/vnd\.dev\.sigstore\.bundle(?:\+json;version=(0\.[123])|\.v(0\.3)\+json)")
_EXPECTED = "application/vnd.dev.sigstore.bundle.v0.3+json, or that of version 0.1 or 0.2"
DIGESTS = {"SHA2_256": "sha256", "SHA2_384": "sha384", "SHA2_512": "sha512"}
"""The digests that bundles and entries may name, and what hashlib calls them."""
MAX_BUNDLES = 64
MAX_HASHES = 64
MAX_TIMESTAMPS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class InclusionProof:
    """The path from an entry to a root hash, and the log's signed statement of that root (None: it has none)."""

    index: int
    size: int
    root_hash: bytes
    hashes: tuple[bytes, ...]
    checkpoint: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry of a transparency log. ``promise`` is the log's signature over ``body`` and ``integrated_at``."""

    log_id: bytes
    index: int
    kind: str
    version: str
    integrated_at: datetime | None
    promise: bytes | None
    proof: InclusionProof | None
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """A DSSE envelope with its one signature."""

    payload_type: str
    payload: bytes
    keyid: str
    signature: bytes

    @property
    def signed_bytes(self) -> bytes:
        """What the signature is over: DSSE's pre-authentication encoding."""
        kind = self.payload_type.encode()
        return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(self.payload), self.payload)


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageSignature:
    """A signature over a file; ``digest`` is what the bundle says of it, ``algorithm`` names its hash."""

    signature: bytes
    digest: bytes | None
    algorithm: str = "sha256"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A bundle. The signer is named by ``certificate`` (DER) or by ``hint``, the keyid of a key that is known.

    ``chain`` are further certificates that stand in it, ``timestamps`` are RFC 3161 responses.
    """

    version: str
    certificate: bytes | None
    chain: tuple[bytes, ...]
    hint: str | None
    entry: Entry
    timestamps: tuple[bytes, ...]
    content: Envelope | MessageSignature

    @classmethod
    def from_bytes(cls, data: bytes) -> Bundle:
        """Read a bundle.

        Raises:
            DocumentError: it is none, or not as its version asks for; the path leads to the fault.
        """
        return cls.from_value(load_json(data))

    @classmethod
    def from_value(cls, value: Any, path: str = "") -> Bundle:
        """Read a bundle that stands at ``path`` inside a document which has been parsed.

        Raises:
            DocumentError: as for :meth:`from_bytes`.
        """
        fields = Fields(without_nulls(value), path)
        match = _MEDIA_TYPE.fullmatch(fields.text("mediaType"))
        if match is None:
            fields.fail("mediaType", f"must be {_EXPECTED}")
        version = match[1] or match[2]
        material = fields.table("verificationMaterial")
        certificate, chain, hint = _signer(material, version)
        bundle = cls(
            version=version,
            certificate=certificate,
            chain=chain,
            hint=hint,
            entry=_one_entry(material),
            timestamps=_timestamps(material),
            content=_content(fields),
        )
        _require_evidence(bundle, material)
        return bundle


def read_bundles(data: bytes) -> tuple[Bundle, ...]:
    """Read a bundle, or several, one per line, as ``gh attestation download`` writes them.

    Raises:
        DocumentError: it is none, or one of the lines is none; cosign's former format is named.
    """
    lines = [line for line in data.splitlines() if line.strip()]
    if len(lines) < 2 or not all(line.lstrip().startswith(b"{") and line.rstrip().endswith(b"}") for line in lines):
        return (_read_bundle(data, ""),)
    if len(lines) > MAX_BUNDLES:
        raise DocumentError("", f"must be at most {MAX_BUNDLES} bundles, not {len(lines)}")
    return tuple(_read_bundle(line, f"line {at}") for at, line in enumerate(lines, start=1))


def _read_bundle(data: bytes, path: str) -> Bundle:
    value = load_json(data)
    if isinstance(value, dict) and "base64Signature" in value and "mediaType" not in value:
        problem = (
            "is the former format of cosign's --bundle: sign again with --new-bundle-format, "
            "or convert it with cosign bundle create"
        )
        raise DocumentError(path, problem)
    return Bundle.from_value(value, path)


def read_entry(fields: Fields) -> Entry:
    """Read a log entry, as bundles and PyPI's attestations hold it.

    Raises:
        DocumentError: it is none.
    """
    kind = fields.table("kindVersion")
    promise = fields.table("inclusionPromise") if "inclusionPromise" in fields else None
    return Entry(
        log_id=base64_bytes(fields.table("logId"), "keyId"),
        index=number(fields, "logIndex") if "logIndex" in fields else 0,
        kind=kind.text("kind"),
        version=kind.text("version"),
        integrated_at=unix_time(fields, "integratedTime") if "integratedTime" in fields else None,
        promise=base64_bytes(promise, "signedEntryTimestamp") if promise is not None else None,
        proof=_proof(fields.table("inclusionProof")) if "inclusionProof" in fields else None,
        body=base64_bytes(fields, "canonicalizedBody"),
    )


def _proof(fields: Fields) -> InclusionProof:
    hashes = fields.texts("hashes") if "hashes" in fields else ()
    if len(hashes) > MAX_HASHES:
        fields.fail("hashes", f"must be at most {MAX_HASHES}")
    path = fields.at("hashes")
    checkpoint = fields.table("checkpoint") if "checkpoint" in fields else None
    return InclusionProof(
        index=number(fields, "logIndex") if "logIndex" in fields else 0,
        size=number(fields, "treeSize"),
        root_hash=base64_bytes(fields, "rootHash"),
        hashes=tuple(base64_bytes(Fields({str(at): text}, path), str(at)) for at, text in enumerate(hashes)),
        checkpoint=checkpoint.optional("envelope", checkpoint.text) if checkpoint is not None else None,
    )


def _signer(material: Fields, version: str) -> tuple[bytes | None, tuple[bytes, ...], str | None]:
    named = [name for name in ("certificate", "x509CertificateChain", "publicKey") if name in material]
    if len(named) != 1:
        found = " and ".join(named) or "nothing"
        material.fail(
            named[-1] if named else "certificate", f"must be the one thing that names the signer, not {found}"
        )
    if named == ["publicKey"]:
        return None, (), material.table("publicKey").text("hint")
    if named == ["certificate"]:
        return base64_bytes(material.table("certificate"), "rawBytes"), (), None
    if version == "0.3":
        material.fail("x509CertificateChain", "must not be there: version 0.3 holds the signing certificate alone")
    chain = material.table("x509CertificateChain")
    first, *rest = [base64_bytes(entry, "rawBytes") for entry in chain.tables("certificates")] or [b""]
    if not first:
        chain.fail("certificates", "must not be empty")
    return first, tuple(rest), None


def _one_entry(material: Fields) -> Entry:
    entries = material.tables("tlogEntries")
    if len(entries) != 1:
        material.fail("tlogEntries", f"must be exactly one entry of a log, not {len(entries)}")
    return read_entry(entries[0])


def _timestamps(material: Fields) -> tuple[bytes, ...]:
    if "timestampVerificationData" not in material:
        return ()
    data = material.table("timestampVerificationData")
    entries = data.tables("rfc3161Timestamps") if "rfc3161Timestamps" in data else []
    if len(entries) > MAX_TIMESTAMPS:
        data.fail("rfc3161Timestamps", f"must be at most {MAX_TIMESTAMPS}")
    return tuple(base64_bytes(entry, "signedTimestamp") for entry in entries)


def _content(fields: Fields) -> Envelope | MessageSignature:
    if ("dsseEnvelope" in fields) == ("messageSignature" in fields):
        fields.fail("dsseEnvelope", "must be there, or messageSignature, and not both")
    if "messageSignature" in fields:
        message = fields.table("messageSignature")
        digest = message.table("messageDigest") if "messageDigest" in message else None
        algorithm = digest.text("algorithm") if digest is not None else "SHA2_256"
        if digest is not None and algorithm not in DIGESTS:
            digest.fail("algorithm", f"must be one of {', '.join(DIGESTS)}")
        return MessageSignature(
            signature=base64_bytes(message, "signature"),
            digest=base64_bytes(digest, "digest") if digest is not None else None,
            algorithm=DIGESTS[algorithm],
        )
    envelope = fields.table("dsseEnvelope")
    signatures = envelope.tables("signatures")
    if len(signatures) != 1:
        envelope.fail("signatures", f"must be exactly one, not {len(signatures)}")
    return Envelope(
        payload_type=envelope.text("payloadType"),
        payload=base64_bytes(envelope, "payload"),
        keyid=signatures[0].text("keyid", empty=True) if "keyid" in signatures[0] else "",
        signature=base64_bytes(signatures[0], "sig"),
    )


def _require_evidence(bundle: Bundle, material: Fields) -> None:
    """Check that there is what a bundle of this version must have, and a time that somebody signed."""
    entry, place = bundle.entry, "tlogEntries"
    if bundle.version == "0.1" and entry.promise is None:
        material.fail(place, "must hold a promise of the log (inclusionPromise): version 0.1 asks for one")
    if bundle.version != "0.1" and (entry.proof is None or entry.proof.checkpoint is None):
        material.fail(place, f"must hold an inclusion proof with a checkpoint: version {bundle.version} asks for one")
    if entry.promise is not None and entry.integrated_at is None:
        material.fail(place, "must say when the log took it in (integratedTime): its promise is over that time")
    if entry.promise is None and entry.integrated_at is not None:
        material.fail(place, "states a time (integratedTime) that no promise of the log signs")
    if entry.promise is None and not bundle.timestamps:
        material.fail(place, "must hold a promise of the log, or there must be a signed timestamp: no time is signed")

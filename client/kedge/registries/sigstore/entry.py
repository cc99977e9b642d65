"""A transparency log's entry: that the log signed for it, when, and that it is about this bundle and no other.

The order: the log's promise over body and time; the path from the body to a root hash; the log's signature over that
root and its size; and last that the body names the very signature, signer and payload of the bundle. A log's key is
believed inside its window only, measured at the time that is signed.

Kinds of bodies: ``intoto`` 0.0.2 (what npm's were), ``dsse`` 0.0.1, ``hashedrekord`` 0.0.1, and ``hashedrekord`` 0.0.2
of the second generation of logs.

Sources: RFC 6962 §2.1 (Merkle trees), RFC 8785 (what a promise is over), C2SP ``signed-note`` and ``tlog-checkpoint``,
Rekor's type schemas.

Signed timestamps (RFC 3161): when a signature was made, by the word of a time-stamper of the trusted root.

Reading them takes the package ``rfc3161-client``, which the extra ``sigstore`` brings; it is imported when a bundle
holds one. Every timestamp of a bundle must be right: one that is not was changed.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from kedge.documents import format_time, load_json
from kedge.errors import Reason, StoreError, VerificationError, extra_hint
from kedge.registries import KeySet
from kedge.registries.sigstore.bundle import (
    DIGESTS,
    Bundle,
    Entry,
    Envelope,
    InclusionProof,
    MessageSignature,
    Part,
    parsing,
    reading,
    refuse,
)
from kedge.registries.sigstore.content import Content, Digest
from kedge.registries.sigstore.registry import LOG, authority_id, verify_by_log
from kedge.registries.sigstore.trustedroot import Authority, TrustedRoot
from kedge.tlog import Note, check_inclusion, leaf_hash

if TYPE_CHECKING:
    from rfc3161_client import TimeStampResponse


def check_log(entry: Entry, keys: KeySet, at: datetime) -> None:
    """Check that a log of ``keys`` signed for this entry; ``at`` is when, by the log's or a time-stamper's word.

    Raises:
        VerificationError: it did not, or its key is unknown, revoked or outside its time.
        StoreError: this machine cannot check signatures by that log's key.
    """
    keyid = base64.b64encode(entry.log_id).decode("ascii")
    if entry.promise is not None and entry.integrated_at is not None:
        message = _promised(entry, int(entry.integrated_at.timestamp()))
        _require_signed(keys, keyid, message, entry.promise, entry.integrated_at, Part.LOG_TIME, "the log's promise")
    elif entry.proof is not None and entry.index != entry.proof.index:
        problem = f"states index {entry.index}, and its proof is of index {entry.proof.index}"
        raise refuse(Part.LOG_ENTRY, problem, expected=str(entry.proof.index), found=str(entry.index))
    if entry.proof is not None:
        _check_inclusion(entry.body, entry.proof)
        if entry.proof.checkpoint is not None:
            _check_checkpoint(entry.proof, entry.proof.checkpoint, entry.log_id, keyid, keys, at)


def check_body(bundle: Bundle, signer: bytes, content: Content) -> None:
    """Check that the entry is about this bundle.

    ``signer`` is the certificate or the public key that signed (DER), ``content`` what the signature is over.

    Raises:
        VerificationError: it is about another one, or of a kind that this kedge does not know.
    """
    entry = bundle.entry
    with parsing(Part.LOG_ENTRY, "its body"):
        body = load_json(entry.body)
        kind, version, spec = body["kind"], body["apiVersion"], body["spec"]
    if (kind, version) != (entry.kind, entry.version):
        problem = f"is called {entry.kind} {entry.version}, and its body is {kind} {version}"
        raise refuse(Part.LOG_ENTRY, problem, expected=f"{kind} {version}", found=f"{entry.kind} {entry.version}")
    reader = _READERS.get((type(bundle.content), entry.kind, entry.version))
    if reader is None:
        problem = f"is of the kind {kind} {version}, which this kedge does not read for such a signature"
        raise refuse(Part.LOG_ENTRY, problem, reason=Reason.MALFORMED)
    with parsing(Part.LOG_ENTRY, f"its body, as a {kind} {version},"):
        stated = reader(spec)
    digest = stated.pop(Part.DIGEST, None)
    if isinstance(digest, Digest) and digest != content.digest(digest.algorithm):
        raise refuse(Part.DIGEST, "is not the one that the log took in", reason=Reason.CONTENT)
    wanted = _wanted(bundle, signer)
    for part, value in stated.items():
        if wanted[part] != value:
            raise refuse(part, "is not the one that the log took in", reason=Reason.CONTENT)


def _wanted(bundle: Bundle, signer: bytes) -> dict[Part, object]:
    """What an entry's body must say, if it is about this bundle."""
    content = bundle.content
    wanted: dict[Part, object] = {Part.SIGNATURE: content.signature, Part.CERTIFICATE: signer}
    if isinstance(content, Envelope):
        wanted[Part.SIGNER] = content.keyid
        wanted[Part.PAYLOAD_TYPE] = content.payload_type
        wanted[Part.STATEMENT] = hashlib.sha256(content.payload).digest()
    return wanted


def _promised(entry: Entry, seconds: int) -> bytes:
    """The canonical JSON that a promise is over; the values hold nothing that would need escaping."""
    table = {
        "body": base64.b64encode(entry.body).decode("ascii"),
        "integratedTime": seconds,
        "logID": entry.log_id.hex(),
        "logIndex": entry.index,
    }
    return json.dumps(table, separators=(",", ":"), sort_keys=True).encode("ascii")


def _require_signed(
    keys: KeySet, keyid: str, message: bytes, signature: bytes, at: datetime, part: Part, what: str
) -> None:
    try:
        verify_by_log(keys, keyid, message, signature, usage=LOG, at=at)
    except VerificationError as error:
        if error.refusal.reason is Reason.BAD_SIGNATURE:
            problem = f"{what} is not signed by the log {keyid} over what stands here"
        else:
            problem = f"the log's key is not to be believed: {error.message}"
        raise refuse(part, problem, reason=error.refusal.reason, found=error.refusal.found or "") from error


def _check_inclusion(body: bytes, proof: InclusionProof) -> None:
    leaf = leaf_hash(body)
    try:
        check_inclusion(leaf, index=proof.index, size=proof.size, proof=proof.hashes, root=proof.root_hash, file="it")
    except VerificationError as error:
        problem = "does not lead from this entry to the root hash that it names"
        raise refuse(Part.INCLUSION, problem, found=error.message) from error


def _check_checkpoint(proof: InclusionProof, text: str, log_id: bytes, keyid: str, keys: KeySet, at: datetime) -> None:
    """Check the log's signed statement of its size and root hash, and that the proof is for that tree."""
    with reading(Part.CHECKPOINT):
        note = Note.from_bytes(text.encode())
    lines = note.text.split("\n")
    name = lines[0].partition(" - ")[0]
    signed = [each for each in note.signatures if each.name == name and each.key_id == log_id[:4]]
    if not signed:
        raise refuse(Part.CHECKPOINT, f"bears no signature by {name} with the key of the log {keyid}")
    for each in signed:
        what = "the statement of the tree's root"
        _require_signed(keys, keyid, note.text.encode(), each.signature, at, Part.CHECKPOINT, what)
    if lines[1:3] != [str(proof.size), base64.b64encode(proof.root_hash).decode("ascii")]:
        raise refuse(Part.INCLUSION, "is for another tree than the one whose root the log signed")


Stated = dict[Part, object]
"""What a body says of the parts of a bundle, as far as its kind says it. Signers are in DER."""


def _read_intoto(spec: Any) -> Stated:
    content = spec["content"]
    (signature,) = content["envelope"]["signatures"]
    return {
        Part.PAYLOAD_TYPE: content["envelope"]["payloadType"],
        Part.STATEMENT: _sha256(content["payloadHash"]),
        Part.SIGNER: signature.get("keyid", ""),
        Part.CERTIFICATE: _from_pem(signature["publicKey"]),
        Part.SIGNATURE: base64.b64decode(base64.b64decode(signature["sig"])),
    }


def _read_dsse(spec: Any) -> Stated:
    (signature,) = spec["signatures"]
    return {
        Part.STATEMENT: _sha256(spec["payloadHash"]),
        Part.CERTIFICATE: _from_pem(signature["verifier"]),
        Part.SIGNATURE: base64.b64decode(signature["signature"]),
    }


def _read_hashedrekord(spec: Any) -> Stated:
    return {
        Part.DIGEST: _digest(spec["data"]["hash"]),
        Part.CERTIFICATE: _from_pem(spec["signature"]["publicKey"]["content"]),
        Part.SIGNATURE: base64.b64decode(spec["signature"]["content"]),
    }


def _read_hashedrekord_v2(spec: Any) -> Stated:
    record = spec["hashedRekordV002"]
    algorithm = DIGESTS[record["data"]["algorithm"]]
    verifier = record["signature"]["verifier"]
    named = verifier["x509Certificate"] if "x509Certificate" in verifier else verifier["publicKey"]
    return {
        Part.DIGEST: Digest(algorithm=algorithm, value=base64.b64decode(record["data"]["digest"])),
        Part.CERTIFICATE: base64.b64decode(named["rawBytes"]),
        Part.SIGNATURE: base64.b64decode(record["signature"]["content"]),
    }


_READERS: dict[tuple[type, object, object], Callable[[Any], Stated]] = {
    (Envelope, "intoto", "0.0.2"): _read_intoto,
    (Envelope, "dsse", "0.0.1"): _read_dsse,
    (Envelope, "hashedrekord", "0.0.2"): _read_hashedrekord_v2,
    (MessageSignature, "hashedrekord", "0.0.1"): _read_hashedrekord,
    (MessageSignature, "hashedrekord", "0.0.2"): _read_hashedrekord_v2,
}


def _digest(stated: Any) -> Digest:
    if stated["algorithm"] not in DIGESTS.values():
        raise ValueError(stated["algorithm"])
    return Digest(algorithm=stated["algorithm"], value=bytes.fromhex(stated["value"]))


def _sha256(stated: Any) -> bytes:
    if stated["algorithm"] != "sha256":
        raise ValueError(stated["algorithm"])
    return bytes.fromhex(stated["value"])


def _from_pem(text: str) -> bytes:
    """The DER inside a PEM text that stands in base64."""
    lines = base64.b64decode(text).decode("ascii").split("\n")
    return base64.b64decode("".join(line for line in lines if not line.startswith("-----")))


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
        raise StoreError(text, hint=extra_hint("sigstore")) from error
    with parsing(Part.TIMESTAMP):
        return _judge_timestamp(decode_timestamp_response(data), signature, root, keys)


def _judge_timestamp(response: TimeStampResponse, signature: bytes, root: TrustedRoot, keys: KeySet) -> datetime:
    """The time of a timestamp whose parts rfc3161-client reads, and fails over, when they are used."""
    moment: datetime = response.tst_info.gen_time
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

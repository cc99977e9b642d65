"""Signed notes: a text, and lines of signatures below it (C2SP signed-note 1.0.0).

Three kinds of signature are read: Ed25519 over the text (what logs sign with), and the two timestamped cosignatures of
C2SP tlog-cosignature, Ed25519 and ML-DSA-44 (what witnesses sign with).

Invariants:

- A text counts for nothing until :func:`verify` has said who signed it.
- A key is known by its name *and* its id. A signature by anybody else is ignored, also where one of the two is right.
- A signature of a known key that does not verify refuses the whole note, as the specification asks: somebody changed
  it. (A witness of ours that is down is absent; it is never wrong.)
- What is read back is written as it was: :meth:`Note.to_bytes` gives the bytes that :meth:`Note.from_bytes` took.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum

from kedge.documents import DocumentError
from kedge.errors import Reason, Refusal, StoreError, VerificationError

MAX_NOTE_BYTES = 1_000_000
MAX_SIGNATURES = 100
MAX_TIME_S = 253_402_300_799  # the end of the year 9999: the last moment that can be written as a date
_DASH = "\N{EM DASH} "
_NAME = re.compile(r"[^\s+]+")


class SignatureKind(IntEnum):
    """What a key signs, by the type byte that C2SP assigned to it."""

    ED25519 = 0x01
    ED25519_COSIGNATURE = 0x04
    ML_DSA_44_COSIGNATURE = 0x06

    @property
    def has_time(self) -> bool:
        """Whether the signer says when it signed."""
        return self is not SignatureKind.ED25519


_KEY_BYTES = {
    SignatureKind.ED25519: 32,
    SignatureKind.ED25519_COSIGNATURE: 32,
    SignatureKind.ML_DSA_44_COSIGNATURE: 1_312,
}
_SIGNATURE_BYTES = {
    SignatureKind.ED25519: 64,
    SignatureKind.ED25519_COSIGNATURE: 8 + 64,
    SignatureKind.ML_DSA_44_COSIGNATURE: 8 + 2_420,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifierKey:
    """A public key with a name: what C2SP writes as a *vkey*, ``name+id+base64``. ``public`` is its raw encoding."""

    name: str
    kind: SignatureKind
    public: bytes

    @property
    def id(self) -> bytes:
        """The four bytes that stand before each signature of this key."""
        material = self.name.encode() + b"\n" + bytes((self.kind,)) + self.public
        return hashlib.sha256(material).digest()[:4]

    def to_text(self) -> str:
        """The key as a vkey."""
        material = base64.b64encode(bytes((self.kind,)) + self.public).decode("ascii")
        return f"{self.name}+{self.id.hex()}+{material}"

    @classmethod
    def from_text(cls, text: str) -> VerifierKey:
        """Read a vkey.

        Raises:
            DocumentError: the text is no vkey, or one of a kind that is not read here.
        """
        # A name holds no '+', but base64 does: only the first two separate.
        parts = text.split("+", 2)
        if len(parts) != 3 or _NAME.fullmatch(parts[0]) is None or not parts[0].isprintable():
            raise DocumentError("", "must be a verifier key such as example.com/log+0123abcd+base64")
        name, id_text, material = parts
        if re.fullmatch("[0-9a-f]{8}", id_text) is None:
            raise DocumentError("", f"{name}: the key id must be 8 lower-case hexadecimal digits")
        decoded = decode_base64(material, f"{name}: the key")
        kind = next((kind for kind in SignatureKind if decoded[:1] == bytes((kind,))), None)
        if kind is None:
            raise DocumentError("", f"{name}: is a key of type {decoded[:1].hex() or 'none'}, read are 01, 04 and 06")
        public = decoded[1:]
        if len(public) != _KEY_BYTES[kind]:
            raise DocumentError("", f"{name}: must hold a key of {_KEY_BYTES[kind]} bytes, not {len(public)}")
        key = cls(name=name, kind=kind, public=public)
        if key.id.hex() != id_text:
            raise DocumentError("", f"{name}: the key id must be {key.id.hex()}, which this name and key have")
        return key


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteSignature:
    """One line below a note: who claims to have signed, and the signature's bytes (with the time where it has one)."""

    name: str
    key_id: bytes
    signature: bytes

    def to_text(self) -> str:
        """The line, without its end."""
        return f"{_DASH}{self.name} {base64.b64encode(self.key_id + self.signature).decode('ascii')}"

    @classmethod
    def from_text(cls, line: str) -> NoteSignature:
        """Read one line, without its end.

        Raises:
            DocumentError: it is no such line.
        """
        name, space, encoded = line.removeprefix(_DASH).partition(" ")
        if not line.startswith(_DASH) or not space or _NAME.fullmatch(name) is None:
            raise DocumentError("", "a signature must be a line such as \N{EM DASH} name base64")
        decoded = decode_base64(encoded, f"the signature of {name}")
        if len(decoded) < 5:
            raise DocumentError("", f"the signature of {name} must hold a key id and a signature")
        return cls(name=name, key_id=decoded[:4], signature=decoded[4:])


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A text that ends in a newline, and its signatures, none of them checked yet."""

    text: str
    signatures: tuple[NoteSignature, ...]

    def to_bytes(self) -> bytes:
        """The note as it is served."""
        return "".join((self.text, "\n", *(f"{each.to_text()}\n" for each in self.signatures))).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Note:
        """Read a note; at least one signature must stand below it.

        Raises:
            DocumentError: the bytes are no signed note.
        """
        if len(data) > MAX_NOTE_BYTES:
            raise DocumentError("", f"is longer than the {MAX_NOTE_BYTES} bytes that a note may have")
        try:
            whole = data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise DocumentError("", f"is not UTF-8 (byte {error.start})") from error
        control = next((sign for sign in whole if sign < " " and sign != "\n"), None)
        if control is not None:
            raise DocumentError("", f"holds the control character U+{ord(control):04X}")
        # The last empty line separates: the text may hold others.
        text, blank, below = whole.rpartition("\n\n")
        if not blank or not text or not below.endswith("\n"):
            raise DocumentError("", "is no signed note: expected a text, an empty line, and lines of signatures")
        lines = below[:-1].split("\n")
        if len(lines) > MAX_SIGNATURES:
            raise DocumentError("", f"holds {len(lines)} signatures, at most {MAX_SIGNATURES} are read")
        return cls(text=f"{text}\n", signatures=tuple(map(NoteSignature.from_text, lines)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """A key whose signature is right, and the time that it signed with it (None for a kind that states none)."""

    key: VerifierKey
    time: datetime | None


def verify(note: Note, keys: Iterable[VerifierKey], *, file: str = "the note") -> tuple[Signed, ...]:
    """Give each of ``keys`` that signed the note, in the order of the signatures; each key counts once.

    Raises:
        VerificationError: none of the keys signed it (``signatures``), or one of them stands below it with a signature
            that is not right (``bad-signature``).
        StoreError: this machine's cryptography cannot check a signature of this kind.
    """
    known = {(key.name, key.id): key for key in keys}
    found: dict[VerifierKey, Signed] = {}
    for signature in note.signatures:
        key = known.get((signature.name, signature.key_id))
        if key is not None:
            signed = _check(note.text, signature, key, file)
            found.setdefault(key, signed)
    if not found:
        names = ", ".join(dict.fromkeys(key.name for key in known.values())) or "nobody"
        refusal = Refusal(reason=Reason.SIGNATURES, file=file, expected=f"a signature by {names}", found="none")
        raise VerificationError(f"{file}: is not signed by {names}", refusal=refusal)
    return tuple(found.values())


def decode_base64(text: str, what: str) -> bytes:
    """Decode canonical base64 with padding, and nothing beside it; ``what`` is its name in the message.

    Raises:
        DocumentError: the text is not that.
    """
    try:
        decoded = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise DocumentError("", f"{what} is not base64") from error
    # Bits that no byte takes up must be zero: one signature must not have several texts.
    if base64.b64encode(decoded).decode("ascii") != text:
        raise DocumentError("", f"{what} is not base64 as RFC 4648 §4 writes it")
    return decoded


def _check(text: str, signature: NoteSignature, key: VerifierKey, file: str) -> Signed:
    bad = VerificationError(
        f"{file}: the signature of {key.name} is not right",
        refusal=Refusal(reason=Reason.BAD_SIGNATURE, file=file, expected=f"a signature by {key.to_text()[:200]}"),
        hint="somebody changed the file after it was signed",
    )
    if len(signature.signature) != _SIGNATURE_BYTES[key.kind]:
        raise bad
    if not key.kind.has_time:
        if not _is_ed25519(key.public, signature.signature, text.encode()):
            raise bad
        return Signed(key=key, time=None)
    (seconds,) = struct.unpack(">Q", signature.signature[:8])
    raw = signature.signature[8:]
    if not 0 < seconds <= MAX_TIME_S:
        raise bad
    if key.kind is SignatureKind.ED25519_COSIGNATURE:
        right = _is_ed25519(key.public, raw, f"cosignature/v1\ntime {seconds}\n{text}".encode())
    else:
        message = _cosigned_message(key.name, text, seconds)
        right = message is not None and _is_ml_dsa_44(key.public, raw, message)
    if not right:
        raise bad
    return Signed(key=key, time=datetime.fromtimestamp(seconds, UTC))


def _cosigned_message(name: str, text: str, seconds: int) -> bytes | None:
    """What an ML-DSA-44 cosigner signs; None where the text is no checkpoint, which it never signs."""
    lines = text.split("\n")
    if len(lines) < 4 or re.fullmatch("0|[1-9][0-9]{0,18}", lines[1]) is None:
        return None
    cosigner, origin = name.encode(), lines[0].encode()
    try:
        root = decode_base64(lines[2], "the root hash")
    except DocumentError:
        return None
    if len(root) != 32 or not 0 < len(cosigner) < 256 or not 0 < len(origin) < 256:
        return None
    return b"".join(
        (
            b"subtree/v1\n\0",
            bytes((len(cosigner),)) + cosigner,
            struct.pack(">Q", seconds),
            bytes((len(origin),)) + origin,
            struct.pack(">QQ", 0, int(lines[1])),
            root,
        )
    )


def _is_ed25519(public: bytes, signature: bytes, message: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def _is_ml_dsa_44(public: bytes, signature: bytes, message: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey

    try:
        MLDSA44PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    except UnsupportedAlgorithm as error:
        raise StoreError(
            "the Python package cryptography on this machine cannot check ML-DSA-44 signatures",
            hint="upgrade cryptography; nothing is said about the signature",
        ) from error
    return True

"""Signed notes and verifier keys: the examples of the specification, both ways, and what must not pass."""

from __future__ import annotations

import base64
import struct
from datetime import UTC, datetime

import metamorphic_log
import pytest
import witness_log
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from kedge.documents import DocumentError
from kedge.errors import Reason, VerificationError
from kedge.tlog.note import Note, NoteSignature, SignatureKind, VerifierKey, verify

# The examples of C2SP signed-note.
VKEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
NOTE = """This is an example message.

— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=
"""
CHECKPOINT = f"log.example/keys\n1\n{base64.b64encode(bytes(32)).decode()}\n"


def vkey(private: Ed25519PrivateKey, name: str, kind: SignatureKind = SignatureKind.ED25519) -> VerifierKey:
    return VerifierKey(name=name, kind=kind, public=private.public_key().public_bytes_raw())


def signed(text: str, private: Ed25519PrivateKey, key: VerifierKey) -> NoteSignature:
    return NoteSignature(name=key.name, key_id=key.id, signature=private.sign(text.encode()))


def test_the_example_of_the_specification_verifies() -> None:
    key, note = VerifierKey.from_text(VKEY), Note.from_bytes(NOTE.encode())
    (found,) = verify(note, [key])
    assert (found.key, found.time) == (key, None)
    assert key.to_text() == VKEY
    assert note.to_bytes() == NOTE.encode()


def test_the_key_of_gos_checksum_database_is_read_with_a_plus_in_its_base64() -> None:
    text = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"
    key = VerifierKey.from_text(text)
    assert (key.name, key.id.hex(), key.to_text()) == ("sum.golang.org", "033de0ae", text)


def test_no_bit_of_a_note_can_be_changed() -> None:
    key = VerifierKey.from_text(VKEY)
    for position in range(len(NOTE.encode()) * 8):
        data = bytearray(NOTE.encode())
        data[position // 8] ^= 1 << position % 8
        with pytest.raises((DocumentError, VerificationError)):
            verify(Note.from_bytes(bytes(data)), [key])


def test_only_a_known_name_with_its_id_counts() -> None:
    private, stranger = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    key, other = vkey(private, "log.example"), vkey(stranger, "log.example")
    right, foreign = signed("text\n", private, key), signed("text\n", stranger, other)
    renamed = NoteSignature(name="log.other", key_id=right.key_id, signature=right.signature)
    assert [found.key for found in verify(Note(text="text\n", signatures=(foreign, right, right)), [key])] == [key]
    for lines in ((foreign,), (renamed,)):
        with pytest.raises(VerificationError, match=r"is not signed by log\.example") as caught:
            verify(Note(text="text\n", signatures=lines), [key])
        assert caught.value.refusal.reason is Reason.SIGNATURES


def test_a_wrong_signature_of_a_known_key_refuses_the_note_also_beside_right_ones() -> None:
    one, two = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    keys = [vkey(one, "one.example"), vkey(two, "two.example")]
    right, wrong = signed("text\n", one, keys[0]), signed("other\n", two, keys[1])
    with pytest.raises(VerificationError, match=r"the signature of two\.example is not right") as caught:
        verify(Note(text="text\n", signatures=(right, wrong)), keys)
    assert caught.value.refusal.reason is Reason.BAD_SIGNATURE
    assert len(verify(Note(text="text\n", signatures=(right, wrong)), keys[:1])) == 1  # a stranger's is ignored


def test_a_cosignature_says_when_and_its_time_is_signed() -> None:
    witness = witness_log.WitnessService.new("witness.example/w", bytes(range(32)), None, open_enrollment=True)
    private = Ed25519PrivateKey.generate()
    log = vkey(private, "log.example/keys")
    witness.add_log("log.example/keys", log.to_text())
    note = Note(text=CHECKPOINT, signatures=(signed(CHECKPOINT, private, log),))
    status, lines = witness.handle_add_checkpoint(f"old 0\n\n{note.to_bytes().decode()}", 1_790_000_000)
    assert status == 200, lines
    cosigner = VerifierKey.from_text(witness.vkey())
    line = NoteSignature.from_text(lines.removesuffix("\n"))
    whole = Note(text=CHECKPOINT, signatures=(*note.signatures, line))
    (found,) = verify(whole, [cosigner])
    assert found.time == datetime.fromtimestamp(1_790_000_000, UTC)
    metamorphic_log.verify_signed_note(whole.to_bytes().decode(), [log.to_text()])
    later = struct.pack(">Q", 1_790_000_001) + line.signature[8:]
    forged = NoteSignature(name=line.name, key_id=line.key_id, signature=later)
    with pytest.raises(VerificationError, match="is not right"):
        verify(Note(text=CHECKPOINT, signatures=(forged,)), [cosigner])


def test_a_cosignature_of_ml_dsa_44_is_over_origin_size_root_and_time() -> None:
    private = MLDSA44PrivateKey.generate()
    kind = SignatureKind.ML_DSA_44_COSIGNATURE
    key = VerifierKey(name="witness.example/pq", kind=kind, public=private.public_key().public_bytes_raw())
    time = struct.pack(">Q", 1_790_000_000)
    # tlog-cosignature: label, cosigner, timestamp, origin, start, end, hash
    message = b"subtree/v1\n\0" + b"\x12witness.example/pq" + time + b"\x10log.example/keys"
    message += struct.pack(">QQ", 0, 1) + bytes(32)
    line = NoteSignature(name=key.name, key_id=key.id, signature=time + private.sign(message))
    (found,) = verify(Note(text=CHECKPOINT, signatures=(line,)), [VerifierKey.from_text(key.to_text())])
    assert found.time == datetime.fromtimestamp(1_790_000_000, UTC)
    for other in (CHECKPOINT.replace("\n1\n", "\n2\n"), CHECKPOINT.replace("keys", "kids"), "no checkpoint\n"):
        with pytest.raises(VerificationError, match="is not right"):
            verify(Note(text=other, signatures=(line,)), [key])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("example.com", "must be a verifier key"),
        ("a b+530d903a+AA==", "must be a verifier key"),
        (VKEY.replace("530d903a", "530D903A"), "8 lower-case hexadecimal digits"),
        (VKEY.replace("530d903a", "530d903b"), "the key id must be 530d903a"),
        (VKEY[:-4], "must hold a key of 32 bytes, not 29"),
        (VKEY + "=", "is not base64"),
        ("a+00000000+Ag==", "is a key of type 02"),
        ("a+00000000+", "is a key of type none"),
    ],
)
def test_what_is_no_verifier_key_is_refused(text: str, problem: str) -> None:
    with pytest.raises(DocumentError, match=problem):
        VerifierKey.from_text(text)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "is no signed note"),
        (b"text\n\n", "is no signed note"),
        (b"text\n\nexample.com AAAAAA==\n", "a signature must be a line"),
        (b"text\n" + NOTE.encode().split(b"\n\n")[1], "is no signed note"),
        (NOTE.encode()[:-1], "is no signed note"),
        (NOTE.encode().replace(b" example message", b"\texample"), r"control character U\+0009"),
        (NOTE.encode() + b"\xff", "is not UTF-8"),
        (NOTE.encode().replace(b"QM=", b"QN="), "is not base64 as RFC 4648"),
        (NOTE.encode() + b"x" * 1_000_001, "is longer than the 1000000 bytes"),
        (b"t\n\n" + NOTE.encode().split(b"\n\n")[1] * 101, "holds 101 signatures"),
        ("t\n\n— a AAAAAA==\n".encode(), "must hold a key id and a signature"),
    ],
)
def test_what_is_no_note_is_refused(data: bytes, problem: str) -> None:
    with pytest.raises(DocumentError, match=problem):
        Note.from_bytes(data)

"""Every bit of a checkpoint, a proof and a tile is changed, one at a time: none of it is accepted."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from witness_log import WitnessService

from kedge.client.keylog.entries import RoleLeaf
from kedge.client.keylog.follow import Head, View, Wanted, prove
from kedge.documents import DocumentError
from kedge.errors import KedgeError, VerificationError
from kedge.tlog.checkpoint import LogProof, check_checkpoint, write_body
from kedge.tlog.note import Note, NoteSignature, SignatureKind, VerifierKey
from kedge.tlog.policy import LogPolicy
from kedge_repo.publish.log_writer import LogBook

ENTRIES = tuple(RoleLeaf.of("role", number, b"").to_bytes() for number in range(1, 6))
BOOK = LogBook(ENTRIES)


def signed() -> tuple[bytes, LogPolicy]:
    """A checkpoint with a log's signature and a real witness's, both of which its policy asks for."""
    private = Ed25519PrivateKey.generate()
    key = VerifierKey(name="log.example", kind=SignatureKind.ED25519, public=private.public_key().public_bytes_raw())
    witness = WitnessService.new("witness.example", bytes(32))
    witness.add_log(key.name, key.to_text())
    body = write_body(key.name, BOOK.size, BOOK.tree.root())
    line = NoteSignature(name=key.name, key_id=key.id, signature=private.sign(body.encode()))
    note = Note(text=body, signatures=(line,))
    status, answer = witness.handle_add_checkpoint(f"old 0\n\n{note.to_bytes().decode()}", 1_790_000_000)
    assert status == 200
    policy = LogPolicy.from_bytes(f"log {key.to_text()}\nwitness w {witness.vkey()}\nquorum w\n".encode())
    return note.to_bytes() + answer.encode(), policy


CHECKPOINT, POLICY = signed()


def each_bit_changed(data: bytes) -> Iterator[bytes]:
    for position in range(len(data) * 8):
        changed = bytearray(data)
        changed[position // 8] ^= 1 << position % 8
        yield bytes(changed)


def accepted(check: Callable[[bytes], object], data: bytes) -> list[bytes]:
    passed: list[bytes] = []
    for changed in each_bit_changed(data):
        with contextlib.suppress(KedgeError, DocumentError):
            check(changed)
            passed.append(changed)
    return passed


def test_no_bit_of_a_checkpoint_can_be_changed() -> None:
    check_checkpoint(CHECKPOINT, POLICY)
    assert accepted(lambda data: check_checkpoint(data, POLICY), CHECKPOINT) == []


@pytest.mark.parametrize("index", [0, 4])
def test_no_bit_of_a_proof_can_be_changed(index: int) -> None:
    proof = LogProof(index=index, hashes=tuple(BOOK.tree.inclusion(index)), checkpoint=CHECKPOINT)
    leaf = BOOK.hashes[index]

    def check(data: bytes) -> None:
        LogProof.from_bytes(data).check(leaf, POLICY)

    check(proof.to_bytes())
    head = proof.to_bytes().removesuffix(CHECKPOINT)  # the checkpoint's own bits are the other test's
    assert accepted(lambda data: check(data + CHECKPOINT), head) == []


def test_no_bit_of_a_tile_can_be_changed() -> None:
    ((path, tile),) = [(path, data) for path, data in BOOK.files().items() if "entries" not in path]
    witnessed = check_checkpoint(CHECKPOINT, POLICY)

    def check(data: bytes) -> None:
        view = View(policy=POLICY.data, checkpoint=CHECKPOINT, tiles={path: data})
        for _ in prove(Head(view=view, witnessed=witnessed), [Wanted(ENTRIES[2], "the role")]):
            raise AssertionError("everything is here")

    check(tile)
    assert accepted(check, tile) == []


@pytest.mark.parametrize("entry", [b"another", ENTRIES[2] + b" "])
def test_another_entry_is_not_in_the_log(entry: bytes) -> None:
    view = View(policy=POLICY.data, checkpoint=CHECKPOINT, tiles=BOOK.files())
    head = Head(view=view, witnessed=check_checkpoint(CHECKPOINT, POLICY))
    with pytest.raises(VerificationError, match="what it is is not in the log"):
        list(prove(head, [Wanted(entry, "what it is")]))

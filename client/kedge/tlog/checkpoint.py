"""A log's checkpoint: how many leaves its tree has, and the root hash over them (C2SP tlog-checkpoint).

A checkpoint counts once the log itself and the quorum of its witnesses have signed it; then it also says a time, which
no single one of them could have moved forward.

Proofs of logging in one file, checked without a network: C2SP tlog-proof, ``.tlog-proof``.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from datetime import datetime

from kedge.documents import DocumentError, blame_served
from kedge.errors import Reason, Refusal, VerificationError
from kedge.tlog.note import Note, decode_base64, verify
from kedge.tlog.policy import LogPolicy
from kedge.tlog.tree import EMPTY_ROOT, HASH_BYTES, check_inclusion

MAX_CHECKPOINT_BYTES = 131_072
MAX_DIGITS = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A checkpoint that has been read; its signatures are not checked yet. ``data`` are its bytes as served."""

    origin: str
    size: int
    root: bytes
    note: Note
    data: bytes

    @classmethod
    def from_bytes(cls, data: bytes) -> Checkpoint:
        """Read a signed checkpoint.

        Raises:
            DocumentError: it is none.
        """
        note = Note.from_bytes(data)
        origin, size, root = read_body(note.text)
        return cls(origin=origin, size=size, root=root, note=note, data=data)


@dataclass(frozen=True, slots=True, kw_only=True)
class Witnessed:
    """A checkpoint that its log and the quorum signed. ``time`` is what the quorum vouches for, None without one."""

    checkpoint: Checkpoint
    time: datetime | None

    @property
    def origin(self) -> str:
        """The log's name."""
        return self.checkpoint.origin

    @property
    def size(self) -> int:
        """How many leaves the log has."""
        return self.checkpoint.size

    @property
    def root(self) -> bytes:
        """The root hash of its tree."""
        return self.checkpoint.root


def check_checkpoint(data: bytes, policy: LogPolicy, *, file: str = "tlog/checkpoint") -> Witnessed:
    """Read a checkpoint and check that a log of ``policy`` and the quorum signed it.

    Raises:
        VerificationError: it is malformed, of another log, or not signed as the policy asks.
        StoreError: this machine's cryptography cannot check a signature.
    """
    with blame_served(file):
        checkpoint = Checkpoint.from_bytes(data)
    # A log's key has the log's name: one log's key says nothing about another one's origin.
    own = [key for key in policy.logs if key.name == checkpoint.origin]
    if not own:
        names = ", ".join(dict.fromkeys(key.name for key in policy.logs))
        refusal = Refusal(reason=Reason.SIGNATURES, file=file, expected=names, found=checkpoint.origin)
        raise VerificationError(f"{file}: is of the log {checkpoint.origin}, expected {names}", refusal=refusal)
    witnesses = [witness.key for witness in policy.witnesses.values()]
    signed = verify(checkpoint.note, [*own, *witnesses], file=file)
    if not any(each.key in own for each in signed):
        refusal = Refusal(reason=Reason.SIGNATURES, file=file, expected=checkpoint.origin, found="witnesses only")
        raise VerificationError(f"{file}: is not signed by the log {checkpoint.origin}", refusal=refusal)
    return Witnessed(checkpoint=checkpoint, time=policy.quorum_time(signed, file=file))


def read_body(text: str) -> tuple[str, int, bytes]:
    """Read the text of a checkpoint: origin, size, root hash.

    Raises:
        DocumentError: it is none.
    """
    lines = text.split("\n")[:-1]
    if len(lines) < 3 or not all(lines):
        raise DocumentError("", "is no checkpoint: expected the lines origin, size and root hash")
    origin, size_text, root_text = lines[:3]
    if re.fullmatch(rf"0|[1-9][0-9]{{0,{MAX_DIGITS - 1}}}", size_text) is None:
        raise DocumentError("", f"the size must be a whole number, not {size_text[:40]}")
    root = decode_base64(root_text, "the root hash")
    if len(root) != HASH_BYTES:
        raise DocumentError("", f"the root hash must have {HASH_BYTES} bytes, not {len(root)}")
    size = int(size_text)
    if not size and root != EMPTY_ROOT:
        raise DocumentError("", "the root hash of the empty tree must be that of nothing")
    return origin, size, root


def write_body(origin: str, size: int, root: bytes) -> str:
    """Write the text of a checkpoint, which a log then signs."""
    return f"{origin}\n{size}\n{base64.b64encode(root).decode('ascii')}\n"


MAX_PROOF_BYTES = 262_144
MAX_HASHES = 63
_HEADER = "c2sp.org/tlog-proof@v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogProof:
    """Where a leaf stands, the hashes from it to the root, and the checkpoint of that root as signed."""

    index: int
    hashes: tuple[bytes, ...]
    checkpoint: bytes

    def to_bytes(self) -> bytes:
        """The file."""
        hashes = "".join(f"{base64.b64encode(each).decode('ascii')}\n" for each in self.hashes)
        return f"{_HEADER}\nindex {self.index}\n{hashes}\n".encode() + self.checkpoint

    @classmethod
    def from_bytes(cls, data: bytes) -> LogProof:
        """Read a proof. Extra data is left alone: nobody signs it.

        Raises:
            DocumentError: it is none.
        """
        head, blank, checkpoint = data.partition(b"\n\n")
        try:
            lines = head.decode("ascii").split("\n")
        except UnicodeDecodeError as error:
            raise DocumentError("", "is no proof of a log: it is not ASCII") from error
        if lines.pop(0) != _HEADER or not blank:
            raise DocumentError("", f"is no proof of a log: expected {_HEADER}")
        if lines and lines[0].startswith("extra "):
            decode_base64(lines.pop(0).removeprefix("extra "), "the extra data")
        match = re.fullmatch("index (0|[1-9][0-9]{0,14})", lines.pop(0)) if lines else None
        if match is None:
            raise DocumentError("", "must say where the leaf stands: index NUMBER")
        if len(lines) > MAX_HASHES:
            raise DocumentError("", f"holds {len(lines)} hashes, at most {MAX_HASHES} can be needed")
        hashes = tuple(decode_base64(line, "a hash of the proof") for line in lines)
        if any(len(each) != HASH_BYTES for each in hashes):
            raise DocumentError("", f"a hash of the proof must have {HASH_BYTES} bytes")
        return cls(index=int(match[1]), hashes=hashes, checkpoint=checkpoint)

    def check(self, leaf: bytes, policy: LogPolicy, *, file: str = "the proof") -> Witnessed:
        """Check that the leaf with the hash ``leaf`` is in a log as ``policy`` asks, and give its checkpoint.

        Raises:
            VerificationError: the checkpoint does not count, or the leaf is not shown to be in its tree.
        """
        witnessed = check_checkpoint(self.checkpoint, policy, file=file)
        check_inclusion(leaf, index=self.index, size=witnessed.size, proof=self.hashes, root=witnessed.root, file=file)
        return witnessed


def read_served_proof(data: bytes, *, file: str) -> LogProof:
    """Read a proof that somebody served.

    Raises:
        VerificationError: it is none (reason ``malformed``).
    """
    with blame_served(file):
        return LogProof.from_bytes(data)


def proof_path(leaf: bytes) -> str:
    """Where the proof of the leaf with this hash lies below the log."""
    return f"proofs/{leaf.hex()}.tlog-proof"

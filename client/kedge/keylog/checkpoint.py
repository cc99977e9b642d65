"""A log's checkpoint: how many leaves its tree has, and the root hash over them (C2SP tlog-checkpoint).

A checkpoint counts once the log itself and the quorum of its witnesses have signed it; then it also says a time, which
no single one of them could have moved forward.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from datetime import datetime

from kedge.document import DocumentError, blame_served
from kedge.errors import Reason, Refusal, VerificationError
from kedge.keylog.note import Note, decode_base64, verify
from kedge.keylog.policy import LogPolicy
from kedge.keylog.tree import EMPTY_ROOT, HASH_BYTES

__all__ = ["MAX_CHECKPOINT_BYTES", "Checkpoint", "Witnessed", "check_checkpoint", "read_body", "write_body"]

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

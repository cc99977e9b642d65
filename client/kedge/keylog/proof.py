"""Proofs of logging in one file, checked without a network: C2SP tlog-proof, ``.tlog-proof``."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass

from kedge.document import DocumentError, blame_served
from kedge.keylog.checkpoint import Witnessed, check_checkpoint
from kedge.keylog.note import decode_base64
from kedge.keylog.policy import LogPolicy
from kedge.keylog.tree import HASH_BYTES, check_inclusion

__all__ = ["MAX_PROOF_BYTES", "LogProof", "proof_path", "read_served_proof"]

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

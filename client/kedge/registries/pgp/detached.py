"""A detached signature as it lies beside a file: ``.asc``, ``.sig``, ``Release.gpg``; armoured or binary."""

from __future__ import annotations

from kedge.document import DocumentError
from kedge.registries.pgp.armor import SIGNATURE, dearmor, is_armored
from kedge.registries.pgp.packets import read_packets

__all__ = ["MAX_SIGNATURE_BYTES", "read_signature"]

MAX_SIGNATURE_BYTES = 1 << 20
_TAG = 2


def read_signature(data: bytes) -> bytes:
    """Give the signature packets of a file that holds nothing else; empty where the file is.

    Raises:
        DocumentError: it holds something else, such as a signed message with a text of its own.
    """
    if not data.strip():
        return b""
    packets = dearmor(data, SIGNATURE) if is_armored(data) else data
    for packet in read_packets(packets):
        if packet.tag != _TAG:
            raise DocumentError("", f"holds a packet of tag {packet.tag}, expected signatures and nothing else")
    return packets

"""The packets of an OpenPGP message: tag, body, and the bytes as they stood. RFC 9580 §4.2, both header formats.

What a keyring never needs is refused: lengths that the data itself goes on to state (partial, indeterminate), and bytes
after the last packet that are none. So the packets that come out are all of the bytes that went in.
"""

from __future__ import annotations

from dataclasses import dataclass

from kedge.document import DocumentError

__all__ = ["MAX_BYTES", "Packet", "read_packets"]

MAX_BYTES = 32 << 20
MAX_PACKETS = 100_000
_KEYBOX = (8, b"KBXf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Packet:
    """One packet. ``raw`` is header and body as they stood, so that writing it again changes nothing."""

    tag: int
    body: bytes
    raw: bytes


def read_packets(data: bytes) -> tuple[Packet, ...]:
    """Read the packets of ``data``, which holds nothing else.

    Raises:
        DocumentError: it holds something else, or nothing; a GnuPG keybox, armour and a page of HTML are named.
    """
    _refuse_others(data)
    packets: list[Packet] = []
    position = 0
    while position < len(data):
        if len(packets) == MAX_PACKETS:
            raise DocumentError("", f"holds more than {MAX_PACKETS} OpenPGP packets")
        tag, start, end = _header(data, position)
        packets.append(Packet(tag=tag, body=data[start:end], raw=data[position:end]))
        position = end
    return tuple(packets)


def _refuse_others(data: bytes) -> None:
    if not data:
        raise DocumentError("", "is empty, expected OpenPGP packets")
    if len(data) > MAX_BYTES:
        raise DocumentError("", f"is longer than {MAX_BYTES >> 20} MiB")
    offset, magic = _KEYBOX
    if data[offset : offset + len(magic)] == magic:
        text = "is a GnuPG keybox, which only GnuPG reads, expected OpenPGP packets (gpg --export writes them)"
        raise DocumentError("", text)
    if data.lstrip()[:1] == b"<":
        raise DocumentError("", "is a page of HTML or XML, expected OpenPGP packets (a captive portal, a login?)")
    if data.startswith(b"-----BEGIN"):
        raise DocumentError("", "is armoured text, expected binary OpenPGP packets (gpg --dearmor makes them)")


def _header(data: bytes, position: int) -> tuple[int, int, int]:
    """Give the tag of the packet at ``position``, and where its body begins and ends."""
    first = data[position]
    if not first & 0x80:
        raise DocumentError("", f"holds bytes that are no OpenPGP packet, at byte {position}")
    if first & 0x40:
        tag, (start, length) = first & 0x3F, _new_length(data, position)
    else:
        tag, (start, length) = (first >> 2) & 0x0F, _old_length(data, position)
    if tag == 0:
        raise DocumentError("", f"holds a packet with the reserved tag 0, at byte {position}")
    if start + length > len(data):
        raise DocumentError("", f"ends inside a packet, which begins at byte {position}")
    return tag, start, start + length


def _new_length(data: bytes, position: int) -> tuple[int, int]:
    at = position + 1
    octets = data[at : at + 5]
    if not octets:
        raise DocumentError("", f"ends inside the header of a packet, at byte {position}")
    if octets[0] < 192:
        return at + 1, octets[0]
    if octets[0] < 224 and len(octets) >= 2:
        return at + 2, ((octets[0] - 192) << 8) + octets[1] + 192
    if octets[0] == 255 and len(octets) == 5:
        return at + 5, int.from_bytes(octets[1:])
    if 224 <= octets[0] < 255:
        raise DocumentError("", f"holds a packet of partial length, at byte {position}: no key is written so")
    raise DocumentError("", f"ends inside the header of a packet, at byte {position}")


def _old_length(data: bytes, position: int) -> tuple[int, int]:
    kind = data[position] & 3
    if kind == 3:
        raise DocumentError("", f"holds a packet of indeterminate length, at byte {position}: no key is written so")
    width = 1 << kind
    octets = data[position + 1 : position + 1 + width]
    if len(octets) != width:
        raise DocumentError("", f"ends inside the header of a packet, at byte {position}")
    return position + 1 + width, int.from_bytes(octets)

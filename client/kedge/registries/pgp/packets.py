"""The packets of an OpenPGP message: tag, body, and the bytes as they stood. RFC 9580 §4.2, both header formats.

What a keyring never needs is refused: lengths that the data itself goes on to state (partial, indeterminate), and bytes
after the last packet that are none. So the packets that come out are all of the bytes that went in.

OpenPGP's ASCII armour (RFC 9580 §6): how keys stand in a text file, a deb822 stanza or Gradle's keyring.

Read strictly: a file holds blocks and nothing else but blank lines and the ``pub``, ``sub`` and ``uid`` lines that
Gradle writes above each block; the checksum is checked where there is one. Written with the checksum, since old GnuPG
asks for it, and without headers.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass

from kedge.documents import DocumentError

PUBLIC_KEY = "PUBLIC KEY BLOCK"
SIGNATURE = "SIGNATURE"

_BEGIN = re.compile(r"-----BEGIN PGP ([A-Z ]+)-----")
_HEADER = re.compile(r"[A-Za-z][A-Za-z0-9-]*: ?[ -~]*")
_BODY = re.compile(r"[A-Za-z0-9+/]{1,76}={0,2}")
_CHECKSUM = re.compile(r"=([A-Za-z0-9+/]{4})")
_LISTED = ("pub ", "sub ", "uid ")
_POLYNOMIAL, _START = 0x1864CFB, 0xB704CE


def is_armored(data: bytes) -> bool:
    """Whether ``data`` looks like text that may have a block in it, not like packets, a keybox or a web page."""
    first = data.lstrip()[:1]
    return b"!" <= first <= b"~" and first != b"<"


def armor(data: bytes, kind: str = PUBLIC_KEY) -> str:
    """Write packets as one block, lines of 64 characters, a line end last."""
    text = base64.b64encode(data).decode("ascii")
    lines = [text[start : start + 64] for start in range(0, len(text), 64)]
    checksum = base64.b64encode(_crc24(data).to_bytes(3)).decode("ascii")
    return "\n".join([f"-----BEGIN PGP {kind}-----", "", *lines, f"={checksum}", f"-----END PGP {kind}-----", ""])


def dearmor(data: bytes, kind: str = PUBLIC_KEY) -> bytes:
    """Give the packets of all blocks of ``data``, one after the other; every block must be of ``kind``.

    Raises:
        DocumentError: it holds no block, one of another kind, a damaged one, or text that belongs to none.
    """
    try:
        lines = data.decode("ascii").splitlines()
    except UnicodeDecodeError as error:
        raise DocumentError("", f"is neither OpenPGP packets nor armoured text (byte {error.start})") from error
    packets: list[bytes] = []
    number = 0
    while number < len(lines):
        line = lines[number].rstrip()
        if match := _BEGIN.fullmatch(line):
            if match[1] != kind:
                raise DocumentError(f"line {number + 1}", f"begins a PGP {match[1].lower()}, expected a {kind.lower()}")
            number, block = _read_block(lines, number, kind)
            packets.append(block)
        elif line and not line.startswith(_LISTED):
            raise DocumentError(f"line {number + 1}", "stands outside any armoured block")
        else:
            number += 1
    if not packets:
        raise DocumentError("", f"holds no armoured PGP {kind.lower()}")
    return b"".join(packets)


def _read_block(lines: list[str], begin: int, kind: str) -> tuple[int, bytes]:
    """Read the block that begins at the line ``begin``; give the number of the line after it, and its packets."""
    end = next((at for at in range(begin + 1, len(lines)) if lines[at].startswith("-----")), None)
    if end is None or lines[end].rstrip() != f"-----END PGP {kind}-----":
        raise DocumentError(f"line {begin + 1}", "begins an armoured block that does not end")
    inner = [line.rstrip() for line in lines[begin + 1 : end]]
    if "" not in inner:
        raise DocumentError(f"line {begin + 1}", "begins an armoured block without the empty line after its headers")
    blank = inner.index("")
    for offset, line in enumerate(inner[:blank]):
        if _HEADER.fullmatch(line) is None:
            raise DocumentError(f"line {begin + 2 + offset}", "is no header of an armoured block")
    body = inner[blank + 1 :]
    checksum = _CHECKSUM.fullmatch(body.pop()) if body and body[-1].startswith("=") else None
    for offset, line in enumerate(body):
        if _BODY.fullmatch(line) is None:
            raise DocumentError(f"line {begin + blank + 3 + offset}", "is no base64 of an armoured block")
    try:
        packets = base64.b64decode("".join(body), validate=True)
    except ValueError as error:
        raise DocumentError(f"line {begin + 1}", "begins an armoured block whose base64 is damaged") from error
    if not packets:
        raise DocumentError(f"line {begin + 1}", "begins an armoured block with nothing in it")
    if checksum is not None and base64.b64decode(checksum[1]) != _crc24(packets).to_bytes(3):
        raise DocumentError(f"line {begin + 1}", "begins an armoured block whose checksum does not fit its content")
    return end + 1, packets


def _crc24(data: bytes) -> int:
    value = _START
    for octet in data:
        value = ((value << 8) ^ _TABLE[(value >> 16) ^ octet]) & 0xFFFFFF
    return value


def _crc24_entry(octet: int) -> int:
    value = octet << 16
    for _ in range(8):
        value <<= 1
        if value & 0x1000000:
            value ^= _POLYNOMIAL
    return value


_TABLE = tuple(_crc24_entry(octet) for octet in range(256))


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

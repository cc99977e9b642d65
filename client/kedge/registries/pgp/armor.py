"""OpenPGP's ASCII armour (RFC 9580 §6): how keys stand in a text file, a deb822 stanza or Gradle's keyring.

Read strictly: a file holds blocks and nothing else but blank lines and the ``pub``, ``sub`` and ``uid`` lines that
Gradle writes above each block; the checksum is checked where there is one. Written with the checksum, since old GnuPG
asks for it, and without headers.
"""

from __future__ import annotations

import base64
import re

from kedge.document import DocumentError

__all__ = ["PUBLIC_KEY", "SIGNATURE", "armor", "dearmor", "is_armored"]

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

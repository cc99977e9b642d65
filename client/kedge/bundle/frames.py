"""A bundle as texts that fit QR codes, for a gap that only light crosses.

::

    frame = "KEDGE1:" number "/" count ":" name ":" data

``name`` is the first 16 hexadecimal digits of the file's SHA-256, so that frames of two bundles are never mixed;
``data`` is a piece of the file in base 32 (RFC 4648, without padding). All of it is within the alphabet that a QR code
packs most densely, and no reader of codes is tempted to take blanks away from it. Frames may be read in any order, and
twice.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable

from kedge.document import DocumentError
from kedge.state import sha256_hex

__all__ = ["FRAME_CHARS", "from_frames", "to_frames"]

# A code of version 20 with error correction M holds 970 characters: a screen shows it, and a webcam reads it.
FRAME_CHARS = 970
MAX_FRAMES = 9_999
_FRAME = re.compile(r"KEDGE1:([1-9]\d{0,3})/([1-9]\d{0,3}):([0-9A-F]{16}):([A-Z2-7]+)", re.ASCII)


def to_frames(data: bytes) -> list[str]:
    """Split a bundle into frames of at most :data:`FRAME_CHARS` characters.

    Raises:
        ValueError: it is too long for so many frames.
    """
    text = base64.b32encode(data).decode("ascii").rstrip("=")
    name = sha256_hex(data)[:16].upper()
    room = FRAME_CHARS - len(f"KEDGE1:{MAX_FRAMES}/{MAX_FRAMES}:{name}:")
    pieces = [text[start : start + room] for start in range(0, len(text), room)]
    if len(pieces) > MAX_FRAMES:
        raise ValueError(f"{len(data)} bytes are more than {MAX_FRAMES} frames hold")
    return [f"KEDGE1:{number}/{len(pieces)}:{name}:{piece}" for number, piece in enumerate(pieces, 1)]


def from_frames(texts: Iterable[str]) -> bytes:
    """Put a bundle together from the texts of its frames, in any order.

    Raises:
        DocumentError: one of them is no frame, or of another bundle, or some are missing, or the whole is not the file.
    """
    pieces: dict[int, str] = {}
    kind: tuple[str, str] | None = None
    for text in texts:
        match = _FRAME.fullmatch(text)
        if match is None:
            raise DocumentError("", f"holds what is no frame of a bundle: {text[:40]}")
        number, count, name, piece = match.groups()
        kind = kind or (count, name)
        if (count, name) != kind or int(number) > int(count) or pieces.get(int(number), piece) != piece:
            raise DocumentError("", f"holds frames of two bundles: {kind[1]} and {name}, frame {number} of {count}")
        pieces[int(number)] = piece
    if kind is None:
        raise DocumentError("", "holds no frame of a bundle")
    missing = [str(number) for number in range(1, int(kind[0]) + 1) if number not in pieces]
    if missing:
        raise DocumentError("", f"lacks frame {', '.join(missing[:20])} of {kind[0]}")
    whole = "".join(pieces[number] for number in sorted(pieces))
    try:
        data = base64.b32decode(whole + "=" * (-len(whole) % 8))
    except binascii.Error as error:
        raise DocumentError("", f"is not base 32: {error}") from error
    if sha256_hex(data)[:16].upper() != kind[1]:
        raise DocumentError("", "does not give the bundle that its frames name: a character was read wrongly")
    return data

"""A clear-signed text (``InRelease``) taken apart: the signed text, and the signature over it. RFC 9580 §7.

The trap of this form: a reader that skips to the header, and another one that reads from the top, see two texts in one
file. So the frame must be the whole file, and only what comes out here is ever parsed, and it is checked as what it is:
gpgv gets this text and this signature, never the file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from kedge.document import DocumentError
from kedge.registries.pgp.armor import SIGNATURE, dearmor

__all__ = ["ClearSigned", "is_clear_signed", "split"]

BEGIN = b"-----BEGIN PGP SIGNED MESSAGE-----"
BEGIN_SIGNATURE = b"-----BEGIN PGP SIGNATURE-----"
END_SIGNATURE = b"-----END PGP SIGNATURE-----"
_HASH = re.compile(rb"Hash: ?[A-Za-z0-9, -]{1,200}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClearSigned:
    """``text`` is what is signed, lines ended by one newline each and the last by none; ``signature`` is packets."""

    text: bytes
    signature: bytes


def is_clear_signed(data: bytes) -> bool:
    """Whether the header of a clear-signed text stands anywhere at the beginning of a line."""
    return data.startswith(BEGIN) or b"\n" + BEGIN in data


def split(data: bytes) -> ClearSigned:
    """Take a clear-signed text apart, which must be all of ``data``.

    Raises:
        DocumentError: something stands before, between or after its parts, or a part is missing.
    """
    lines = [line.rstrip(b" \t\r") for line in data.split(b"\n")]
    if lines[0] != BEGIN:
        where = "stands before the header of a signed text" if BEGIN in lines else "is no header of a signed text"
        raise DocumentError("line 1", f"{where} ({BEGIN.decode()})")
    if lines.pop() != b"":
        raise DocumentError(f"line {len(lines) + 1}", "must end with a newline")
    start = _end_of_headers(lines)
    end = _find(lines, BEGIN_SIGNATURE, start, "holds no signature after the signed text")
    last = _find(lines, END_SIGNATURE, end, "begins a signature that does not end")
    if last != len(lines) - 1:
        raise DocumentError(f"line {last + 2}", "stands after the end of the signature: nobody signed it")
    try:
        signature = dearmor(b"\n".join(lines[end:]) + b"\n", SIGNATURE)
    except DocumentError as error:
        raise DocumentError(f"the signature that begins at line {end + 1}", error.problem) from error
    return ClearSigned(text=b"\n".join(_unescape(lines, start, end)), signature=signature)


def _end_of_headers(lines: list[bytes]) -> int:
    for number, line in enumerate(lines[1:], 1):
        if not line:
            return number + 1
        if _HASH.fullmatch(line) is None:
            raise DocumentError(f"line {number + 1}", "is no Hash header, which is all that may stand above the text")
    raise DocumentError(f"line {len(lines)}", "ends before the signed text begins")


def _find(lines: list[bytes], wanted: bytes, start: int, problem: str) -> int:
    try:
        return lines.index(wanted, start)
    except ValueError:
        raise DocumentError(f"line {len(lines)}", problem) from None


def _unescape(lines: list[bytes], start: int, end: int) -> list[bytes]:
    text: list[bytes] = []
    for number, line in enumerate(lines[start:end], start):
        if line.startswith(b"- ") or line == b"-":
            text.append(line[2:])
        elif line.startswith(b"-"):
            raise DocumentError(f"line {number + 1}", "begins with a dash that is not escaped inside the signed text")
        else:
            text.append(line)
    return text

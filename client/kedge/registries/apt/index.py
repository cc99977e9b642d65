"""A Packages index: unpacked within a limit, and searched for a package's bytes.

An index is held against the Release before it is unpacked, so what is unpacked here was signed for; the limit on what
comes out holds all the same, since a key can be stolen and memory is finite.
"""

from __future__ import annotations

import lzma
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from kedge.document import DocumentError
from kedge.registries.apt.release import paragraph

__all__ = ["MAX_INDEX_BYTES", "Index", "Stanza", "unpack"]

MAX_INDEX_BYTES = 1 << 30
_CHUNK = 1 << 20
_GZIP, _XZ = b"\x1f\x8b", b"\xfd7zXZ\x00"


def unpack(data: bytes, *, max_bytes: int = MAX_INDEX_BYTES) -> bytes:
    """Unpack gzip and xz, by their first bytes; anything else is given back as it is.

    Raises:
        DocumentError: it is damaged, goes on after its end, or comes out longer than ``max_bytes``.
    """
    if data.startswith(_GZIP):
        chunks = _inflate(data)
    elif data.startswith(_XZ):
        chunks = _unxz(data)
    else:
        chunks = iter((data,))
    out: list[bytes] = []
    length = 0
    for chunk in chunks:
        length += len(chunk)
        if length > max_bytes:
            raise DocumentError("", f"unpacks to more than {max_bytes} bytes")
        out.append(chunk)
    return b"".join(out)


def _inflate(data: bytes) -> Iterator[bytes]:
    packed = data
    while packed:
        inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        while not inflater.eof:
            try:
                chunk = inflater.decompress(packed, _CHUNK)
            except zlib.error as error:
                raise DocumentError("", f"is damaged gzip: {error}") from error
            packed = inflater.unconsumed_tail
            if not chunk and not packed and not inflater.eof:
                raise DocumentError("", "is gzip that was cut short")
            yield chunk
        packed = inflater.unused_data


def _unxz(data: bytes) -> Iterator[bytes]:
    packed = data
    while packed:
        unpacker = lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=256 << 20)
        given = packed
        while not unpacker.eof:
            try:
                chunk = unpacker.decompress(given, _CHUNK)
            except lzma.LZMAError as error:
                raise DocumentError("", f"is damaged xz: {str(error).lower()}") from error
            given = b""
            if not chunk and unpacker.needs_input and not unpacker.eof:
                raise DocumentError("", "is xz that was cut short")
            yield chunk
        packed = unpacker.unused_data


@dataclass(frozen=True, slots=True, kw_only=True)
class Stanza:
    """One package of an index: what it is called, and which bytes it is."""

    package: str
    version: str
    architecture: str
    filename: str
    size: int
    sha256: str


class Index:
    """An unpacked index, which the Release was found to list."""

    def __init__(self, name: str, text: bytes) -> None:
        """Search ``text``, which the Release lists as ``name``."""
        self.name = name
        self._text = b"\n\n" + text.strip(b"\n") + b"\n\n"

    def by_digest(self, sha256: str) -> Stanza | None:
        """The package of these bytes, or None.

        Raises:
            DocumentError: the stanza that names the digest is none.
        """
        return self._find(b"\nSHA256: ", f" {sha256}\n".encode())

    def by_file(self, name: str) -> Stanza | None:
        """The package whose file has this name, in whatever folder of the pool, or None.

        Raises:
            DocumentError: the stanza that names the file is none.
        """
        return self._find(b"\nFilename: ", f"/{name}\n".encode())

    def _find(self, field: bytes, wanted: bytes) -> Stanza | None:
        """The stanza with a line that begins with ``field`` and ends with ``wanted``."""
        position = self._text.find(wanted)
        while position >= 0:
            start = self._text.rfind(b"\n", 0, position)
            if self._text.startswith(field, start):
                begin = self._text.rfind(b"\n\n", 0, start + 1) + 2
                return self._read(self._text[begin : self._text.find(b"\n\n", position)])
            position = self._text.find(wanted, position + 1)
        return None

    def _read(self, text: bytes) -> Stanza:
        fields = paragraph(text)
        for name in ("Package", "Version", "Architecture", "Filename", "Size", "SHA256"):
            if not fields.get(name.lower()):
                raise DocumentError(self.name, f"holds a package without {name}")
        size = fields["size"]
        if not (size.isascii() and size.isdecimal() and len(size) <= 15):
            raise DocumentError(self.name, f"holds a package of the size {size[:40]!r}")
        return Stanza(
            package=fields["package"],
            version=fields["version"],
            architecture=fields["architecture"],
            filename=fields["filename"],
            size=int(size),
            sha256=fields["sha256"],
        )

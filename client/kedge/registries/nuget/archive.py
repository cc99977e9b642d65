"""A NuGet package as a zip file, and the digest that its signature is over: all of it but the signature.

The digest is that of the file as it would be if the entry ``.signature.p7s`` had never been put in: without its local
header, data and central record, and with the offsets, counts and sizes of the rest as they would then be. What is
hashed is protected by the signature, so the one thing that matters here is that nothing is skipped which is not the
signature, and that no two readers can disagree about where it is:

- the end record stands at the very end, and the central directory directly before it, record upon record;
- exactly one entry bears the signature's name, stored, in the clear, with the same sizes and name in both headers;
- the signature's local part ends where the next entry, or the central directory, begins;
- no Zip64 and no second disk: NuGet signs neither.

Source: NuGet "Package signatures technical specification"; APPNOTE.TXT 6.3 §4.3 (zip).
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

SIGNATURE_NAME = b".signature.p7s"
MAX_SIGNATURE_BYTES = 1 << 20
MAX_DIRECTORY_BYTES = 64 << 20

_CHUNK_BYTES = 1 << 20
_END = struct.Struct("<4sHHHHIIH")
_CENTRAL = struct.Struct("<4sHHHHHHIIIHHHHHII")
_LOCAL = struct.Struct("<4sHHHHHIIIHH")
_OFFSET_AT = 42
_ZIP64 = 0xFFFFFFFF


class ArchiveError(ValueError):
    """The file is no zip that a signature can be about; the text says what is wrong."""


class UnsignedError(ArchiveError):
    """The zip is in order and holds no signature."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedArchive:
    """Where the parts of a signed package are. ``size`` is the file's, ``directory`` the central directory's bytes."""

    signature: bytes
    size: int
    directory: bytes
    directory_at: int
    end: bytes
    signature_at: int
    signature_size: int
    record: tuple[int, int]

    def digest(self, file: BinaryIO, algorithm: str) -> bytes:
        """The digest of the package without its signature; ``algorithm`` is a name that :mod:`hashlib` knows."""
        hashed = hashlib.new(algorithm)
        for start, end in ((0, self.signature_at), (self.signature_at + self.signature_size, self.directory_at)):
            for chunk in _chunks(file, start, end):
                hashed.update(chunk)
        for at, size in _records(self.directory):
            if (at, size) == self.record:
                continue
            record = bytearray(self.directory[at : at + size])
            (offset,) = struct.unpack_from("<I", record, _OFFSET_AT)
            if offset > self.signature_at:
                struct.pack_into("<I", record, _OFFSET_AT, offset - self.signature_size)
            hashed.update(record)
        hashed.update(self._end_without_signature())
        return hashed.digest()

    def _end_without_signature(self) -> bytes:
        name, disk, start_disk, here, total, size, offset, comment = _END.unpack_from(self.end)
        fixed = _END.pack(
            name,
            disk,
            start_disk,
            here - 1,
            total - 1,
            size - self.record[1],
            offset - self.signature_size,
            comment,
        )
        return fixed + self.end[_END.size :]


def read_archive(file: BinaryIO) -> SignedArchive:
    """Find the signature of a package, and check that the zip has one meaning.

    Raises:
        UnsignedError: it holds no signature.
        ArchiveError: it is no zip, or one in which the signature's place can be read in two ways.
    """
    size = file.seek(0, 2)
    end, directory_at, directory_size, count = _read_end(file, size)
    directory = _read_at(file, directory_at, directory_size)
    records = list(_records(directory))
    if len(records) != count:
        raise ArchiveError(f"the central directory holds {len(records)} entries, and its end record says {count}")
    found = [(at, length) for at, length in records if _name(directory, at) == SIGNATURE_NAME]
    _refuse_lookalikes(directory, records)
    if not found:
        raise UnsignedError("holds no signature")
    if len(found) > 1:
        raise ArchiveError(f"holds {len(found)} signatures, where one may be")
    offsets = sorted(_offset(directory, at) for at, _ in records)
    if len(set(offsets)) != len(offsets):
        raise ArchiveError("two entries of the central directory point to the same data")
    signature_at = _offset(directory, found[0][0])
    following = [offset for offset in offsets if offset > signature_at]
    ends_at = following[0] if following else directory_at
    signature = _read_signature(file, directory, found[0][0], ends_at)
    return SignedArchive(
        signature=signature,
        size=size,
        directory=directory,
        directory_at=directory_at,
        end=end,
        signature_at=signature_at,
        signature_size=ends_at - signature_at,
        record=found[0],
    )


def _read_end(file: BinaryIO, size: int) -> tuple[bytes, int, int, int]:
    """The end record, and where the central directory begins, how long it is and how many entries it has."""
    if size < _END.size:
        raise ArchiveError("is no zip file: too short")
    tail = _read_at(file, max(0, size - _END.size - 0xFFFF), min(size, _END.size + 0xFFFF))
    at = next((at for at in _ends(tail)), None)
    if at is None:
        raise ArchiveError("is no zip file: it has no end record that ends with the file")
    end = tail[at:]
    _, disk, start_disk, here, total, directory_size, directory_at, _ = _END.unpack_from(end)
    if disk or start_disk or here != total:
        raise ArchiveError("the zip is split over several disks")
    if _ZIP64 in (directory_size, directory_at) or total == 0xFFFF:
        raise ArchiveError("the zip is a Zip64 file, which NuGet does not sign")
    end_at = size - len(end)
    if directory_at + directory_size != end_at:
        raise ArchiveError("the central directory does not end where the end record begins")
    if directory_size > MAX_DIRECTORY_BYTES:
        raise ArchiveError(f"the central directory is longer than {MAX_DIRECTORY_BYTES >> 20} MiB")
    return end, directory_at, directory_size, total


def _ends(tail: bytes) -> Iterator[int]:
    """Where an end record stands whose comment ends with the file: the last one counts."""
    at = tail.rfind(b"PK\x05\x06")
    while at >= 0:
        if len(tail) - at >= _END.size and _END.unpack_from(tail, at)[7] == len(tail) - at - _END.size:
            yield at
        at = tail.rfind(b"PK\x05\x06", 0, at)


def _records(directory: bytes) -> Iterator[tuple[int, int]]:
    at = 0
    while at < len(directory):
        if len(directory) - at < _CENTRAL.size or directory[at : at + 4] != b"PK\x01\x02":
            raise ArchiveError(f"the central directory is broken at its byte {at}")
        fields = _CENTRAL.unpack_from(directory, at)
        size = _CENTRAL.size + fields[10] + fields[11] + fields[12]
        if size > len(directory) - at:
            raise ArchiveError(f"the central directory is cut short at its byte {at}")
        yield at, size
        at += size


def _name(directory: bytes, at: int) -> bytes:
    length = _CENTRAL.unpack_from(directory, at)[10]
    return directory[at + _CENTRAL.size : at + _CENTRAL.size + length]


def _offset(directory: bytes, at: int) -> int:
    offset: int = _CENTRAL.unpack_from(directory, at)[16]
    return offset


def _refuse_lookalikes(directory: bytes, records: list[tuple[int, int]]) -> None:
    """A name that some reader would take for the signature's own, and that is not, byte for byte."""
    for at, _ in records:
        name = _name(directory, at)
        plain = name.replace(b"\\", b"/").removeprefix(b"./").lstrip(b"/").lower()
        if plain == SIGNATURE_NAME and name != SIGNATURE_NAME:
            raise ArchiveError("holds an entry whose name some readers take for the signature's")


def _read_signature(file: BinaryIO, directory: bytes, at: int, ends_at: int) -> bytes:
    central = _CENTRAL.unpack_from(directory, at)
    flags, method, crc, packed, size, offset = central[3], central[4], central[7], central[8], central[9], central[16]
    if flags or method or packed != size or central[13] or central[15]:
        raise ArchiveError("the signature is not stored in the clear, as NuGet stores it")
    if size > MAX_SIGNATURE_BYTES:
        raise ArchiveError(f"the signature is longer than {MAX_SIGNATURE_BYTES >> 10} KiB")
    header = _read_at(file, offset, _LOCAL.size)
    local = _LOCAL.unpack_from(header) if len(header) == _LOCAL.size else (b"",) * 11
    if local[0] != b"PK\x03\x04":
        raise ArchiveError("the signature's local header is not where the central directory says")
    if (local[2], local[3], local[6], local[7], local[8]) != (flags, method, crc, packed, size):
        raise ArchiveError("the signature's two headers contradict each other")
    start = offset + _LOCAL.size + local[9] + local[10]
    if _read_at(file, offset + _LOCAL.size, local[9]) != SIGNATURE_NAME:
        raise ArchiveError("the signature bears another name in its local header")
    if start + size != ends_at:
        raise ArchiveError("something stands behind the signature that no entry holds")
    signature = _read_at(file, start, size)
    if zlib.crc32(signature) != crc:
        raise ArchiveError("the signature's checksum in the zip is wrong")
    return signature


def _read_at(file: BinaryIO, start: int, size: int) -> bytes:
    file.seek(start)
    return file.read(size)


def _chunks(file: BinaryIO, start: int, end: int) -> Iterator[bytes]:
    file.seek(start)
    left = end - start
    while left > 0 and (chunk := file.read(min(_CHUNK_BYTES, left))):
        yield chunk
        left -= len(chunk)

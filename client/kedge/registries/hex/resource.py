"""What a Hex repository signs, taken apart: ``gzip(Signed{payload, signature})``, and the package inside.

The gzip is outside of what is signed, and so is the frame; both are read strictly and within limits. The payload says
which repository and which package it is of, and whoever asks must compare, or a mirror could answer for another
package. Source: Hex's ``registry-v2`` specification, hex_core's ``proto/``.

Protobuf's wire format, read strictly: as much of it as Hex uses.

Protobuf's own readers take the last of two values of a field that may stand once, and say nothing. The outermost
message here is not signed, so whoever serves it could make two readers see two contents. Therefore a field that may
stand once and stands twice is an error, and so is a missing one. Fields with numbers that nobody here knows are left
alone, as protobuf means it (why not the library: docs/decisions). Source: protobuf's "Encoding".
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from kedge.documents import DocumentError

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
MAX_FIELDS = 1_000_000


class Message:
    """One message: its fields by number. ``path`` says where it stands, for faults."""

    __slots__ = ("_fields", "path")

    def __init__(self, data: bytes, path: str) -> None:
        """Read all of ``data``.

        Raises:
            DocumentError: it is not a message.
        """
        self.path = path
        self._fields: dict[int, list[int | bytes]] = {}
        for count, (number, value) in enumerate(_fields(data, path)):
            if count == MAX_FIELDS:
                raise DocumentError(path, f"holds more than {MAX_FIELDS} fields")
            self._fields.setdefault(number, []).append(value)

    def __contains__(self, number: int) -> bool:
        return number in self._fields

    def octets(self, number: int, name: str) -> bytes:
        """The bytes of a field that must stand there once.

        Raises:
            DocumentError: it does not, or is a number.
        """
        value = self._one(number, name)
        if not isinstance(value, bytes):
            raise DocumentError(f"{self.path}.{name}", "is a number, expected bytes")
        return value

    def text(self, number: int, name: str) -> str:
        """The text of a field that must stand there once.

        Raises:
            DocumentError: it does not, or is no UTF-8.
        """
        try:
            return self.octets(number, name).decode("utf-8")
        except UnicodeDecodeError as error:
            raise DocumentError(f"{self.path}.{name}", f"is not UTF-8 (byte {error.start})") from error

    def integer(self, number: int, name: str) -> int:
        """The number of a field that must stand there once.

        Raises:
            DocumentError: it does not, or is bytes.
        """
        value = self._one(number, name)
        if not isinstance(value, int):
            raise DocumentError(f"{self.path}.{name}", "is bytes, expected a number")
        return value

    def value(self, number: int, name: str) -> int | bytes:
        """The number or bytes of a field that must stand there once.

        Raises:
            DocumentError: it does not.
        """
        return self._one(number, name)

    def messages(self, number: int, name: str) -> Iterator[Message]:
        """The messages of a field that may stand there any number of times.

        Raises:
            DocumentError: one of them is none.
        """
        for index, value in enumerate(self._fields.get(number, ())):
            path = f"{self.path}.{name}[{index}]"
            if not isinstance(value, bytes):
                raise DocumentError(path, "is a number, expected a message")
            yield Message(value, path)

    def _one(self, number: int, name: str) -> int | bytes:
        values = self._fields.get(number, [])
        if len(values) != 1:
            problem = "is missing" if not values else f"stands there {len(values)} times, and may stand once"
            raise DocumentError(f"{self.path}.{name}", problem)
        return values[0]


def _fields(data: bytes, path: str) -> Iterator[tuple[int, int | bytes]]:
    position = 0
    while position < len(data):
        key, position = _varint(data, position, path)
        number, kind = key >> 3, key & 7
        if not 0 < number < 1 << 29:
            raise DocumentError(path, f"holds a field of the number {number}, which no field has")
        if kind == _VARINT:
            value, position = _varint(data, position, path)
            yield number, value
            continue
        if kind == _BYTES:
            length, position = _varint(data, position, path)
        elif kind in (_FIXED64, _FIXED32):
            length = 8 if kind == _FIXED64 else 4
        else:
            raise DocumentError(path, f"holds a field of the wire type {kind}, which Hex does not use")
        if length > len(data) - position:
            raise DocumentError(path, f"ends inside the field {number}")
        yield number, data[position : position + length]
        position += length


def _varint(data: bytes, position: int, path: str) -> tuple[int, int]:
    value = 0
    for count in range(10):
        if position + count >= len(data):
            raise DocumentError(path, "ends inside a number")
        octet = data[position + count]
        value |= (octet & 0x7F) << (7 * count)
        if not octet & 0x80:
            if value >= 1 << 64:
                break
            return value, position + count + 1
    raise DocumentError(path, "holds a number of more than 64 bits")


MAX_RESOURCE_BYTES = 64 << 20
_PAYLOAD = b"\x0a"  # the first field of the frame, which no gzip begins with
_REASONS = ("other", "invalid", "security", "deprecated", "renamed")


class UnsignedError(DocumentError):
    """A resource without a signature: the frame allows it, and nobody may."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """The frame: what is signed, and the signature over it."""

    payload: bytes
    signature: bytes

    @classmethod
    def from_bytes(cls, data: bytes) -> Signed:
        """Unpack and read a resource as it is served.

        Raises:
            UnsignedError: it carries no signature.
            DocumentError: it is no resource, or unpacks to more than is read.
        """
        # A server that calls the gzip an encoding of the transfer has it taken off on the way; nobody signs it.
        unpacked = data if data.startswith(_PAYLOAD) else _gunzip(data, MAX_RESOURCE_BYTES)
        message = Message(unpacked, "Signed")
        payload = message.octets(1, "payload")
        if 2 not in message or not message.octets(2, "signature"):
            raise UnsignedError("Signed.signature", "is missing: somebody on the way left it out")
        return cls(payload=payload, signature=message.octets(2, "signature"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """One release: SHA-256 of the tarball (``outer``) and of what is inside (``inner``), as hexadecimal digits.

    ``retired`` says why the release should not be used, None where it may; ``published_at`` is in seconds since 1970,
    None where the repository does not say.
    """

    version: str
    inner: str
    outer: str | None
    retired: str | None
    published_at: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """A package and its releases, by version."""

    name: str
    repository: str
    releases: Mapping[str, Release]

    @classmethod
    def from_payload(cls, payload: bytes) -> Package:
        """Read a payload whose signature is right.

        Raises:
            DocumentError: it is no package.
        """
        message = Message(payload, "Package")
        releases: dict[str, Release] = {}
        for each in message.messages(1, "releases"):
            release = _read_release(each)
            if release.version in releases:
                raise DocumentError(each.path, f"is {release.version}, which stands further up")
            releases[release.version] = release
        return cls(name=message.text(2, "name"), repository=message.text(3, "repository"), releases=releases)


def _read_release(message: Message) -> Release:
    retired = None
    for status in message.messages(4, "retired"):
        reason = status.integer(1, "reason") if 1 in status else 0
        named = _REASONS[reason] if reason < len(_REASONS) else f"reason {reason}"
        retired = f"{named}: {status.text(2, 'message')}" if 2 in status else named
    return Release(
        version=message.text(1, "version"),
        inner=_digest(message, 2, "inner_checksum"),
        outer=_digest(message, 5, "outer_checksum") if 5 in message else None,
        retired=retired,
        published_at=_seconds(message) if 7 in message else None,
    )


def _digest(message: Message, number: int, name: str) -> str:
    value = message.octets(number, name)
    if len(value) != 32:
        raise DocumentError(f"{message.path}.{name}", f"has {len(value)} bytes, expected the 32 of a SHA-256")
    return value.hex()


def _seconds(message: Message) -> int | None:
    """A number of seconds, or a protobuf timestamp, of which the seconds count."""
    value = message.value(7, "published_at")
    if isinstance(value, int):
        return value
    inner = Message(value, f"{message.path}.published_at")
    return inner.integer(1, "seconds") if 1 in inner else 0


def _gunzip(data: bytes, max_bytes: int) -> bytes:
    """Unpack one gzip member that is all of ``data``: a second one would be read by some and not by others."""
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        text = unpacker.decompress(data, max_bytes + 1)
    except zlib.error as error:
        raise DocumentError("", f"is no gzip: {error}") from error
    if len(text) > max_bytes:
        raise DocumentError("", f"unpacks to more than {max_bytes} bytes")
    if not unpacker.eof:
        raise DocumentError("", "is gzip that was cut short")
    if unpacker.unused_data:
        raise DocumentError("", "goes on after the end of its gzip")
    return text

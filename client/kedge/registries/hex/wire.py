"""Protobuf's wire format, read strictly: as much of it as Hex uses.

Protobuf's own readers take the last of two values of a field that may stand once, and say nothing. The outermost
message here is not signed, so whoever serves it could make two readers see two contents. Therefore a field that may
stand once and stands twice is an error, and so is a missing one. Fields with numbers that nobody here knows are left
alone, as protobuf means it (why not the library: docs/decisions). Source: protobuf's "Encoding".
"""

from __future__ import annotations

from collections.abc import Iterator

from kedge.document import DocumentError

__all__ = ["Message"]

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

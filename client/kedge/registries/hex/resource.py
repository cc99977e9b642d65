"""What a Hex repository signs, taken apart: ``gzip(Signed{payload, signature})``, and the package inside.

The gzip is outside of what is signed, and so is the frame; both are read strictly and within limits. The payload says
which repository and which package it is of, and whoever asks must compare, or a mirror could answer for another
package. Source: Hex's ``registry-v2`` specification, hex_core's ``proto/``.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from kedge.document import DocumentError
from kedge.registries.hex.wire import Message

__all__ = ["MAX_RESOURCE_BYTES", "Package", "Release", "Signed", "UnsignedError"]

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

"""Digests as npm writes them: Subresource Integrity (``sha512-…``), and the older hexadecimal ``shasum``.

A lockfile's value may hold several digests. The strongest algorithm counts, as in SRI; where it stands there twice
with different values, the lockfile allows two contents, and nothing can be bound to it.

Source: W3C Subresource Integrity §3.2, §3.3.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from functools import cached_property

__all__ = ["Digest", "digest_of", "parse_shasum", "parse_sri", "strongest"]

STRENGTH = {"sha1": 1, "sha256": 2, "sha384": 3, "sha512": 4}
_SIZES = {name: hashlib.new(name, usedforsecurity=False).digest_size for name in STRENGTH}
_TOKEN = re.compile(r"(sha1|sha256|sha384|sha512)-([A-Za-z0-9+/]+={0,2})(\?[!-~]*)?")


@dataclass(frozen=True)
class Digest:
    """One digest of one content. Two are equal if algorithm and bytes are."""

    algorithm: str
    value: bytes

    @cached_property
    def sri(self) -> str:
        """The digest as npm signs it: ``sha512-…`` with padded base64."""
        return f"{self.algorithm}-{base64.b64encode(self.value).decode('ascii')}"

    def matches(self, data: bytes) -> bool:
        """Whether these bytes have this digest."""
        return hashlib.new(self.algorithm, data, usedforsecurity=False).digest() == self.value


def parse_sri(text: str) -> tuple[Digest, ...]:
    """Read an integrity value: digests apart by white space, in their order, each once.

    Raises:
        ValueError: one of them is no digest of an algorithm that npm uses, or has another length.
    """
    digests: dict[Digest, None] = {}
    for token in text.split():
        match = _TOKEN.fullmatch(token)
        if match is None:
            raise ValueError(f"must be a digest such as sha512-…, not {_shown(token)}")
        try:
            value = base64.b64decode(match[2], validate=True)
        except binascii.Error as error:
            raise ValueError(f"must hold base64, not {_shown(token)}") from error
        if len(value) != _SIZES[match[1]]:
            raise ValueError(f"must be a {match[1]} digest of {_SIZES[match[1]]} bytes, not of {len(value)}")
        digests[Digest(match[1], value)] = None
    if not digests:
        raise ValueError("must not be empty")
    return tuple(digests)


def parse_shasum(text: str) -> Digest:
    """Read a ``shasum``: SHA-1 in hexadecimal digits.

    Raises:
        ValueError: it is not that.
    """
    if re.fullmatch(r"[0-9a-fA-F]{40}", text) is None:
        raise ValueError(f"must be 40 hexadecimal digits, not {_shown(text)}")
    return Digest("sha1", bytes.fromhex(text))


def strongest(digests: tuple[Digest, ...]) -> tuple[Digest, ...]:
    """The digests of the strongest algorithm among them; empty if there are none."""
    best = max((STRENGTH[digest.algorithm] for digest in digests), default=0)
    return tuple(digest for digest in digests if STRENGTH[digest.algorithm] == best)


def digest_of(data: bytes, algorithm: str = "sha512") -> Digest:
    """The digest of some bytes."""
    return Digest(algorithm, hashlib.new(algorithm, data, usedforsecurity=False).digest())


def _shown(text: str) -> str:
    return ascii(text[:60])

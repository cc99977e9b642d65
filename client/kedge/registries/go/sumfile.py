"""Reads ``go.sum``: which module, at which version, has which hash.

Each line is a module's path, its version, with ``/go.mod`` behind it where the hash is that of the ``go.mod`` file
alone, and the hash: ``h1:`` and the base64 of a SHA-256 over the module's files.

Source: ``go help module-auth``; golang.org/x/mod/sumdb/dirhash (h1), golang.org/x/mod/module (escaped paths).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from kedge.documents import DocumentError

MAX_LINES = 1_000_000
_PATH = r"[A-Za-z0-9._~!-]+(?:/[A-Za-z0-9._~!+-]+)*"
_VERSION = r"v[0-9][A-Za-z0-9.+_-]{0,199}"
_HASH = r"[a-z][a-z0-9]{0,15}:[!-~]{1,200}"
_LINE = re.compile(rf"({_PATH}) ({_VERSION})(/go\.mod)? ({_HASH})", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class SumLine:
    """One line of ``go.sum``."""

    path: str
    version: str
    is_go_mod: bool
    digest: str

    @property
    def module(self) -> tuple[str, str]:
        """What a checksum database is asked for: path and version."""
        return self.path, self.version

    @property
    def spec(self) -> str:
        """The line without its hash, as people name it."""
        return f"{self.path}@{self.version}{'/go.mod' if self.is_go_mod else ''}"

    def to_text(self) -> str:
        """The line as it stands in the file and in the database, without its end."""
        return f"{self.path} {self.version}{'/go.mod' if self.is_go_mod else ''} {self.digest}"


def read_sums(data: bytes) -> tuple[SumLine, ...]:
    """Read a ``go.sum``; a line that stands twice counts once.

    Raises:
        DocumentError: a line is none; the path of the error is its number.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DocumentError("", f"is not UTF-8 (byte {error.start})") from error
    if text.count("\n") > MAX_LINES:
        raise DocumentError("", f"holds more than {MAX_LINES} lines")
    return tuple(dict.fromkeys(_lines(text)))


def _lines(text: str) -> Iterator[SumLine]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        match = _LINE.fullmatch(line.rstrip("\r"))
        if match is None:
            raise DocumentError(f"line {number}", "must be a module's path, its version and a hash such as h1:base64")
        yield SumLine(path=match[1], version=match[2], is_go_mod=match[3] is not None, digest=match[4])


def escaped(text: str) -> str:
    """A path or version as it stands in URLs: upper-case letters are written ``!`` and the lower-case one."""
    return re.sub("[A-Z]", lambda match: f"!{match[0].lower()}", text)


def matches(patterns: str, path: str) -> str | None:
    """The first of the comma-separated patterns of ``GOPRIVATE`` or ``GONOSUMDB`` that fits a module's path, or None.

    A pattern fits if it fits the path's beginning, element by element.
    """
    elements = path.split("/")
    for pattern in filter(None, (each.strip() for each in patterns.split(","))):
        parts = pattern.rstrip("/").split("/")
        if len(parts) <= len(elements) and all(map(_fits, parts, elements)):
            return pattern
    return None


def _fits(pattern: str, element: str) -> bool:
    from fnmatch import fnmatchcase

    return fnmatchcase(element, pattern.replace("[^", "[!"))

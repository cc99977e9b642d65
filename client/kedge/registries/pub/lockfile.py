"""Reads ``pubspec.lock``, in the form in which pub writes it: YAML of the plainest kind.

Names with a colon, values on the same line, plain or quoted, and tables inside tables by two blanks; comments on
lines of their own. Anything else (anchors, tags, lists, flow style, text over several lines) is refused with its
line, rather than read as something it may not mean.

Source: dart-lang/pub ``lib/src/lock_file.dart``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from kedge.documents import DocumentError
from kedge.registries.pub.listing import NAME, VERSION

MAX_PACKAGES = 100_000
MAX_DEPTH = 6
_ENTRY = re.compile(r'( *)("(?:[^"\\]|\\.)*"|[A-Za-z0-9_.-]+):(?: (.*))?')
_PLAIN = re.compile(r"[A-Za-z0-9_./^<>=~+][^#\"'\[\]{},&*!|%@`]*")

Node: TypeAlias = "str | dict[str, Node]"


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedPackage:
    """A package in the lock file. ``url`` and ``sha256`` are a hosted package's; ``where`` is its line."""

    name: str
    version: str
    source: str
    url: str | None
    sha256: str | None
    where: int

    @property
    def spec(self) -> str:
        """Name and version."""
        return f"{self.name} {self.version}"


def read_lock(data: bytes) -> tuple[LockedPackage, ...]:
    """Read a lock file.

    Raises:
        DocumentError: it is not one that pub writes; the path is the line, or leads to the package.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DocumentError("", f"is not UTF-8 (byte {error.start})") from error
    tree, lines = _read_tree(text)
    packages = tree.get("packages", {})
    if isinstance(packages, str):
        if packages == "{}":
            return ()
        raise DocumentError("packages", "must be a table")
    if len(packages) > MAX_PACKAGES:
        raise DocumentError("packages", f"holds {len(packages)} packages, at most {MAX_PACKAGES} are read")
    return tuple(_package(name, node, lines[name]) for name, node in packages.items())


def _package(name: str, node: Node, line: int) -> LockedPackage:
    path = f"packages.{name}"
    if re.fullmatch(NAME, name, re.ASCII) is None or isinstance(node, str):
        raise DocumentError(path, f"must be a package and its table (line {line})")
    source, version = _text(node, "source", path), _text(node, "version", path)
    if source != "hosted":
        return LockedPackage(name=name, version=version, source=source, url=None, sha256=None, where=line)
    if re.fullmatch(VERSION, version, re.ASCII) is None:
        raise DocumentError(f"{path}.version", "must be a version such as 1.2.3")
    description = node.get("description")
    if not isinstance(description, dict):
        raise DocumentError(f"{path}.description", "must be a table")
    inner = f"{path}.description"
    if _text(description, "name", inner) != name:
        raise DocumentError(f"{inner}.name", f"must be {name}, as the entry says")
    sha256 = description.get("sha256")
    if sha256 is not None and (not isinstance(sha256, str) or re.fullmatch("[0-9a-f]{64}", sha256) is None):
        raise DocumentError(f"{inner}.sha256", "must be 64 lower-case hexadecimal digits")
    url = _text(description, "url", inner)
    return LockedPackage(name=name, version=version, source=source, url=url, sha256=sha256, where=line)


def _text(table: Mapping[str, Node], name: str, path: str) -> str:
    value = table.get(name)
    if not isinstance(value, str) or not value:
        raise DocumentError(f"{path}.{name}", "must be a text" if name in table else "is missing")
    return value


def _read_tree(text: str) -> tuple[dict[str, Node], dict[str, int]]:
    """The whole file as tables and texts, and the line of each entry of ``packages``."""
    top: dict[str, Node] = {}
    stack: list[dict[str, Node]] = [top]
    lines: dict[str, int] = {}
    inside = ""
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _ENTRY.fullmatch(line.rstrip())
        depth, odd = divmod(len(match[1]), 2) if match is not None else (0, 1)
        if match is None or odd or depth >= MAX_DEPTH or depth >= len(stack):
            raise DocumentError(f"line {number}", "is not in the form in which pub writes this file")
        del stack[depth + 1 :]
        name = _name(match[2], number)
        table = stack[depth]
        if name in table:
            raise DocumentError(f"line {number}", f"{name} stands there twice")
        if depth == 0:
            inside = name
        elif depth == 1 and inside == "packages":
            lines[name] = number
        if match[3] is None or not match[3].strip():
            inner: dict[str, Node] = {}
            table[name] = inner
            stack.append(inner)
        else:
            table[name] = _value(match[3].strip(), number)
    return top, lines


def _name(text: str, number: int) -> str:
    return _value(text, number) if text.startswith('"') else text


def _value(text: str, number: int) -> str:
    if text.startswith('"'):
        try:
            value = json.loads(text)
        except ValueError as error:
            raise DocumentError(f"line {number}", "holds a text whose quotes cannot be read") from error
        return str(value)
    if text.startswith("'") and text.endswith("'") and len(text) > 1 and "'" not in text[1:-1]:
        return text[1:-1]
    if text == "{}" or _PLAIN.fullmatch(text):
        return text
    raise DocumentError(f"line {number}", "holds a value that is not in the form in which pub writes this file")

"""The field ``packageManager`` of a package.json: read, and replaced with every other byte left as it is."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from kedge.document import DocumentError

__all__ = ["read_package_manager", "set_package_manager"]

FIELD = "packageManager"

_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()


def read_package_manager(data: bytes) -> str | None:
    """Give the field's text, or None where there is no such field.

    Raises:
        DocumentError: it is no JSON object, or names the field twice or as anything but a text.
    """
    text = _decode(data)
    found = [member for member in _members(text) if member.name == FIELD]
    if not found:
        return None
    if len(found) > 1:
        raise DocumentError(FIELD, "stands twice in this file")
    value = json.loads(text[found[0].start : found[0].end])
    if not isinstance(value, str):
        raise DocumentError(FIELD, "must be a text")
    return value


def set_package_manager(data: bytes, value: str) -> bytes:
    """Put ``value`` into the field; where there is none, add it as the last, indented as the others are.

    Raises:
        DocumentError: as :func:`read_package_manager` does.
    """
    present = read_package_manager(data)
    text, written = _decode(data), json.dumps(value)
    members = _members(text)
    if present is not None:
        (at,) = (member for member in members if member.name == FIELD)
        changed = text[: at.start] + written + text[at.end :]
    elif members:
        space, last = members[0].space, members[-1]
        colon = ": " if "\n" in space else ":"
        changed = f'{text[: last.end]},{space}"{FIELD}"{colon}{written}{text[last.end :]}'
    else:
        opened = text.index("{") + 1
        changed = f'{text[:opened]}\n  "{FIELD}": {written}\n{text[text.index("}") :]}'
    return changed.encode("utf-8")


@dataclass(frozen=True, slots=True)
class _Member:
    """A member of the outermost object: the white space before its name, and where its value stands."""

    name: str
    space: str
    start: int
    end: int


def _decode(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DocumentError("", f"is not UTF-8 (byte {error.start})") from error


def _members(text: str) -> list[_Member]:
    try:
        return _scan(text)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise DocumentError("", f"is not a JSON object: {error.msg.lower()} ({place})") from error
    except RecursionError as error:
        raise DocumentError("", "is nested too deep") from error


def _scan(text: str) -> list[_Member]:
    members: list[_Member] = []
    at = _expect(text, 1 if text.startswith("\ufeff") else 0, "{")
    after = _skip(text, at)
    if text[after : after + 1] == "}":
        _expect_end(text, after + 1)
        return members
    while True:
        space = text[at : _skip(text, at)]
        name, at = _DECODER.raw_decode(text, _expect(text, at, '"') - 1)
        start = _skip(text, _expect(text, at, ":"))
        _, end = _DECODER.raw_decode(text, start)
        members.append(_Member(name, space, start, end))
        at = _skip(text, end)
        if text[at : at + 1] == "}":
            _expect_end(text, at + 1)
            return members
        at = _expect(text, at, ",")


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _expect(text: str, at: int, char: str) -> int:
    at = _skip(text, at)
    if text[at : at + 1] != char:
        raise json.JSONDecodeError(f"expecting {char!r}", text, at)
    return at + 1


def _expect_end(text: str, at: int) -> None:
    at = _skip(text, at)
    if at != len(text):
        raise json.JSONDecodeError("extra data", text, at)

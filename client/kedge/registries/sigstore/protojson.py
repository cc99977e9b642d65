"""Readers for what ProtoJSON allows and plain JSON documents of ours do not: nulls, numbers as texts, base64.

A null is an absent field, and a 64-bit number is a text. Base64 is taken in its one canonical form: of two texts for
the same bytes one is refused, so that no character of a document can be altered unseen.
"""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any

from kedge.document import Fields

__all__ = ["base64_bytes", "number", "unix_time", "without_nulls"]

_LAST_SECOND = 253_402_300_799  # the end of the year 9999, the last that a datetime holds


def without_nulls(value: Any) -> Any:
    """Take every field out of a parsed document whose value is null."""
    if isinstance(value, dict):
        return {name: without_nulls(item) for name, item in value.items() if item is not None}
    if isinstance(value, list):
        return [without_nulls(item) for item in value]
    return value


def base64_bytes(fields: Fields, name: str) -> bytes:
    """The bytes that a field holds in canonical base64.

    Raises:
        DocumentError: it holds something else, or nothing.
    """
    text = fields.text(name)
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        fields.fail(name, "must be base64")
    if base64.b64encode(data).decode("ascii") != text:
        fields.fail(name, "must be base64 in its canonical form, without stray bits at its end")
    return data


def number(fields: Fields, name: str) -> int:
    """A 64-bit number: a text of digits, or a plain number.

    Raises:
        DocumentError: it is none, or has more than 15 digits.
    """
    try:
        return fields.integer(name)
    except ValueError:
        return int(fields.text(name, pattern="0|[1-9][0-9]{0,14}", expected="a number of at most 15 digits"))


def unix_time(fields: Fields, name: str) -> datetime | None:
    """A time in seconds since 1970; None for 0, which ProtoJSON writes for a time that is not set.

    Raises:
        DocumentError: it is no such time.
    """
    seconds = number(fields, name)
    if seconds > _LAST_SECOND:
        fields.fail(name, "is later than the year 9999")
    return datetime.fromtimestamp(seconds, UTC) if seconds else None

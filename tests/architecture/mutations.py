"""One document, changed in one place, in every way that a schema could overlook.

The changes do not know the document: at every path every field is left out, every value is replaced by values of other
types, by numbers at the edges and by texts that are nearly right, every list loses and doubles an item, and every
object gets a field that nobody knows and has its names bent.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

__all__ = ["Mutation", "mutations"]

VALUES: tuple[Any, ...] = (
    *(None, True, False),
    *(0, 1, 2, -1, 100_000, 10**14, 10**15, 10**18, 1.0, 1.5),
    *("", " ", "x", "é", "\n", "/", "..", "../x", "a/../b", "a//b", "x" * 101, "x" * 1001, "0" * 64, "A" * 64),
    *("kedge.anchor/1", "2025-02-30T00:00:00Z", "2025-01-27T00:00:00Z", "2025-01-27T00:00:00.123Z"),
    *("2025-01-27T00:00:00", "2025-01-27T00:00:00+00:00", "2025-01-27 00:00:00Z", "2025-1-27T00:00:00Z"),
    *("0000-01-01T00:00:00Z", "2025-13-01T00:00:00Z", "2025-01-27T24:00:00Z", "2025-01-27T00:00:60Z"),
    *("QQ==", "QQ=", "QQ", "Q===", "QQ==QQ==", "QQ-_", "file:x", "file: x"),
    *([], [""], ["x"], [1], [None], [[]], [{}]),
    *({}, {"x": 1}, {"x": {}}, {"": ""}),
)
NAMES = ("", " ", "unknown", "a/b", "-x", "x" * 101, "é", "root", "x\n")


@dataclass(frozen=True, slots=True)
class Mutation:
    """A changed document; ``what`` says where and how it was changed."""

    what: str
    document: Any


def mutations(document: Any) -> Iterator[Mutation]:
    """Every mutation of ``document``, which stays as it is."""
    for path, value in _places(document):
        for what, changed in _changes(value):
            if changed != value or type(changed) is not type(value):
                yield Mutation(f"{_show(path)}: {what}", _with(document, path, changed))


def _places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    yield path, value
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from _places(child, (*path, key))


def _changes(value: Any) -> Iterator[tuple[str, Any]]:
    for other in VALUES:
        yield f"replaced by {str(other)[:40]!r} ({type(other).__name__})", copy.deepcopy(other)
    if isinstance(value, str):
        yield from _bent_text(value)
    elif isinstance(value, list):
        yield from _bent_list(value)
    elif isinstance(value, dict):
        yield from _bent_table(value)


def _bent_text(text: str) -> Iterator[tuple[str, Any]]:
    bent = (f"{text}\n", f"{text} ", f" {text}", f"{text}x", f"-{text}", text[:-1], text.upper(), f"{text}\x00", [text])
    for other in bent:
        yield f"replaced by {str(other)[-40:]!r}", other
    name, _, version = text.rpartition("/")
    if version.isdecimal():
        yield "the next major version", f"{name}/{int(version) + 1}"


def _bent_list(items: list[Any]) -> Iterator[tuple[str, Any]]:
    for index in range(len(items)):
        yield f"without item {index}", [*items[:index], *items[index + 1 :]]
        yield f"item {index} twice", [*items, copy.deepcopy(items[index])]
    yield "one item more, of another kind", [*items, 1]


def _bent_table(table: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, held in table.items():
        rest = {name: value for name, value in table.items() if name != key}
        yield f"without {key}", rest
        for name in NAMES:
            if name not in table:
                yield f"{key} renamed to {name!r}", {**rest, name: held}
    for name in NAMES:
        if name not in table:
            yield f"with a field {name!r}", {**table, name: "x"}


def _with(document: Any, path: tuple[str | int, ...], value: Any) -> Any:
    if not path:
        return value
    changed = copy.copy(document)
    changed[path[0]] = _with(document[path[0]], path[1:], value)
    return changed


def _show(path: tuple[str | int, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".") or "document"

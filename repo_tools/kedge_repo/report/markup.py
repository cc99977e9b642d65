"""HTML and SVG from values: every text and attribute is escaped, whoever wrote it; there is no other way to put one.

An :class:`Element` prints itself. Attributes with a dash are written with an underscore (``aria_label``); ``class_`` is
``class``. There is no style attribute and no script: the page's Content-Security-Policy lets neither in.
"""

from __future__ import annotations

import html
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

__all__ = ["Child", "Element", "element", "text_of"]

_VOID = frozenset({"meta", "col", "br", "rect", "line", "path"})

Child: TypeAlias = "Element | str | Iterable[Child] | None"


@dataclass(frozen=True, slots=True)
class Element:
    """One element with its children; None among them is left out."""

    name: str
    attributes: tuple[tuple[str, str], ...]
    children: tuple[Child, ...]

    def __str__(self) -> str:
        attributes = "".join(f' {name}="{html.escape(value)}"' for name, value in self.attributes)
        if self.name in _VOID:
            return f"<{self.name}{attributes}/>"
        return f"<{self.name}{attributes}>{''.join(text_of(child) for child in self.children)}</{self.name}>"


def element(name: str, *children: Child, **attributes: str | int | None) -> Element:
    """Make an element; an attribute that is None is left out."""
    given = tuple(
        (key.rstrip("_").replace("_", "-"), str(value)) for key, value in attributes.items() if value is not None
    )
    return Element(name, given, children)


def text_of(child: Child) -> str:
    """What a child prints as."""
    if child is None:
        return ""
    if isinstance(child, Element):
        return str(child)
    if isinstance(child, str):
        return html.escape(
            "".join(sign if sign.isprintable() or sign == "\n" else "\N{REPLACEMENT CHARACTER}" for sign in child)
        )
    return "".join(text_of(part) for part in child)

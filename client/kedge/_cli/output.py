"""What leaves the process: the answer on stdout, all else on stderr.

Texts that somebody else chose pass through :func:`visible`, so that no served name can move a terminal's cursor.
Colour is for terminals only, and ``NO_COLOR`` switches it off. Lines are folded where a width is known: on a terminal,
or where ``COLUMNS`` says so; a file or a pipe gets whole lines.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from kedge.errors import KedgeError, StoreError

__all__ = ["Screen", "Tone", "answer", "answer_json", "report", "visible", "warn"]

MIN_VALUE_COLUMNS = 16


class Tone(Enum):
    """How a piece of text is set off on a terminal that shows colour."""

    PLAIN = ""
    HEADING = "1"
    GOOD = "32"
    CAUTION = "33"
    BAD = "31"


@dataclass(frozen=True, slots=True, kw_only=True)
class Screen:
    """What stdout can show. ``columns`` is None where lines need no folding."""

    columns: int | None
    colour: bool

    @classmethod
    def of_stdout(cls) -> Screen:
        """What this process's stdout can show."""
        terminal = sys.stdout.isatty()
        known = terminal or os.environ.get("COLUMNS", "").isdecimal()
        return cls(
            columns=shutil.get_terminal_size().columns if known else None,
            colour=terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb",
        )

    def heading(self, text: str, tone: Tone = Tone.HEADING) -> list[str]:
        """A line of its own, at the left."""
        return [self._set(line, tone) for line in self._fold(visible(text), 0)]

    def rows(self, rows: Sequence[tuple[str, str] | tuple[str, str, Tone]]) -> list[str]:
        """Labels and values, aligned; the tone is the value's first word's."""
        indent = 4 + max((len(visible(label)) for label, *_ in rows), default=0)
        if self.columns is not None and self.columns - indent < MIN_VALUE_COLUMNS:
            indent = 4
        lines: list[str] = []
        for label, value, *tone in rows:
            first, *rest = self._fold(visible(value), indent) or [""]
            if tone:
                word, space, others = first.partition(" ")
                first = f"{self._set(word.rstrip(','), tone[0])}{',' * word.endswith(',')}{space}{others}"
            shown = visible(label)
            if len(shown) + 4 > indent:
                lines += [f"  {shown}", f"{' ' * indent}{first}"]
            else:
                lines.append(f"  {shown:<{indent - 2}}{first}".rstrip())
            lines += [f"{' ' * indent}{line}" for line in rest]
        return lines

    def _fold(self, text: str, indent: int) -> list[str]:
        if self.columns is None:
            return [text]
        return textwrap.wrap(text, max(self.columns - indent, MIN_VALUE_COLUMNS), break_on_hyphens=False)

    def _set(self, text: str, tone: Tone) -> str:
        return f"\x1b[{tone.value}m{text}\x1b[0m" if self.colour and tone.value else text


def visible(text: str) -> str:
    """Show control characters, line ends and whatever else has no form of its own as escapes."""
    return text if text.isprintable() else "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def answer(lines: Iterable[str]) -> None:
    """Print the answer.

    Raises:
        StoreError: stdout cannot be written.
    """
    text = "".join(f"{line}\n" for line in lines)
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        if error.errno == errno.EPIPE:
            raise
        raise StoreError(f"stdout cannot be written: {(error.strerror or str(error)).lower()}") from error


def answer_json(document: dict[str, Any], *, compact: bool = False) -> None:
    """Print the answer as one JSON object, in ASCII; ``compact``, on one line, is quicker where there is much of it.

    Raises:
        StoreError: stdout cannot be written.
    """
    answer([json.dumps(document, indent=None if compact else 1)])


def warn(text: str) -> None:
    """Say on stderr what the user should know beside the answer."""
    sys.stderr.write(f"kedge: warning: {_one_line(text)}\n")


def report(error: KedgeError) -> None:
    """Say on stderr what went wrong, and what to do next."""
    sys.stderr.write(f"kedge: {_one_line(error.message)}\n")
    if error.hint:
        sys.stderr.write(f"hint: {_one_line(error.hint)}\n")


def _one_line(text: str) -> str:
    return visible(re.sub(r"\s+", " ", text))

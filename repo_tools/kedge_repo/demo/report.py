"""What the demo has to say, as values: acts, their lines, and whether each line came out as promised."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from kedge.errors import KedgeError

__all__ = ["Act", "Line", "Report"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One promise, whether it was kept, and what a user would have read."""

    promise: str
    kept: bool
    said: tuple[str, ...] = ()


@dataclass(slots=True)
class Act:
    """A part of the story."""

    title: str
    lines: list[Line] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Report:
    """The whole story."""

    acts: tuple[Act, ...]
    repository: str | None

    @property
    def kept(self) -> bool:
        """Whether every line came out as promised, and there was one."""
        return all(line.kept for line in self.lines()) and any(True for _ in self.lines())

    def lines(self) -> Iterator[Line]:
        """Every line of every act."""
        for act in self.acts:
            yield from act.lines

    def to_table(self) -> dict[str, Any]:
        """The ``kedge.demo/1`` object of ``--json``."""
        return {
            "format": "kedge.demo/1",
            "kept": self.kept,
            "acts": [
                {
                    "title": act.title,
                    "lines": [
                        {"promise": line.promise, "kept": line.kept, "said": list(line.said)} for line in act.lines
                    ],
                }
                for act in self.acts
            ],
            "repository": self.repository,
        }


def as_user_sees(program: str, error: KedgeError) -> tuple[str, ...]:
    """An error as the command prints it, with its exit code."""
    hint = (f"hint: {error.hint}",) if error.hint else ()
    return (f"{program}: {error.message}", *hint, f"exit code {int(error.exit_code)}")

"""Spans of time as bars in SVG: one small picture a row of a table, all of one table on the same scale.

No text stands in a picture, so that its size follows the screen and its words do not: what a bar says stands beside it,
and is the picture's name for those who do not see it. What differs in colour differs in shape as well: a bar in use is
thick, one that is over is thin, one that was revoked is thin and struck through.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from kedge_repo.report.markup import Element, element

__all__ = ["Kind", "Scale", "bar", "scale_for"]

WIDTH, HEIGHT = 1_000, 20
LONGEST = timedelta(days=8 * 365)
AROUND = timedelta(days=30)


class Kind(StrEnum):
    """What a bar is of; also its class in the style sheet."""

    ACTIVE = "active"
    RETIRED = "retired"
    REVOKED = "revoked"
    DUE = "due"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """From when to when a table's bars reach, and when now is."""

    start: datetime
    end: datetime
    now: datetime

    def at(self, moment: datetime) -> int:
        """Where a moment lies, from 0 to ``WIDTH``; what lies outside is at the edge."""
        share = (moment - self.start) / (self.end - self.start)
        return round(min(1.0, max(0.0, share)) * WIDTH)

    def years(self) -> list[datetime]:
        """The beginnings of years inside."""
        first = datetime(self.start.year + 1, 1, 1, tzinfo=UTC)
        return [first.replace(year=year) for year in range(first.year, self.end.year + 1)]


def scale_for(now: datetime, moments: Iterable[datetime | None]) -> Scale:
    """The scale that holds ``now`` and the moments, but not more than some years before and after now."""
    known = [moment for moment in moments if moment is not None]
    start = max(min([now, *known]), now - LONGEST)
    end = min(max([now, *known]), now + LONGEST)
    return Scale(start=start - AROUND, end=end + AROUND, now=now)


def bar(
    scale: Scale,
    start: datetime | None,
    end: datetime | None,
    kind: Kind,
    label: str,
    *,
    marks: Iterable[datetime] = (),
) -> Element:
    """One bar from ``start`` to ``end`` (None: open on that side), called ``label``; ``marks`` are moments in it."""
    left = scale.at(start) if start is not None else 0
    right = scale.at(end) if end is not None else WIDTH
    thick = kind not in {Kind.RETIRED, Kind.REVOKED}
    top, height = (3, 14) if thick else (7, 6)
    return element(
        "svg",
        (_line("year", scale.at(year)) for year in scale.years()),
        element("rect", class_=kind.value, x=left, y=top, width=max(4, right - left), height=height),
        element("line", class_="strike", x1=left, y1=2, x2=right, y2=18) if kind is Kind.REVOKED else None,
        (_line("mark", scale.at(mark)) for mark in marks),
        _line("now", scale.at(scale.now)),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        preserveAspectRatio="none",
        class_="bar",
        role="img",
        aria_label=label,
    )


def _line(kind: str, x: int) -> Element:
    return element("line", class_=kind, x1=x, y1=0, x2=x, y2=HEIGHT)

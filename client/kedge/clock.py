"""Where the present comes from. The library asks a clock; only the edge knows the system's.

The reference time of the workflow is the clock's time, but never below the time floor of earlier refreshes
(:class:`kedge.checks.Freshness`): a clock that was set back must not revive what has expired.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

__all__ = ["Clock", "FixedClock", "SystemClock"]


class Clock(Protocol):
    """Tells the present as an aware UTC time."""

    def now(self) -> datetime:
        """The present, in UTC."""
        ...


class SystemClock:
    """This machine's clock."""

    def now(self) -> datetime:
        """The present by this machine's clock, in UTC."""
        return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class FixedClock:
    """A clock that stands still."""

    moment: datetime

    def now(self) -> datetime:
        """The moment that was given, in UTC."""
        return self.moment.astimezone(UTC)

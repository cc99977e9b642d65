"""A clock that stands still until it is moved."""

from __future__ import annotations

from datetime import datetime, timedelta

__all__ = ["SettableClock"]


class SettableClock:
    """The client's clock in tests: ``clock.moment`` is the time, and may be set."""

    def __init__(self, moment: datetime) -> None:
        self.moment = moment

    def now(self) -> datetime:
        """The time it was set to."""
        return self.moment

    def advance(self, by: timedelta) -> None:
        """Move it, forwards or (a negative span) backwards."""
        self.moment += by

"""How old trust is, and by when new trust must arrive: what a site that only gets bundles lives by.

TUF signs until when something is valid, and not since when. Repositories that kedge-repo keeps say it in the timestamp
(``x-kedge-issued``, signed); for any other, the age counts from the moment at which this machine first accepted that
timestamp. That is a lower bound, and taking the same bundle in again does not make it younger.

Two lines, both of the anchor: from ``warn_after`` on every answer warns; past ``red_line`` there is none (exit 4).
Trust that has expired ends earlier than that, unless ``max_staleness`` lets it live on for a while. Whichever comes
first is the moment by which the next bundle, or refresh, must have arrived.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from kedge.checks import describe_age
from kedge.document import format_time, parse_time
from kedge.errors import ExpiredError, Reason, Refusal
from kedge.metadata import Parsed
from kedge.state import TrustedState

__all__ = ["ISSUED", "Age", "AgeBasis", "AgeLimits", "age_of", "issued_at"]

ISSUED = "x-kedge-issued"


@dataclass(frozen=True, slots=True, kw_only=True)
class AgeLimits:
    """What an anchor says of age (its ``name`` is for messages); no red line and no warning where they are zero."""

    name: str
    max_staleness: timedelta = timedelta(0)
    warn_after: timedelta = timedelta(0)
    red_line: timedelta = timedelta(0)


class AgeBasis(StrEnum):
    """Since when the age of trust counts."""

    SIGNED = "signed"
    """Since the timestamp was made, as it says itself."""
    SEEN = "seen"
    """Since this machine first accepted the timestamp."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Age:
    """How old trust is at the reference time (None where nobody knows), and by when new trust must have arrived."""

    since: datetime | None
    age: timedelta | None
    basis: AgeBasis | None
    next_by: datetime
    warnings: tuple[str, ...]


def issued_at(timestamp: Parsed[Any]) -> datetime | None:
    """When a timestamp was made, as it says itself; None where it does not say, or what it says is no time."""
    text = timestamp.signed.unrecognized_fields.get(ISSUED)
    try:
        return parse_time(text) if isinstance(text, str) else None
    except ValueError:
        return None


def age_of(
    limits: AgeLimits, state: TrustedState, *, seen: datetime | None, valid_until: datetime, now: datetime
) -> Age:
    """Judge the age of trust at the reference time ``now``; ``seen`` is when the timestamp was first accepted here.

    Raises:
        ExpiredError: it is past the red line.
    """
    timestamp = state.timestamp
    issued = issued_at(timestamp) if timestamp is not None else None
    since = issued if issued is not None else seen
    age = max(now - since, timedelta(0)) if since is not None else None
    next_by = _no_later_than_possible(valid_until, limits.max_staleness)
    if since is not None and limits.red_line:
        next_by = min(next_by, _no_later_than_possible(since, limits.red_line))
    if age is not None and timestamp is not None and limits.red_line and age >= limits.red_line:
        raise _past_the_red_line(limits, timestamp, age, now)
    warnings: list[str] = []
    if valid_until <= now:
        ended = f"expired {describe_age(now - valid_until)} ago"
        warnings.append(f"trust {ended}, and is used until {format_time(next_by)} as the anchor allows")
    if age is not None and limits.warn_after and age >= limits.warn_after:
        warnings.append(f"trust is {describe_age(age)} old: new trust must arrive by {format_time(next_by)}")
    basis = AgeBasis.SIGNED if issued is not None else AgeBasis.SEEN
    return Age(
        since=since,
        age=age,
        basis=basis if since is not None else None,
        next_by=next_by,
        warnings=tuple(warnings),
    )


def _no_later_than_possible(moment: datetime, span: timedelta) -> datetime:
    try:
        return moment + span
    except OverflowError:
        return datetime.max.replace(microsecond=0, tzinfo=moment.tzinfo)


def _past_the_red_line(limits: AgeLimits, timestamp: Parsed[Any], age: timedelta, now: datetime) -> ExpiredError:
    allowed, found = describe_age(limits.red_line), describe_age(age)
    refusal = Refusal(
        reason=Reason.EXPIRED, file=timestamp.file, role="timestamp", expected=f"at most {allowed} old", found=found
    )
    return ExpiredError(
        f"{timestamp.file}: timestamp version {timestamp.signed.version} is {found} old at {format_time(now)}, and the "
        f"red line of anchor {limits.name} is {allowed}",
        refusal=refusal,
        hint="the next bundle is late, or the mirror withholds newer files",
    )

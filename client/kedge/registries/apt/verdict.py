"""What became of a Release, an index or a package of an apt repository; and how old a Release may be. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from kedge.document import Fields, format_time
from kedge.registries.apt.release import Release

__all__ = ["GOOD", "Aged", "Outcome", "Policy", "judge_age", "remembered", "subject_of"]

FUTURE_TOLERANCE = timedelta(seconds=10)  # as apt's Acquire::Max-FutureTime


class Outcome(StrEnum):
    """The outcome for one thing. The values stand in ``--json``; those of signatures are OpenPGP's."""

    VERIFIED = "verified"
    UNSIGNED = "unsigned"
    BAD_SIGNATURE = "bad-signature"
    REVOKED_KEY = "revoked-key"
    EXPIRED_KEY = "expired-key"
    EXPIRED_SIGNATURE = "expired-signature"
    WEAK_DIGEST = "weak-digest"
    UNKNOWN_KEY = "unknown-key"
    UNCHECKED = "unchecked"
    MALFORMED = "malformed"
    WRONG_SUITE = "wrong-suite"
    ROLLED_BACK = "rolled-back"
    EXPIRED = "expired"
    STALE = "stale"
    NOT_YET_VALID = "not-yet-valid"
    DIGEST_MISMATCH = "digest-mismatch"
    NOT_LISTED = "not-listed"
    MISSING = "missing"
    TOO_LONG = "too-long"
    UNREACHABLE = "unreachable"


GOOD: frozenset[StrEnum] = frozenset({Outcome.VERIFIED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the user decides: how old a Release without ``Valid-Until`` may be, and which suite is meant.

    ``accept_older`` takes a Release that is older than one that was seen: the way out where that was a mistake.
    """

    max_age: timedelta = field(default=timedelta(days=180))
    suite: str | None = None
    accept_older: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Aged:
    """What a Release's dates came to; ``outcome`` is ``VERIFIED`` where nothing speaks against it."""

    outcome: Outcome
    detail: str = ""
    notes: tuple[str, ...] = ()


def subject_of(registry: str, release: Release) -> str:
    """Of what a Release is the newest: the repository by its key document, and what it calls itself for good.

    The suite is left out where there is a codename: stable becomes oldstable, and stays the same repository.
    """
    return " ".join(
        part or "-" for part in (registry, release.origin, release.label, release.codename or release.suite)
    )


def remembered(release: Release, sha256: str, seen: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """What is to be remembered once ``release`` was verified: the newer of it and of what was seen.

    Raises:
        DocumentError: what was seen cannot be read.
    """
    if seen is not None and _seen(seen)[0] > release.date:
        return seen
    return {"date": format_time(release.date), "sha256": sha256}


def judge_age(release: Release, sha256: str, seen: Mapping[str, Any] | None, policy: Policy, *, now: datetime) -> Aged:
    """Judge a Release's dates and names at ``now``, and against the one that was seen before.

    Raises:
        DocumentError: what was seen cannot be read.
    """
    notes: tuple[str, ...] = ()
    if policy.suite is not None and not release.is_called(policy.suite):
        found = " and ".join(dict.fromkeys(filter(None, (release.suite, release.codename))))
        return Aged(outcome=Outcome.WRONG_SUITE, detail=f"{policy.suite} was asked for, and this is {found}")
    if seen is not None:
        date, digest = _seen(seen)
        if release.date < date:
            detail = f"made at {format_time(release.date)}, and one of {format_time(date)} was seen before: a replay"
            if not policy.accept_older:
                return Aged(outcome=Outcome.ROLLED_BACK, detail=detail)
            notes = (f"{detail}, which you accept",)
        elif release.date == date and digest != sha256:
            notes = ("another Release of the very same date was seen before",)
    return _by_dates(release, policy, notes, now)


def _by_dates(release: Release, policy: Policy, notes: tuple[str, ...], now: datetime) -> Aged:
    age = f"made at {format_time(release.date)}, {_days(now - release.date)} ago"
    if release.date > now + FUTURE_TOLERANCE:
        detail = f"made at {format_time(release.date)}, and it is {format_time(now)} now"
        return Aged(outcome=Outcome.NOT_YET_VALID, detail=detail, notes=notes)
    if release.valid_until is not None:
        over = release.valid_until <= now
        detail = f"{age}, valid until {format_time(release.valid_until)}"
        return Aged(outcome=Outcome.EXPIRED if over else Outcome.VERIFIED, detail=detail, notes=notes)
    if now - release.date > policy.max_age:
        detail = f"{age}; it says not how long it holds (no Valid-Until), and {_days(policy.max_age)} are allowed"
        return Aged(outcome=Outcome.STALE, detail=detail, notes=notes)
    return Aged(outcome=Outcome.VERIFIED, detail=f"{age}; no Valid-Until", notes=notes)


def _seen(seen: Mapping[str, Any]) -> tuple[datetime, str]:
    fields = Fields(seen, "seen")
    return fields.time("date"), fields.sha256("sha256")


def _days(age: timedelta) -> str:
    if age < timedelta(days=2):
        hours = int(age.total_seconds() // 3600)
        return f"{hours} {'hour' if hours == 1 else 'hours'}"
    return f"{age.days} days"

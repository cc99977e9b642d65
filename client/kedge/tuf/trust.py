"""How far trust reaches, as an answer: versions, dates, where it came from, and what must be said beside it.

How old trust is, and by when new trust must arrive: what a site that only gets bundles lives by.

TUF signs until when something is valid, and not since when. Repositories that kedge-repo keeps say it in the timestamp
(``x-kedge-issued``, signed); for any other, the age counts from the moment at which this machine first accepted that
timestamp. That is a lower bound, and taking the same bundle in again does not make it younger.

Two lines, both of the anchor: from ``warn_after`` on every answer warns; past ``red_line`` there is none (exit 4).
Trust that has expired ends earlier than that, unless ``max_staleness`` lets it live on for a while. Whichever comes
first is the moment by which the next bundle, or refresh, must have arrived.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import islice
from typing import TYPE_CHECKING, Any

from kedge.documents import format_time, parse_time
from kedge.errors import ExpiredError, Reason, Refusal
from kedge.tuf.checks import describe_age
from kedge.tuf.metadata import Parsed, unknown_keys
from kedge.tuf.state import TrustedState

if TYPE_CHECKING:
    from tuf.api.metadata import Root, Targets

ISSUED = "x-kedge-issued"
_DELEGATORS = 64


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


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleState:
    """One role's version, and when it expires."""

    version: int
    expires: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class LogState:
    """A transparency log as it vouches for an answer: its name, its size, the time that the witnesses vouch for."""

    origin: str
    size: int
    time: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A verified target file.

    ``role`` is the role that lists it, ``custom`` what that role says beside it.
    """

    path: str
    data: bytes
    sha256: str
    role: str
    custom: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """The state that an answer stands on.

    ``valid_until`` is when the first of the roles used expires (signed); ``fetched`` is when this machine last
    completed a refresh, ``source`` where from. ``refreshed`` says whether this client did, no longer ago than the
    anchor's ``refresh_after`` (an hour, where it says nothing); ``stored`` is false where the disk refused what was
    new. ``stale`` marks trust that has expired and is used because the policy allows it for a while; ``as_of`` is the
    time asked for instead of now. ``age`` says how old it all is, and by when new trust must have arrived. ``log`` is
    the log that vouches for all of it, None where the anchor asks for none.
    """

    anchor: str
    root: RoleState
    timestamp: RoleState
    snapshot: RoleState
    targets: RoleState
    valid_until: datetime
    reference_time: datetime
    fetched: datetime | None
    source: str | None
    refreshed: bool
    stored: bool
    stale: bool
    age: Age
    as_of: datetime | None
    warnings: tuple[str, ...]
    log: LogState | None = None


def key_warnings(state: TrustedState) -> tuple[str, ...]:
    """What is to be said of keys that the metadata in use lists and that cannot be checked here.

    Hash bins delegate to nobody: of very many roles the first are looked at.
    """
    found: list[str] = []
    targets = ((role, parsed.signed) for role, parsed in islice(state.roles.items(), _DELEGATORS))
    delegators: dict[str, Root | Targets] = {"root": state.root, **dict(targets)}
    for role, signed in delegators.items():
        kinds = sorted(set(unknown_keys(signed).values()))
        if kinds:
            listed = f"{role} version {signed.version} lists keys of unknown types ({', '.join(kinds)})"
            found.append(f"{listed}: they count nothing; upgrade kedge to use them")
    return tuple(found)


def role_states(state: TrustedState) -> dict[str, RoleState]:
    """The four top-level roles of a complete state, by name."""
    held = {
        "root": state.newest_root,
        "timestamp": state.timestamp,
        "snapshot": state.snapshot,
        "targets": state.targets,
    }
    return {
        name: RoleState(version=parsed.signed.version, expires=parsed.signed.expires)
        for name, parsed in held.items()
        if parsed is not None
    }

"""From a complete state to what is said of it: how far trust reaches, until when, and how old it is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from kedge.aging import age_of
from kedge.anchor import Anchor
from kedge.checks import Freshness
from kedge.session import Session
from kedge.state import TrustedState
from kedge.trust import LogState, Trust, role_states

__all__ = ["judged_again", "trust_of"]


def trust_of(
    anchor: Anchor,
    session: Session,
    state: TrustedState,
    freshness: Freshness,
    *,
    refreshed: bool,
    warnings: Iterable[str],
    log: LogState | None,
) -> Trust:
    """Say how far trust reaches, by a complete state.

    Raises:
        ExpiredError: it is past the anchor's red line.
    """
    roles, now = role_states(state), freshness.reference_time
    valid_until = min(role.expires for role in roles.values())
    age = age_of(anchor.age_limits, state, seen=_seen(session, freshness), valid_until=valid_until, now=now)
    return Trust(
        anchor=anchor.name,
        root=roles["root"],
        timestamp=roles["timestamp"],
        snapshot=roles["snapshot"],
        targets=roles["targets"],
        valid_until=valid_until,
        reference_time=now,
        fetched=session.fetched,
        source=session.source,
        refreshed=refreshed,
        stale=valid_until <= now,
        age=age,
        as_of=now if freshness.as_of else None,
        warnings=(*session.warnings, *age.warnings, *warnings),
        log=log,
    )


def judged_again(
    trust: Trust, anchor: Anchor, session: Session, state: TrustedState, freshness: Freshness, *, valid_until: datetime
) -> Trust:
    """The same answer by another reference time, or with another end.

    Raises:
        ExpiredError: it is past the anchor's red line.
    """
    now = freshness.reference_time
    age = age_of(anchor.age_limits, state, seen=_seen(session, freshness), valid_until=valid_until, now=now)
    return replace(trust, reference_time=now, valid_until=valid_until, stale=valid_until <= now, age=age)


def _seen(session: Session, freshness: Freshness) -> datetime | None:
    # What this machine saw says nothing of another time than now.
    return None if freshness.as_of else session.seen

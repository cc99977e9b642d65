"""How far trust reaches, as an answer: versions, dates, where it came from, and what must be said beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kedge.aging import Age
from kedge.state import TrustedState

__all__ = ["LogState", "RoleState", "Target", "Trust"]


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
    completed a refresh, ``source`` where from. ``refreshed`` says whether that was now. ``stale`` marks trust that has
    expired and is used because the policy allows it for a while; ``as_of`` is the time asked for instead of now.
    ``age`` says how old it all is, and by when new trust must have arrived. ``log`` is the log that vouches for all of
    it, None where the anchor asks for none.
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
    stale: bool
    age: Age
    as_of: datetime | None
    warnings: tuple[str, ...]
    log: LogState | None = None


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

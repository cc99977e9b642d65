"""A repository's whole log: every entry, shown to be complete, and replayed.

A client that follows a log needs a tile of it. Who wants to know which keys were *ever* allowed takes all of it: the
entries make the root hash that the log and its witnesses signed, so none is left out, also none that its maintainers
would rather forget.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from kedge.anchor import Anchor, Transparency
from kedge.client import TrustClient
from kedge.clock import Clock
from kedge.errors import FetchError
from kedge.keylog.checkpoint import Witnessed
from kedge.keylog.replay import History, replay
from kedge.lockfile import Lock
from kedge.transport import Deadline, open_mirrors
from kedge.trust import Trust

__all__ = ["WholeLog", "read_whole_log"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeLog:
    """All entries of a log, the checkpoint whose root hash they make, and what they say."""

    witnessed: Witnessed
    entries: tuple[bytes, ...]
    history: History
    trust: Trust


def read_whole_log(
    anchor: Anchor,
    *,
    state: Path | None = None,
    clock: Clock | None = None,
    timeout_s: float = 60.0,
    lock: Lock | None = None,
    registry: str | None = None,
) -> WholeLog:
    """Refresh with the log required, whatever the anchor says, and read all of it; replay one ``registry``, or all.

    Raises:
        VerificationError: the log is not to be trusted, or what is served of it is not all of it.
        ExpiredError: something has expired.
        FetchError: the repository or its log cannot be reached.
    """
    anchor = replace(anchor, transparency=Transparency.REQUIRE)
    transport = open_mirrors(anchor.mirrors)
    client = TrustClient(
        anchor, state=state, transport=transport, clock=clock, timeout_s=timeout_s, require_refresh=True, lock=lock
    )
    with client:
        trust = client.refresh()
        if client.key_log is None:
            raise FetchError(f"{anchor.name}: the repository has no log")
        witnessed, entries = client.key_log.read_all(transport, Deadline(timeout_s))
    history = replay(entries, registry=registry)
    return WholeLog(witnessed=witnessed, entries=tuple(entries), history=history, trust=trust)

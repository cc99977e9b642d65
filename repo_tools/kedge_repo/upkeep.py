"""``kedge-repo online`` as a job: snapshot and timestamp signed before they expire, published, and nothing done else.

For cron, a systemd timer or a CI schedule, and for whoever starts it twice or kills it anywhere. One run

1. takes up what is published, where the workspace comes from git and is older (:mod:`kedge_repo.publish.adopt`);
2. signs, if anything is due: the timestamp is inside its signing period, a role or a bin has a newer version than the
   snapshot names, or a bin is about to expire;
3. publishes, if a destination does not show the workspace's timestamp.

What fails for want of a network or a disk is tried again after a pause; what came second to another publisher begins
again at 1; a snapshot whose name was taken by a publisher who died is signed again under the next version. An error
that is left ends the run, with what was true before still true: no client sees half of anything.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from securesystemslib.signer import Signer

from kedge.document import format_time, parse_time
from kedge.errors import KedgeError, StoreError
from kedge_repo.online import ISSUED_FIELD, online_due, sign_online
from kedge_repo.publish.adopt import adopt
from kedge_repo.publish.destination import TIMESTAMP_PATH, BehindError, Destination, TakenError
from kedge_repo.publish.directory import publish_to
from kedge_repo.publish.replay import READERS, Reader
from kedge_repo.workspace import Workspace

__all__ = ["ATTEMPTS", "Upkeep", "keep_online", "metrics"]

ATTEMPTS = 4
_FIRST_PAUSE_S = 2.0
_CLOCK_MARGIN = timedelta(minutes=10)
_SNAPSHOT = re.compile(r"metadata/([1-9]\d*)\.snapshot\.json", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Upkeep:
    """What a run came to: why it signed (None: nothing was due), where it published, and until when that is valid."""

    due: str | None
    published: tuple[str, ...]
    adopted: bool
    timestamp: int
    expires: datetime
    attempts: int


def keep_online(
    workspace: Workspace,
    signers: Sequence[Signer],
    destinations: Sequence[Destination],
    *,
    now: Callable[[], datetime],
    pause: Callable[[float], None],
    attempts: int = ATTEMPTS,
    before: Callable[[Sequence[Destination]], None] | None = None,
    readers: Mapping[str, Reader] = READERS,
) -> Upkeep:
    """Do what is due; ``now`` tells the time, ``pause`` waits for so many seconds.

    ``before`` is done where something is to be published, before it is: a log that must vouch for it is written.

    Raises:
        StoreError: a destination or the disk failed at every attempt.
        BehindError: another publisher was faster at every attempt, or the workspace lacks what keyholders signed.
        ExpiredError: a role that keyholders sign, or a bin, has expired.
        ThresholdError: the signers do not reach the threshold.
        InputError: the workspace cannot be read, or a destination holds something else.
        VerificationError: what was signed, or is published, does not verify.
    """
    at_least = 1
    for attempt in range(1, attempts + 1):
        try:
            adopted = [adopt(workspace, destination) for destination in destinations]
            _require_sane_clock(workspace, now())
            due = online_due(workspace, now=now()) if at_least == 1 else "the snapshot's name was taken"
            if due is not None:
                sign_online(workspace, signers, now=now(), at_least=at_least)
            timestamp = workspace.timestamp()
            stale = [place for place in destinations if _shows_other(place, timestamp.data)]
            if stale and before is not None:
                before(stale)
            done = publish_to(workspace, stale, now=now(), readers=readers) if stale else ()
        except (StoreError, BehindError):
            if attempt == attempts:
                raise
            pause(_FIRST_PAUSE_S * 2 ** (attempt - 1))
        except TakenError as error:
            taken = _SNAPSHOT.fullmatch(error.path)
            if attempt == attempts or taken is None:
                raise
            at_least = int(taken[1]) + 1
        else:
            return Upkeep(
                due=due,
                published=tuple(published.where for published in done),
                adopted=any(adopted),
                timestamp=timestamp.signed.version,
                expires=timestamp.signed.expires,
                attempts=attempt,
            )
    raise AssertionError("the last attempt returns or raises")


def _require_sane_clock(workspace: Workspace, now: datetime) -> None:
    """Check that the clock is not behind what was signed: it would say for long that nothing is due."""
    if not workspace.has_timestamp():
        return
    text = workspace.timestamp().signed.unrecognized_fields.get(ISSUED_FIELD)
    if isinstance(text, str) and now + _CLOCK_MARGIN < parse_time(text):
        raise StoreError(
            f"this machine's clock says {format_time(now)}, and the timestamp was issued at {text}",
            hint="set the clock; if it was ahead before, and is right now, sign with kedge-repo online by hand",
        )


def _shows_other(destination: Destination, timestamp: bytes) -> bool:
    held = destination.read(TIMESTAMP_PATH)
    return held is None or held.data != timestamp


def metrics(done: Upkeep | None, error: KedgeError | None, *, started: datetime) -> bytes:
    """How a run went, as a file that Prometheus' node exporter collects; ``error`` is what ended it."""
    lines = [
        "# HELP kedge_online_exit_code The exit code of the last run of kedge-repo online --job.",
        "# TYPE kedge_online_exit_code gauge",
        f"kedge_online_exit_code {int(error.exit_code) if error is not None else 0}",
        "# HELP kedge_online_last_run_seconds When the last run began.",
        "# TYPE kedge_online_last_run_seconds gauge",
        f"kedge_online_last_run_seconds {int(started.timestamp())}",
    ]
    if done is not None:
        lines += [
            "# HELP kedge_timestamp_expires_seconds When the timestamp that is published expires.",
            "# TYPE kedge_timestamp_expires_seconds gauge",
            f"kedge_timestamp_expires_seconds {int(done.expires.timestamp())}",
            "# HELP kedge_timestamp_version The version of that timestamp.",
            "# TYPE kedge_timestamp_version gauge",
            f"kedge_timestamp_version {done.timestamp}",
        ]
    return ("\n".join(lines) + "\n").encode()

"""Publishing a repository's log, before anything that it must vouch for.

Tiles and entries are written to every destination first, where witnesses and monitors can read them; then the
checkpoint is signed and the witnesses are asked; only with their quorum are checkpoint and proofs written. The metadata
follows (:mod:`kedge_repo.publish.write`), the timestamp last: so a client is never led to something that is not in a
witnessed log, and where the quorum is missed, clients stay where they were.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import partial

from kedge.errors import InputError
from kedge_repo.logwriter import LogFiles, LogWriter
from kedge_repo.publish.destination import CHECKPOINT_PATH, BehindError, Destination
from kedge_repo.publish.files import collect_files
from kedge_repo.witness import PAUSE_S, Post
from kedge_repo.workspace import Workspace

__all__ = ["publish_log"]


def publish_log(
    workspace: Workspace,
    writer: LogWriter,
    places: Sequence[Destination],
    *,
    now: datetime,
    post: Post,
    pause_s: float = PAUSE_S,
) -> LogFiles:
    """Bring the log up to date with the workspace's signed metadata, witnessed, at each of ``places``.

    ``pause_s`` is for how long a witness that did not answer is left alone before it is asked again.

    Raises:
        InputError: there is nothing to publish, the log cannot be continued, or a destination holds another log.
        VerificationError: the signed metadata does not verify.
        ThresholdError: too few witnesses signed; no checkpoint was written, and clients stay on the old state.
        StoreError: a destination cannot be reached, locked or written.
    """
    collect_files(workspace)  # what does not verify must not be logged: a log forgets nothing
    with workspace.lock():
        for place in places:
            writer.take_up(partial(_read, place), place.name)
        grown = writer.grow(now=now)
        for place in places:
            with place.exclusive():
                _write_grown(place, grown)
        log = writer.witness(grown, now=now, post=post, pause_s=pause_s)
    for place in places:
        with place.exclusive():
            _write_renewed(place, log)
    return log


def _read(place: Destination, path: str) -> bytes | None:
    held = place.read(path)
    return held.data if held is not None else None


def _write_grown(place: Destination, log: LogFiles) -> None:
    for path, data in log.grown.items():
        if not place.create(path, data) and (held := place.read(path)) is not None and held.data != data:
            problem = "holds other bytes than this workspace's log"
            raise InputError(f"{place.place(path)}: {problem}", hint="two logs of one name: find out why")


def _write_renewed(place: Destination, log: LogFiles) -> None:
    for path, data in {CHECKPOINT_PATH: log.checkpoint or b"", **log.proofs}.items():
        held = place.read(path)
        if (held is None or held.data != data) and not place.replace(path, data, held):
            raise BehindError(place.place(path), "has changed meanwhile")

"""Dropping what no live client can ask for: old snapshots, and the bins that only they name.

A client asks for what the timestamp that it holds leads to, and holds none that has expired. Each snapshot says,
signed, until when a timestamp that names an earlier one is valid (``x-kedge-former-until``); a day after that, for
clocks that are wrong, every earlier snapshot is dropped, and every version of a bin before the one that the first
snapshot left names. Roots, what keyholders sign, and the targets themselves are never dropped: they are the history.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from tuf.api.metadata import Snapshot

from kedge.documents import parse_time
from kedge.errors import VerificationError
from kedge.tuf import parse
from kedge_repo.bins import bin_delegations
from kedge_repo.publish.destination import Destination
from kedge_repo.workspace import FORMER_FIELD, Workspace

MARGIN = timedelta(days=1)
_VERSIONED = re.compile(r"metadata/([1-9]\d*)\.(.+)\.json", re.ASCII)


def prune_destination(
    workspace: Workspace, destination: Destination, *, now: datetime, dry_run: bool = False
) -> tuple[str, ...]:
    """Remove what the module describes from ``destination``; the paths are returned. ``dry_run`` removes nothing.

    Raises:
        InputError: the workspace cannot be read.
        StoreError: the destination cannot be reached, locked, read or written.
    """
    with destination.exclusive():
        files = list(_versions(destination.paths("metadata")))
        snapshots = {version: path for path, name, version in files if name == Snapshot.type}
        first = _first_alive(destination, snapshots, now)
        if first is None:
            return ()
        prefixes = tuple(
            f"{delegation.succinct.name_prefix}-"
            for delegation in bin_delegations(workspace.signed(online=False), workspace.policy()).values()
        )
        alive = {name.removesuffix(".json"): meta.version for name, meta in first.meta.items()}
        dead = [path for version, path in snapshots.items() if version < first.version]
        dead += (
            [path for path, name, version in files if name.startswith(prefixes) and version < alive.get(name, 0)]
            if prefixes
            else []
        )
        if dead and not dry_run:
            destination.remove(dead)
    return tuple(sorted(dead))


def _versions(paths: Iterable[str]) -> Iterable[tuple[str, str, int]]:
    """Path, role and version of each versioned file."""
    for path in paths:
        match = _VERSIONED.fullmatch(path)
        if match is not None:
            yield path, match[2], int(match[1])


def _first_alive(destination: Destination, snapshots: Mapping[int, str], now: datetime) -> Snapshot | None:
    """The newest snapshot before which all are dead; searched by halves, for the times that they carry only grow."""
    versions, found = sorted(snapshots), None
    low, high = 0, len(versions)
    while low < high:
        middle = (low + high) // 2
        snapshot = _read(destination, snapshots[versions[middle]])
        if snapshot is not None and _is_past(snapshot, now):
            found, low = snapshot, middle + 1
        else:
            high = middle
    return found


def _is_past(snapshot: Snapshot, now: datetime) -> bool:
    """Whether no timestamp that names an earlier snapshot is valid any more."""
    text = snapshot.unrecognized_fields.get(FORMER_FIELD)
    try:
        return isinstance(text, str) and parse_time(text) + MARGIN < now
    except ValueError:
        return False


def _read(destination: Destination, path: str) -> Snapshot | None:
    held = destination.read(path)
    try:
        return parse(held.data, Snapshot, file=path).signed if held is not None else None
    except VerificationError:
        return None

"""Where an audit reads from: a workspace, a published folder or a URL; nothing here writes, and nothing waits for ever.

A folder can be listed, so that files which nobody will ever ask for show themselves; a URL can only be asked. Whatever
is read is bounded in bytes as it is for a client, links lead nowhere but to regular files, and everything that a URL
answers has to be here by one deadline.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kedge.errors import InputError
from kedge.transport import Deadline, Mirror, Transport, open_mirror
from kedge_repo.workspace import POLICY_FILE

__all__ = ["MAX_LISTED", "Listing", "Source", "open_source"]

MAX_LISTED = 100_000
AUDIT_TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Every file of a folder: names of metadata files, paths of target files. ``whole`` is false beyond a limit."""

    metadata: frozenset[str]
    targets: frozenset[str]
    whole: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What an audit reads. In a workspace targets lie under their own names, and roles may be newer than snapshot."""

    name: str
    transport: Transport
    deadline: Deadline
    listing: Listing | None
    is_workspace: bool = False


def open_source(
    place: str,
    *,
    metadata: str = "metadata",
    targets: str = "targets",
    timeout_s: float = AUDIT_TIMEOUT_S,
    allow_plain_http: bool = False,
) -> Source:
    """Open what ``place`` names: an ``https`` URL, a workspace, or a folder as it is published.

    Raises:
        InputError: the folder is not there, or the URL cannot be used.
    """
    mirror = Mirror(url=place, metadata=metadata, targets=targets, allow_plain_http=allow_plain_http)
    deadline = Deadline(timeout_s)
    if "://" in place:
        return Source(name=place, transport=open_mirror(mirror), deadline=deadline, listing=None)
    folder = Path(place)
    if not (folder / metadata).is_dir():
        raise InputError(f"{folder / metadata}: there is no such folder", hint="name where metadata lies: --metadata")
    names, whole = _files(folder / metadata, deep=False)
    paths, all_paths = _files(folder / targets, deep=True)
    return Source(
        name=place,
        transport=open_mirror(mirror),
        deadline=deadline,
        listing=Listing(metadata=names, targets=paths, whole=whole and all_paths),
        is_workspace=(folder / POLICY_FILE).is_file(),
    )


def _files(folder: Path, *, deep: bool) -> tuple[frozenset[str], bool]:
    found: set[str] = set()
    for path in _walk(folder, deep=deep):
        if len(found) == MAX_LISTED:
            return frozenset(found), False
        found.add(path)
    return frozenset(found), True


def _walk(folder: Path, *, deep: bool) -> Iterator[str]:
    """The files below ``folder``; links to folders are not followed, so that no circle is walked."""
    for parent, folders, files in os.walk(folder):
        if not deep:
            folders.clear()
        for name in files:
            yield Path(parent, name).relative_to(folder).as_posix()

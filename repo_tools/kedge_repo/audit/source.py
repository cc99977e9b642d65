"""Where an audit reads from: a workspace, a published folder or a URL; nothing here writes, and nothing waits for ever.

A folder can be listed, so that files which nobody will ever ask for show themselves; a URL can only be asked. Whatever
is read is bounded in bytes as it is for a client, links lead nowhere but to regular files, and everything that a URL
answers has to be here by one deadline.

Everything of a repository that can still be read, as one value: each version of each role, and each target.

What cannot be parsed is kept with the reason why; what cannot be fetched is kept apart, for it says nothing about the
repository. Hash bins, of which there may be very many, are judged one by one while they are read and not kept.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from tuf.api.metadata import Root, Snapshot, Targets

from kedge.errors import InputError
from kedge.transport import Deadline, Mirror, Transport, open_mirror
from kedge.tuf import Parsed
from kedge_repo.audit.findings import AuditFinding
from kedge_repo.workspace import POLICY_FILE

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One version of one role, by the name of its file: its bytes, and what they say, or why that cannot be read."""

    file: str
    role: str
    version: int
    data: bytes = b""
    parsed: Parsed[Any] | None = None
    fault: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetFact:
    """One target as one version of a role names it; ``problem`` is what is wrong with the file itself.

    ``newest``: clients ask for it today.
    """

    path: str
    role: str
    version: int
    file: str
    newest: bool
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BinsFact:
    """The hash bins of ``role``, in the versions that snapshot names today: how many there are, and what is wrong.

    ``first_expiry`` is that of the bin ``first_file``, which expires before the others.
    """

    role: str
    count: int
    findings: tuple[AuditFinding, ...]
    first_expiry: datetime | None
    first_file: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """What was read. ``roles`` holds snapshot, targets and delegated roles; ``others`` are files of no known role.

    ``unread`` are files that could not be had (with the reason), ``limits`` what was left out because it is too much.
    """

    source: str
    is_workspace: bool
    roots: Mapping[int, Entry]
    timestamp: Entry | None
    roles: Mapping[str, Mapping[int, Entry]]
    targets: tuple[TargetFact, ...] = ()
    bins: tuple[BinsFact, ...] = ()
    others: tuple[str, ...] = ()
    unread: tuple[tuple[str, str], ...] = ()
    limits: tuple[str, ...] = ()

    @property
    def newest_root(self) -> Parsed[Root] | None:
        """The newest root that can be read."""
        return next((entry.parsed for _, entry in sorted(self.roots.items(), reverse=True) if entry.parsed), None)

    def newest(self, role: str) -> Entry | None:
        """The newest version of a role."""
        versions = self.roles.get(role)
        return versions[max(versions)] if versions else None

    def current(self, role: str) -> Entry | None:
        """The version of a role that clients get today: the one that snapshot, or timestamp, names."""
        version = self.named_version(role)
        return self.roles.get(role, {}).get(version) if version is not None else None

    def in_force(self, role: str) -> Entry | None:
        """The version that holds now: what clients get, or the newest one in a workspace or where nothing names one."""
        return self.newest(role) if self.is_workspace else self.current(role) or self.newest(role)

    def is_unread(self, file: str) -> bool:
        """Whether that ``file`` was not read says nothing about it."""
        return bool(self.limits) or any(name == file for name, _ in self.unread)

    def named_version(self, role: str) -> int | None:
        """The version of a role that clients are led to, or None where nothing readable names one."""
        timestamp = self.timestamp.parsed if self.timestamp is not None else None
        if timestamp is None:
            return None
        if role == Snapshot.type:
            return int(timestamp.signed.snapshot_meta.version)
        snapshot = self.current(Snapshot.type)
        if snapshot is None or snapshot.parsed is None:
            return None
        meta = snapshot.parsed.signed.meta.get(f"{role}.json")
        return int(meta.version) if meta is not None else None

    def files(self) -> dict[str, bytes]:
        """The metadata as clients would fetch it, by path (``metadata/5.root.json``)."""
        entries = [*self.roots.values(), *(entry for found in self.roles.values() for entry in found.values())]
        if self.timestamp is not None:
            entries.append(self.timestamp)
        return {f"metadata/{entry.file}": entry.data for entry in entries}


def listed_roles(targets: Targets) -> tuple[str, ...]:
    """The roles that ``targets`` delegates to by name; hash bins are apart."""
    roles = targets.delegations.roles if targets.delegations is not None else None
    return tuple(roles or ())

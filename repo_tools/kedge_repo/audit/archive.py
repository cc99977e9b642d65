"""Everything of a repository that can still be read, as one value: each version of each role, and each target.

What cannot be parsed is kept with the reason why; what cannot be fetched is kept apart, for it says nothing about the
repository. Hash bins, of which there may be very many, are judged one by one while they are read and not kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tuf.api.metadata import Root, Snapshot, Targets

from kedge.metadata import Parsed
from kedge_repo.audit.verdict import AuditFinding

__all__ = ["Archive", "BinsFact", "Entry", "TargetFact", "listed_roles"]


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

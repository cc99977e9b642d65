"""What has been accepted so far, as an immutable value, and the records of it that go to disk.

Invariants:

- A :class:`TrustedState` only ever holds files that passed every check of :mod:`kedge.tuf.checks`; each step of the
  workflow makes a new value from an old one.
- :class:`Floors` only rise, with one exception: a root that replaces the timestamp's or the snapshot's keys voids the
  floors that those keys vouched for (TUF 1.0.34 §5.3.11), or a stolen online key could lock every client out for ever.
- The records hold digests and numbers, never trust: what is loaded is verified again from the initial root.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from kedge.documents import Fields, format_time, load_json
from kedge.tuf.metadata import Parsed

if TYPE_CHECKING:
    from tuf.api.metadata import Root, Snapshot, Targets, Timestamp


def sha256_hex(data: bytes) -> str:
    """The SHA-256 digest of ``data`` as 64 lower-case hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class OnlineFloor:
    """The lowest version that may still be accepted, and the keys (SHA-256 of their material) that vouched for it."""

    version: int
    keys: tuple[str, ...]

    def raised_to(self, other: OnlineFloor | None) -> OnlineFloor:
        """The higher of two floors."""
        return other if other is not None and other.version > self.version else self


@dataclass(frozen=True, slots=True, kw_only=True)
class Floors:
    """What may never be undercut again.

    ``roles`` are the versions that a verified snapshot named for the targets roles; ``time`` is the latest reference
    time at which a refresh was complete, never past the expiry of its timestamp.
    """

    root: int = 0
    timestamp: OnlineFloor | None = None
    snapshot: OnlineFloor | None = None
    roles: Mapping[str, int] = field(default_factory=dict)
    time: datetime | None = None

    def raised_to(self, other: Floors) -> Floors:
        """The higher of two sets of floors, entry by entry."""
        times = [moment for moment in (self.time, other.time) if moment is not None]
        return Floors(
            root=max(self.root, other.root),
            timestamp=self.timestamp.raised_to(other.timestamp) if self.timestamp else other.timestamp,
            snapshot=self.snapshot.raised_to(other.snapshot) if self.snapshot else other.snapshot,
            roles={
                name: max(self.roles.get(name, 0), other.roles.get(name, 0))
                for name in sorted({*self.roles, *other.roles})
            },
            time=max(times, default=None),
        )

    def without_online(self) -> Floors:
        """These floors after the online keys were replaced: only the root's is left (TUF 1.0.34 §5.3.11)."""
        return Floors(root=self.root)

    def to_table(self) -> dict[str, Any]:
        """This value as the JSON object of docs/reference/formats.md."""
        table: dict[str, Any] = {"root": self.root, "roles": dict(self.roles)}
        for name, floor in (("timestamp", self.timestamp), ("snapshot", self.snapshot)):
            if floor is not None:
                table[name] = {"version": floor.version, "keys": list(floor.keys)}
        if self.time is not None:
            table["time"] = format_time(self.time)
        return table

    @classmethod
    def from_fields(cls, fields: Fields) -> Floors:
        """Read what :meth:`to_table` wrote.

        Raises:
            DocumentError: the table is not such an object.
        """
        roles = fields.table("roles")
        floors = cls(
            root=fields.integer("root"),
            timestamp=_online_floor(fields, "timestamp"),
            snapshot=_online_floor(fields, "snapshot"),
            roles={name: roles.integer(name, minimum=1) for name in roles.names()},
            time=fields.optional("time", fields.time),
        )
        fields.end()
        return floors


@dataclass(frozen=True, slots=True, kw_only=True)
class RootFile:
    """A verified root of the chain, as bytes. A chain may be long, and what a root said is past with the next one."""

    version: int
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedState:
    """Everything that has been verified, from the initial root on.

    ``former_roots`` is the chain of roots before the newest, one version apart, the initial root first. ``roles`` holds
    the targets role and the delegated roles by name.
    """

    newest_root: Parsed[Root]
    former_roots: tuple[RootFile, ...] = ()
    timestamp: Parsed[Timestamp] | None = None
    snapshot: Parsed[Snapshot] | None = None
    roles: Mapping[str, Parsed[Targets]] = field(default_factory=dict)
    floors: Floors = field(default_factory=Floors)

    @property
    def root(self) -> Root:
        """The newest root."""
        return self.newest_root.signed

    @property
    def roots(self) -> tuple[RootFile, ...]:
        """The whole chain of roots, the initial root first."""
        return (*self.former_roots, RootFile(version=self.root.version, data=self.newest_root.data))

    @property
    def targets(self) -> Parsed[Targets] | None:
        """The top-level targets role, once it has been accepted."""
        return self.roles.get("targets")

    def raise_floors(self, floors: Floors) -> TrustedState:
        """This state with floors at least as high as ``floors``."""
        return replace(self, floors=self.floors.raised_to(floors))


@dataclass(frozen=True, slots=True, kw_only=True)
class StateRecord:
    """The small file that names a stored set by digests (``kedge.state/1``).

    ``roots`` begins with the initial root. ``fetched`` is this machine's time at the end of the last complete refresh,
    ``source`` where it came from, ``seen`` when this timestamp was first accepted in a complete refresh.
    """

    FORMAT = "kedge.state/1"

    roots: tuple[str, ...]
    timestamp: str | None = None
    snapshot: str | None = None
    roles: Mapping[str, str] = field(default_factory=dict)
    targets: Mapping[str, str] = field(default_factory=dict)
    floors: Floors = field(default_factory=Floors)
    fetched: datetime | None = None
    source: str | None = None
    seen: datetime | None = None

    @property
    def initial_root(self) -> str:
        """The SHA-256 digest of the initial root."""
        return self.roots[0]

    def blobs(self) -> set[str]:
        """The digests of every file that this set names."""
        single = {digest for digest in (self.timestamp, self.snapshot) if digest is not None}
        return {*self.roots, *single, *self.roles.values(), *self.targets.values()}

    def to_bytes(self) -> bytes:
        """This value as the file's bytes."""
        document: dict[str, Any] = {
            "format": self.FORMAT,
            "initial_root": self.initial_root,
            "roots": list(self.roots),
            "roles": dict(self.roles),
            "targets": dict(self.targets),
            "floors": self.floors.to_table(),
        }
        optional = {"timestamp": self.timestamp, "snapshot": self.snapshot, "source": self.source}
        document.update({name: value for name, value in optional.items() if value is not None})
        times = {"fetched": self.fetched, "seen": self.seen}
        document.update({name: format_time(moment) for name, moment in times.items() if moment is not None})
        return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False).encode() + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes) -> StateRecord:
        """Read what :meth:`to_bytes` wrote.

        Raises:
            DocumentError: the bytes are not such a record.
        """
        fields = Fields(load_json(data))
        fields.format(cls.FORMAT)
        roots = fields.sha256s("roots")
        if not roots:
            fields.fail("roots", "must name at least the initial root")
        if fields.sha256("initial_root") != roots[0]:
            fields.fail("initial_root", "must be the first of the roots")
        record = cls(
            roots=roots,
            timestamp=fields.optional("timestamp", fields.sha256),
            snapshot=fields.optional("snapshot", fields.sha256),
            roles=_digests(fields.table("roles")),
            targets=_digests(fields.table("targets")),
            floors=Floors.from_fields(fields.table("floors")),
            fetched=fields.optional("fetched", fields.time),
            source=fields.optional("source", fields.text),
            seen=fields.optional("seen", fields.time),
        )
        fields.end()
        return record


def _online_floor(fields: Fields, name: str) -> OnlineFloor | None:
    if name not in fields:
        return None
    table = fields.table(name)
    floor = OnlineFloor(version=table.integer("version", minimum=1), keys=table.sha256s("keys"))
    table.end()
    return floor


def _digests(table: Fields) -> dict[str, str]:
    return {name: table.sha256(name) for name in table.names()}

"""Everything of a repository that can still be read, as one value: each version of each role, and each target.

Reading goes on whatever it meets. What cannot be parsed is kept with the reason why; what cannot be fetched is kept
apart, for it says nothing about the repository. Versions are known by the names of files: of a folder all of them are
read, of a URL the newest one and from there back, until one is missing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar
from urllib.parse import quote

from tuf.api.metadata import Root, Snapshot, TargetFile, Targets, Timestamp

from kedge.checks import content_matches
from kedge.errors import FetchError, VerificationError
from kedge.metadata import Parsed, parse
from kedge.steps import MISSING, Area, Fetch, Limits, Missing
from kedge_repo.audit.source import Source

__all__ = ["Archive", "Entry", "TargetFact", "listed_roles", "read_archive"]

MAX_FILES = 20_000
MAX_BYTES = 1_000_000_000

T = TypeVar("T", Root, Timestamp, Snapshot, Targets)

_VERSIONED = re.compile(r"([1-9]\d{0,8})\.(.+)\.json", re.ASCII)
_LIMITS = Limits()


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


def listed_roles(targets: Targets, snapshot: Snapshot | None) -> tuple[str, ...]:
    """The roles that ``targets`` delegates to; of hash bins those that ``snapshot`` lists."""
    delegations = targets.delegations
    if delegations is None:
        return ()
    if delegations.roles is not None:
        return tuple(delegations.roles)
    succinct, names = delegations.succinct_roles, snapshot.meta if snapshot is not None else {}
    stems = (name.removesuffix(".json") for name in names)
    return tuple(name for name in stems if succinct is not None and succinct.is_delegated_role(name))


def read_archive(source: Source) -> Archive:
    """Read everything of ``source``; it raises nothing for what it meets there."""
    return _Reader(source).archive()


@dataclass(slots=True)
class _Reader:
    source: Source
    unread: list[tuple[str, str]] = field(default_factory=list)
    limits: list[str] = field(default_factory=list)
    taken: set[str] = field(default_factory=set)
    total_bytes: int = 0

    def archive(self) -> Archive:
        roots = self._roots()
        found = Archive(
            source=self.source.name,
            is_workspace=self.source.is_workspace,
            roots=roots,
            timestamp=self._entry("timestamp.json", "timestamp", 0, Timestamp, _LIMITS.timestamp_bytes),
            roles={},
        )
        found = self._with_role(found, Snapshot.type, Snapshot, _LIMITS.snapshot_bytes)
        waiting, known = [Targets.type], {Targets.type}
        while waiting:
            role = waiting.pop(0)
            found = self._with_role(found, role, Targets, _LIMITS.targets_bytes)
            snapshot = found.current(Snapshot.type)
            listed = snapshot.parsed.signed if snapshot is not None and snapshot.parsed is not None else None
            for entry in found.roles[role].values():
                names = listed_roles(entry.parsed.signed, listed) if entry.parsed is not None else ()
                waiting += [name for name in names if name not in known]
                known.update(names)
            if len(known) > MAX_FILES:
                self.limits.append(f"there are more than {MAX_FILES} roles; the rest of them was not read")
                break
        targets = tuple(self._targets(found))
        return replace(
            found,
            targets=targets,
            others=self._others(found, targets),
            unread=tuple(self.unread),
            limits=tuple(dict.fromkeys(self.limits)),
        )

    def _roots(self) -> dict[int, Entry]:
        versions = self._listed(Root.type)
        found: dict[int, Entry] = {}
        for version in versions if versions is not None else range(1, _LIMITS.root_rotations + 2):
            ahead = () if versions is not None else tuple(self._root(version + step) for step in range(1, 8))
            entry = self._entry(f"{version}.root.json", Root.type, version, Root, _LIMITS.root_bytes, ahead=ahead)
            if entry is not None:
                found[version] = entry
            elif versions is None:
                break
        return found

    def _root(self, version: int) -> Fetch:
        return Fetch(Area.METADATA, f"{version}.root.json", _LIMITS.root_bytes)

    def _with_role(self, found: Archive, role: str, kind: type[T], max_bytes: int) -> Archive:
        root = found.newest_root
        prefixed = root is None or root.signed.consistent_snapshot is not False
        named = found.named_version(role)
        entries: dict[int, Entry] = {}
        for version in self._versions(role, named) if prefixed else (named or 0,):
            file = f"{version}.{role}.json" if prefixed else f"{role}.json"
            entry = self._entry(file, role, version, kind, max_bytes)
            if entry is None and version != named and self.source.listing is None:
                break
            if entry is not None:
                entries[version] = entry
        return replace(found, roles={**found.roles, role: dict(sorted(entries.items()))})

    def _versions(self, role: str, named: int | None) -> Iterator[int]:
        listed = self._listed(role)
        if listed is not None:
            yield from listed
        elif named is not None:
            yield from range(named, 0, -1)

    def _listed(self, role: str) -> list[int] | None:
        if self.source.listing is None:
            return None
        matches = (_VERSIONED.fullmatch(name) for name in self.source.listing.metadata)
        return sorted(int(match[1]) for match in matches if match is not None and match[2] == role)

    def _entry(
        self, file: str, role: str, version: int, kind: type[T], max_bytes: int, *, ahead: tuple[Fetch, ...] = ()
    ) -> Entry | None:
        self.taken.add(file)
        path, data = quote(file, safe=""), b""
        try:
            answer = self._get(Fetch(Area.METADATA, path, max_bytes, ahead=ahead), file)
            if not isinstance(answer, bytes):
                return None
            data = answer
            parsed: Parsed[T] = parse(data, kind, file=file)
        except VerificationError as error:
            fault = error.message.removeprefix(f"{file}: ")
            return Entry(file=file, role=role, version=version, data=data, fault=fault)
        return Entry(file=file, role=role, version=version, data=data, parsed=parsed)

    def _get(self, request: Fetch, file: str) -> bytes | Missing | None:
        """The file's bytes, ``MISSING``, or None where it cannot be had now."""
        if len(self.taken) > MAX_FILES or self.total_bytes > MAX_BYTES:
            self.limits.append(f"there are more than {MAX_FILES} files or {MAX_BYTES} bytes; the rest was not read")
            return None
        if self.source.deadline.remaining_s() == 0:
            self.limits.append(f"not all of it came within {self.source.deadline.seconds:g} s; the rest was not read")
            return None
        try:
            data = self.source.transport.get(request, self.source.deadline)
        except FetchError as error:
            self.unread.append((file, error.message))
            return None
        self.total_bytes += len(data) if isinstance(data, bytes) else 0
        return data

    def _targets(self, found: Archive) -> Iterator[TargetFact]:
        root = found.newest_root
        prefixed = not self.source.is_workspace and (root is None or root.signed.consistent_snapshot is not False)
        seen: set[str] = set()
        for role, versions in found.roles.items():
            for entry in versions.values():
                newest = entry is found.in_force(role)
                if role == Snapshot.type or entry.parsed is None or not (newest or self._is_listed_and_prefixed):
                    continue
                for path, target in sorted(entry.parsed.signed.targets.items()):
                    file = _target_file(path, target, prefixed=prefixed)
                    if newest or (file not in seen and self._is_there(file)):
                        yield self._fact(entry, path, target, file, newest=newest)
                    seen.add(file)

    @property
    def _is_listed_and_prefixed(self) -> bool:
        return self.source.listing is not None and not self.source.is_workspace

    def _is_there(self, file: str) -> bool:
        return self.source.listing is not None and file in self.source.listing.targets

    def _fact(self, entry: Entry, path: str, target: TargetFile, file: str, *, newest: bool) -> TargetFact:
        fact = TargetFact(path=path, role=entry.role, version=entry.version, file=file, newest=newest)
        self.taken.add(f"targets/{file}")
        if any(part in ("", ".", "..") for part in path.split("/")) or "\0" in path:
            return replace(fact, problem="is not a path below the repository's targets")
        quoted = "/".join(quote(part, safe="") for part in file.split("/"))
        try:
            data = self._get(Fetch(Area.TARGETS, quoted, target.length), f"targets/{file}")
        except VerificationError as error:
            return replace(fact, problem=error.message.rpartition(": ")[2])
        if data is MISSING:
            return replace(fact, problem="is missing")
        if isinstance(data, bytes) and not content_matches(target, data):
            return replace(fact, problem=f"is not the file of {target.length} bytes and the digest that was signed")
        return fact

    def _others(self, found: Archive, targets: tuple[TargetFact, ...]) -> tuple[str, ...]:
        """Files of the folder that no client will ask for."""
        if self.source.listing is None:
            return ()
        known = {fact.file for fact in targets}
        aliases = self._aliases(found)
        strays = sorted(self.source.listing.metadata - self.taken - aliases)
        return (*strays, *(f"targets/{path}" for path in sorted(self.source.listing.targets - known)))

    def _aliases(self, found: Archive) -> set[str]:
        """Files without a version that are copies of the newest one, as older clients ask for."""
        newest = [entry for role in found.roles if (entry := found.newest(role)) is not None and entry.parsed]
        if found.newest_root is not None:
            newest.append(found.roots[max(n for n, entry in found.roots.items() if entry.parsed)])
        same: set[str] = set()
        for entry in newest:
            file = f"{entry.role}.json"
            if self.source.listing is None or file not in self.source.listing.metadata or entry.parsed is None:
                continue
            request = Fetch(Area.METADATA, quote(file, safe=""), len(entry.parsed.data))
            try:
                data = self._get(request, file)
            except VerificationError:
                continue  # it is longer than the newest version, so it is no copy of it
            if isinstance(data, bytes) and data == entry.parsed.data:
                same.add(file)
        return same


def _target_file(path: str, target: TargetFile, *, prefixed: bool) -> str:
    if not prefixed:
        return path
    folder, _, name = path.rpartition("/")
    digest = target.hashes.get("sha256") or next(iter(target.hashes.values()))
    return f"{folder}/{digest}.{name}" if folder else f"{digest}.{name}"

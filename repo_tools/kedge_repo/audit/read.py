"""Reading a repository whole: it goes on whatever it meets.

Versions are known by the names of files: of a folder all of them are read, of a URL the newest one and from there back,
until one is missing. Of hash bins the versions that snapshot names today are read. Everything has a bound: files and
bytes that are kept, the time of a URL, the length of each file.

The rules for hash bins (TAP 15), one bin after the other: what snapshot names is there, and signed as it has to be.

Nothing of a bin is kept but what is wrong with it and when the first of them expires, so that any number can be judged.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TypeVar
from urllib.parse import quote

from tuf.api.metadata import Key, MetaFile, Root, Snapshot, SuccinctRoles, TargetFile, Targets, Timestamp

from kedge.errors import FetchError, VerificationError
from kedge.registries import Severity
from kedge.transport import Mirror, Transport, open_mirror
from kedge.tuf import Area, Fetch, Limits, Missing, Parsed, content_matches, parse, prefixes
from kedge_repo.audit.findings import AuditFinding, Rule
from kedge_repo.audit.rules import count, finding, missing, odd_signatures
from kedge_repo.audit.source import Archive, BinsFact, Entry, Listing, Source, TargetFact, listed_roles


@dataclass(slots=True)
class BinJudge:
    """Judges the bins of ``role`` by its version of today, ``delegator``, which delegates to ``expected`` of them."""

    role: str
    delegator: Targets
    expected: int
    findings: list[AuditFinding] = field(default_factory=list)
    bins: int = 0
    first: tuple[datetime, str] | None = None

    def judge(
        self, name: str, meta: MetaFile, file: str, data: bytes | None, fault: str | None
    ) -> Parsed[Targets] | None:
        """Judge one bin; ``data`` is None where it is not there, ``fault`` why it cannot be read."""
        self.bins += 1
        if data is None:
            if fault is None:
                self.findings.append(missing(file, name, meta.version, "clients are led to it"))
            else:
                entry = Entry(file=file, role=name, version=meta.version, fault=fault)
                self.findings.append(finding(Rule.UNREADABLE, Severity.ERROR, entry, fault))
            return None
        try:
            parsed = parse(data, Targets, file=file)
        except VerificationError as error:
            entry = Entry(file=file, role=name, version=meta.version)
            text = error.message.removeprefix(f"{file}: ")
            self.findings.append(finding(Rule.UNREADABLE, Severity.ERROR, entry, text))
            return None
        self._hold(Entry(file=file, role=name, version=meta.version, data=data, parsed=parsed), parsed, meta)
        return parsed

    def fact(self) -> BinsFact:
        """The sum of it."""
        if self.bins < self.expected:
            text = f"delegates to {self.expected} bins, and the snapshot names {self.bins} of them"
            self.findings.append(
                AuditFinding(
                    rule=Rule.MISSING,
                    severity=Severity.ERROR,
                    file=f"{self.role}.json",
                    role=self.role,
                    version=self.delegator.version,
                    message=text,
                )
            )
        return BinsFact(
            role=self.role,
            count=self.bins,
            findings=tuple(self.findings),
            first_expiry=self.first[0] if self.first is not None else None,
            first_file=self.first[1] if self.first is not None else "",
        )

    def _hold(self, entry: Entry, parsed: Parsed[Targets], meta: MetaFile) -> None:
        if parsed.signed.version != meta.version:
            text = f"is version {parsed.signed.version}, and the snapshot names {meta.version}"
            self.findings.append(finding(Rule.WRONG_VERSION, Severity.ERROR, entry, text))
        if not content_matches(meta, entry.data):
            text = "is not the file that the snapshot names: its length or digest is another one"
            self.findings.append(finding(Rule.CONTENT, Severity.ERROR, entry, text))
        counted = count(self.delegator, entry, {}, self.findings.append)
        if counted is not None and not counted.met:
            text = f"is signed by {len(counted.keyids)} of the {counted.threshold} keys that {self.role} asks for"
            self.findings.append(finding(Rule.SIGNATURES, Severity.ERROR, entry, text))
        right = counted.keyids if counted is not None else ()
        self.findings += odd_signatures(entry, self._keys(), right)
        expires = (parsed.signed.expires, entry.file)
        self.first = min(self.first, expires) if self.first is not None else expires

    def _keys(self) -> dict[str, Key]:
        delegations = self.delegator.delegations
        return dict(delegations.keys) if delegations is not None else {}


MAX_FILES = 20_000
MAX_BYTES = 1_000_000_000

T = TypeVar("T", Root, Timestamp, Snapshot, Targets)

_VERSIONED = re.compile(r"([1-9]\d{0,8})\.(.+)\.json", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", re.ASCII)
_LIMITS = Limits()


def read_archive(source: Source) -> Archive:
    """Read everything of ``source``; it raises nothing for what it meets there."""
    return _Reader(source).archive()


@dataclass(slots=True)
class _Reader:
    source: Source
    unread: list[tuple[str, str]] = field(default_factory=list)
    limits: list[str] = field(default_factory=list)
    taken: set[str] = field(default_factory=set)
    known: set[str] = field(default_factory=set)
    files: int = 0
    by_role: dict[str, list[int]] | None = None
    problems: list[TargetFact] = field(default_factory=list)
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
        found = self._with_targets(found)
        targets = tuple(self._targets(found))
        bins = tuple(self._bins(found))
        return replace(
            found,
            targets=(*targets, *self.problems),
            bins=bins,
            others=self._others(found),
            unread=tuple(self.unread),
            limits=tuple(dict.fromkeys(self.limits)),
        )

    def _with_targets(self, found: Archive) -> Archive:
        waiting, known = deque([Targets.type]), {Targets.type}
        while waiting and len(known) <= MAX_FILES:
            role = waiting.popleft()
            found = self._with_role(found, role, Targets, _LIMITS.targets_bytes)
            for entry in found.roles[role].values():
                names = listed_roles(entry.parsed.signed) if entry.parsed is not None else ()
                waiting += [name for name in names if name not in known]
                known.update(names)
        if waiting:
            self.limits.append(f"there are more than {MAX_FILES} roles; the rest of them was not read")
        return found

    def _bins(self, found: Archive) -> Iterator[BinsFact]:
        snapshot = found.in_force(Snapshot.type)
        if snapshot is None or snapshot.parsed is None:
            return
        for role in found.roles:
            entry = found.in_force(role)
            signed = entry.parsed.signed if entry is not None and entry.parsed is not None else None
            delegations = signed.delegations if isinstance(signed, Targets) else None
            if isinstance(signed, Targets) and delegations is not None and delegations.succinct_roles is not None:
                yield self._bins_of(role, signed, delegations.succinct_roles, snapshot.parsed.signed)

    def _bins_of(self, role: str, delegator: Targets, succinct: SuccinctRoles, snapshot: Snapshot) -> BinsFact:
        named = {stem: meta for file, meta in snapshot.meta.items() if (stem := _stem(file, succinct)) is not None}
        judging = BinJudge(role=role, delegator=delegator, expected=succinct.number_of_bins)
        transport = self._bins_transport(role)
        for name, meta in named.items():
            request = Fetch(Area.METADATA, f"{meta.version}.{quote(name, safe='')}.json", _LIMITS.targets_bytes)
            file = f"{meta.version}.{name}.json"
            self.taken.add(file)
            data, fault = None, None
            try:
                data = self._get(request, file, transport, counted=False)
            except VerificationError as error:
                fault = error.message
            if data is None and fault is None:
                continue  # it could not be had, which is told already
            parsed = judging.judge(name, meta, file, data if isinstance(data, bytes) else None, fault)
            if parsed is not None and self.source.listing is not None:
                self._bin_targets(Entry(file=file, role=name, version=meta.version, parsed=parsed), self.source.listing)
        self._know_older(named)
        if transport is not self.source.transport:
            transport.close()
        return judging.fact()

    def _bin_targets(self, entry: Entry, listing: Listing) -> None:
        """Check the targets of a bin that lie here; where some of a bin do, the others have to."""
        if entry.parsed is None:
            return
        prefixed, absent, present = not self.source.is_workspace, [], 0
        for path, target in entry.parsed.signed.targets.items():
            for file in _target_files(path, target, prefixed=prefixed):
                fact = TargetFact(path=path, role=entry.role, version=entry.version, file=file, newest=True)
                if file in listing.targets:
                    present += 1
                    fact = self._fact(entry, path, target, file, newest=True)
                    self.problems += [fact] if fact.problem is not None else []
                else:
                    absent.append(replace(fact, problem="is missing"))
        self.problems += absent if present else []  # else they lie elsewhere, of which nothing is known here

    def _bins_transport(self, role: str) -> Transport:
        """In a workspace, the bins of a role have a folder of their own."""
        if not self.source.is_workspace or _NAME.fullmatch(role) is None:
            return self.source.transport
        return open_mirror(Mirror(url=self.source.name, metadata=f"bins/{role}"))

    def _know_older(self, named: Mapping[str, MetaFile]) -> None:
        """Bins that an earlier snapshot named, and their targets, may stay until clients have moved on."""
        for file in self.source.listing.metadata if self.source.listing is not None else ():
            match = _VERSIONED.fullmatch(file)
            if match is None or match[2] not in named or int(match[1]) >= named[match[2]].version:
                continue
            self.taken.add(file)
            try:
                data = self._get(Fetch(Area.METADATA, quote(file, safe=""), _LIMITS.targets_bytes), file, counted=False)
                older = parse(data, Targets, file=file).signed if isinstance(data, bytes) else None
            except VerificationError:
                continue  # nobody asks for it any more
            for path, target in older.targets.items() if older is not None else ():
                self.known.update(_target_files(path, target, prefixed=True))

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
        if self.by_role is None:
            self.by_role = {}
            for match in map(_VERSIONED.fullmatch, self.source.listing.metadata):
                if match is not None:
                    self.by_role.setdefault(match[2], []).append(int(match[1]))
        return sorted(self.by_role.get(role, []))

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

    def _get(
        self, request: Fetch, file: str, transport: Transport | None = None, *, counted: bool = True
    ) -> bytes | Missing | None:
        """The file's bytes, ``MISSING``, or None where it cannot be had now; ``counted``: it is kept."""
        if counted and (self.files > MAX_FILES or self.total_bytes > MAX_BYTES):
            self.limits.append(f"there are more than {MAX_FILES} files or {MAX_BYTES} bytes; the rest was not read")
            return None
        if self.source.deadline.remaining_s() == 0:
            self.limits.append(f"not all of it came within {self.source.deadline.seconds:g} s; the rest was not read")
            return None
        try:
            data = (transport or self.source.transport).get(request, self.source.deadline)
        except FetchError as error:
            self.unread.append((file, error.message))
            return None
        if counted and isinstance(data, bytes):
            self.files += 1
            self.total_bytes += len(data)
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
                    for file in _target_files(path, target, prefixed=prefixed):
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
        self.known.add(file)
        if any(part in ("", ".", "..") for part in path.split("/")) or "\0" in path:
            return replace(fact, problem="is not a path below the repository's targets")
        quoted = "/".join(quote(part, safe="") for part in file.split("/"))
        try:
            data = self._get(Fetch(Area.TARGETS, quoted, target.length), f"targets/{file}", counted=False)
        except VerificationError as error:
            return replace(fact, problem=error.message.rpartition(": ")[2])
        if isinstance(data, Missing):
            return replace(fact, problem="is missing")
        if isinstance(data, bytes) and not content_matches(target, data):
            return replace(fact, problem=f"is not the file of {target.length} bytes and the digest that was signed")
        return fact

    def _others(self, found: Archive) -> tuple[str, ...]:
        """Files of the folder that no client will ask for."""
        if self.source.listing is None:
            return ()
        aliases = self._aliases(found)
        strays = sorted(self.source.listing.metadata - self.taken - aliases)
        return (*strays, *(f"targets/{path}" for path in sorted(self.source.listing.targets - self.known)))

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


def _target_files(path: str, target: TargetFile, *, prefixed: bool) -> tuple[str, ...]:
    """Each name that clients may ask for: of several digests they take any."""
    if not prefixed:
        return (path,)
    folder, _, name = path.rpartition("/")
    return tuple(f"{folder}/{digest}.{name}" if folder else f"{digest}.{name}" for digest in prefixes(target.hashes))


def _stem(file: str, succinct: SuccinctRoles) -> str | None:
    name = file.removesuffix(".json")
    return name if succinct.is_delegated_role(name) else None

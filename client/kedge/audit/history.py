"""Places that hold a history: folders of bundles, copies of repositories, and states that keep every set.

The time machine: which keys were trusted on a day, since when, by which metadata, and who signed it.

A history is made of sets of metadata that were kept: a folder of bundles, a copy that ``kedge mirror sync`` made, or a
state with ``keep_history``. Each set is verified from the verifier's own anchor, like any repository, except that it
may have expired long ago; nothing that a place says of itself is believed.

- :mod:`kedge.audit.history`: the sets that a place holds.
- :mod:`kedge.audit.history`: a set, verified: a moment of the repository.
- :mod:`kedge.audit.history`: what moments answer. It is pure.

A kept set, verified from the verifier's anchor: one moment of the repository.

It is verified as a client verifies, but for one thing: it may have expired, since it tells of the past. Where nobody
knows how new the newest root was then (a copy says so nowhere), it is the newest under which the timestamp verifies,
and none that a later moment did not know.

What moments answer: which keys on a day, what changed between two days, and every key that was ever allowed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, unquote

from kedge import tuf
from kedge.client import Anchor, Store
from kedge.documents import DocumentError, format_time
from kedge.errors import FetchError, InputError, Reason, VerificationError
from kedge.registries import KeySet, RegistryKey, find_registry, read_served_keys
from kedge.transport import (
    BUNDLE_SUFFIX,
    Bundle,
    Deadline,
    Mirror,
    ReadableMirror,
    files_by_path,
    open_mirror,
    read_bundle_file,
    unpack,
)
from kedge.tuf import (
    MISSING,
    TIMESTAMP,
    AgeBasis,
    Area,
    Fetch,
    Freshness,
    Limits,
    Missing,
    Parsed,
    StateRecord,
    TrustedState,
    issued_at,
    parse,
    run,
    sha256_hex,
    signers_of,
)

TIMEOUT_S: Final = 60.0
# A copy keeps every timestamp that it ever had; versions that it never saw leave gaps.
MAX_GAP: Final = 64
_TIMESTAMP: Final = "timestamp.json"

Get = Callable[[Fetch], bytes | Missing]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptSet:
    """One set: ``get`` answers for it as a repository would. Nothing of it is verified yet.

    ``origin`` says where it was found, ``root`` the version of its newest root where that is known, ``seen`` since when
    this machine trusted it where it did.
    """

    origin: str
    get: Get
    root: int | None = None
    seen: datetime | None = None


def kept_in_folder(folder: Path) -> list[KeptSet]:
    """The sets of all bundles in a folder. A delta stands on what the other bundles bring.

    Raises:
        InputError: there is no bundle in it.
        VerificationError: one of them is broken, or stands on something that none of them brings.
    """
    paths = sorted(path for path in folder.rglob(f"*{BUNDLE_SUFFIX}") if path.is_file())
    if not paths:
        raise InputError(f"{folder}: holds no bundles", hint=f"their names end in {BUNDLE_SUFFIX}")
    bundles = _unpack_all({path: _read(path) for path in paths})
    shared = {place: data for bundle in bundles.values() for place, data in files_by_path(bundle)}
    return [
        KeptSet(
            origin=str(path),
            get=_answering({**shared, **dict(files_by_path(bundle))}),
            root=bundle.manifest.summary.roles["root"],
        )
        for path, bundle in bundles.items()
        if bundle.carried.timestamp is not None
    ]


def kept_in_state(store: Store) -> list[KeptSet]:
    """The sets that a state has kept.

    Raises:
        InputError: it keeps no history.
    """
    found: list[KeptSet] = []
    for data in store.history():
        try:
            record = StateRecord.from_bytes(data)
        except DocumentError:
            continue  # damaged on this machine: the others stand for themselves
        found.append(_of_record(record, store))
    if not found:
        raise InputError(
            f"{store.folder}: keeps no history",
            hint="set keep_history = true in anchor.toml, or name a place with --from: bundles, or a copy",
        )
    return found


def kept_in_mirror(mirror: Mirror, anchor: Anchor) -> Iterator[KeptSet]:
    """The sets of a copy that ``kedge mirror sync`` made, the newest first; of any other mirror only the present one.

    Raises:
        FetchError: it cannot be read.
        VerificationError: what it serves is no timestamp.
    """
    source = open_mirror(mirror)
    try:
        newest = source.get(_timestamp(_TIMESTAMP), Deadline(TIMEOUT_S))
        if isinstance(newest, Missing):
            raise FetchError(f"{source.source}: serves no timestamp", hint=f"is it a mirror for {anchor.name}?")
        yield KeptSet(origin=source.source, get=_mirrored(source, newest))
        version, gap = _version(newest) - 1, 0
        while version > 0 and gap < MAX_GAP:
            former = source.get(_timestamp(f"{version}.{_TIMESTAMP}"), Deadline(TIMEOUT_S))
            gap += 1
            if isinstance(former, bytes):
                gap = 0
                yield KeptSet(origin=f"{source.source} ({version}.{_TIMESTAMP})", get=_mirrored(source, former))
            version -= 1
    finally:
        source.close()


def _of_record(record: StateRecord, store: Store) -> KeptSet:
    first = store.blob(record.roots[0])
    first_root = tuf.begin(first, file=str(store.folder)).root.version if first is not None else 1

    def get(request: Fetch) -> bytes | Missing:
        digest = _named(record, first_root, request)
        data = store.blob(digest) if digest is not None else None
        return MISSING if data is None else data

    newest = first_root + len(record.roots) - 1
    return KeptSet(origin=str(store.folder), get=get, root=newest, seen=record.seen or record.fetched)


def _unpack_all(files: dict[Path, bytes]) -> dict[Path, Bundle]:
    """Unpack bundles in whatever order works: each brings what others stand on."""
    held: dict[str, bytes] = {}
    unpacked: dict[Path, Bundle] = {}
    waiting = dict(files)
    while waiting:
        fault: VerificationError | None = None
        for path, data in list(waiting.items()):
            try:
                bundle = unpack(data, held=held.get, file=str(path))
            except VerificationError as error:
                fault = fault or error
                continue
            del waiting[path]
            unpacked[path] = bundle
            held.update((sha256_hex(each), each) for each in bundle.carried.files())
            fault = None
            break
        if fault is not None:
            raise fault
    return unpacked


def _named(record: StateRecord, first_root: int, request: Fetch) -> str | None:
    """The digest of the file that is asked for, in a state that holds each role once."""
    if request.area is Area.TARGETS:
        return next((each for path, each in record.targets.items() if request.path in _target_names(path, each)), None)
    match = re.fullmatch(r"(?:(\d+)\.)?(.+)\.json", unquote(request.path))
    if match is None:
        return None
    if match[2] == "root" and match[1] is not None:
        index = int(match[1]) - first_root
        return record.roots[index] if 0 <= index < len(record.roots) else None
    online = {"timestamp": record.timestamp, "snapshot": record.snapshot}
    return online.get(match[2]) or record.roles.get(match[2])


def _target_names(path: str, digest: str) -> tuple[str, ...]:
    *folders, name = path.split("/")
    return tuple(
        "/".join(quote(segment, safe="") for segment in (*folders, prefix + name)) for prefix in ("", f"{digest}.")
    )


def _answering(files: dict[tuple[Area, str], bytes]) -> Get:
    def get(request: Fetch) -> bytes | Missing:
        data = files.get((request.area, request.path))
        return MISSING if data is None else data

    return get


def _mirrored(source: ReadableMirror, timestamp: bytes) -> Get:
    """A mirror as it was when it served this timestamp: all else bears its version, or its digest, in its name."""

    def get(request: Fetch) -> bytes | Missing:
        return timestamp if request.path == _TIMESTAMP else source.get(request, Deadline(TIMEOUT_S))

    return get


def _timestamp(path: str) -> Fetch:
    return Fetch(Area.METADATA, path, Limits().timestamp_bytes, may_be_missing=True)


def _version(timestamp: bytes) -> int:
    version: int = parse(timestamp, TIMESTAMP, file=_TIMESTAMP).signed.version
    return version


def _read(path: Path) -> bytes:
    try:
        return read_bundle_file(path)
    except FetchError as error:
        raise InputError(error.message) from error


# Nothing had expired then: whether a set may have expired by now is not the question.
_ANY_TIME = Freshness(reference_time=datetime(1970, 1, 1, tzinfo=UTC), max_staleness=timedelta.max, as_of=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryKeys:
    """A registry's keys at one moment, and the role that listed them: its version, and who signed it."""

    keys: KeySet
    custom: Mapping[str, Any] | None
    role: str
    version: int
    signed_by: tuple[str, ...]

    def as_of(self, moment: datetime) -> KeySet:
        """The same keys, with their status as of a time.

        Raises:
            VerificationError: the key document cannot be read.
        """
        registry = self.keys.registry
        module = find_registry(registry)
        return read_served_keys(module, self.keys.document, registry=registry, custom=self.custom, now=moment)


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What a set says, once it is verified.

    ``since`` is when its timestamp was made, as it says itself (``signed``), or when this machine first trusted it
    (``seen``); None where nobody says. ``registries`` are keys by registry, as far as the set holds them.
    """

    origin: str
    since: datetime | None
    basis: AgeBasis | None
    valid_until: datetime
    versions: Mapping[str, int]
    signed_by: Mapping[str, tuple[str, ...]]
    registries: Mapping[str, RegistryKeys]

    @property
    def order(self) -> tuple[int, int]:
        """Moments of one repository come in this order."""
        return self.versions["root"], self.versions["timestamp"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """All moments, in order, and what was left out and why."""

    moments: tuple[Moment, ...]
    left_out: tuple[str, ...]


def tell(anchor: Anchor, sets: Iterable[KeptSet], registries: Iterable[str]) -> Story:
    """Verify every set, and put the moments in order; one that does not verify is left out, and said.

    Raises:
        VerificationError: none of them verifies; the first one's refusal.
    """
    moments: dict[tuple[int, int], Moment] = {}
    left_out: list[str] = []
    first: VerificationError | None = None
    newest_root: int | None = None
    wanted = tuple(registries)
    for kept in sets:
        try:
            state = _verified(anchor, kept, newest_root if kept.root is None else kept.root)
            moment = _moment(kept, state, wanted)
        except VerificationError as error:
            first = first or error.served_by(kept.origin)
            left_out.append(f"{kept.origin}: {error.message}")
            continue
        if kept.root is None:
            newest_root = moment.versions["root"]
        known = moments.get(moment.order)
        # One moment that several sets tell of: the earliest of what this machine saw, and all that they hold.
        moments[moment.order] = moment if known is None else _together(known, moment)
    if not moments and first is not None:
        raise first
    return Story(moments=tuple(moments[order] for order in sorted(moments)), left_out=tuple(left_out))


def _verified(anchor: Anchor, kept: KeptSet, newest_root: int | None) -> TrustedState:
    state = tuf.begin(anchor.initial_root, file=f"the initial root of anchor {anchor.name}")
    roots = [state]
    while newest_root is None or roots[-1].root.version < newest_root:
        data = kept.get(tuf.root_request(roots[-1].root.version + 1, Limits()))
        if not isinstance(data, bytes):
            break
        roots.append(tuf.accept_root(roots[-1], data))
    while True:
        try:
            return run(tuf.refresh(roots[-1], _ANY_TIME), lambda request: _no_roots(kept, request))
        except VerificationError as error:
            if kept.root is not None or error.refusal.reason is not Reason.SIGNATURES or len(roots) == 1:
                raise
            roots.pop()


def _no_roots(kept: KeptSet, request: Fetch) -> bytes | Missing:
    return MISSING if request.path.endswith(".root.json") else kept.get(request)


def _moment(kept: KeptSet, state: TrustedState, registries: tuple[str, ...]) -> Moment:
    timestamp, snapshot = state.timestamp, state.snapshot
    if timestamp is None or snapshot is None:
        raise RuntimeError("a refresh gives a complete state")
    issued = issued_at(timestamp)
    found: dict[str, RegistryKeys] = {}
    for registry in registries:
        entry, state = _keys(kept, state, registry)
        if entry is not None:
            found[registry] = entry
    held: dict[str, Parsed[Any]] = {
        "root": state.newest_root,
        "timestamp": timestamp,
        "snapshot": snapshot,
        **state.roles,
    }
    return Moment(
        origin=kept.origin,
        since=issued if issued is not None else kept.seen,
        basis=AgeBasis.SIGNED if issued is not None else AgeBasis.SEEN if kept.seen is not None else None,
        valid_until=min(parsed.signed.expires for parsed in held.values()),
        versions={name: parsed.signed.version for name, parsed in held.items()},
        signed_by={name: signers_of(state, name, parsed) for name, parsed in held.items()},
        registries=found,
    )


def _keys(kept: KeptSet, state: TrustedState, registry: str) -> tuple[RegistryKeys | None, TrustedState]:
    module = find_registry(registry)
    try:
        found = run(tuf.find(state, module.target_path(registry), _ANY_TIME), kept.get)
        data = run(tuf.download(found), kept.get)
    except FetchError:
        return None, state  # not in this set, which proves nothing about the keys
    except VerificationError as error:
        if error.refusal.reason is Reason.NOT_FOUND:
            return None, state
        raise
    role, given = found.state.roles[found.role], found.target.unrecognized_fields.get("custom")
    custom = given if isinstance(given, dict) else None
    keys = read_served_keys(module, data, registry=registry, custom=custom, now=role.signed.expires)
    signers = signers_of(found.state, found.role, role)
    entry = RegistryKeys(keys=keys, custom=custom, role=found.role, version=role.signed.version, signed_by=signers)
    return entry, found.state


def _together(one: Moment, other: Moment) -> Moment:
    first = one
    if one.since is None or (other.since is not None and other.since < one.since):
        first = other
    return replace(one, since=first.since, basis=first.basis, registries={**other.registries, **one.registries})


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The moment that answers for a day.

    ``certain`` is false where nobody says since when it held: then it is the oldest set that had not expired by then.
    ``expired`` says that it had: a client with no newer one refused to answer on that day.
    """

    moment: Moment
    certain: bool
    expired: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One difference between two moments; ``before`` and ``after`` are texts, None where there was nothing."""

    what: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyWindow:
    """A key that was ever allowed for a usage: from which moment on, and up to which.

    ``brought`` is the entry that first had it, ``gone`` the first moment after the last one that had it: None where it
    is allowed to this day. ``revoked`` is the first moment that revoked it.
    """

    key: RegistryKey
    first: Moment
    last: Moment
    brought: RegistryKeys
    gone: Moment | None
    revoked: Moment | None


def moment_at(story: Story, day: datetime) -> Chosen:
    """Choose the moment that was in force at a time.

    Raises:
        InputError: the history does not reach back so far.
    """
    dated = [moment for moment in story.moments if moment.since is not None and moment.since <= day]
    if dated:
        moment = dated[-1]
        return Chosen(moment=moment, certain=True, expired=moment.valid_until <= day)
    for moment in story.moments:
        if moment.since is None and day < moment.valid_until:
            return Chosen(moment=moment, certain=False, expired=False)
    first = next((moment.since for moment in story.moments if moment.since is not None), None)
    begins = f"it begins on {format_time(first)}" if first is not None else "everything in it had expired by then"
    raise InputError(f"the history says nothing of {format_time(day)}: {begins}")


def differences(before: Moment, after: Moment) -> list[Change]:
    """What is another between two moments: versions, signers, and keys one by one."""
    changes = [
        Change(what=f"{role} version", before=_text(before.versions.get(role)), after=_text(after.versions.get(role)))
        for role in _names(before.versions, after.versions)
        if before.versions.get(role) != after.versions.get(role)
    ]
    changes += [
        Change(
            what=f"{role} signed by",
            before=", ".join(before.signed_by.get(role, ())) or None,
            after=", ".join(after.signed_by.get(role, ())) or None,
        )
        for role in _names(before.signed_by, after.signed_by)
        if set(before.signed_by.get(role, ())) != set(after.signed_by.get(role, ()))
    ]
    for registry in _names(before.registries, after.registries):
        changes += _key_changes(registry, before.registries.get(registry), after.registries.get(registry))
    return changes


def windows(story: Story, registry: str) -> list[KeyWindow]:
    """Every key that was ever allowed for a registry, in the order in which they came.

    Raises:
        InputError: no set in the history holds this registry's keys.
    """
    moments = [moment for moment in story.moments if registry in moment.registries]
    if not moments:
        raise InputError(f"the history holds no keys of {registry}", hint="were they carried, or copied?")
    found: dict[tuple[str, tuple[str, ...]], KeyWindow] = {}
    for moment in moments:
        entry = moment.registries[registry]
        present = {(key.id, key.usages): key for key in entry.keys.keys if key.id not in entry.keys.revoked}
        for name, key in present.items():
            known = found.get(name)
            found[name] = KeyWindow(
                key=key,
                first=known.first if known is not None else moment,
                last=moment,
                brought=known.brought if known is not None else entry,
                gone=None,
                revoked=None,
            )
        for name, known in found.items():
            if name not in present and known.gone is None:
                revoked = moment if known.key.id in entry.keys.revoked else None
                found[name] = KeyWindow(
                    key=known.key,
                    first=known.first,
                    last=known.last,
                    brought=known.brought,
                    gone=moment,
                    revoked=revoked,
                )
    return list(found.values())


def _key_changes(registry: str, before: RegistryKeys | None, after: RegistryKeys | None) -> Iterator[Change]:
    old, new = _by_name(before), _by_name(after)
    for name in _names(old, new):
        if old.get(name) != new.get(name):
            yield Change(what=f"{registry} key {name}", before=old.get(name), after=new.get(name))


def _by_name(entry: RegistryKeys | None) -> dict[str, str]:
    if entry is None:
        return {}
    keys: KeySet = entry.keys
    told = {f"{key.id} for {', '.join(key.usages)}": _described(key) for key in keys.keys}
    present = {key.id for key in keys.keys}
    told.update({f"{keyid}": "revoked" for keyid in keys.revoked if keyid not in present})
    return told


def _described(key: RegistryKey) -> str:
    start = f" from {format_time(key.valid_from)}" if key.valid_from is not None else ""
    end = f" until {format_time(key.valid_until)}" if key.valid_until is not None else ""
    status = "revoked" if key.status.value == "revoked" else f"allowed{start}{end}"
    return f"{status}, {key.fingerprint}"


def _names(one: Iterable[str], other: Iterable[str]) -> list[str]:
    return sorted({*one, *other})


def _text(version: int | None) -> str | None:
    return None if version is None else str(version)

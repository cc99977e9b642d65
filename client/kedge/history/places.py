"""Places that hold a history: folders of bundles, copies of repositories, and states that keep every set."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote

from kedge import checks
from kedge.anchor import Anchor
from kedge.bundle.packing import Bundle, unpack
from kedge.document import DocumentError
from kedge.errors import FetchError, InputError, VerificationError
from kedge.metadata import TIMESTAMP, parse
from kedge.state import StateRecord, sha256_hex
from kedge.steps import MISSING, Area, Fetch, Limits, Missing
from kedge.store import Store
from kedge.transport import BUNDLE_SUFFIX, Deadline, Mirror, ReadableMirror, open_mirror
from kedge.transport.bundle import files_by_path, read_bundle_file

__all__ = ["KeptSet", "kept_in_folder", "kept_in_mirror", "kept_in_state"]

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
    first_root = checks.begin(first, file=str(store.folder)).root.version if first is not None else 1

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

"""Writing a publication, in the order that is its guarantee, to whatever destination.

First come the files that never change, create-only; then the roots that are new and ``timestamp.json`` (compared with
what was there, and swapped), in the order that leaves clients a whole state in between:

- a new root first, where the timestamp that is there holds under it as well (most root rotations);
- the timestamp first, where it holds under the old root too (keys of targets or online keys change, and both the old
  and the new threshold signed);
- where neither holds, the root first, and :attr:`Published.gap` says that a client in between is refused.

So, but for such a gap, a publication that is cut off anywhere shows clients the old state or the new one, whole;
running again completes it. A name that is taken by other bytes is never overwritten, and a destination that is ahead of
this workspace is left alone. Of two publishers who begin at the same timestamp one wins; the other is told.

Taking up what is published: a publisher that starts from an older workspace goes on where the last one stopped.

A job in CI begins each time from what is in git; what the last one signed online is at the destination only. The
snapshot and the timestamp there are taken into the workspace if they verify under its root and name just what it holds.
What keyholders sign is never taken up: a workspace that lacks some of it is behind, and is told so.

What a destination holds already, by its own word: the snapshot that its timestamp names.

Its word only spares work. A publisher writes all files of a snapshot before the timestamp that names it, so that what
the snapshot lists need not be asked for one by one; ``kedge-repo publish verify`` is what checks a destination.

The destinations that a policy or a command names.

Publishing a workspace: read back first, then written to a folder or to the policy's destinations.

Compare the key documents of a workspace with those that are published.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from itertools import islice
from pathlib import Path

from tuf.api.metadata import Root, Snapshot, Timestamp

from kedge.errors import InputError, VerificationError
from kedge.tuf import Parsed, count_signatures, parse, require_threshold
from kedge_repo.bins import BinStore, bin_delegations
from kedge_repo.publish.destination import TIMESTAMP_PATH, BehindError, Destination, Held, Overlay, TakenError
from kedge_repo.publish.files import PublishedFiles, collect_files
from kedge_repo.publish.folder import FolderDestination
from kedge_repo.publish.object_store import SCHEMES, ObjectStoreDestination
from kedge_repo.publish.replay import (
    READERS,
    RESUMERS,
    Reader,
    read_with_kedge,
    replay,
    replay_from_present,
    target_as_published,
)
from kedge_repo.signing import DocumentChange, workspace_documents
from kedge_repo.workspace import Destination as DestinationPolicy
from kedge_repo.workspace import SignedMetadata, Workspace, digest, file_name


def adopt(workspace: Workspace, destination: Destination) -> bool:
    """Take up the snapshot and timestamp of ``destination`` if they are newer, or others of this version; whether so.

    Raises:
        VerificationError: they do not verify under the workspace's root.
        BehindError: they name newer versions of roles, or of bins, than the workspace holds.
        StoreError: the destination cannot be reached, or the workspace not be written.
    """
    held = destination.read(TIMESTAMP_PATH)
    with workspace.lock():
        signed = workspace.signed()
        ours = signed.timestamp
        if held is None or signed.root is None or (ours is not None and ours.data == held.data):
            return False
        timestamp = parse(held.data, Timestamp, file=destination.place(TIMESTAMP_PATH))
        if ours is not None and timestamp.signed.version < ours.signed.version:
            return False
        require_threshold(signed.root.signed, Timestamp.type, timestamp)
        snapshot = _snapshot(destination, timestamp, signed)
        _require_known(workspace, signed, snapshot, destination)
        workspace.adopt_snapshot(file_name(Snapshot.type, snapshot.signed.version), snapshot.data)
        workspace.write_timestamp(timestamp.data)
    return True


def _snapshot(destination: Destination, timestamp: Parsed[Timestamp], signed: SignedMetadata) -> Parsed[Snapshot]:
    named = timestamp.signed.snapshot_meta
    path = f"metadata/{file_name(Snapshot.type, named.version)}"
    held = destination.read(path)
    place = destination.place(path)
    if held is None or (named.hashes or {}).get("sha256") != digest(held.data):
        raise InputError(f"{place}: is not there, or not what the timestamp beside it names")
    snapshot = parse(held.data, Snapshot, file=place)
    if signed.root is not None:
        require_threshold(signed.root.signed, Snapshot.type, snapshot)
    return snapshot


def _require_known(
    workspace: Workspace, signed: SignedMetadata, snapshot: Parsed[Snapshot], destination: Destination
) -> None:
    known = {name: parsed.signed.version for name, parsed in signed.everything().items()}
    for role in bin_delegations(signed, workspace.policy()):
        index = BinStore(workspace=workspace, role=role).index()
        known |= dict(index.listed()) if index is not None else {}
    for name, listed in snapshot.signed.meta.items():
        role = name.removesuffix(".json")
        if listed.version > known.get(role, 0):
            place = destination.place(f"metadata/{file_name(Snapshot.type, snapshot.signed.version)}")
            raise BehindError(place, f"names version {listed.version} of {role}, and this workspace has less")


def listed_at(destination: Destination, timestamp: Held | None) -> Mapping[str, int]:
    """The version of each role at ``destination``, by role name; empty where that cannot be told."""
    if timestamp is None:
        return {}
    try:
        named = parse(timestamp.data, Timestamp, file="timestamp.json").signed.snapshot_meta.version
        file = file_name(Snapshot.type, named)
        held = destination.read(f"metadata/{file}")
        if held is None:
            return {}
        snapshot = parse(held.data, Snapshot, file=file).signed
    except VerificationError:
        return {}
    return {name.removesuffix(".json"): entry.version for name, entry in snapshot.meta.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What a publication came to: the files that are new there, in the order in which they were written.

    ``gap``: between the new root and the new timestamp, no order left clients a whole state.
    """

    where: str
    written: tuple[str, ...]
    timestamp: int
    replayed: int
    gap: bool


def write_to(
    destination: Destination, files: PublishedFiles, *, now: datetime, replayed: int = 0, dry_run: bool = False
) -> Published:
    """Write ``files``, in the order that the module describes; ``dry_run`` only says what would be written.

    Raises:
        InputError: the destination holds other bytes under an immutable name, or a newer state, or cannot compare and
            swap.
        VerificationError: a bin does not verify.
        StoreError: the destination cannot be reached, locked, read or written.
    """
    with destination.exclusive():
        new_roots = _new_roots(files, destination)
        present = destination.read(TIMESTAMP_PATH)
        there = _check_not_behind(files, destination, present) if present is not None else set()
        order = _order(files, destination, present, new_roots, now)
        writer = _Writer(destination, present, dry_run=dry_run)
        for group in files.contents(listed_at(destination, present)):
            writer.create_all((path, data) for path, data in group if path not in there)
        if order is _Order.TIMESTAMP_FIRST:
            writer.timestamp(files.timestamp)
        for path, data in new_roots.items():
            writer.create(path, data)
        writer.timestamp(files.timestamp)
    return Published(
        where=destination.name,
        written=tuple(writer.written),
        timestamp=files.timestamp_version,
        replayed=replayed,
        gap=order is _Order.ROOT_FIRST_WITH_GAP,
    )


_AT_ONCE = 16


class _Writer:
    """Writes one file after the other, and notes which were new."""

    def __init__(self, destination: Destination, present: Held | None, *, dry_run: bool) -> None:
        self._destination = destination
        self._present = present
        self._dry_run = dry_run
        self.written: list[str] = []

    def create(self, path: str, data: bytes) -> None:
        if self._create(path, data):
            self.written.append(path)

    def create_all(self, files: Iterable[tuple[str, bytes]]) -> None:
        """Create files that may become visible in any order: where there are many, several at a time."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            rest = iter(files)
            while some := list(islice(rest, _AT_ONCE * 4)):
                paths, contents = zip(*some, strict=True)
                several = pool.map if len(some) > _AT_ONCE else map
                for path, new in zip(paths, several(self._create, paths, contents), strict=True):
                    self.written += [path] if new else []

    def _create(self, path: str, data: bytes) -> bool:
        if not self._dry_run and self._destination.create(path, data):
            return True
        there = self._destination.read(path)
        if there is not None and there.data != data:
            raise TakenError(self._destination.place(path), path)
        return there is None

    def timestamp(self, data: bytes) -> None:
        if TIMESTAMP_PATH in self.written or (self._present is not None and self._present.data == data):
            return
        if not self._dry_run and not self._destination.replace(TIMESTAMP_PATH, data, self._present):
            there = self._destination.read(TIMESTAMP_PATH)
            if there is None or there.data != data:  # else an answer was lost, and it was we who wrote it
                place = self._destination.place(TIMESTAMP_PATH)
                raise BehindError(place, "has changed while the files before it were written")
        self.written.append(TIMESTAMP_PATH)


class _Order(Enum):
    ROOT_FIRST = "root first"
    TIMESTAMP_FIRST = "timestamp first"
    ROOT_FIRST_WITH_GAP = "root first, with a gap"


def _order(
    files: PublishedFiles, destination: Destination, present: Held | None, new: Mapping[str, bytes], now: datetime
) -> _Order:
    known = [data for path, data in files.root_files.items() if path not in new]
    if not new or not known or present is None:
        return _Order.ROOT_FIRST  # nothing stands in between, or nobody is here yet
    if _holds(Overlay(destination, {**files.immutable, **new}), known, now):
        return _Order.ROOT_FIRST
    if _holds(Overlay(destination, {**files.immutable, TIMESTAMP_PATH: files.timestamp}), known, now):
        return _Order.TIMESTAMP_FIRST
    return _Order.ROOT_FIRST_WITH_GAP


def _holds(state: Mapping[str, bytes], roots: list[bytes], now: datetime) -> bool:
    try:
        for root in roots:
            read_with_kedge(state, root, (), now)
    except VerificationError:
        return False
    return True


def _new_roots(files: PublishedFiles, destination: Destination) -> dict[str, bytes]:
    """The roots that are not there yet; those that are must be ours, and none may come after ours."""
    new: dict[str, bytes] = {}
    for path, data in files.root_files.items():
        held = destination.read(path)
        if held is None:
            new[path] = data
        elif held.data != data:
            raise TakenError(destination.place(path), path)
    following = f"metadata/{len(files.roots) + 1}.root.json"
    if destination.read(following) is not None:
        raise InputError(
            f"{destination.place(following)}: is newer than this workspace",
            hint="update the workspace before publishing",
        )
    return new


def _check_not_behind(files: PublishedFiles, destination: Destination, present: Held) -> set[str]:
    """Compare before any write: a destination that somebody else is ahead in must not change at all.

    The paths of the immutable files that are there already are returned.
    """
    place = destination.place(TIMESTAMP_PATH)
    try:
        parsed = parse(present.data, Timestamp, file=place)
    except VerificationError as error:
        raise InputError(error.message, hint="what is there is no timestamp: look who wrote it") from error
    root, version = parse(files.roots[-1], Root, file="newest root"), parsed.signed.version
    # By a key that the newest root has replaced: with that root, clients forget its version (TUF 1.0.34 §5.3.11).
    if not count_signatures(root.signed, Timestamp.type, parsed).met:
        version = 0
    if version > files.timestamp_version or (version == files.timestamp_version and present.data != files.timestamp):
        raise BehindError(place, f"is version {version}, and this workspace's is {files.timestamp_version}")
    there: set[str] = set()
    for path, data in files.immutable.items():
        held = destination.read(path)
        if held is not None and held.data != data:
            raise TakenError(destination.place(path), path)
        if held is not None:
            there.add(path)
    return there


def destinations_of(workspace: Workspace) -> list[Destination]:
    """Every destination of the policy.

    Raises:
        InputError: there is none, or one cannot be opened.
    """
    found = [_opened(workspace, destination) for destination in workspace.policy().destinations]
    if not found:
        raise InputError("kedge-repo.toml: destination: is missing", hint="name a folder: kedge-repo publish FOLDER")
    return found


def destination_at(workspace: Workspace, text: str) -> Destination:
    """The destination that somebody names: a URL of an object store, with the policy's settings for it, or a folder.

    Raises:
        InputError: it cannot be opened.
    """
    for destination in workspace.policy().destinations:
        if destination.url is not None and destination.url.rstrip("/") == text.rstrip("/"):
            return _opened(workspace, destination)
    if text.partition("://")[0] in SCHEMES:
        return ObjectStoreDestination(text)
    if "://" in text:
        raise InputError(f"{text}: must be a folder, or begin with {', '.join(f'{scheme}://' for scheme in SCHEMES)}")
    return FolderDestination(folder=Path(text))


def _opened(workspace: Workspace, destination: DestinationPolicy) -> Destination:
    if destination.url is not None:
        return ObjectStoreDestination(destination.url, options=destination.options)
    return FolderDestination(folder=(workspace.root / (destination.folder or "")).resolve())


def publish_workspace(
    workspace: Workspace, folder: Path | None = None, *, now: datetime, readers: Mapping[str, Reader] = READERS
) -> tuple[Published, ...]:
    """Publish to ``folder``, or to every destination of the policy, after readers have accepted it.

    Raises:
        InputError: there is nothing to publish, no destination, or the folder holds other bytes or a newer state.
        VerificationError: the metadata does not verify, or a reader refuses it.
        StoreError: a destination cannot be reached, locked or written.
    """
    destinations = [FolderDestination(folder=folder)] if folder is not None else destinations_of(workspace)
    return publish_to(workspace, destinations, now=now, readers=readers)


def publish_to(
    workspace: Workspace,
    destinations: Sequence[Destination],
    *,
    now: datetime,
    readers: Mapping[str, Reader] = READERS,
    dry_run: bool = False,
) -> tuple[Published, ...]:
    """Publish to every one of ``destinations``.

    Before anything is written, every reader replays the new metadata from every root ever published, as of ``now``:
    as a client that comes afresh, and as one that holds what each destination shows at present.

    Raises:
        InputError: there is nothing to publish, or a destination holds other bytes or a newer state.
        VerificationError: the metadata does not verify, or a reader refuses it.
        StoreError: a destination cannot be reached, locked or written.
    """
    files = collect_files(workspace)
    count = replay(files, now=now, readers=readers)
    resumers = {name: resume for name, resume in RESUMERS.items() if name in readers}
    walks = [
        count + replay_from_present(files, Overlay(place, {}), now=now, resumers=resumers) for place in destinations
    ]
    return tuple(
        write_to(place, files, now=now, replayed=walked, dry_run=dry_run)
        for place, walked in zip(destinations, walks, strict=True)
    )


def write_files(files: PublishedFiles, folder: Path, *, now: datetime) -> Published:
    """Write ``files`` to a folder, in the order of :mod:`kedge_repo.publish.publish`.

    Raises:
        InputError: the folder holds other bytes under an immutable name, or a newer state.
        StoreError: the folder cannot be locked or written.
    """
    return write_to(FolderDestination(folder=folder), files, now=now)


def publication_changes(workspace: Workspace, destination: Destination) -> tuple[DocumentChange, ...]:
    """The key documents of a workspace that differ from those that are published at ``destination``.

    Raises:
        InputError: the workspace, or the bytes of a target, cannot be read.
        StoreError: the destination cannot be reached or read.
    """
    signed, served = workspace.signed(), Overlay(destination, {})
    first = served.get("metadata/1.root.json")
    changes: list[DocumentChange] = []
    for change in workspace_documents(workspace, signed):
        found = target_as_published(served, first, change.document.path) if first is not None else None
        old = (found[0], found[1].custom) if found is not None else None
        if old is None or old != change.new:
            changes.append(replace(change, old=old))
    return tuple(changes)

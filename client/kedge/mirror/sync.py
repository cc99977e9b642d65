"""``kedge mirror sync``: bring a folder up to date with a repository, all of it verified from the anchor.

The order of a run: trust is refreshed and every role loaded, as any client does; missing targets are fetched, many at
once; then the log (where the client follows it) and the metadata appear, the timestamp last. A run that was cut off at
any moment leaves the former copy, with some of the new files beside it, and the next run goes on from there.

A verified copy of a repository in a folder, which any TUF client can use as its repository.

- :mod:`kedge.mirror.sync`: which files the copy consists of, and in which order they may appear. It is pure.
- :mod:`kedge.mirror.folder`: the folder: whole files only, one writer, and what may be cleared away when.
- :mod:`kedge.mirror.sync`: many targets at once, each straight to disk.
- :mod:`kedge.mirror.sync`: all of it: what ``kedge mirror sync`` does.
- :mod:`kedge.mirror.serve`: the folder over HTTP, on the loopback.

Which files a copy consists of, where they lie, and in which order they may appear.

Two rules keep every reader whole, whenever they look:

- A file appears before the file that names it: targets, targets roles, snapshot, roots, and the timestamp last.
- Where a new root no longer trusts the keys of what is served (an online key was replaced), or where names do not
  change with their content (no consistent snapshots), no order is right: then the folder is exchanged as a whole.

Every file keeps its name for ever where snapshots are consistent; so old ones may stay for as long as anybody likes.
A copy keeps each timestamp as ``<version>.timestamp.json`` too, which no client asks for and a history needs.

Many targets at once, each straight to disk: memory does not grow with their size.

A target is verified while it is written, under a name that no client asks for, and takes its own name only once it is
what the repository signed. Whoever names it next waits until it is on disk (:meth:`MirrorFolder.sync_files`). Several
mirrors are asked in turn, until one serves the right file.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, BinaryIO, Final
from urllib.parse import quote

from kedge import tuf
from kedge.client import TrustClient
from kedge.errors import FetchError, InputError, KedgeError, Reason, Refusal, VerificationError
from kedge.mirror.folder import MirrorFolder
from kedge.transport import Deadline, ReadableMirror, file_name
from kedge.tuf import (
    SNAPSHOT,
    STRONG_DIGESTS,
    TARGETS,
    TIMESTAMP,
    Area,
    Fetch,
    Limits,
    Listed,
    Parsed,
    RootFile,
    TrustedState,
    every_role,
    every_target,
    parse,
    require_threshold,
    sha256_hex,
    target_paths,
)

if TYPE_CHECKING:
    from tuf.api.metadata import TargetFile


ReadFile = Callable[[str], bytes | None]
"""Gives a file of the copy as it is now, by its path, or None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where in the folder metadata and targets lie; the empty text is its top."""

    metadata: str = "metadata"
    targets: str = "targets"

    def metadata_path(self, request: str) -> str:
        """The path in the folder of a metadata file that is asked for as ``request``."""
        return _below(self.metadata, request)

    def target_path(self, request: str) -> str:
        """The path in the folder of a target file that is asked for as ``request``."""
        return _below(self.targets, request)


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetCopy:
    """A target: what is asked for, and where it goes; ``paths`` has more than one entry where clients differ."""

    target: TargetFile
    request: str
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All files of the copy. ``metadata`` are path and content in the order in which they may appear.

    With ``as_a_whole`` no order is right. ``may_change`` says that a name may be given to other content.
    """

    targets: tuple[TargetCopy, ...]
    metadata: tuple[tuple[str, bytes], ...]
    as_a_whole: bool
    may_change: bool

    @property
    def paths(self) -> frozenset[str]:
        """Every path of the copy."""
        return frozenset((*(path for target in self.targets for path in target.paths), *dict(self.metadata)))


def plan(
    state: TrustedState,
    layout: Layout,
    *,
    older_roots: Iterable[RootFile] = (),
    wanted: Callable[[Listed], bool] = lambda _listed: True,
    served: ReadFile,
) -> Plan:
    """Plan the copy of a complete state that holds every role; ``served`` gives what the copy consists of now.

    ``older_roots`` are roots before the first of the state, ``wanted`` chooses targets.
    """
    consistent = bool(state.root.consistent_snapshot)
    copies = dict(_copies(state, layout, wanted, consistent=consistent))
    timestamp = _held(state.timestamp)
    metadata = [*_versioned(state, layout, consistent=consistent)]
    metadata.append((layout.metadata_path(f"{timestamp.signed.version}.timestamp.json"), timestamp.data))
    metadata += [
        (layout.metadata_path(f"{root.version}.root.json"), root.data) for root in (*older_roots, *state.roots)
    ]
    metadata.append((layout.metadata_path("timestamp.json"), timestamp.data))
    return Plan(
        targets=tuple(copies.values()),
        metadata=tuple(metadata),
        as_a_whole=not survives(state, layout, served) or (not consistent and served(metadata[-1][0]) is not None),
        may_change=not consistent,
    )


def survives(state: TrustedState, layout: Layout, served: ReadFile) -> bool:
    """Whether what is served now is still right by the newest root, so that the root may appear before the rest."""
    found = served(layout.metadata_path("timestamp.json"))
    if found is None:
        return True  # nothing is served: nobody can be misled
    try:
        timestamp = parse(found, TIMESTAMP, file="timestamp.json")
        require_threshold(state.root, TIMESTAMP.type, timestamp)
        version = timestamp.signed.snapshot_meta.version
        snapshot = parse(served(layout.metadata_path(f"{version}.snapshot.json")) or b"", SNAPSHOT, file="snapshot")
        require_threshold(state.root, SNAPSHOT.type, snapshot)
        version = snapshot.signed.meta[f"{TARGETS.type}.json"].version
        targets = parse(served(layout.metadata_path(f"{version}.targets.json")) or b"", TARGETS, file="targets")
        require_threshold(state.root, TARGETS.type, targets)
    except (VerificationError, KeyError):
        return False
    return True


def _copies(
    state: TrustedState, layout: Layout, wanted: Callable[[Listed], bool], *, consistent: bool
) -> Iterator[tuple[str, TargetCopy]]:
    for listed in every_target(state):
        if wanted(listed):
            paths = target_paths(listed.target, consistent=consistent)
            places = tuple(layout.target_path(path) for path in paths)
            yield paths[0], TargetCopy(target=listed.target, request=paths[0], paths=places)


def _versioned(state: TrustedState, layout: Layout, *, consistent: bool) -> Iterator[tuple[str, bytes]]:
    roles: list[tuple[str, Parsed[Any]]] = [*state.roles.items()]
    # A delegated role before the one that delegates to it, as far as a role is held in the order of its delegation.
    for name, role in (*reversed(roles), ("snapshot", _held(state.snapshot))):
        prefix = f"{role.signed.version}." if consistent else ""
        yield layout.metadata_path(f"{prefix}{quote(name, safe='')}.json"), role.data


def _below(folder: str, request: str) -> str:
    name = "/".join(map(file_name, request.split("/")))
    return f"{folder.strip('/')}/{name}" if folder.strip("/") else name


def _held(parsed: Parsed[Any] | None) -> Parsed[Any]:
    if parsed is None:
        raise RuntimeError("a copy is made of a complete state")
    return parsed


BYTES_PER_S: Final = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """How many targets, and bytes, were fetched."""

    files: int
    bytes: int


def fetch_targets(
    targets: Iterable[TargetCopy],
    folder: MirrorFolder,
    mirrors: Sequence[ReadableMirror],
    *,
    jobs: int,
    file_s: float,
    done: Callable[[int], None],
) -> Fetched:
    """Fetch targets, ``jobs`` at a time; ``done`` is told of each that came.

    A file may take ``file_s`` seconds, and a second more for each :data:`BYTES_PER_S` of it.

    Raises:
        FetchError: one of them cannot be had.
        VerificationError: no mirror serves one of them as it was signed.
        StoreError: the disk refuses.
    """
    files = size = 0
    workers = ThreadPoolExecutor(jobs, thread_name_prefix="kedge-sync")
    waiting: dict[Future[None], tuple[TargetCopy, Deadline]] = {}
    queue = iter(targets)
    try:
        while True:
            for target in islice(queue, 2 * jobs - len(waiting)):
                deadline = Deadline(file_s + target.target.length / BYTES_PER_S)
                waiting[workers.submit(_fetch, target, folder, mirrors, deadline)] = target, deadline
            if not waiting:
                return Fetched(files=files, bytes=size)
            for future in wait(waiting, timeout=file_s / 4, return_when=FIRST_COMPLETED).done:
                future.result()
                target, _ = waiting.pop(future)
                files, size = files + 1, size + target.target.length
                done(1)
            _check_deadlines(waiting.values())
    finally:
        # What is under way after a failure is of no use: its sockets are shut, so that its threads end.
        if waiting:
            for mirror in mirrors:
                mirror.close()
        workers.shutdown(wait=True, cancel_futures=True)


def _check_deadlines(waiting: Iterable[tuple[TargetCopy, Deadline]]) -> None:
    # A server that sends its headers a byte at a time is noticed by nobody else.
    for target, deadline in waiting:
        if not deadline.remaining_s():
            raise FetchError(
                f"{target.target.path}: no complete answer within {deadline.seconds:g} seconds",
                hint="the server is too slow or stalls: try another mirror, or again: what has come is kept",
            )


def _fetch(target: TargetCopy, folder: MirrorFolder, mirrors: Sequence[ReadableMirror], deadline: Deadline) -> None:
    faults: list[KedgeError] = []
    request = Fetch(Area.TARGETS, target.request, target.target.length)
    for mirror in mirrors:
        try:
            if mirror.read(request, deadline, partial(_write, target, folder)) is None:
                return
            faults.append(FetchError(f"{target.target.path}: is not there", hint="the mirror is incomplete"))
        except VerificationError as error:
            faults.append(error.served_by(mirror.source))
        except FetchError as error:
            faults.append(error)
    raise next((fault for fault in faults if isinstance(fault, VerificationError)), faults[0])


def _write(target: TargetCopy, folder: MirrorFolder, pieces: Iterator[bytes]) -> None:
    """Write and verify one target, and give it its names."""
    first, *others = target.paths
    with folder.blaming():
        descriptor, partial_file = folder.partial(first)
        try:
            with os.fdopen(descriptor, "wb") as file:
                _check(target.target, _measured(target.target, _written(file, pieces)))
                file.flush()
                os.fchmod(descriptor, 0o644)
            for other in others:
                place = folder.place(other)
                place.unlink(missing_ok=True)
                os.link(partial_file, place)
            partial_file.replace(folder.place(first))
        except BaseException:
            partial_file.unlink(missing_ok=True)
            raise


def matches(target: TargetFile, pieces: Iterator[bytes]) -> bool:
    """Whether a file that is there is the one that was signed for."""
    return not _faults(target, _measured(target, pieces))


def _written(file: BinaryIO, pieces: Iterator[bytes]) -> Iterator[bytes]:
    for piece in pieces:
        file.write(piece)
        yield piece


def _measured(target: TargetFile, pieces: Iterator[bytes]) -> dict[str, str]:
    """The length, and the digests that are listed, as far as this machine computes them."""
    hashes = {name: hashlib.new(name) for name in target.hashes if name in hashlib.algorithms_available}
    size = 0
    for piece in pieces:
        size += len(piece)
        for each in hashes.values():
            each.update(piece)
    return {"length": str(size), **{name: each.hexdigest() for name, each in hashes.items()}}


def _faults(target: TargetFile, found: dict[str, str]) -> list[tuple[str, str]]:
    """What was expected, and what was found instead."""
    expected = {"length": str(target.length), **target.hashes}
    if not STRONG_DIGESTS & set(expected):
        return [("a digest such as sha256 among those listed", "none")]
    return [
        (f"{name} {value}", f"{name} {found.get(name, 'which this machine cannot compute')}")
        for name, value in expected.items()
        if found.get(name) != value
    ]


def _check(target: TargetFile, found: dict[str, str]) -> None:
    faults = _faults(target, found)
    if not faults:
        return
    expected, seen = (", ".join(texts) for texts in zip(*faults, strict=True))
    refusal = Refusal(reason=Reason.CONTENT, file=target.path, expected=expected, found=seen)
    raise VerificationError(
        f"{target.path}: is not the file that was signed for: expected {expected}, found {seen}", refusal=refusal
    )


JOBS = 32
FILE_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to copy. ``keep`` is for how long files stay that are no longer part of the newest copy; None: for ever.

    ``carried`` names the targets where nothing else can be had, as from a bundle; then the copy has no more roles than
    those that list them. ``file_s`` is how long a small file may take. ``rehash`` reads every target that is there
    already, and fetches anew what is damaged.
    """

    layout: Layout
    wanted: Callable[[Listed], bool] = lambda _listed: True
    carried: tuple[str, ...] | None = None
    keep: timedelta | None = None
    jobs: int = JOBS
    file_s: float = FILE_S
    rehash: bool = False

    def wants(self, listed: Listed) -> bool:
        """Whether a target is to be in the copy."""
        return (self.carried is None or listed.target.path in self.carried) and self.wanted(listed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """What a run did: targets in the copy, those that were fetched, bytes of them, files cleared away."""

    targets: int
    fetched: Fetched
    cleared: tuple[str, ...]
    first_root: int


def copy_repository(
    client: TrustClient,
    sources: Sequence[ReadableMirror],
    folder: MirrorFolder,
    options: Options,
    *,
    now: datetime,
    progress: Callable[[int], Callable[[int], None]] = lambda _total: lambda _count: None,
) -> Copied:
    """Bring ``folder`` up to date with what ``client`` trusts; targets come from ``sources``, asked in their order.

    ``progress`` is told how many targets are to be fetched, and gives what is told of each that came.

    Raises:
        KedgeError: as ``TrustClient.refresh`` does; or a target cannot be had as it was signed; or the disk refuses.
        InputError: the folder holds something else.
    """
    client.refresh()
    brought = {path: client.target(path).data for path in options.carried or ()}
    state = client.verified if options.carried is not None else client.follow(every_role)
    log = client.key_log.copied() if client.key_log is not None else {}
    with folder.writing():
        record = folder.begin(sha256_hex(state.roots[0].data))
        _check_same_repository(state, folder, options.layout)
        options = replace(options, rehash=folder.begin_run() or options.rehash)
        older = _older_roots(state, folder, options.layout, sources)
        planned = plan(state, options.layout, older_roots=older, wanted=options.wants, served=folder.read)
        with folder.as_a_whole() if planned.as_a_whole else nullcontext(folder) as into:
            missing = [target for target in planned.targets if not _is_there(target, into, planned, options)]
            done = progress(len(missing))
            if options.carried is None:
                fetched = fetch_targets(missing, into, sources, jobs=options.jobs, file_s=options.file_s, done=done)
            else:
                fetched = _put(missing, into, brought, done)
            into.sync_files(path for target in missing for path in target.paths)
            for path, data in (*((f"tlog/{path}", data) for path, data in log.items()), *planned.metadata):
                into.write(path, data)
            present = planned.paths | {f"tlog/{path}" for path in log}
            cleared = into.note_and_clear(present, record, now=now, keep=options.keep)
        folder.end_run()
    return Copied(
        targets=len(planned.targets),
        fetched=fetched,
        cleared=tuple(cleared),
        first_root=(*older, *state.roots)[0].version,
    )


def _put(
    targets: Iterable[TargetCopy], folder: MirrorFolder, brought: Mapping[str, bytes], done: Callable[[int], None]
) -> Fetched:
    """Write targets that the client has got, and verified."""
    files = size = 0
    for target in targets:
        data = brought[target.target.path]
        for path in target.paths:
            folder.write(path, data)
        files, size = files + 1, size + len(data)
        done(1)
    return Fetched(files=files, bytes=size)


def _check_same_repository(state: TrustedState, folder: MirrorFolder, layout: Layout) -> None:
    for root in state.roots:
        path = layout.metadata_path(f"{root.version}.root.json")
        if folder.read(path) not in (None, root.data):
            raise InputError(
                f"{folder.root}: is a copy of another repository: its {path} is not the one that is trusted",
                hint="name another folder, or the anchor that it is a copy for",
            )


def _older_roots(
    state: TrustedState, folder: MirrorFolder, layout: Layout, sources: Sequence[ReadableMirror]
) -> list[RootFile]:
    """The roots before the anchor's that lead to it: a client that starts earlier than ours needs them."""
    found = [state.roots[0]]
    while (version := found[0].version - 1) > 0:
        data = folder.read(layout.metadata_path(f"{version}.root.json")) or _root(version, sources)
        try:
            before = tuf.begin(data or b"", file=f"{version}.root.json")
            tuf.accept_root(before, found[0].data)
        except VerificationError:
            break  # missing, or older than what is read today: whoever starts there cannot be served
        found.insert(0, before.roots[0])
    return found[:-1]


def _root(version: int, sources: Sequence[ReadableMirror]) -> bytes | None:
    request = Fetch(Area.METADATA, f"{version}.root.json", Limits().root_bytes, may_be_missing=True)
    for source in sources:
        data = source.read(request, Deadline(FILE_S), b"".join)
        if isinstance(data, bytes):
            return data
    return None


def _is_there(target: TargetCopy, folder: MirrorFolder, planned: Plan, options: Options) -> bool:
    if any(folder.size(path) != target.target.length for path in target.paths):
        return False
    # What has taken its name was whole and right; only where a name can change its meaning is that not enough.
    return not (planned.may_change or options.rehash) or all(
        matches(target.target, folder.pieces(path)) for path in target.paths
    )

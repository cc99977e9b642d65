"""``kedge mirror sync``: bring a folder up to date with a repository, all of it verified from the anchor.

The order of a run: trust is refreshed and every role loaded, as any client does; missing targets are fetched, many at
once; then the log (where the client follows it) and the metadata appear, the timestamp last. A run that was cut off at
any moment leaves the former copy, with some of the new files beside it, and the next run goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from kedge import checks
from kedge.census import Listed, every_role
from kedge.client import TrustClient
from kedge.errors import InputError, VerificationError
from kedge.state import RootFile, TrustedState, sha256_hex
from kedge.steps import Area, Fetch, Limits
from kedge.sync.fetch import Fetched, fetch_targets, matches
from kedge.sync.folder import MirrorFolder
from kedge.sync.plan import Layout, Plan, TargetCopy, plan
from kedge.transport import Deadline, ReadableMirror

__all__ = ["Copied", "Options", "sync"]

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


def sync(
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
            before = checks.begin(data or b"", file=f"{version}.root.json")
            checks.accept_root(before, found[0].data)
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

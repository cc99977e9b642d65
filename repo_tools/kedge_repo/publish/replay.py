"""Before anything is published, readers replay it: from every root ever published, to every target.

Two implementations read, kedge's own client workflow and python-tuf's ``Updater``, so that a fault that either of them
sees stops a publication and not the clients behind it. A reader gets the files in memory, one initial root, the target
paths and the time. A reader that cannot judge by that time says so: python-tuf judges by the machine's clock alone.

Reading back what is published, as a client does that knows the first root and nothing else.

Whatever stands before the files (a bucket's policy, a CDN, a web server) is part of what is read. It must show the
state that the workspace has, every target, each sampled bin; and it must answer 404 or 403 for a root that is not there
yet, or no client would ever get past that.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar
from urllib.parse import unquote

from tuf.api.exceptions import DownloadError, DownloadHTTPError, RepositoryError
from tuf.api.metadata import TargetFile
from tuf.ngclient import Updater
from tuf.ngclient.fetcher import FetcherInterface

from kedge import tuf
from kedge.client import Anchor, Clock, SystemClock, TrustClient
from kedge.documents import format_time
from kedge.errors import FetchError, InputError, KedgeError, Reason, Refusal, VerificationError
from kedge.transport import Mirror
from kedge.tuf import MISSING, Fetch, Freshness, Missing, TrustedState, Workflow, begin, run
from kedge_repo.publish.files import PublishedFiles


class Reader(Protocol):
    """A client: raises ``VerificationError`` where it would refuse, ``InputError`` where it cannot judge by that time.

    It downloads ``targets``; ``lookups`` are only looked up, for their bytes may be elsewhere.
    """

    def __call__(
        self,
        files: Mapping[str, bytes],
        initial_root: bytes,
        targets: tuple[str, ...],
        now: datetime,
        lookups: tuple[str, ...] = (),
        /,
    ) -> None:
        """Read as a client that begins at ``initial_root``, at the time ``now``."""


class Resumer(Protocol):
    """A client that holds the publication ``held``, and then reads ``files``; it raises where it would refuse them."""

    def __call__(
        self, held: Mapping[str, bytes], files: Mapping[str, bytes], initial_root: bytes, now: datetime, /
    ) -> None:
        """Read ``held`` as a client that begins at ``initial_root``, and then ``files``, at the time ``now``."""


R = TypeVar("R")

_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
# A publication of millions of targets is read long after its time was.
_PRESENT = timedelta(hours=1)
MEMORY_BASE = "memory://published/"


def replay(files: PublishedFiles, *, now: datetime, readers: Mapping[str, Reader]) -> int:
    """Let every reader walk from every root to every target; returns how many walks there were.

    Raises:
        VerificationError: a reader refuses; the text names it and the root it began with.
        InputError: a reader cannot judge by ``now``.
    """
    count = 0
    everything, lookups = files.everything(), files.samples()
    for name, reader in readers.items():
        for version, root in enumerate(files.roots, start=1):
            try:
                reader(everything, root, files.targets, now, lookups)
            except VerificationError as error:
                message = f"{name} refuses this publication from root version {version}: {error.message}"
                raise VerificationError(message, refusal=error.refusal, hint=error.hint) from error
            count += 1
    return count


def replay_from_present(
    files: PublishedFiles, held: Mapping[str, bytes], *, now: datetime, resumers: Mapping[str, Resumer]
) -> int:
    """Let clients that hold the publication ``held`` go on to ``files``, from each root; returns how many walks.

    What a client holds is not forgotten: a snapshot that no longer names a file which the one before named, or names an
    older version of it, locks out everybody who was here before, and nobody who comes afresh.

    Raises:
        VerificationError: such a client would refuse; the text names it and the root it began with.
    """
    everything = files.everything()
    count = 0
    for name, resume in resumers.items():
        for version, root in enumerate(files.roots, start=1):
            if f"metadata/{version}.root.json" not in held:
                continue
            try:
                resume(held, everything, root, now)
            except VerificationError as error:
                message = (
                    f"{name} refuses this publication where it holds the present one, from root version {version}: "
                    f"{error.message}"
                )
                raise VerificationError(message, refusal=error.refusal, hint=error.hint) from error
            count += 1
    return count


def read_with_kedge(
    files: Mapping[str, bytes],
    initial_root: bytes,
    targets: tuple[str, ...],
    now: datetime,
    lookups: tuple[str, ...] = (),
) -> None:
    """Refresh with kedge's own client workflow and download every target, by the time ``now``.

    Raises:
        VerificationError: kedge refuses.
    """
    freshness = Freshness(reference_time=now)
    try:
        state = _walk(tuf.refresh(begin(initial_root), freshness), files)
        for path in targets:
            found = _walk(tuf.find(state, path, freshness), files)
            state = found.state
            _walk(tuf.download(found), files)
        for path in lookups:
            state = _walk(tuf.find(state, path, freshness), files).state
    except FetchError as error:
        raise VerificationError(error.message, refusal=Refusal(reason=Reason.NOT_FOUND)) from error


def resume_with_kedge(
    held: Mapping[str, bytes], files: Mapping[str, bytes], initial_root: bytes, now: datetime
) -> None:
    """Take up ``held`` with kedge's own workflow, however old it is, and refresh from ``files`` by the time ``now``.

    Where ``held`` itself is refused, nobody holds it.

    Raises:
        VerificationError: kedge refuses ``files`` on top of it.
    """
    try:
        state = _walk(tuf.refresh(begin(initial_root), Freshness(reference_time=_LONG_AGO, as_of=True)), held)
    except (VerificationError, FetchError):
        return
    try:
        _walk(tuf.refresh(state, Freshness(reference_time=now)), files)
    except FetchError as error:
        raise VerificationError(error.message, refusal=Refusal(reason=Reason.NOT_FOUND)) from error


def resume_with_python_tuf(
    held: Mapping[str, bytes], files: Mapping[str, bytes], initial_root: bytes, now: datetime
) -> None:
    """Refresh python-tuf's ``Updater`` from ``held`` and then, with the cache that this left, from ``files``.

    Where ``held`` itself is refused at the present (it has expired), what was verified of it is in the cache.

    Raises:
        VerificationError: python-tuf refuses ``files`` on top of it.
        InputError: ``now`` is not the machine's present, give or take an hour.
    """
    _require_present(now)
    with tempfile.TemporaryDirectory(prefix="kedge-replay-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        for served in (held, files):
            try:
                fetcher = MemoryFetcher(served)
                Updater(folder, f"{MEMORY_BASE}metadata/", fetcher=fetcher, bootstrap=initial_root).refresh()
            except (RepositoryError, DownloadError) as error:
                if served is held:
                    continue
                refusal = Refusal(reason=Reason.CONTENT, found=str(error))
                raise VerificationError(str(error), refusal=refusal) from error


def target_as_published(files: Mapping[str, bytes], initial_root: bytes, path: str) -> tuple[bytes, TargetFile] | None:
    """The target at ``path`` as a client gets it from ``files``, however old they are; None where it gets none."""
    freshness = Freshness(reference_time=_LONG_AGO, as_of=True)
    try:
        state = _walk(tuf.refresh(begin(initial_root), freshness), files)
        found = _walk(tuf.find(state, path, freshness), files)
        return _walk(tuf.download(found), files), found.target
    except (VerificationError, FetchError):
        return None


def _walk(steps: Workflow[R], files: Mapping[str, bytes]) -> R:
    return run(steps, partial(_served, files))


def _served(files: Mapping[str, bytes], step: Fetch) -> bytes | Missing:
    path = f"{step.area.value}/{unquote(step.path)}"
    data = files.get(path, MISSING)
    if isinstance(data, bytes) and len(data) > step.max_bytes:
        refusal = Refusal(reason=Reason.TOO_LARGE, file=path, expected=f"at most {step.max_bytes} bytes")
        raise VerificationError(f"{path}: is longer than the {step.max_bytes} bytes that are allowed", refusal=refusal)
    return data


def read_with_python_tuf(
    files: Mapping[str, bytes],
    initial_root: bytes,
    targets: tuple[str, ...],
    now: datetime,
    lookups: tuple[str, ...] = (),
) -> None:
    """Refresh with python-tuf's ``Updater`` and download every target, at the present: its clock cannot be set.

    Raises:
        VerificationError: python-tuf refuses.
        InputError: ``now`` is not the machine's present, give or take an hour.
    """
    _require_present(now)
    with tempfile.TemporaryDirectory(prefix="kedge-replay-") as folder, warnings.catch_warnings():
        # It warns of each key of the type that TUF had before 1.0.20, and reads it all the same.
        warnings.simplefilter("ignore", DeprecationWarning)
        metadata, downloads = Path(folder, "metadata"), Path(folder, "targets")
        metadata.mkdir()
        downloads.mkdir()
        try:
            updater = Updater(
                str(metadata),
                f"{MEMORY_BASE}metadata/",
                str(downloads),
                f"{MEMORY_BASE}targets/",
                fetcher=MemoryFetcher(files),
                bootstrap=initial_root,
            )
            updater.refresh()
            for path in targets:
                updater.download_target(_found(updater, path))
            for path in lookups:
                _found(updater, path)
        except (RepositoryError, DownloadError) as error:
            refusal = Refusal(reason=Reason.CONTENT, found=str(error))
            raise VerificationError(str(error), refusal=refusal) from error


def _require_present(now: datetime) -> None:
    present = SystemClock().now()
    if abs(now - present) > _PRESENT:
        raise InputError(
            f"python-tuf judges by this machine's clock, which says {format_time(present)}: "
            f"it cannot judge as of {format_time(now)}",
            hint="give it the present, or leave it out of the readers",
        )


def _found(updater: Updater, path: str) -> TargetFile:
    target = updater.get_targetinfo(path)
    if target is None:
        refusal = Refusal(reason=Reason.NOT_FOUND, file=path)
        raise VerificationError(f"does not find the target {path}", refusal=refusal)
    return target


class MemoryFetcher(FetcherInterface):
    """Answers python-tuf out of ``files``, below ``memory://published/``."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        """Answer out of ``files``, by path."""
        self._files = files

    def _fetch(self, url: str) -> Iterator[bytes]:
        data = self._files.get(unquote(url.removeprefix(MEMORY_BASE)))
        if data is None:
            raise DownloadHTTPError(f"{url} is not there", 404)
        return iter([data])


READERS: Mapping[str, Reader] = {"kedge": read_with_kedge, "python-tuf": read_with_python_tuf}
RESUMERS: Mapping[str, Resumer] = {"kedge": resume_with_kedge, "python-tuf": resume_with_python_tuf}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadBack:
    """What a client came to at ``url``; ``faults`` are in words, and none where all is as it should be."""

    url: str
    root: int | None
    timestamp: int | None
    targets: int
    lookups: int
    faults: tuple[str, ...]


def read_back(files: PublishedFiles, url: str, *, clock: Clock | None = None) -> ReadBack:
    """Read ``files`` back from ``url``, which may be a folder.

    Raises:
        InputError: the URL cannot be used.
    """
    anchor = Anchor(name="published", initial_root=files.roots[0], mirrors=(Mirror(url=url),))
    faults: list[str] = []
    root = timestamp = None
    with (
        tempfile.TemporaryDirectory(prefix="kedge-verify-") as state,
        closing(TrustClient(anchor, state=Path(state), clock=clock, require_refresh=True)) as client,
    ):
        try:
            trust = client.refresh()
        except KedgeError as error:
            return ReadBack(url=url, root=None, timestamp=None, targets=0, lookups=0, faults=(error.message,))
        root, timestamp = trust.root.version, trust.timestamp.version
        if root != len(files.roots):
            faults.append(f"serves root version {root}, and the workspace has {len(files.roots)}")
        if timestamp != files.timestamp_version:
            faults.append(f"serves timestamp version {timestamp}, and the workspace has {files.timestamp_version}")
        faults += _missing_targets(client, files)
        samples = files.samples()
        faults += _missing_lookups(client, samples)
    return ReadBack(
        url=url,
        root=root,
        timestamp=timestamp,
        targets=len(files.targets),
        lookups=len(samples),
        faults=tuple(faults),
    )


def _missing_targets(client: TrustClient, files: PublishedFiles) -> Iterator[str]:
    for path in files.targets:
        try:
            client.target(path)
        except KedgeError as error:
            yield error.message


def _missing_lookups(client: TrustClient, paths: tuple[str, ...]) -> Iterator[str]:
    for path in paths:

        def steps(state: TrustedState, freshness: Freshness, path: str = path) -> Workflow[TrustedState]:
            found = yield from tuf.find(state, path, freshness)
            return found.state

        try:
            client.follow(steps)
        except KedgeError as error:
            yield error.message

"""A repository in a bundle: one file, with what its receiver holds already where it carries changes only."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from kedge.errors import FetchError
from kedge.files import READING
from kedge.transport.bundle_format import Bundle, Carried, Held, unpack
from kedge.transport.directory import too_large
from kedge.transport.mirror import Deadline
from kedge.tuf import Area, Fetch, Missing, sha256_hex

MAX_FILE_BYTES = 600_000_000
LOG_PREFIX = "tlog/"
"""Files of the repository's log are carried beside metadata and targets, under their names there."""

R = TypeVar("R")


class BundleTransport:
    """Answers from a bundle. It is read when it is first asked."""

    def __init__(self, path: Path, held: Held, *, bundles: Sequence[Bundle] = ()) -> None:
        """Answer from the bundle at ``path``; or from ``bundles``, which were read before, the last one first.

        ``held`` gives the files that a delta stands on.
        """
        self._path = path
        self._held = held
        self._files = {place: data for bundle in bundles for place, data in files_by_path(bundle)} if bundles else None

    @property
    def source(self) -> str:
        """The file's path."""
        return str(self._path)

    @property
    def notices(self) -> tuple[str, ...]:
        """A single source has nothing to be compared with."""
        return ()

    def begin(self, requests: Sequence[Fetch], deadline: Deadline) -> None:
        """A file answers at once."""

    def get(self, request: Fetch, deadline: Deadline) -> bytes | Missing:  # noqa: ARG002 a file answers at once
        """Give one file.

        Raises:
            FetchError: the bundle cannot be read.
            VerificationError: it is no whole bundle, stands on files that are not held, or the file is too long.
        """
        if self._files is None:
            bundle = unpack(read_bundle_file(self._path), held=self._held, file=self.source)
            self._files = dict(files_by_path(bundle))
        data = self._files.get((request.area, request.path))
        if data is None:
            return Missing(f"{self.source} (not in this bundle)")
        if len(data) > request.max_bytes:
            raise too_large(f"{self.source}: {request.path}", request.max_bytes)
        return data

    def read(self, request: Fetch, deadline: Deadline, consume: Callable[[Iterator[bytes]], R]) -> R | Missing:
        """Hand one file to ``consume``, in one piece.

        Raises:
            FetchError: the bundle cannot be read.
            VerificationError: as :meth:`get`.
        """
        data = self.get(request, deadline)
        return data if isinstance(data, Missing) else consume(iter((data,)))

    def close(self) -> None:
        """Let go of what was read."""
        self._files = None


def read_bundle_file(path: Path) -> bytes:
    """Read a bundle's file.

    Raises:
        FetchError: it is not there, cannot be read, is no regular file or far too long.
    """
    try:
        # Without O_NONBLOCK, a named pipe would be waited for as long as nobody writes to it.
        with open(os.open(path, READING), "rb") as file:  # noqa: PTH123 a descriptor
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise FetchError(f"{path}: is no regular file")
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise FetchError(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}") from error
    if len(data) > MAX_FILE_BYTES:
        raise FetchError(f"{path}: is longer than {MAX_FILE_BYTES} bytes: no bundle is")
    return data


def files_by_path(bundle: Bundle) -> Iterator[tuple[tuple[Area, str], bytes]]:
    """Every path under which a client may ask for one of the files, with consistent snapshots and without."""
    carried, versions = bundle.carried, bundle.manifest.summary.roles
    for version, data in carried.roots.items():
        yield (Area.METADATA, f"{version}.root.json"), data
    for name, data in _roles(carried):
        quoted = quote(name, safe="")
        yield (Area.METADATA, f"{quoted}.json"), data
        if name != "timestamp":
            yield (Area.METADATA, f"{versions[name]}.{quoted}.json"), data
    for path, data in carried.targets.items():
        *folders, name = path.split("/")
        for prefix in ("", f"{sha256_hex(data)}."):
            quoted = "/".join(quote(segment, safe="") for segment in (*folders, prefix + name))
            yield (Area.TARGETS, quoted), data
    for name, data in carried.extra.items():
        if name.startswith(LOG_PREFIX):
            yield (Area.LOG, name.removeprefix(LOG_PREFIX)), data


def _roles(carried: Carried) -> Iterator[tuple[str, bytes]]:
    for name, data in (("timestamp", carried.timestamp), ("snapshot", carried.snapshot)):
        if data is not None:
            yield name, data
    yield from carried.roles.items()

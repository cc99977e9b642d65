"""From a path to bytes: the only part of the client that reaches outside.

A transport answers a :class:`~kedge.workflow.Fetch` with the file's bytes or with ``MISSING``, which means HTTP 404 or
403, or a file that is not there, and nothing else. It judges no content: it bounds what is read, in bytes and in time.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import SplitResult, unquote, urlsplit

from kedge.bundle.held import Held, nothing_held
from kedge.errors import InputError
from kedge.steps import Fetch, Missing

__all__ = ["BUNDLE_SUFFIX", "Deadline", "Mirror", "Transport", "is_loopback", "open_mirror", "open_mirrors"]

BUNDLE_SUFFIX: Final = ".kedge"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirror:
    """Where a repository lies: a URL, a folder or a bundle, and where below it metadata and targets are.

    python-tuf and kedge publish ``metadata/`` and ``targets/``; Sigstore's metadata is at the top (``metadata = ""``).

    ``ca_file`` replaces the machine's certificate authorities; ``credentials_file`` holds ``bearer TOKEN`` or
    ``basic USER:PASSWORD``; ``redirect_origins`` are other origins that the mirror may redirect to. With
    ``allow_plain_http`` a host other than this machine may be asked without TLS: content stays verified, but everybody
    on the way sees what is asked for.
    """

    url: str
    metadata: str = "metadata"
    targets: str = "targets"
    ca_file: str | None = None
    credentials_file: str | None = None
    redirect_origins: tuple[str, ...] = ()
    allow_plain_http: bool = False


class Deadline:
    """A moment by which all that is asked for must be here."""

    __slots__ = ("_end", "seconds")

    def __init__(self, seconds: float) -> None:
        """Begin now, and end in ``seconds``."""
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def remaining_s(self) -> float:
        """The seconds that are left, never below zero."""
        return max(0.0, self._end - time.monotonic())


class Transport(Protocol):
    """Gets a repository's files."""

    @property
    def source(self) -> str:
        """The URL or folder, as messages and evidence name it."""
        ...

    @property
    def notices(self) -> tuple[str, ...]:
        """What is to be said of sources that lag, lie or are silent, in the present run."""
        ...

    def begin(self, requests: Sequence[Fetch], deadline: Deadline) -> None:
        """Begin a run with what will probably be asked for first. It is a hint."""
        ...

    def get(self, request: Fetch, deadline: Deadline) -> bytes | Missing:
        """Get one file. All requests of one run carry the same ``deadline``.

        Raises:
            FetchError: it cannot be had by the deadline.
            VerificationError: it is longer than allowed, or the server sends the client somewhere else.
        """
        ...

    def close(self) -> None:
        """Give up what is under way, and every connection."""
        ...


def open_mirrors(mirrors: Sequence[Mirror], *, held: Held = nothing_held) -> Transport:
    """Make one transport of an anchor's mirrors; ``held`` gives what bundles among them may stand on.

    Raises:
        InputError: one of them cannot be used.
    """
    if len(mirrors) == 1:
        return open_mirror(mirrors[0], held=held)
    from kedge.transport.mirrors import MirrorsTransport

    return MirrorsTransport([open_mirror(mirror, held=held) for mirror in mirrors])


def open_mirror(mirror: Mirror, *, held: Held = nothing_held) -> Transport:
    """Choose the transport for a mirror by its URL: ``https:``, ``http:`` on loopback, ``file:``, or a path.

    A path that ends in ``.kedge`` is a bundle, any other is a folder. ``held`` gives what a bundle may stand on.

    Raises:
        InputError: the URL is none of these, or a file that the mirror names cannot be used.
    """
    parts = urlsplit(mirror.url)
    if parts.scheme in ("https", "http"):
        _check_url(mirror, parts)
        from kedge.transport.http import HttpTransport

        return HttpTransport(mirror)
    if "://" in mirror.url and parts.scheme != "file":
        raise InputError(f"{mirror.url}: a mirror is an https URL, a file URL or a path, not {parts.scheme}:")
    path = Path(unquote(parts.path) if parts.scheme == "file" else mirror.url)
    if path.suffix == BUNDLE_SUFFIX and not path.is_dir():
        from kedge.transport.bundle import BundleTransport

        return BundleTransport(path, held)
    from kedge.transport.directory import DirectoryTransport

    return DirectoryTransport(path, mirror)


def _check_url(mirror: Mirror, parts: SplitResult) -> None:
    if parts.username is not None:
        raise InputError(
            f"{parts.scheme}://{parts.hostname}: a mirror's URL holds no credentials",
            hint="put them into a netrc file, or into a file that the anchor names as credentials_file",
        )
    if parts.query or parts.fragment or not parts.hostname:
        raise InputError(f"{mirror.url}: a mirror's URL has a host, and no query or fragment")
    if parts.scheme == "http" and not mirror.allow_plain_http and not is_loopback(parts.hostname):
        raise InputError(
            f"{mirror.url}: plain http is used for this machine's loopback only",
            hint="use https or a folder; the anchor's allow_plain_http permits it, and shows everybody what is asked",
        )


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine itself."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

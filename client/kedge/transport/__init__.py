"""From a path to bytes: the only part of the client that reaches outside.

A transport answers a :class:`~kedge.workflow.Fetch` with the file's bytes or with ``MISSING``, which means HTTP 404 or
403, or a file that is not there, and nothing else. It judges no content: it bounds what is read, in bytes and in time.
"""

from __future__ import annotations

import ipaddress
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from kedge.errors import InputError
from kedge.workflow import Fetch, Missing

__all__ = ["Deadline", "Mirror", "Transport", "is_loopback", "open_mirror"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirror:
    """Where a repository lies: a URL or a folder, and where below it metadata and targets are.

    python-tuf and kedge publish ``metadata/`` and ``targets/``; Sigstore's metadata is at the top (``metadata = ""``).
    """

    url: str
    metadata: str = "metadata"
    targets: str = "targets"


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

    def get(self, request: Fetch, deadline: Deadline) -> bytes | Missing:
        """Get one file.

        Raises:
            FetchError: it cannot be had by the deadline.
            VerificationError: it is longer than allowed, or the server sends the client somewhere else.
        """
        ...

    def close(self) -> None:
        """Give up what is under way, and every connection."""
        ...


def open_mirror(mirror: Mirror, *, allow_http: bool = False) -> Transport:
    """Choose the transport for a mirror by its URL: ``https:``, ``http:`` on loopback, ``file:``, or a folder's path.

    ``allow_http`` permits plain http to other hosts: content stays verified, but every observer sees what is asked for.

    Raises:
        InputError: the URL is none of these.
    """
    parts = urlsplit(mirror.url)
    if parts.scheme in ("https", "http"):
        if parts.query or parts.fragment or not parts.hostname:
            raise InputError(f"{mirror.url}: a mirror's URL has a host, and no query or fragment")
        if parts.scheme == "http" and not allow_http and not is_loopback(parts.hostname):
            raise InputError(
                f"{mirror.url}: plain http is used for this machine's loopback only",
                hint="use https, or a folder",
            )
        from kedge.transport.http import HttpTransport

        return HttpTransport(mirror)
    from kedge.transport.directory import DirectoryTransport

    if parts.scheme == "file":
        return DirectoryTransport(Path(unquote(parts.path)), mirror)
    if "://" in mirror.url:
        raise InputError(f"{mirror.url}: a mirror is an https URL, a file URL or a folder, not {parts.scheme}:")
    return DirectoryTransport(Path(mirror.url), mirror)


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine itself."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

"""What a mirror is, and what a transport promises: the values and the protocol that every way of fetching shares."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from kedge.tuf import Fetch, Missing

CONNECTIONS: Final = 8

R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirror:
    """Where a repository lies: a URL, a folder or a bundle, and where below it metadata, targets and the log are.

    python-tuf and kedge publish ``metadata/`` and ``targets/``; Sigstore's metadata is at the top (``metadata = ""``).

    ``ca_file`` replaces the machine's certificate authorities; ``credentials_file`` holds ``bearer TOKEN`` or
    ``basic USER:PASSWORD``; ``redirect_origins`` are other origins that the mirror may redirect to. With
    ``allow_plain_http`` a host other than this machine may be asked without TLS: content stays verified, but everybody
    on the way sees what is asked for.
    """

    url: str
    metadata: str = "metadata"
    targets: str = "targets"
    log: str = "tlog"
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


class ReadableMirror(Transport, Protocol):
    """One mirror, from which many threads may read at once."""

    def read(self, request: Fetch, deadline: Deadline, consume: Callable[[Iterator[bytes]], R]) -> R | Missing:
        """Hand one file to ``consume`` in pieces, and give what that gives; anew for each attempt, if one breaks off.

        Raises:
            FetchError: it cannot be had by the deadline.
            VerificationError: it is longer than allowed, or the server sends the client somewhere else.
        """
        ...


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine itself."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

"""A repository behind HTTP: bounded in bytes and in time, whatever the server does.

- One deadline covers everything that a refresh asks for. It is enforced from outside the reading thread, by closing
  the sockets, so that a byte a second in the headers, silence and an endless body all end in time.
- A body has a limit in bytes after decoding, and a minimum rate.
- 5xx, 429, a refused connection and a body that breaks off are tried again with back-off, inside the deadline;
  ``Retry-After`` is obeyed as far as the deadline allows.
- A redirect is followed on the same origin only.
- Connections are kept alive, also through the 404 that ends a root chain; what is asked ahead goes over up to eight.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import partial
from http import HTTPStatus
from typing import Final, TypeVar
from urllib.parse import urljoin, urlsplit

import urllib3
from urllib3.exceptions import HTTPError

from kedge._version import __version__
from kedge.errors import FetchError, KedgeError
from kedge.steps import MISSING, Area, Fetch, Missing
from kedge.transport.connect import Sockets, credentials, open_pool
from kedge.transport.directory import too_large
from kedge.transport.faults import explain, is_final, redirected, refused_status, too_late, too_slow
from kedge.transport.source import CONNECTIONS, Deadline, Mirror
from kedge.transport.workers import Begun, Workers

__all__ = ["HttpLimits", "HttpTransport"]

CLOSING_S: Final = 1.0
_CHUNK_BYTES: Final = 65_536
_DRAIN_BYTES: Final = 65_536
_RETRIED: Final = frozenset({408, 429, 500, 502, 503, 504})
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})

R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpLimits:
    """What a server may cost: seconds without a byte, bytes a second on average, attempts, connections."""

    idle_s: float = 15.0
    min_bytes_per_s: int = 512
    rate_grace_s: float = 10.0
    attempts: int = 4
    redirects: int = 3
    connections: int = CONNECTIONS


class HttpTransport:
    """Gets files from one mirror."""

    def __init__(self, mirror: Mirror, *, limits: HttpLimits | None = None) -> None:
        """Ask ``mirror``.

        Raises:
            InputError: a proxy of the environment, the certificate authorities or the credentials cannot be used.
        """
        self._limits = limits or HttpLimits()
        base = mirror.url.rstrip("/")
        self.source = base
        folders = {Area.METADATA: mirror.metadata, Area.TARGETS: mirror.targets, Area.LOG: mirror.log}
        self._bases = {area: _join(base, folder) for area, folder in folders.items()}
        self._origin = _origin(base)
        self._redirect_origins = {self._origin, *(_origin(url) for url in mirror.redirect_origins)}
        self._credentials = credentials(mirror)
        self._sockets = Sockets()
        self._pool = open_pool(mirror, self._limits.connections, self._sockets)
        self._pending: dict[tuple[Area, str], Begun[bytes | Missing]] = {}
        self._run: Deadline | None = None
        self._workers = Workers("kedge-http")
        self._gone = threading.Event()

    @property
    def notices(self) -> tuple[str, ...]:
        """A single source has nothing to be compared with."""
        return ()

    def begin(self, requests: Sequence[Fetch], deadline: Deadline) -> None:
        """Begin a run: ask ahead for ``requests``."""
        self._enter(deadline)
        self._ask_ahead(requests, deadline)

    def get(self, request: Fetch, deadline: Deadline) -> bytes | Missing:
        """Get one file, and begin with what will probably be asked for next.

        Raises:
            FetchError: it cannot be had by the deadline.
            VerificationError: it is longer than allowed, or the server redirects to another origin.
        """
        self._enter(deadline)
        asked_ahead = self._pending.pop((request.area, request.path), None)
        begun = self._submit(request, deadline) if asked_ahead is None or request.again else asked_ahead
        self._ask_ahead(request.ahead, deadline)
        try:
            return begun.result(deadline.remaining_s())
        except TimeoutError:
            self._sockets.shut()
            raise too_late(self._url(request), deadline.seconds) from None

    def read(self, request: Fetch, deadline: Deadline, consume: Callable[[Iterator[bytes]], R]) -> R | Missing:
        """Hand one file to ``consume`` in pieces; many threads may do so at once.

        Raises:
            FetchError: it cannot be had by the deadline.
            VerificationError: it is longer than allowed, or the server redirects to another origin.
        """
        return self._get(request, deadline, consume)

    def _enter(self, deadline: Deadline) -> None:
        if deadline is self._run:
            return
        # What was asked ahead counts for the run that asked: later, a root that was missing may be there.
        self._forget()
        self._run = deadline

    def _forget(self) -> None:
        """Drop what was asked ahead and is not wanted any more; it may never end by itself."""
        if any(not begun.is_over for begun in self._pending.values()):
            self._sockets.shut()
        self._pending.clear()

    def _ask_ahead(self, requests: Sequence[Fetch], deadline: Deadline) -> None:
        for ahead in requests:
            if (ahead.area, ahead.path) not in self._pending:
                self._pending[ahead.area, ahead.path] = self._submit(ahead, deadline)

    def close(self) -> None:
        """Give up what is under way, and every connection."""
        self._gone.set()
        self._forget()
        self._sockets.shut()
        self._workers.end(CLOSING_S)  # their sockets are shut: they end at once, and close them
        self._pool.clear()

    def _submit(self, request: Fetch, deadline: Deadline) -> Begun[bytes | Missing]:
        job: Callable[[], bytes | Missing] = partial(self._get, request, deadline, b"".join)
        return self._workers.begin(job, faults=(KedgeError, HTTPError, OSError, ValueError))

    def _url(self, request: Fetch) -> str:
        return f"{self._bases[request.area]}/{request.path}"

    def _get(self, request: Fetch, deadline: Deadline, consume: Callable[[Iterator[bytes]], R]) -> R | Missing:
        url = self._url(request)
        for attempt in range(1, self._limits.attempts + 1):
            pause_s = min(4.0, 0.2 * 2 ** (attempt - 1)) * random.uniform(0.8, 1.2)  # noqa: S311 spreads clients out
            try:
                return self._try(url, request.max_bytes, deadline, consume)
            except _RetryLaterError as error:
                fault: KedgeError = error.fault
                pause_s = error.after_s if error.after_s is not None else pause_s
            except HTTPError as error:
                if not deadline.remaining_s():
                    raise too_late(url, deadline.seconds) from error
                fault = explain(url, error, attempt, self._limits.idle_s)
                if is_final(error):
                    raise fault from error
            if attempt == self._limits.attempts or pause_s >= deadline.remaining_s() or self._gone.wait(pause_s):
                raise fault
        raise RuntimeError("unreachable: the last attempt returns or raises")

    def _try(
        self, url: str, max_bytes: int, deadline: Deadline, consume: Callable[[Iterator[bytes]], R]
    ) -> R | Missing:
        for _ in range(self._limits.redirects + 1):
            response = self._request(url, deadline)
            try:
                if response.status not in _REDIRECTS:
                    return self._answer(
                        response, self._body(url, response, max_bytes, deadline), url, deadline, consume
                    )
                _drain(response, deadline)
                url = self._redirect(url, response.headers.get("Location", ""))
            except HTTPError:
                response.close()  # what is left of it belongs to no answer
                raise
            finally:
                response.release_conn()
        raise FetchError(f"{url}: more than {self._limits.redirects} redirects", hint="try another mirror")

    def _redirect(self, url: str, location: str) -> str:
        try:
            target = urljoin(url, location)
            allowed = _origin(target) in self._redirect_origins
        except ValueError:  # no URL at all
            raise redirected(url, location) from None
        if not allowed:
            raise redirected(url, target)
        return target

    def _request(self, url: str, deadline: Deadline) -> urllib3.BaseHTTPResponse:
        headers = {"User-Agent": f"kedge/{__version__}", "Accept-Encoding": "identity"}
        if _origin(url) == self._origin:
            headers.update(self._credentials)  # they never follow a redirect
        wait_s = max(0.001, min(self._limits.idle_s, deadline.remaining_s()))
        return self._pool.request(
            "GET",
            url,
            preload_content=False,
            redirect=False,
            retries=False,
            timeout=urllib3.Timeout(connect=wait_s, read=wait_s),
            headers=headers,
        )

    def _answer(
        self,
        response: urllib3.BaseHTTPResponse,
        body: Iterator[bytes],
        url: str,
        deadline: Deadline,
        consume: Callable[[Iterator[bytes]], R],
    ) -> R | Missing:
        status = response.status
        if status == HTTPStatus.OK:
            return consume(body)
        _drain(response, deadline)
        if status in (HTTPStatus.NOT_FOUND, HTTPStatus.FORBIDDEN):
            return MISSING
        fault = refused_status(url, status)
        if status in _RETRIED:
            raise _RetryLaterError(fault, _retry_after_s(response.headers))
        raise fault

    def _body(
        self, url: str, response: urllib3.BaseHTTPResponse, max_bytes: int, deadline: Deadline
    ) -> Iterator[bytes]:
        begun, size = time.monotonic(), 0
        while chunk := response.read1(min(_CHUNK_BYTES, max_bytes + 1 - size)):
            size += len(chunk)
            if size > max_bytes:
                response.close()
                raise too_large(url, max_bytes)
            elapsed_s = time.monotonic() - begun
            if not deadline.remaining_s():
                response.close()
                raise too_late(url, deadline.seconds)
            if elapsed_s > self._limits.rate_grace_s and size < elapsed_s * self._limits.min_bytes_per_s:
                response.close()
                raise too_slow(url, size, elapsed_s)
            yield chunk


class _RetryLaterError(Exception):
    def __init__(self, fault: KedgeError, after_s: float | None) -> None:
        super().__init__(str(fault))
        self.fault = fault
        self.after_s = after_s


def _join(base: str, below: str) -> str:
    return f"{base}/{below.strip('/')}" if below.strip("/") else base


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme.lower(), parts.netloc.lower()


def _drain(response: urllib3.BaseHTTPResponse, deadline: Deadline) -> None:
    # A short body is read to its end, so that the connection can be used again; a long one is not worth that.
    size = 0
    while chunk := response.read1(_DRAIN_BYTES):
        size += len(chunk)
        if size > _DRAIN_BYTES or not deadline.remaining_s():
            response.close()
            return


def _retry_after_s(headers: urllib3.HTTPHeaderDict) -> float | None:
    value = headers.get("Retry-After", "").strip()
    if value.isdecimal():
        return float(value)
    try:
        # A date is meant by the server's clock, which it states itself: this machine's may be wrong.
        until, now = parsedate_to_datetime(value), parsedate_to_datetime(headers.get("Date", ""))
        return max(0.0, (until - now).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return None

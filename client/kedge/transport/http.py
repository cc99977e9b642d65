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

import contextlib
import random
import socket
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3.exceptions import (
    DecodeError,
    HTTPError,
    LocationParseError,
    MaxRetryError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    ProxyError,
    SSLError,
    TimeoutError,  # noqa: A004 urllib3's own
)

from kedge._version import __version__
from kedge.errors import FetchError, InputError, KedgeError, Reason, Refusal, VerificationError
from kedge.transport import Deadline, Mirror
from kedge.transport.directory import too_large
from kedge.workflow import MISSING, Area, Fetch, Missing

__all__ = ["HttpLimits", "HttpTransport"]

_CHUNK_BYTES: Final = 65_536
_DRAIN_BYTES: Final = 65_536
_RETRIED: Final = frozenset({408, 429, 500, 502, 503, 504})
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpLimits:
    """What a server may cost: seconds without a byte, bytes a second on average, attempts, connections."""

    idle_s: float = 15.0
    min_bytes_per_s: int = 512
    rate_grace_s: float = 10.0
    attempts: int = 4
    redirects: int = 3
    connections: int = 8


class HttpTransport:
    """Gets files from one mirror."""

    def __init__(self, mirror: Mirror, *, limits: HttpLimits | None = None, ca_file: str | None = None) -> None:
        """Ask ``mirror``; ``ca_file`` replaces the machine's certificate authorities.

        Raises:
            InputError: a proxy that the environment names cannot be used.
        """
        self._limits = limits or HttpLimits()
        base = mirror.url.rstrip("/")
        self.source = base
        self._bases = {Area.METADATA: _join(base, mirror.metadata), Area.TARGETS: _join(base, mirror.targets)}
        self._sockets = _Sockets()
        self._pool = _open_pool(base, self._limits, ca_file, self._sockets)
        self._workers = ThreadPoolExecutor(self._limits.connections, thread_name_prefix="kedge-http")
        self._pending: dict[tuple[Area, str], Future[bytes | Missing]] = {}
        self._gone = threading.Event()

    def get(self, request: Fetch, deadline: Deadline) -> bytes | Missing:
        """Get one file, and begin with what will probably be asked for next.

        Raises:
            FetchError: it cannot be had by the deadline.
            VerificationError: it is longer than allowed, or the server redirects to another origin.
        """
        future = self._pending.pop((request.area, request.path), None) or self._submit(request, deadline)
        for ahead in request.ahead:
            if (ahead.area, ahead.path) not in self._pending:
                self._pending[ahead.area, ahead.path] = self._submit(ahead, deadline)
        try:
            return future.result(timeout=deadline.remaining_s())
        except FutureTimeout:
            self._sockets.shut()
            raise FetchError(
                f"{self._url(request)}: no complete answer within the {deadline.seconds:g} seconds allowed",
                hint="the server is too slow or stalls: try another mirror, or allow more time",
            ) from None

    def close(self) -> None:
        """Give up what is under way, and every connection."""
        self._gone.set()
        self._sockets.shut()
        self._workers.shutdown(wait=False, cancel_futures=True)
        self._pool.clear()

    def _submit(self, request: Fetch, deadline: Deadline) -> Future[bytes | Missing]:
        return self._workers.submit(self._get, request, deadline)

    def _url(self, request: Fetch) -> str:
        return f"{self._bases[request.area]}/{request.path}"

    def _get(self, request: Fetch, deadline: Deadline) -> bytes | Missing:
        url = self._url(request)
        for attempt in range(1, self._limits.attempts + 1):
            pause_s = min(4.0, 0.2 * 2 ** (attempt - 1)) * random.uniform(0.8, 1.2)  # noqa: S311 spreads clients out
            try:
                return self._try(url, request.max_bytes, deadline)
            except _RetryLaterError as error:
                fault: KedgeError = error.fault
                pause_s = error.after_s if error.after_s is not None else pause_s
            except HTTPError as error:
                fault = _explain(url, error, attempt)
                if isinstance(error, (DecodeError, LocationParseError)) or _is_final(error):
                    raise fault from error
            if attempt == self._limits.attempts or pause_s >= deadline.remaining_s() or self._gone.wait(pause_s):
                raise fault
        raise RuntimeError("unreachable: the last attempt returns or raises")

    def _try(self, url: str, max_bytes: int, deadline: Deadline) -> bytes | Missing:
        origin = urlsplit(url)[:2]
        for _ in range(self._limits.redirects + 1):
            response = self._request(url, deadline)
            try:
                if response.status not in _REDIRECTS:
                    return self._answer(url, response, max_bytes, deadline)
                _drain(response)
                location = urljoin(url, response.headers.get("Location", ""))
                if urlsplit(location)[:2] != origin:
                    raise _redirected(url, location)
                url = location
            finally:
                response.release_conn()
        raise FetchError(f"{url}: more than {self._limits.redirects} redirects")

    def _request(self, url: str, deadline: Deadline) -> urllib3.BaseHTTPResponse:
        wait_s = max(0.001, min(self._limits.idle_s, deadline.remaining_s()))
        return self._pool.request(
            "GET",
            url,
            preload_content=False,
            redirect=False,
            retries=False,
            timeout=urllib3.Timeout(connect=wait_s, read=wait_s),
            headers={"User-Agent": f"kedge/{__version__}", "Accept-Encoding": "identity"},
        )

    def _answer(
        self, url: str, response: urllib3.BaseHTTPResponse, max_bytes: int, deadline: Deadline
    ) -> bytes | Missing:
        status = response.status
        if status == HTTPStatus.OK:
            return self._body(url, response, max_bytes, deadline)
        _drain(response)
        if status in (HTTPStatus.NOT_FOUND, HTTPStatus.FORBIDDEN):
            return MISSING
        fault = _status_fault(url, status)
        if status in _RETRIED:
            raise _RetryLaterError(fault, _retry_after_s(response.headers.get("Retry-After")))
        raise fault

    def _body(self, url: str, response: urllib3.BaseHTTPResponse, max_bytes: int, deadline: Deadline) -> bytes:
        begun, data = time.monotonic(), bytearray()
        while chunk := response.read1(min(_CHUNK_BYTES, max_bytes + 1 - len(data))):
            data += chunk
            if len(data) > max_bytes:
                response.close()
                raise too_large(url, max_bytes)
            elapsed_s = time.monotonic() - begun
            slow = elapsed_s > self._limits.rate_grace_s and len(data) < elapsed_s * self._limits.min_bytes_per_s
            if slow or not deadline.remaining_s():
                response.close()
                raise FetchError(
                    f"{url}: only {len(data)} bytes came in {elapsed_s:.0f} seconds",
                    hint="the server is too slow: try another mirror",
                )
        return bytes(data)


class _RetryLaterError(Exception):
    def __init__(self, fault: KedgeError, after_s: float | None) -> None:
        super().__init__(str(fault))
        self.fault = fault
        self.after_s = after_s


class _Sockets:
    """The sockets in use, so that a deadline can end a read that another thread waits in."""

    def __init__(self) -> None:
        self._open: set[socket.socket] = set()

    def add(self, sock: socket.socket) -> None:
        self._open.add(sock)

    def shut(self) -> None:
        for sock in list(self._open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self._open.clear()


def _join(base: str, below: str) -> str:
    return f"{base}/{below.strip('/')}" if below.strip("/") else base


def _open_pool(base: str, limits: HttpLimits, ca_file: str | None, sockets: _Sockets) -> urllib3.PoolManager:
    scheme, host = urlsplit(base).scheme, urlsplit(base).hostname or ""
    options: dict[str, Any] = {"maxsize": limits.connections, "block": True}
    if ca_file is not None:
        options["ca_certs"] = ca_file
    proxy = getproxies().get(scheme) or getproxies().get("all")
    try:
        if proxy and not proxy_bypass(host):
            pool: urllib3.PoolManager = urllib3.ProxyManager(proxy if "://" in proxy else f"http://{proxy}", **options)
        else:
            pool = urllib3.PoolManager(**options)
    except (HTTPError, ValueError) as error:
        raise InputError(f"the proxy {proxy} of the environment cannot be used: {error}") from error

    class Plain(urllib3.connection.HTTPConnection):
        def connect(self) -> None:
            super().connect()
            sockets.add(self.sock)

    class Secure(urllib3.connection.HTTPSConnection):
        def connect(self) -> None:
            super().connect()
            sockets.add(self.sock)

    class PlainPool(urllib3.HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(urllib3.HTTPSConnectionPool):
        ConnectionCls = Secure

    pool.pool_classes_by_scheme = {"http": PlainPool, "https": SecurePool}
    return pool


def _drain(response: urllib3.BaseHTTPResponse) -> None:
    # A short body is read to its end, so that the connection can be used again; a long one is not worth that.
    size = 0
    while chunk := response.read1(_DRAIN_BYTES):
        size += len(chunk)
        if size > _DRAIN_BYTES:
            response.close()
            return


def _redirected(url: str, location: str) -> VerificationError:
    refusal = Refusal(reason=Reason.REDIRECT, file=url, expected="the same origin", found=location[:200])
    return VerificationError(
        f"{url}: redirects to another origin, {location[:200]}",
        refusal=refusal,
        hint="if that is where the repository lives now, give its address as the mirror",
    )


def _status_fault(url: str, status: int) -> FetchError:
    phrase = HTTPStatus(status).phrase.lower() if status in set(HTTPStatus) else "unknown status"
    hint = {
        401: "the mirror asks for credentials",
        407: "the proxy asks for credentials",
        429: "the mirror limits requests: try again later, or another mirror",
    }.get(status, "the mirror has a fault, or is no TUF repository: try again later, or another mirror")
    return FetchError(f"{url}: the server answers {status} {phrase}", hint=hint)


def _retry_after_s(value: str | None) -> float | None:
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def _is_final(error: HTTPError) -> bool:
    """Whether trying again cannot help: a certificate or a name does not mend itself in a second."""
    cause = error.reason if isinstance(error, MaxRetryError) else error
    return isinstance(cause, (SSLError, NameResolutionError))


def _explain(url: str, error: HTTPError, attempt: int) -> FetchError:
    cause = error.reason if isinstance(error, MaxRetryError) and error.reason is not None else error
    host = urlsplit(url).hostname
    tried = f" (tried {attempt} times)" if attempt > 1 else ""
    inner: BaseException = cause
    if isinstance(cause, NameResolutionError):
        return FetchError(
            f"{url}: the name {host} cannot be resolved{tried}", hint="check the name, DNS and the network"
        )
    if isinstance(cause, SSLError):
        return FetchError(
            f"{url}: TLS fails: {_last(inner)}{tried}", hint="check this machine's clock and certificates"
        )
    if isinstance(cause, ProxyError):
        return FetchError(f"{url}: the proxy fails: {_last(inner)}{tried}", hint="check https_proxy and no_proxy")
    if isinstance(cause, NewConnectionError):
        return FetchError(f"{url}: cannot connect: {_last(inner)}{tried}", hint="check the address and the network")
    if isinstance(cause, TimeoutError):
        return FetchError(f"{url}: the server does not answer{tried}", hint="try again later, or another mirror")
    if isinstance(cause, DecodeError):
        return FetchError(
            f"{url}: the answer cannot be decoded: {_last(inner)}", hint="the server or a proxy is at fault"
        )
    if isinstance(cause, ProtocolError):
        return FetchError(
            f"{url}: the connection breaks off: {_last(inner)}{tried}", hint="try again, or another mirror"
        )
    return FetchError(f"{url}: {_last(inner)}{tried}")


def _last(error: BaseException) -> str:
    """The innermost reason, in one line."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split()).lower()

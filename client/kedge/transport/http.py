"""A repository behind HTTP: bounded in bytes and in time, whatever the server does.

- One deadline covers everything that a refresh asks for. It is enforced from outside the reading thread, by closing
  the sockets, so that a byte a second in the headers, silence and an endless body all end in time.
- A body has a limit in bytes after decoding, and a minimum rate.
- 5xx, 429, a refused connection and a body that breaks off are tried again with back-off, inside the deadline;
  ``Retry-After`` is obeyed as far as the deadline allows.
- A redirect is followed on the same origin only.
- Connections are kept alive, also through the 404 that ends a root chain; what is asked ahead goes over up to eight.

How a mirror is connected to: proxy, certificate authorities, credentials, and a hold on the sockets.

- Proxies come from the environment (``https_proxy``, ``http_proxy``, ``all_proxy``, ``no_proxy``), with or without a
  scheme and credentials of their own.
- Credentials come from a file that the anchor names, or from ``netrc``: never from the command line or from a URL, and
  they go to the mirror's own origin over https or loopback only.

What went wrong between here and a server, in one line: what, which URL, how often tried, what to do.

Threads that wait for servers. They are daemons: an answer that nobody waits for keeps no process alive.

A thread is kept for the next job, since starting one costs more than what a small answer does. There is always one for
a job: whoever waits for a silent server keeps no other job waiting.
"""

from __future__ import annotations

import base64
import contextlib
import os
import random
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import partial
from http import HTTPStatus
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final, Generic, TypeVar
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

import urllib3
from urllib3.exceptions import (
    DecodeError,
    HTTPError,
    MaxRetryError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    ProxyError,
    SSLError,
)
from urllib3.exceptions import (
    TimeoutError as HTTPTimeoutError,
)

from kedge._version import __version__
from kedge.errors import FetchError, InputError, KedgeError, Reason, Refusal, VerificationError
from kedge.transport.directory import too_large
from kedge.transport.mirror import CONNECTIONS, Deadline, Mirror, is_loopback
from kedge.tuf import Area, Fetch, Missing


class Sockets:
    """The sockets in use, so that a deadline can end a read that another thread waits in."""

    def __init__(self) -> None:
        """Hold none yet."""
        self._open: set[socket.socket] = set()

    def add(self, sock: socket.socket) -> None:
        """Take hold of a connection's socket."""
        self._open.add(sock)

    def shut(self) -> None:
        """Shut every socket; whoever reads from one gets an error."""
        for sock in list(self._open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self._open.clear()


def open_pool(mirror: Mirror, connections: int, sockets: Sockets) -> urllib3.PoolManager:
    """Make a pool of at most ``connections`` connections to a mirror, through the environment's proxy if there is one.

    Raises:
        InputError: the proxy or the file of certificate authorities cannot be used.
    """
    options: dict[str, Any] = {"maxsize": connections, "block": True}
    if mirror.ca_file is not None:
        if not Path(mirror.ca_file).is_file():
            raise InputError(f"{mirror.ca_file}: there is no such file of certificate authorities")
        try:
            ssl.create_default_context(cafile=mirror.ca_file)
        except (OSError, ValueError) as error:
            why = "expected certificates in PEM"
            raise InputError(f"{mirror.ca_file}: is no file of certificate authorities: {why}") from error
        options["ca_certs"] = mirror.ca_file
    proxy = _proxy(mirror.url)
    try:
        pool = _proxied(proxy, options) if proxy is not None else urllib3.PoolManager(**options)
    except (HTTPError, ValueError) as error:
        # Its text may hold a password in any place of a URL that is none: it is not shown.
        raise InputError(
            "the proxy that the environment names cannot be used: expected http://host:port",
            hint="check https_proxy, http_proxy and all_proxy",
        ) from error
    pool.pool_classes_by_scheme = _watched(sockets)
    return pool


def credentials(mirror: Mirror) -> dict[str, str]:
    """Give the header that authorizes requests to a mirror; nothing where no credentials are kept for it.

    ``credentials_file`` holds one line: ``bearer TOKEN`` or ``basic USER:PASSWORD``.

    Raises:
        InputError: the file, or the netrc file, cannot be read; or credentials would go over plain http to another
            machine.
    """
    parts = urlsplit(mirror.url)
    private = parts.scheme == "https" or is_loopback(parts.hostname or "")
    if mirror.credentials_file is not None:
        if not private:
            raise InputError(
                f"{mirror.url}: credentials_file and plain http do not go together: everybody on the way would read it",
                hint="use https",
            )
        return _from_file(Path(mirror.credentials_file))
    return _from_netrc(parts.hostname or "") if private else {}


def _from_netrc(host: str) -> dict[str, str]:
    try:
        path = Path(os.environ.get("NETRC") or Path.home() / ".netrc")
        if not path.is_file():
            return {}
    except (OSError, RuntimeError):
        return {}  # no home, or one that is another user's: there are no credentials in it
    import netrc  # few have such a file

    try:
        entry = netrc.netrc(path).authenticators(host)
    except netrc.NetrcParseError as error:
        # What the parser stumbled over may be a piece of a password: it is not shown.
        raise InputError(f"{path}: cannot be read: line {error.lineno} is not as netrc files are") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: cannot be read: is not UTF-8") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}") from error
    if entry is None:
        return {}
    login, _, password = entry
    return {"authorization": _basic(f"{login}:{password}")}


def _from_file(path: Path) -> dict[str, str]:
    try:
        kind, _, secret = path.read_text(encoding="utf-8").strip().partition(" ")
    except UnicodeDecodeError:
        raise InputError(f"{path}: cannot be read: is not UTF-8") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}") from error
    secret = secret.strip()
    if kind.lower() == "bearer" and secret and secret.isascii() and secret.isprintable() and " " not in secret:
        return {"authorization": f"Bearer {secret}"}
    if kind.lower() == "basic" and ":" in secret and "\n" not in secret:
        return {"authorization": _basic(secret)}
    raise InputError(f'{path}: expected one line, "bearer TOKEN" or "basic USER:PASSWORD"')


def _basic(login: str) -> str:
    """The value that says who asks (RFC 7617, UTF-8)."""
    return "Basic " + base64.b64encode(login.encode("utf-8")).decode("ascii")


def _proxy(url: str) -> str | None:
    if not any(name.lower().endswith("_proxy") for name in os.environ):
        return None
    from urllib.request import getproxies, proxy_bypass

    parts, proxies = urlsplit(url), getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _proxied(proxy: str, options: dict[str, Any]) -> urllib3.ProxyManager:
    parts, headers = urlsplit(proxy), None
    if parts.username is not None:
        headers = {"proxy-authorization": _basic(f"{unquote(parts.username)}:{unquote(parts.password or '')}")}
    return urllib3.ProxyManager(_bare(proxy), proxy_headers=headers, **options)


def _bare(proxy: str) -> str:
    """A proxy's URL without its credentials."""
    parts = urlsplit(proxy)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _watched(sockets: Sockets) -> dict[str, type[urllib3.HTTPConnectionPool]]:
    # A proxy's CONNECT and TLS come before these hold the socket. Whoever waits for the answer still waits no longer
    # than the deadline, and a thread that is stuck there is a daemon, which keeps no process alive.
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

    return {"http": PlainPool, "https": SecurePool}


_STATUS_HINTS: Final = {
    401: "the mirror asks for credentials: give them in a netrc file or in the anchor's credentials_file",
    407: "the proxy asks for credentials: give them in the proxy's URL",
    429: "the mirror limits requests: try again later, or another mirror",
}


def explain(url: str, error: HTTPError, attempts: int, idle_s: float) -> FetchError:
    """Put urllib3's error into a line for people; ``idle_s`` is how long silence was borne."""
    cause = _reason(error)
    tried = f" (tried {attempts} times)" if attempts > 1 else ""
    host = urlsplit(url).hostname
    for kind, what, hint in (
        (NameResolutionError, f"the name {host} cannot be resolved", "check the name, DNS and the network"),
        (SSLError, f"TLS fails: {_innermost(cause)}", "check this machine's clock and certificate authorities"),
        (ProxyError, f"the proxy fails: {_innermost(cause)}", "check https_proxy, http_proxy and no_proxy"),
        (NewConnectionError, f"cannot connect: {_innermost(cause)}", "check the address and the network"),
        (HTTPTimeoutError, f"the server does not answer for {idle_s:g} seconds", "try again later, or another mirror"),
        (DecodeError, f"the answer cannot be decoded: {_innermost(cause)}", "the server or a proxy is at fault"),
        (ProtocolError, f"the connection breaks off: {_innermost(cause)}", "try again, or another mirror"),
    ):
        if isinstance(cause, kind):
            return FetchError(f"{url}: {what}{tried}", hint=hint)
    return FetchError(f"{url}: {_innermost(cause)}{tried}")


def is_final(error: HTTPError) -> bool:
    """Whether trying again cannot help: a certificate, a name or a wrong encoding does not mend itself in a second."""
    return isinstance(_reason(error), SSLError | NameResolutionError | DecodeError)


def refused_status(url: str, status: int) -> FetchError:
    """The server's answer is neither the file nor that it is missing."""
    phrase = HTTPStatus(status).phrase.lower() if status in set(HTTPStatus) else "unknown status"
    otherwise = "the mirror has a fault, or is no TUF repository: try again later, or another mirror"
    return FetchError(f"{url}: the server answers {status} {phrase}", hint=_STATUS_HINTS.get(status, otherwise))


def redirected(url: str, location: str) -> VerificationError:
    """The server sends the client to an origin that the anchor does not name."""
    refusal = Refusal(reason=Reason.REDIRECT, file=url, expected="the same origin", found=location[:200])
    return VerificationError(
        f"{url}: redirects to another origin, {location[:200]}",
        refusal=refusal,
        hint="if the repository lives there now, give it as the mirror, or list it in the anchor's redirect_origins",
    )


def too_slow(url: str, size: int, seconds: float) -> FetchError:
    """The body comes below the minimum rate."""
    return FetchError(
        f"{url}: only {size} bytes came in {seconds:.0f} seconds", hint="the server is too slow: try another mirror"
    )


def too_late(url: str, seconds: float) -> FetchError:
    """The deadline has passed."""
    return FetchError(
        f"{url}: no complete answer within the {seconds:g} seconds allowed",
        hint="the server is too slow or stalls: try another mirror, or allow more time",
    )


def _reason(error: HTTPError) -> Exception:
    if isinstance(error, MaxRetryError) and error.reason is not None:
        return error.reason
    return error


def _innermost(error: BaseException) -> str:
    """The innermost reason, in one line."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split()).lower()


R = TypeVar("R")


class Begun(Generic[R]):
    """A job that a thread has, and what it comes to."""

    def __init__(self, job: Callable[[], R], faults: tuple[type[Exception], ...]) -> None:
        """Keep a job for whoever calls; what of ``faults`` it raises is for whoever waits."""
        self._job = job
        self._faults = faults
        self._over = threading.Event()
        self._result: R | None = None
        self._fault: Exception | None = None

    def __call__(self) -> None:
        """Do it."""
        try:
            self._result = self._job()
        except self._faults as error:
            self._fault = error
        self._over.set()

    @property
    def is_over(self) -> bool:
        """Whether it has come to something."""
        return self._over.is_set()

    def result(self, timeout_s: float) -> R:
        """Wait for what it comes to, and give it or raise it.

        Raises:
            TimeoutError: it is not over in time.
        """
        if not self._over.wait(timeout_s):
            raise TimeoutError
        if self._fault is not None:
            raise self._fault
        result: R = self._result  # type: ignore[assignment] # what the job returned, which may be None
        return result


class Workers:
    """As many threads as there are jobs at once."""

    def __init__(self, name: str) -> None:
        """Start none yet; ``name`` is what they are called."""
        self._name = name
        self._anew()

    def _anew(self) -> None:
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._threads: list[threading.Thread] = []

    def begin(self, job: Callable[[], R], *, faults: tuple[type[Exception], ...] = ()) -> Begun[R]:
        """Begin a job. What it raises of ``faults`` is raised where its result is asked for; it raises nothing else."""
        begun = Begun(job, faults)
        self._jobs.put(begun)
        if not self._idle.acquire(blocking=False):
            thread = threading.Thread(target=_work, args=(self._jobs, self._idle), name=self._name, daemon=True)
            self._threads.append(thread)
            thread.start()
        return begun

    def end(self, within_s: float) -> None:
        """Let every thread end after its job; where one has a job, wait for that, but not longer than ``within_s``."""
        jobs, threads, end = self._jobs, self._threads, time.monotonic() + within_s
        are_idle = all(self._idle.acquire(blocking=False) for _ in threads)
        self._anew()
        for _ in threads:
            jobs.put(None)
        for thread in () if are_idle else threads:
            thread.join(max(0.0, end - time.monotonic()))


def _work(jobs: SimpleQueue[Callable[[], None] | None], idle: threading.Semaphore) -> None:
    while (job := jobs.get()) is not None:
        job()
        idle.release()


CLOSING_S: Final = 1.0
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
            return Missing(f"{url} (HTTP {status} {HTTPStatus(status).phrase.lower()})")
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

"""Asks a registry for packuments: many at a time, over connections that are kept, bounded in bytes and in time.

- Each of the threads that ask owns one connection (:class:`Asker`), so that a watch can cut one that is late without
  touching another: a request has one deadline, for all of its attempts, headers and body.
- 408, 429, 5xx and a connection that breaks are tried again, ``Retry-After`` is obeyed as far as the deadline allows.
- A body is bounded after decompression; of bodies that are large, a process holds two at a time in memory.
- Credentials go to their registry over https, or to this machine itself. A redirect is followed on the same origin.
- A registry that fails many times without one success is given up: what is left is not asked for, and says so.

Nothing is trusted because of how it came: the transport is no part of the proof.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final
from urllib.parse import urljoin, urlsplit

import urllib3
from urllib3.exceptions import HTTPError

from kedge._version import __version__
from kedge.errors import FetchError, KedgeError
from kedge.registries.npm.config import Source
from kedge.transport import Deadline, Mirror, Sockets, explain, is_final, is_loopback, open_pool

_CHUNK_BYTES: Final = 1 << 18
_LARGE_BYTES: Final = 8 << 20
_RETRIED: Final = frozenset({408, 429, 500, 502, 503, 504})
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_HINTS: Final = {
    401: "the registry asks for credentials: give them in .npmrc",
    403: "the registry refuses the credentials of .npmrc, or asks for some",
    429: "the registry limits requests: try again later, or with fewer at a time (--jobs)",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchLimits:
    """What one packument may cost: seconds in all, seconds without a byte, attempts, bytes after decompression."""

    total_s: float = 60.0
    idle_s: float = 15.0
    attempts: int = 3
    max_bytes: int = 64 << 20
    redirects: int = 3
    failures: int = 40


class NotServedError(FetchError):
    """The registry says that it has no such package."""


class Watch:
    """What the askers of one run share: the time that each has left, which registries fail, and the room for bodies."""

    def __init__(self, limits: FetchLimits) -> None:
        """Begin to watch."""
        self.limits = limits
        self._room = threading.BoundedSemaphore(2)
        self._lock = threading.Lock()
        self._pending: dict[int, tuple[float, Sockets]] = {}
        self._failures: dict[str, int] = {}
        self.ended = threading.Event()
        self._thread = threading.Thread(target=self._look, name="kedge-npm-watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Cut every request that is under way; none begins any more."""
        self.ended.set()
        with self._lock:
            pending = list(self._pending.values())
        for _, sockets in pending:
            sockets.shut()
        self._thread.join()

    @contextlib.contextmanager
    def over(self, sockets: Sockets, deadline: Deadline) -> Iterator[None]:
        """Cut these sockets if the block has not ended by the deadline."""
        key = threading.get_ident()
        with self._lock:
            self._pending[key] = time.monotonic() + deadline.remaining_s(), sockets
        try:
            yield
        finally:
            with self._lock:
                self._pending.pop(key, None)

    def note(self, origin: str, *, failed: bool) -> None:
        """Count a registry's failures; one success forgives all before and after it."""
        with self._lock:
            if not failed:
                self._failures[origin] = -1
            elif self._failures.get(origin, 0) >= 0:
                self._failures[origin] = self._failures.get(origin, 0) + 1

    def is_given_up(self, origin: str) -> bool:
        """Whether a registry failed so often, without any success, that asking on is a waste."""
        return self._failures.get(origin, 0) >= self.limits.failures

    @contextlib.contextmanager
    def room(self, deadline: Deadline) -> Iterator[None]:
        """Wait until there is room for one more large body.

        Raises:
            FetchError: there is none by the deadline.
        """
        if not self._room.acquire(timeout=deadline.remaining_s()):
            raise FetchError("other large packuments took all the time that was allowed")
        try:
            yield
        finally:
            self._room.release()

    def _look(self) -> None:
        while not self.ended.wait(0.1):
            now = time.monotonic()
            with self._lock:
                late = [sockets for end, sockets in self._pending.values() if end <= now]
            for sockets in late:
                sockets.shut()


class Asker:
    """One thread's connections: one for each registry, made when it is first asked."""

    def __init__(self, watch: Watch) -> None:
        """Ask under a watch."""
        self._watch = watch
        self._pools: dict[tuple[str, str | None], tuple[urllib3.PoolManager, Sockets]] = {}

    def packument(self, source: Source, name: str) -> bytes:
        """Get the packument of a package.

        Raises:
            NotServedError: the registry has none.
            FetchError: it cannot be had; the text says why, in one line.
            InputError: the proxy or the file of certificate authorities cannot be used.
        """
        return self._get(source, source.address(name))

    def attestations(self, source: Source, name: str, version: str) -> bytes:
        """Get the attestations of a package's version.

        Raises:
            NotServedError: the registry has none.
            FetchError: they cannot be had; the text says why, in one line.
            InputError: the proxy or the file of certificate authorities cannot be used.
        """
        return self._get(source, source.attestations(name, version))

    def archive(self, source: Source, name: str, version: str) -> bytes:
        """Get the archive of a package's version.

        Raises:
            NotServedError: the registry has none.
            FetchError: it cannot be had; the text says why, in one line.
            InputError: the proxy or the file of certificate authorities cannot be used.
        """
        return self._get(source, source.archive(name, version))

    def _get(self, source: Source, url: str) -> bytes:
        limits = self._watch.limits
        if self._watch.is_given_up(source.url):
            raise FetchError(f"{url}: not asked: {source.url} failed {limits.failures} times, and never answered")
        try:
            data = self._insist(source, url, Deadline(limits.total_s))
        except NotServedError:
            self._watch.note(source.url, failed=False)
            raise
        except FetchError:
            self._watch.note(source.url, failed=True)
            raise
        self._watch.note(source.url, failed=False)
        return data

    def close(self) -> None:
        """Close the connections."""
        for pool, _ in self._pools.values():
            pool.clear()

    def _insist(self, source: Source, url: str, deadline: Deadline) -> bytes:
        limits = self._watch.limits
        for attempt in range(1, limits.attempts + 1):
            pause_s = min(4.0, 0.2 * 2 ** (attempt - 1)) * random.uniform(0.8, 1.2)  # noqa: S311 spreads clients out
            try:
                return self._try(source, url, deadline)
            except _RetryLaterError as error:
                fault: KedgeError = error.fault
                pause_s = error.after_s if error.after_s is not None else pause_s
            except (HTTPError, OSError, ValueError) as error:
                # ValueError: urllib3 reads on from a socket that the watch has closed.
                fault = self._fault(url, error, attempt, deadline)
                if isinstance(error, HTTPError) and is_final(error):
                    raise fault from error
            out_of_time = pause_s >= deadline.remaining_s()
            if attempt == limits.attempts or out_of_time or self._watch.ended.wait(pause_s):
                raise fault
        raise RuntimeError("unreachable: the last attempt returns or raises")

    def _fault(self, url: str, error: Exception, attempt: int, deadline: Deadline) -> FetchError:
        if not deadline.remaining_s():
            hint = "the registry is too slow or stalls"
            return FetchError(f"{url}: no complete answer within {deadline.seconds:g} seconds", hint=hint)
        if isinstance(error, HTTPError):
            return explain(url, error, attempt, self._watch.limits.idle_s)
        return FetchError(f"{url}: the connection breaks off")

    def _try(self, source: Source, url: str, deadline: Deadline) -> bytes:
        origin = urlsplit(url)[:2]
        for _ in range(self._watch.limits.redirects + 1):
            pool, sockets = self._pool(source)
            with self._watch.over(sockets, deadline):
                response = self._request(pool, source, url, deadline)
                try:
                    if response.status not in _REDIRECTS:
                        data = self._answer(url, response, deadline)
                        if deadline.remaining_s():
                            return data
                        raise ConnectionAbortedError  # the watch cut it: what came may look like a whole answer
                    response.drain_conn()
                    location = urljoin(url, response.headers.get("Location", ""))
                finally:
                    response.release_conn()
            if urlsplit(location)[:2] != origin:
                raise FetchError(f"{url}: redirects to another origin, {_bare(location)}, which is not followed")
            url = location
        raise FetchError(f"{url}: more than {self._watch.limits.redirects} redirects")

    def _pool(self, source: Source) -> tuple[urllib3.PoolManager, Sockets]:
        key = (source.url, source.ca_file)
        if key not in self._pools:
            sockets = Sockets()
            self._pools[key] = open_pool(Mirror(url=source.url, ca_file=source.ca_file), 1, sockets), sockets
        return self._pools[key]

    def _request(
        self, pool: urllib3.PoolManager, source: Source, url: str, deadline: Deadline
    ) -> urllib3.BaseHTTPResponse:
        headers = {"User-Agent": f"kedge/{__version__}", "Accept": "application/json", "Accept-Encoding": "gzip"}
        if source.authorization is not None:
            parts = urlsplit(url)
            if parts.scheme != "https" and not is_loopback(parts.hostname or ""):
                raise FetchError(f"{url}: credentials are not sent over plain http", hint="use https")
            headers["Authorization"] = source.authorization
        wait_s = max(0.001, min(self._watch.limits.idle_s, deadline.remaining_s()))
        timeout = urllib3.Timeout(connect=wait_s, read=wait_s)
        return pool.request(
            "GET", url, preload_content=False, redirect=False, retries=False, timeout=timeout, headers=headers
        )

    def _answer(self, url: str, response: urllib3.BaseHTTPResponse, deadline: Deadline) -> bytes:
        status = response.status
        if status == HTTPStatus.OK:
            return self._body(url, response, deadline)
        response.drain_conn()
        if status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
            raise NotServedError(f"{url}: the registry answers {status}: it has none")
        phrase = HTTPStatus(status).phrase.lower() if status in set(HTTPStatus) else "unknown status"
        fault = FetchError(f"{url}: the registry answers {status} {phrase}", hint=_HINTS.get(status))
        if status in _RETRIED:
            after = response.headers.get("Retry-After", "").strip()
            raise _RetryLaterError(fault, float(after) if after.isdecimal() and len(after) < 10 else None)
        raise fault

    def _body(self, url: str, response: urllib3.BaseHTTPResponse, deadline: Deadline) -> bytes:
        chunks: list[bytes] = []
        limit = self._watch.limits.max_bytes
        if _read(response, chunks, min(_LARGE_BYTES, limit)):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)
        with self._watch.room(deadline):
            if _read(response, chunks, limit):
                return b"".join(chunks)
        response.close()
        raise FetchError(
            f"{url}: the answer is larger than {limit >> 20} MiB",
            hint="--max-packument MIB allows more, and takes memory",
        )


def _read(response: urllib3.BaseHTTPResponse, chunks: list[bytes], max_bytes: int) -> bool:
    """Read on until the body ends (true) or exceeds ``max_bytes`` (false)."""
    size = sum(map(len, chunks))
    while size <= max_bytes:
        chunk = response.read(_CHUNK_BYTES, decode_content=True)
        if not chunk:
            return True
        chunks.append(chunk)
        size += len(chunk)
    return False


class _RetryLaterError(Exception):
    def __init__(self, fault: KedgeError, after_s: float | None) -> None:
        super().__init__(str(fault))
        self.fault = fault
        self.after_s = after_s


def _bare(url: str) -> str:
    """A URL without what may be secret in it: scheme and host."""
    parts = urlsplit(url)
    return ascii(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}")[1:-1][:200]

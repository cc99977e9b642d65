"""A loopback web server that serves a simulator or a folder, keeps a log, and really misbehaves where it is told to.

::

    with HostileServer(repo) as server:
        server.misbehave("metadata/timestamp.json", slow_body(1))
        ...
        assert [request.path for request in server.requests] == [...]

A behaviour is a function of the :class:`Exchange`: it writes to the socket what it likes. Waiting ends when the server
is closed, so that no test waits for a server that is silent.
"""

from __future__ import annotations

import contextlib
import gzip
import socket
import ssl
import threading
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self
from urllib.parse import unquote, urlsplit

__all__ = [
    "Behaviour",
    "Exchange",
    "HostileServer",
    "Request",
    "Serves",
    "bytes_of",
    "captive_portal",
    "cut_body",
    "delay",
    "endless_body",
    "endless_headers",
    "gzip_bomb",
    "hang_up",
    "last_answer",
    "redirect",
    "silence",
    "slow_body",
    "slow_headers",
    "status",
    "wrong_length",
]


_HANDSHAKE_S = 5


class Serves(Protocol):
    """Anything that has files: a simulator."""

    @property
    def files(self) -> Mapping[str, bytes]:
        """Path to bytes."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One line of the log. ``connection`` counts from 1; requests of one kept-alive connection share it."""

    method: str
    path: str
    connection: int
    headers: Mapping[str, str]


class Exchange:
    """One request, as a behaviour sees it."""

    def __init__(self, handler: _Handler, path: str, honest: bytes | None) -> None:
        self.path = path
        self.honest = honest
        """What an honest server would answer with; None is a 404."""
        self._handler = handler

    def send(self, code: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        """Send a whole answer; ``headers`` may overrule Content-Length."""
        self._handler.send_response(code)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self._handler.send_header(name, value)
        self._handler.end_headers()
        self.write(body)

    def send_honestly(self) -> None:
        """Answer as an honest server would."""
        if self.honest is None:
            self.send(404, b"not found")
        else:
            self.send(200, self.honest)

    def write(self, data: bytes) -> None:
        """Put bytes on the wire."""
        self._handler.wfile.write(data)

    def wait(self, seconds: float) -> None:
        """Wait, but not beyond the end of the server."""
        if self._handler.server.stopping.wait(seconds):
            raise ConnectionAbortedError

    def hang_up(self) -> None:
        """Close the connection after this answer."""
        self._handler.close_connection = True


Behaviour = Callable[[Exchange], None]


class HostileServer:
    """Serves until the ``with`` block ends. ``url`` is its address; ``latency_s`` holds each answer back."""

    def __init__(
        self, source: Serves | Path | Mapping[str, bytes], *, tls: ssl.SSLContext | None = None, latency_s: float = 0
    ) -> None:
        self.latency_s = latency_s
        self.requests: list[Request] = []
        self._source = source
        self._behaviours: dict[str, list[Behaviour]] = {}
        self._always: dict[str, Behaviour] = {}
        self._server = _Server(self, tls)
        self._scheme = "https" if tls else "http"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    @property
    def url(self) -> str:
        """The address, without a slash at its end."""
        return f"{self._scheme}://127.0.0.1:{self._server.server_address[1]}"

    @property
    def paths(self) -> list[str]:
        """The paths that were asked for, in order, without the leading slash."""
        return [request.path for request in self.requests]

    def misbehave(self, path: str, *behaviours: Behaviour, once: bool = False) -> None:
        """Answer requests for ``path`` (``*`` is every path) badly.

        The behaviours are used one after the other; the last one stays, unless ``once`` is set.
        """
        if once:
            self._behaviours.setdefault(path, []).extend(behaviours)
        else:
            self._behaviours.setdefault(path, []).extend(behaviours[:-1])
            self._always[path] = behaviours[-1]

    def behave(self) -> None:
        """Be honest again."""
        self._behaviours.clear()
        self._always.clear()

    def honest(self, path: str) -> bytes | None:
        """What stands at ``path``."""
        files: Mapping[str, bytes]
        for name in (path, unquote(path)):
            if isinstance(self._source, Path):
                file = self._source / name
                if ".." not in Path(name).parts and file.is_file():
                    return file.read_bytes()
                continue
            files = self._source if isinstance(self._source, Mapping) else self._source.files
            if name in files:
                return files[name]
        return None

    def behaviour(self, path: str) -> Behaviour:
        """What to do with the next request for ``path``."""
        for key in (path, "*"):
            if self._behaviours.get(key):
                return self._behaviours[key].pop(0)
            if key in self._always:
                return self._always[key]
        return Exchange.send_honestly

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.stopping.set()
        self._server.shutdown()
        self._server.hang_up()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # joined at the end, so that no socket outlives its test
    request_queue_size = 128

    def __init__(self, owner: HostileServer, tls: ssl.SSLContext | None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.owner = owner
        self.tls = tls
        self.stopping = threading.Event()
        self.connections = count(1)
        self._open: set[socket.socket] = set()

    def finish_request(self, request: Any, client_address: Any) -> None:
        request.settimeout(_HANDSHAKE_S)
        if self.tls is None:
            self._serve(request, client_address)
            return
        with self.tls.wrap_socket(request, server_side=True) as secure:
            self._serve(secure, client_address)

    def hang_up(self) -> None:
        """End the reads of all connections that are kept alive: whoever waits for a request waits no more."""
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RD)

    def _serve(self, connection: socket.socket, client_address: Any) -> None:
        self._open.add(connection)
        try:
            if not self.stopping.is_set():
                super().finish_request(connection, client_address)
        finally:
            self._open.discard(connection)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients hang up on a server like this one: no reason to print anything."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    timeout = 60

    def setup(self) -> None:
        self.connection_number = next(self.server.connections)
        super().setup()

    def do_GET(self) -> None:
        owner = self.server.owner
        path = urlsplit(self.path).path.removeprefix("/")
        exchange = Exchange(self, path, owner.honest(path))  # what it is when the log has the request
        owner.requests.append(
            Request(method=self.command, path=path, connection=self.connection_number, headers=dict(self.headers))
        )
        try:
            exchange.wait(owner.latency_s)
            owner.behaviour(path)(exchange)
        except OSError:  # the client hung up, or the server ends
            self.close_connection = True

    def finish(self) -> None:
        try:
            super().finish()
        except OSError:
            self.close_connection = True

    def log_message(self, *arguments: object) -> None:
        """The log is ``HostileServer.requests``."""


# What a server can do wrong


def status(code: int, *, retry_after: str | None = None, body: bytes = b"no", headers: Any = None) -> Behaviour:
    """Answer with a status code."""
    extra = {**(headers or {}), **({"Retry-After": retry_after} if retry_after is not None else {})}
    return lambda exchange: exchange.send(code, b"" if code in (204, 304) else body, extra)


def redirect(to: str, code: int = 302) -> Behaviour:
    """Send the client elsewhere."""
    return lambda exchange: exchange.send(code, b"", {"Location": to})


def bytes_of(data: bytes) -> Behaviour:
    """Answer 200 with other bytes."""
    return lambda exchange: exchange.send(200, data)


def captive_portal() -> Behaviour:
    """Answer 200 with a page that asks to log in."""
    page = b"<!doctype html><html><title>Welcome to our WiFi</title><body>Please log in.</body></html>"
    return lambda exchange: exchange.send(200, page, {"Content-Type": "text/html"})


def delay(seconds: float) -> Behaviour:
    """Answer honestly, and late."""

    def behave(exchange: Exchange) -> None:
        exchange.wait(seconds)
        exchange.send_honestly()

    return behave


def silence() -> Behaviour:
    """Take the request and say nothing."""
    return lambda exchange: exchange.wait(3_600)


def hang_up() -> Behaviour:
    """Close the connection without a word."""
    return Exchange.hang_up


def last_answer() -> Behaviour:
    """Answer honestly, then close a connection that the client believes to be alive."""

    def behave(exchange: Exchange) -> None:
        exchange.send_honestly()
        exchange.hang_up()

    return behave


def slow_body(bytes_per_second: float) -> Behaviour:
    """Send good headers, then the honest bytes one at a time."""

    def behave(exchange: Exchange) -> None:
        body = exchange.honest or b"{" * 1_000
        exchange.send(200, headers={"Content-Length": str(len(body))})
        for byte in body:
            exchange.write(bytes([byte]))
            exchange.wait(1 / bytes_per_second)

    return behave


def slow_headers(bytes_per_second: float) -> Behaviour:
    """Send the status line, then header bytes one at a time."""

    def behave(exchange: Exchange) -> None:
        exchange.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while True:
            exchange.write(b"a")
            exchange.wait(1 / bytes_per_second)

    return behave


def endless_body(*, declared: int | None = None) -> Behaviour:
    """Send a body without end, chunked, or under a Content-Length that is declared."""

    def behave(exchange: Exchange) -> None:
        block = b"{" * 65_536
        if declared is not None:
            exchange.send(200, headers={"Content-Length": str(declared)})
        else:
            exchange.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            exchange.write(block if declared is not None else b"10000\r\n" + block + b"\r\n")

    return behave


def endless_headers() -> Behaviour:
    """Send headers without end."""

    def behave(exchange: Exchange) -> None:
        exchange.write(b"HTTP/1.1 200 OK\r\n")
        for number in count():
            exchange.write(b"X-Endless-%d: %s\r\n" % (number, b"a" * 200))

    return behave


def gzip_bomb(size: int = 1_000_000_000, *, layers: int = 1) -> Behaviour:
    """Send zeros, compressed a thousandfold (once a layer)."""

    def behave(exchange: Exchange) -> None:
        packer = zlib.compressobj(wbits=31)
        block = bytes(1_000_000)
        bomb = b"".join(packer.compress(block) for _ in range(size // len(block))) + packer.flush()
        for _ in range(layers - 1):
            bomb = gzip.compress(bomb)
        exchange.send(200, bomb, {"Content-Encoding": ", ".join(["gzip"] * layers)})

    return behave


def cut_body(after: int = 10) -> Behaviour:
    """Declare the honest length, send a part, hang up."""

    def behave(exchange: Exchange) -> None:
        body = exchange.honest if exchange.honest is not None else b"this is not found"
        code = 200 if exchange.honest is not None else 404
        exchange.send(code, body[:after], {"Content-Length": str(len(body))})
        exchange.hang_up()

    return behave


def wrong_length(by: int) -> Behaviour:
    """Declare a length that is off by so many bytes, and hang up."""

    def behave(exchange: Exchange) -> None:
        body = exchange.honest or b"{}"
        exchange.send(200, body, {"Content-Length": str(len(body) + by)})
        exchange.hang_up()

    return behave

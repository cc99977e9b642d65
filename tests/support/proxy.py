"""A loopback proxy that really passes requests on: absolute URLs for http, CONNECT tunnels for https.

``names`` tells it where a host name lies, so that a name that no resolver knows can be reached through it, and only
through it. With ``login`` it asks for those credentials (407), and passes nothing on without them.
"""

from __future__ import annotations

import base64
import http.client
import select
import socket
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from support.server import Request

__all__ = ["Proxy"]

_POLL_S = 0.05


class Proxy:
    """Passes on until the ``with`` block ends; ``requests`` is what it was asked for, ``url`` its address."""

    def __init__(self, names: Mapping[str, int], *, login: str | None = None) -> None:
        self.names = names
        """The loopback port that each host name means."""
        self.login = login
        self.requests: list[Request] = []
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """The address, without credentials."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = False

    def __init__(self, owner: Proxy) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.owner = owner
        self.stopping = threading.Event()


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = 5

    def do_GET(self) -> None:
        if not self._admitted():
            return
        asked = urlsplit(self.path)
        upstream = http.client.HTTPConnection("127.0.0.1", self.server.owner.names[asked.hostname or ""], timeout=5)
        headers = {name: value for name, value in self.headers.items() if not name.lower().startswith("proxy-")}
        upstream.request("GET", asked.path, headers={**headers, "Connection": "close"})
        answer = upstream.getresponse()
        body = answer.read()
        upstream.close()
        self.send_response(answer.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_CONNECT(self) -> None:
        if not self._admitted():
            return
        host = self.path.rpartition(":")[0]
        with socket.create_connection(("127.0.0.1", self.server.owner.names[host]), timeout=5) as upstream:
            self.send_response(200)
            self.end_headers()
            self._tunnel(upstream)
        self.close_connection = True

    def log_message(self, *arguments: object) -> None:
        """The log is ``Proxy.requests``."""

    def _admitted(self) -> bool:
        owner = self.server.owner
        number = len(owner.requests) + 1
        owner.requests.append(
            Request(method=self.command, path=self.path, connection=number, headers=dict(self.headers))
        )
        if owner.login is None:
            return True
        expected = "Basic " + base64.b64encode(owner.login.encode()).decode()
        if self.headers.get("Proxy-Authorization") == expected:
            return True
        self.send_response(407)
        self.send_header("Content-Length", "0")
        self.end_headers()
        return False

    def _tunnel(self, upstream: socket.socket) -> None:
        ends = {self.connection: upstream, upstream: self.connection}
        while not self.server.stopping.is_set():
            for end in select.select(list(ends), [], [], _POLL_S)[0]:
                data = end.recv(65_536)
                if not data:
                    return
                ends[end].sendall(data)

"""A loopback web server over a published folder, which can be told to lie.

A lie is a function from a path and its honest bytes to what is served instead. While there is none, it is an ordinary
static server.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import unquote, urlsplit

__all__ = ["Lie", "LoopbackMirror"]

Lie = Callable[[str, bytes | None], bytes | None]
"""Asked with a path and what stands there (None: nothing); gives what is served (None: 404)."""


class LoopbackMirror:
    """Serves ``folder`` on 127.0.0.1, on a port that the system chooses."""

    def __init__(self, folder: Path) -> None:
        """Begin to serve when entered as a context."""
        self._folder = folder
        self._lie: Lie | None = None
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        """The repository's address."""
        return f"http://127.0.0.1:{self._server.server_port}"

    @contextmanager
    def lying(self, lie: Lie) -> Iterator[None]:
        """Tell ``lie`` for as long as the context lasts."""
        self._lie = lie
        try:
            yield
        finally:
            self._lie = None

    def honest(self, path: str) -> bytes | None:
        """The published bytes at ``path``."""
        file = self._folder / path
        return file.read_bytes() if file.is_file() and file.resolve().is_relative_to(self._folder.resolve()) else None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def serve(self, path: str) -> bytes | None:
        """What a request for ``path`` gets: the published bytes, or the lie of the moment."""
        data = self.honest(path)
        return data if self._lie is None else self._lie(path, data)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        mirror = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                data = mirror.serve(unquote(urlsplit(self.path).path).lstrip("/"))
                with suppress(ConnectionError):  # a client that has its answer hangs up on what it asked ahead
                    self.send_response(404 if data is None else 200)
                    self.send_header("Content-Length", str(len(data or b"")))
                    self.end_headers()
                    self.wfile.write(data or b"")

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 the name in the standard library
                pass

        return Handler

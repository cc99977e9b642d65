"""A copy over HTTP, on this machine's loopback: files, and a 404 for everything else, and only that.

A missing root must be a 404 (or 403), or clients cannot tell "there is no newer root" from a fault. This serves a
machine's own tools, and tests; to serve a site, any web server will do on the same folder.
"""

from __future__ import annotations

import os
import shutil
import stat
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from kedge._version import __version__
from kedge.errors import StoreError
from kedge.transport import file_name

ADDRESS = "127.0.0.1"
IDLE_S = 30.0


class LoopbackServer(ThreadingHTTPServer):
    """Serves a folder until it is shut down."""

    daemon_threads = True

    def __init__(self, folder: Path, port: int = 0) -> None:
        """Listen on the loopback; port 0 is any that is free.

        Raises:
            StoreError: the port is taken, or may not be used.
        """
        try:
            super().__init__((ADDRESS, port), partial(_Handler, folder))
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise StoreError(
                f"{ADDRESS}:{port}: cannot be listened on: {reason}", hint="choose another --port"
            ) from error

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://{ADDRESS}:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = f"kedge/{__version__}"
    timeout = IDLE_S

    def __init__(self, folder: Path, *request: Any) -> None:
        self.folder = folder
        super().__init__(*request)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 as http.server calls it
        """Say nothing."""

    def _answer(self, *, with_body: bool) -> None:
        file = self._open()
        if file is None:
            self.send_response(HTTPStatus.NOT_FOUND)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        with file:
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", "application/octet-stream")
            self.send_header("Content-Length", str(os.fstat(file.fileno()).st_size))
            self.end_headers()
            if with_body:
                shutil.copyfileobj(file, self.wfile)

    def _open(self) -> BinaryIO | None:
        """The file that is asked for; no dot-file, nothing outside the folder, and nothing that is no file."""
        segments = [file_name(segment) for segment in urlsplit(self.path).path.lstrip("/").split("/")]
        if any(segment.startswith(".") or segment == "" or "\0" in segment for segment in segments):
            return None
        try:
            path = self.folder.joinpath(*segments)
            file = open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC), "rb")  # noqa: PTH123, SIM115
        except (OSError, ValueError):
            return None
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return file
        file.close()
        return None

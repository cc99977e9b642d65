"""HTTP answers of any bytes: a socket on the loopback sends them, the transport reads them."""

from __future__ import annotations

import socket
import threading
from functools import cache

from kedge.transport.http import HttpLimits, HttpTransport
from kedge.transport.mirror import Deadline, Mirror
from kedge.tuf.steps import Area, Fetch

__all__ = ["read_answer"]

MAX_BYTES = 1_000
LIMITS = HttpLimits(attempts=1, idle_s=0.5, redirects=2, connections=1)


def read_answer(data: bytes) -> None:
    """Answer one request of a transport with ``data`` and close; what it takes for a file must be within its limit."""
    server = _server()
    server.answer = data
    transport = HttpTransport(Mirror(url=server.url), limits=LIMITS)
    try:
        body = transport.get(Fetch(Area.METADATA, "file", MAX_BYTES), Deadline(5))
    finally:
        transport.close()
    if isinstance(body, bytes) and len(body) > MAX_BYTES:
        raise AssertionError(f"took {body!r:.80} for a file of at most {MAX_BYTES} bytes")


class _Server:
    """Answers every request, on every connection, with ``answer``."""

    def __init__(self) -> None:
        self.answer = b""
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._socket.accept()
            with connection:
                connection.settimeout(2)
                try:
                    self._answer(connection)
                except OSError:
                    continue  # the client has hung up, as it may

    def _answer(self, connection: socket.socket) -> None:
        asked = b""
        while b"\r\n\r\n" not in asked:
            more = connection.recv(4_096)
            if not more:
                return
            asked += more
        connection.sendall(self.answer)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(4_096):  # until the client has closed: else its last bytes would be lost to a reset
            pass


@cache
def _server() -> _Server:
    """One for the whole process."""
    return _Server()

"""A loopback web server that answers each request a fixed time after it came in, and counts.

::

    python server.py FOLDER LATENCY_MS      prints its port, serves the files below FOLDER until stdin closes

Answers to one connection leave in order, each ``LATENCY_MS`` after its request arrived, as on a line with that round
trip; setting a connection up costs nothing extra, which favours whoever opens many. ``/count`` tells how many requests
and connections there were since it was last asked for, ``/paths`` how often each path was asked for.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from pathlib import Path

__all__ = ["serve"]


class Counting:
    """The files, and what was asked of them."""

    def __init__(self, folder: Path, latency_s: float) -> None:
        """Read every file below ``folder`` once."""
        self.files = {f"/{path.relative_to(folder)}": path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        self.latency_s = latency_s
        self.requests = 0
        self.connections = 0
        self.paths: Counter[str] = Counter()

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        answers: asyncio.Queue[tuple[float, bytes] | None] = asyncio.Queue()
        sender = asyncio.create_task(self._send(answers, writer))
        known = False
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                arrived = asyncio.get_running_loop().time()
                path = head.split(b" ", 2)[1].decode()
                if path in ("/count", "/paths"):
                    answers.put_nowait((0, self._counted() if path == "/count" else self._asked()))
                    continue
                self.connections += not known
                known = True
                self.requests += 1
                self.paths[path] += 1
                answers.put_nowait((arrived + self.latency_s, _answer(self.files.get(path))))
        except (asyncio.IncompleteReadError, ConnectionError):
            answers.put_nowait(None)
            await sender

    async def _send(self, answers: asyncio.Queue[tuple[float, bytes] | None], writer: asyncio.StreamWriter) -> None:
        try:
            while (answer := await answers.get()) is not None:
                due, data = answer
                if (wait_s := due - asyncio.get_running_loop().time()) > 0:
                    await asyncio.sleep(wait_s)
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass  # the client has what it wanted
        finally:
            writer.close()

    def _counted(self) -> bytes:
        counted = {"requests": self.requests, "connections": self.connections}
        self.requests = self.connections = 0
        return _answer(json.dumps(counted).encode())

    def _asked(self) -> bytes:
        asked, self.paths = self.paths, Counter()
        return _answer(json.dumps(asked).encode())


def _answer(body: bytes | None) -> bytes:
    status, body = ("404 Not Found", b"not found") if body is None else ("200 OK", body)
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


async def serve(folder: Path, latency_s: float) -> None:
    """Serve until stdin closes."""
    counting = Counting(folder, latency_s)
    server = await asyncio.start_server(counting.talk, "127.0.0.1", 0, backlog=128)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), float(sys.argv[2]) / 1000))

"""A loopback npm registry for measuring: made from a short description on stdin, served from memory, counting.

::

    python npm_registry.py < world.json     prints its port when everything is made, serves until it is killed

Each packument lists ``versions`` versions of about a kilobyte each, the first half signed by the retired key and the
rest by the active one, and is compressed beforehand, so that serving costs little of the machine that is measured. Two
versions bear real signatures, one of each key: those that a lockfile may name. The others hold noise of the same form,
which no tool reads when it checks the locked ones.

``/tuf/`` is the TUF repository as Sigstore lays it out. ``/-/bench`` tells requests, bytes and connections since it was
last asked.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import random
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

__all__ = ["LOCKED", "main", "packument_template"]

NAME = "@@name@@"
LOCKED = {"retired": 0.25, "active": 0.75}
"""Which versions bear a real signature: so far through the list."""


def locked_versions(versions: int) -> dict[str, str]:
    """The version that the retired key signed for real, and that of the active key."""
    return {which: f"1.0.{int(versions * share)}" for which, share in LOCKED.items()}


def packument_template(world: dict[str, Any]) -> str:
    """A packument with placeholders for the package's name, and for digest and signature of the two locked versions."""
    versions, keyids = world["versions"], world["keyids"]
    noise, locked = random.Random(world["versions"]), {v: w for w, v in locked_versions(versions).items()}
    listed, times = {}, {"created": "2019-01-01T00:00:00.000Z", "modified": "2026-06-01T00:00:00.000Z"}
    for index in range(versions):
        version, retired = f"1.0.{index}", index < versions // 2
        which = locked.get(version)
        digest = f"@@digest-{which}@@" if which else "sha512-" + base64.b64encode(noise.randbytes(64)).decode()
        sig = f"@@sig-{which}@@" if which else base64.b64encode(noise.randbytes(71)).decode()
        keyid = keyids["retired" if retired else "active"]
        listed[version] = _version(version, digest, {"keyid": keyid, "sig": sig}, noise, world["registry"])
        times[version] = f"{2020 + index % 5 if retired else 2025 + index % 2}-{2 + index % 10:02}-15T08:30:00.000Z"
    document = {
        "_id": NAME,
        "name": NAME,
        "dist-tags": {"latest": f"1.0.{versions - 1}"},
        "versions": listed,
        "time": times,
        "maintainers": [{"name": "someone", "email": "someone@example.com"}],
        "description": "A package that was made to be measured",
        "license": "MIT",
        "readme": "# A package\n\n" + "It does what its name says, and nothing else. " * 40,
    }
    return json.dumps(document)


def _version(
    version: str, digest: str, signature: dict[str, str], noise: random.Random, registry: str
) -> dict[str, Any]:
    return {
        "name": NAME,
        "version": version,
        "description": "A package that was made to be measured",
        "main": "index.js",
        "scripts": {"test": "node --test", "lint": "eslint .", "build": "tsc -p tsconfig.json"},
        "repository": {"type": "git", "url": f"git+https://git.example/{NAME}.git"},
        "keywords": ["made", "measured", "example"],
        "author": {"name": "Someone", "email": "someone@example.com"},
        "license": "MIT",
        "dependencies": {},
        "devDependencies": {"eslint": "^9.0.0", "typescript": "^5.6.0", "prettier": "^3.3.0"},
        "engines": {"node": ">=18"},
        "_id": f"{NAME}@{version}",
        "_nodeVersion": "22.9.0",
        "_npmVersion": "10.8.3",
        "_npmUser": {"name": "someone", "email": "someone@example.com"},
        "_hasShrinkwrap": False,
        "dist": {
            "integrity": digest,
            "shasum": noise.randbytes(20).hex(),
            "tarball": f"{registry}/{NAME}/-/{NAME}-{version}.tgz",
            "fileCount": noise.randrange(5, 90),
            "unpackedSize": noise.randrange(5_000, 900_000),
            "signatures": [signature],
        },
    }


def packument(template: str, package: dict[str, Any]) -> bytes:
    """One package's packument, compressed."""
    text = template.replace(NAME, package["name"])
    for which, (digest, sig) in package["locked"].items():
        text = text.replace(f"@@digest-{which}@@", digest).replace(f"@@sig-{which}@@", sig)
    return gzip.compress(text.encode(), compresslevel=4, mtime=0)


class Registry:
    """The answers by path, and what was asked."""

    def __init__(self, answers: dict[str, bytes]) -> None:
        """Serve ``answers``, which are whole HTTP answers."""
        self.answers = answers
        self.requests = self.bytes = self.connections = 0

    def count(self) -> bytes:
        """The counts as an answer, from now on at zero."""
        counts = {"requests": self.requests, "bytes": self.bytes, "connections": self.connections}
        self.requests = self.bytes = self.connections = 0
        return answer(json.dumps(counts).encode())


class Talk(asyncio.Protocol):
    """One connection."""

    def __init__(self, registry: Registry) -> None:
        """Answer from ``registry``."""
        self._registry = registry
        self._pending = b""
        self._known = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer every whole request."""
        self._pending += data
        while (end := self._pending.find(b"\r\n\r\n")) >= 0:
            head, self._pending = self._pending[:end], self._pending[end + 4 :]
            path = head.split(b" ", 2)[1].decode().partition("?")[0]
            if path == "/-/bench":
                self._transport.write(self._registry.count())
                continue
            self._registry.connections += not self._known
            self._known = True
            found = self._registry.answers.get(path, MISSING)
            self._registry.requests += 1
            self._registry.bytes += len(found)
            self._transport.write(found)


def answer(body: bytes, *, status: str = "200 OK", more: str = "") -> bytes:
    """A whole HTTP answer."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n{more}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


MISSING = answer(b"{}", status="404 Not Found")


def main() -> None:
    """Make what stdin describes, and serve it."""
    asyncio.run(_serve(json.load(sys.stdin)))


async def _serve(world: dict[str, Any]) -> None:
    registry = Registry({})
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Talk(registry), "127.0.0.1", 0, backlog=256)
    port = server.sockets[0].getsockname()[1]
    registry.answers = _answers({**world, "registry": f"http://127.0.0.1:{port}"})
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    await server.serve_forever()


def _answers(world: dict[str, Any]) -> dict[str, bytes]:
    answers = {"/-/npm/v1/keys": answer(json.dumps({"keys": world["endpoint"]}).encode())}
    published = Path(world["repository"])
    for below, place in (("metadata", "/tuf"), ("targets", "/tuf/targets")):
        for path in (published / below).rglob("*"):
            if path.is_file():
                answers[f"{place}/{path.relative_to(published / below).as_posix()}"] = answer(path.read_bytes())
    template = packument_template(world)
    with ProcessPoolExecutor() as pool:
        bodies = pool.map(partial(packument, template), world["packages"], chunksize=50)
        for package, body in zip(world["packages"], bodies, strict=True):
            answers[f"/{package['name']}"] = answer(body, more="Content-Encoding: gzip\r\n")
    return answers


if __name__ == "__main__":
    main()

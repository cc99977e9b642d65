"""Real object stores and a real web server on the loopback: versitygw (S3), Azurite (Azure Blob Storage), nginx.

``make stores`` brings the first two into ``.stores/``; nginx is Debian's. Each ends with the ``with`` block.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import http.client
import http.server
import importlib.util
import os
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

__all__ = [
    "ACCESS_KEY",
    "AZURE_ENVIRONMENT",
    "S3_ENVIRONMENT",
    "VERSITYGW",
    "Store",
    "azurite",
    "careless_s3",
    "need_versitygw",
    "nginx",
    "nginx_with",
    "versitygw",
]

ACCESS_KEY = "kedge-test"
SECRET_KEY = "made-for-tests-only"
# Azurite has one account, whose name and key are the same everywhere and stand in its documentation.
AZURE_ACCOUNT = "devstoreaccount1"
AZURE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

S3_ENVIRONMENT = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
AZURE_ENVIRONMENT = {"AZURE_STORAGE_ACCOUNT_NAME": AZURE_ACCOUNT, "AZURE_STORAGE_ACCOUNT_KEY": AZURE_KEY}

START_S = 30
VERSITYGW = Path(__file__).resolve().parents[2] / ".stores" / "versitygw"


def need_versitygw(require: Callable[[object, str], None]) -> None:
    """Say that a test needs an S3 store, and the library that speaks to it."""
    require(VERSITYGW.is_file(), "versitygw is not there: run make stores")
    require(importlib.util.find_spec("obstore"), "obstore is not installed: run make stores")


@dataclass(frozen=True)
class Store:
    """A running store: the URL of a bucket, the settings for it, and the folder that holds its objects as files."""

    url: str
    options: Mapping[str, str]
    folder: Path


@contextlib.contextmanager
def versitygw(program: Path, folder: Path) -> Iterator[Store]:
    """An S3 gateway in front of ``folder``, with the bucket ``bucket``."""
    (folder / "bucket").mkdir(parents=True)
    port = _free_port()
    command = [program, "--quiet", "--port", f"127.0.0.1:{port}", "posix", folder]
    environment = {"ROOT_ACCESS_KEY": ACCESS_KEY, "ROOT_SECRET_KEY": SECRET_KEY}
    with _running(command, port, environment):
        options = {"endpoint": f"http://127.0.0.1:{port}", "region": "us-east-1"}
        yield Store("s3://bucket/kedge", options, folder / "bucket" / "kedge")


@contextlib.contextmanager
def azurite(program: Path, folder: Path) -> Iterator[Store]:
    """Azure's emulator, with the container ``container``."""
    port = _free_port()
    command = [
        *("node", program, "--silent", "--skipApiVersionCheck", "--disableTelemetry", "--inMemoryPersistence"),
        *("--blobHost", "127.0.0.1", "--blobPort", str(port)),
    ]
    with _running(command, port, {}):
        endpoint = f"http://127.0.0.1:{port}/{AZURE_ACCOUNT}"
        _make_container(port)
        yield Store("az://container/kedge", {"endpoint": endpoint}, folder)


@contextlib.contextmanager
def careless_s3(without: str) -> Iterator[tuple[str, dict[str, bytes]]]:
    """An S3 store of the old kind, which does not heed the condition ``without``: its URL, and its objects."""
    objects: dict[str, bytes] = {}

    class Careless(http.server.BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            data = self.rfile.read(int(self.headers["Content-Length"]))
            there = objects.get(self.path)
            taken = "If-None-Match" in self.headers and there is not None
            changed = "If-Match" in self.headers and (there is None or self.headers["If-Match"] != _tag(there))
            if (taken and without != "If-None-Match") or (changed and without != "If-Match"):
                self._answer(412)
                return
            objects[self.path] = data
            self._answer(200, tag=_tag(data))

        def do_GET(self) -> None:
            data = objects.get(self.path)
            self._answer(404 if data is None else 200, data or b"", tag=_tag(data or b""))

        def do_POST(self) -> None:  # several objects are to be deleted
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            for key in re.findall("<Key>(.*?)</Key>", body):
                objects.pop(f"{self.path.partition('?')[0]}/{key}", None)
            done = re.sub("<Object>(.*?)</Object>", r"<Deleted>\1</Deleted>", body[body.index("<Object>") :])
            self._answer(200, f"<DeleteResult>{done.partition('</Delete>')[0]}</DeleteResult>".encode())

        def _answer(self, status: int, body: bytes = b"", *, tag: str = "") -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Last-Modified", "Wed, 25 Nov 2026 12:00:00 GMT")
            if tag:
                self.send_header("ETag", tag)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Careless) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", objects
        finally:
            server.shutdown()
            thread.join(10)


def _tag(data: bytes) -> str:
    return f'"{hashlib.sha256(data).hexdigest()[:32]}"'


@contextlib.contextmanager
def nginx(folder: Path, work: Path) -> Iterator[str]:
    """nginx in front of ``folder``, configured as docs/how-to/object-stores.md says; gives its URL."""
    server = f"""
        server {{
            listen 8080;
            root {folder};
            types {{ application/json json; }}
            default_type application/octet-stream;
            location / {{ add_header Cache-Control "public, max-age=31536000, immutable"; }}
            location = /metadata/timestamp.json {{ add_header Cache-Control "no-cache"; }}
            location ~ ^/metadata/\\d+\\.root\\.json$ {{
                add_header Cache-Control "public, max-age=31536000, immutable";
                error_page 404 = @none;
            }}
            location @none {{ add_header Cache-Control "no-store" always; return 404; }}
        }}
        """
    with nginx_with(server, work, port_in="listen 8080") as url:
        yield url


@contextlib.contextmanager
def nginx_with(server: str, work: Path, *, port_in: str) -> Iterator[str]:
    """nginx with a server block, whose ``listen`` line (``port_in``) becomes a free port of the loopback; its URL."""
    work.mkdir(parents=True, exist_ok=True)
    port = _free_port()
    assert port_in in server
    (work / "nginx.conf").write_text(
        f"""
        daemon off; pid {work}/pid; error_log {work}/error.log; worker_processes 1; user root;
        events {{}}
        http {{
            access_log off; client_body_temp_path {work}/a; proxy_temp_path {work}/b; fastcgi_temp_path {work}/c;
            uwsgi_temp_path {work}/d; scgi_temp_path {work}/e;
            {server.replace(port_in, f"listen 127.0.0.1:{port}")}
        }}
        """
    )
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    with _running([program, "-c", work / "nginx.conf"], port, {}):
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def _running(command: list[object], port: int, environment: Mapping[str, str]) -> Iterator[None]:
    line = [str(part) for part in command]
    process = subprocess.Popen(
        line, env={**os.environ, **environment}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _wait_for(port, process)
        yield
    finally:
        process.terminate()
        process.wait(10)


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
            return
        time.sleep(0.05)
    raise RuntimeError(f"{process.args!r} did not start")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _make_container(port: int) -> None:
    """Make the container, readable by everybody, with Azure's shared-key signature (there is no ready-made one)."""
    date = datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
    headers = {"x-ms-blob-public-access": "blob", "x-ms-date": date, "x-ms-version": "2023-11-03"}
    canonical = "".join(f"{name}:{value}\n" for name, value in sorted(headers.items()))
    resource = f"/{AZURE_ACCOUNT}/{AZURE_ACCOUNT}/container\nrestype:container"
    text = "PUT\n\n\n\n\n\n\n\n\n\n\n\n" + canonical + resource

    signature = base64.b64encode(hmac.digest(base64.b64decode(AZURE_KEY), text.encode(), hashlib.sha256)).decode()
    headers["Authorization"] = f"SharedKey {AZURE_ACCOUNT}:{signature}"
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.request("PUT", f"/{AZURE_ACCOUNT}/container?restype=container", headers=headers)
        assert connection.getresponse().status == 201

"""What is fuzzed of Go, NuGet and pub: the parsers, and the documents that fuzzing starts from."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from kedge.documents import DocumentError
from kedge.registries.go.registry import read_lines
from kedge.registries.go.sumdb import open_head, read_record
from kedge.registries.go.sumfile import read_sums
from kedge.registries.nuget.archive import ArchiveError, read_archive
from kedge.registries.nuget.cms import CmsError
from kedge.registries.nuget.registry import NuGet
from kedge.registries.nuget.signature import read_signature
from kedge.registries.pub.listing import read_answer, read_listing
from kedge.registries.pub.lockfile import read_lock
from kedge.registries.pub.registry import read_source
from support.nuget import content_of, insert_signature, new_party, sign_content, unsigned
from support.pub import PubRegistry
from support.sumdb import GoWorld, new_key

__all__ = ["SEEDS", "TARGETS"]

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CATALOGUE = Path(__file__).resolve().parents[2] / "metadata" / "registries"
KEY = new_key("sum.example", bytes(32))


def _sums(data: bytes) -> None:
    lines = read_sums(data)
    if read_sums("".join(f"{line.to_text()}\n" for line in lines).encode()) != lines:
        raise AssertionError("what is written down is not what was read")


def _record(data: bytes) -> None:
    record = read_record(data)
    if b"%d\n%b\n%b" % (record.number, record.text, record.head) != data:
        raise AssertionError("more or less than the answer was read")
    record.digests("example.com/a", "v1.0.0")


def _archive(data: bytes) -> None:
    try:
        archive = read_archive(io.BytesIO(data))
    except ArchiveError as error:
        raise DocumentError("", str(error)) from error
    archive.digest(io.BytesIO(data), "sha256")


def _signature(data: bytes) -> None:
    try:
        found = read_signature(data)
    except CmsError as error:
        raise DocumentError("", str(error)) from error
    if found.digest != read_signature(_signed()).digest:
        raise AssertionError("a signature over other content is right")


def _listing(data: bytes) -> None:
    listing = read_listing(data)
    if read_listing(listing.to_bytes()) != listing:
        raise AssertionError("what is written down is not what was read")


TARGETS: dict[str, Callable[[bytes], object]] = {
    "go-vkeys": read_lines,
    "go-sums": _sums,
    "go-record": _record,
    "go-head": lambda data: open_head(data, [KEY.public], file="head"),
    "nuget-keys": lambda data: NuGet().parse(data, registry="nuget/feed.example", custom=None, now=NOW),
    "nuget-archive": _archive,
    "nuget-signature": _signature,
    "pub-listing": _listing,
    "pub-answer": lambda data: read_answer(data, "args"),
    "pub-source": read_source,
    "pub-lock": read_lock,
}


@cache
def _signed() -> bytes:
    author, repository, stamps = new_party("author"), new_party("repository"), new_party("stamps", stamps=True)
    content = content_of(unsigned("Example", "1.0.0"))
    return sign_content(content, author, repository, stamped_by=stamps)


@cache
def _world() -> GoWorld:
    world = GoWorld("sum.example", [KEY])
    world.add("example.com/a", "v1.0.0", {"a.go": b"package a\n"})
    world.publish()
    return world


@cache
def _registry() -> PubRegistry:
    registry = PubRegistry()
    registry.release("args", "1.0.0", "2.0.0-dev.1")
    registry.release("args", "0.1.0", archive_sha256=None, retracted=True)
    return registry


SEEDS: dict[str, Callable[[], list[bytes]]] = {
    "go-vkeys": lambda: [f"{KEY.vkey}\n{new_key('sum.example').vkey} https://sum.example/db\n".encode()],
    "go-sums": lambda: ["".join(f"{line}\n" for line in _world().sums).encode()],
    "go-record": lambda: [_world().files["sumdb/lookup/example.com/a@v1.0.0"]],
    "go-head": lambda: [_world().head()],
    "nuget-keys": lambda: [
        json.dumps(json.loads((CATALOGUE / "nuget" / "api.nuget.org.json").read_bytes())["document"]).encode()
    ],
    "nuget-archive": lambda: [insert_signature(unsigned("Example", "1.0.0"), b"a signature")],
    "nuget-signature": lambda: [_signed()],
    "pub-listing": lambda: [read_answer(_registry().answer("args"), "args").to_bytes()],
    "pub-answer": lambda: [_registry().answer("args")],
    "pub-source": lambda: [
        b'{"format":"kedge.pub-source/1","url":"https://a.example","mirrors":["https://b.example"]}'
    ],
    "pub-lock": lambda: [_registry().lock("args 1.0.0").encode()],
}

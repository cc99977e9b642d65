"""What is fuzzed: every parser of bytes that others write, with what must hold whatever they wrote.

A target takes any bytes. It returns where they are read or rightly refused, and raises where kedge is wrong: an error
that is none of ours, a message that is not one line, a value that is not what was read.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, TypeVar

from securesystemslib.formats import encode_canonical
from tuf.api.metadata import Root, Snapshot, Targets, Timestamp

from fuzz import apt_hex, listings
from fuzz.answers import read_answer
from fuzz.seeds import npm_key_document
from kedge.audit.evidence import Evidence
from kedge.client import session
from kedge.client.anchor import Anchor
from kedge.client.lockfile import Lock
from kedge.documents import DocumentError, load_json
from kedge.errors import KedgeError
from kedge.mirror.bundle import from_frames
from kedge.mirror.folder import MirrorRecord
from kedge.registries.npm.config import parse_npmrc, read_source
from kedge.registries.npm.corepack import Spec, read_package_manager, set_package_manager
from kedge.registries.npm.locked import parse_sri
from kedge.registries.npm.lockfiles import LockfileKind, read_lines, read_lockfile
from kedge.registries.npm.packument import glance, read
from kedge.registries.npm.registry import NPM
from kedge.transport.bundle_format import Manifest, pack, unpack
from kedge.tuf.metadata import count_signatures, parse
from kedge.tuf.state import StateRecord
from kedge_repo.events.event import EventIndex
from kedge_repo.signing.request import Request, Response
from kedge_repo.workspace.catalogue import CatalogueEntry
from kedge_repo.workspace.policy import Policy

__all__ = ["TARGETS", "check"]

NOW = datetime(2026, 1, 1, tzinfo=UTC)
V = TypeVar("V")


def check(name: str, data: bytes) -> bool:
    """Give ``data`` to the target ``name``; whether it was read. Any exception that comes out is a finding."""
    try:
        TARGETS[name](data)
    except (DocumentError, KedgeError) as error:
        lines = f"{error}"
        if "\n" in lines or "\r" in lines or not lines:
            raise AssertionError(f"the message is not one line: {lines!r}") from error
        return False
    return True


def _json(data: bytes) -> None:
    value = load_json(data)
    if json.loads(data) != value:
        raise AssertionError("another document was read than the one that stands there")


def _metadata(kind: type[Any]) -> Callable[[bytes], None]:
    def target(data: bytes) -> None:
        parsed = parse(data, kind, file="fuzz.json")
        signed = json.loads(data)["signed"]
        if parsed.payload != (encode_canonical(signed) or "").encode():
            raise AssertionError("signatures would be checked over other bytes than those that were signed")
        if kind in (Root, Targets):
            for role in ("root", "targets", "x"):
                with contextlib.suppress(KedgeError):
                    count_signatures(parsed.signed, role, parsed)

    return target


def _same_again(value: V, write: Callable[[V], bytes], read_again: Callable[[bytes], V]) -> None:
    if read_again(write(value)) != value:
        raise AssertionError("what is written down is not what was read")


def _state(data: bytes) -> None:
    _same_again(StateRecord.from_bytes(data), StateRecord.to_bytes, StateRecord.from_bytes)


def _floors(data: bytes) -> None:
    floors = session._read_floors(data)
    if floors is not None:
        _same_again(floors, session._floors_bytes, lambda again: session._read_floors(again) or floors.without_online())


def _lock(data: bytes) -> None:
    lock = Lock.from_bytes(data)
    _same_again(replace(lock, text=""), Lock.to_bytes, lambda again: replace(Lock.from_bytes(again), text=""))


def _anchor(data: bytes) -> None:
    anchor = Anchor.from_toml("fuzz", data, b"{}")
    _same_again(anchor, Anchor.to_toml, lambda again: Anchor.from_toml("fuzz", again, b"{}"))


def _npm_keys(data: bytes) -> None:
    NPM().parse(data, registry="registry.example", custom=None, now=NOW)


def _npm_custom(data: bytes) -> None:
    custom = load_json(data)
    NPM().parse(npm_key_document(), registry="registry.example", custom=custom, now=NOW)


def _package_json(data: bytes) -> None:
    read_package_manager(data)
    changed = set_package_manager(data, "npm@11.0.0+sha224.00")
    if read_package_manager(changed) != "npm@11.0.0+sha224.00":
        raise AssertionError("the field is not what was put into it")
    before, after = json.loads(data), json.loads(changed)
    if {**before, "packageManager": None} != {**after, "packageManager": None}:
        raise AssertionError("another field was changed as well")


def _packument(data: bytes) -> None:
    glance(data, "name", "1.0.0")
    read(data, "name", ["1.0.0", "2.0.0"])


def _npmrc(data: bytes) -> None:
    settings = parse_npmrc(data.decode(errors="replace"), is_users=True).values
    for name, value in settings.items():
        with contextlib.suppress(DocumentError):
            read_source(value, name, settings)


def _integrity(text: str) -> None:
    try:
        parse_sri(text)
    except ValueError as error:  # as it promises
        raise DocumentError("integrity", str(error)) from error


def _bundle(data: bytes) -> None:
    bundle = unpack(data)
    if pack(bundle.carried, bundle.manifest.summary).partition(b"\n")[2] == data.partition(b"\n")[2]:
        return
    # Deflated in another way, by another hand: it is the same payload all the same.
    if unpack(pack(bundle.carried, bundle.manifest.summary)).manifest.sha256 != bundle.manifest.sha256:
        raise AssertionError("what was unpacked is not packed into the same payload")


def _lockfile(data: bytes) -> None:
    for kind in LockfileKind:
        with contextlib.suppress(DocumentError):
            read_lockfile(data, kind)


def _text(read_text: Callable[[str], object]) -> Callable[[bytes], None]:
    def target(data: bytes) -> None:
        with contextlib.suppress(UnicodeDecodeError):
            read_text(data.decode())

    return target


TARGETS: dict[str, Callable[[bytes], object]] = {
    "json": _json,
    "root": _metadata(Root),
    "timestamp": _metadata(Timestamp),
    "snapshot": _metadata(Snapshot),
    "targets": _metadata(Targets),
    "state": _state,
    "floors": _floors,
    "lock": _lock,
    "bundle": _bundle,
    "manifest": lambda data: _same_again(Manifest.from_json(data), Manifest.to_line, Manifest.from_line),
    "frames": _text(lambda text: from_frames(text.split())),
    "mirror": MirrorRecord.from_bytes,
    "anchor": _anchor,
    "npm-keys": _npm_keys,
    "npm-custom": _npm_custom,
    "lockfile": _lockfile,
    "lines": read_lines,
    "packument": _packument,
    "npmrc": _npmrc,
    "package-json": _package_json,
    "evidence": Evidence.from_bytes,
    "integrity": _text(_integrity),
    "package-manager": _text(Spec.parse),
    "catalogue": CatalogueEntry.from_bytes,
    "policy": _text(Policy.from_text),
    "event": EventIndex.from_bytes,
    "request": lambda data: _same_again(Request.from_bytes(data), Request.to_bytes, Request.from_bytes),
    "response": lambda data: _same_again(Response.from_bytes(data), Response.to_bytes, Response.from_bytes),
    "http": read_answer,
    **apt_hex.TARGETS,
    **listings.TARGETS,
}
"""Each parser by the name of its corpus."""

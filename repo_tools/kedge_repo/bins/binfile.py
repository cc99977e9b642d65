"""One bin's file, written and read.

It is canonical JSON throughout, so that a client can see that what it received is the canonical form already.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from tuf.api.metadata import SPECIFICATION_VERSION, Targets

from kedge.document import DocumentError, format_time
from kedge.errors import InputError, VerificationError
from kedge.metadata import parse, require_threshold
from kedge_repo.payload import canonical_json

__all__ = ["HeldBin", "bin_payload", "read_bin", "require_each_once", "with_signatures"]

_SPEC_VERSION = ".".join(SPECIFICATION_VERSION).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldBin:
    """A bin as it was signed: its version, its expiry, its targets as lines in order."""

    version: int
    expires: datetime
    lines: list[bytes]


def bin_payload(lines: Iterable[bytes], *, version: int, expires: datetime) -> bytes:
    """The canonical bytes of a bin, to be signed; ``lines`` are sorted by path.

    Raises:
        InputError: a path stands among them twice.
    """
    return b'{"_type":"targets","expires":"%b","spec_version":"%b","targets":{%b},"version":%d}' % (
        format_time(expires).encode(),
        _SPEC_VERSION,
        b",".join(_entries(lines)),
        version,
    )


def with_signatures(payload: bytes, signatures: Mapping[str, str]) -> bytes:
    """The file: the payload and its signatures (hexadecimal, by keyid)."""
    listed = canonical_json([{"keyid": keyid, "sig": value} for keyid, value in signatures.items()])
    return b'{"signatures":%b,"signed":%b}' % (listed.encode(), payload)


def read_bin(data: bytes, *, name: str, file: str, delegator: Targets) -> HeldBin:
    """Read a bin back; it must be signed as ``delegator`` asks.

    Raises:
        InputError: it is no such file.
        VerificationError: it is not signed by the threshold of ``delegator``'s keys.
    """
    try:
        parsed = parse(data, Targets, file=file)
    except VerificationError as error:
        raise InputError(error.message) from error
    require_threshold(delegator, name, parsed)
    lines = [_line(path, entry) for path, entry in json.loads(parsed.payload)["targets"].items()]
    return HeldBin(version=parsed.signed.version, expires=parsed.signed.expires, lines=sorted(lines))


def _entries(lines: Iterable[bytes]) -> list[bytes]:
    fields = [line.split(b" ", 3) for line in lines]
    require_each_once([parts[0] for parts in fields])
    return [
        b'"%b":{"hashes":{"sha256":"%b"},"length":%b}' % (parts[0], parts[2], parts[1]) if len(parts) == 3
        else b'"%b":{"custom":%b,"hashes":{"sha256":"%b"},"length":%b}' % (parts[0], parts[3], parts[2], parts[1])
        for parts in fields
    ]  # fmt: skip


def require_each_once(paths: list[bytes]) -> None:
    """Check that no path stands among ``paths``, which are in order, twice.

    Raises:
        InputError: one does.
    """
    if len(set(paths)) != len(paths):
        path = next(path for path, after in pairwise(paths) if path == after).decode()
        raise InputError(f"target {path}: stands among these targets twice, with other content")


def _line(path: str, entry: dict[str, object]) -> bytes:
    hashes = entry["hashes"]
    if not isinstance(hashes, dict) or "sha256" not in hashes:
        raise DocumentError(f"targets.{path}", "has no sha256")
    custom = f" {canonical_json(entry['custom'])}" if "custom" in entry else ""
    return f"{path} {entry['length']} {hashes['sha256']}{custom}".encode()

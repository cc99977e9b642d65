"""Between a bundle's bytes and the files in it.

::

    bundle  = manifest line, deflate(payload)          raw deflate (RFC 1951), with a preset dictionary
    payload = entry …                                  in the order of the table below
    entry   = kind (1 byte), number (4 bytes), length (4 bytes), content       numbers are big-endian

    kind  number
    R     a root: its version
    T, S  timestamp, snapshot: 0
    D     a targets role: its place among the names in the manifest, sorted
    F     a target: its place among the paths in the manifest, sorted
    X     something else: its place among the names in ``extra``, sorted

An entry holds no path, so none can lead anywhere. The preset dictionary is :data:`DICTIONARY` and, for a delta, the
files of the baseline that the manifest lists, in that order; of all that the last 32,768 bytes.

Invariants:

- Nothing is unpacked beyond the length that the manifest states, and that is bounded.
- What is too short, too long or compressed again is refused before anything in it is read.
- The payload, and so its digest, is the same wherever it is made. What deflate makes of it depends on the machine.

Bundles: a repository, or what changed in it, as one file that crosses an air gap.

The format is told in docs/reference/formats.md. A bundle is transport, never trust: whoever takes one in verifies all
of it from their own anchor, and nothing that it says of itself is believed.

- :mod:`kedge.transport.bundle_format`: the first line, which a transfer guard can read.
- :mod:`kedge.transport.bundle_format`: between a bundle's bytes and the files in it.
- :mod:`kedge.mirror.bundle`: what is to be carried, for whom; what stands in it, as the metadata itself says.

What this machine holds already, by digest: the ground that a delta stands on.

A bundle's first line: what is in it, in words that a transfer guard can read (``kedge.bundle/1``).

Everything in it follows from what the bundle carries, but for ``tool``. Whoever verifies a bundle works it out again
and refuses a line that says anything else, so that a guard who read it has read the truth.

Invariant: one document has one text. What is not written as :meth:`Manifest.to_line` writes it is refused.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TypeAlias

from kedge._version import __version__
from kedge.documents import DocumentError, Fields, blame_served, format_time, load_json
from kedge.errors import Reason, Refusal, StoreError, VerificationError
from kedge.tuf import sha256_hex

Held: TypeAlias = Callable[[str], bytes | None]
"""Gives the file with a SHA-256 digest, or None where it is not held."""


def nothing_held(digest: str) -> bytes | None:  # noqa: ARG001 a Held
    """Hold nothing."""
    return None


MAX_LINE_BYTES = 16_000_000
MAX_PAYLOAD_BYTES = 256_000_000
SHORT_KEYID = 8
_TOP_LEVEL = ("root", "snapshot", "targets", "timestamp")
_EXTRA_NAME = r"[a-z0-9][a-z0-9._-]*(/[a-z0-9][a-z0-9._-]*)*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """What a delta stands on: the digest of a bundle or a state, and the files of it that open this one.

    ``roles`` and ``targets`` are those that the delta carries; all others are as they were.
    """

    sha256: str
    dictionary: tuple[str, ...]
    roles: tuple[str, ...]
    targets: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What the set of files is, of which a bundle carries all or a part; the metadata itself says so.

    ``roles`` are versions by role, ``targets`` digests by path. ``valid_until`` is the first expiry among the roles.
    ``signed_by`` names the keys of each role whose signatures are right, by the first digits of their ids.
    """

    valid_until: datetime
    roles: Mapping[str, int]
    targets: Mapping[str, str]
    signed_by: Mapping[str, tuple[str, ...]]

    @property
    def delegated(self) -> tuple[str, ...]:
        """The names of the targets roles, in order: an entry of the payload names one by its place in it."""
        return tuple(sorted(set(self.roles) - {"root", "timestamp", "snapshot"}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The first line.

    ``sha256`` and ``payload_bytes`` are of the payload, uncompressed; ``deflated_bytes`` is the length of the rest of
    the file. ``first_root`` is the version of the first root that is carried. ``extra`` are digests, by name, of what
    other parts of kedge carry beside metadata and targets.
    """

    FORMAT = "kedge.bundle/1"

    tool: str
    sha256: str
    payload_bytes: int
    deflated_bytes: int
    summary: Summary
    first_root: int | None = None
    baseline: Baseline | None = None
    extra: Mapping[str, str] = field(default_factory=dict)

    @property
    def carried_roles(self) -> tuple[str, ...]:
        """The roles that are carried, but for roots."""
        if self.baseline is not None:
            return self.baseline.roles
        return tuple(sorted(set(self.summary.roles) - {"root"}))

    @property
    def carried_targets(self) -> tuple[str, ...]:
        """The paths of the targets that are carried."""
        return self.baseline.targets if self.baseline is not None else tuple(sorted(self.summary.targets))

    def to_line(self) -> bytes:
        """This value as the file's first line."""
        summary = self.summary
        document: dict[str, Any] = {
            "format": self.FORMAT,
            "tool": self.tool,
            "sha256": self.sha256,
            "payload_bytes": self.payload_bytes,
            "deflated_bytes": self.deflated_bytes,
            "valid_until": format_time(summary.valid_until),
        }
        if self.baseline is not None:
            document["baseline"] = {
                "sha256": self.baseline.sha256,
                "dictionary": list(self.baseline.dictionary),
            }
            document["carries"] = {"roles": list(self.baseline.roles), "targets": list(self.baseline.targets)}
        if self.first_root is not None:
            document["first_root"] = self.first_root
        document["roles"] = dict(sorted(summary.roles.items()))
        document["targets"] = dict(sorted(summary.targets.items()))
        document["signed_by"] = {name: list(keyids) for name, keyids in sorted(summary.signed_by.items())}
        if self.extra:
            document["extra"] = dict(sorted(self.extra.items()))
        return json.dumps(document, separators=(",", ":")).encode("ascii") + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Manifest:
        """Read what :meth:`to_line` wrote, and no other text of the same document.

        Raises:
            DocumentError: it is not that.
        """
        manifest = cls.from_json(line)
        if manifest.to_line() != line:
            raise DocumentError("", "is not written as kedge writes it")
        return manifest

    @classmethod
    def from_json(cls, data: bytes) -> Manifest:
        """Read the document, however it is written.

        Raises:
            DocumentError: it is not such a document.
        """
        fields = Fields(load_json(data))
        fields.format(cls.FORMAT)
        manifest = cls(
            tool=fields.text("tool"),
            sha256=fields.sha256("sha256"),
            payload_bytes=fields.integer("payload_bytes", maximum=MAX_PAYLOAD_BYTES),
            deflated_bytes=fields.integer("deflated_bytes", maximum=2 * MAX_PAYLOAD_BYTES),
            summary=_summary(fields),
            first_root=fields.integer("first_root", minimum=1) if "first_root" in fields else None,
            baseline=_baseline(fields) if "baseline" in fields else None,
            extra=_extra(fields.table("extra")) if "extra" in fields else {},
        )
        fields.end()
        return manifest


def _summary(fields: Fields) -> Summary:
    roles, targets, signed_by = fields.table("roles"), fields.table("targets"), fields.table("signed_by")
    for name in _TOP_LEVEL:
        roles.integer(name, minimum=1)
    return Summary(
        valid_until=fields.time("valid_until"),
        roles={name: roles.integer(name, minimum=1) for name in roles.names()},
        targets={path: targets.sha256(path) for path in targets.names()},
        signed_by={name: signed_by.texts(name) for name in signed_by.names()},
    )


def _baseline(fields: Fields) -> Baseline:
    base, carries = fields.table("baseline"), fields.table("carries")
    baseline = Baseline(
        sha256=base.sha256("sha256"),
        dictionary=base.sha256s("dictionary"),
        roles=carries.texts("roles"),
        targets=carries.texts("targets"),
    )
    base.end()
    carries.end()
    return baseline


def _extra(fields: Fields) -> dict[str, str]:
    names = fields.names()
    for name in names:
        Fields({name: name}, fields.path).text(name, pattern=_EXTRA_NAME, expected="a name such as tlog/checkpoint")
    return {name: fields.sha256(name) for name in names}


TOOL = f"kedge {__version__}"
DICTIONARY = Path(__file__).with_name("dictionary.txt").read_bytes()
_WINDOW = 32_768
_HEADER = struct.Struct(">cII")
_ORDER = b"RTSDFX"


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """The files that a bundle carries: roots by version, targets roles by name, targets by path."""

    roots: Mapping[int, bytes] = field(default_factory=dict)
    timestamp: bytes | None = None
    snapshot: bytes | None = None
    roles: Mapping[str, bytes] = field(default_factory=dict)
    targets: Mapping[str, bytes] = field(default_factory=dict)
    extra: Mapping[str, bytes] = field(default_factory=dict)

    def files(self) -> Iterator[bytes]:
        """All of them."""
        yield from self.roots.values()
        yield from (online for online in (self.timestamp, self.snapshot) if online is not None)
        for files in (self.roles, self.targets, self.extra):
            yield from files.values()


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A bundle that was unpacked: whole, and not verified."""

    manifest: Manifest
    carried: Carried


def pack(carried: Carried, summary: Summary, *, baseline: Baseline | None = None, held: Held = nothing_held) -> bytes:
    """Write a bundle of these files, which ``summary`` describes.

    Raises:
        StoreError: a file of the baseline's dictionary is not held, or it is all too large for one bundle.
    """
    extra = {name: sha256_hex(data) for name, data in carried.extra.items()}
    payload = b"".join(
        _HEADER.pack(kind, number, len(data)) + data for kind, number, data in _entries(carried, summary)
    )
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise StoreError(
            f"{len(payload)} bytes are more than the {MAX_PAYLOAD_BYTES} that one bundle holds",
            hint="name fewer targets, or carry a mirror's folder instead",
        )
    dictionary = _dictionary(baseline, held)
    if dictionary is None:
        raise StoreError("a file of the baseline is not held any more", hint="make a whole bundle, without --since")
    deflated = _deflate(payload, dictionary)
    manifest = Manifest(
        tool=TOOL,
        sha256=sha256_hex(payload),
        payload_bytes=len(payload),
        deflated_bytes=len(deflated),
        summary=summary,
        first_root=min(carried.roots, default=None),
        baseline=baseline,
        extra=extra,
    )
    return manifest.to_line() + deflated


def read_manifest(data: bytes, *, file: str) -> Manifest:
    """Read the first line, and check that the rest is as long as it says.

    Raises:
        VerificationError: the file is no bundle, or is cut off, padded, or compressed in another way.
    """
    end = data.find(b"\n", 0, MAX_LINE_BYTES)
    if end < 0 or not data.startswith(b"{"):
        raise _malformed(file, "is no bundle: its first line is no manifest")
    with blame_served(file):
        manifest = Manifest.from_line(data[: end + 1])
    found = len(data) - end - 1
    if found != manifest.deflated_bytes:
        raise _malformed(
            file,
            f"holds {found} bytes after its first line, which says {manifest.deflated_bytes}: "
            f"cut off, padded or compressed again",
        )
    return manifest


def unpack(data: bytes, *, held: Held = nothing_held, file: str = "bundle") -> Bundle:
    """Read a bundle whole; ``held`` gives the files of a delta's baseline.

    Raises:
        VerificationError: it is no whole bundle (``malformed``), or stands on files that are not held (``baseline``).
    """
    manifest = read_manifest(data, file=file)
    dictionary = _dictionary(manifest.baseline, held)
    if dictionary is None:
        raise _without_baseline(manifest, file)
    payload = _inflate(memoryview(data)[len(data) - manifest.deflated_bytes :], dictionary, manifest, file)
    return Bundle(manifest=manifest, carried=_read_entries(payload, manifest, file))


def _entries(carried: Carried, summary: Summary) -> Iterator[tuple[bytes, int, bytes]]:
    for version, data in sorted(carried.roots.items()):
        yield b"R", version, data
    if carried.timestamp is not None:
        yield b"T", 0, carried.timestamp
    if carried.snapshot is not None:
        yield b"S", 0, carried.snapshot
    for kind, names, files in (
        (b"D", summary.delegated, carried.roles),
        (b"F", sorted(summary.targets), carried.targets),
        (b"X", sorted(carried.extra), carried.extra),
    ):
        for number, name in enumerate(names):
            if name in files:
                yield kind, number, files[name]


def _read_entries(payload: bytes, manifest: Manifest, file: str) -> Carried:
    names = {b"D": manifest.summary.delegated, b"F": sorted(manifest.summary.targets), b"X": sorted(manifest.extra)}
    files: dict[bytes, dict[int, bytes]] = {bytes([kind]): {} for kind in _ORDER}
    before, offset = (-1, 0), 0
    while offset < len(payload):
        if offset + _HEADER.size > len(payload):
            raise _malformed(file, f"breaks off at byte {offset} of its payload")
        kind, number, length = _HEADER.unpack_from(payload, offset)
        offset += _HEADER.size
        place = (_ORDER.find(kind), number)
        if place <= before or kind not in files or offset + length > len(payload):
            raise _malformed(file, f"holds no entry at byte {offset - _HEADER.size} of its payload")
        if (kind in names and number >= len(names[kind])) or (kind in b"TS" and number):
            raise _malformed(file, f"carries {kind.decode()} {number}, which its first line does not name")
        files[kind][number] = payload[offset : offset + length]
        before, offset = place, offset + length
    carried = Carried(
        roots=files[b"R"],
        timestamp=files[b"T"].get(0),
        snapshot=files[b"S"].get(0),
        roles={names[b"D"][number]: data for number, data in files[b"D"].items()},
        targets={names[b"F"][number]: data for number, data in files[b"F"].items()},
        extra={names[b"X"][number]: data for number, data in files[b"X"].items()},
    )
    _check_entries(carried, manifest, file)
    return carried


def _check_entries(carried: Carried, manifest: Manifest, file: str) -> None:
    last = manifest.summary.roles["root"]
    first = manifest.first_root if manifest.first_root is not None else last + 1
    stated = ({*manifest.carried_roles}, {*manifest.carried_targets}, {*manifest.extra})
    if (_role_names(carried), {*carried.targets}, {*carried.extra}) != stated:
        raise _malformed(file, "does not carry just what its first line names")
    # Versions rise from entry to entry, so that the ends and the count say all.
    ends = (min(carried.roots, default=first), max(carried.roots, default=last))
    if len(carried.roots) != last - first + 1 or ends != (first, last):
        raise _malformed(file, f"does not carry the roots that its first line names, from {first} to {last}")
    for digests, files in ((manifest.summary.targets, carried.targets), (manifest.extra, carried.extra)):
        for name, data in files.items():
            if sha256_hex(data) != digests[name]:
                raise _malformed(file, f"carries another {name} than its first line names")


def _role_names(carried: Carried) -> set[str]:
    online = {"timestamp": carried.timestamp, "snapshot": carried.snapshot}
    return {*carried.roles, *(name for name, data in online.items() if data is not None)}


def _dictionary(baseline: Baseline | None, held: Held) -> bytes | None:
    """The preset dictionary, or None where a file of the baseline is not held."""
    parts = [DICTIONARY]
    for digest in baseline.dictionary if baseline is not None else ():
        data = held(digest)
        if data is None:
            return None
        parts.append(data)
    return b"".join(parts)[-_WINDOW:]


def _deflate(payload: bytes, dictionary: bytes) -> bytes:
    # Digests and signatures do not repeat: short matches cost more than they save, and small blocks fit each file.
    compressor = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS, 5, zlib.Z_FILTERED, zdict=dictionary)
    return compressor.compress(payload) + compressor.flush()


def _inflate(deflated: memoryview, dictionary: bytes, manifest: Manifest, file: str) -> bytes:
    decompressor = zlib.decompressobj(-zlib.MAX_WBITS, zdict=dictionary)
    try:
        payload = decompressor.decompress(deflated, manifest.payload_bytes + 1)
    except zlib.error as error:
        raise _malformed(file, f"cannot be unpacked: {str(error).lower()}") from error
    if len(payload) != manifest.payload_bytes or not decompressor.eof or decompressor.unused_data:
        raise _malformed(file, f"unpacks to another length than the {manifest.payload_bytes} bytes it states")
    if hashlib.sha256(payload).hexdigest() != manifest.sha256:
        raise _malformed(file, f"does not unpack to what its first line states, sha256 {manifest.sha256}")
    return payload


def _without_baseline(manifest: Manifest, file: str) -> VerificationError:
    digest = manifest.baseline.sha256 if manifest.baseline is not None else ""
    refusal = Refusal(reason=Reason.BASELINE, file=file, expected=f"the state after bundle {digest}", found="another")
    return VerificationError(
        f"{file}: holds only what changed since the bundle {digest}, which this machine has not taken in",
        refusal=refusal,
        hint="apply that bundle first, or ask for a whole one",
    )


def _malformed(file: str, problem: str) -> VerificationError:
    refusal = Refusal(reason=Reason.MALFORMED, file=file, expected="a whole bundle", found=problem)
    return VerificationError(f"{file}: {problem}", refusal=refusal, hint="carry it over again")

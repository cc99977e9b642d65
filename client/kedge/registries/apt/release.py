"""A Release file: what an apt repository signs. Dates, names, and the size and SHA-256 of each index.

Only text that a signature was found good over comes here. It is read strictly all the same: a field that stands
twice, or a file that is listed with two digests, would let two readers see two documents. Sources: Debian's
repository format (DebianRepository/Format), deb822(5).

A Packages index: unpacked within a limit, and searched for a package's bytes.

An index is held against the Release before it is unpacked, so what is unpacked here was signed for; the limit on what
comes out holds all the same, since a key can be stolen and memory is finite.

Where the files of one suite come from: its folder at a mirror (a URL or a folder), or a Release file on disk.

apt keeps what it fetched under ``/var/lib/apt/lists``, in files whose names are the URL with its slashes replaced; a
Release file there can be named as well, and its suite is read off its name.
"""

from __future__ import annotations

import hashlib
import lzma
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from kedge.documents import DocumentError
from kedge.errors import InputError, StoreError, extra_hint
from kedge.registries import Served
from kedge.registries.pgp import MAX_SIGNATURE_BYTES

_FIELD = re.compile(r"([!-9;-~]+):[ \t]*(.*)")
# As apt reads them: of the digests that a Release lists, these two hold; the stronger one is what is compared.
_DIGESTS = {"SHA512": 128, "SHA256": 64}
_ENTRY = re.compile(r"([0-9a-f]{64}|[0-9a-f]{128})[ \t]+([0-9]{1,15})[ \t]+(\S+)", re.ASCII)
_DATE = re.compile(
    r"(?:[A-Z][a-z]{2}, )?(\d{1,2}) ([A-Z][a-z]{2}) (\d{4}) (\d{1,2}):(\d\d):(\d\d) (?:UTC|GMT|Z|\+0000)", re.ASCII
)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
MAX_BYTES = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One file that the Release lists, by its path below the Release's folder."""

    path: str
    size: int
    digests: Mapping[str, str]
    """By algorithm, the strongest first: ``SHA512``, ``SHA256``."""

    def holds(self, data: bytes) -> bool:
        """Whether these are its bytes: the size, and every digest that is listed."""
        return len(data) == self.size and all(digest_of(data, name) == value for name, value in self.digests.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """The signed facts. ``components`` are without what stands before them (``updates/main``), as apt takes them.

    A flat repository names neither suite nor codename; then both are empty.
    """

    date: datetime
    valid_until: datetime | None
    origin: str
    label: str
    suite: str
    codename: str
    components: tuple[str, ...]
    by_hash: bool
    files: Mapping[str, Listed]

    @classmethod
    def from_text(cls, text: bytes) -> Release:
        """Read a Release file.

        Raises:
            DocumentError: it is none; the path names the field.
        """
        if len(text) > MAX_BYTES:
            raise DocumentError("", f"is longer than {MAX_BYTES >> 20} MiB")
        fields = paragraph(text)
        if "date" not in fields:
            raise DocumentError("Date", "is missing: a Release without a date cannot be told from an old one")
        if not {"sha256", "sha512"} & fields.keys():
            raise DocumentError("SHA256", "is missing: no file is listed by a digest that holds")
        return cls(
            date=_time("Date", fields["date"]),
            valid_until=_time("Valid-Until", fields["valid-until"]) if "valid-until" in fields else None,
            origin=fields.get("origin", ""),
            label=fields.get("label", ""),
            suite=fields.get("suite", ""),
            codename=fields.get("codename", ""),
            components=tuple(part.rpartition("/")[2] for part in fields.get("components", "").split()),
            by_hash=fields.get("acquire-by-hash", "").lower() == "yes",
            files=_files(fields),
        )

    @property
    def identity(self) -> str:
        """What the repository calls itself, on one line: origin, label, suite and codename."""
        return " ".join(part or "-" for part in (self.origin, self.label, self.suite, self.codename))

    def is_called(self, name: str) -> bool:
        """Whether ``name`` is the suite or the codename, or one of them with a part below it (``buster/updates``)."""
        return {name, name.partition("/")[0]} & {self.suite, self.codename} - {""} != set()


def paragraph(text: bytes) -> dict[str, str]:
    """Read one deb822 paragraph: its fields by name in lower case, continuation lines joined by newlines.

    Raises:
        DocumentError: it is none, or a field stands there twice.
    """
    try:
        lines = text.decode("utf-8").strip("\n").split("\n")
    except UnicodeDecodeError as error:
        raise DocumentError("", f"is not UTF-8 (byte {error.start})") from error
    fields: dict[str, list[str]] = {}
    current: list[str] | None = None
    for number, line in enumerate(lines, 1):
        if line.startswith((" ", "\t")):
            if current is None:
                raise DocumentError(f"line {number}", "continues a field, and there is none above it")
            current.append(line[1:])
        elif match := _FIELD.fullmatch(line):
            name = match[1].lower()
            if name in fields:
                raise DocumentError(match[1], f"stands there twice (line {number})")
            current = fields[name] = [match[2]]
        else:
            what = "is empty: a second paragraph begins" if not line.strip() else "is no field"
            raise DocumentError(f"line {number}", what)
    return {name: "\n".join(values).strip() for name, values in fields.items()}


def _time(name: str, text: str) -> datetime:
    match = _DATE.fullmatch(text)
    if match is None or match[2] not in _MONTHS:
        raise DocumentError(name, f"must be a date such as Sat, 11 Jul 2026 09:54:25 UTC, not {text[:60]!r}")
    day, year, hour, minute, second = (int(match[group]) for group in (1, 3, 4, 5, 6))
    try:
        return datetime(year, _MONTHS.index(match[2]) + 1, day, hour, minute, second, tzinfo=UTC)
    except ValueError as error:
        raise DocumentError(name, f"is no date that there is: {text[:60]!r}") from error


def digest_of(data: bytes, name: str) -> str:
    """The digest of ``data`` by ``SHA512`` or ``SHA256``, as a Release writes it."""
    return hashlib.new(name.lower(), data).hexdigest()


def _files(fields: Mapping[str, str]) -> dict[str, Listed]:
    found: dict[str, tuple[int, dict[str, str]]] = {}
    for name, digits in _DIGESTS.items():
        for line in filter(None, map(str.strip, fields.get(name.lower(), "").split("\n"))):
            match = _ENTRY.fullmatch(line)
            if match is None or len(match[1]) != digits:
                raise DocumentError(name, f"holds {line[:80]!r}, expected a digest, a size and a path")
            size, digests = found.setdefault(match[3], (int(match[2]), {}))
            if size != int(match[2]) or digests.setdefault(name, match[1]) != match[1]:
                raise DocumentError(name, f"lists {match[3][:200]} with two contents")
    return {path: Listed(path=path, size=size, digests=digests) for path, (size, digests) in found.items()}


MAX_INDEX_BYTES = 1 << 30
_CHUNK = 1 << 20
_MAX_WINDOW_BYTES = 128 << 20
_ZSTD_STEP = 1 << 9
_GZIP, _XZ, _LZ4, _ZSTD = b"\x1f\x8b", b"\xfd7zXZ\x00", b"\x04\x22\x4d\x18", b"\x28\xb5\x2f\xfd"


def unpack(data: bytes, *, max_bytes: int = MAX_INDEX_BYTES) -> bytes:
    """Unpack gzip, xz, lz4 and zstd, by their first bytes; anything else is given back as it is.

    Raises:
        DocumentError: it is damaged, goes on after its end, or comes out longer than ``max_bytes``.
        StoreError: lz4 or zstd, and the extra ``apt`` that reads them is not installed.
    """
    if data.startswith(_GZIP):
        chunks = _inflate(data)
    elif data.startswith(_XZ):
        chunks = _unxz(data)
    elif data.startswith(_LZ4):
        chunks = _unlz4(data)
    elif data.startswith(_ZSTD):
        chunks = _unzstd(data)
    else:
        chunks = iter((data,))
    out: list[bytes] = []
    length = 0
    for chunk in chunks:
        length += len(chunk)
        if length > max_bytes:
            raise DocumentError("", f"unpacks to more than {max_bytes} bytes")
        out.append(chunk)
    return b"".join(out)


def _inflate(data: bytes) -> Iterator[bytes]:
    packed = data
    while packed:
        inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        while not inflater.eof:
            try:
                chunk = inflater.decompress(packed, _CHUNK)
            except zlib.error as error:
                raise DocumentError("", f"is damaged gzip: {error}") from error
            packed = inflater.unconsumed_tail
            if not chunk and not packed and not inflater.eof:
                raise DocumentError("", "is gzip that was cut short")
            yield chunk
        packed = inflater.unused_data


def _unxz(data: bytes) -> Iterator[bytes]:
    packed = data
    while packed:
        unpacker = lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=256 << 20)
        given = packed
        while not unpacker.eof:
            try:
                chunk = unpacker.decompress(given, _CHUNK)
            except lzma.LZMAError as error:
                raise DocumentError("", f"is damaged xz: {str(error).lower()}") from error
            given = b""
            if not chunk and unpacker.needs_input and not unpacker.eof:
                raise DocumentError("", "is xz that was cut short")
            yield chunk
        packed = unpacker.unused_data


def _unlz4(data: bytes) -> Iterator[bytes]:
    try:
        from lz4.frame import LZ4FrameDecompressor
    except ModuleNotFoundError as error:
        raise _needs_extra("lz4") from error
    packed = data
    while packed:
        unpacker = LZ4FrameDecompressor()
        given = packed
        while not unpacker.eof:
            try:
                chunk = unpacker.decompress(given, max_length=_CHUNK)
            except RuntimeError as error:
                raise DocumentError("", f"is damaged lz4: {str(error).lower()}") from error
            given = b""
            if not chunk and unpacker.needs_input and not unpacker.eof:
                raise DocumentError("", "is lz4 that was cut short")
            yield chunk
        packed = unpacker.unused_data or b""


def _unzstd(data: bytes) -> Iterator[bytes]:
    try:
        import zstandard
    except ModuleNotFoundError as error:
        raise _needs_extra("zstd") from error
    packed = data
    while packed:
        unpacker = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES).decompressobj()
        position = 0
        while not unpacker.eof:
            # A block of zstd comes out as at most 128 KiB; so little goes in at a time that at most 16 MiB come out.
            given = packed[position : position + _ZSTD_STEP]
            if not given:
                raise DocumentError("", "is zstd that was cut short")
            try:
                yield unpacker.decompress(given)
            except zstandard.ZstdError as error:
                raise DocumentError("", f"is damaged zstd: {str(error).lower()}") from error
            position += len(given)
        packed = unpacker.unused_data + packed[position:]


def _needs_extra(form: str) -> StoreError:
    return StoreError(f"a {form} index needs the extra apt", hint=extra_hint("apt"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Stanza:
    """One package of an index: what it is called, and which bytes it is."""

    package: str
    version: str
    architecture: str
    filename: str
    size: int
    digests: Mapping[str, str]


class Index:
    """An unpacked index, which the Release was found to list."""

    def __init__(self, name: str, text: bytes) -> None:
        """Search ``text``, which the Release lists as ``name``."""
        self.name = name
        self._text = b"\n\n" + text.strip(b"\n") + b"\n\n"

    def by_digest(self, digests: Mapping[str, str]) -> Stanza | None:
        """The package of the bytes that have these digests, or None: every digest that it states must be theirs.

        Raises:
            DocumentError: the stanza that names a digest is none.
        """
        for name, value in digests.items():
            found = self._find(f"\n{name}: ".encode(), f" {value}\n".encode())
            if found is not None and all(digests.get(each) == stated for each, stated in found.digests.items()):
                return found
        return None

    def by_file(self, name: str) -> Stanza | None:
        """The package whose file has this name, in whatever folder of the pool, or None.

        Raises:
            DocumentError: the stanza that names the file is none.
        """
        return self._find(b"\nFilename: ", f"/{name}\n".encode())

    def _find(self, field: bytes, wanted: bytes) -> Stanza | None:
        """The stanza with a line that begins with ``field`` and ends with ``wanted``."""
        position = self._text.find(wanted)
        while position >= 0:
            start = self._text.rfind(b"\n", 0, position)
            if self._text.startswith(field, start):
                begin = self._text.rfind(b"\n\n", 0, start + 1) + 2
                return self._read(self._text[begin : self._text.find(b"\n\n", position)])
            position = self._text.find(wanted, position + 1)
        return None

    def _read(self, text: bytes) -> Stanza:
        fields = paragraph(text)
        for name in ("Package", "Version", "Architecture", "Filename", "Size"):
            if not fields.get(name.lower()):
                raise DocumentError(self.name, f"holds a package without {name}")
        digests = {name: fields[name.lower()] for name in _DIGESTS if fields.get(name.lower())}
        if not digests:
            raise DocumentError(self.name, "holds a package without SHA256 or SHA512")
        size = fields["size"]
        if not (size.isascii() and size.isdecimal() and len(size) <= 15):
            raise DocumentError(self.name, f"holds a package of the size {size[:40]!r}")
        return Stanza(
            package=fields["package"],
            version=fields["version"],
            architecture=fields["architecture"],
            filename=fields["filename"],
            size=int(size),
            digests=digests,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedRelease:
    """``InRelease`` (``signature`` is None), or ``Release`` with its ``Release.gpg`` (empty where there is none)."""

    name: str
    data: bytes
    signature: bytes | None


def read_release(served: Served, file: str | None) -> SignedRelease:
    """Read what a suite's folder serves: ``InRelease``, else ``Release``; ``file`` names the one that is meant.

    Raises:
        InputError: there is neither.
        FetchError: it cannot be had in time.
        TooLongError: it is longer than a Release file can be.
    """
    for name in (file,) if file is not None else ("InRelease", "Release"):
        data = served.read(name, max_bytes=MAX_BYTES)
        if data is None:
            continue
        where = f"{served.url}/{name}"
        if name.endswith("InRelease"):
            return SignedRelease(name=where, data=data, signature=None)
        signature = served.read(f"{name}.gpg", max_bytes=MAX_SIGNATURE_BYTES)
        return SignedRelease(name=where, data=data, signature=signature or b"")
    wanted = file or "InRelease or Release"
    raise InputError(
        f"{served.url}: there is no {wanted}", hint="name the folder of a suite, such as .../dists/bookworm"
    )


def suite_of(place: str) -> str | None:
    """The suite that a URL, a folder or a file's name means: what follows ``dists``, or None."""
    path = re.sub(r"/?(In)?Release$", "", place.rstrip("/"))
    if match := re.search(r"(?:^|/)dists/([^/].*)$", path):
        return match[1]
    if match := re.search(r"_dists_([^/]+)_$", re.sub(r"(In)?Release$", "", Path(place).name)):
        return match[1].replace("_", "/")
    return None

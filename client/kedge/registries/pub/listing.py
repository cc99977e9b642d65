"""What versions of a package exist, and which bytes each of them is: as a registry answers, and as it is signed.

A pub registry answers ``GET /api/packages/<name>`` with every version and the SHA-256 of its archive, and signs
nothing. The signed form of that answer (``kedge.pub-listing/1``) holds what a mirror could lie about, and no more:
versions, digests, what was retracted, what is the latest. It is a TUF target, so that it cannot be taken back.

Sources: dart-lang/pub "Hosted Pub Repository Specification Version 2"; ``lib/src/source/hosted.dart``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from kedge.documents import DocumentError, Fields, load_json

FORMAT = "kedge.pub-listing/1"
NAME = r"[A-Za-z0-9_]{1,64}"
VERSION = r"[0-9]{1,15}\.[0-9]{1,15}\.[0-9]{1,15}(-[0-9A-Za-z.-]{1,80})?(\+[0-9A-Za-z.-]{1,80})?"
MAX_VERSIONS = 20_000
MAX_BYTES = 16_000_000
_SHA256 = "[0-9a-f]{64}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """The versions of a package, each with the SHA-256 of its archive (None: the registry states none)."""

    name: str
    versions: Mapping[str, str | None]
    latest: str | None = None
    retracted: frozenset[str] = field(default=frozenset())
    discontinued: bool = False
    replaced_by: str | None = None

    def to_bytes(self) -> bytes:
        """The listing as it is signed: the same bytes for the same listing."""
        table: dict[str, Any] = {"format": FORMAT, "name": self.name}
        ordered = sorted(self.versions, key=version_order)
        table["versions"] = {version: digest for version in ordered if (digest := self.versions[version]) is not None}
        if without := [version for version in ordered if self.versions[version] is None]:
            table["without_digest"] = without
        if self.latest is not None:
            table["latest"] = self.latest
        if self.retracted:
            table["retracted"] = sorted(self.retracted, key=version_order)
        if self.discontinued:
            table["discontinued"] = True
        if self.replaced_by is not None:
            table["replaced_by"] = self.replaced_by
        return json.dumps(table, separators=(",", ":")).encode("ascii") + b"\n"


def read_listing(data: bytes) -> Listing:
    """Read a listing as it is signed.

    Raises:
        DocumentError: it is none; the path leads to the fault.
    """
    if len(data) > MAX_BYTES:
        raise DocumentError("", f"is longer than {MAX_BYTES} bytes")
    fields = Fields(load_json(data))
    fields.format(FORMAT)
    name = fields.text("name", pattern=NAME, expected="a package's name")
    table = fields.table("versions")
    versions: dict[str, str | None] = {version: table.sha256(version) for version in table.names()}
    for version in fields.optional("without_digest", fields.texts) or ():
        if version in versions:
            fields.fail("without_digest", f"{version} stands among the versions too, or twice")
        versions[version] = None
    _check_count(fields, len(versions))
    for version in versions:
        if re.fullmatch(VERSION, version, re.ASCII) is None:
            table.fail(version, "is no version such as 1.2.3")
    latest = fields.optional("latest", fields.text)
    retracted = fields.optional("retracted", fields.texts) or ()
    for version in (*retracted, *([latest] if latest is not None else [])):
        if version not in versions:
            fields.fail("latest" if version == latest else "retracted", f"{version} is not among the versions")
    listing = Listing(
        name=name,
        versions=versions,
        latest=latest,
        retracted=frozenset(retracted),
        discontinued=fields.optional("discontinued", fields.boolean) or False,
        replaced_by=fields.optional("replaced_by", fields.text, pattern=NAME, expected="a package's name"),
    )
    fields.end()
    return listing


def read_answer(data: bytes, name: str) -> Listing:
    """Read what a registry or its mirror answers about the package ``name``.

    Raises:
        DocumentError: it is no such answer, or one about another package.
    """
    fields = Fields(_load_foreign(data))
    if fields.text("name") != name:
        fields.fail("name", f"must be {name}: this is about another package")
    entries = fields.tables("versions")
    _check_count(fields, len(entries))
    versions: dict[str, str | None] = {}
    retracted: list[str] = []
    for entry in entries:
        version = entry.text("version", pattern=VERSION, expected="a version such as 1.2.3")
        if version in versions:
            entry.fail("version", f"{version} stands there twice")
        versions[version] = entry.optional("archive_sha256", _lower_sha256(entry))
        if entry.optional("retracted", entry.boolean):
            retracted.append(version)
    latest = fields.table("latest").text("version") if "latest" in fields else None
    if latest is not None and latest not in versions:
        fields.fail("latest", f"{latest[:80]} is not among the versions")
    replaced_by = fields.optional("replacedBy", fields.text, empty=True)
    return Listing(
        name=name,
        versions=versions,
        latest=latest,
        retracted=frozenset(retracted),
        discontinued=fields.optional("isDiscontinued", fields.boolean) or False,
        replaced_by=replaced_by if replaced_by and re.fullmatch(NAME, replaced_by, re.ASCII) else None,
    )


def version_order(version: str) -> tuple[Any, ...]:
    """A key that sorts versions as pub does: by number, pre-releases before their release, builds after."""
    match = re.fullmatch(r"(\d+)\.(\d+)\.(\d+)(?:-([^+]*))?(?:\+(.*))?", version, re.ASCII)
    if match is None:
        return (0, 0, 0, (), (), version)
    numbers = tuple(int(part) for part in match.group(1, 2, 3))
    before, build = match[4], match[5]
    return (
        *numbers,
        (1,) if before is None else (0, *_parts(before)),
        () if build is None else (1, *_parts(build)),
        "",
    )


def _parts(text: str) -> list[tuple[int, int, str]]:
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in text.split(".")]


def _lower_sha256(entry: Fields) -> Any:
    def read(name: str) -> str:
        text = entry.text(name, pattern="[0-9A-Fa-f]{64}", expected="64 hexadecimal digits")
        return text.lower()

    return read


def _check_count(fields: Fields, count: int) -> None:
    if count > MAX_VERSIONS:
        fields.fail("versions", f"holds {count} entries, at most {MAX_VERSIONS} are read")
    if not count:
        fields.fail("versions", "is empty: the package has no version")


def _load_foreign(data: bytes) -> Any:
    """Read JSON that holds parts of which nobody here knows what they may be, fractions among them."""
    if len(data) > MAX_BYTES:
        raise DocumentError("", f"is longer than {MAX_BYTES} bytes")
    try:
        return json.loads(data, object_pairs_hook=_unique, parse_constant=_refuse)
    except DocumentError:
        raise
    except (ValueError, RecursionError) as error:
        raise DocumentError("", "is not JSON, or nested too deep") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise DocumentError("", "holds a key twice in one object")
    return table


def _refuse(text: str) -> NoReturn:
    raise DocumentError("", f"holds {text}, which is not JSON")

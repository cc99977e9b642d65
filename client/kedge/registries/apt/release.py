"""A Release file: what an apt repository signs. Dates, names, and the size and SHA-256 of each index.

Only text that a signature was found good over comes here. It is read strictly all the same: a field that stands
twice, or a file that is listed with two digests, would let two readers see two documents. Sources: Debian's
repository format (DebianRepository/Format), deb822(5).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from kedge.document import DocumentError

__all__ = ["Listed", "Release", "paragraph"]

_FIELD = re.compile(r"([!-9;-~]+):[ \t]*(.*)")
_ENTRY = re.compile(r"([0-9a-f]{64})[ \t]+([0-9]{1,15})[ \t]+(\S+)", re.ASCII)
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
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """The signed facts."""

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
        suite, codename = fields.get("suite", ""), fields.get("codename", "")
        if "date" not in fields:
            raise DocumentError("Date", "is missing: a Release without a date cannot be told from an old one")
        if not suite and not codename:
            raise DocumentError("", "names neither Suite nor Codename")
        if "sha256" not in fields:
            raise DocumentError("SHA256", "is missing: no file is listed by a digest that holds")
        return cls(
            date=_time("Date", fields["date"]),
            valid_until=_time("Valid-Until", fields["valid-until"]) if "valid-until" in fields else None,
            origin=fields.get("origin", ""),
            label=fields.get("label", ""),
            suite=suite,
            codename=codename,
            components=tuple(fields.get("components", "").split()),
            by_hash=fields.get("acquire-by-hash", "").lower() == "yes",
            files=_files(fields["sha256"]),
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


def _files(text: str) -> dict[str, Listed]:
    files: dict[str, Listed] = {}
    for line in filter(None, map(str.strip, text.split("\n"))):
        match = _ENTRY.fullmatch(line)
        if match is None:
            raise DocumentError("SHA256", f"holds {line[:80]!r}, expected a digest, a size and a path")
        listed = Listed(path=match[3], size=int(match[2]), sha256=match[1])
        if files.setdefault(listed.path, listed) != listed:
            raise DocumentError("SHA256", f"lists {listed.path[:200]} with two contents")
    return files

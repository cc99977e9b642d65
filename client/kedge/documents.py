"""Strict reading of JSON and TOML documents.

Everything that kedge reads passes through here, whoever wrote it. The ideas:

- *Parse, don't validate*: a :class:`Fields` reader takes values out of a mapping by name and type; what it returns is
  right, and what is wrong ends in a :class:`DocumentError` that carries the path to the fault
  (``roles.root.threshold: must be at least 1``).
- JSON as RFC 8259 means it and nothing beside it: UTF-8 without a BOM, no duplicate keys, no NaN, no floats, no lone
  surrogates, integers of at most 15 digits (RFC 7493 §2.2: what every reader holds exactly), nesting of at most 64.
  Two readers must never see two documents in the same bytes.
- Who is to blame is the caller's knowledge: :func:`blame` turns a ``DocumentError`` into an ``InputError`` (the user's
  own file) or a ``VerificationError`` (something that was served).
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime
from typing import Any, NoReturn, TypeVar

from kedge.errors import InputError, Reason, Refusal, VerificationError, one_line

__all__ = [
    "DocumentError",
    "Fields",
    "blame_served",
    "blame_user",
    "format_time",
    "load_json",
    "load_toml",
    "parse_time",
]

MAX_DEPTH = 64
MAX_DIGITS = 15
_PLAIN_NAME = re.compile("[A-Za-z0-9_-]+")
_SHA256 = re.compile("[0-9a-f]{64}")

T = TypeVar("T")


class DocumentError(ValueError):
    """A document is not what it should be.

    ``path`` leads to the fault (``mirror[0].url``; empty for the whole document), ``problem`` says what is wrong.
    """

    def __init__(self, path: str, problem: str) -> None:
        self.path = one_line(path)
        self.problem = one_line(problem)
        super().__init__(f"{self.path}: {self.problem}" if path else self.problem)


class PageError(DocumentError):
    """There is a web page in place of a document: somebody between here and the server has answered."""


@contextmanager
def blame_user(file: str) -> Iterator[None]:
    """Turn a document's fault into an ``InputError`` that names ``file``.

    Raises:
        InputError: the block raised ``DocumentError``.
    """
    try:
        yield
    except DocumentError as error:
        raise InputError(f"{file}: {error}") from error


@contextmanager
def blame_served(file: str, *, role: str | None = None) -> Iterator[None]:
    """Turn a document's fault into a ``VerificationError`` that names the served ``file``.

    Raises:
        VerificationError: the block raised ``DocumentError``; the reason is ``malformed``, or ``portal`` for a page.
    """
    try:
        yield
    except DocumentError as error:
        reason = Reason.PORTAL if isinstance(error, PageError) else Reason.MALFORMED
        refusal = Refusal(reason=reason, file=file, role=role, expected=error.problem, found=error.path or None)
        raise VerificationError(f"{file}: {error}", refusal=refusal) from error


def load_json(data: bytes) -> Any:
    """Parse ``data`` as strict JSON and return plain Python values.

    Raises:
        DocumentError: the bytes are not UTF-8, not JSON, or use one of the liberties listed in the module's docstring.
    """
    if data.startswith(b"\xef\xbb\xbf"):
        raise DocumentError("", "must be UTF-8 JSON without a byte order mark")
    if not data.strip():
        raise DocumentError("", "is empty, expected a JSON document")
    if data.lstrip().startswith(b"<"):
        raise PageError("", "is a page of HTML or XML, expected JSON (a captive portal, a login, an error page?)")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DocumentError("", f"is not UTF-8 (byte {error.start})") from error
    _limit_memory(text)
    _limit_depth(text)
    try:
        value = json.loads(
            text,
            object_pairs_hook=_unique_keys,
            parse_constant=_refuse_constant,
            parse_float=_refuse_float,
            parse_int=_bounded_int,
        )
    except json.JSONDecodeError as error:
        raise DocumentError(
            "", f"is not JSON: {error.msg.lower()} (line {error.lineno}, column {error.colno})"
        ) from error
    if "\\u" in text:
        _refuse_surrogates(value)
    return value


def load_toml(text: bytes | str) -> dict[str, Any]:
    """Parse ``text`` as TOML and return plain Python values.

    Raises:
        DocumentError: the bytes are not UTF-8, or not TOML.
    """
    import tomllib  # not every client reads a file of the user's

    try:
        return tomllib.loads(text.decode("utf-8") if isinstance(text, bytes) else text)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DocumentError("", f"is not TOML: {str(error).lower()}") from error


def format_time(moment: datetime) -> str:
    """Write an aware time as TUF does: ``2025-01-27T00:00:00Z``, whole seconds, UTC."""
    return moment.astimezone(UTC).replace(microsecond=0, tzinfo=None).isoformat() + "Z"


_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d{1,9})?Z", re.ASCII)


def parse_time(text: str) -> datetime:
    """Read ``2025-01-27T00:00:00Z`` (a fraction of a second is allowed and dropped) as an aware UTC time.

    Raises:
        ValueError: the text is not such a time.
    """
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError("must be a time such as 2025-01-27T00:00:00Z")
    return datetime.fromisoformat(match[1]).replace(tzinfo=UTC)


class Fields:
    """A reader of one table (a JSON object or a TOML table), which knows where it stands in the document.

    Raises (each of its readers):
        DocumentError: the field is missing, or is not what was asked for; the path leads to it.
    """

    __slots__ = ("_inside", "_path", "_table", "_taken")

    def __init__(self, value: object, path: str = "", *, inside: tuple[Fields, str] | None = None) -> None:
        """Start reading ``value``, which stands at ``path``, or in a field of another table.

        Raises:
            DocumentError: it is not a table with text keys.
        """
        self._inside = inside
        self._path = path
        if not isinstance(value, dict):
            raise DocumentError(self.path, f"must be a table, not {_kind(value)}")
        self._table: Mapping[str, Any] = value
        self._taken: set[str] = set()

    @property
    def path(self) -> str:
        """The path to this table; it is put together only where somebody asks, which is for a fault."""
        return self._inside[0].at(self._inside[1]) if self._inside is not None else self._path

    def __contains__(self, name: str) -> bool:
        return name in self._table

    def at(self, name: str) -> str:
        """The path to the field ``name``."""
        shown = name if _PLAIN_NAME.fullmatch(name) else json.dumps(name, ensure_ascii=False)
        return f"{self.path}.{shown}" if self.path else shown

    def fail(self, name: str, problem: str) -> NoReturn:
        """Raise a ``DocumentError`` at the field ``name``."""
        raise DocumentError(self.at(name), problem)

    def format(self, expected: str) -> None:
        """Check the field ``format``, which every document of ours carries (``kedge.anchor/1``).

        Raises:
            DocumentError: it is another document, or a major version that this kedge does not read.
        """
        found = self.text("format")
        if found == expected:
            return
        name, _, version = expected.rpartition("/")
        if found.startswith(f"{name}/"):
            self.fail("format", f'is "{found}"; this kedge reads version {version} only: a newer kedge is needed')
        self.fail("format", f'must be "{expected}", not "{found}"')

    def text(self, name: str, *, pattern: str | None = None, expected: str = "", empty: bool = False) -> str:
        """A text, not empty unless ``empty``. ``pattern`` must match all of it; ``expected`` names what it asks for."""
        value = self._take(name)
        if not isinstance(value, str):
            self.fail(name, f"must be a text, not {_kind(value)}")
        if not value and not empty:
            self.fail(name, "must not be empty")
        if pattern is not None and re.fullmatch(pattern, value, re.ASCII) is None:
            self.fail(name, f"must be {expected or pattern}, not {json.dumps(value[:80], ensure_ascii=False)}")
        return value

    def base64(self, name: str, *, empty: bool = False) -> bytes:
        """The bytes that a text of base64, padded and on one line, stands for; not empty unless ``empty``."""
        try:
            return base64.b64decode(self.text(name, empty=empty), validate=True)
        except ValueError:
            self.fail(name, "must be base64")

    def sha256(self, name: str) -> str:
        """A SHA-256 digest: 64 lower-case hexadecimal digits."""
        return self.text(name, pattern=_SHA256.pattern, expected="64 lower-case hexadecimal digits")

    def sha256s(self, name: str) -> tuple[str, ...]:
        """A list of SHA-256 digests."""
        digests = self.texts(name)
        for index, digest in enumerate(digests):
            if _SHA256.fullmatch(digest) is None:
                raise DocumentError(f"{self.at(name)}[{index}]", "must be 64 lower-case hexadecimal digits")
        return digests

    def integer(self, name: str, *, minimum: int = 0, maximum: int | None = None) -> int:
        """A whole number within bounds (a boolean is not a number)."""
        value = self._take(name)
        if isinstance(value, bool) or not isinstance(value, int):
            self.fail(name, f"must be a whole number, not {_kind(value)}")
        if value < minimum:
            self.fail(name, f"must be at least {minimum}, not {value}")
        if maximum is not None and value > maximum:
            self.fail(name, f"must be at most {maximum}, not {value}")
        return value

    def integers(self, name: str, *, minimum: int = 0, maximum: int | None = None) -> tuple[int, ...]:
        """A list of whole numbers within bounds."""
        values = self._list(name)
        for index, value in enumerate(values):
            if type(value) is not int or value < minimum or (maximum is not None and value > maximum):
                most = "" if maximum is None else f" and at most {maximum}"
                raise DocumentError(f"{self.at(name)}[{index}]", f"must be a whole number, at least {minimum}{most}")
        return tuple(values)

    def boolean(self, name: str) -> bool:
        """``true`` or ``false``."""
        value = self._take(name)
        if not isinstance(value, bool):
            self.fail(name, f"must be true or false, not {_kind(value)}")
        return value

    def time(self, name: str) -> datetime:
        """A time such as ``2025-01-27T00:00:00Z``, as an aware UTC time."""
        value = self.text(name)
        try:
            return parse_time(value)
        except ValueError as error:
            self.fail(name, f"{error}, not {json.dumps(value[:80], ensure_ascii=False)}")

    def day(self, name: str) -> date:
        """A day such as ``2027-06-01``: a date of TOML, or a text."""
        value = self._take(name)
        if type(value) is date:
            return value
        if not isinstance(value, str) or re.fullmatch(r"\d{4}-\d\d-\d\d", value, re.ASCII) is None:
            self.fail(name, f"must be a day such as 2027-06-01, not {_kind(value)}")
        try:
            return date.fromisoformat(value)
        except ValueError:
            self.fail(name, f"must be a day of the calendar, not {value}")

    def table(self, name: str) -> Fields:
        """A table inside this one."""
        return Fields(self._take(name), inside=(self, name))

    def tables(self, name: str) -> list[Fields]:
        """A list of tables."""
        return [Fields(item, f"{self.at(name)}[{index}]") for index, item in enumerate(self._list(name))]

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts, none of them empty."""
        values = self._list(name)
        for index, value in enumerate(values):
            if not isinstance(value, str) or not value:
                raise DocumentError(f"{self.at(name)}[{index}]", "must be a text that is not empty")
        return tuple(values)

    def items(self, *, but: Callable[[Any], bool] | None = None) -> Iterator[tuple[str, Fields]]:
        """Every entry of a table of tables, in order; without those that ``but`` knows to be right as they are."""
        for name, value in self._table.items():
            if but is not None and but(value):
                self._taken.add(name)
            else:
                yield name, self.table(name)

    def names(self) -> tuple[str, ...]:
        """The names of all fields, in order."""
        return tuple(self._table)

    def optional(self, name: str, read: Callable[..., T], **options: Any) -> T | None:
        """What ``read`` gives for ``name``, or None where the field is absent."""
        return read(name, **options) if name in self._table else None

    def end(self) -> None:
        """Check that every field was read.

        Raises:
            DocumentError: there is one that nobody asked for.
        """
        for name in self._table:
            if name not in self._taken:
                self.fail(name, "is not a field of this document")

    def _take(self, name: str) -> Any:
        if name not in self._table:
            self.fail(name, "is missing")
        self._taken.add(name)
        return self._table[name]

    def _list(self, name: str) -> list[Any]:
        value = self._take(name)
        if not isinstance(value, list):
            self.fail(name, f"must be a list, not {_kind(value)}")
        return value


def _kind(value: object) -> str:
    names = {dict: "a table", list: "a list", str: "a text", bool: "a boolean", int: "a number", type(None): "null"}
    return names.get(type(value), type(value).__name__)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise DocumentError("", f"holds the key {json.dumps(key)} twice in one object")
            seen.add(key)
    return table


def _refuse_constant(text: str) -> NoReturn:
    raise DocumentError("", f"holds {text}, which is not JSON")


def _refuse_float(text: str) -> NoReturn:
    raise DocumentError("", f"holds the fraction {text[:24]}, where only whole numbers may stand")


def _bounded_int(text: str) -> int:
    if len(text.lstrip("-")) > MAX_DIGITS:
        raise DocumentError("", f"holds a number of {len(text)} digits, at most {MAX_DIGITS} are allowed")
    return int(text)


_NO_BRACKETS = re.compile(r"[^\[\]{}]+")
_BETWEEN_BRACKETS = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[^\[\]{}"]++', re.DOTALL)
_SMALL = 4 << 20
_FREE_BYTES = 128 << 20
_TIMES = 7


def _limit_depth(text: str) -> None:
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return
    depth = 0
    for sign in _brackets(text):
        if sign in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise DocumentError("", f"is nested more than {MAX_DEPTH} deep")
        else:
            depth -= 1


def _brackets(text: str) -> str:
    """The brackets of a JSON text that are outside of its strings, in order."""
    if len(text) < _SMALL and "\\" not in text:  # then every quote begins or ends a string
        return _NO_BRACKETS.sub("", "".join(text.split('"')[::2]))
    return _BETWEEN_BRACKETS.sub("", text)


def _limit_memory(text: str) -> None:
    """Refuse a text whose values take many times its own size: tiny ones without end, which no document needs."""
    if len(text) < _SMALL:
        return
    tables, strings = text.count("[") + text.count("{"), text.count('"') // 2
    keys = min(strings, text.count(",") + tables)
    bytes_needed = 232 * tables + 64 * strings + 110 * keys + 8 * text.count(",")
    if bytes_needed > _TIMES * len(text) + _FREE_BYTES:
        problem = f"holds {tables + strings} values in {len(text)} characters, which takes {bytes_needed >> 20} MiB"
        raise DocumentError("", problem)


def _refuse_surrogates(value: Any) -> None:
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            stack.extend(item)
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)
        elif isinstance(item, str):
            try:
                item.encode("utf-8")
            except UnicodeEncodeError as error:
                raise DocumentError("", "holds a lone surrogate, which is not a character") from error

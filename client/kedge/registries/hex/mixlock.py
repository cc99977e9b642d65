"""``mix.lock``: which packages a project uses, and the digests that they had when it was written.

The file is an Elixir map of literal terms, which mix evaluates. Here they are read, never evaluated: texts, charlists,
atoms, numbers, lists, tuples and keywords, with Elixir's escapes. Anything else is a failure with its line: a call, an
interpolation, a sigil but ``~c"..."``, a key with ``=>`` (which mix does not look up), a key that occurs twice.

``tests/client/registries/hex/test_mixlock.py`` holds it against Elixir, where that is installed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

from kedge.documents import DocumentError

MAX_DEPTH = 32
MAX_ATOM = 255
NAME = "[a-z][a-z0-9_]{0,199}"
"""What a package may be called."""

_VERSION = "[0-9A-Za-z][0-9A-Za-z.+-]{0,199}"
_QUOTED = r'(?:[^"\\\#]++|\\.|\#(?!\{))*+"'
_TOKEN = re.compile(
    rf"""(?P<space>[ \t\n]+|\r\n|\#[^\n]*)
    |"(?P<text>{_QUOTED})(?P<key>:(?=[ \t\r\n]))?
    |~c"(?P<sigil>{_QUOTED})
    |'(?P<chars>(?:[^'\\\#]++|\\.|\#(?!\{{))*+)'(?!:)
    |(?P<word>[A-Za-z_][A-Za-z0-9_@]*[?!]?)(?P<word_key>:(?=[ \t\r\n]))?
    |:"(?P<quoted>{_QUOTED})
    |:(?P<atom>[A-Za-z_][A-Za-z0-9_@]*[?!]?)
    |(?P<number>-?[0-9]+(?:\.[0-9]+)?)(?![A-Za-z0-9_.])
    |(?P<sign>%\{{|[][{{}},])""",
    re.VERBOSE | re.ASCII | re.DOTALL,
)
_ESCAPE = re.compile(r"\\(?:x([0-9A-Fa-f]{1,2})|u([0-9A-Fa-f]{4})|u\{([0-9A-Fa-f]{1,6})\}|(\r?\n)|(.))", re.DOTALL)
_ESCAPES = dict(zip("abdefnrstv0", "\a\b\x7f\x1b\f\n\r \t\v\0", strict=True))
_LITERALS = {"true": True, "false": False, "nil": None}
_CLOSING = {"{": "}", "[": "]"}
_DIGEST = re.compile("[0-9a-f]{64}")


class _Atom(str):
    """An atom, which is not the text of the same letters."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Locked:
    """One package as it is locked. ``kind`` is ``hex``, or where else it comes from (``git``, ``path``).

    ``repository`` is the Hex repository's name (``hexpm``, ``hexpm:acme`` for an organisation); the digests are in
    hexadecimal, None where the lock file is older than they are. ``source`` is where something else comes from.
    """

    app: str
    kind: str
    name: str = ""
    version: str = ""
    repository: str = ""
    inner: str | None = None
    outer: str | None = None
    source: str = ""


def read_lock(data: bytes) -> tuple[Locked, ...]:
    """Read a lock file.

    Raises:
        DocumentError: it is none; the path names the line, or the package.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DocumentError("", f"is not UTF-8 (byte {error.start})") from error
    if re.search("^(?:<{7}|={7}|>{7})", text, re.MULTILINE):
        raise DocumentError("", "holds the markers of a merge conflict: resolve it first")
    return tuple(_locked(app, value) for app, value in _Reader(text).lock().items())


def _locked(app: object, value: object) -> Locked:
    if not isinstance(app, str) or not isinstance(value, tuple) or not value or not isinstance(value[0], _Atom):
        raise DocumentError(str(app)[:100], "must be a tuple that begins with where the package comes from")
    if value[0] != "hex":
        source = value[1] if len(value) > 1 and type(value[1]) is str else ""
        return Locked(app=str(app), kind=str(value[0]), source=source)
    fields = [*value[1:], *[None] * 7][:7]
    name, version, inner, _managers, _dependencies, repository, outer = fields
    for what, found, pattern in (("name", name, NAME), ("version", version, _VERSION)):
        if not isinstance(found, str) or re.fullmatch(pattern, found) is None:
            raise DocumentError(str(app)[:100], f"names no {what} that Hex has")
    return Locked(
        app=str(app),
        kind="hex",
        name=str(name),
        version=str(version),
        repository=_repository(app, repository) if len(value) > 6 else "hexpm",  # locks from before there were others
        inner=_digest(app, inner),
        outer=_digest(app, outer),
    )


def _repository(app: str, value: object) -> str:
    if not isinstance(value, str) or re.fullmatch("[a-z0-9_-]+(:[a-z0-9_-]+)?", value) is None:
        raise DocumentError(app[:100], "names no repository where it should")
    return str(value)


def _digest(app: str, value: object) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str) or _DIGEST.fullmatch(value.lower()) is None:
        raise DocumentError(app[:100], f"holds {str(value)[:80]!r} where a SHA-256 should stand")
    return value.lower()


class _Reader:
    """Reads terms off the tokens, one ahead."""

    def __init__(self, text: str) -> None:
        self._tokens = self._tokenize(text)
        self._line = 1
        self._kind, self._value = "", ""
        self._next()

    def lock(self) -> dict[str, Any]:
        """Read the map, which is all that may be there."""
        if not self._takes("%{"):
            self._fail("must be a map, as mix writes it: %{ ... }")
        found: dict[str, Any] = {}
        while not self._takes("}"):
            if self._kind != "key":
                self._fail('expected a key such as "jason":')
            name = self._value
            self._next()
            if name in found:
                self._fail(f"holds {name[:80]} twice")
            found[name] = self._term(1)
            self._separate("}")
        if self._kind:
            self._fail("goes on after the map")
        return found

    def _term(self, depth: int) -> Any:
        if depth > MAX_DEPTH:
            self._fail(f"is nested more than {MAX_DEPTH} deep")
        kind, value = self._kind, self._value
        if kind == "sign" and value in _CLOSING:
            self._next()
            return self._sequence(_CLOSING[value], depth)
        if kind not in ("text", "chars", "atom", "number", "word"):
            self._fail("expected a term")
        self._next()
        if kind == "word":
            if value not in _LITERALS:
                self._fail(f"{value[:40]} is no literal")
            return _LITERALS[value]
        if kind == "chars":
            return [ord(sign) for sign in value]
        return value if kind == "text" else _Atom(value) if kind == "atom" else float(value)

    def _sequence(self, closing: str, depth: int) -> Any:
        found: list[Any] = []
        has_keywords = False
        while not self._takes(closing):
            if self._kind == "key":
                name = _Atom(self._value)
                self._next()
                found.append((name, self._term(depth + 1)))
                has_keywords = True
            elif has_keywords:
                self._fail("expected a keyword after a keyword")
            else:
                found.append(self._term(depth + 1))
            self._separate(closing)
        if closing == "}" and has_keywords:
            self._fail("holds keywords in a tuple, which mix never writes")
        return tuple(found) if closing == "}" else found

    def _separate(self, closing: str) -> None:
        if not self._takes(",") and (self._kind, self._value) != ("sign", closing):
            self._fail(f"expected a comma or {closing}")

    def _takes(self, sign: str) -> bool:
        if (self._kind, self._value) != ("sign", sign):
            return False
        self._next()
        return True

    def _next(self) -> None:
        self._kind, self._value, self._line = next(self._tokens, ("", "", self._line))

    def _tokenize(self, text: str) -> Iterator[tuple[str, str, int]]:
        position, line = 0, 1
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None:
                raise DocumentError(f"line {line}", "holds something that is no literal term")
            position = match.end()
            for group in ("text", "sigil", "chars", "quoted", "word", "atom", "number", "sign"):
                if match[group] is not None:
                    yield (*self._token(group, match, line), line)
            line += match[0].count("\n")

    def _token(self, group: str, match: re.Match[str], line: int) -> tuple[str, str]:
        found = match[group]
        if group in ("word", "atom", "number", "sign"):
            return ("key" if match["word_key"] else group), found
        place = f"line {line}"
        text = _unescape(found.removesuffix('"') if group != "chars" else found, place)
        kinds = {"text": "key" if match["key"] else "text", "quoted": "atom"}
        if kinds.get(group) in ("key", "atom") and len(text) > MAX_ATOM:
            raise DocumentError(place, "holds an atom that is longer than Elixir's may be")
        return kinds.get(group, "chars"), text

    def _fail(self, problem: str) -> NoReturn:
        raise DocumentError(f"line {self._line}", problem)


def _unescape(text: str, place: str) -> str:
    """A quoted text without its escapes, as Elixir reads it."""

    def replace(match: re.Match[str]) -> str:
        byte, four, braced, newline, other = match.groups()
        if newline is not None:
            return ""
        if other is not None:
            if other in "xu":
                raise DocumentError(place, "holds an escape that Elixir does not know")
            return _ESCAPES.get(other, other)
        code = int(byte or four or braced, 16)
        if (byte is not None and code > 0x7F) or 0xD800 <= code <= 0xDFFF or code > 0x10FFFF:
            raise DocumentError(place, "holds an escape that is no character")
        return chr(code)

    return _ESCAPE.sub(replace, text)

"""``mix.lock``: which packages a project uses, and the digests that they had when it was written.

The file is an Elixir map of literal terms. They are read, never evaluated: texts, atoms, numbers, lists, tuples, maps
and keywords; anything else (a call, an interpolation) is a fault with its line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

from kedge.documents import DocumentError

MAX_DEPTH = 32
NAME = "[a-z][a-z0-9_]{0,199}"
"""What a package may be called."""

_VERSION = "[0-9A-Za-z][0-9A-Za-z.+-]{0,199}"
_TOKEN = re.compile(
    r"""(?P<space>(?:\s|\#[^\n]*)+)
    |(?P<text>"(?:[^"\\\#]|\\.|\#(?!\{))*")(?P<key>:(?=\s))?
    |(?P<word>[A-Za-z_][A-Za-z0-9_@]*[?!]?)(?P<word_key>:(?=\s))?
    |(?P<atom>:(?:[A-Za-z_][A-Za-z0-9_@]*[?!]?|"(?:[^"\\\#]|\\.|\#(?!\{))*"))
    |(?P<number>-?[0-9][0-9_]*(?:\.[0-9]+)?)
    |(?P<sign>%\{|=>|[][{},])""",
    re.VERBOSE | re.ASCII,
)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "s": " ", "0": "\0", "e": "\x1b"}
_LITERALS = {"true": True, "false": False, "nil": None}
_CLOSING = {"%{": "}", "{": "}", "[": "]"}
_DIGEST = re.compile("[0-9a-f]{64}")


class _Atom(str):
    """An atom, which is not the text of the same letters."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Locked:
    """One package as it is locked. ``kind`` is ``hex``, or where else it comes from (``git``, ``path``).

    ``repository`` is the Hex repository's name (``hexpm``, ``hexpm:acme`` for an organisation); the digests are in
    hexadecimal, None where the lock file is older than they are.
    """

    app: str
    kind: str
    name: str = ""
    version: str = ""
    repository: str = ""
    inner: str | None = None
    outer: str | None = None


def read_lock(data: bytes) -> tuple[Locked, ...]:
    """Read a lock file.

    Raises:
        DocumentError: it is none; the path names the line, or the package.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DocumentError("", f"is not UTF-8 (byte {error.start})") from error
    reader = _Reader(text)
    term = reader.term()
    reader.end()
    if not isinstance(term, dict):
        raise DocumentError("", "must be a map, as mix writes it: %{ ... }")
    return tuple(_locked(app, value) for app, value in term.items())


def _locked(app: object, value: object) -> Locked:
    if not isinstance(app, str) or not isinstance(value, tuple) or not value or not isinstance(value[0], _Atom):
        raise DocumentError(str(app)[:100], "must be a tuple that begins with where the package comes from")
    if value[0] != "hex":
        return Locked(app=str(app), kind=str(value[0]))
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
        repository=_repository(app, repository),
        inner=_digest(app, inner),
        outer=_digest(app, outer),
    )


def _repository(app: str, value: object) -> str:
    if value is None:
        return "hexpm"  # lock files from before there were other repositories
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

    def term(self, depth: int = 0) -> Any:
        """Read one term."""
        if depth > MAX_DEPTH:
            self._fail(f"is nested more than {MAX_DEPTH} deep")
        kind, value = self._kind, self._value
        if kind == "sign" and value in _CLOSING:
            self._next()
            return self._map(depth) if value == "%{" else self._sequence(_CLOSING[value], depth)
        if kind not in ("text", "atom", "number", "word"):
            self._fail("expected a term")
        self._next()
        if kind == "word":
            if value not in _LITERALS:
                self._fail(f"{value[:40]} is no literal")
            return _LITERALS[value]
        return value if kind == "text" else _Atom(value) if kind == "atom" else value

    def end(self) -> None:
        """Check that nothing follows."""
        if self._kind:
            self._fail("goes on after the map")

    def _map(self, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while not self._takes("}"):
            if self._kind == "key":
                name = self._value
                self._next()
            else:
                name = self.term(depth + 1)
                if not self._takes("=>"):
                    self._fail("expected => after a key of the map")
            if not isinstance(name, str):
                self._fail("expected a text or an atom as a key of the map")
            if name in found:
                self._fail(f"holds {name[:80]} twice")
            found[name] = self.term(depth + 1)
            self._separate("}")
        return found

    def _sequence(self, closing: str, depth: int) -> Any:
        found: list[Any] = []
        while not self._takes(closing):
            if self._kind == "key":
                name = _Atom(self._value)
                self._next()
                found.append((name, self.term(depth + 1)))
            else:
                found.append(self.term(depth + 1))
            self._separate(closing)
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
            group = match.lastgroup or ""
            if match["text"] is not None:
                yield ("key" if match["key"] else "text"), _unescape(match["text"][1:-1]), line
            elif match["word"] is not None:
                yield ("key" if match["word_key"] else "word"), match["word"], line
            elif match["atom"] is not None:
                name = match["atom"][1:]
                yield "atom", _unescape(name[1:-1]) if name.startswith('"') else name, line
            elif group != "space":
                yield group, match[0], line
            line += match[0].count("\n")

    def _fail(self, problem: str) -> NoReturn:
        raise DocumentError(f"line {self._line}", problem)


def _unescape(text: str) -> str:
    return re.sub(r"\\(.)", lambda match: _ESCAPES.get(match[1], match[1]), text, flags=re.DOTALL)

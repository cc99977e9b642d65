"""Strict reading of the YAML that package managers write into lockfiles, and of no other YAML.

Read are: block mappings and sequences, one entry a line; flow mappings and sequences on one line; plain and quoted
scalars on one line; literal and folded block scalars; ``? key`` for long keys; comments on lines of their own. What is
read means what YAML 1.2 says, so that any YAML reader that accepts it too gives the same values.

Invariants:

- Everything else is refused with its line: anchors, aliases, tags, merge keys, directives, tabs, comments behind a
  value, text over several lines, a key that stands twice, and characters that YAML tools escape (control characters,
  byte order marks, U+0085, U+2028, U+2029). Lines end with LF or CRLF.
- Plain numbers, booleans and nulls are such only in the form in which all YAML readers agree; what one reader takes for
  a number and another for a text is refused. Keys are texts.
- Linear in time; depth is at most ``MAX_DEPTH``.

Source: YAML 1.2.2; js-yaml's dumper (pnpm), Yarn's ``stringifySyml``, pub's ``yamlToString``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from kedge.documents import DocumentError

__all__ = ["YamlDocument", "load_yaml"]

MAX_DEPTH: Final = 32
_MAX_DIGITS: Final = 15
_NEVER_WRITTEN = re.compile("[^\n\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
_KEY_END = re.compile(r":(?= |$)")
_FLOW_END = re.compile(r"[,\[\]{}]|:(?= |$)")
_QUOTE_OR_ESCAPE = re.compile(r'["\\]')
_BLOCK_SCALAR = re.compile(r"([|>])(?:([1-9])([+-])?|([+-])([1-9])?)?")
_INDICATORS: Final = frozenset("-?:,[]{}#&*!|>'\"%@`")
_INTEGER = re.compile(r"0|-?[1-9][0-9]*")
_FRACTION = re.compile(r"-?(?:0|[1-9][0-9]*)\.[0-9]*[1-9]")
_KNOWN: Final = {"true": True, "false": False, "null": None}
# What YAML 1.1, 1.2 or js-yaml take for something other than a text, or differ about.
_AMBIGUOUS = re.compile(
    r"[-+]?[0-9][0-9_]*|[-+]?0[bBoOxX][0-9a-fA-F_]+|[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9_]+)(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+|[-+]?[0-9][0-9_]*:[0-5]?[0-9][0-9:.]*|[-+]?\.(?:inf|nan)|~|=|<<"
    r"|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt ].*)?|true|false|null",
    re.IGNORECASE,
)
_ESCAPES: Final = {
    "0": "\0", "a": "\a", "b": "\b", "t": "\t", "n": "\n", "v": "\v", "f": "\f", "r": "\r", "e": "\x1b",
    '"': '"', "/": "/", "\\": "\\", "N": "\x85", "_": "\xa0", "L": "\u2028", "P": "\u2029",
}  # fmt: skip
_HEX_ESCAPES: Final = {"x": 2, "u": 4, "U": 8}


@dataclass(frozen=True, slots=True, kw_only=True)
class YamlDocument:
    """One document. ``value`` is made of dict, list, str, int, float, bool and None.

    ``lines`` has the line of each key of the outermost mapping, ``("packages",)``, and of the mappings inside it,
    ``("packages", "lodash@4.17.21")``.
    """

    value: dict[str, Any]
    lines: Mapping[tuple[str, ...], int]


def load_yaml(text: str, *, as_texts: bool = False) -> list[YamlDocument]:
    """Read every document of a YAML text; each begins with a mapping, and ``---`` stands between two.

    ``as_texts`` takes each plain scalar for a text, ``8`` and ``true`` too (YAML's failsafe schema).

    Raises:
        DocumentError: it is not YAML, or uses more of YAML than lockfiles do. The path is the line.
    """
    text = text.replace("\r\n", "\n")
    odd = _NEVER_WRITTEN.search(text)
    if odd is not None:
        number = text.count("\n", 0, odd.start()) + 1
        raise DocumentError(f"line {number}", f"holds the character U+{ord(odd[0]):04X}, which no lockfile needs")
    reader = _Reader(text.split("\n"), as_texts=as_texts)
    return list(reader.documents())


class _Reader:
    """Reads line by line; ``_at`` is the line that is read next, ``_indent`` its indentation."""

    def __init__(self, lines: list[str], *, as_texts: bool) -> None:
        self._lines = lines
        self._as_texts = as_texts
        self._at = 0
        self._indent = 0
        self._depth = 0
        self._found: dict[tuple[str, ...], int] = {}
        self._inside: str | None = None

    def documents(self) -> Iterator[YamlDocument]:
        self._skip_marker()
        while True:
            if self._at == len(self._lines) or self._lines[self._at] == "---":
                self._fail("is where a mapping must begin (is the file cut off?)")
            if self._indent:
                self._fail("is indented, and belongs to nothing")
            self._found = {}
            value = self._mapping(0)
            yield YamlDocument(value=value, lines=self._found)
            if self._at == len(self._lines):
                return
            if not self._skip_marker():
                self._fail("is not indented as the lines above it")

    def _skip_marker(self) -> bool:
        """Pass over the line ``---``, if it is next; whether it was."""
        self._go_on()
        marked = self._at < len(self._lines) and self._lines[self._at] == "---"
        if marked:
            self._at += 1
            self._go_on()
        return marked

    def _go_on(self) -> None:
        """Pass over blank lines and comments; past the last line, the indentation is -1."""
        lines = self._lines
        while self._at < len(lines):
            line = lines[self._at]
            content = line.lstrip(" ")
            if content and content[0] != "#":
                self._indent = len(line) - len(content)
                return
            self._at += 1
        self._indent = -1

    def _fail(self, problem: str) -> NoReturn:
        raise self._fault(problem)

    def _fault(self, problem: str) -> DocumentError:
        return DocumentError(f"line {min(self._at + 1, len(self._lines))}", problem)

    def _enter(self) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            self._fail(f"is nested more than {MAX_DEPTH} deep")

    def _mapping(self, indent: int) -> dict[str, Any]:
        self._enter()
        table: dict[str, Any] = {}
        while self._indent == indent:
            line = self._lines[self._at]
            if line == "---":
                break
            key, rest = self._key(line, indent)
            if key in table:
                self._fail(f"holds the key {key[:80]!a} twice in one mapping")
            if self._depth == 1:
                self._inside = key
                self._found[(key,)] = self._at + 1
            elif self._depth == 2 and self._inside is not None:
                self._found[self._inside, key] = self._at + 1
            if rest is None:
                table[key] = self._explicit(indent)
            elif rest:
                table[key] = self._value(rest, indent)
            else:
                self._at += 1
                self._go_on()
                table[key] = self._nested(indent)
        if self._indent > indent:
            self._fail("is not indented as the lines above it, or continues a text, which lockfiles do not")
        self._depth -= 1
        return table

    def _key(self, line: str, indent: int) -> tuple[str, str | None]:
        """Split a line into its key and what follows; that is None for ``? key``, whose value is on the next line."""
        sign = line[indent]
        if sign in "\"'":
            key, end = self._quoted(line, indent)
            if not line.startswith(":", end):
                self._fail('must be "key: value"')
            return self._named(key), self._behind(line, end + 1)
        if line.startswith("? ", indent):
            content = line[indent + 2 :].strip(" ")
            if content[:1] in ("'", '"'):
                key, end = self._quoted(content, 0)
                if end != len(content):
                    self._fail("holds more than a key behind the question mark")
                return self._named(key), None
            return self._plain_key(content), None
        found = _KEY_END.search(line, indent)
        if found is None:
            self._fail('must be "key: value"')
        return self._plain_key(line[indent : found.start()].rstrip(" ")), self._behind(line, found.end())

    def _behind(self, line: str, at: int) -> str:
        rest = line[at:]
        if rest and rest[0] != " ":
            self._fail("must have a blank behind the colon of a key")
        return rest.strip(" ")

    def _plain_key(self, text: str) -> str:
        self._named(text)
        value = self._plain(text)
        if not self._as_texts and value != text and str(value) != text and text not in _KNOWN:
            self._fail(f"holds the key {text[:80]!a}, which YAML readers write in different ways")
        return text

    def _named(self, key: str) -> str:
        if key in ("<<", "__proto__"):
            self._fail(f"holds the key {key}, which no lockfile needs and which YAML readers treat in different ways")
        return key

    def _explicit(self, indent: int) -> Any:
        """The value of a ``? key``: behind a colon on the next line."""
        self._at += 1
        self._go_on()
        if self._indent != indent or self._lines[self._at][indent : indent + 2] not in (":", ": "):
            self._fail('must be ": value", for the "? key" above it')
        return self._item(indent)

    def _nested(self, indent: int) -> Any:
        """What is below a key: a mapping or a sequence that is indented more, or a sequence as deep as the key."""
        if self._indent >= indent and self._is_item():
            return self._sequence(self._indent)
        if self._indent > indent:
            return self._mapping(self._indent)
        return None

    def _is_item(self) -> bool:
        return self._lines[self._at][self._indent : self._indent + 2] in ("- ", "-")

    def _sequence(self, indent: int) -> list[Any]:
        self._enter()
        items: list[Any] = []
        while self._indent == indent and self._is_item():
            items.append(self._item(indent))
        if self._indent > indent:
            self._fail("is not indented as the lines above it, or continues a text, which lockfiles do not")
        self._depth -= 1
        return items

    def _item(self, indent: int) -> Any:
        """What follows the indicator ``-`` or ``:`` of a line, or is below it."""
        line = self._lines[self._at]
        rest = line[indent + 1 :].strip(" ")
        if not rest or rest[0] == "#":
            if rest:
                self._fail("holds a comment behind a value, which lockfiles do not")
            self._at += 1
            self._go_on()
            if self._indent <= indent:
                return None
            return self._sequence(self._indent) if self._is_item() else self._mapping(self._indent)
        if rest[0] in "{[|>" or not self._is_entry(rest):
            return self._value(rest, indent)
        # A mapping or a sequence that begins on this line: as if the indicator were a blank.
        self._lines[self._at] = f"{' ' * (indent + 1)}{line[indent + 1 :]}"
        self._go_on()
        return self._sequence(self._indent) if self._is_item() else self._mapping(self._indent)

    def _is_entry(self, content: str) -> bool:
        if content[0] in "\"'":
            return self._quoted(content, 0)[1] < len(content)
        return content.startswith(("- ", "? ")) or content == "-" or _KEY_END.search(content) is not None

    def _value(self, text: str, indent: int) -> Any:
        """The value that begins on this line, and all of its lines."""
        sign = text[0]
        if sign in "|>":
            header = _BLOCK_SCALAR.fullmatch(text)
            if header is None:
                self._fail("begins a text over several lines in a way that lockfiles do not")
            size = int(header[2] or header[5] or 0)
            return self._block_scalar(indent, size, folded=sign == ">", chomp=header[3] or header[4])
        if sign in "{[":
            value, end = self._flow(text, 0)
            if end != len(text):
                self._fail("holds more than one value")
        elif sign in "\"'":
            value, end = self._quoted(text, 0)
            if end != len(text):
                self._fail("holds more than one value")
        else:
            value = self._plain(text)
        self._at += 1
        self._go_on()
        return value

    def _plain(self, text: str) -> Any:
        """What a plain scalar stands for."""
        if not text or (text[0] in _INDICATORS and not (text[0] == "-" and text[1:2].isdecimal())):
            what = _WHAT.get(text[:1], "a value")
            self._fail(f"holds {what} that lockfiles do not: {text[:60]!a}")
        if " #" in text or text[-1] == ":" or ": " in text:
            self._fail(f"holds a comment or a key inside of a value: {text[:60]!a}")
        if self._as_texts:
            return text
        if text in _KNOWN:
            return _KNOWN[text]
        if _AMBIGUOUS.fullmatch(text) is None:
            return text
        if len(text) <= _MAX_DIGITS:
            if _INTEGER.fullmatch(text):
                return int(text)
            if _FRACTION.fullmatch(text):
                return float(text)
        raise self._fault(f"holds {text[:60]!a}, which YAML readers take for different values")

    def _quoted(self, text: str, at: int) -> tuple[str, int]:
        """Read the quoted scalar that begins at ``at``; also gives where it ends."""
        if text[at] == "'":
            end = text.find("'", at + 1)
            while end >= 0 and text.startswith("'", end + 1):
                end = text.find("'", end + 2)
            if end < 0:
                self._fail("holds a text whose quote does not end on this line")
            return text[at + 1 : end].replace("''", "'"), end + 1
        parts: list[str] = []
        at += 1
        while found := _QUOTE_OR_ESCAPE.search(text, at):
            parts.append(text[at : found.start()])
            if found[0] == '"':
                return "".join(parts), found.end()
            sign, at = text[found.end() : found.end() + 1], found.end() + 1
            if sign in _HEX_ESCAPES:
                digits = text[at : at + _HEX_ESCAPES[sign]]
                at += _HEX_ESCAPES[sign]
                if _HEX.fullmatch(digits) is None or len(digits) != _HEX_ESCAPES[sign]:
                    self._fail(f"holds an escape that is not right: \\{sign}{digits}")
                code = int(digits, 16)
                if 0xD800 <= code < 0xE000 or code > 0x10FFFF:
                    self._fail(f"holds an escape of something that is not a character: \\{sign}{digits}")
                parts.append(chr(code))
            elif sign in _ESCAPES and sign:
                parts.append(_ESCAPES[sign])
            else:
                self._fail(f"holds an escape that is not right: \\{sign}")
        raise self._fault("holds a text whose quote does not end on this line")

    def _flow(self, text: str, at: int) -> tuple[Any, int]:
        """Read the value that begins at ``at`` inside of braces or brackets; also gives where it ends."""
        sign = text[at : at + 1]
        if sign in ("'", '"'):
            return self._quoted(text, at)
        if sign in ("{", "["):
            self._enter()
            table: dict[str, Any] = {}
            items: list[Any] = []
            close = "}" if sign == "{" else "]"
            at = _past_blanks(text, at + 1)
            while not text.startswith(close, at):
                if table or items:
                    if not text.startswith(",", at):
                        self._fail(f'must have "," or "{close}" between values in "{sign}{close}"')
                    at = _past_blanks(text, at + 1)
                if sign == "[":
                    item, at = self._flow(text, at)
                    items.append(item)
                else:
                    at = self._flow_pair(text, at, table)
                at = _past_blanks(text, at)
            self._depth -= 1
            return (table if sign == "{" else items), at + 1
        found = _FLOW_END.search(text, at)
        end = found.start() if found is not None else len(text)
        return self._plain(text[at:end].rstrip(" ")), end

    def _flow_pair(self, text: str, at: int, table: dict[str, Any]) -> int:
        if text[at : at + 1] in ("'", '"'):
            key, at = self._quoted(text, at)
            key = self._named(key)
        else:
            found = _FLOW_END.search(text, at)
            end = found.start() if found is not None else len(text)
            key, at = self._plain_key(text[at:end].rstrip(" ")), end
        if not text.startswith(": ", at):
            self._fail('must be "key: value" in braces')
        if key in table:
            self._fail(f"holds the key {key[:80]!a} twice in one mapping")
        table[key], at = self._flow(text, _past_blanks(text, at + 1))
        return at

    def _block_scalar(self, indent: int, size: int, *, folded: bool, chomp: str | None) -> str:
        """Read the lines of a literal or folded text; ``size`` is how much deeper they are, 0 if the first tells."""
        lines = self._lines
        self._at += 1
        deep = indent + size if size else self._text_indent(indent)
        margin, texts = " " * deep, []
        while self._at < len(lines):
            line = lines[self._at]
            if not line.startswith(margin) and line.strip(" "):
                break
            texts.append(line[deep:])
            self._at += 1
        if self._at == len(lines):
            if lines[-1]:
                self._fail("ends inside of a text (is the file cut off?)")
            if texts:
                texts.pop()  # behind the last line's end there is no line
        self._go_on()
        count = len(texts)
        while count and not texts[count - 1]:
            count -= 1
        ending = "" if chomp == "-" or not count else "\n"
        if chomp == "+":
            ending = "\n" * (len(texts) - count + (count > 0))
        return (_fold(texts[:count]) if folded else "\n".join(texts[:count])) + ending

    def _text_indent(self, indent: int) -> int:
        """How far the first line of a text is indented that is not blank."""
        lines, first = self._lines, self._at
        while first < len(lines) and not lines[first].strip(" "):
            first += 1
        deep = len(lines[first]) - len(lines[first].lstrip(" ")) if first < len(lines) else 0
        deep = max(deep, indent + 1)
        if any(len(lines[number]) > deep for number in range(self._at, first)):
            self._fail("begins with a blank line that is longer than the indentation")
        return deep


_HEX = re.compile("[0-9a-fA-F]+")
_WHAT: Final = {"&": "an anchor", "*": "an alias", "!": "a tag", "%": "a directive"}


def _past_blanks(text: str, at: int) -> int:
    while text.startswith(" ", at):
        at += 1
    return at


def _fold(lines: list[str]) -> str:
    """Fold lines as ``>`` does: a line end between two texts is a blank, except around lines that are indented more."""
    parts: list[str] = []
    empty, was_deeper = 0, False
    for line in lines:
        if not line:
            empty += 1
            continue
        is_deeper = line[0] == " "
        if not parts:
            parts.append("\n" * empty)
        elif is_deeper or was_deeper:
            parts.append("\n" * (empty + 1))
        else:
            parts.append("\n" * empty or " ")
        parts.append(line)
        empty, was_deeper = 0, is_deeper
    return "".join(parts)

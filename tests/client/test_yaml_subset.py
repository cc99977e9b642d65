"""The YAML of lockfiles: what is read is what YAML says, and everything else is refused with its line."""

from __future__ import annotations

import contextlib
import re
import time
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kedge.documents import DocumentError
from kedge.yaml_subset import MAX_DEPTH, load_yaml

SAMPLES = [
    "a: 1\nb: true\nc: null\nd:\ne: ~x\nf: 1.0.0\ng: 5.4\nh: -3\n",
    '# comment\r\na:\r\n  b: \'it\'\'s\'\r\n\r\n  # another\r\n  "c d": "x\\u00e9\\t\\""\r\n',
    "a:\n  - x\n  - y: 1\n    z: 2\n  -\n    q: r\n  - - 1\n    - 2\nb:\n- c\n- d\n",
    "a: {b: c, 'd e': [f, \"g\"], h: {}, i: []}\nj: {  k: l  ,  m: https://n/o?p#q }\n",
    "? long\n: resolution: {integrity: abc}\n  x: y\n? 'k'\n:\n  v: w\n? z\n: {}\n",
    "a: |\n  one\n   two\n\n  three\n\n\nb: |-\n    four\nc: |+\n  five\n\n",
    "d: >\n  six\n  seven\n\n  eight\n    nine\n  ten\n",
    "a:\n  - |2-\n     x\n    y\n  - >-\n    p\n    q\nb: >+\n\n  r\n\n",
    "---\na: 1\n---\nb: 2\n",
]
ODD_TEXTS = [
    "a",
    "b c",
    "1",
    "1.10",
    "0x1",
    "1e3",
    "true",
    "True",
    "yes",
    "null",
    "~",
    "=",
    "<<",
    ".",
    "..",
    "-",
    "- a",
    "-a",
    "?",
    "? a",
    ":",
    ": a",
    "a:b",
    "a: b",
    "a:",
    "#",
    "a #b",
    "a#b",
    "'",
    '"',
    "''",
    '"a',
    "{",
    "}",
    "{}",
    "[",
    "]",
    "[]",
    "{a: b}",
    "[a]",
    "{a: b}x",
    ",",
    "&a",
    "*a",
    "!a",
    "!!str a",
    "|",
    ">",
    "|-",
    "|x",
    "|2",
    "%a",
    "@a",
    "`",
    "---",
    "...",
    "\t",
    "\u2028",
    "\x85",
    "\xa0",
    "\ufeff",
    "\r",
    "2024-01-01",
    "12:30:45",
    "1_000",
    ".5",
    "+1",
    "é",
    "x{y",
    "x,y",
    "x]",
    '"a\\x41"',
    '"\\ud800"',
    '"\\q"',
    "'a' b",
    "a 'b'",
    "",
    " ",
    "  ",
    "__proto__",
]


def read(text: str) -> list[Any]:
    """The texts that our reader gives."""
    return [document.value for document in load_yaml(text, as_texts=True)]


def as_pyyaml(text: str) -> list[Any]:
    """The texts that PyYAML gives; an empty value is none."""

    def plain(node: Any) -> Any:
        if isinstance(node, yaml.MappingNode):
            return {key.value: plain(value) for key, value in node.value}
        if isinstance(node, yaml.SequenceNode):
            return [plain(value) for value in node.value]
        return None if node.value == "" and node.style is None else node.value

    return [plain(node) for node in yaml.compose_all(text, Loader=yaml.BaseLoader)]


def agree(text: str, found: list[Any]) -> bool:
    """Whether PyYAML reads the same; of a question mark in braces it reads YAML 1.1, where that ends a text."""
    try:
        return found == as_pyyaml(text)
    except yaml.YAMLError:
        return re.search(r"[{\[].*\?", text) is not None


@pytest.mark.parametrize("text", SAMPLES)
def test_what_lockfiles_hold_is_read_as_yaml_reads_it(text: str) -> None:
    assert agree(text, read(text))


@st.composite
def documents(draw: st.DrawFn) -> str:
    """Lines that look like YAML: some are, some nearly."""
    scalar = st.sampled_from(ODD_TEXTS) | st.text("ab:-#'\"{}[], ", max_size=8)
    lines: list[str] = []
    for _ in range(draw(st.integers(1, 8))):
        margin = " " * draw(st.sampled_from([0, 0, 2, 2, 4, 1, 3]))
        form = draw(
            st.sampled_from(["{}: {}", "{}: {}", "{}:", "- {}", "- {}: {}", "? {}", ": {}", "{}", "'{}': {}", ""])
        )
        form = draw(st.sampled_from([form, form, form, "{}: [{}]", "{}: {{{}: {}}}", "{}: {{{}: {}, {}: {}}}"]))
        lines.append(margin + form.format(*(draw(scalar) for _ in range(5))))
    return draw(st.sampled_from(["\n", "\n", "\r\n"])).join(lines) + draw(st.sampled_from(["", "\n", "\n\n"]))


@settings(max_examples=1000, deadline=None)
@given(text=documents())
@example(text="a: |\n\n  x\n \n")
@example(text="a: |\n  x\n    \n  y\n   \n")
@example(text="a: >-\n  x\n\n\n   y\n  z")
def test_whatever_is_read_is_read_as_yaml_reads_it(text: str) -> None:
    try:
        found = read(text)
    except DocumentError as error:
        problem = str(error)
    else:
        problem = "line 0" if agree(text, found) else "differs"
    assert problem.startswith("line ")
    assert "\n" not in problem


@settings(max_examples=1000, deadline=None)
@given(
    sample=st.sampled_from(SAMPLES),
    at=st.integers(0, 200),
    cut=st.integers(0, 6),
    insert=st.sampled_from([*ODD_TEXTS, "\n", "\n\n", "\n  ", "  ", "\n- ", "\n  b: ", "\r"]),
)
def test_a_change_of_what_is_read_is_read_as_yaml_reads_it_or_refused(
    sample: str, at: int, cut: int, insert: str
) -> None:
    at %= len(sample)
    text = sample[:at] + insert + sample[at + cut :]
    try:
        found = read(text)
    except DocumentError:
        return
    assert agree(text, found)


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**12), 10**12)
    | st.text(st.characters(codec="utf-8"), max_size=12)
    | st.sampled_from(ODD_TEXTS),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("ab1.:@^/ ", min_size=1, max_size=6), inner, max_size=3)
    ),
    max_leaves=12,
)


@settings(max_examples=400, deadline=None)
@given(value=st.dictionaries(st.text("ab1.:@^/ ", min_size=1, max_size=6), values, min_size=1, max_size=3))
def test_what_a_yaml_writer_writes_is_read_as_the_value_that_it_is_or_refused(value: dict[str, Any]) -> None:
    text = yaml.safe_dump(value, allow_unicode=True, width=10**6, sort_keys=False)
    try:
        found = [document.value for document in load_yaml(text)]
    except DocumentError:
        return
    assert found == [value]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("0", 0),
        ("-12", -12),
        ("5.4", 5.4),
        ("true", True),
        ("false", False),
        ("null", None),
        ("1.0.0", "1.0.0"),
        ("yes", "yes"),
        ("on", "on"),
        (".", "."),
        ("'1'", "1"),
        ('"true"', "true"),
        ("9.0-x", "9.0-x"),
        ("1 || 2", "1 || 2"),
        ("12ab", "12ab"),
        ("18.x", "18.x"),
        (">=1", None),
        ("'>=1'", ">=1"),
    ],
)
def test_plain_values_are_what_js_yaml_takes_them_for(text: str, value: object) -> None:
    if value is None and text != "null":
        with pytest.raises(DocumentError):
            load_yaml(f"a: {text}")
        return
    (document,) = load_yaml(f"a: {text}\nb: [{text}]")
    assert document.value == {"a": value, "b": [value]}
    assert type(document.value["a"]) is type(value)


@pytest.mark.parametrize(
    "text",
    [
        "01",
        "0o7",
        "0x10",
        "0b1",
        "1_000",
        "1e3",
        "1.",
        "1.10",
        ".5",
        "+1",
        "+1.5",
        "1:30",
        "190:20:30",
        ".inf",
        "-.inf",
        ".nan",
        ".NaN",
        "2024-01-01",
        "2024-1-1 12:00:00",
        "True",
        "FALSE",
        "Null",
        "~",
        "=",
        "<<",
        "1234567890123456",
        "0.1234567890123456",
    ],
)
@pytest.mark.parametrize("form", ["a: {}", "a: [{}]", "a: {{b: {}}}", "a:\n  - {}", "? a\n: {}"])
def test_what_readers_take_for_different_values_is_refused(form: str, text: str) -> None:
    with pytest.raises(DocumentError, match=r"different values|lockfiles do not"):
        load_yaml(form.format(text))


def test_keys_are_texts() -> None:
    (document,) = load_yaml("1: a\n5.4: b\ntrue: c\nnull: d\n{}: e\n".replace("{}", "'x'"))
    assert document.value == {"1": "a", "5.4": "b", "true": "c", "null": "d", "x": "e"}


REFUSED = [
    ("a: &b {}\n", "line 1: holds an anchor"),
    ("a: *b\n", "line 1: holds an alias"),
    ("a: !!str b\n", "line 1: holds a tag"),
    ("%YAML 1.2\n---\na: b\n", 'line 1: must be "key: value"'),
    ("a: b\n...\n", 'line 2: must be "key: value"'),
    ("a:\n  <<: {b: c}\n", "line 2: holds the key <<"),
    ("a:\n  '<<': {b: c}\n", "line 2: holds the key <<"),
    ("a: {<<: {b: c}}\n", "line 1: holds the key <<"),
    ("a:\n  __proto__: {}\n", "line 2: holds the key __proto__"),
    ("a: b\na: c\n", "line 2: holds the key 'a' twice"),
    ("a: b\n'a': c\n", "line 2: holds the key 'a' twice"),
    ("a: {b: c, b: d}\n", "line 1: holds the key 'b' twice"),
    ("? a\n: b\n? a\n: c\n", "line 3: holds the key 'a' twice"),
    ("a: b # c\n", "line 1: holds a comment"),
    ("a: b\n  c\n", "line 2: is not indented"),
    ("a:\n  b\n", 'line 2: must be "key: value"'),
    ("a:\n    b: c\n  d: e\n", "line 3: is not indented"),
    (" a: b\n", "line 1: is indented"),
    ("a:\n\tb: c\n", "line 2: holds the character U+0009"),
    ("a: b\rc: d\n", "line 1: holds the character U+000D"),
    ("a: b\u2028c: d\n", "line 1: holds the character U+2028"),
    ("a: b\u2029c: d\n", "line 1: holds the character U+2029"),
    ("a: b\u0085c: d\n", "line 1: holds the character U+0085"),
    ("\ufeffa: b\n", "line 1: holds the character U+FEFF"),
    ("a: \x00\n", "line 1: holds the character U+0000"),
    ("", "line 1: is where a mapping must begin"),
    ("# only\n", "is where a mapping must begin"),
    ("---\n", "is where a mapping must begin"),
    ("a: b\n---\n", "is where a mapping must begin"),
    ("[a]\n", 'line 1: must be "key: value"'),
    ("a: {b: c\n", "line 1: must have"),
    ("a: {b: c,}\n", "line 1: holds"),
    ("a: {b}\n", 'line 1: must be "key: value" in braces'),
    ("a: {b:c}\n", 'line 1: must be "key: value" in braces'),
    ('a: {"b":c}\n', 'line 1: must be "key: value" in braces'),
    ("a: [b: c]\n", "line 1: must have"),
    ("a: 'b\n", "line 1: holds a text whose quote does not end"),
    ('a: "b\n', "line 1: holds a text whose quote does not end"),
    ('a: "\\ud83d\\ude00"\n', "line 1: holds an escape of something that is not a character"),
    ('a: "\\U00110000"\n', "line 1: holds an escape of something that is not a character"),
    ('a: "\\x4"\n', "line 1: holds an escape that is not right"),
    ("a: 'b' c\n", "line 1: holds more than one value"),
    ("'a' : b\n", 'line 1: must be "key: value"'),
    ("? a\nb: c\n", 'line 2: must be ": value"'),
    ("a: |x\n  b\n", "line 1: begins a text over several lines"),
    ("a: |\n  b", "line 2: ends inside of a text"),
    ("a: |\n    \n  b\n", "line 2: begins with a blank line"),
    ("a:\n" + "".join(f"{' ' * n}b:\n" for n in range(1, 40)), f"is nested more than {MAX_DEPTH} deep"),
    (f"a: {'[' * 5000}\n", f"is nested more than {MAX_DEPTH} deep"),
    (f"a:\n  {'- ' * 5000}b\n", f"is nested more than {MAX_DEPTH} deep"),
]


@pytest.mark.parametrize(("text", "problem"), REFUSED)
def test_what_lockfiles_do_not_hold_is_refused_with_its_line(text: str, problem: str) -> None:
    with pytest.raises(DocumentError) as caught:
        load_yaml(text)
    assert problem in str(caught.value)


def test_lines_of_the_first_two_levels_are_known() -> None:
    (document,) = load_yaml("a:\n\n  b: c\n  d:\n    e: f\n? g\n: h: i\n")
    assert document.lines == {("a",): 1, ("a", "b"): 3, ("a", "d"): 4, ("g",): 6, ("g", "h"): 7}


WORST = [
    "- " * 30,
    "a: 'b\n",
    "a: " + "[" * 20,
    "\n",
    " \n",
    "# x\n",
    "a: |\n \n",
    "k: 'a''",
    '"\\',
    "? a\n: b\n",
    "a:b:",
    "  - |\n",
    "a: {b: c, ",
    "1_1_1_1",
    "1:1:1:1",
    "''",
    "a: >\n\n\n b\n",
]


@pytest.mark.parametrize("piece", WORST)
def test_time_grows_with_the_size_only(piece: str) -> None:
    def seconds(size: int) -> float:
        text = "x: " + piece * (size // len(piece))
        began = time.process_time()
        for head in ("", "a: \n", 'a: "', "a:\n  ? '"):
            with contextlib.suppress(DocumentError):
                load_yaml(head + text)
        return time.process_time() - began

    small = max(seconds(250_000), 0.02)
    assert seconds(1_000_000) < small * 12

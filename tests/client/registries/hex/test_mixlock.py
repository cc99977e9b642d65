"""``mix.lock``: Elixir's literal terms, read and never evaluated."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedge.documents import DocumentError
from kedge.registries.hex.mixlock import Locked, read_lock

INNER, OUTER = "a" * 64, "b" * 64
LOCK = f"""%{{
  "exfmt": {{:hex, :exfmt, "0.5.0", "{INNER}", [:mix], [], "hexpm", "{OUTER}"}},
  "plug": {{:hex, :plug, "1.16.1", "{INNER.upper()}", [:mix],
    [{{:mime, "~> 1.0 or ~> 2.0", [hex: :mime, repo: "hexpm", optional: false]}}], "hexpm:acme", "{OUTER}"}},
  "old": {{:hex, :old_name, "0.1.0", "{INNER}", [:mix, :"rebar3"], []}},
  "ancient": {{:hex, :ancient, "0.0.1"}},
  "git": {{:git, "https://git.example/git.git", "{"c" * 40}", [ref: "main"]}}, # a comment
}}
"""


def test_a_lock_file_is_read_with_what_its_age_holds() -> None:
    assert read_lock(LOCK.encode()) == (
        Locked(app="exfmt", kind="hex", name="exfmt", version="0.5.0", repository="hexpm", inner=INNER, outer=OUTER),
        Locked(
            app="plug", kind="hex", name="plug", version="1.16.1", repository="hexpm:acme", inner=INNER, outer=OUTER
        ),
        Locked(app="old", kind="hex", name="old_name", version="0.1.0", repository="hexpm", inner=INNER),
        Locked(app="ancient", kind="hex", name="ancient", version="0.0.1", repository="hexpm"),
        Locked(app="git", kind="git"),
    )
    assert read_lock(b"%{}\n") == ()
    assert read_lock(b'\xef\xbb\xbf%{a: {:path, "../a"}}') == (Locked(app="a", kind="path"),)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "line 1: expected a term"),
        ("[]", "must be a map"),
        ("%{} %{}", "goes on after the map"),
        ('%{"a": {:hex, :a, "1"}, "a": {:hex, :a, "2"}}', "holds a twice"),
        ('%{"a" => {:hex, :a, "1.0"}, "b": 1}', "b: must be a tuple"),
        ('%{"a": {}}', "a: must be a tuple"),
        ('%{"a": {"hex", :a, "1"}}', "a: must be a tuple"),
        ('%{"a": {:hex, :a}}', "a: names no version"),
        ('%{"a": {:hex, :a, "../1"}}', "a: names no version"),
        ('%{"a": {:hex, "../a", "1.0"}}', "a: names no name"),
        ('%{"a": {:hex, :a, "1.0", "abc"}}', "holds 'abc' where a SHA-256 should stand"),
        ('%{"a": {:hex, :a, "1.0", nil, [], [], :"../x"}}', "a: names no repository"),
        ('%{\n"a": System.cmd("x")}', "line 2: holds something that is no literal term"),
        ('%{\n"a": self}', "line 2: self is no literal"),
        ('%{"a": "#{1}"}', "holds something that is no literal term"),
        ('%{"a": {:hex', "line 1: expected a comma or }"),
        ('%{"a" {:hex, :a, "1"}}', "expected => after a key"),
        ("%{1 => 2", "expected a comma"),
        ("[" * 40, "is nested more than 32 deep"),
    ],
)
def test_a_lock_file_that_is_none_names_the_line_or_the_package(text: str, problem: str) -> None:
    with pytest.raises(DocumentError) as caught:
        read_lock(text.encode())
    assert problem in str(caught.value)


def test_a_lock_file_that_is_no_text_is_named() -> None:
    with pytest.raises(DocumentError, match="is not UTF-8"):
        read_lock(b"%{\xff}")


@given(st.text(alphabet='%{}[]"\\#:,=> \nahex1.', max_size=80))
def test_any_text_is_a_lock_file_or_a_named_fault(text: str) -> None:
    try:
        read_lock(text.encode())
    except DocumentError:
        return


@given(st.binary(max_size=80))
def test_any_bytes_are_a_lock_file_or_a_named_fault(data: bytes) -> None:
    try:
        read_lock(LOCK.encode() + data)
    except DocumentError:
        return

"""The user's exceptions: which sources they are for, and which no exception can name."""

from __future__ import annotations

from datetime import date

import pytest

from kedge.documents import DocumentError, Fields, load_toml
from kedge.errors import InputError
from kedge.registries import Allowances, parse_allowance, read_allowances
from kedge.registries.allowances import KINDS, plain_source

TODAY = date(2027, 6, 1)
TABLE = """
allow = [{ kind = "git", source = "github.com/corp/*", until = 2027-06-01, reason = "our own tools" }]
"""
ALLOWED = (
    "https://github.com/corp/tool",
    "https://github.com/corp/tool.git",
    "git+https://github.com/corp/tool.git#0123456",
    "git+ssh://git@github.com/corp/tool.git#v1",
    "ssh://git@github.com:22/corp/tool.git",
    "git@github.com:corp/tool.git",
    "github:corp/tool#main",
    "https://GitHub.com:443/corp/tool",
)
NOT_ALLOWED = (
    "https://github.com/corpse/tool",
    "https://github.com.evil.example/corp/tool",
    "https://evil.example/github.com/corp/tool",
    "https://github.com:x@evil.example/corp/tool",
    "https://github.com@evil.example/corp/tool",
    "https://github.com:444/corp/tool",
    "https://github.com/corp/../evil/tool",
    "https://github.com/corp/%2e%2e/evil/tool",
    "https://github.com/corp/..%2fevil/tool",
    "https://github.com\\@evil.example/corp/tool",
    "https://evil.example\\@github.com/corp/tool",
    "https://evil.example#@github.com/corp/tool",
    "https://evil.example?@github.com/corp/tool",
    "https://github.com/corp/../../evil",
    "https://github.com\t/corp/tool",
    "https:github.com/corp/tool",
    "file://github.com/corp/tool",
    "git@evil.example:github.com/corp/tool",
    "",
    "x" * 3000,
)


def allowances(*texts: str, today: date = TODAY) -> Allowances:
    return Allowances(entries=tuple(parse_allowance(text) for text in texts), today=today)


@pytest.mark.parametrize("source", ALLOWED)
def test_a_source_is_allowed_however_the_lock_file_writes_it(source: str) -> None:
    found = allowances("git=github.com/corp/*").find("git", source)
    assert found is not None
    assert found.source == "github.com/corp/*"


@pytest.mark.parametrize("source", NOT_ALLOWED)
def test_another_source_is_not_allowed_by_what_its_text_contains(source: str) -> None:
    assert allowances("git=github.com/corp/*").find("git", source) is None


def test_an_exception_is_for_its_own_kind_only() -> None:
    found = allowances("git=github.com/corp/*")
    assert [kind for kind in KINDS if found.find(kind, "https://github.com/corp/tool") is not None] == ["git"]


def test_folders_are_named_as_the_lock_file_names_them() -> None:
    found = allowances("local=../shared/*")
    assert found.find("local", "../shared/tool") is not None
    assert found.find("local", "file:../shared/tool") is not None
    assert found.find("local", "../shared/../other") is None
    assert found.find("local", "../../shared/tool") is None


def test_an_exception_counts_through_its_last_day_and_then_says_that_it_ended() -> None:
    entries = read_allowances(Fields(load_toml(TABLE)))
    source = "https://github.com/corp/tool"
    assert Allowances(entries=entries, today=date(2027, 6, 1)).find("git", source) == entries[0]
    later = Allowances(entries=entries, today=date(2027, 6, 2))
    assert later.find("git", source) is None
    assert "ended on 2027-06-01" in later.explain("git", source)


def test_a_failure_says_how_it_could_be_allowed_or_that_it_cannot() -> None:
    none = allowances()
    assert "--allow 'git=github.com/corp/tool'" in none.explain("git", "git+https://github.com/corp/tool.git#1")
    assert "no exception can name" in none.explain("git", "https://github.com/corp/../evil")


def test_what_a_failure_offers_does_allow_it() -> None:
    for source in ALLOWED:
        assert allowances(f"git={plain_source(source)}").find("git", source) is not None


@pytest.mark.parametrize("text", ["", "git", "git=", "=github.com", "gti=github.com", "git=a b", "git=[a]", "git=a?b"])
def test_an_option_that_is_no_exception_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="is no exception"):
        parse_allowance(text)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('kind = "git"', 'kind = "gti"'),
        ("until = 2027-06-01, ", ""),
        ("2027-06-01", "2027-06-01T00:00:00Z"),
        ("2027-06-01", '"2027-02-30"'),
        (', reason = "our own tools"', ""),
        ('reason = "our own tools"', 'reason = ""'),
        ("reason", "raeson"),
        ("github.com/corp/*", "github.com/[a-z]*"),
    ],
)
def test_an_entry_without_a_kind_a_day_or_a_reason_is_refused(old: str, new: str) -> None:
    with pytest.raises(DocumentError, match=r"allow\[0\]"):
        read_allowances(Fields(load_toml(TABLE.replace(old, new))))

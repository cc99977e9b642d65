"""Nobody owns kedge's name on a package index yet: nothing here may tell anybody to install it by that name."""

from __future__ import annotations

import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

HERE = "tests/docs/test_install.py"
INSTALLS = re.compile(r"(?:pip3?|pipx|uv tool|uv pip)\s+install\s+([^\n|;&`#]*)")
BARE = re.compile(r"kedge(\[[\w,]*\])?([<>=!~].*)?")


def bare_names(text: str) -> Iterator[str]:
    """The requirements of a text that name kedge and no place to have it from."""
    for match in INSTALLS.finditer(text):
        words = [word.strip("'\"") for word in match[1].split()]
        for word, following in zip(words, [*words[1:], ""], strict=True):
            if BARE.fullmatch(word) and following != "@":
                yield word


def texts(repository: Path) -> Iterator[tuple[str, str]]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=repository, capture_output=True, check=True).stdout.decode()
    for name in filter(None, listed.split("\0")):
        try:
            yield name, (repository / name).read_text()
        except (UnicodeDecodeError, FileNotFoundError, IsADirectoryError):
            continue


def test_nothing_is_installed_by_a_name_that_anybody_may_register(repository: Path) -> None:
    told = {name: list(bare_names(text)) for name, text in texts(repository) if name != HERE}
    assert {name: found for name, found in told.items() if found} == {}
    defaults = {
        name: re.findall(r"KEDGE_SOURCE\S*[:=-]+\s*['\"]?kedge", text)
        for name, text in texts(repository)
        if name.startswith("adapters/")
    }
    assert {name: found for name, found in defaults.items() if found} == {}


def test_the_search_finds_such_a_line_and_leaves_the_others() -> None:
    for line in (
        "pip install kedge",
        "pip install 'kedge[cli]'",
        "pipx install kedge",
        "pip install -q 'kedge[a,b]>=1'",
    ):
        assert list(bare_names(line)), line
    for line in ("pip install '.[cli]'", "pip install 'kedge[cli] @ file:///x.whl'", "pip install kedge-0.1.whl"):
        assert list(bare_names(line)) == [], line


def test_the_page_names_every_extra(repository: Path) -> None:
    offered = tomllib.loads((repository / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    page = (repository / "docs" / "install.md").read_text()
    table = page[page.index("## Extras") : page.index("## In a container")]
    rows = [line.split("|")[1] for line in table.splitlines() if "|" in line]
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == set(offered) - {"yaml"}

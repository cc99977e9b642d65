"""Every command that a page of the documentation shows is run, and what it shows must come out."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import Require
from docs.pages import Page, matches, play
from docs.worlds import world_of
from support.gnupg import need_gnupg
from support.stores import need_versitygw
from support.tokens import need_softhsm, need_ssh_agent

PAGES = (
    "tutorials/maintainer",
    "tutorials/verifier",
    "tutorials/airgap",
    "how-to/npm-behind-a-mirror",
    "how-to/ci",
    "how-to/apt-machines",
    "how-to/hex-projects",
    "how-to/provenance",
    "how-to/self-service",
    "how-to/watch",
    "how-to/nuget",
    "how-to/go",
    "how-to/pub-mirrors",
    "how-to/ceremony",
    "how-to/stolen-key",
    "how-to/hardware-keys",
    "how-to/many-targets",
    "how-to/transparency-log",
    "how-to/object-stores",
)
# Their commands are run by other tests, which hold the text of the page to them.
RUN_ELSEWHERE = ("how-to/corepack-in-docker", "how-to/sign-offline")

# The last two move the clock together with FAKETIME (make anyday).
KEPT = ("LANG", "LC_ALL", "TZ", "LD_PRELOAD", "PYTHONPATH")


@pytest.fixture
def environment(tmp_path: Path, require: Require) -> dict[str, str]:
    """A person's own machine: a home, a terminal of a hundred columns, and kedge on the PATH."""
    require(shutil.which("bash"), "bash is not installed")
    require(shutil.which("openssl"), "openssl is not installed")
    commands = Path(sys.executable).parent
    require((commands / "kedge-repo").exists(), "the commands are not installed")
    kept = {name: value for name, value in os.environ.items() if name in KEPT or name.startswith("FAKETIME")}
    folders = {name: str(tmp_path / "home" / name.lower()) for name in ("KEDGE_STATE_DIR", "KEDGE_CONFIG_DIR")}
    (tmp_path / "home").mkdir()
    path = f"{commands}{os.pathsep}{os.environ['PATH']}"
    return {**kept, **folders, "HOME": str(tmp_path / "home"), "PATH": path, "TERM": "dumb", "COLUMNS": "100"}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_does_what_it_shows(
    name: str, repository: Path, tmp_path: Path, environment: dict[str, str], require: Require
) -> None:
    text = (repository / "docs" / f"{name}.md").read_text()
    if "<!-- world: apt -->" in text:
        need_gnupg(require)
    if "<!-- world: tokens -->" in text:
        need_softhsm(require)
        need_ssh_agent(require)
    if "<!-- world: s3 -->" in text:
        need_versitygw(require)
    folder = tmp_path / "reader"
    folder.mkdir()
    with world_of(text, folder, environment) as names:
        page = Page.read(text, names)
        outcomes = play(page, folder, environment)
    for done, following in zip(outcomes, [*page.commands[1:], None], strict=False):
        place = f"{name}.md:{done.command.line}: $ {done.command.text}"
        may_fail = following is not None and following.asks_for_status
        assert may_fail or done.status == 0, f"{place}\nexit status {done.status}\n{done.output}"
        if done.command.expected is not None:
            assert matches(done.command.expected, done.output), f"{place}\n{done.output}"
    assert len(outcomes) == len(page.commands)


def test_the_pages_that_come_from_the_code_say_what_it_says(repository: Path) -> None:
    line = [sys.executable, str(repository / "docs" / "reference" / "generate.py"), "--check"]
    done = subprocess.run(line, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_page_with_something_to_type_is_run(repository: Path) -> None:
    docs = repository / "docs"
    found = {
        path.relative_to(docs).with_suffix("").as_posix()
        for path in docs.rglob("*.md")
        if path.parts[-2] in ("tutorials", "how-to") and Page.read(path.read_text()).commands
    }
    assert found == {*PAGES, *RUN_ELSEWHERE}


@pytest.mark.parametrize(
    ("expected", "output", "same"),
    [
        ("a\nb", "a\nb", True),
        ("a\n...\nc", "a\nb\nb\nc", True),
        ("a\n...\nc", "a\nc", True),
        ("a\n...", "a\nb\nc", True),
        ("...\nc", "a\nb\nc", True),
        ("code: ...", "code: XYZ", True),
        ("a", "b", False),
        ("a\n...\nc", "a\nb", False),
        ("a", "a\nb", False),
    ],
)
def test_three_dots_stand_for_anything_and_all_else_for_itself(expected: str, output: str, same: bool) -> None:
    assert matches(expected, output) is same

"""The report: one page that says everything, lets nothing run, and is read in a real browser, wide and narrow."""

from __future__ import annotations

import re
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner
from typer.testing import CliRunner

from conftest import Require
from kedge_repo._cli.app import app
from kedge_repo.audit.report import HEIGHT, WIDTH, Kind, bar, element, page, scale_for
from kedge_repo.audit.report_facts import ReportFacts, gather
from kedge_repo.events.changes import merge_event
from kedge_repo.events.plan import add_target
from kedge_repo.events.plan_keys import rotate_key
from repo_tools.ceremony import NPM, Ceremony
from support.chromium import Chromium, Page

OLD = "SHA256:jl3bwswu80PjjokCgh0o2w5c2U4LhQAE57gj9cz1kzA"
NEW = "SHA256:DhQ8wR5APBvFHLF/+Tc+AYvPOdTpcIDqOhxsBHRwC7U"
EVIL = "<script>document.title='owned'</script><img src='https://evil.example/'>"
NOW = datetime(2026, 8, 22, tzinfo=UTC)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Ceremony:
    """A repository with everything on its page: a rotation, a merged and an open event, a finding, another target."""
    made = Ceremony(tmp_path_factory.mktemp("report"), now=NOW - timedelta(days=100)).ready()
    made.signers["carol-2"] = CryptoSigner.generate_ed25519()
    made.change(lambda view: rotate_key(view, "carol", made.signers["carol-2"].public_key))
    made.sign("alice", "bob")
    merge_event(made.workspace, now=made.now + timedelta(days=6))
    made.change(lambda view: add_target(view, f"{NPM}/notes.txt", b"notes"))
    made.sign("npm-team")
    made.merge()
    made.now = NOW
    made.online()
    made.change(lambda view: add_target(view, f"{NPM}/more.txt", b"more"))
    (made.workspace.root / "metadata" / "junk.json").write_text("{}")
    return made


@pytest.fixture(scope="module")
def facts(workspace: Ceremony) -> ReportFacts:
    return gather(workspace.workspace, now=NOW)


def parsed(document: bytes) -> ET.Element:
    """The page as XML: what is written is well-formed, so that no element is left open by what somebody else wrote."""
    text = document.decode().removeprefix("<!DOCTYPE html>\n")
    return ET.fromstring(re.sub("<style>.*</style>", "<style/>", text, flags=re.DOTALL))


def words(document: bytes) -> str:
    return " ".join("".join(parsed(document).itertext()).split())


def test_the_page_says_what_there_is(facts: ReportFacts) -> None:
    said = words(page(facts))
    for text in (
        "Repository example",
        "The repository has findings.",
        "Version 2: 2 of 3 keys must sign, 2 did.",
        "root version 2until 2027-05-14, in 265 days",
        "days: by the policy, 1 event took less",
        f"{OLD}retired, npm:signatures1999-01-01 to 2025-01-29",
        f"{NEW}active, npm:attestations2025-01-13 to open",
        f"{NPM}/notes.txt",
        "registry.npmjs.org version 3: 0 of 1 that targets version 1 asks for; signed by nobody, missing npm-team",
        "kedge from root version 1, python-tuf from root version 1",
        "junk.jsonunreachable",
        "root 2alice, bob",
    ):
        assert text in said, text


def test_the_old_and_the_new_key_are_bars_on_one_scale(facts: ReportFacts) -> None:
    (registry,) = facts.registries
    assert registry.keys is not None
    document = parsed(page(facts))
    bars = [svg for svg in document.iter("svg") if "SHA256:" in svg.attrib["aria-label"]]
    kinds = [(svg.attrib["aria-label"].split(":")[1][:8], svg.find("rect").attrib["class"]) for svg in bars]  # type: ignore[union-attr] # each bar has a rect
    assert kinds == [(OLD[7:15], "retired")] * 2 + [(NEW[7:15], "active")] * 2
    nows = {line.attrib["x1"] for svg in bars for line in svg.iter("line") if line.attrib["class"] == "now"}
    assert len(nows) == 1


def test_bars_say_in_shape_what_they_say_in_colour() -> None:
    scale = scale_for(NOW, [NOW - timedelta(days=100), NOW + timedelta(days=300)])
    active, retired, revoked = (
        str(bar(scale, NOW - timedelta(days=100), NOW, kind, "a key"))
        for kind in (Kind.ACTIVE, Kind.RETIRED, Kind.REVOKED)
    )
    assert 'height="14"' in active
    assert 'height="6"' in retired
    assert "strike" in revoked
    assert "strike" not in retired
    assert scale.at(NOW - timedelta(days=99_999)) == 0
    assert scale.at(NOW + timedelta(days=99_999)) == WIDTH
    assert HEIGHT == 20


def test_what_others_wrote_is_text_and_nothing_else(facts: ReportFacts) -> None:
    owners = dict.fromkeys(facts.owners, EVIL)
    roles = tuple(
        replace(role, keys=tuple(replace(key, owner=EVIL, algorithm='" onload="x') for key in role.keys))
        for role in facts.roles
    )
    document = page(replace(facts, repository=EVIL, roles=roles, owners=owners, problem=None))
    assert b"<script" not in document
    assert b"<img" not in document
    assert EVIL in "".join(parsed(document).itertext())
    assert (
        str(element("p", "a\x00\x1b[2Jb", title='"<'))
        == '<p title="&quot;&lt;">a\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}[2Jb</p>'
    )


def test_a_workspace_that_does_not_verify_is_reported_on_with_its_audit(workspace: Ceremony, tmp_path: Path) -> None:
    shutil.copytree(workspace.folder, tmp_path / "copy")
    root = tmp_path / "copy" / "workspace"
    (root / "metadata" / "2.root.json").write_text("{}")
    (root / "metadata" / "1.targets.json").write_text("nothing")
    done = CliRunner().invoke(
        app, ["report", "-w", str(root), "-o", str(tmp_path / "r.html"), "--as-of", "2026-08-22T00:00:00Z"]
    )
    assert (done.exit_code, done.stdout) == (0, f"{tmp_path / 'r.html'}\n")
    said = words((tmp_path / "r.html").read_bytes())
    assert "The repository is broken: clients are refused." in said
    assert "The signed metadata cannot be relied on: metadata/2.root.json: " in said
    assert "2.root.jsonunreadable" in said
    assert "1.targets.jsonunreadable" in said


@pytest.fixture(scope="module")
def browser(require: Require, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    program = shutil.which("chromium")
    require(program, "chromium is not installed")
    assert program is not None
    with Chromium(program, tmp_path_factory.mktemp("chromium") / "profile") as opened:
        yield opened


@pytest.fixture(scope="module")
def file(facts: ReportFacts, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_bytes(page(facts))
    return path


SIZES = [(1200, False), (360, False), (1200, True), (360, True)]


@pytest.mark.parametrize(("width", "dark"), SIZES)
def test_a_browser_shows_it_wide_and_narrow_light_and_dark(
    browser: Chromium, file: Path, width: int, dark: bool
) -> None:
    shown = browser.open(file.as_uri(), width=width, dark=dark)
    assert shown.log == []
    assert shown.requests == [file.as_uri()]
    assert shown.evaluate("document.documentElement.scrollWidth <= innerWidth")
    background = shown.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert background == ("rgb(16, 20, 24)" if dark else "rgb(255, 255, 255)")
    assert shown.evaluate(CONTRASTS) == []
    assert shown.screenshot().startswith(b"\x89PNG")


# Every text against what lies behind it: WCAG 2.2 asks for 4.5 (SC 1.4.3).
CONTRASTS = """
(() => {
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const rgb = text => text.match(/[\\d.]+/g).map(Number);
  const behind = node => {
    for (; node; node = node.parentElement) {
      const colour = rgb(getComputedStyle(node).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const poor = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const node = texts.currentNode.parentElement;
    if (!texts.currentNode.textContent.trim()) continue;
    const [a, b] = [light(rgb(getComputedStyle(node).color)), light(behind(node))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) poor.push([texts.currentNode.textContent, ratio]);
  }
  return poor;
})()
"""


def test_who_does_not_see_is_told_the_same(browser: Chromium, file: Path) -> None:
    for width in (360, 1200):
        shown = browser.open(file.as_uri(), width=width)
        nodes = shown.accessibility()
        roles = [node["role"]["value"] for node in nodes]
        assert {"main", "navigation", "banner", "contentinfo"} <= set(roles)
        for role in ("table", "image", "region"):
            names = [node.get("name", {}).get("value") for node in nodes if node["role"]["value"] == role]
            assert names, role
            assert all(names), (role, names)
        assert roles.count("rowheader") >= 20
        assert any("is valid until" in str(node.get("name")) for node in nodes if node["role"]["value"] == "image")
    shown = browser.open(file.as_uri())
    levels = shown.evaluate("[...document.querySelectorAll('h1,h2,h3')].map(h => Number(h.tagName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert shown.evaluate("document.documentElement.lang") == "en"


def opened(browser: Chromium, path: Path, text: bytes) -> Page:
    path.write_bytes(text)
    return browser.open(path.as_uri())


@pytest.mark.parametrize(
    "planted",
    [
        "<script>document.title='owned'</script>",
        "<p style='color:red'>red</p>",
        "<style>body{color:red}</style>",
        "<img src='https://evil.example/x.png' alt=''/>",
        "<p onclick=\"document.title='owned'\">x</p>",
    ],
)
def test_its_policy_stops_what_somebody_plants(
    browser: Chromium, facts: ReportFacts, tmp_path: Path, planted: str
) -> None:
    text = page(facts).replace(b"<main", planted.encode() + b"<main")
    shown = opened(browser, tmp_path / "planted.html", text)
    shown.evaluate("document.querySelector('[onclick]')?.click()")
    assert shown.evaluate("document.title").startswith("example: state of the repository")
    assert any("Content Security Policy" in line for line in shown.log), shown.log
    assert set(shown.blocked) <= {"csp"}
    # The control: the same page without its policy lets it in.
    bare = re.sub(rb'<meta http-equiv="Content-Security-Policy"[^>]*>', b"", text)
    assert bare != text
    if "evil.example" not in planted:
        free = opened(browser, tmp_path / "bare.html", bare)
        free.evaluate("document.querySelector('[onclick]')?.click()")
        owned = free.evaluate("document.title") == "owned"
        red = free.evaluate(
            "[...document.querySelectorAll('p')].some(p => getComputedStyle(p).color == 'rgb(255, 0, 0)')"
        )
        assert owned or red
        assert free.log == []


def test_the_command_writes_one_file(workspace: Ceremony, tmp_path: Path) -> None:
    line = ["report", "-w", str(workspace.workspace.root), "-o", str(tmp_path / "out.html")]
    done = CliRunner().invoke(app, line)
    assert (done.exit_code, done.stdout) == (0, f"{tmp_path / 'out.html'}\n")
    assert [path.name for path in tmp_path.iterdir()] == ["out.html"]
    wrong: Any = CliRunner().invoke(app, ["report", "-w", str(tmp_path)])
    assert "there is no such file, expected a policy" in str(wrong.exception)

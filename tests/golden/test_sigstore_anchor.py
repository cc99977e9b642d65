"""Sigstore's initial root that ships: it follows from the one that shipped before, and its page says what it is."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata, Root

from conftest import Require
from kedge.client import anchor as anchors
from kedge.client.anchor import Anchor
from kedge.client.client import TrustClient
from kedge.documents import format_time, parse_time
from kedge.errors import Reason, VerificationError
from kedge.transport.mirror import Mirror
from kedge.tuf import checks

FORMER = Path(__file__).with_name("sigstore") / "15.root.json"
NEW_KEY = "SHA256:DhQ8wR5APBvFHLF/+Tc+AYvPOdTpcIDqOhxsBHRwC7U"

Check = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def shipped(tmp_path: Path) -> Anchor:
    return anchors.load_anchor("sigstore", tmp_path)


@pytest.fixture
def root(shipped: Anchor) -> Root:
    return checks.begin(shipped.initial_root).root


@pytest.fixture
def check(repository: Path) -> Check:
    """Run the script that ``make release`` runs."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, repository / "metadata/check_anchor.py", *arguments]
        return subprocess.run([str(part) for part in line], capture_output=True, text=True)

    return run


def test_the_root_that_ships_follows_from_the_one_that_shipped_before(shipped: Anchor, root: Root) -> None:
    state = checks.accept_root(checks.begin(FORMER.read_bytes()), shipped.initial_root)
    assert (state.root.version, root.version) == (16, 16)
    # python-tuf, which has a verifier of its own, says so too.
    former, newer = (Metadata[Root].from_bytes(data) for data in (FORMER.read_bytes(), shipped.initial_root))
    former.verify_delegate(Root.type, newer)
    newer.verify_delegate(Root.type, newer)


def test_two_of_the_five_signatures_would_not_have_been_enough(shipped: Anchor) -> None:
    root = Metadata[Root].from_bytes(shipped.initial_root)
    for keyid in list(root.signatures)[2:]:
        del root.signatures[keyid]
    with pytest.raises(VerificationError, match=r"16\.root\.json: signed by 2 of the 3 keys") as caught:
        checks.accept_root(checks.begin(FORMER.read_bytes()), root.to_bytes())
    assert caught.value.refusal is not None
    assert caught.value.refusal.reason is Reason.SIGNATURES


@pytest.mark.parametrize("start", ["the former root", "the root that ships"])
def test_a_client_walks_from_either_root_to_npms_keys(
    shipped: Anchor, shared_vectors: Path, tmp_path: Path, start: str
) -> None:
    # Sigstore's repository as it stood in August 2026, with the root that came afterwards, as of that August.
    folder = tmp_path / "repository"
    shutil.copytree(shared_vectors / "sigstore-repo", folder)
    (folder / "metadata/16.root.json").write_bytes(shipped.initial_root)
    initial = FORMER.read_bytes() if start == "the former root" else shipped.initial_root
    anchor = Anchor(name="sigstore", initial_root=initial, mirrors=(Mirror(url=str(folder)),))
    as_of = parse_time((folder / "REFERENCE_TIME").read_text().strip())
    with TrustClient(anchor, state=tmp_path / "state", as_of=as_of) as client:
        keys = client.registry_keys("registry.npmjs.org")
        assert client.trust.root.version == 16
    assert {key.id for key in keys.keys if key.status == "active"} == {NEW_KEY}


def test_the_page_beside_it_says_what_it_is(shipped: Anchor, root: Root, repository: Path) -> None:
    text = (repository / "metadata/anchors/sigstore/README.md").read_text()
    rows = dict(re.findall(r"^\| (\S.*?) \| (.*) \|$", text, re.MULTILINE))
    size, digest = len(shipped.initial_root), hashlib.sha256(shipped.initial_root).hexdigest()
    expires = format_time(root.expires)
    assert rows["file"] == f"`root.json`, version {root.version}, {size:,} bytes, expires {expires}"
    assert rows["sha256"] == f"`{digest}`"
    assert hashlib.sha256(FORMER.read_bytes()).hexdigest() in rows["follows"]
    assert shipped.not_before is not None
    assert rows["`not_before`"].startswith(format_time(shipped.not_before) + ": ")


def test_how_long_it_lasts_is_said(root: Root, record_property: Callable[[str, object], None]) -> None:
    left = (root.expires - datetime.now(UTC)).days
    lasts = f"lasts {left} more days" if left >= 0 else f"expired {-left} days ago"
    record_property("figure", f"Sigstore's root that ships (version {root.version}) {lasts}")


def test_a_release_needs_sixty_days(check: Check, root: Root) -> None:
    enough = check("--now", format_time(root.expires - timedelta(days=60)))
    assert (enough.returncode, enough.stderr) == (0, "")
    assert enough.stdout.endswith(f"sigstore/root.json: version {root.version} lasts 60 days\n")
    late = root.expires - timedelta(days=60) + timedelta(seconds=1)
    refused = check("--now", format_time(late))
    assert (refused.returncode, refused.stdout) == (1, "")
    said = f"root.json: version 16 expires {format_time(root.expires)}, 59 days from {format_time(late)}: "
    assert said + "a release needs 60." in refused.stderr


def test_a_release_is_judged_by_the_machines_clock_and_the_former_root_is_past_it(check: Check) -> None:
    refused = check(FORMER)
    assert refused.returncode == 1
    assert "15.root.json: version 15 expires 2026-11-20T13:58:18Z, -" in refused.stderr


def test_a_file_that_is_no_root_is_no_root_to_release(check: Check, tmp_path: Path) -> None:
    (tmp_path / "root.json").write_text("{}")
    refused = check(tmp_path / "root.json")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith(f"{tmp_path}/root.json: ")


def test_make_release_asks_before_it_builds(require: Require, repository: Path) -> None:
    require(shutil.which("make"), "make is not installed")
    line = ["make", "--dry-run", "--always-make", "release"]
    done = subprocess.run(line, cwd=repository, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert 0 < done.stdout.index("metadata/check_anchor.py") < done.stdout.index("-m build")

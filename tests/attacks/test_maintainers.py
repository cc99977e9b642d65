"""D3, D6, D7, D9: what must not happen to a repository through its own maintainers and delegates, by the command.

The parts of each, one by one, are tested in ``repo_tools/``; here it is the process: exit code, what it says, and what
is *not* on the disk afterwards.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner

from kedge.client.anchor import Anchor
from kedge.client.client import TrustClient
from kedge.documents import format_time
from kedge.errors import VerificationError
from kedge.transport.mirror import Mirror
from kedge_repo.audit.rehearse import push_ahead
from kedge_repo.publish.online import sign_online
from kedge_repo.publish.publish import publish_workspace
from kedge_repo.workspace.public_key import to_pem
from repo_tools.ceremony import NPM, Ceremony, contents

HAND_IN = f"""
[delegations."{NPM}".hand_in]
max_bytes = 10000
max_targets = 1
key_documents_only = true
sub_delegations = false
"""


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Ceremony:
    made = Ceremony(tmp_path_factory.mktemp("maintainers"), now=datetime.now(UTC)).ready()
    policy = made.workspace.root / "kedge-repo.toml"
    policy.write_text(policy.read_text().replace("\n[[destination]]", f"{HAND_IN}\n[[destination]]"))
    publish_workspace(made.workspace, made.folder / "public", now=made.now)
    return made


@pytest.fixture
def ceremony(template: Ceremony, tmp_path: Path) -> Ceremony:
    shutil.copytree(template.folder, tmp_path / "copy")
    copy = Ceremony(tmp_path / "copy", template.now)
    copy.signers = dict(template.signers)
    for name in ("npm-team", "ci"):
        (copy.folder / f"{name}.pem").write_bytes(copy.signers[name].private_bytes)
    return copy


def run(made: Ceremony, *arguments: object) -> subprocess.CompletedProcess[str]:
    """``kedge-repo`` in the ceremony's folder."""
    done = subprocess.run(
        [sys.executable, "-m", "kedge_repo", *map(str, arguments)],
        cwd=made.folder,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "NO_COLOR": "1", "COLUMNS": "1000"},
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def keys_without(made: Ceremony, keyid: str) -> bytes:
    entries = json.loads(made.workspace.target(f"{NPM}/keys.json"))["keys"]
    return json.dumps({"keys": [entry for entry in entries if entry["keyId"] != keyid]}).encode()


def test_d3_a_key_document_that_drops_a_key_still_needed_is_signed_by_nobody(ceremony: Ceremony) -> None:
    old = "SHA256:jl3bwswu80PjjokCgh0o2w5c2U4LhQAE57gj9cz1kzA"
    (ceremony.folder / "dropped.json").write_bytes(keys_without(ceremony, old))
    (ceremony.folder / "kept.json").write_bytes(keys_without(ceremony, "nobody's"))
    signing = ["sign", "-w", "workspace", "--key", "file:npm-team.pem", "--allow-unencrypted-key-file", "--yes"]
    assert run(ceremony, "target", "add", f"{NPM}/keys.json", "dropped.json", "-w", "workspace").returncode == 0
    before = contents(ceremony.folder)
    stopped = run(ceremony, *signing)
    assert (stopped.returncode, stopped.stdout) == (5, "")
    assert f"{old} is no longer there for npm:signatures" in stopped.stderr
    assert contents(ceremony.folder) == before
    # The control: the key is kept, and the same keyholder signs.
    assert run(ceremony, "event", "cancel", "--yes", "-w", "workspace").returncode == 0
    assert run(ceremony, "target", "add", f"{NPM}/keys.json", "kept.json", "-w", "workspace").returncode == 0
    assert run(ceremony, *signing).returncode == 0


def test_d6_a_lost_root_key_and_a_stolen_online_key_are_recovered_from(ceremony: Ceremony) -> None:
    made, public = ceremony, ceremony.folder / "public"
    root = (public / "metadata/1.root.json").read_bytes()
    anchor = Anchor(name="test", initial_root=root, mirrors=(Mirror(url=str(public)),))

    def seen() -> tuple[int, int]:
        with TrustClient(anchor, state=made.folder / "client") as client:
            trust = client.refresh()
        return trust.root.version, trust.timestamp.version

    push_ahead(public, {"timestamp": [made.signers["ci"]]})
    assert seen() == (1, 1001)
    new = CryptoSigner.generate_ed25519()
    (made.folder / "ci-2.pub").write_bytes(to_pem(new.public_key))
    line = ["recover", "-w", "workspace", "--lost", "alice", "--stolen", "ci"]
    asked = run(made, *line)
    assert asked.returncode == 0
    assert "--new-key ci=ci-2.pub" in asked.stdout
    assert made.workspace.events() == ()
    assert run(made, *line, "--new-key", "ci=ci-2.pub", "--open").returncode == 0
    made.sign("bob", "carol")
    assert run(made, "event", "merge", "-w", "workspace").returncode == 0
    sign_online(made.workspace, [new], now=made.now)
    publish_workspace(made.workspace, public, now=made.now)
    assert seen() == (2, 2)
    push_ahead(public, {"timestamp": [made.signers["ci"]]})
    with pytest.raises(VerificationError, match="signed by 0 of the 1 key"):
        seen()


def test_d7_metadata_about_to_expire_is_said_in_time(ceremony: Ceremony) -> None:
    def at(days: float) -> subprocess.CompletedProcess[str]:
        moment = format_time(ceremony.now + timedelta(days=days))
        return run(ceremony, "forecast", "-w", "workspace", "--as-of", moment, "--json")

    calm, late, over = at(1), at(5), at(8)
    assert [done.returncode for done in (calm, late, over)] == [0, 5, 4]
    outlooks = [json.loads(done.stdout)["roles"][0]["outlook"] for done in (calm, late, over)]
    assert outlooks == ["calm", "late", "expired"]


def test_d9_a_delegate_hands_in_within_the_policy_or_not_at_all(ceremony: Ceremony) -> None:
    (ceremony.folder / "root.json").write_bytes((ceremony.folder / "public/metadata/1.root.json").read_bytes())
    (ceremony.folder / "keys.json").write_bytes(keys_without(ceremony, "nobody's"))
    key = ["--key", "file:npm-team.pem", "--allow-unencrypted-key-file", "--yes"]
    new = ["hand-in", "new", "public", "--root", "root.json", "--role", NPM, "--reason", "new layout"]

    def made(out: str, *options: str) -> None:
        done = run(ceremony, *new, *options, *key, "-o", out)
        assert (done.returncode, done.stdout) == (0, f"{out}\n"), done.stderr

    made("far.json", "--expiry-days", "3600")
    made("other.json", "--target", f"{NPM}/other.json=keys.json")
    made("right.json", "--target", f"{NPM}/keys.json=keys.json")
    made("second.json")
    before = contents(ceremony.folder)
    for file, text in (("far.json", "would expire at"), ("other.json", "2 targets, and hand-ins may have 1 at most")):
        refused = run(ceremony, "hand-in", "take", file, "-w", "workspace")
        assert (refused.returncode, refused.stdout) == (3, "")
        assert text in refused.stderr
    assert contents(ceremony.folder) == before
    # The control, and after it the one that came second.
    assert run(ceremony, "hand-in", "take", "right.json", "-w", "workspace").returncode == 0
    old = run(ceremony, "hand-in", "take", "second.json", "-w", "workspace")
    assert (old.returncode, old.stdout) == (3, "")
    assert "version 2, expected exactly 3" in old.stderr

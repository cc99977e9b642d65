"""D1 to D14: what must not happen to a repository through its own maintainers and delegates, by the command.

The parts of each, one by one, are tested in ``repo_tools/``; here it is the process: exit code, what it says, and what
is *not* on the disk afterwards.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner, Key
from tuf.api.metadata import Metadata, MetaFile, Snapshot, Timestamp

from conftest import Require
from kedge.client.anchor import Anchor
from kedge.client.client import TrustClient
from kedge.documents import format_time
from kedge.errors import VerificationError
from kedge.transport.mirror import Mirror
from kedge_repo.audit.rehearse import push_ahead
from kedge_repo.events.signatures import sign_event
from kedge_repo.publish.online import sign_online
from kedge_repo.publish.publish import publish_workspace
from kedge_repo.workspace.metadata import Payload, canonical_json
from kedge_repo.workspace.public_key import fingerprint, to_pem
from kedge_repo.workspace.workspace import Workspace
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


SIGN = ("--allow-unencrypted-key-file", "--yes")
Change = Callable[[dict[str, Any]], object]


def handed_over(made: Ceremony, *names: str) -> Ceremony:
    """The files of keyholders ``names`` and the root that they know, beside a request that renews root."""
    for name in names:
        (made.folder / f"{name}.pem").write_bytes(made.signers[name].private_bytes)
    shutil.copy(made.folder / "public/metadata/1.root.json", made.folder / "root.json")
    assert run(made, "renew", "root", "-w", "workspace").returncode == 0
    assert run(made, "event", "export", "-w", "workspace", "-o", "request.json").returncode == 0
    return made


def tampered(made: Ceremony, out: str, change: Change) -> None:
    """The request with another payload of root."""
    value = json.loads((made.folder / "request.json").read_bytes())
    payload = json.loads(base64.b64decode(value["payloads"][0]["payload"]), strict=False)
    change(payload)
    value["payloads"][0]["payload"] = base64.b64encode(canonical_json(payload).encode()).decode()
    (made.folder / out).write_text(json.dumps(value))


def signed(made: Ceremony, request: str, name: str, *options: str) -> subprocess.CompletedProcess[str]:
    return run(made, "sign", request, "--root", "root.json", "--key", f"file:{name}.pem", *SIGN, *options)


def nothing_signed(made: Ceremony, done: subprocess.CompletedProcess[str], code: int, text: str) -> None:
    assert (done.returncode, done.stdout) == (code, "")
    assert text in done.stderr
    assert not list(made.folder.glob("*.response.json"))


def test_d1_a_request_that_does_not_follow_from_the_known_root_is_not_signed(
    ceremony: Ceremony, tmp_path: Path
) -> None:
    made = handed_over(ceremony, "alice")
    other = Ceremony(tmp_path / "other", now=made.now).ready()
    other_root = (other.workspace.root / "metadata/1.root.json").read_bytes()
    right = (made.folder / "root.json").read_bytes()
    (made.folder / "root.json").write_bytes(other_root)
    refused = signed(made, "request.json", "alice")
    nothing_signed(made, refused, 3, "does not follow from root.json: its root version 1 is another one")
    # The control: with the right root it is signed.
    (made.folder / "root.json").write_bytes(right)
    assert signed(made, "request.json", "alice").returncode == 0


def test_d2_two_keyholders_who_are_shown_different_requests_read_different_codes(ceremony: Ceremony) -> None:
    made = handed_over(ceremony, "alice", "bob")
    tampered(made, "other.json", lambda root: root["roles"]["targets"].update(threshold=1))

    def code(request: str, name: str) -> str:
        done = signed(made, request, name)
        assert done.returncode == 0, done.stderr
        return next(line for line in done.stderr.splitlines() if line.startswith("request code: "))

    assert code("request.json", "alice") != code("other.json", "bob")
    assert code("request.json", "alice") == code("request.json", "bob")


def test_d4_a_signature_by_the_wrong_key_over_other_bytes_twice_or_empty_is_not_taken(ceremony: Ceremony) -> None:
    made = handed_over(ceremony, "alice", "bob")
    assert signed(made, "request.json", "alice", "-o", "alice.json").returncode == 0
    assert signed(made, "request.json", "bob", "-o", "bob.json").returncode == 0
    alice, bob = (json.loads((made.folder / f"{name}.json").read_bytes()) for name in ("alice", "bob"))
    mine, other = alice["signatures"][0], bob["signatures"][0]
    wrong = {
        "by the wrong key": ([{**mine, "sig": other["sig"]}], 3),
        "by a stranger": ([{**mine, "keyid": "ab" * 32}], 3),
        "over other bytes": ([{**mine, "payload_sha256": "00" * 32}], 2),
        "cut": ([{**mine, "sig": mine["sig"][:-2]}], 3),
        "twice": ([mine, mine], 2),
        "empty": ([{**mine, "sig": ""}], 2),
        "none": ([], 2),
    }
    before = contents(made.workspace.root)
    for name, (signatures, code) in wrong.items():
        (made.folder / "wrong.json").write_text(json.dumps({**alice, "signatures": signatures}))
        refused = run(made, "event", "import", "wrong.json", "-w", "workspace")
        assert (name, refused.returncode, refused.stdout) == (name, code, "")
    assert contents(made.workspace.root) == before
    # The control: both are taken as they were signed, and reach the threshold.
    assert run(made, "event", "import", "alice.json", "bob.json", "-w", "workspace").returncode == 0
    assert run(made, "event", "merge", "-w", "workspace").returncode == 0


def test_d5_clients_of_a_publication_that_was_cut_off_see_the_old_state_or_the_new_one(ceremony: Ceremony) -> None:
    made, public = ceremony, ceremony.folder / "public"
    root = (public / "metadata/1.root.json").read_bytes()
    anchor = Anchor(name="test", initial_root=root, mirrors=(Mirror(url=str(public)),))
    new = CryptoSigner.generate_ed25519()
    (made.folder / "ci-2.pub").write_bytes(to_pem(new.public_key))
    assert run(made, "key", "rotate", "ci", "ci-2.pub", "-w", "workspace").returncode == 0
    made.sign("alice", "bob")
    assert run(made, "event", "merge", "-w", "workspace").returncode == 0
    sign_online(made.workspace, [made.signers["ci"], new], now=made.now)
    before = contents(public)
    done = run(made, "publish", "-w", "workspace")
    assert done.returncode == 0, done.stderr
    after = contents(public)
    for new_file in after.keys() - before.keys():
        (public / new_file).unlink()
    (public / "metadata/timestamp.json").write_bytes(before["metadata/timestamp.json"])
    seen: list[tuple[int, int]] = []
    for line in done.stdout.splitlines():
        path = str(Path(line).relative_to(public.resolve()))
        (public / path).write_bytes(after[path])
        with TrustClient(anchor, state=made.folder / f"client-{len(seen)}") as client:
            trust = client.refresh()
        seen.append((trust.snapshot.version, trust.timestamp.version))
    old, final = (1, 1), (2, 2)
    assert seen == sorted(seen)
    assert set(seen) == {old, final}
    assert contents(public) == after


def test_d5_the_second_of_two_publishers_is_told(ceremony: Ceremony) -> None:
    made = ceremony
    shutil.copytree(made.workspace.root, made.folder / "twin")
    made.online()
    sign_online(Workspace(root=made.folder / "twin"), [made.signers["ci"]], now=made.now + timedelta(minutes=1))
    assert run(made, "publish", "-w", "workspace").returncode == 0
    before = contents(made.folder / "public")
    second = run(made, "publish", "-w", "twin")
    assert (second.returncode, second.stdout) == (2, "")
    assert "somebody else has published" in second.stderr
    assert contents(made.folder / "public") == before


def test_d8_a_private_key_is_in_no_file_log_or_argument_of_an_event(ceremony: Ceremony) -> None:
    made = handed_over(ceremony, "alice", "bob")
    secret = made.signers["alice"].private_bytes
    lines = [line for line in secret.splitlines() if not line.startswith(b"-----")]
    (made.folder / "private.pub").write_bytes(secret)
    before = contents(made.workspace.root)
    for arguments in (
        ("key", "rotate", "alice", "private.pub", "-w", "workspace"),
        ("key", "add", "dave", "private.pub", "--role", "root", "-w", "workspace"),
    ):
        refused = run(made, *arguments)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert "holds a private key" in refused.stderr
        assert not any(line.decode() in refused.stderr for line in lines)
    assert contents(made.workspace.root) == before
    # The control: public keys are taken, alice signs, and nothing of her key is in what was written or said.
    done = signed(made, "request.json", "alice", "-o", "alice.json")
    taken = run(made, "event", "import", "alice.json", "-w", "workspace")
    assert (done.returncode, taken.returncode) == (0, 0)
    written = {**contents(made.workspace.root), "response": (made.folder / "alice.json").read_bytes()}
    said = (done.stdout + done.stderr + taken.stdout + taken.stderr).encode()
    assert not any(line in data for line in lines for data in (*written.values(), said))


def swapped(made: Ceremony, name: str, new: Key) -> Change:
    """Put another key under the keyid of ``name``."""
    keyid = made.signers[name].public_key.keyid

    def change(root: dict[str, Any]) -> None:
        root["keys"][keyid] = new.to_dict()

    return change


def test_d10_key_material_that_changes_under_its_keyid_is_refused_by_name(ceremony: Ceremony) -> None:
    made = handed_over(ceremony, "alice", "bob")
    thief = CryptoSigner.generate_ed25519().public_key
    tampered(made, "swapped.json", swapped(made, "carol", thief))
    refused = signed(made, "swapped.json", "alice")
    keyid = made.signers["carol"].public_key.keyid
    nothing_signed(made, refused, 3, f"the keyid {keyid[:16]} is another key than in root version 1")
    assert "no change" not in refused.stderr
    assert f"{keyid} is another key now: unnamed:{fingerprint(thief)[:8]}" in refused.stderr
    assert refused.stderr.count("[material-changed]") == 2
    # Both rules have to be named.
    half = signed(made, "swapped.json", "alice", "--accept-key-fault", "material-changed")
    nothing_signed(made, half, 3, "is not the digest of its key")
    named = ("--accept-key-fault", "material-changed", "--accept-key-fault", "keyid")
    assert signed(made, "swapped.json", "alice", *named).returncode == 0
    # The control: the request that only renews.
    right = signed(made, "request.json", "alice")
    assert right.returncode == 0
    assert "no change but the version and the expiry" in right.stderr


def test_d10_material_that_was_swapped_in_an_earlier_root_is_still_refused(ceremony: Ceremony) -> None:
    """The second of two requests: root 2, with carol's key swapped, was signed by a tool that did not see it."""
    made = handed_over(ceremony, "alice", "bob")
    tampered(made, "swapped.json", swapped(made, "carol", CryptoSigner.generate_ed25519().public_key))
    value = json.loads((made.folder / "swapped.json").read_bytes())
    second = Payload.from_bytes("root", base64.b64decode(value["payloads"][0]["payload"]))
    signatures = {
        made.signers[name].public_key.keyid: made.signers[name].sign(second.data).signature for name in ("alice", "bob")
    }
    value["roots"].append(base64.b64encode(second.with_signatures(signatures).data).decode())
    third = json.loads(second.data, strict=False) | {"version": 3}
    value["payloads"][0] = {
        "role": "root",
        "version": 3,
        "payload": base64.b64encode(canonical_json(third).encode()).decode(),
    }
    (made.folder / "second.json").write_text(json.dumps(value))
    nothing_signed(made, signed(made, "second.json", "alice"), 3, "is another key than in root version 1")


@pytest.mark.parametrize("rule", ["one-key-twice", "online-key-in-root"])
def test_d10_one_key_under_two_keyids_and_an_online_key_in_root_are_refused_by_name(
    ceremony: Ceremony, rule: str
) -> None:
    made = handed_over(ceremony, "alice", "bob")
    name = "carol" if rule == "one-key-twice" else "ci"
    key = made.signers[name].public_key
    new = "ff" * 32 if rule == "one-key-twice" else key.keyid

    def change(root: dict[str, Any]) -> None:
        root["keys"][new] = key.to_dict()
        root["roles"]["root"]["keyids"].append(new)

    tampered(made, "odd.json", change)
    refused = signed(made, "odd.json", "alice", "--accept-key-fault", "keyid")
    nothing_signed(made, refused, 3, f"[{rule}]")
    if rule == "one-key-twice":
        twice = f"WARNING: python-tuf counts carol:{fingerprint(key)[:8]} 2 times in root"
        assert f"{twice}: for its clients 1 key is enough, where the threshold is 2" in refused.stderr
    assert signed(made, "odd.json", "alice", "--accept-key-fault", "keyid", "--accept-key-fault", rule).returncode == 0


def test_d11_members_that_no_sentence_knows_are_shown(ceremony: Ceremony) -> None:
    made = handed_over(ceremony, "alice")
    renewed = "no change but the version and the expiry"

    def change(root: dict[str, Any]) -> None:
        root["x-note"] = "everything is fine"
        root["roles"]["timestamp"]["x-install"] = {"run": "curl evil"}

    tampered(made, "noted.json", change)
    noted, plain = signed(made, "noted.json", "alice", "-o", "noted"), signed(made, "request.json", "alice")
    assert (noted.returncode, plain.returncode) == (0, 0)
    assert renewed not in noted.stderr
    assert '    x-note: "everything is fine"\n' in noted.stderr
    assert '    roles.timestamp.x-install.run: "curl evil"\n' in noted.stderr
    assert renewed in plain.stderr
    assert "x-" not in plain.stderr.partition("keys (names")[0]


def test_d12_a_module_that_the_policy_names_is_not_loaded(ceremony: Ceremony, require: Require) -> None:
    require(importlib.util.find_spec("pkcs11"), "python-pkcs11 is not installed: run make signers")
    made = handed_over(ceremony, "alice")
    module = made.workspace.root / "module.so"
    module.write_bytes(b"not a module: to load it is an error that names the file's format")
    policy = made.workspace.root / "kedge-repo.toml"
    text = policy.read_text()

    def by_policy(path: str) -> subprocess.CompletedProcess[str]:
        location = f"pkcs11:token=office;object=alice?module-path={path}"
        policy.write_text(text.replace("[keyholders.alice]\n", f'[keyholders.alice]\nlocation = "{location}"\n'))
        return run(made, "sign", "-w", "workspace", "--as", "alice", "--yes", "--passphrase-fd", "0")

    for path in (str(module), f"/usr/lib/../..{module}"):
        refused = by_policy(path)
        nothing_signed(made, refused, 3, "is named by a file that others may write, and is not loaded")
    nothing_signed(made, by_policy("module.so"), 2, "is a relative path, and is not loaded")
    # The control: named by the user, the same file is loaded, and found to be no module.
    own = f"pkcs11:token=office;object=alice?module-path={module}"
    tried = run(made, "sign", "-w", "workspace", "--key", own, "--yes", "--passphrase-fd", "0")
    assert tried.returncode == 2
    assert "is not loaded" not in tried.stderr
    assert "module.so: " in tried.stderr


@pytest.mark.parametrize(
    "location",
    ["sh:touch ran", "file:keys", "http://127.0.0.1:9/key.pem", "azurekms://127.0.0.1/keys/k/1", "file:pipe"],
)
def test_d12_nothing_that_the_policy_names_is_run_or_asked(ceremony: Ceremony, location: str) -> None:
    made = handed_over(ceremony, "alice")
    os.mkfifo(made.workspace.root / "pipe")
    policy = made.workspace.root / "kedge-repo.toml"
    text = policy.read_text()

    def by_policy(place: str) -> subprocess.CompletedProcess[str]:
        policy.write_text(text.replace("[keyholders.alice]\n", f'[keyholders.alice]\nlocation = "{place}"\n'))
        return run(made, "sign", "-w", "workspace", "--as", "alice", *SIGN)

    nothing_signed(made, by_policy(location), 2, location.removeprefix("file:"))
    assert not list(made.folder.rglob("ran"))
    # The control: a file that holds the keyholder's own key.
    assert by_policy("file:../alice.pem").returncode == 0
    # And one that holds another key: it signs nothing.
    (made.folder / "bob.pem").write_bytes(made.signers["bob"].private_bytes)
    nothing_signed(made, by_policy("file:../bob.pem"), 2, "is another key than expected")


def test_d13_a_stale_event_blocks_nothing_but_itself_and_is_cancelled(ceremony: Ceremony) -> None:
    """A stale event: the same line opens another, recovery goes on, and the command that the hint names discards it."""
    at = ["-w", "workspace"]
    for name in ("a", "b"):
        assert run(ceremony, "event", "new", name, "--reason", name, *at).returncode == 0
    assert "event a changes" not in run(ceremony, "renew", "targets", "--event", "a", *at).stderr
    second = run(ceremony, "role", "set", "targets", "--threshold", "3", "--event", "b", *at)
    assert second.returncode == 0
    rival = run(ceremony, "renew", "targets", "--event", "b", "--drop-signatures", *at)
    assert "note: event a changes targets as well" in second.stderr + rival.stderr
    for who in ("alice", "bob"):
        sign_event(ceremony.workspace, ceremony.signers[who], event="a")
    assert run(ceremony, "event", "merge", "--event", "a", *at).returncode == 0
    stale = run(ceremony, "event", "status", "--event", "b", *at)
    assert (stale.returncode, stale.stdout) == (2, "")
    assert "no longer fits" in stale.stderr
    # It blocks neither another change nor the emergency command.
    renewed = run(ceremony, "renew", NPM, *at)
    assert renewed.returncode == 0, renewed.stderr
    assert "note: event b no longer fits: discard it" in renewed.stderr
    assert run(ceremony, "event", "status", *at).returncode == 0  # of the event that fits
    recovering = run(ceremony, "recover", "--stolen", "alice", "--open", *at)
    assert "opened event" in recovering.stderr, recovering.stderr
    # The way out that the hint names works as it stands there.
    hint = next(line for line in stale.stderr.splitlines() if line.startswith("hint: "))
    command = re.search(r"kedge-repo (event cancel [^,]+)", hint)
    assert command is not None, hint
    assert run(ceremony, *command[1].split(), *at).returncode == 0
    assert "b" not in ceremony.workspace.events()
    # The control: an event that fits is not discarded unless that is said.
    (kept, *_) = ceremony.workspace.events()
    assert run(ceremony, "event", "cancel", "--event", kept, *at).returncode == 2
    assert kept in ceremony.workspace.events()


def test_d14_a_publication_that_present_clients_would_refuse_is_found_before_the_commit_point(
    ceremony: Ceremony,
) -> None:
    """Another tool's snapshot names root.json; one that stops naming it locks out whoever is here, and nobody else."""
    made, public = ceremony, ceremony.folder / "public"
    ci = made.signers["ci"]
    named = Metadata[Snapshot].from_file(str(public / "metadata/1.snapshot.json"))
    named.signed.meta["root.json"] = MetaFile(1)
    named.sign(ci)
    snapshot = named.to_bytes()
    timestamp = Metadata[Timestamp].from_file(str(public / "metadata/timestamp.json"))
    timestamp.signed.snapshot_meta = MetaFile.from_data(1, snapshot, ["sha256"])
    timestamp.sign(ci)
    (public / "metadata/1.snapshot.json").write_bytes(snapshot)
    (public / "metadata/timestamp.json").write_bytes(timestamp.to_bytes())
    shutil.copytree(made.folder / "workspace", made.folder / "other")
    online = ["online", "--at-least", "2", "--key", "file:ci.pem", "--allow-unencrypted-key-file"]
    assert run(made, *online, "-w", "workspace").returncode == 0
    before = contents(public)
    stopped = run(made, "publish", "public", "-w", "workspace")
    assert (stopped.returncode, stopped.stdout) == (3, "")
    assert "refuses this publication where it holds the present one, from root version 1" in stopped.stderr
    assert contents(public) == before
    # The control: whoever first takes up what is published goes on naming it, and publishes.
    assert run(made, "publish", "adopt", "public", "-w", "other").returncode == 0
    assert run(made, *online, "-w", "other").returncode == 0
    done = run(made, "publish", "public", "-w", "other")
    assert done.returncode == 0, done.stderr
    assert "2.snapshot.json" in done.stdout

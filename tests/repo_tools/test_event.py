"""The life of a signing event: opened, signed by some, changed, signed by enough, merged; or cancelled."""

from __future__ import annotations

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner

from kedge.errors import InputError, StoreError, ThresholdError, VerificationError
from kedge_repo.events.changes import cancel_event, change, merge_event
from kedge_repo.events.event import Event, load_event, save_event
from kedge_repo.events.open_event import stand
from kedge_repo.events.plan import add_target, remove_target
from kedge_repo.events.plan_keys import rotate_key
from kedge_repo.events.signatures import (
    event_status,
    export_request,
    import_responses,
    own_request,
    sign_event,
)
from kedge_repo.signing.keyholder import sign_request
from kedge_repo.signing.request import Response, RoleSignature
from kedge_repo.workspace import files as disk
from kedge_repo.workspace.workspace import Workspace
from repo_tools.ceremony import NPM, Ceremony, contents


@pytest.fixture
def opened(tmp_path: Path) -> Ceremony:
    return Ceremony(tmp_path).found()


@pytest.fixture
def ready(tmp_path: Path) -> Ceremony:
    return Ceremony(tmp_path).ready()


def response(ceremony: Ceremony, name: str) -> Response:
    return sign_request(own_request(ceremony.workspace), ceremony.signers[name])


def test_two_of_three_make_a_repository(opened: Ceremony) -> None:
    assert not opened.sign("alice").due
    assert not opened.sign("carol").due
    assert opened.sign("npm-team").due
    merged = opened.merge()
    assert merged.versions == {"root": 1, "targets": 1, NPM: 1}
    assert opened.workspace.events() == ()
    signed = opened.workspace.signed()
    signed.verify()
    assert signed.root is not None
    assert set(signed.root.signatures) == {opened.signers[name].public_key.keyid for name in ("alice", "carol")}


def test_too_few_signatures_name_who_is_missing_and_write_nothing(opened: Ceremony) -> None:
    opened.sign("alice", "npm-team")
    before = contents(opened.workspace.root)
    with pytest.raises(ThresholdError) as caught:
        opened.merge()
    assert caught.value.exit_code == 6
    assert "root version 1 has 1 of 2 that root version 1 asks for, missing: bob, carol" in caught.value.message
    assert NPM not in caught.value.message
    assert contents(opened.workspace.root) == before


def test_a_change_to_one_role_keeps_the_signatures_of_the_others(opened: Ceremony) -> None:
    opened.sign("alice", "bob", "npm-team")
    made = opened.change(lambda view: add_target(view, "note.txt", b"hello"), drop_signatures=True)
    assert set(made.dropped) == {("targets", "alice"), ("targets", "bob")}
    have = {role.role: role.groups[0].have for role in event_status(opened.workspace).roles}
    assert have == {"root": ("alice", "bob"), "targets": (), NPM: ("npm-team",)}
    opened.sign("bob", "carol")
    assert opened.merge().versions["targets"] == 1


def test_a_change_that_would_drop_signatures_is_refused_until_it_is_said(opened: Ceremony) -> None:
    opened.sign("alice")
    before = contents(opened.workspace.root)
    with pytest.raises(InputError, match="would drop signatures already collected: alice on targets"):
        opened.change(lambda view: add_target(view, "note.txt", b"hello"))
    assert contents(opened.workspace.root) == before


def test_rotating_a_root_key_needs_the_old_and_the_new_keys(ready: Ceremony) -> None:
    ready.signers["alice-2"] = CryptoSigner.generate_ed25519()
    ready.change(lambda view: rotate_key(view, "alice", ready.signers["alice-2"].public_key))
    groups = {group.asked_by: group for group in event_status(ready.workspace).roles[0].groups}
    assert groups["root version 1"].missing == ("alice-old", "bob", "carol")
    assert groups["root version 2"].missing == ("alice", "bob", "carol")
    ready.sign("alice-2", "bob")
    with pytest.raises(ThresholdError, match="root version 1 asks for, missing: alice-old, carol"):
        ready.merge()
    ready.sign("alice")  # the old key: root version 1 asks for it, version 2 does not
    assert ready.merge().versions == {"root": 2, "targets": 2}
    assert (ready.workspace.root / "keys/alice.pub").read_bytes() == ready.pem("alice-2")
    ready.online()


def test_a_whole_threshold_of_root_keys_can_be_rotated_in_one_event(ready: Ceremony) -> None:
    for name in ("alice", "bob", "carol"):
        ready.signers[f"{name}-2"] = CryptoSigner.generate_ed25519()
        new = ready.signers[f"{name}-2"].public_key
        ready.change(lambda view, name=name, new=new: rotate_key(view, name, new))  # type: ignore[misc]  # bound now
    ready.sign("alice", "bob", "alice-2", "carol-2")
    assert ready.merge().versions["root"] == 2
    ready.online()


@pytest.mark.parametrize("fault", ["wrong key", "other bytes", "empty", "not hexadecimal", "other payload"])
def test_a_bad_signature_is_refused_and_nothing_of_the_response_is_kept(opened: Ceremony, fault: str) -> None:
    good = response(opened, "alice")
    stranger = CryptoSigner.generate_ed25519()
    payload = own_request(opened.workspace).request.payloads[0]
    bad = {
        "wrong key": ("keyid", stranger.public_key.keyid, stranger.sign(payload.data).signature),
        "other bytes": ("sig", good.signatures[0].keyid, opened.signers["alice"].sign(b"other").signature),
        "empty": ("sig", good.signatures[0].keyid, ""),
        "not hexadecimal": ("sig", good.signatures[0].keyid, "zz"),
        "other payload": ("payload", good.signatures[0].keyid, good.signatures[0].signature),
    }[fault]
    digest = "0" * 64 if fault == "other payload" else payload.sha256
    forged = RoleSignature(role="root", payload_sha256=digest, keyid=bad[1], signature=bad[2])
    mixed = Response(
        repository=good.repository, event=good.event, code=good.code, signatures=(good.signatures[1], forged)
    )
    before = contents(opened.workspace.root)
    with pytest.raises((VerificationError, InputError), match=r"r\.json: signatures\[1\]"):
        import_responses(opened.workspace, [("r.json", mixed)])
    assert contents(opened.workspace.root) == before
    assert import_responses(opened.workspace, [("r.json", good)]).added


def test_a_signature_that_is_there_already_is_said_and_counts_once(opened: Ceremony) -> None:
    first = response(opened, "alice")
    import_responses(opened.workspace, [("r.json", first)])
    before = contents(opened.workspace.root)
    again = import_responses(opened.workspace, [("r.json", first)])
    assert again.added == ()
    assert again.held == (("root", "alice"), ("targets", "alice"))
    assert contents(opened.workspace.root) == before
    with pytest.raises(ThresholdError, match="has 1 of 2"):
        opened.merge()


def test_a_response_for_another_event_or_repository_is_refused(ready: Ceremony) -> None:
    ready.change(lambda view: add_target(view, "note.txt", b"hello"))
    good = response(ready, "alice")
    other = Response(repository=good.repository, event="other", code=good.code, signatures=good.signatures)
    with pytest.raises(InputError, match=r"r\.json: answers event other, which is not open here"):
        import_responses(ready.workspace, [("r.json", other)])
    other = Response(repository="elsewhere", event=good.event, code=good.code, signatures=good.signatures)
    with pytest.raises(InputError, match=r"r\.json: answers the repository elsewhere, this one is example"):
        import_responses(ready.workspace, [("r.json", other)])


def test_a_key_with_no_say_signs_nothing(opened: Ceremony) -> None:
    with pytest.raises(InputError, match="has no say in this request; it is for"):
        sign_event(opened.workspace, CryptoSigner.generate_ed25519())


def test_what_changed_after_it_was_shown_is_not_signed(opened: Ceremony) -> None:
    shown = own_request(opened.workspace).code
    opened.change(lambda view: add_target(view, "note.txt", b"hello"))
    with pytest.raises(InputError, match="has changed since it was shown"):
        sign_event(opened.workspace, opened.signers["alice"], code=shown)


def test_with_two_events_open_the_caller_says_which(ready: Ceremony) -> None:
    first = ready.change(lambda view: add_target(view, "a.txt", b"a")).event
    save_event(ready.workspace, type(first)(name="second", reason="r", opened=first.opened, base=first.base))
    with pytest.raises(InputError, match=f"several signing events are open: {first.name}, second"):
        ready.change(lambda view: add_target(view, "b.txt", b"b"))
    made = change(ready.workspace, lambda view: add_target(view, "b.txt", b"b"), now=ready.now, event="second")
    assert made.event.name == "second"
    with pytest.raises(InputError, match='there is no open event "third"'):
        event_status(ready.workspace, event="third")


def test_of_two_events_on_one_role_the_second_no_longer_fits(ready: Ceremony) -> None:
    first = ready.change(lambda view: add_target(view, "a.txt", b"a")).event
    save_event(ready.workspace, type(first)(name="second", reason="r", opened=first.opened, base=first.base))
    change(ready.workspace, lambda view: add_target(view, "b.txt", b"b"), now=ready.now, event="second")
    for name in ("alice", "bob"):
        sign_event(ready.workspace, ready.signers[name], event=first.name)
    merge_event(ready.workspace, event=first.name)
    with pytest.raises(InputError, match=r"event second: no longer fits .* targets is version 2 now, and was 1"):
        event_status(ready.workspace)
    assert cancel_event(ready.workspace) == "second"
    assert ready.workspace.events() == ()


def test_removing_a_target_removes_its_bytes_on_merge(ready: Ceremony) -> None:
    ready.change(lambda view: remove_target(view, f"{NPM}/keys.json"))
    assert (ready.workspace.root / f"targets/{NPM}/keys.json").exists()
    ready.sign("npm-team")
    ready.merge()
    assert not (ready.workspace.root / f"targets/{NPM}/keys.json").exists()


@pytest.mark.parametrize("file", ["2.root.json", "2.targets.json"])
def test_an_interrupted_merge_is_completed_by_merging_again(ready: Ceremony, file: str, tmp_path: Path) -> None:
    new = ready.signers["alice-2"] = CryptoSigner.generate_ed25519()
    ready.change(lambda view: rotate_key(view, "alice", new.public_key))
    ready.sign("alice", "alice-2", "carol", "bob")
    shutil.copytree(ready.workspace.root, tmp_path / "whole/workspace")
    whole = Ceremony(tmp_path / "whole")
    whole.merge()
    shutil.copy(whole.workspace.root / "metadata" / file, ready.workspace.root / "metadata" / file)
    ready.merge()
    assert contents(ready.workspace.root) == contents(whole.workspace.root)


DAMAGES = [
    ("event.json", lambda data: data[:40], "event.json: is not JSON"),
    ("event.json", lambda data: data.replace(b'"version": 1', b'"version": 2'), r"payloads\[0\]\.version: must be 1"),
    ("event.json", lambda data: data.replace(b"kedge.event/1", b"kedge.event/9"), "format: is"),
    ("event.json", lambda data: data.replace(b'"reason"', b'"raison"'), "reason: is missing"),
    ("files/*", lambda data: data + b" ", "holds other bytes than its name says"),
    ("signatures/*/*", lambda data: data[2:], "is not a signature of this key over this payload"),
    ("signatures/*/*", lambda data: b"", "must be a signature in lower-case hexadecimal"),  # noqa: ARG005
]


@pytest.mark.parametrize(("pattern", "damage", "problem"), DAMAGES, ids=[item[2] for item in DAMAGES])
def test_a_damaged_event_is_one_line_and_stays_as_it_is(
    opened: Ceremony, pattern: str, damage: object, problem: str
) -> None:
    opened.sign("alice")
    folder = opened.workspace.event_folder("first-ceremony")
    path = min(folder.glob(pattern))
    assert callable(damage)
    path.write_bytes(damage(path.read_bytes()))
    before = contents(opened.workspace.root)
    with pytest.raises((InputError, VerificationError), match=problem) as caught:
        event_status(opened.workspace)
    assert "\n" not in caught.value.message
    assert contents(opened.workspace.root) == before


def test_a_missing_file_of_an_event_is_named(opened: Ceremony) -> None:
    path = min(opened.workspace.event_folder("first-ceremony").glob("files/*"))
    path.unlink()
    with pytest.raises(InputError, match=f"{path.name}: there is no such file, which event.json names"):
        export_request(opened.workspace)


def test_a_saved_event_reads_back_as_itself(opened: Ceremony) -> None:
    opened.sign("alice")
    standing = stand(opened.workspace)
    assert standing.event is not None
    assert load_event(opened.workspace, "first-ceremony", standing.signed) == standing.event


def test_a_second_writer_waits_and_then_says_so(opened: Ceremony) -> None:
    hasty = Workspace(root=opened.workspace.root, lock_timeout_s=0.2)
    with opened.workspace.lock(), pytest.raises(StoreError, match="another kedge-repo is writing here"):
        change(hasty, lambda view: add_target(view, "note.txt", b"hello"), now=opened.now)


def signatures_of(event: Event) -> list[tuple[str, str, str]]:
    """Each signature of an event, with the digest of what it signs and its keyid."""
    return [(sha256, *item) for sha256, found in event.signatures.items() for item in found.items()]


def test_a_reader_beside_a_writer_sees_the_event_before_or_after_and_never_parts_of_both(opened: Ceremony) -> None:
    opened.sign("alice", "bob")
    before = stand(opened.workspace)
    opened.change(lambda view: add_target(view, "note.txt", b"hello"), drop_signatures=True)
    opened.sign("carol")
    after = stand(opened.workspace).event
    assert before.event is not None
    assert after is not None
    enough = threading.Event()

    def write(one: Event, other: Event) -> None:
        while not enough.is_set():
            for event in (one, other):
                with opened.workspace.lock():
                    save_event(opened.workspace, event)

    with ThreadPoolExecutor(1) as others:
        writing = others.submit(write, before.event, after)
        try:
            seen = [load_event(opened.workspace, "first-ceremony", before.signed) for _ in range(300)]
        finally:
            enough.set()
        writing.result()
    unsigned = [replace(event, signatures={}) for event in (before.event, after)]
    assert [event for event in seen if replace(event, signatures={}) not in unsigned] == []
    signed = [item for event in (before.event, after) for item in signatures_of(event)]
    assert [item for event in seen for item in signatures_of(event) if item not in signed] == []


def test_an_event_that_is_damaged_while_nobody_writes_is_refused_at_once(
    opened: Ceremony, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[str] = []
    read = disk.read_file

    def noting(path: Path, **options: Any) -> bytes:
        reads.append(path.name)
        return read(path, **options)

    monkeypatch.setattr("kedge_repo.events.event.read_file", noting)
    min(opened.workspace.event_folder("first-ceremony").glob("files/*")).unlink()
    with pytest.raises(InputError, match=r"there is no such file, which event\.json names"):
        load_event(opened.workspace, "first-ceremony", opened.workspace.signed())
    assert reads.count("event.json") <= 9  # three tries: a writer may have come and gone unseen


@pytest.mark.parametrize("left", ["metadata", "events"])
def test_a_repository_does_not_begin_beside_signed_metadata_or_events(ready: Ceremony, left: str) -> None:
    ready.change(lambda view: add_target(view, "note.txt", b"hello"))
    root = ready.workspace.root
    (root / "kedge-repo.toml").unlink()
    shutil.rmtree(root / {"metadata": "events", "events": "metadata"}[left])
    before = contents(root)
    with pytest.raises(InputError, match=f"{left}: holds files of another repository"):
        ready.found()
    assert contents(root) == before


def test_a_damaged_event_is_cancelled_unread_and_a_merge_cut_off_is_not(ready: Ceremony) -> None:
    ready.change(lambda view: add_target(view, "note.txt", b"hello"))
    (name,) = ready.workspace.events()
    (ready.workspace.event_folder(name) / "event.json").write_text("<<<<<<< ours\n")
    assert cancel_event(ready.workspace) == name
    made = ready.change(lambda view: add_target(view, "note.txt", b"hello"))
    ready.sign("alice", "bob")
    kept = ready.folder / "kept"
    shutil.copytree(ready.workspace.event_folder(made.event.name), kept)
    ready.merge()
    shutil.copytree(kept, ready.workspace.event_folder(made.event.name))
    with pytest.raises(InputError, match="was merged in part") as caught:
        cancel_event(ready.workspace)
    assert caught.value.hint == f"complete it with kedge-repo event merge --event {made.event.name}"
    ready.merge()
    assert ready.workspace.events() == ()

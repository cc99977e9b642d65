"""Publishing: replayed first, immutable files create-only, the timestamp last; and others can read it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner

from kedge.client.anchor import Anchor
from kedge.client.client import TrustClient
from kedge.documents import format_time
from kedge.errors import InputError, Reason, Refusal, StoreError, VerificationError
from kedge.transport.mirror import Mirror
from kedge_repo.events.plan import add_target
from kedge_repo.events.plan_keys import rotate_key
from kedge_repo.publish.destination import TIMESTAMP_PATH
from kedge_repo.publish.files import collect_files
from kedge_repo.publish.online import sign_online
from kedge_repo.publish.publish import publish_workspace, write_files
from kedge_repo.publish.replay import READERS, read_with_kedge, read_with_python_tuf, replay
from kedge_repo.workspace.workspace import Workspace
from repo_tools.ceremony import NPM, Ceremony, contents


@pytest.fixture
def ready(tmp_path: Path) -> Ceremony:
    return Ceremony(tmp_path).ready()


def moved_on(ceremony: Ceremony) -> Ceremony:
    """Root rotated and npm's keys changed, published nowhere yet."""
    new = CryptoSigner.generate_ed25519()
    ceremony.change(lambda view: rotate_key(view, "alice", new.public_key))
    ceremony.change(lambda view: add_target(view, f"{NPM}/keys.json", b'{"keys":[]}'))
    ceremony.sign("bob", "carol", "npm-team")
    ceremony.merge()
    ceremony.signers["alice"] = new
    ceremony.online()
    return ceremony


def test_the_timestamp_comes_last_and_roots_after_what_they_lead_to(ready: Ceremony, tmp_path: Path) -> None:
    (done,) = publish_workspace(ready.workspace, tmp_path / "out", now=ready.now)
    assert [path.rpartition("/")[2].split(".", 1)[1] for path in done.written] == [
        "keys.json",
        f"{NPM}.json",
        "targets.json",
        "snapshot.json",
        "root.json",
        "json",
    ]
    assert done.written[-1] == TIMESTAMP_PATH
    assert done.replayed == len(READERS)
    assert set(contents(tmp_path / "out")) == set(done.written)


def test_publishing_again_writes_nothing(ready: Ceremony, tmp_path: Path) -> None:
    publish_workspace(ready.workspace, tmp_path / "out", now=ready.now)
    (again,) = publish_workspace(ready.workspace, tmp_path / "out", now=ready.now)
    assert again.written == ()


def test_destinations_come_from_the_policy(ready: Ceremony) -> None:
    (done,) = publish_workspace(ready.workspace, now=ready.now)
    assert done.where == str((ready.folder / "public").resolve())
    text = ready.workspace.policy_text()
    ready.workspace.write_policy(text.partition("[[destination]]")[0])
    with pytest.raises(InputError, match=r"kedge-repo\.toml: destination: is missing"):
        publish_workspace(ready.workspace, now=ready.now)


@pytest.mark.parametrize("off", [timedelta(hours=2), -timedelta(hours=2), timedelta(days=730)], ids=str)
def test_python_tuf_says_that_it_cannot_judge_by_another_time_than_the_machines(
    ready: Ceremony, tmp_path: Path, off: timedelta
) -> None:
    files = collect_files(ready.workspace)
    with pytest.raises(
        InputError, match=r"python-tuf judges by this machine's clock, .*: it cannot judge as of "
    ) as caught:
        replay(files, now=ready.now + off, readers={"python-tuf": read_with_python_tuf})
    assert format_time(ready.now + off) in caught.value.message
    with pytest.raises(InputError, match="python-tuf judges by this machine's clock"):
        publish_workspace(
            ready.workspace, tmp_path / "out", now=ready.now + off, readers={"python-tuf": read_with_python_tuf}
        )
    assert not (tmp_path / "out").exists()
    for minutes in (0, -30, 30):
        read_with_python_tuf(files.everything(), files.roots[0], files.targets, ready.now + timedelta(minutes=minutes))


def read_everywhere(folder: Path, roots: tuple[bytes, ...], now: datetime) -> None:
    for root in roots:
        read_with_kedge(contents(folder), root, (), now)
        read_with_python_tuf(contents(folder), root, (), now)


def published_in_steps(ceremony: Ceremony, folder: Path) -> tuple[str, ...]:
    """Publish, then take the new files away and give them back one by one, as a cut-off would leave them."""
    before = contents(folder)
    known = tuple(before[path] for path in sorted(before) if path.endswith(".root.json"))
    (done,) = publish_workspace(ceremony.workspace, folder, now=ceremony.now)
    assert not done.gap
    after = contents(folder)
    for path in after.keys() - before.keys():
        (folder / path).unlink()
    (folder / TIMESTAMP_PATH).write_bytes(before[TIMESTAMP_PATH])
    for path in done.written:
        (folder / path).write_bytes(after[path])
        read_everywhere(folder, known, ceremony.now)
    assert contents(folder) == after
    return done.written


def test_cut_off_after_any_file_clients_see_the_old_state_or_the_new_one(ready: Ceremony, tmp_path: Path) -> None:
    publish_workspace(ready.workspace, tmp_path / "out", now=ready.now)
    written = published_in_steps(moved_on(ready), tmp_path / "out")
    # alice's key is gone from root, and had signed targets: only the new timestamp holds under both roots.
    assert [path.rpartition("/")[2] for path in written[-2:]] == ["timestamp.json", "2.root.json"]


def test_a_root_that_the_old_timestamp_holds_under_goes_first(ready: Ceremony, tmp_path: Path) -> None:
    publish_workspace(ready.workspace, tmp_path / "out", now=ready.now)
    ready.change(lambda view: rotate_key(view, "carol", CryptoSigner.generate_ed25519().public_key))
    ready.sign("alice", "bob")
    ready.merge()
    ready.online()
    written = published_in_steps(ready, tmp_path / "out")
    assert [path.rpartition("/")[2] for path in written[-2:]] == ["2.root.json", "timestamp.json"]


def test_an_online_key_changes_without_a_gap_where_the_old_one_signs_too(ready: Ceremony, tmp_path: Path) -> None:
    publish_workspace(ready.workspace, tmp_path / "out", now=ready.now)
    old, new = ready.signers["ci"], CryptoSigner.generate_ed25519()
    ready.change(lambda view: rotate_key(view, "ci", new.public_key))
    ready.sign("alice", "bob")
    ready.merge()
    sign_online(ready.workspace, [old, new], now=ready.now)
    written = published_in_steps(ready, tmp_path / "out")
    assert [path.rpartition("/")[2] for path in written[-2:]] == ["timestamp.json", "2.root.json"]


def test_a_gap_that_nothing_can_close_is_said(ready: Ceremony, tmp_path: Path) -> None:
    publish_workspace(ready.workspace, tmp_path / "out", now=ready.now)
    new = CryptoSigner.generate_ed25519()
    ready.change(lambda view: rotate_key(view, "ci", new.public_key))
    ready.sign("alice", "bob")
    ready.merge()
    sign_online(ready.workspace, [new], now=ready.now)
    (done,) = publish_workspace(ready.workspace, tmp_path / "out", now=ready.now)
    assert done.gap
    assert [path.rpartition("/")[2] for path in done.written[-2:]] == ["2.root.json", "timestamp.json"]
    read_everywhere(tmp_path / "out", collect_files(ready.workspace).roots, ready.now)


def test_an_immutable_name_with_other_bytes_is_never_overwritten(ready: Ceremony, tmp_path: Path) -> None:
    publish_workspace(ready.workspace, tmp_path / "out", now=ready.now)
    path = tmp_path / "out/metadata/1.targets.json"
    path.write_bytes(path.read_bytes() + b" ")
    ready.online()
    before = contents(tmp_path / "out")
    with pytest.raises(InputError, match=r"1\.targets\.json: holds other bytes than this workspace") as caught:
        publish_workspace(ready.workspace, tmp_path / "out", now=ready.now)
    assert caught.value.exit_code == 2
    assert contents(tmp_path / "out") == before


def test_a_workspace_that_is_behind_changes_nothing(ready: Ceremony, tmp_path: Path) -> None:
    behind = collect_files(ready.workspace)
    ready.online()
    publish_workspace(ready.workspace, tmp_path / "out", now=ready.now)
    before = contents(tmp_path / "out")
    with pytest.raises(InputError, match=r"timestamp\.json: is version 2, and this workspace's is 1: somebody else"):
        write_files(behind, tmp_path / "out", now=ready.now)
    moved_on(ready)
    publish_workspace(ready.workspace, tmp_path / "out", now=ready.now)
    (tmp_path / "out" / TIMESTAMP_PATH).write_bytes(before[TIMESTAMP_PATH])
    with pytest.raises(InputError, match=r"2\.root\.json: is newer than this workspace"):
        write_files(behind, tmp_path / "out", now=ready.now)


def test_of_two_publishers_of_one_version_the_second_is_told(ready: Ceremony, tmp_path: Path) -> None:
    shutil.copytree(ready.workspace.root, tmp_path / "twin")
    twin = Workspace(root=tmp_path / "twin")
    ready.online()
    publish_workspace(ready.workspace, tmp_path / "out", now=ready.now)
    sign_online(twin, [ready.signers["ci"]], now=ready.now + timedelta(minutes=1))
    with pytest.raises(InputError, match="is version 2, and this workspace's is 2: somebody else has published"):
        publish_workspace(twin, tmp_path / "out", now=ready.now)


def test_a_reader_that_refuses_stops_the_publication(ready: Ceremony, tmp_path: Path) -> None:
    def refuses(*_: object) -> None:
        raise VerificationError("too strict", refusal=Refusal(reason=Reason.CONTENT))

    with pytest.raises(VerificationError, match="strict refuses this publication from root version 1: too strict"):
        publish_workspace(ready.workspace, tmp_path / "out", now=ready.now, readers={"strict": refuses})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("reader", list(READERS))
@pytest.mark.parametrize("lost", ["snapshot.json", "2.targets.json", f"2.{NPM}.json", "keys.json"])
def test_both_readers_see_that_a_file_is_missing(ready: Ceremony, reader: str, lost: str) -> None:
    files = collect_files(moved_on(ready).workspace)
    kept = {path: data for path, data in files.everything().items() if not path.endswith(lost)}
    assert len(kept) < len(files.everything())
    with pytest.raises(VerificationError):
        READERS[reader](kept, files.roots[0], files.targets, ready.now)
    READERS[reader](files.everything(), files.roots[0], files.targets, ready.now)


def test_replay_begins_at_every_root(ready: Ceremony) -> None:
    moved_on(ready)
    seen: list[bytes] = []

    def reader(_files: Mapping[str, bytes], root: bytes, *_: object) -> None:
        seen.append(root)

    files = collect_files(ready.workspace)
    assert replay(files, now=ready.now, readers={"noting": reader}) == 2
    assert tuple(seen) == files.roots


def test_a_target_that_was_changed_on_disk_is_not_published(ready: Ceremony, tmp_path: Path) -> None:
    ready.workspace.write_target(f"{NPM}/keys.json", b"changed")
    with pytest.raises(InputError, match=r"targets/registry\.npmjs\.org/keys\.json: is not what .* names"):
        publish_workspace(ready.workspace, tmp_path / "out", now=ready.now)
    assert not (tmp_path / "out").exists()


def test_without_a_timestamp_there_is_nothing_to_publish(tmp_path: Path) -> None:
    ceremony = Ceremony(tmp_path).found()
    ceremony.sign("alice", "bob", "npm-team")
    ceremony.merge()
    with pytest.raises(InputError, match=r"metadata/timestamp\.json: is missing"):
        publish_workspace(ceremony.workspace, tmp_path / "out", now=ceremony.now)


def test_a_folder_that_cannot_be_written_is_this_machines_fault(ready: Ceremony, tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"a file")
    with pytest.raises(StoreError, match="cannot be written"):
        publish_workspace(ready.workspace, tmp_path / "out", now=ready.now)


def test_nothing_of_ours_is_left_in_the_folder(ready: Ceremony, tmp_path: Path) -> None:
    (done,) = publish_workspace(ready.workspace, tmp_path / "out", now=ready.now)
    files = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert files == set(done.written)


def test_python_tuf_and_kedge_read_the_published_folder(ready: Ceremony, tmp_path: Path) -> None:
    initial = (ready.workspace.root / "metadata/1.root.json").read_bytes()
    moved_on(ready)
    publish_workspace(ready.workspace, tmp_path / "out", now=ready.now)
    files = contents(tmp_path / "out")
    read_with_python_tuf(files, initial, (f"{NPM}/keys.json",), ready.now)
    anchor = Anchor(name="example", initial_root=initial, mirrors=(Mirror(url=str(tmp_path / "out")),))
    with TrustClient(anchor, state=tmp_path / "state") as client:
        assert client.refresh().root.version == 2
        assert client.target(f"{NPM}/keys.json").data == b'{"keys":[]}'

"""The workspace's folder: found upwards, read strictly, written whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from kedge.errors import InputError, StoreError, VerificationError
from kedge_repo.audit.status import RoleHealth, workspace_status
from kedge_repo.events.init import Charter, Delegate, found_repository
from kedge_repo.events.open_event import read_signed, stand
from kedge_repo.workspace import files as disk
from kedge_repo.workspace.workspace import find_workspace
from repo_tools.ceremony import NPM, Ceremony, contents


@pytest.fixture
def ready(tmp_path: Path) -> Ceremony:
    return Ceremony(tmp_path).ready()


def test_a_workspace_is_found_upwards(ready: Ceremony, tmp_path: Path) -> None:
    assert find_workspace(ready.workspace.root / "metadata").root == ready.workspace.root.resolve()
    with pytest.raises(InputError, match=r"neither this folder nor one above it holds a kedge-repo\.toml"):
        find_workspace(tmp_path)


def rename_first_root(root: Path) -> None:
    (root / "metadata/1.root.json").rename(root / "metadata/2.root.json")


FAULTS: list[tuple[Callable[[Path], object], str]] = [
    (lambda root: (root / "kedge-repo.toml").write_bytes(b"\xff"), r"kedge-repo\.toml: is not UTF-8"),
    (lambda root: (root / "kedge-repo.toml").write_bytes(b"name = 1"), r"kedge-repo\.toml: format: is missing"),
    (lambda root: (root / "keys/alice.pub").unlink(), r"keys/alice\.pub: there is no such public key"),
    (lambda root: (root / "keys/alice.pub").write_bytes(b"x"), r"^keys/alice\.pub: must be a public key in PEM"),
    (
        lambda root: (root / "keys/alice.pub").write_bytes((root / "keys/carol.pub").read_bytes()),
        r"keys/carol\.pub: carol and alice hold the same key",
    ),
    (lambda root: (root / "metadata/1.targets.json").write_bytes(b"{"), r"^metadata/1\.targets\.json: is not JSON"),
    (rename_first_root, r"metadata/1\.root\.json: there is no such metadata file"),
    (
        lambda root: (root / "metadata/1.targets.json").rename(root / "metadata/7.targets.json"),
        r"metadata/7\.targets\.json: signed\.version: must be 7, as its name says, not 1",
    ),
]


@pytest.mark.parametrize(("damage", "problem"), FAULTS, ids=[fault[1][:50] for fault in FAULTS])
def test_a_malformed_file_is_the_users_and_named(
    ready: Ceremony, damage: Callable[[Path], object], problem: str
) -> None:
    damage(ready.workspace.root)
    with pytest.raises(InputError, match=problem) as caught:
        stand(ready.workspace)
    assert "\n" not in caught.value.message


def test_metadata_that_was_changed_by_hand_does_not_verify(ready: Ceremony) -> None:
    path = ready.workspace.root / f"metadata/1.{NPM}.json"
    path.write_bytes(path.read_bytes().replace(b'"length": 2121', b'"length": 2122'))
    with pytest.raises(VerificationError, match=r"registry\.npmjs\.org\.json: signed by 0 of the 1 keys"):
        read_signed(ready.workspace)


def test_the_status_says_what_is_due_and_what_has_expired(ready: Ceremony) -> None:
    def health(days: int) -> dict[str, RoleHealth]:
        found = workspace_status(ready.workspace, now=ready.now + timedelta(days=days))
        return {role.role: role.health for role in found.roles}

    assert set(health(0).values()) == {RoleHealth.VALID}
    assert health(5)["timestamp"] is RoleHealth.SIGNING_DUE
    assert health(8)["timestamp"] is RoleHealth.EXPIRED
    assert health(160)[NPM] is RoleHealth.SIGNING_DUE
    assert health(310)["root"] is RoleHealth.SIGNING_DUE


def test_a_repository_begins_once_and_a_bad_charter_writes_nothing(ready: Ceremony, tmp_path: Path) -> None:
    before = contents(ready.workspace.root)
    with pytest.raises(InputError, match="is there already; a repository begins once"):
        found_repository(ready.workspace.root, ready.charter(), now=ready.now)
    assert contents(ready.workspace.root) == before
    charter = ready.charter()
    bad: list[tuple[Charter, str]] = [
        (replace(charter, root_threshold=4), r"roles\.root\.threshold: must be at most 3"),
        (replace(charter, name="a b"), "name: must be letters"),
        (replace(charter, keyholders={**charter.keyholders, "a/b": b""}), 'keyholder: "a/b" is not a name'),
        (replace(charter, delegates=(Delegate(role="root", keyholders=("alice",)),)), "is a top-level role"),
        (replace(charter, delegates=(Delegate(role="x", keyholders=("dave",)),)), '"dave" is not described'),
        (replace(charter, online={"ci": charter.keyholders["alice"]}), "ci and alice hold the same key"),
        (replace(charter, online={"ci": b"?"}), "public key of ci: must be a public key in PEM"),
    ]
    for broken, problem in bad:
        with pytest.raises(InputError, match=problem):
            found_repository(tmp_path / "new", broken, now=ready.now)
        assert not (tmp_path / "new").exists()


def test_a_write_that_fails_leaves_the_former_file_and_no_other(tmp_path: Path) -> None:
    disk.replace_file(tmp_path / "a", b"1")
    (tmp_path / "a.d").mkdir()
    with pytest.raises(StoreError, match="cannot be written"):
        disk.replace_file(tmp_path / "a.d", b"2")
    with pytest.raises(StoreError, match="a: cannot be made a folder: file exists"):
        disk.create_file(tmp_path / "a/b", b"2")
    with pytest.raises(FileExistsError):
        disk.create_file(tmp_path / "a", b"2")
    assert (tmp_path / "a").read_bytes() == b"1"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "a.d"]

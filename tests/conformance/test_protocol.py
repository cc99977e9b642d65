"""What the public conformance suite takes for granted of the command that it runs: exit status, files, requests."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from support.server import HostileServer
from support.simulator import RepositorySimulator

COMMAND = Path(__file__).with_name("kedge-conformance")


class Suite:
    """The suite's side: one repository, one client's folders, one process a step."""

    def __init__(self, folder: Path, server: HostileServer, repo: RepositorySimulator) -> None:
        self.server = server
        self.repo = repo
        self.metadata = folder / "metadata"
        self.targets = folder / "targets"
        self.metadata.mkdir()
        self.targets.mkdir()
        (folder / "initial.json").write_bytes(repo.initial_root)
        assert self.step("init", str(folder / "initial.json")) == 0

    def step(self, *arguments: str) -> int:
        options = ("--metadata-dir", str(self.metadata))
        return subprocess.run([sys.executable, str(COMMAND), *options, *arguments], capture_output=True).returncode

    def refresh(self) -> int:
        return self.step("--metadata-url", f"{self.server.url}/metadata/", "refresh")

    def download(self, *paths: str) -> int:
        names = [argument for path in paths for argument in ("--target-name", path)]
        where = ("--target-base-url", f"{self.server.url}/targets/", "--target-dir", str(self.targets))
        return self.step("--metadata-url", f"{self.server.url}/metadata/", *names, *where, "download")

    @property
    def trusted(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.metadata.glob("*.json")}


@pytest.fixture
def suite(tmp_path: Path) -> Iterator[Suite]:
    repo = RepositorySimulator(now=datetime.now(UTC).replace(microsecond=0))
    repo.add_target("folder/file.txt", b"a file")
    repo.publish()
    with HostileServer(repo) as server:
        yield Suite(tmp_path, server, repo)


def served(repo: RepositorySimulator, *roles: str) -> dict[str, bytes]:
    return {f"{role}.json": repo.files[repo.path_of(role)] for role in roles}


def test_init_asks_for_nothing_and_a_refresh_asks_in_order(suite: Suite) -> None:
    assert suite.server.paths == []
    assert suite.refresh() == 0
    names = ["2.root.json", "timestamp.json", "2.snapshot.json", "2.targets.json"]
    assert suite.server.paths == [f"metadata/{name}" for name in names]


def test_what_is_trusted_lies_there_byte_for_byte_under_plain_names(suite: Suite) -> None:
    assert suite.refresh() == 0
    assert suite.trusted == served(suite.repo, "root", "timestamp", "snapshot", "targets")


def test_a_refused_refresh_exits_with_one_and_leaves_what_was_accepted(suite: Suite) -> None:
    assert suite.refresh() == 0
    old = suite.trusted
    suite.repo.publish()
    suite.repo.replace(suite.repo.path_of("snapshot"), b"{}")
    assert suite.refresh() == 1
    assert suite.trusted == {**old, **served(suite.repo, "timestamp")}


def test_a_mirror_that_does_not_answer_is_a_failure_although_something_is_stored(suite: Suite) -> None:
    assert suite.refresh() == 0
    suite.repo.replace("metadata/timestamp.json", None)
    assert suite.refresh() == 1


def test_targets_are_downloaded_in_order_and_not_twice(suite: Suite) -> None:
    assert suite.download("folder/file.txt") == 0
    (file,) = suite.targets.iterdir()
    assert file.read_bytes() == b"a file"
    assert suite.download("folder/file.txt", "missing", "folder/file.txt") == 1
    assert [path for path in suite.server.paths if path.startswith("targets/")] == [
        suite.repo.path_of_target("folder/file.txt", b"a file")
    ]

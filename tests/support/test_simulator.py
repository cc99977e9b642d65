"""The simulator against python-tuf's own client: what it publishes is honest, and its lies are lies."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tuf.api.exceptions import DownloadHTTPError, RepositoryError
from tuf.ngclient import Updater
from tuf.ngclient.fetcher import FetcherInterface

from support.simulator import RepositorySimulator, new_signers

NOW = datetime.now(UTC).replace(microsecond=0)


class _Files(FetcherInterface):
    def __init__(self, repo: RepositorySimulator) -> None:
        self.repo = repo

    def _fetch(self, url: str) -> Iterator[bytes]:
        path = url.removeprefix("https://simulator/")
        if path not in self.repo.files:
            raise DownloadHTTPError(path, 404)
        yield self.repo.files[path]


def updater(repo: RepositorySimulator, folder: Path) -> Updater:
    targets = folder / "targets"
    targets.mkdir(exist_ok=True, parents=True)
    return Updater(
        str(folder),
        metadata_base_url="https://simulator/metadata/",
        target_dir=str(targets),
        target_base_url="https://simulator/targets/",
        fetcher=_Files(repo),
        bootstrap=repo.initial_root,
    )


def fetched(repo: RepositorySimulator, folder: Path, path: str) -> bytes:
    client = updater(repo, folder)
    client.refresh()
    info = client.get_targetinfo(path)
    assert info is not None
    return Path(client.download_target(info)).read_bytes()


def test_python_tuf_accepts_every_honest_change(tmp_path: Path) -> None:
    repo = RepositorySimulator(now=NOW, root=(2, 3))
    repo.add_target("a.txt", b"one")
    repo.delegate("registry", paths=["registry/*"], keys=3, threshold=2)
    repo.add_target("registry/keys.json", b"{}", role="registry", custom={"kedge": {"v": 1}})
    repo.publish()
    assert fetched(repo, tmp_path, "a.txt") == b"one"
    assert fetched(repo, tmp_path, "registry/keys.json") == b"{}"

    for role in ("root", "timestamp", "snapshot", "targets", "root"):
        repo.rotate(role, keys=3, threshold=2)
    repo.add_target("a.txt", b"two")
    repo.publish()
    assert fetched(repo, tmp_path, "a.txt") == b"two"
    assert repo.root.version == 6


def test_python_tuf_finds_a_target_in_a_succinct_bin(tmp_path: Path) -> None:
    repo = RepositorySimulator(now=NOW, meta_hashes=False)
    repo.delegate_bins(bit_length=4)
    repo.add_target("p/q.txt", b"binned", role=repo.bin_of("p/q.txt"))
    repo.publish()
    assert fetched(repo, tmp_path, "p/q.txt") == b"binned"


def test_python_tuf_refuses_each_kind_of_lie_and_accepts_the_truth_again(tmp_path: Path) -> None:
    repo = RepositorySimulator(now=NOW)
    old = repo.save()
    repo.publish()
    updater(repo, tmp_path).refresh()
    with repo.lying():
        repo.restore(old)
        refused(repo, tmp_path)
    with repo.lying():
        repo.publish()
        repo.sign("timestamp", signers=new_signers())
        refused(repo, tmp_path)
    with repo.lying():
        with repo.edit("root") as root:
            root.roles["root"].threshold = 2
        refused(repo, tmp_path)
    with repo.lying():
        with repo.tamper("metadata/timestamp.json") as document:
            document["signed"]["version"] += 1
        refused(repo, tmp_path)
    with repo.lying():
        with repo.edit("timestamp") as timestamp:
            timestamp.expires = NOW - timedelta(seconds=1)
        refused(repo, tmp_path)
    repo.publish()
    updater(repo, tmp_path).refresh()


def refused(repo: RepositorySimulator, folder: Path) -> None:
    with pytest.raises(RepositoryError):
        updater(repo, folder).refresh()


def test_written_to_a_folder_it_replaces_what_stood_there(tmp_path: Path) -> None:
    repo = RepositorySimulator(now=NOW)
    repo.add_target("a/b.txt", b"one")
    repo.write(tmp_path)
    with repo.lying():
        repo.replace("metadata/1.root.json", None)
        repo.write(tmp_path)
        assert not (tmp_path / "metadata/1.root.json").exists()
    repo.publish()
    repo.write(tmp_path)
    on_disk = {
        path.relative_to(tmp_path).as_posix(): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()
    }
    assert on_disk == repo.files

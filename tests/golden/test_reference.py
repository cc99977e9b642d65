"""metadata/reference/: readers accept it, its history holds what its README says, and the script still makes it."""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tuf.api.exceptions import DownloadHTTPError
from tuf.api.metadata import Metadata, Root, Targets
from tuf.ngclient import Updater, UpdaterConfig
from tuf.ngclient.fetcher import FetcherInterface

from kedge.client.anchor import Anchor
from kedge.client.client import TrustClient
from kedge.transport.mirror import Mirror

REGISTRY = "registry.npmjs.org"
OLD, NEW = "SHA256:jl3bwswu80PjjokCgh0o2w5c2U4LhQAE57gj9cz1kzA", "SHA256:DhQ8wR5APBvFHLF/+Tc+AYvPOdTpcIDqOhxsBHRwC7U"


@pytest.fixture
def reference(repository: Path) -> Path:
    return repository / "metadata/reference"


class FolderFetcher(FetcherInterface):
    """Gives python-tuf the files of a folder."""

    def _fetch(self, url: str) -> Iterator[bytes]:
        path = Path(url.removeprefix("folder:"))
        if not path.is_file():
            raise DownloadHTTPError("not there", 404)
        return iter([path.read_bytes()])


def keys_of(target: bytes) -> set[str]:
    return {key["keyId"] for key in json.loads(target)["keys"]}


def test_kedge_walks_to_the_newest_root_and_gets_both_keys(reference: Path, tmp_path: Path) -> None:
    root = (reference / "metadata/1.root.json").read_bytes()
    anchor = Anchor(name="reference", initial_root=root, mirrors=(Mirror(url=str(reference)),))
    with TrustClient(anchor, state=tmp_path / "state") as client:
        keys = client.registry_keys(REGISTRY)
        assert client.trust.root.version == 2
    assert {key.id for key in keys.keys} == {OLD, NEW}


def test_python_tuf_accepts_it(reference: Path, tmp_path: Path) -> None:
    updater = Updater(
        metadata_dir=str(tmp_path / "metadata"),
        metadata_base_url=f"folder:{reference}/metadata/",
        target_dir=str(tmp_path),
        target_base_url=f"folder:{reference}/targets/",
        fetcher=FolderFetcher(),
        config=UpdaterConfig(prefix_targets_with_hash=True),
        bootstrap=(reference / "metadata/1.root.json").read_bytes(),
    )
    updater.refresh()
    target = updater.get_targetinfo(f"{REGISTRY}/keys.json")
    assert target is not None
    assert keys_of(Path(updater.download_target(target)).read_bytes()) == {OLD, NEW}


def test_its_history_is_the_rotation_of_january_2025_and_a_new_key_for_carol(reference: Path) -> None:
    documents = []
    for version in (1, 2):
        role: Metadata[Targets] = Metadata.from_file(str(reference / f"metadata/{version}.{REGISTRY}.json"))
        digest = role.signed.targets[f"{REGISTRY}/keys.json"].hashes["sha256"]
        documents.append((reference / f"targets/{REGISTRY}/{digest}.keys.json").read_bytes())
    assert [keys_of(document) for document in documents] == [{OLD}, {OLD, NEW}]
    first: Metadata[Root] = Metadata.from_file(str(reference / "metadata/1.root.json"))
    second: Metadata[Root] = Metadata.from_file(str(reference / "metadata/2.root.json"))
    kept = set(first.signed.roles["root"].keyids) & set(second.signed.roles["root"].keyids)
    assert len(kept) == 2
    assert second.signed.roles["root"].threshold == 2


def test_the_script_makes_the_same_files_with_other_keys(
    repository: Path, reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["make_reference.py", str(tmp_path / "made")])
    runpy.run_path(str(repository / "metadata/make_reference.py"), run_name="__main__")
    made = {path.relative_to(tmp_path / "made") for path in (tmp_path / "made").rglob("*.json")}
    assert made == {path.relative_to(reference) for path in reference.rglob("*.json")}
    root = (tmp_path / "made/metadata/1.root.json").read_bytes()
    assert root != (reference / "metadata/1.root.json").read_bytes()


def test_it_holds_no_private_key_and_nothing_else(reference: Path) -> None:
    files = [path for path in reference.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".md"}
    assert not any(b"PRIVATE" in path.read_bytes() for path in files)

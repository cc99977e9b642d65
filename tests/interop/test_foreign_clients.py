"""What kedge-repo publishes is read by clients that others wrote: python-tuf's ``Updater`` and tuf-js.

Each reading client has its control in the same test: one changed byte, and it refuses.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from interop.ceremony import NPM, Maintained
from interop.readers import PythonTuf, Reader, RefusedError, TufJs
from kedge_repo.catalogue import catalogue_entry
from support.server import HostileServer

KEYS = f"{NPM}/keys.json"

MakeReader = Callable[[str, bytes], Reader]


@pytest.fixture(params=["python-tuf", "tuf-js"])
def new_reader(request: pytest.FixtureRequest, tmp_path: Path) -> MakeReader:
    """``new_reader(name, initial_root)`` makes a client with an empty cache."""
    if request.param == "python-tuf":
        return lambda name, root: PythonTuf(tmp_path / name, root)
    peers: Path = request.getfixturevalue("peers")
    return lambda name, root: TufJs(tmp_path / name, root, peers)


@pytest.fixture
def maintained(tmp_path: Path) -> Maintained:
    # Foreign clients read the system clock, so what they read must be of today.
    return Maintained(tmp_path, now=datetime.now(UTC).replace(microsecond=0))


def test_a_foreign_client_reads_the_first_ceremony(maintained: Maintained, new_reader: MakeReader) -> None:
    with HostileServer(maintained.public) as server:
        found = new_reader("client", maintained.initial_root).read(server.url, [KEYS])
    assert found.root == 1
    assert found.targets == {KEYS: catalogue_entry(NPM).target_bytes}


def test_a_foreign_client_follows_rotations_with_and_without_a_cache(
    maintained: Maintained, new_reader: MakeReader
) -> None:
    with HostileServer(maintained.public) as server:
        old = new_reader("old", maintained.initial_root)
        assert old.read(server.url, [KEYS]).root == 1
        maintained.rotate("carol", "alice")
        maintained.rotate("alice", "carol")
        maintained.replace_target(KEYS, b'{"keys": []}')
        for client in (old, new_reader("new", maintained.initial_root)):
            found = client.read(server.url, [KEYS])
            assert found.root == 3
            assert found.targets == {KEYS: b'{"keys": []}'}


@pytest.mark.parametrize("file", ["metadata/timestamp.json", "metadata/1.snapshot.json", "metadata/1.targets.json"])
def test_a_foreign_client_refuses_one_changed_byte(
    maintained: Maintained, new_reader: MakeReader, tmp_path: Path, file: str
) -> None:
    spoilt = tmp_path / "spoilt"
    shutil.copytree(maintained.public, spoilt)
    data = (spoilt / file).read_bytes()
    changed = data.replace(b'"version": 1', b'"version": 7')
    assert changed != data
    (spoilt / file).write_bytes(changed)
    with HostileServer(spoilt) as server, pytest.raises(RefusedError):
        new_reader("refusing", maintained.initial_root).read(server.url, [KEYS])
    with HostileServer(maintained.public) as server:
        assert new_reader("reading", maintained.initial_root).read(server.url, [KEYS]).root == 1


def test_a_foreign_client_reads_what_the_demo_leaves(new_reader: MakeReader, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "kedge", "demo", "--keep", str(tmp_path / "kept"), "--json"]
    played = subprocess.run(command, capture_output=True, text=True)
    assert played.returncode == 0, played.stderr
    published = Path(json.loads(played.stdout)["repository"])
    with HostileServer(published) as server:
        found = new_reader("client", (published / "metadata" / "1.root.json").read_bytes()).read(server.url, [KEYS])
    assert json.loads(found.targets[KEYS]) == json.loads(catalogue_entry(NPM).target_bytes)

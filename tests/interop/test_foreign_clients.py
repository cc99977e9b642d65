"""What kedge-repo publishes is read by clients that others wrote: python-tuf, tuf-js, @sigstore/tuf and go-tuf v2.

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

from conftest import Require
from interop.ceremony import HOLDERS, NPM, Maintained
from interop.readers import BothLayouts, GoTuf, PythonTuf, Reader, RefusedError, SigstoreTuf, TufJs
from kedge_repo.publish.publish import publish_workspace
from kedge_repo.signing.signers.keyfile import Algorithm
from kedge_repo.workspace.catalogue import catalogue_entry
from repo_tools.test_several_digests import with_digests
from support.server import HostileServer

KEYS = f"{NPM}/keys.json"
READERS = ("python-tuf", "tuf-js", "@sigstore/tuf", "go-tuf")

MakeReader = Callable[[str, bytes], Reader]


@pytest.fixture(params=READERS)
def new_reader(request: pytest.FixtureRequest, require: Require, tmp_path: Path) -> MakeReader:
    """``new_reader(name, initial_root)`` makes a client with an empty cache."""
    if request.param == "python-tuf":
        return lambda name, root: PythonTuf(tmp_path / name, root)
    peers: Path = request.getfixturevalue("peers")
    if request.param == "tuf-js":
        return lambda name, root: TufJs(tmp_path / name, root, peers)
    if request.param == "@sigstore/tuf":
        require((peers / "@sigstore" / "tuf").is_dir(), "@sigstore/tuf is not there: run make peers")
        return lambda name, root: SigstoreTuf(tmp_path / name, root, peers)
    program = peers.parent / "go-tuf-reader"
    require(program.is_file(), "go-tuf's reader is not built: run make peers")
    return lambda name, root: GoTuf(tmp_path / name, root, program)


@pytest.fixture
def today() -> datetime:
    # Foreign clients read the system clock, so what they read must be of today.
    return datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
def maintained(tmp_path: Path, today: datetime) -> Maintained:
    return Maintained(tmp_path, now=today)


def test_a_foreign_client_reads_the_first_ceremony(maintained: Maintained, new_reader: MakeReader) -> None:
    with HostileServer(BothLayouts(maintained.public)) as server:
        found = new_reader("client", maintained.initial_root).read(server.url, [KEYS])
    assert found.root == 1
    assert found.targets == {KEYS: catalogue_entry(NPM).target_bytes}


def test_a_foreign_client_follows_rotations_with_and_without_a_cache(
    maintained: Maintained, new_reader: MakeReader
) -> None:
    with HostileServer(BothLayouts(maintained.public)) as server:
        old = new_reader("old", maintained.initial_root)
        assert old.read(server.url, [KEYS]).root == 1
        maintained.rotate("carol", "alice")
        maintained.rotate("alice", "carol")
        maintained.replace_target(KEYS, b'{"keys": []}')
        for client in (old, new_reader("new", maintained.initial_root)):
            found = client.read(server.url, [KEYS])
            assert found.root == 3
            assert found.targets == {KEYS: b'{"keys": []}'}


def test_a_foreign_client_gets_a_target_of_several_digests_each_time(tmp_path: Path, new_reader: MakeReader) -> None:
    """go-tuf asks for any of the names, and not for the same one each time."""
    made = with_digests(tmp_path / "made", ("sha512", "sha256"))
    public = made.folder / "public"
    publish_workspace(made.workspace, public, now=made.now)
    root = (public / "metadata" / "1.root.json").read_bytes()
    with HostileServer(BothLayouts(public)) as server:
        client = new_reader("client", root)
        for number in range(40 if isinstance(client, GoTuf) else 1):
            found = new_reader(f"client-{number}", root).read(server.url, [KEYS])
            assert found.targets == {KEYS: catalogue_entry(NPM).target_bytes}


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
    with HostileServer(BothLayouts(spoilt)) as server, pytest.raises(RefusedError):
        new_reader("refusing", maintained.initial_root).read(server.url, [KEYS])
    with HostileServer(BothLayouts(maintained.public)) as server:
        assert new_reader("reading", maintained.initial_root).read(server.url, [KEYS]).root == 1


def test_a_foreign_client_reads_hash_bins(new_reader: MakeReader, maintained: Maintained) -> None:
    maintained.delegate_bins("packages", bit_length=3)
    files = {f"packages/package-{number}.json": f"keys {number}".encode() for number in range(12)}
    assert maintained.put_in_bins("packages", files) > 1
    maintained.rotate("carol", "alice")
    with HostileServer(BothLayouts(maintained.public)) as server:
        client = new_reader("client", maintained.initial_root)
        found = client.read(server.url, [KEYS, *files])
        assert found.root == 2
        assert found.targets == {KEYS: catalogue_entry(NPM).target_bytes, **files}
        again = files | {"packages/package-7.json": b"other keys"}
        assert maintained.put_in_bins("packages", again) == 1
        assert client.read(server.url, list(again)).targets == again


@pytest.mark.parametrize("changed", ["bin", "target"])
def test_a_foreign_client_refuses_one_changed_byte_of_a_bin_or_its_target(
    maintained: Maintained, new_reader: MakeReader, tmp_path: Path, changed: str
) -> None:
    maintained.delegate_bins("packages", bit_length=1)
    files = {"packages/a.json": b"content of a"}
    maintained.put_in_bins("packages", files)
    spoilt = tmp_path / "spoilt"
    shutil.copytree(maintained.public, spoilt)
    if changed == "bin":
        (file,) = (file for file in spoilt.glob("metadata/*.packages-?.json") if b"a.json" in file.read_bytes())
        file.write_bytes(file.read_bytes().replace(b'"length":12', b'"length":13'))
    else:
        (file,) = spoilt.glob("targets/packages/*.a.json")
        file.write_bytes(b"Content of a")
    with HostileServer(BothLayouts(spoilt)) as server, pytest.raises(RefusedError):
        new_reader("refusing", maintained.initial_root).read(server.url, list(files))
    with HostileServer(BothLayouts(maintained.public)) as server:
        assert new_reader("reading", maintained.initial_root).read(server.url, list(files)).targets == files


def test_one_ml_dsa_key_beside_a_threshold_of_others_stops_go_tuf_only(
    new_reader: MakeReader, request: pytest.FixtureRequest, tmp_path: Path, today: datetime
) -> None:
    maintained = Maintained(tmp_path, now=today, algorithms={"carol": Algorithm.ML_DSA_65})
    with HostileServer(BothLayouts(maintained.public)) as server:
        client = new_reader("client", maintained.initial_root)
        if "go-tuf" in request.node.name:  # 2.4.2 reads no root that holds a key of a kind that it does not know
            with pytest.raises(RefusedError, match="unsupported public key type"):
                client.read(server.url, [KEYS])
            return
        assert client.read(server.url, [KEYS]).root == 1
        maintained.rotate("alice", "bob")
        assert client.read(server.url, [KEYS]).root == 2


def test_a_repository_of_ml_dsa_keys_is_read_by_python_tuf_and_refused_by_the_others(
    new_reader: MakeReader, request: pytest.FixtureRequest, tmp_path: Path, today: datetime
) -> None:
    everybody = (*HOLDERS, "npm-team", "ci")
    maintained = Maintained(tmp_path, now=today, algorithms=dict.fromkeys(everybody, Algorithm.ML_DSA_65))
    with HostileServer(BothLayouts(maintained.public)) as server:
        client = new_reader("client", maintained.initial_root)
        if "python-tuf" in request.node.name:
            assert client.read(server.url, [KEYS]).targets == {KEYS: catalogue_entry(NPM).target_bytes}
        else:
            with pytest.raises(RefusedError):
                client.read(server.url, [KEYS])


def test_a_foreign_client_reads_what_the_demo_leaves(new_reader: MakeReader, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "kedge", "demo", "--keep", str(tmp_path / "kept"), "--json"]
    played = subprocess.run(command, capture_output=True, text=True)
    assert played.returncode == 0, played.stderr
    published = Path(json.loads(played.stdout)["repository"])
    with HostileServer(BothLayouts(published)) as server:
        found = new_reader("client", (published / "metadata" / "1.root.json").read_bytes()).read(server.url, [KEYS])
    assert json.loads(found.targets[KEYS]) == json.loads(catalogue_entry(NPM).target_bytes)


def test_root_keys_of_both_kinds_with_a_guarantee_of_both_are_read_by_python_tuf_alone(
    new_reader: MakeReader, request: pytest.FixtureRequest, tmp_path: Path, today: datetime
) -> None:
    # 3 + 3 at 5, as lint policy proposes: of five signatures, no client without ML-DSA counts more than three.
    maintained = Maintained(tmp_path, now=today)
    maintained.guard_root({f"pq-{number}": Algorithm.ML_DSA_44 for number in range(1, 4)}, threshold=5)
    with HostileServer(BothLayouts(maintained.public)) as server:
        client = new_reader("client", maintained.initial_root)
        if "python-tuf" in request.node.name:
            assert client.read(server.url, [KEYS]).root == 3
        else:
            with pytest.raises(RefusedError):
                client.read(server.url, [KEYS])

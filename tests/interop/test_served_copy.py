"""A copy that ``kedge mirror sync`` made of Sigstore's real repository serves python-tuf, tuf-js and kedge.

The repository is of August 2026: python-tuf and tuf-js read the system clock, which faketime sets for them.
"""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread

import pytest

from conftest import Require
from kedge.client.anchor import Anchor
from kedge.client.client import TrustClient
from kedge.client.settings import FixedClock
from kedge.mirror.folder import MirrorFolder
from kedge.mirror.serve import LoopbackServer
from kedge.mirror.sync import Layout, Options, copy_repository
from kedge.transport.mirror import Mirror
from kedge.transport.open import open_mirror

TODAY = datetime(2026, 8, 22, tzinfo=UTC)
TARGETS = ("registry.npmjs.org/keys.json", "trusted_root.json")
WITH_PYTHON_TUF = """
import sys
from pathlib import Path
from tuf.ngclient import Updater
url, folder, root, *targets = sys.argv[1:]
for name in ("metadata", "targets"):
    Path(folder, name).mkdir(parents=True)
updater = Updater(f"{folder}/metadata", f"{url}/metadata/", f"{folder}/targets", f"{url}/targets/",
                  bootstrap=Path(root).read_bytes())
for target in targets:
    print(Path(updater.download_target(updater.get_targetinfo(target))).read_bytes().hex())
"""


@pytest.fixture
def anchor(shared_vectors: Path) -> Anchor:
    source = shared_vectors / "sigstore-repo"
    root = (source / "metadata" / "5.root.json").read_bytes()
    return Anchor(name="sigstore", initial_root=root, mirrors=(Mirror(url=str(source)),))


@pytest.fixture
def url(anchor: Anchor, tmp_path: Path) -> Iterator[str]:
    """Where the copy is served."""
    copy = tmp_path / "copy"
    with (
        TrustClient(anchor, state=tmp_path / "state", clock=FixedClock(TODAY)) as client,
        closing(open_mirror(anchor.mirrors[0])) as source,
    ):
        copy_repository(client, [source], MirrorFolder(copy), Options(layout=Layout()), now=TODAY)
    with LoopbackServer(copy) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server.url
        server.shutdown()


@pytest.fixture
def right(shared_vectors: Path) -> list[bytes]:
    folder = shared_vectors / "sigstore-repo" / "targets"
    return [next(folder.rglob(f"*.{name.rpartition('/')[2]}")).read_bytes() for name in TARGETS]


def run(*command: object) -> str:
    done = subprocess.run(
        ["faketime", "-f", "@2026-08-22 00:00:00", *map(str, command)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_kedge_reads_it(url: str, anchor: Anchor, right: list[bytes], tmp_path: Path) -> None:
    served = Anchor(name="sigstore", initial_root=anchor.initial_root, mirrors=(Mirror(url=url),))
    with TrustClient(served, state=tmp_path / "reader", clock=FixedClock(TODAY)) as client:
        assert [client.target(path).data for path in TARGETS] == right
        assert client.trust.root.version == 15


def test_python_tuf_reads_it(require: Require, url: str, anchor: Anchor, right: list[bytes], tmp_path: Path) -> None:
    require(shutil.which("faketime"), "faketime is not installed")
    (tmp_path / "root.json").write_bytes(anchor.initial_root)
    told = run(sys.executable, "-c", WITH_PYTHON_TUF, url, tmp_path / "reader", tmp_path / "root.json", *TARGETS)
    assert [bytes.fromhex(line) for line in told.splitlines()] == right


def test_tuf_js_reads_it(
    require: Require, url: str, anchor: Anchor, right: list[bytes], tmp_path: Path, peers: Path
) -> None:
    require(shutil.which("faketime"), "faketime is not installed")
    folder = tmp_path / "reader"
    for name in ("metadata", "targets"):
        (folder / name).mkdir(parents=True)
    (folder / "metadata" / "root.json").write_bytes(anchor.initial_root)
    script = Path(__file__).with_name("read_with_tuf_js.cjs")
    found = json.loads(run("node", script, peers, f"{url}/metadata", f"{url}/targets", folder, *TARGETS))
    assert found["root"] == 15
    assert [base64.b64decode(found["targets"][path]) for path in TARGETS] == right

"""Exit 0 never goes with other bytes installed: kedge beside the real npm, pnpm, Yarn 1, Yarn 4 and bun.

Honest lockfiles, as these tools write them, are changed in ways that follow from a seed. ``kedge verify npm`` judges
each; where it exits 0 the real installer installs from the same file, and no archive that nobody signed may come into
the tree. What an installer refuses proves nothing, and is counted.

``KEDGE_DIFFERENTIAL=N`` tries N files for each installer (``make differential``).
"""

from __future__ import annotations

import contextlib
import io
import os
import random
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from conftest import Require
from differential.mutations import Scene, mutate
from differential.stage import EVIL_PATH, INSTALLERS, MARK, Installer, honest_files, install, marked, write_project
from interop.npm_world import Issuer, key_document, sri, tarball
from interop.npm_world.tools import Tools
from kedge._cli.app import run as run_kedge
from kedge.client.anchor import Anchor, add_anchor
from kedge.transport.mirror import Mirror
from support.server import HostileServer
from support.simulator import RepositorySimulator

FILES = int(os.environ.get("KEDGE_DIFFERENTIAL", "45"))
REGISTRY = "registry.example"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A registry, the installers, and a user whose anchor has the registry's keys."""

    server: HostileServer
    tools: Tools
    folder: Path
    npm: Issuer

    def verify(self, lockfile: Path) -> int:
        """The exit status of ``kedge verify npm`` on a file."""
        line = ["verify", "npm", str(lockfile), "--registry", self.server.url, "--upstream", REGISTRY]
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            return run_kedge(line)

    def scene(self, seed: str) -> Scene:
        """What mutations use, with the chance of a seed."""
        good = sri(tarball("good", "1.0.0", {"index.js": b"ok"}))
        return Scene(
            evil=f"{self.server.url}/{EVIL_PATH}",
            evil_git=f"{self.server.url}/evil/good.git",
            evil_integrity=sri(tarball("good", "1.0.0", {MARK: b""})),
            good_integrity=good,
            random=random.Random(seed),
        )


@pytest.fixture(scope="module")
def stage(require: Require, repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    modules = Path(os.environ.get("KEDGE_PEERS") or repository / ".peers") / "node_modules"
    wanted = ("npm", "pnpm", "yarn", "@yarnpkg/cli-dist", "@oven/bun-linux-x64", ".bin/node")
    missing = [name for name in wanted if not (modules / name).exists()]
    require(not missing, f"{', '.join(missing)} not there: run make peers")
    folder = tmp_path_factory.mktemp("differential")
    npm, files = Issuer(), dict[str, bytes]()
    repo = RepositorySimulator(now=datetime(2098, 1, 1, tzinfo=UTC))
    repo.add_target(f"{REGISTRY}/keys.json", key_document(npm))
    repo.publish()
    repo.write(folder / "repository")
    mirror = Mirror(url=str(folder / "repository"))
    anchor = Anchor(name="example", initial_root=repo.initial_root, mirrors=(mirror,), registries=(REGISTRY,))
    (folder / "home").mkdir()
    with HostileServer(files) as server, pytest.MonkeyPatch.context() as patch:
        files |= honest_files(server.url, npm)
        for name in [name for name in os.environ if name.startswith(("KEDGE_", "npm_config"))]:
            patch.delenv(name)
        patch.setenv("KEDGE_CONFIG_DIR", str(folder / "config"))
        patch.setenv("KEDGE_STATE_DIR", str(folder / "state"))
        patch.setenv("HOME", str(folder / "home"))
        add_anchor(anchor, folder / "config")
        yield Stage(server=server, tools=Tools(modules=modules, home=folder / "home"), folder=folder, npm=npm)


@pytest.fixture(scope="module")
def honest(stage: Stage) -> Callable[[str], tuple[Path, str]]:
    """The project of an installer, and the lockfile that it wrote for it; each is made once."""
    made: dict[str, tuple[Path, str]] = {}

    def project(kind: str) -> tuple[Path, str]:
        if kind not in made:
            folder = stage.folder / kind / "project"
            write_project(folder, stage.server.url)
            done = install(INSTALLERS[kind], stage.tools, folder, making=True)
            assert done.code == 0, done.out + done.err
            made[kind] = folder, (folder / INSTALLERS[kind].lockfile).read_text()
            clean(folder)
        return made[kind]

    return project


def clean(folder: Path) -> None:
    """Take out what an installer left."""
    for name in ("node_modules", ".yarn", ".pnp.cjs"):
        path = folder / name
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def outcome(stage: Stage, installer: Installer, folder: Path, text: str) -> str:
    """What became of one lockfile: refused by kedge, refused by the installer, or installed without a mark."""
    file = folder / installer.lockfile
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    code = stage.verify(file)
    if code:
        return f"kedge exits {code}"
    try:
        installed = install(installer, stage.tools, folder).code == 0
    except subprocess.TimeoutExpired:  # it goes on asking a host that is not there; what it left is looked at
        installed = False
    try:
        if marked(folder):
            return "MARK"
        return "installed, and nothing in it is unsigned" if installed else "the installer refuses"
    finally:
        clean(folder)


@pytest.mark.parametrize("kind", INSTALLERS)
def test_a_lockfile_that_the_installer_wrote_is_verified_and_installs(
    stage: Stage, honest: Callable[[str], tuple[Path, str]], kind: str
) -> None:
    folder, text = honest(kind)
    # What Yarn 2 and later lock is a digest of an archive of their own making, which no registry signs.
    expected = "kedge exits 5" if kind == "berry" else "installed, and nothing in it is unsigned"
    assert outcome(stage, INSTALLERS[kind], folder, text) == expected


@pytest.mark.parametrize("kind", INSTALLERS)
def test_the_registry_really_serves_a_mark(stage: Stage, kind: str) -> None:
    """The control: with a dependency on the evil package the installer's tree has a mark, and kedge does not exit 0."""
    folder = stage.folder / f"{kind}-control" / "project"
    write_project(folder, stage.server.url)
    manifest = folder / "package.json"
    manifest.write_text(manifest.read_text().replace('"good": "1.0.0"', '"evil": "1.0.0"'))
    installer = INSTALLERS[kind]
    assert install(installer, stage.tools, folder, making=True).code == 0
    assert install(installer, stage.tools, folder).code == 0
    assert marked(folder)
    assert stage.verify(folder / installer.lockfile) == 5


@pytest.mark.parametrize("kind", INSTALLERS)
def test_exit_0_never_goes_with_an_archive_that_nobody_signed(
    stage: Stage,
    honest: Callable[[str], tuple[Path, str]],
    kind: str,
    record_property: Callable[[str, object], None],
) -> None:
    folder, text = honest(kind)
    counts: Counter[str] = Counter()
    for number in range(FILES):
        changed = mutate(text, kind, stage.scene(f"{kind} {number}"))
        what = outcome(stage, INSTALLERS[kind], folder, changed)
        assert what != "MARK", f"seed {kind} {number}:\n{changed}"
        counts[what] += 1
    assert counts.total() == FILES
    assert any(what.startswith("kedge exits") for what in counts)
    record_property("figure", f"{kind}: " + ", ".join(f"{count} times {what}" for what, count in counts.most_common()))

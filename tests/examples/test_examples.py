"""The example programs do what they promise, and refuse what they must."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from cli.conftest import World, shell, world
from conftest import Require
from interop.npm_world import Issuer, Package, key_document, packument
from support.server import HostileServer

__all__ = ["shell", "world"]  # fixtures of the commands' tests

UPSTREAM = "registry.example"
PROGRAM = b"console.log('ran', process.argv.slice(2).join(' '));\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirror:
    """A machine with an anchor, and a package mirror beside it."""

    world: World
    files: dict[str, bytes]
    server: HostileServer
    npm: Issuer
    examples: Path

    def serve(self, package: Package) -> None:
        self.files.clear()
        self.files.update(packument(self.server.url, [package]))

    def run(self, program: str, *arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, str(self.examples / program), *map(str, arguments)]
        return subprocess.run(
            line,
            env=self.world.shell.environment(**environment),
            cwd=self.world.shell.folder,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def install(self, *more: str) -> subprocess.CompletedProcess[str]:
        registry = ("--registry", self.server.url, "--signer", UPSTREAM, "--anchor", "repo")
        return self.run("install.py", "tool", "1.0.0", *registry, *more)

    def bootstrap(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        variables = {"REGISTRY": self.server.url, "SIGNER": UPSTREAM, "ANCHOR": "repo", "CACHE": "cache"}
        environment = {f"KEDGE_EXAMPLE_{name}": value for name, value in variables.items()}
        return self.run("bootstrap.py", *arguments, **environment)


@pytest.fixture
def mirror(world: World, repository: Path) -> Iterator[Mirror]:
    npm = Issuer()
    world.publish(key_document(npm))
    world.add_anchor()
    files: dict[str, bytes] = {}
    with HostileServer(files) as server:
        yield Mirror(world=world, files=files, server=server, npm=npm, examples=repository / "examples")


def tool(*issuers: Issuer) -> Package:
    manifest = json.dumps({"name": "tool", "version": "1.0.0", "bin": "cli.js"}).encode()
    return Package.made("tool", "1.0.0", *issuers, files={"package.json": manifest, "cli.js": PROGRAM})


def pnpm(*issuers: Issuer) -> Package:
    manifest = json.dumps({"name": "pnpm", "version": "10.1.0", "bin": {"pnpm": "cli.js"}}).encode()
    return Package.made("pnpm", "10.1.0", *issuers, files={"package.json": manifest, "cli.js": PROGRAM})


def test_what_the_registry_signed_is_installed(mirror: Mirror) -> None:
    mirror.serve(tool(mirror.npm))
    done = mirror.install()
    assert (done.returncode, done.stdout) == (0, "node_modules/tool\n"), done.stderr
    assert (mirror.world.shell.folder / "node_modules/tool/cli.js").read_bytes() == PROGRAM


@pytest.mark.parametrize("lie", ["own key", "other bytes", "no signature"])
def test_a_lying_mirror_installs_nothing(mirror: Mirror, lie: str) -> None:
    honest = tool(mirror.npm)
    swapped = Package.made("tool", "1.0.0", files={"cli.js": b"evil"})
    mirror.serve(
        {
            "own key": swapped.signed(Issuer()),
            "other bytes": replace(swapped, signatures=honest.signatures),
            "no signature": replace(honest, signatures=None),
        }[lie]
    )
    done = mirror.install()
    assert (done.returncode, done.stdout) == (1 if lie == "no signature" else 3, "")
    assert done.stderr.startswith("install: ")
    assert done.stderr.count("\n") == 1
    assert not (mirror.world.shell.folder / "node_modules").exists()


def test_the_bootstrap_survives_a_key_rotation_without_a_new_version(mirror: Mirror, require: Require) -> None:
    require(shutil.which("node"), "node is not installed")
    (mirror.world.shell.folder / "package.json").write_text('{"packageManager": "pnpm@10.1.0"}')
    later = Issuer()
    mirror.serve(pnpm(later))
    refused = mirror.bootstrap("install")
    assert (refused.returncode, refused.stdout) == (3, "")
    assert "is not among the 1 key" in refused.stderr
    mirror.world.publish(key_document(mirror.npm, later))
    done = mirror.bootstrap("install", "--frozen")
    assert (done.returncode, done.stdout) == (0, "ran install --frozen\n"), done.stderr
    mirror.files.clear()
    assert mirror.bootstrap("again").stdout == "ran again\n", "the verified copy is there"


@pytest.mark.parametrize("text", ['{"packageManager": "pnpm@latest"}', "{}", "no json"])
def test_a_manifest_that_names_no_version_is_one_line(mirror: Mirror, text: str) -> None:
    (mirror.world.shell.folder / "package.json").write_text(text)
    done = mirror.bootstrap("install")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)


@pytest.mark.parametrize("name", ["install.py", "bootstrap.py"])
def test_an_example_stays_short(repository: Path, name: str) -> None:
    assert len((repository / "examples" / name).read_text().splitlines()) < 100

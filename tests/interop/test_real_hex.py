"""Real clients of Hex on a repository that is signed here, before and after its key is replaced.

rebar3 is Debian's, and judges by hex_core, as every Hex client does. What it is told is what ``kedge keys export``
wrote. mix needs Hex's archive, which no package registry has: ``make mix HEX=DIR`` builds it from a checkout, and runs
``real_mix.py`` beside this.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from cli.shell import Shell
from conftest import Require
from support.hexrepo import HexRepository, key_entry, package, signed
from support.published import Published, publish_for
from support.server import Exchange, HostileServer

TARGET = "hex/hexpm/keys.json"
OLD, NEW = key_entry("old", "2016-01-01T00:00:00Z", "2098-01-01T00:00:00Z"), key_entry("new", "2026-01-01T00:00:00Z")


def publish_keys(keyholders: Published, *entries: object) -> None:
    keyholders.publish(TARGET, {"format": "kedge.hex-keys/1", "repository": "hexpm", "keys": list(entries)})


@pytest.fixture
def keyholders(tmp_path: Path) -> Published:
    (tmp_path / "user").mkdir()
    keyholders = publish_for(Shell(folder=tmp_path / "user"))
    publish_keys(keyholders, OLD)
    keyholders.add_anchor("hex/hexpm")
    return keyholders


def with_etag(exchange: Exchange) -> None:
    """Answer as Hex's servers do: rebar3 takes no tarball without an ETag."""
    if exchange.honest is None:
        exchange.send_honestly()
    else:
        tag = hashlib.sha256(exchange.honest).hexdigest()
        exchange.send(200, exchange.honest, {"ETag": f'"{tag}"'})


class Rebar3:
    """rebar3 with a home of its own, in a project that needs one package."""

    def __init__(self, top: Path, url: str, keyholders: Published) -> None:
        self.project, self.home, self.url, self.keyholders = top / "project", top / "home", url, keyholders
        (self.project / "src").mkdir(parents=True)
        self.home.mkdir()
        (self.project / "rebar.config").write_text('{deps, [{one, "1.0.0"}]}.\n{erl_opts, []}.\n')
        (self.project / "src/project.app.src").write_text('{application, project, [{vsn, "1"}]}.\n')

    def export(self) -> None:
        """Tell rebar3 the key that signs now."""
        config = self.home / ".config/rebar3/rebar.config"
        config.parent.mkdir(parents=True, exist_ok=True)
        done = self.keyholders.shell.run("keys", "export", "hex-rebar3", "--output", config)
        assert done.code == 0, done.err

    def get(self) -> subprocess.CompletedProcess[str]:
        """Fetch the package as on a machine that has nothing of it yet."""
        for folder in (self.project / "_build", self.home / ".cache"):
            shutil.rmtree(folder, ignore_errors=True)
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        own = {"HOME": str(self.home), "HEX_CDN": self.url, "REBAR_CACHE_DIR": str(self.home / ".cache/rebar3")}
        return subprocess.run(
            ["rebar3", "get-deps"], cwd=self.project, env={**kept, **own}, capture_output=True, text=True, timeout=120
        )


def test_a_rotation_breaks_rebar3_until_kedge_has_refreshed(
    require: Require, keyholders: Published, tmp_path: Path
) -> None:
    require(shutil.which("rebar3"), "rebar3 is not installed: apt install rebar3")
    repository = HexRepository(folder=tmp_path / "hex")
    repository.release("one", "1.0.0", "old")
    with HostileServer(repository.folder) as server:
        server.misbehave("*", with_etag)
        rebar3 = Rebar3(tmp_path, server.url, keyholders)
        rebar3.export()
        first = rebar3.get()
        assert first.returncode == 0, first.stdout + first.stderr
        assert (rebar3.project / "_build/default/lib/one/src/one.erl").is_file()
        repository.release("one", "1.0.0", "new")
        broken = rebar3.get()
        assert broken.returncode == 1
        assert not (rebar3.project / "_build/default/lib/one").exists()
        publish_keys(keyholders, OLD, NEW)
        rebar3.export()
        mended = rebar3.get()
        assert mended.returncode == 0, mended.stdout + mended.stderr
        assert (rebar3.project / "_build/default/lib/one/src/one.erl").is_file()
        ours = keyholders.shell.run("verify", "hex", "--package", "one", "--mirror", server.url)
        assert ours.code == 0, ours.out + ours.err
        # A replay is nothing to rebar3, which keeps no memory; here it is a fault.
        repository.serve("one", signed(package("one", []), "new"))
        replayed = keyholders.shell.run("verify", "hex", "--package", "one", "--mirror", server.url)
        assert replayed.code == 5
        assert "rolled-back: 1.0.0: seen before, and no longer listed" in replayed.out

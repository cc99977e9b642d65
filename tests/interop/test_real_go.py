"""The real ``go`` command against a checksum database made here, with the key that kedge exports, through a rotation.

Everything is on the loopback: the database, the module proxy beside it, and the repository that carries the key.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cli.shell import Shell
from conftest import Require
from support.server import HostileServer
from support.simulator import RepositorySimulator
from support.sumdb import GoWorld, LogKey, new_key

NAME = "sum.example"
OLD, NEW = new_key(NAME, bytes(32)), new_key(NAME, bytes([1] * 32))


@dataclass(frozen=True, slots=True, kw_only=True)
class GoUser:
    """Somebody with a ``go`` command, a kedge, and folders of their own."""

    folder: Path
    shell: Shell
    repo: RepositorySimulator
    world: GoWorld
    server: HostileServer

    def keyholders_sign(self, *keys: LogKey) -> None:
        document = "".join(f"{key.vkey} {self.server.url}/sumdb\n" for key in keys)
        self.repo.add_target(f"go/{NAME}/vkey", document.encode())
        self.repo.publish()
        self.repo.write(self.folder / "repo")

    def database_signs_with(self, *keys: LogKey) -> None:
        self.world.keys = list(keys)
        self.world.publish()

    def release(self, name: str) -> str:
        self.world.add(f"example.com/{name}", "v1.0.0", {f"{name}.go": f"package {name}\n".encode()})
        self.world.publish()
        return f"example.com/{name}@v1.0.0"

    def settle(self) -> str:
        """Run the line that kedge prints: it writes the key into this user's go environment."""
        done = self.shell.run("keys", "export", "go-env", f"go/{NAME}")
        assert done.code == 0, done.err
        subprocess.run(done.out, shell=True, check=True, env=self.environment("settled"), cwd=self.folder)
        return done.out

    def download(self, module: str, *, at: str = "settled", **environment: str) -> subprocess.CompletedProcess[str]:
        """``go mod download`` with an empty module cache and the checksum database's memory of ``at``."""
        shutil.rmtree(self.folder / "cache", ignore_errors=True)
        command = ["go", "mod", "download", "-modcacherw", module]
        env = {**self.environment(at), **environment}
        return subprocess.run(command, env=env, cwd=self.folder / "project", capture_output=True, text=True, timeout=60)

    def environment(self, at: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("GO")}
        own = {
            "GOPATH": str(self.folder / at),
            "GOMODCACHE": str(self.folder / "cache"),
            "GOENV": str(self.folder / "goenv"),
            "GOPROXY": f"{self.server.url}/proxy",
            "GOTOOLCHAIN": "local",
            "GOFLAGS": "-mod=mod",
            "HOME": str(self.folder),
        }
        return {**kept, **own}


@pytest.fixture
def user(tmp_path: Path, require: Require) -> Iterator[GoUser]:
    require(shutil.which("go"), "go is not installed")
    world = GoWorld(NAME, [OLD])
    world.fill(300)
    world.publish()
    shell = Shell(folder=tmp_path)
    repo = RepositorySimulator(now=datetime(2098, 1, 1, tzinfo=UTC))
    (tmp_path / "root.json").write_bytes(repo.initial_root)
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "go.mod").write_text("module example.com/project\n\ngo 1.19\n")
    with HostileServer(world.files) as server:
        made = GoUser(folder=tmp_path, shell=shell, repo=repo, world=world, server=server)
        made.keyholders_sign(OLD)
        added = ("--root", tmp_path / "root.json", "--mirror", tmp_path / "repo", "--registry", f"go/{NAME}")
        assert shell.run("anchor", "add", "repo", *added).code == 0
        yield made


def test_go_verifies_with_the_exported_key_through_a_rotation(user: GoUser) -> None:
    assert user.settle() == f"go env -w 'GOSUMDB={OLD.vkey} {user.server.url}/sumdb'\n"
    done = user.download(user.release("a"))
    assert done.returncode == 0, done.stderr
    assert any(path.startswith("sumdb/tile/8/") for path in user.server.paths)  # go proved it, too

    # The key changes: the keyholders put the new one first, the database signs with both, and everybody goes on.
    user.keyholders_sign(NEW, OLD)
    user.database_signs_with(NEW, OLD)
    assert user.download(user.release("b")).returncode == 0
    assert user.settle() == f"go env -w 'GOSUMDB={NEW.vkey} {user.server.url}/sumdb'\n"
    done = user.download(user.release("c"))
    assert done.returncode == 0, done.stderr

    # The old key goes. Whoever took the new one in time notices nothing.
    user.keyholders_sign(NEW)
    user.database_signs_with(NEW)
    done = user.download(user.release("d"))
    assert done.returncode == 0, done.stderr
    sums = "".join(f"{line}\n" for line in user.world.sums)
    (user.folder / "project" / "go.sum").write_text(sums)
    assert user.shell.run("verify", "go", "project", "--registry", f"go/{NAME}").code == 0


def test_go_without_the_exported_key_stops_when_the_database_changes_its_key(user: GoUser) -> None:
    user.settle()
    assert user.download(user.release("a")).returncode == 0
    user.keyholders_sign(NEW)
    user.database_signs_with(NEW)
    module = user.release("b")
    stopped = user.download(module)
    assert stopped.returncode != 0
    assert "note has no verifiable signatures" in stopped.stderr
    # The new key alone does not help who kept a tree head that only the old one signed: this is what lint warns of.
    user.settle()
    assert "note has no verifiable signatures" in user.download(module).stderr
    # It does where nothing was kept, as on every fresh CI machine.
    fresh = user.download(module, at="fresh")
    assert fresh.returncode == 0, fresh.stderr


def test_go_refuses_a_module_that_the_database_does_not_vouch_for(user: GoUser) -> None:
    user.settle()
    module = user.release("a")
    path = "proxy/example.com/a/@v/v1.0.0.zip"
    honest = user.world.files[path]
    other = GoWorld("other.example", [])
    other.add("example.com/a", "v1.0.0", {"a.go": b"package evil\n"})
    user.world.files[path] = other.files[path]
    done = user.download(module)
    assert (done.returncode != 0, "checksum mismatch" in done.stderr) == (True, True)
    user.world.files[path] = honest
    assert user.download(module).returncode == 0

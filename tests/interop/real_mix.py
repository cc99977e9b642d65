"""The real mix, with Hex built from a checkout, on a repository that is signed here: run by ``make mix HEX=DIR``.

No package registry has Hex's archive, so this is no part of ``make test``; ``test_real_hex.py`` runs rebar3, which is.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from cli.shell import Shell
from support.hexrepo import HexRepository, key_entry, package, signed
from support.published import Published, publish_for
from support.server import HostileServer

TARGET = "hex/example/keys.json"
OLD, NEW = key_entry("old", "2016-01-01T00:00:00Z", "2098-01-01T00:00:00Z"), key_entry("new", "2026-01-01T00:00:00Z")


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with Hex's archive in it, built from the checkout that ``KEDGE_HEX_CHECKOUT`` names."""
    home = tmp_path_factory.mktemp("home")
    checkout = os.environ["KEDGE_HEX_CHECKOUT"]
    run(home, ["mix", "archive.build", "-o", str(home / "hex.ez")], Path(checkout), MIX_ENV="prod")
    run(home, ["mix", "archive.install", "--force", str(home / "hex.ez")], home)
    return home


def run(home: Path, command: list[str], folder: Path, *, code: int = 0, **environment: str) -> str:
    own = {"HOME": str(home), "MIX_HOME": str(home / "mix"), "HEX_HOME": str(home / "hex"), "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        command,
        cwd=folder,
        env={"PATH": os.environ["PATH"], **own, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    said = done.stdout + done.stderr
    assert done.returncode == code, said
    return said


def publish_keys(keyholders: Published, *entries: object) -> None:
    keyholders.publish(TARGET, {"format": "kedge.hex-keys/1", "repository": "example", "keys": list(entries)})


def tell_mix(home: Path, keyholders: Published, url: str, verb: str) -> None:
    """Run the commands that ``hex-mix`` prints, the first of them with the user's kedge."""
    pem = home / "example.pem"
    settings = ["--set", f"pem={pem}", *(["--set", f"url={url}"] if verb == "add" else [])]
    lines = keyholders.shell.run("keys", "export", "hex-mix", "hex/example", *settings).out.splitlines()
    first, second = (line.split() for line in lines)
    assert keyholders.shell.run(*first[1:]).code == 0
    assert second[:3] == ["mix", "hex.repo", verb]
    run(home, second, home)


def get(home: Path, project: Path, *, code: int = 0) -> str:
    """Fetch the package as on a machine that has nothing of it yet."""
    for folder in (project / "deps", home / "hex" / "packages"):
        subprocess.run(["rm", "-rf", folder], check=True)
    for cache in (home / "hex").glob("cache.*"):
        cache.unlink()
    return run(home, ["mix", "deps.get"], project, code=code)


def test_a_rotation_breaks_mix_until_kedge_has_refreshed(home: Path, tmp_path: Path) -> None:
    (tmp_path / "user").mkdir()
    keyholders = publish_for(Shell(folder=tmp_path / "user"))
    publish_keys(keyholders, OLD)
    keyholders.add_anchor("hex/example")
    repository = HexRepository(folder=tmp_path / "hex")
    repository.release("one", "1.0.0", "old", repository="example")
    project = tmp_path / "project"
    project.mkdir()
    (project / "mix.exs").write_text(
        "defmodule P.MixProject do\n  use Mix.Project\n"
        '  def project, do: [app: :p, version: "1.0.0", deps: [{:one, "1.0.0", repo: "example"}]]\nend\n'
    )
    with HostileServer(repository.folder) as server:
        tell_mix(home, keyholders, server.url, "add")
        assert "one 1.0.0" in get(home, project)
        assert (project / "deps/one/src/one.erl").is_file()
        arguments = ("verify", "hex", project, "-r", "hex/example", "--mirror", server.url)
        tarballs = home / "hex/packages/example"
        ours = keyholders.shell.run(*arguments, "--tarballs", tarballs)
        assert ours.code == 0, ours.out + ours.err
        assert "1 of 1 package verified" in ours.out
        repository.release("one", "1.0.0", "new", repository="example")
        assert "Could not verify authenticity" in get(home, project, code=1)
        publish_keys(keyholders, OLD, NEW)
        tell_mix(home, keyholders, server.url, "set")
        assert "one 1.0.0" in get(home, project)
        repository.serve("one", signed(package("one", [], repository="example"), "new"))
        replayed = keyholders.shell.run(*arguments)
        assert replayed.code == 5
        assert "rolled-back" in replayed.out

"""The site's mirror and the alerts: their script and their server run, and their metrics are ones that are written."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.conftest import World
from conftest import Require
from interop.ceremony import Maintained
from support.stores import nginx_with

COMPOSE = "adapters/compose"


def synced(world: World, repository: Path, tmp_path: Path, *, rounds: int = 1) -> Path:
    """Run the container's script as it stands, for some rounds, with this kedge and folders of the test's."""
    anchor, mirror, kedge = tmp_path / "anchor", tmp_path / "mirror", tmp_path / "kedge"
    anchor.mkdir(exist_ok=True)
    (anchor / "root.json").write_bytes(world.repo.initial_root)
    kedge.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m kedge "$@"\n')
    kedge.chmod(0o755)
    folders = {"ANCHOR_FOLDER": str(anchor), "MIRROR_FOLDER": str(mirror), "KEDGE": str(kedge)}
    given = {"UPSTREAM": str(world.folder), "INTERVAL_S": "0", "ROUNDS": str(rounds)}
    done = subprocess.run(
        ["sh", str(repository / COMPOSE / "sync.sh")],
        env=world.shell.environment(**folders, **given),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return mirror


def test_the_sites_mirror_is_a_repository_that_a_client_reads(
    world: World, repository: Path, tmp_path: Path, require: Require
) -> None:
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    require(program, "nginx is not installed")
    mirror = synced(world, repository, tmp_path, rounds=2)
    served = (repository / COMPOSE / "mirror.conf").read_text()
    with nginx_with(served.replace("/srv/mirror", str(mirror)), tmp_path / "nginx", port_in="listen 8080") as url:
        root = tmp_path / "root.json"
        added = world.shell.run(
            "anchor", "add", "site", "--root", root, "--mirror", url, "--registry", "registry.example"
        )
        assert added.code == 0, added.err
        done = world.shell.run("keys", "list", "registry.example", "--anchor", "site", "--require-refresh")
        assert done.code == 0, done.err
        with urllib.request.urlopen(f"{url}/metadata/timestamp.json") as answer:
            assert answer.headers["Cache-Control"] == "no-cache"
        with pytest.raises(urllib.error.HTTPError) as missing:
            urllib.request.urlopen(f"{url}/metadata/99.root.json")
        missing.value.close()
        assert (missing.value.code, missing.value.headers["Cache-Control"]) == (404, "no-store")


def test_a_round_that_fails_leaves_the_copy_and_is_tried_again(world: World, repository: Path, tmp_path: Path) -> None:
    mirror = synced(world, repository, tmp_path)
    before = {path: path.read_bytes() for path in mirror.rglob("*.json")}
    (world.folder / "metadata" / "timestamp.json").write_bytes(b"{}")
    assert synced(world, repository, tmp_path, rounds=2) == mirror
    assert {path: path.read_bytes() for path in mirror.rglob("*.json")} == before


def test_the_compose_file_mounts_what_lies_beside_it_and_the_server_can_write_nothing(repository: Path) -> None:
    folder = repository / COMPOSE
    services: dict[str, Any] = yaml.safe_load((folder / "compose.yaml").read_text())["services"]
    mounts = [mount for service in services.values() for mount in service["volumes"]]
    beside = {mount.split(":")[0] for mount in mounts if mount.startswith("./")}
    assert beside - {"./root.json"} == {f"./{path.name}" for path in folder.iterdir() if path.name != "compose.yaml"}
    assert all(mount.endswith(":ro") for mount in services["web"]["volumes"])
    assert all(service["read_only"] for service in services.values())


def test_an_alert_asks_for_metrics_that_are_written(world: World, repository: Path, tmp_path: Path) -> None:
    rules = yaml.safe_load((repository / "adapters/prometheus/kedge.rules.yml").read_text())
    asked = {
        name
        for group in rules["groups"]
        for rule in group["rules"]
        for name in re.findall(r"\bkedge_[a-z_]+", rule["expr"])
    }
    world.add_anchor()
    assert world.shell.run("refresh").code == 0
    written = set(re.findall(r"^# TYPE (\S+)", world.shell.run("status", "--prometheus").out, re.MULTILINE))
    maintained, file = Maintained(tmp_path, now=datetime.now(UTC).replace(microsecond=0)), tmp_path / "forecast.prom"
    line = [sys.executable, "-m", "kedge_repo", "forecast", "-w", maintained.workspace.root, "--prometheus", file]
    subprocess.run([*map(str, line)], check=True, capture_output=True, timeout=60)
    written |= set(re.findall(r"^# TYPE (\S+)", file.read_text(), re.MULTILINE))
    assert asked <= written

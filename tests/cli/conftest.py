"""A user with empty folders, and an honest repository that holds one registry's keys."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cli.shell import Shell
from support.simulator import RepositorySimulator

# npm's two keys, as its TUF target states them.
OLD = (
    "SHA256:jl3bwswu80PjjokCgh0o2w5c2U4LhQAE57gj9cz1kzA",
    "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE1Olb3zMAFFxXKHiIkQO5cJ3Yhl5i6UPp+IhuteBJbuHcA5UogKo0EWtlWwW6KSaKoTNEYL7JlCQiVnkhBktUgg==",
    {"start": "1999-01-01T00:00:00.000Z", "end": "2025-01-29T00:00:00.000Z"},
)
NEW = (
    "SHA256:DhQ8wR5APBvFHLF/+Tc+AYvPOdTpcIDqOhxsBHRwC7U",
    "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEY6Ya7W++7aUPzvMTrezH6Ycx3c+HOKYCcNGybJZSCJq/fd7Qa8uuAKtdIkUQtQiEKERhAmE5lMMJhP8OkDOa2g==",
    {"start": "2025-01-13T00:00:00.000Z"},
)
TARGET = "registry.example/keys.json"


def key_document(*keys: tuple[str, str, dict[str, str]]) -> bytes:
    entries = [
        {
            "keyId": keyid,
            "keyUsage": "npm:signatures",
            "publicKey": {"rawBytes": material, "keyDetails": "PKIX_ECDSA_P256_SHA_256", "validFor": window},
        }
        for keyid, material, window in keys
    ]
    return json.dumps({"keys": entries}).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A user, and a repository in a folder. Its signatures expire in 2098: far from any test's present."""

    shell: Shell
    repo: RepositorySimulator
    folder: Path

    def publish(self, document: bytes | None = None, *, custom: dict[str, Any] | None = None) -> None:
        """Write the repository to its folder, after putting another key document into it if one is given."""
        if document is not None:
            self.repo.add_target(TARGET, document, custom=custom)
            self.repo.publish()
        self.repo.write(self.folder)

    def add_anchor(self, name: str = "repo", *more: str | Path) -> None:
        root = self.folder.parent / "root.json"
        root.write_bytes(self.repo.initial_root)
        done = self.shell.run(
            "anchor", "add", name, "--root", root, "--mirror", self.folder, "--registry", "registry.example", *more
        )
        assert done.code == 0, done.err


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    folder = tmp_path / "user"
    folder.mkdir()
    return Shell(folder=folder, names={"<here>": str(tmp_path)})


@pytest.fixture
def world(tmp_path: Path, shell: Shell) -> World:
    repo = RepositorySimulator(now=datetime(2098, 1, 1, tzinfo=UTC))
    world = World(shell=shell, repo=repo, folder=tmp_path / "repo")
    world.publish(key_document(OLD, NEW))
    (tmp_path / "root.json").write_bytes(repo.initial_root)
    shell.names["<root-sha256>"] = hashlib.sha256(repo.initial_root).hexdigest()
    return world

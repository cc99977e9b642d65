"""A user, and a repository whose keyholders publish any targets: for tests that run the command on other registries."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cli.shell import Shell
from support.simulator import RepositorySimulator

__all__ = ["Published", "publish_for"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """Its signatures expire in 2098: far from any test's present."""

    shell: Shell
    repo: RepositorySimulator
    folder: Path

    def publish(self, target: str, data: bytes | Any, *, custom: Mapping[str, Any] | None = None) -> None:
        """Sign and publish a target; what is no bytes is written as JSON. ``custom`` is what stands under kedge."""
        content = data if isinstance(data, bytes) else json.dumps(data).encode()
        self.repo.add_target(target, content, custom={"kedge": {"v": 1, **custom}} if custom is not None else None)
        self.repo.publish()
        self.repo.write(self.folder)

    def add_anchor(self, *registries: str) -> None:
        """Tell the user's kedge where it is, and what it speaks for."""
        root = self.folder.parent / "root.json"
        root.write_bytes(self.repo.initial_root)
        options = [word for registry in registries for word in ("--registry", registry)]
        done = self.shell.run("anchor", "add", "repo", "--root", root, "--mirror", self.folder, *options)
        assert done.code == 0, done.err


def publish_for(shell: Shell) -> Published:
    """An empty repository beside a user's folder."""
    repo = RepositorySimulator(now=datetime(2098, 1, 1, tzinfo=UTC))
    published = Published(shell=shell, repo=repo, folder=shell.folder.parent / "repo")
    repo.publish()
    repo.write(published.folder)
    return published

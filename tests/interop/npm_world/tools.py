"""npm, pnpm and Corepack as they are published: where ``make peers`` put them, and how a test runs one.

Each runs in folders of its own (home, cache, Corepack's store), and none reaches beyond the loopback: what is not
served here fails.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["PACKAGES", "Ran", "Tools"]

TIMEOUT_S = 120

PACKAGES = ("npm", "pnpm", "corepack", "corepack-0.30")
"""What must be there besides a node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What a tool ended with."""

    code: int
    out: str
    err: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """The tools of one folder ``node_modules``, run with everything of theirs below ``home``."""

    modules: Path
    home: Path

    @property
    def node(self) -> Path:
        return self.modules / ".bin" / "node"

    @property
    def tarballs(self) -> Path:
        return self.modules.parent / "tarballs"

    def corepack(self, version: str) -> list[str]:
        """The command of one of the two Corepacks."""
        folder = self.modules / ("corepack-0.30" if version.startswith("0.30") else "corepack")
        return [str(self.node), str(folder / "dist" / "corepack.js")]

    @property
    def pnpm(self) -> list[str]:
        """The command of pnpm: its own binary, without node in front."""
        (binary,) = self.modules.glob("@pnpm/exe.*/pnpm")
        return [str(binary)]

    def run(
        self, command: Sequence[str], *, cwd: Path, environment: Mapping[str, str], timeout_s: float = TIMEOUT_S
    ) -> Ran:
        """Run a command."""
        done = subprocess.run(
            command,
            cwd=cwd,
            env=self.environment(environment),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            stdin=subprocess.DEVNULL,
        )
        return Ran(code=done.returncode, out=done.stdout, err=done.stderr)

    def environment(self, more: Mapping[str, str]) -> dict[str, str]:
        """A small environment in which nothing of this machine's settings is left."""
        path = os.pathsep.join([str(self.modules / ".bin"), "/usr/local/bin", "/usr/bin", "/bin"])
        own = {
            "PATH": path,
            "HOME": str(self.home),
            "COREPACK_HOME": str(self.home / "corepack"),
            "COREPACK_ENABLE_DOWNLOAD_PROMPT": "0",
            "COREPACK_ENABLE_AUTO_PIN": "0",
            "NO_COLOR": "1",
            "NO_UPDATE_NOTIFIER": "1",
            "http_proxy": "http://127.0.0.1:9",
            "https_proxy": "http://127.0.0.1:9",
            "no_proxy": "127.0.0.1,localhost",
        }
        return {**own, **more}

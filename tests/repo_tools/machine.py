"""A machine of somebody's own: a folder, an environment, and ``kedge-repo`` as a process in it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from support import zygote

__all__ = ["Machine", "Result", "unwrapped"]


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Machine:
    """Runs commands in ``folder``; ``env`` is added to the environment. Secrets go through a pipe on descriptor 0."""

    folder: Path
    env: Mapping[str, str] = field(default_factory=dict)

    def run(self, *arguments: object, secret: str = "") -> Result:
        done = zygote.run(
            ["kedge_repo", *map(str, arguments)],
            cwd=self.folder,
            env=self.environment(),
            input=secret.encode(),
            strict_warnings=True,
        )
        result = Result(done.returncode, done.stdout.decode(), done.stderr.decode())
        assert "Traceback" not in result.err, result.err
        return result

    def environment(self) -> dict[str, str]:
        return {**os.environ, "COLUMNS": "80", "NO_COLOR": "1", **self.env}

    def ok(self, *arguments: object, secret: str = "") -> Result:
        result = self.run(*arguments, secret=secret)
        assert result.code == 0, result.err
        return result

    def shell(self, script: str) -> Result:
        """Run lines of documentation as they stand there."""
        return self.process("sh", "-euc", script)

    def process(self, *command: object, secret: str = "") -> Result:
        done = subprocess.run(
            [str(part) for part in command],
            cwd=self.folder,
            input=secret,
            capture_output=True,
            text=True,
            timeout=120,
            env=self.environment(),
        )
        return Result(done.returncode, done.stdout, done.stderr)


def unwrapped(text: str) -> str:
    """What was printed, as if the terminal had been wide enough."""
    return " ".join(text.split())

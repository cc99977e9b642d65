"""A machine of somebody's own: a folder, an environment, and ``kedge-repo`` as a process in it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Machine", "Result"]


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
        done = self.process(sys.executable, "-W", "error", "-m", "kedge_repo", *arguments, secret=secret)
        assert "Traceback" not in done.err, done.err
        return done

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
            env={**os.environ, "COLUMNS": "80", "NO_COLOR": "1", **self.env},
        )
        return Result(done.returncode, done.stdout, done.stderr)

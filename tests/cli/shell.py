"""Runs the command ``kedge`` as a process of its own, in folders of its own, and keeps what it said."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from support import zygote

__all__ = ["Done", "Shell"]

# How many seconds ago something of this test was first accepted.
_AGE = re.compile(r'("age_s": )\d{1,4}(?=,)')
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What a command ended with."""

    code: int
    out: str
    err: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Shell:
    """A user whose folders all lie below ``folder``.

    ``names`` holds, by placeholder, texts that are different in each run: ``{"<repo>": "/tmp/…"}``.
    """

    folder: Path
    names: dict[str, str] = field(default_factory=dict)

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def config(self) -> Path:
        return self.folder / "config"

    def run(self, *arguments: str | Path, **environment: str) -> Done:
        """Run ``kedge`` with these arguments, and with more of an environment."""
        line = ["kedge", *map(str, arguments)]
        done = zygote.run(line, cwd=self.folder, env=self.environment(**environment), timeout_s=60)
        return Done(code=done.returncode, out=done.stdout.decode(), err=done.stderr.decode())

    @contextmanager
    def start(self, *arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
        """Run ``kedge`` beside the test; it is gone at the end of the block."""
        with subprocess.Popen(
            self.command(*arguments),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            env=self.environment(),
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def environment(self, **more: str) -> dict[str, str]:
        """The test's own environment without what would change the answers."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("KEDGE_", "XDG_"))}
        for name in ("COLUMNS", "NO_COLOR", "TERM"):
            kept.pop(name, None)
        own = {"KEDGE_STATE_DIR": str(self.state), "KEDGE_CONFIG_DIR": str(self.config)}
        return {**kept, "HOME": str(self.folder / "home"), **own, **more}

    def typed(self, line: str) -> str:
        """Run a command as it stands in a transcript: itself, stdout, stderr behind ``!``, the exit status if not 0."""
        words = [self._named(word) for word in line.split()]
        start = words.index("kedge")
        done = self.run(*words[start + 1 :], **dict(word.split("=", 1) for word in words[:start]))
        errors = "".join(f"! {each}\n" for each in done.err.splitlines())
        status = f"= {done.code}\n" if done.code else ""
        return f"$ {line}\n{self.fixed(done.out)}{self.fixed(errors)}{status}"

    def fixed(self, text: str) -> str:
        """The text with placeholders for all that is different in each run, this machine's present time among it."""
        for placeholder, value in self.names.items():
            text = text.replace(value, placeholder)
        return _AGE.sub(r"\1<age>", _TIME.sub(_now, text))

    def files(self) -> dict[str, bytes]:
        """Everything that stands in the folders of state and configuration, by path."""
        return {
            path.relative_to(self.folder).as_posix(): path.read_bytes()
            for folder in (self.state, self.config)
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }

    def command(self, *arguments: str | Path) -> list[str]:
        return [sys.executable, "-m", "kedge", *map(str, arguments)]

    def _named(self, word: str) -> str:
        for placeholder, value in self.names.items():
            word = word.replace(placeholder, value)
        return word


def _now(match: re.Match[str]) -> str:
    moment = datetime.fromisoformat(f"{match[1]}T{match[2]}+00:00")
    return "<now>" if abs(moment - datetime.now(UTC)) < timedelta(hours=1) else match[0]

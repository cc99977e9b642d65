"""Runs the commands of a documentation page as a reader would: in one shell, on a terminal, from top to bottom.

What a page may hold:

- a block of ``console``: lines that begin with ``$ `` are typed (``> `` continues one), what follows must come out. In
  the expected output ``...`` stands for anything, a whole line or a part of one. Without output nothing is compared.
- a block of ``sh``: each command is typed, and nothing is compared.
- a block of ``python`` or ``toml`` with ``title="FILE"``: the file is written there.
- ``<!-- run`` … ``-->``: typed as well, and not shown to readers: what somebody else does meanwhile.

A command must end with exit status 0, unless the next one is ``echo $?``. Questions of a terminal are answered.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Command", "Outcome", "Page", "matches", "play"]

COLUMNS = 100
TIMEOUT_S = 600.0
QUESTIONS = (
    (re.compile(r"passphrase of [^\n]*: $"), b"correct horse battery staple\n"),
    (re.compile(r"PIN of [^\n]*: $"), b"1234\n"),
    (re.compile(r"\[y/N\]: $"), b"y\n"),
)
_FENCE = re.compile(
    r"^```(?P<kind>\w+)(?P<info>[^\n]*)\n(?P<body>.*?)^```$|^<!-- run\n(?P<hidden>.*?)^-->$", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One command of a page, and what must come out; None where nothing is compared. ``line`` is where it stands."""

    text: str
    expected: str | None
    line: int

    @property
    def asks_for_status(self) -> bool:
        return self.text == "echo $?"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a command ended."""

    command: Command
    output: str
    status: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What a page types."""

    commands: tuple[Command, ...]

    @classmethod
    def read(cls, text: str, names: Mapping[str, str] | None = None) -> Page:
        """``names`` says what stands in this run for names that the page uses: ``{"https://…": "http://127…"}``."""
        for shown, here in (names or {}).items():
            text = text.replace(shown, here)
        return cls(commands=tuple(_commands(text)))


def _commands(text: str) -> Iterator[Command]:
    for match in _FENCE.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        if match["hidden"] is not None:
            yield Command(text=match["hidden"].strip(), expected=None, line=line)
        elif match["kind"] == "console":
            yield from _console(match["body"], line)
        elif match["kind"] == "sh":
            yield from _script(match["body"], line)
        elif title := re.search(r'title="([^"]+)"', match["info"]):
            body = match["body"]
            yield Command(text=f"cat > {title[1]} <<'END-OF-FILE'\n{body}END-OF-FILE", expected=None, line=line)


def _console(body: str, start: int) -> Iterator[Command]:
    command: list[str] = []
    output: list[str] = []
    at = start
    for number, line in enumerate(body.splitlines(), start + 1):
        if line.startswith("$ "):
            if command:
                yield _made(command, output, at)
            command, output, at = [line[2:]], [], number
        elif line.startswith("> ") and command and not output:
            command.append(line[2:])
        else:
            output.append(line)
    if command:
        yield _made(command, output, at)


def _made(command: list[str], output: list[str], line: int) -> Command:
    return Command(text="\n".join(command), expected="\n".join(output) if output else None, line=line)


def _script(body: str, start: int) -> Iterator[Command]:
    command: list[str] = []
    for number, line in enumerate(body.splitlines(), start + 1):
        if not command and (not line.strip() or line.startswith("#")):
            continue
        command.append(line)
        if not line.endswith("\\"):
            yield Command(text="\n".join(command), expected=None, line=number)
            command = []
    assert not command, "the last line of a block ends in a backslash"


def play(page: Page, folder: Path, environment: Mapping[str, str]) -> list[Outcome]:
    """Type all of it in ``folder``; ends after the first command that fails."""
    script = folder.parent / f"{folder.name}.page.sh"
    script.write_text("".join(_typed(index, command, page) for index, command in enumerate(page.commands)))
    text, status = _on_a_terminal(["bash", "--norc", "--noprofile", str(script)], folder, environment)
    outcomes = []
    parts = re.split(r"\x1e(\d+):(\d+)\n", text)
    for output, index, code in zip(parts[::3], parts[1::3], parts[2::3], strict=False):
        command = page.commands[int(index)]
        outcomes.append(Outcome(command=command, output=output.strip("\n"), status=int(code)))
    assert len(outcomes) == len(page.commands) or status, text
    return outcomes


def _typed(index: int, command: Command, page: Page) -> str:
    following = page.commands[index + 1 : index + 2]
    may_fail = bool(following) and following[0].asks_for_status
    stop = "" if may_fail else "[ $status = 0 ] || exit 99\n"
    return f"{command.text}\nstatus=$?\nprintf '\\036{index}:%d\\n' $status\n{stop}(exit $status)\n"


def _on_a_terminal(line: list[str], folder: Path, environment: Mapping[str, str]) -> tuple[str, int]:
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, COLUMNS, 0, 0))
    attributes = termios.tcgetattr(terminal)
    attributes[1] &= ~termios.OPOST  # line ends as they were written
    attributes[3] &= ~termios.ECHO
    termios.tcsetattr(terminal, termios.TCSANOW, attributes)
    process = subprocess.Popen(
        line,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        cwd=folder,
        env=dict(environment),
        start_new_session=True,
    )
    os.close(terminal)
    text, end = b"", time.monotonic() + TIMEOUT_S
    try:
        while chunk := _read(controller, end):
            text += chunk
            tail = text[-200:].decode(errors="replace")
            for question, answer in QUESTIONS:
                if question.search(tail):
                    os.write(controller, answer)
                    text += b"\n"
        return text.decode().replace("\r\n", "\n"), process.wait(10)
    finally:
        process.kill()
        process.wait()
        os.close(controller)


def _read(controller: int, end: float) -> bytes:
    ready, _, _ = select.select([controller], [], [], max(0.0, end - time.monotonic()))
    assert ready, f"the page's commands take more than {TIMEOUT_S} s"
    try:
        return os.read(controller, 65536)
    except OSError:  # the terminal's other side is closed
        return b""


def matches(expected: str, output: str) -> bool:
    """Whether an output is what a page shows; ``...`` stands for any lines, or for a part of one."""
    lines = (
        r"(?:[^\n]*\n)*" if line == "..." else r"[^\n]*".join(map(re.escape, line.split("..."))) + r"\n"
        for line in expected.splitlines()
    )
    return re.fullmatch("".join(lines), f"{output}\n") is not None

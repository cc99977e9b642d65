"""``kedge demo``: the main job, on this machine, in some seconds."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kedge.errors import ExitCode, InputError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from kedge_repo.demo import Act, Line, Report


def demo(
    keep: Annotated[
        Path | None, typer.Option(help="Leave the repository and everybody's files in this new folder.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """Run an end-to-end demo on this machine.

    A ceremony, a verified key, a rotation, and mirrors that lie: it makes fresh keys in a temporary folder, talks to
    this machine's loopback only, and ends with exit code 0 only if every check passed.
    """
    from kedge_repo.demo import tell  # kedge --help lists this command without loading what it runs

    screen = None if as_json else _Screen()
    with _folder(keep) as folder:
        report = tell(folder, now=datetime.now(UTC), keep=keep is not None, watch=screen.show if screen else None)
    if screen is not None:
        screen.end(report)
    else:
        sys.stdout.write(json.dumps(report.to_table(), indent=2, ensure_ascii=False) + "\n")
    if not report.kept:
        raise typer.Exit(ExitCode.FAULTS)


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="kedge-demo.") as folder:
            yield Path(folder) / "demo"
        return
    if keep.exists() and (not keep.is_dir() or any(keep.iterdir())):
        raise InputError(f"{keep}: is there already, expected a new or empty folder")
    yield keep


class _Screen:
    """Prints the story line by line, as it happens, in whatever width there is."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.text import Text

        self._text = Text
        self._console = Console(highlight=False, soft_wrap=False)
        plain = "✓✗" if _can_print("✓✗", self._console) else "+!"
        self._marks = {True: Text(plain[0], style="bold green"), False: Text(plain[1], style="bold red")}
        self._act: Act | None = None
        self._acts = 0

    def show(self, act: Act, line: Line) -> None:
        """Print one line, and the title before the first of an act."""
        if act is not self._act:
            self._act, self._acts = act, self._acts + 1
            self._console.print()
            self._print(self._text(f"{self._acts}. {act.title}", style="bold"), indent=0)
        self._print(self._text(line.promise), indent=4, mark=self._marks[line.kept])
        for said in line.said:
            self._print(self._text(said, style="dim"), indent=6)

    def end(self, report: Report) -> None:
        """Print the sum, and what to do next."""
        lines = list(report.lines())
        kept = sum(line.kept for line in lines)
        style = "bold green" if report.kept else "bold red"
        self._console.print()
        self._print(self._text(f"{kept} of {len(lines)} checks passed", style=style), indent=0)
        if report.repository is not None:
            self._print(self._text(f"the repository is in {report.repository}"), indent=0)
        self._print(
            self._text("next: kedge keys show registry.npmjs.org, or kedge-repo init -h", style="dim"), indent=0
        )

    def _print(self, text: Text, *, indent: int, mark: Text | None = None) -> None:
        width = max(24, self._console.width)
        lines = text.wrap(self._console, width - indent, tab_size=4)
        for index, line in enumerate(lines):
            line.rstrip()
            lead = (
                self._text("  ") + mark + self._text(" ")
                if mark is not None and index == 0
                else self._text(" " * indent)
            )
            self._console.print(lead + line, soft_wrap=True)


def _can_print(text: str, console: Console) -> bool:
    try:
        text.encode(console.encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True

"""Write docs/demo.svg: what ``kedge demo`` printed, in a real run, on a terminal of a hundred columns.

::

    python docs/picture.py
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

COLUMNS = 100
HERE = Path(__file__).resolve().parent


def main() -> None:
    """Run the demo, and draw the lines that tell its story."""
    environment = {**os.environ, "COLUMNS": str(COLUMNS), "FORCE_COLOR": "1", "TERM": "xterm-256color"}
    command = [sys.executable, "-m", "kedge", "demo"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)  # noqa: S603 ourselves
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text("$ kedge demo", style="bold"))
    for line in told(done.stdout.splitlines()):
        console.print(Text.from_ansi(line), soft_wrap=True)
    picture = console.export_svg(title="kedge demo")
    # The fonts of the picture would be asked of somebody's server: the reader's own monospace font does.
    (HERE / "demo.svg").write_text(re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL))


def told(lines: list[str]) -> list[str]:
    """The titles, the checks, and of what was said below a check its first line."""
    kept: list[str] = []
    for line in lines:
        plain = Text.from_ansi(line).plain
        said = plain.startswith("      ")
        if said and kept and Text.from_ansi(kept[-1]).plain.startswith("      "):
            continue
        kept.append(line)
    return kept


if __name__ == "__main__":
    main()

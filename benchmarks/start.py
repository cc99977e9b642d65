"""How long the command line takes before it does anything, beside loading python-tuf's metadata API.

::

    python benchmarks/start.py --json start.json

Each line is a process of its own; they take turns, and every figure is a median of the runs. The limit is an empty
Python: nothing can be faster. ``status`` answers from the stored state of the reference repository.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from report import Goal, Import, publish_imports

REFERENCE = Path(__file__).resolve().parents[1] / "metadata" / "reference"
BASE = "tuf.api.metadata"
KEDGE = [sys.executable, "-m", "kedge"]
LINES = {
    "nothing (the limit)": [sys.executable, "-c", "pass"],
    BASE: [sys.executable, "-c", "import tuf.api.metadata"],
    "import kedge": [sys.executable, "-c", "import kedge"],
    "kedge --version": [*KEDGE, "--version"],
    "kedge --help": [*KEDGE, "--help"],
    "kedge verify --help": [*KEDGE, "verify", "--help"],
    "completion of a verb": KEDGE,
    "kedge status": [*KEDGE, "status"],
    "kedge-repo --help": [sys.executable, "-m", "kedge_repo", "--help"],
}
GOALS = {
    "import kedge": 0.3,
    "kedge --version": 1.0,
    "kedge --help": 1.0,
    "kedge verify --help": 1.0,
    "completion of a verb": 1.0,
    "kedge status": 1.5,
    "kedge-repo --help": 1.0,
}


def main() -> int:
    """Measure, print, and say by the exit status whether every goal was reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=15, help="runs of each line (15)")
    parser.add_argument("--json", type=Path, help="write rows, ratios and goals to this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kedge-start-") as folder:
        environment = stage(Path(folder))
        times: dict[str, list[float]] = {name: [] for name in LINES}
        for turn in range(options.runs + 1):
            for name in LINES:
                taken = timed(name, environment)
                if turn:  # the first one fills the caches
                    times[name].append(taken)
    rows = [
        Import(name=name, runs=options.runs, wall_ms=median(each), min_ms=min(each), modules=0)
        for name, each in times.items()
    ]
    (base,) = (row.wall_ms for row in rows if row.name == BASE)
    goals = [Goal(name=row.name, value=row.wall_ms / base, limit=GOALS[row.name]) for row in rows if row.name in GOALS]
    return publish_imports("start", BASE, rows, goals, options.json)


def stage(folder: Path) -> dict[str, str]:
    """Add the reference repository as an anchor, and fetch it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("KEDGE_", "PYTHONDONT"))}
    environment = {**kept, "KEDGE_STATE_DIR": str(folder / "state"), "KEDGE_CONFIG_DIR": str(folder / "config")}
    root = REFERENCE / "metadata" / "1.root.json"
    added = ["anchor", "add", "reference", "--root", str(root), "--mirror", str(REFERENCE)]
    for line in (added, ["refresh"]):
        subprocess.run([*KEDGE, *line], check=True, env=environment, capture_output=True)
    return environment


def timed(name: str, environment: dict[str, str]) -> float:
    """Run one line, and give the milliseconds that it took."""
    completing = name.startswith("completion")
    more = {"COMP_WORDS": "kedge verify n", "COMP_CWORD": "2", "_KEDGE_COMPLETE": "complete_bash"} if completing else {}
    begun = time.perf_counter()
    subprocess.run(LINES[name], check=True, env={**environment, **more}, capture_output=True)
    return (time.perf_counter() - begun) * 1000


if __name__ == "__main__":
    sys.exit(main())

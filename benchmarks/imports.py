"""What it costs to load kedge, side by side with what it stands on.

::

    python benchmarks/imports.py --json imports.json

Each line is a process of its own that imports and ends; they take turns, and every figure is a median of the runs.
``modules`` is how many modules were loaded. The command is left out where the extra ``cli`` is not installed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from statistics import median

from report import Goal, Import, publish_imports

COMMAND = "the command kedge"
PROGRAMS = {
    "nothing": "pass",
    "tuf.api.metadata": "import tuf.api.metadata",
    "tuf.ngclient": "import tuf.ngclient",
    "kedge": "import kedge",
    "kedge.TrustClient": "from kedge import TrustClient",
    "kedge.TrustClient over http": "from kedge import TrustClient; import kedge.transport.http",
    COMMAND: "import kedge._cli.app",
}
BASE = "tuf.api.metadata"
HEAVY = ("typer", "rich", "pydantic", "sigstore", "urllib3")
# Compiled files are kept, as after any first start.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def main() -> int:
    """Measure, print, and say by the exit status whether every goal was reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=15, help="runs of each line (15)")
    parser.add_argument("--json", type=Path, help="write rows, ratios and goals to this file")
    options = parser.parse_args()
    programs = {name: program for name, program in PROGRAMS.items() if name != COMMAND or find_spec("typer")}
    times: dict[str, list[float]] = {name: [] for name in programs}
    loaded = {name: _loaded(program) for name, program in programs.items()}  # and the first start, unmeasured
    for _ in range(options.runs):
        for name, program in programs.items():
            begun = time.perf_counter()
            subprocess.run([sys.executable, "-c", program], check=True, env=ENVIRONMENT)
            times[name].append((time.perf_counter() - begun) * 1000)
    rows = [
        Import(name=name, runs=options.runs, wall_ms=median(all_runs), min_ms=min(all_runs), modules=len(loaded[name]))
        for name, all_runs in times.items()
    ]
    goals = [
        Goal(
            name=f"import kedge: wall time to {BASE}'s", value=median(times["kedge"]) / median(times[BASE]), limit=1.1
        ),
        Goal(
            name=f"import kedge: heavy modules loaded ({', '.join(HEAVY)})",
            value=len(loaded["kedge"].intersection(HEAVY)),
            limit=0,
        ),
        Goal(
            name="from kedge import TrustClient: the same",
            value=len(loaded["kedge.TrustClient"].intersection(HEAVY)),
            limit=0,
        ),
    ]
    return publish_imports("imports", BASE, rows, goals, options.json)


def _loaded(program: str) -> set[str]:
    code = f"{program}\nimport json, sys\nprint(json.dumps(list(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, env=ENVIRONMENT)
    return set(json.loads(done.stdout))


if __name__ == "__main__":
    sys.exit(main())

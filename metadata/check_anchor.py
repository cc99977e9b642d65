"""Say how long the initial roots that ship last, and refuse those that end soon. ``make release`` asks this.

A client may start at a root that has expired, but then it finds out about a newer one from the mirror alone: what is
released should be current for whoever installs it.

::

    python metadata/check_anchor.py [--now 2026-12-01T00:00:00Z] [--days 60] [ROOT ...]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from kedge.documents import format_time, parse_time
from kedge.errors import KedgeError
from kedge.tuf import checks

ANCHORS = Path(__file__).resolve().parent / "anchors"
LEAST_DAYS = 60


def main(arguments: Sequence[str]) -> int:
    """Print a line for each root; the exit status is 1 where one has fewer days left than asked for."""
    parser = argparse.ArgumentParser(description="Says how long the initial roots that ship last.")
    parser.add_argument("roots", nargs="*", type=Path, metavar="ROOT", help="instead of those in metadata/anchors")
    parser.add_argument("--now", type=parse_time, default=datetime.now(UTC), help="judge as of this time, in UTC")
    parser.add_argument("--days", type=int, default=LEAST_DAYS, help="how many must be left (default: %(default)s)")
    options = parser.parse_args(arguments)
    enough = True
    for file in options.roots or sorted(ANCHORS.glob("*/root.json")):
        root = checks.begin(file.read_bytes(), file=str(file)).root
        left = root.expires - options.now
        if left < timedelta(days=options.days):
            enough = False
            sys.stderr.write(
                f"{file}: version {root.version} expires {format_time(root.expires)}, {left.days} days from "
                f"{format_time(options.now)}: a release needs {options.days}. Take the next root, as the README beside "
                "it says.\n"
            )
        else:
            sys.stdout.write(f"{file}: version {root.version} lasts {left.days} days\n")
    return 0 if enough else 1


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (KedgeError, OSError) as error:
        sys.exit(str(error))

"""Refreshes and gets a target with kedge: PROGRAM URL FOLDER TARGET once|cold|warm RUNS.

FOLDER/root.json is the initial root. ``once`` is what a whole process does, in FOLDER/cache; the others print how many
milliseconds each run took, with everything imported before: each in a cache of its own, or all in one.
"""

import json
import os
import sys
import time
from datetime import timedelta
from pathlib import Path

from kedge.client.anchor import Anchor
from kedge.client.client import TrustClient
from kedge.transport.mirror import Mirror


def get(url: str, cache: Path, root: bytes, target: str) -> bytes:
    """Refresh, and get the target."""
    recent = timedelta(seconds=int(os.environ.get("REFRESH_AFTER_S", "0")))
    anchor = Anchor(name="bench", initial_root=root, mirrors=(Mirror(url=url),), refresh_after=recent)
    with TrustClient(anchor, state=cache) as client:
        return client.target(target).data


def main(url: str, folder: Path, target: str, kind: str, runs: int) -> None:
    """Do what the command line asks for."""
    root = (folder / "root.json").read_bytes()
    if kind == "once":
        get(url, folder / "cache", root, target)
        if "REFRESH_AFTER_S" in os.environ:
            sys.stdout.write(json.dumps({"urllib3": "urllib3" in sys.modules}))
        return
    times = []
    for run in range(runs + 1):
        begun = time.perf_counter()
        get(url, folder / (f"cache-{run}" if kind == "cold" else "cache"), root, target)
        times.append((time.perf_counter() - begun) * 1000)
    sys.stdout.write(json.dumps(times[1:]))  # the first one also loaded what is imported late


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], sys.argv[4], int(sys.argv[5]))

"""A client's process for the machine-fault tests: ``refresh.py ANCHOR STATE NOW [LOOPS]``.

ANCHOR is a folder with ``root.json`` and the published repository; NOW is a time. Each loop refreshes, gets the target
and prints what came of it, one JSON line each.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from kedge.client.anchor import Anchor
from kedge.client.client import TrustClient
from kedge.client.settings import FixedClock
from kedge.documents import parse_time
from kedge.errors import KedgeError
from kedge.transport.mirror import Mirror

TARGET = "registry.example/keys.json"


def main() -> None:
    anchor_folder, state, now = Path(sys.argv[1]), Path(sys.argv[2]), parse_time(sys.argv[3])
    anchor = Anchor(
        name="test",
        initial_root=(anchor_folder / "root.json").read_bytes(),
        mirrors=(Mirror(url=str(anchor_folder / "repository")),),
    )
    for _ in range(int(sys.argv[4]) if len(sys.argv) > 4 else 1):
        print(json.dumps(once(anchor, state, FixedClock(now))), flush=True)


def once(anchor: Anchor, state: Path, clock: FixedClock) -> dict[str, object]:
    try:
        client = TrustClient(anchor, state=state, clock=clock)
        trust = client.refresh()
        data = client.target(TARGET).data
    except KedgeError as error:
        return {"error": type(error).__name__, "text": str(error), "exit": int(error.exit_code)}
    return {
        "data": data.decode(),
        "timestamp": trust.timestamp.version,
        "refreshed": trust.refreshed,
        "warnings": list(client.trust.warnings),
    }


if __name__ == "__main__":
    main()

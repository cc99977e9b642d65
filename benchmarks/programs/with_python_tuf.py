"""Refreshes and gets a target with python-tuf's ngclient; the command line is that of with_kedge.py."""

import json
import sys
import time
from pathlib import Path

from tuf.ngclient import Updater


def get(url: str, cache: Path, root: bytes, target: str) -> bytes:
    """Refresh, and get the target. With ``bootstrap`` the cached chain of roots is verified from the first, as ours."""
    metadata, targets = cache / "metadata", cache / "targets"
    for folder in (metadata, targets):
        folder.mkdir(parents=True, exist_ok=True)
    updater = Updater(str(metadata), f"{url}/metadata/", str(targets), f"{url}/targets/", bootstrap=root)
    updater.refresh()
    info = updater.get_targetinfo(target)
    if info is None:
        raise LookupError(target)
    return Path(updater.find_cached_target(info) or updater.download_target(info)).read_bytes()


def main(url: str, folder: Path, target: str, kind: str, runs: int) -> None:
    """Do what the command line asks for."""
    root = (folder / "root.json").read_bytes()
    if kind == "once":
        get(url, folder / "cache", root, target)
        return
    times = []
    for run in range(runs + 1):
        begun = time.perf_counter()
        get(url, folder / (f"cache-{run}" if kind == "cold" else "cache"), root, target)
        times.append((time.perf_counter() - begun) * 1000)
    sys.stdout.write(json.dumps(times[1:]))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], sys.argv[4], int(sys.argv[5]))

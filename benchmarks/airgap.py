"""Crossing an air gap: how small a bundle is, how fast it is taken in, and how fast and how lean a copy is made.

::

    python benchmarks/airgap.py --json airgap.json
    python benchmarks/airgap.py --targets 2000 --latency-ms 20 --runs 7

Sizes: a whole bundle of Sigstore's real repository (roots from 5 on, npm's keys, trusted_root.json; it needs
../shared/vectors.zip), and the delta of one day of a repository of the same shape (airgap_repository.py), after its
first line. Times: ``kedge bundle apply`` into an empty state beside ``kedge keys show`` from a state that needs no
request, whole processes in turns, medians. A copy: ``kedge mirror sync`` of many targets beside a loop over
python-tuf's ``Updater``, which gets one target after the other, from one server that answers after a fixed time.
Memory: the peak of ``kedge mirror sync`` for few bytes and for many.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

from airgap_repository import Made
from report import Goal, publish_figures

from kedge.client.anchor import Anchor, add_anchor
from kedge.client.client import TrustClient
from kedge.client.settings import FixedClock
from kedge.client.store import Store
from kedge.mirror.bundle import make_bundle, read_receiver
from kedge.transport.bundle_format import read_manifest
from kedge.transport.mirror import Mirror

HERE = Path(__file__).resolve().parent
VECTORS = HERE.parent.parent / "shared" / "vectors.zip"
NPM = "registry.npmjs.org"
KEYS = f"{NPM}/keys.json"
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

WHOLE_BYTES, DELTA_BYTES, APPLY_RATIO, SYNC_RATIO, MEMORY_RATIO = 14_500, 300, 1.3, 8.0, 1.2


def main() -> int:
    """Measure, print, and say whether the goals are reached."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--targets", type=int, default=2000)
    parser.add_argument("--latency-ms", type=int, default=20)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    figures: dict[str, float] = {}
    goals: list[Goal] = []
    with tempfile.TemporaryDirectory(prefix="kedge-airgap-") as folder:
        here = Path(folder)
        if VECTORS.is_file():
            figures["bytes of a whole bundle of Sigstore's repository"] = whole = _whole(here / "sigstore")
            goals.append(Goal(name="bytes of a whole bundle of Sigstore's repository", value=whole, limit=WHOLE_BYTES))
        else:
            sys.stderr.write("../shared/vectors.zip is not there: the whole bundle is not measured\n")
        delta, line = _delta(here / "delta")
        figures["bytes of a day's delta, after its first line"] = delta
        figures["bytes of that first line"] = line
        goals.append(Goal(name="bytes of a day's delta, after its first line", value=delta, limit=DELTA_BYTES))
        applied, shown = _apply(here / "apply", options.runs)
        figures |= {"ms of bundle apply, cold": applied, "ms of keys show, from state": shown}
        goals.append(Goal(name="bundle apply, cold, by keys show from state", value=applied / shown, limit=APPLY_RATIO))
        ours, theirs = _copies(here / "copies", options.targets, options.latency_ms)
        figures |= {
            f"s of mirror sync, {options.targets} targets": ours,
            "s of python-tuf, one after the other": theirs,
        }
        goals.append(
            Goal(name=f"mirror sync by python-tuf / {SYNC_RATIO:g}", value=ours / theirs, limit=1 / SYNC_RATIO)
        )
        small, large = _memory(here / "memory")
        figures |= {"MiB of mirror sync, 20 targets of 10 KB": small, "MiB of mirror sync, 20 targets of 10 MB": large}
        goals.append(Goal(name="memory for a thousand times the bytes", value=large / small, limit=MEMORY_RATIO))
    return publish_figures("airgap", figures, goals, options.json)


def _whole(folder: Path) -> int:
    with zipfile.ZipFile(VECTORS) as archive:
        archive.extractall(folder)
    source = folder / "vectors" / "sigstore-repo"
    root = (source / "metadata" / "5.root.json").read_bytes()
    anchor = Anchor(name="sigstore", initial_root=root, mirrors=(Mirror(url=str(source)),))
    clock = FixedClock(datetime(2026, 8, 22, tzinfo=UTC))
    with TrustClient(anchor, state=folder / "state", clock=clock) as client:
        return len(make_bundle(client, [KEYS, "trusted_root.json"]))


def _delta(folder: Path) -> tuple[int, int]:
    """The bytes of a delta after a day on which the timestamp was signed again, as on nearly all days; and its line."""
    made = Made(folder / "repository", roots=15, targets={KEYS: _npm_keys()})
    anchor = _anchor(folder, made)
    yesterday, today = folder / "yesterday.kedge", folder / "today.kedge"
    with TrustClient(anchor, state=folder / "state") as client:
        yesterday.write_bytes(make_bundle(client, [KEYS]))
    made.sign_timestamp(2)
    store = Store(folder / "state")
    with TrustClient(anchor, state=folder / "state") as client:
        client.refresh()
        data = make_bundle(client, [KEYS], receiver=read_receiver(yesterday, store))
    today.write_bytes(data)
    rest = read_manifest(data, file="today.kedge").deflated_bytes
    return rest, len(data) - rest


def _apply(folder: Path, runs: int) -> tuple[float, float]:
    made = Made(folder / "repository", roots=15, targets={KEYS: _npm_keys()})
    anchor = _anchor(folder, made)
    bundle = folder / "whole.kedge"
    with TrustClient(anchor, state=folder / "outside") as client:
        bundle.write_bytes(make_bundle(client, [KEYS]))
    warm = folder / "warm"
    _kedge(folder, "keys", "show", NPM, state=warm)
    cold: list[float] = []
    shown: list[float] = []
    for run in range(runs):
        cold.append(_kedge(folder, "bundle", "apply", bundle, state=folder / f"cold {run}"))
        shown.append(_kedge(folder, "keys", "show", NPM, state=warm))
    return median(cold) * 1000, median(shown) * 1000


def _copies(folder: Path, count: int, latency_ms: int) -> tuple[float, float]:
    targets = {f"files/{number}.json": os.urandom(2_000) for number in range(count)}
    made = Made(folder / "repository", roots=2, targets=targets)
    with _served(made.folder, latency_ms) as url:
        _anchor(folder, made, url=url)
        ours = _kedge(folder, "mirror", "sync", folder / "copy", state=folder / "state")
        begun = time.monotonic()
        program = [sys.executable, str(HERE / "programs" / "copy_with_python_tuf.py"), url, str(folder / "theirs")]
        subprocess.run(program, check=True, env=ENVIRONMENT, input=made.initial_root)
        theirs = time.monotonic() - begun
    copied = list((folder / "copy" / "targets").rglob("*.json"))
    if len(copied) != count or len(list((folder / "theirs" / "targets").iterdir())) != count:
        raise SystemExit("one of the copies is not whole")
    return ours, theirs


def _memory(folder: Path) -> tuple[float, float]:
    peaks = []
    for size in (10_000, 10_000_000):
        here = folder / str(size)
        made = Made(here / "repository", roots=2, targets={f"{number}.bin": os.urandom(size) for number in range(20)})
        with _served(made.folder, 0) as url:
            _anchor(here, made, url=url)
            peaks.append(_peak_mib(here, "mirror", "sync", here / "copy"))
    return peaks[0], peaks[1]


def _anchor(folder: Path, made: Made, *, url: str | None = None) -> Anchor:
    anchor = Anchor(
        name="measured",
        initial_root=made.initial_root,
        mirrors=(Mirror(url=url or str(made.folder)),),
        registries=(NPM,),
        refresh_after=timedelta(days=1),
    )
    add_anchor(anchor, folder / "config")
    return anchor


def _npm_keys() -> bytes:
    catalogue = HERE.parent / "metadata" / "registries" / f"{NPM}.json"
    return json.dumps(json.loads(catalogue.read_bytes())["document"], separators=(",", ":")).encode()


def _kedge(folder: Path, *arguments: object, state: Path) -> float:
    begun = time.monotonic()
    subprocess.run(_command(*arguments), check=True, env=_environment(folder, state), stdout=subprocess.DEVNULL)
    return time.monotonic() - begun


def _peak_mib(folder: Path, *arguments: object) -> float:
    # Each in a child of its own: a process is told the peak of all the children that it waited for.
    watcher = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL);"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    command = [sys.executable, "-c", watcher, *_command(*arguments)]
    done = subprocess.run(
        command, check=True, env=_environment(folder, folder / "state"), capture_output=True, text=True
    )
    return int(done.stdout) / 1024


def _command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "kedge", *map(str, arguments)]


def _environment(folder: Path, state: Path) -> dict[str, str]:
    return {**ENVIRONMENT, "KEDGE_CONFIG_DIR": str(folder / "config"), "KEDGE_STATE_DIR": str(state)}


@contextmanager
def _served(folder: Path, latency_ms: int) -> Iterator[str]:
    command = [sys.executable, str(HERE / "server.py"), str(folder), str(latency_ms)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        if server.stdout is None or server.stdin is None:
            raise SystemExit("the server cannot be talked to")
        try:
            yield f"http://127.0.0.1:{server.stdout.readline().strip()}"
        finally:
            server.stdin.close()
            server.wait()


if __name__ == "__main__":
    sys.exit(main())

"""A lock file of 1,000 packages verified against a mirror of 50,000, each with its signed listing in a hash bin.

::

    python benchmarks/listings.py --json listings.json
    python benchmarks/listings.py --packages 2000 --locked 100 --runs 3

The repository is made here by ``kedge-repo``'s own functions: a role ``pub.dev`` with hash bins, as many as its rule
says, and one listing a package. A loopback server (server.py) serves it from memory. Each run is the command ``kedge
verify pub`` as a process of its own, from its start to its end: *cold* with an empty state, *warm* with the state of
the run before it, which then asks for nothing but a newer root and the timestamp. How often each bin is asked for is
the server's own count, and so are all requests.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path
from statistics import median

from securesystemslib.signer import CryptoSigner

from kedge.registries.pub.registry import listing_path
from kedge_repo.bins.store import bit_length_for
from kedge_repo.events.changes import change, merge_event
from kedge_repo.events.init import Charter, found_repository
from kedge_repo.events.plan_roles import plan_delegation
from kedge_repo.events.pub import gather, into_bins
from kedge_repo.events.signatures import sign_event
from kedge_repo.publish.files import collect_files
from kedge_repo.publish.online import sign_online
from kedge_repo.workspace.policy import BinsPolicy, Content, DelegationPolicy
from kedge_repo.workspace.public_key import to_pem
from kedge_repo.workspace.workspace import Workspace

HERE = Path(__file__).resolve().parent
REGISTRY, ROLE = "pub/pub.dev", "pub.dev"
GOAL_COLD_S = 2.0
DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """The repository: its published files in ``folder``, its initial root, and what making it took."""

    folder: Path
    root: Path
    bins: int
    sync_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Once:
    """One process: what it took, and what the server counted meanwhile."""

    wall_s: float
    cpu_s: float
    peak_kib: int
    requests: int
    most_for_one_bin: int
    bins: int


def main() -> None:
    """Make the repository, run the command, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packages", type=int, default=50_000)
    parser.add_argument("--locked", type=int, default=1_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--state", type=Path, help="where users keep their state: another disk, or memory (/dev/shm)")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kedge-listings-") as name:
        place = Path(name)
        made = make(place, options.packages)
        write_lock(place / "pubspec.lock", random.Random(7).sample(range(options.packages), options.locked))
        with serving(made.folder) as url:
            runs = {"cold": [], "warm": []}
            for _ in range(options.runs):
                user = Path(tempfile.mkdtemp(prefix="kedge-user-", dir=options.state or place))
                add_anchor(user, made.root, url)
                for kind in ("cold", "warm"):
                    runs[kind].append(verify(user, place / "pubspec.lock", url))
                shutil.rmtree(user)
    report(options.packages, options.locked, made, runs, options.json)


def make(place: Path, packages: int) -> Made:
    """Found a repository, delegate to bins, sync ``packages`` answers, sign, and lay the files out for the server."""
    holder, online = CryptoSigner.generate_ed25519(), CryptoSigner.generate_ed25519()
    now = datetime.now(UTC).replace(microsecond=0)
    workspace = Workspace(root=place / "workspace")
    charter = Charter(
        name="listings",
        keyholders={"holder": to_pem(holder.public_key)},
        online={"online": to_pem(online.public_key)},
        root_threshold=1,
        targets_threshold=1,
    )
    found_repository(workspace.root, charter, now=now)
    sign_event(workspace, holder)
    merge_event(workspace)
    change(workspace, lambda view: plan_delegation(view, delegation(packages)), now=now)
    sign_event(workspace, holder)
    merge_event(workspace)
    begun = time.perf_counter()
    gathered = gather(workspace, REGISTRY, answers(packages))
    into_bins(workspace, ROLE, gathered, [online], now=now)
    sign_online(workspace, [online], now=now)
    sync_s = time.perf_counter() - begun
    files = collect_files(workspace)
    for path, data in chain(*files.contents({}), files.everything().items()):
        file = place / "public" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    root = place / "root.json"
    root.write_bytes(files.roots[0])
    return Made(folder=place / "public", root=root, bins=1 << bit_length_for(packages), sync_s=sync_s)


def delegation(packages: int) -> DelegationPolicy:
    """A role for pub.dev's listings, with as many bins as the rule says."""
    bins = BinsPolicy(
        name=ROLE,
        keyholders=("online",),
        threshold=1,
        expiry=30 * DAY,
        signing=10 * DAY,
        bit_length=bit_length_for(packages),
        content=Content.WORKSPACE,
    )
    return DelegationPolicy(
        name=ROLE,
        keyholders=("holder",),
        threshold=1,
        expiry=365 * DAY,
        signing=60 * DAY,
        paths=(listing_path(REGISTRY, "x").replace("x.json", "*"),),
        terminating=True,
        bins=bins,
    )


def answers(packages: int) -> Iterator[tuple[str, bytes | str]]:
    """What a registry would answer about each package: four to twelve versions."""
    for number in range(packages):
        versions = [
            {"version": f"1.{minor}.0", "archive_sha256": digest(number, minor), "pubspec": {}, "archive_url": "x"}
            for minor in range(4 + number % 9)
        ]
        yield f"package_{number}", json.dumps({"name": f"package_{number}", "versions": versions}).encode()


def digest(number: int, minor: int) -> str:
    """The digest of an archive that nobody made."""
    return hashlib.sha256(f"{number} {minor}".encode()).hexdigest()


def write_lock(path: Path, numbers: list[int]) -> None:
    """A lock file as pub writes it."""
    lines = ["# Generated by pub", "packages:"]
    for number in sorted(numbers):
        name = f"package_{number}"
        lines += [f"  {name}:", "    dependency: transitive", "    description:", f"      name: {name}"]
        lines += [f'      sha256: "{digest(number, 3)}"', '      url: "https://pub.dev"', "    source: hosted"]
        lines += ['    version: "1.3.0"']
    path.write_text("\n".join([*lines, "sdks:", '  dart: ">=3.0.0 <4.0.0"', ""]))


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The server, as a process of its own."""
    command = [sys.executable, str(HERE / "server.py"), str(folder), "0"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        try:
            yield f"http://127.0.0.1:{server.stdout.readline().strip() if server.stdout else ''}"
        finally:
            server.terminate()


def add_anchor(user: Path, root: Path, url: str) -> None:
    """Give a user an anchor that speaks for pub.dev."""
    command = ["anchor", "add", "repo", "--root", str(root), "--mirror", url, "--registry", REGISTRY]
    subprocess.run([sys.executable, "-m", "kedge", *command], env=environment(user), check=True, capture_output=True)


def verify(user: Path, lock: Path, url: str) -> Once:
    """Run ``kedge verify pub`` once."""
    asked(url)
    command = [sys.executable, "-m", "kedge", "verify", "pub", str(lock), "--json"]
    begun = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment(user), cwd=user) as child:
        output = child.stdout.read() if child.stdout is not None else b""
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    wall_s = time.perf_counter() - begun
    found = json.loads(output)
    if child.returncode or found["verified_count"] != found["checked_count"]:
        raise SystemExit(f"verify pub ended with {child.returncode}")
    counts = asked(url)
    bins = [count for path, count in counts.items() if f".{ROLE}-" in path]
    return Once(
        wall_s=wall_s,
        cpu_s=used.ru_utime + used.ru_stime,
        peak_kib=used.ru_maxrss,
        requests=sum(counts.values()),
        most_for_one_bin=max(bins, default=0),
        bins=len(bins),
    )


def asked(url: str) -> dict[str, int]:
    """How often the server was asked for each path since the last time."""
    with urllib.request.urlopen(f"{url}/paths", timeout=10) as answer:
        counts: dict[str, int] = json.loads(answer.read())
    return counts


def environment(user: Path) -> dict[str, str]:
    """A user's own folders."""
    return {**os.environ, "KEDGE_STATE_DIR": str(user / "state"), "KEDGE_CONFIG_DIR": str(user / "config")}


def report(packages: int, locked: int, made: Made, runs: dict[str, list[Once]], file: Path | None) -> None:
    """Print the table, and end with 1 where a goal is missed."""
    lines = [f"{locked} locked packages of {packages}, {made.bins} bins; synced and signed in {made.sync_s:.1f} s"]
    rows = {}
    for kind, found in runs.items():
        wall = sorted(once.wall_s for once in found)
        rows[kind] = {
            "median_s": round(median(wall), 3),
            "min_s": round(wall[0], 3),
            "cpu_s": round(median(once.cpu_s for once in found), 3),
            "peak_mib": round(max(once.peak_kib for once in found) / 1024, 1),
            "requests": max(once.requests for once in found),
            "bins": max(once.bins for once in found),
            "most_for_one_bin": max(once.most_for_one_bin for once in found),
        }
        lines.append(f"  {kind:<5}" + "  ".join(f"{name} {value}" for name, value in rows[kind].items()))
    reached = {
        f"cold in at most {GOAL_COLD_S} s": rows["cold"]["median_s"] <= GOAL_COLD_S,
        "each bin once": rows["cold"]["most_for_one_bin"] == 1,
        "warm asks for no bin": rows["warm"]["bins"] == 0,
    }
    lines += [f"  {'reached' if right else 'MISSED'}: {goal}" for goal, right in reached.items()]
    sys.stdout.write("\n".join(lines) + "\n")
    if file is not None:
        document = {"benchmark": "listings", "packages": packages, "locked": locked, "rows": rows, "goals": reached}
        file.write_text(json.dumps({**document, "bins": made.bins, "sync_s": made.sync_s}, indent=1) + "\n")
    if not all(reached.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()

"""Verifying the registry signatures of a whole lockfile: npm, pnpm and kedge, side by side in one run.

::

    python benchmarks/npm_audit.py --json npm_audit.json
    python benchmarks/npm_audit.py --packages 50,1000 --tools kedge,npm --runs 5

A loopback registry (npm_registry.py) serves packuments of 200 versions each, compressed as registries do; half of what
is locked was signed by a retired key. Every run is a process with an empty cache and an empty home, and must say that
each package is verified, or the benchmark fails. The tools take turns. Figures are medians; requests and bytes are the
server's count; CPU and peak memory are the kernel's (``wait4``) for the process and those that it waited for.

- ``npm audit signatures`` is run by a private copy of npm in which the mirror of its TUF client, and the root that is
  seeded for it, are other ones: it has no option for either. It finds no keys for a loopback host in that repository,
  and takes them from the registry's own endpoint, as it does behind every mirror.
- ``pnpm audit signatures`` takes the keys from that endpoint, too.
- ``kedge verify npm`` takes them from the TUF repository, which kedge-repo made and published for this run.

``verify`` rows are signatures a second: of a bare loop over cryptography's P-256 ``verify``, and of kedge's functions,
in one process a core, as kedge shares a long lockfile out.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "tests"))

from npm_registry import locked_versions  # noqa: E402

from interop.ceremony import NPM as UPSTREAM  # noqa: E402 the repository and the tools are those of the tests
from interop.ceremony import Maintained  # noqa: E402
from interop.npm_world import Issuer, key_document  # noqa: E402
from interop.npm_world.npm_copy import private_npm  # noqa: E402
from interop.npm_world.project import write_project  # noqa: E402
from interop.npm_world.tools import Tools  # noqa: E402

TOOLS = ("npm", "pnpm", "kedge")
TIMES_FASTER = {1_000: 5.0, 10_000: 10.0}
VERIFY_SHARE = 0.85


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What one tool took for one lockfile; medians."""

    tool: str
    packages: int
    versions: int
    runs: int
    wall_s: float
    cpu_s: float
    peak_mib: float
    requests: int
    megabytes: float
    walls_s: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verifying:
    """Signatures that one way of verifying checks a second."""

    what: str
    cores: int
    signatures: int
    per_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """A figure that is to be at least, or at most, ``limit``."""

    name: str
    value: float
    limit: float
    at_most: bool = False

    @property
    def reached(self) -> bool:
        """Whether it is."""
        return self.value <= self.limit if self.at_most else self.value >= self.limit


class World:
    """One registry with so many packages, a TUF repository with its keys, and a project that locks them all."""

    def __init__(self, folder: Path, packages: int, versions: int) -> None:
        """Make it below ``folder``."""
        self.folder, self.packages, self.versions = folder, packages, versions
        self.issuers = {"retired": Issuer(end="2025-01-29T00:00:00.000Z"), "active": Issuer()}
        maintained = Maintained(folder / "repository", now=datetime.now(UTC).replace(microsecond=0))
        maintained.replace_target(f"{UPSTREAM}/keys.json", key_document(*self.issuers.values()))
        self.public, self.root = maintained.public, maintained.initial_root

    @contextmanager
    def serving(self) -> Iterator[str]:
        """Serve it; gives the registry's address."""
        locked: dict[str, tuple[str, str]] = {}
        described = []
        for index in range(self.packages):
            name, signed = f"bench-{index:05}", {}
            for which, version in locked_versions(self.versions).items():
                digest = "sha512-" + base64.b64encode(hashlib.sha512(f"{name}@{version}".encode()).digest()).decode()
                signed[which] = digest, self.issuers[which].sign(name, version, digest)["sig"]
            which = ("retired", "active")[index % 2]
            locked[name] = locked_versions(self.versions)[which], signed[which][0]
            described.append({"name": name, "locked": signed})
        world = {
            "versions": self.versions,
            "keyids": {which: issuer.keyid for which, issuer in self.issuers.items()},
            "endpoint": [issuer.endpoint_entry for issuer in self.issuers.values()],
            "repository": str(self.public),
            "packages": described,
        }
        command = [sys.executable, str(HERE / "npm_registry.py")]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdin is not None
            assert server.stdout is not None
            json.dump(world, server.stdin)
            server.stdin.close()
            try:
                url = f"http://127.0.0.1:{int(server.stdout.readline())}"
                write_project(self.folder / "project", locked, registry=url)
                yield url
            finally:
                server.kill()


class Bench:
    """Runs the tools on one world."""

    def __init__(self, world: World, url: str, tools: Tools, versions: Sequence[str]) -> None:
        """Prepare what every run of a tool begins with."""
        self._world, self._url, self._tools = world, url, tools
        self._project = world.folder / "project"
        self._npm = (
            private_npm(tools.modules, world.folder / "npm", mirror=f"{url}/tuf", root=world.root)
            if "npm" in versions
            else []
        )
        self._root = world.folder / "root.json"
        self._root.write_bytes(world.root)

    def once(self, tool: str) -> tuple[float, float, float, int, int]:
        """Run a tool in an empty home: wall and CPU seconds, peak MiB, requests and bytes."""
        home = Path(tempfile.mkdtemp(prefix=f"{tool}-", dir=self._world.folder))
        own = {"HOME": str(home), "KEDGE_STATE_DIR": str(home / "state"), "KEDGE_CONFIG_DIR": str(home / "config")}
        environment = self._tools.environment(own)
        if tool == "kedge":
            add = ["anchor", "add", "bench", "--root", str(self._root), "--mirror", f"{self._url}/tuf"]
            layout = ["--metadata", "", "--registry", UPSTREAM]
            subprocess.run(
                [sys.executable, "-m", "kedge", *add, *layout], env=environment, check=True, capture_output=True
            )
        self._counted()
        with (home / "out").open("wb") as out, (home / "err").open("wb") as err:
            begun = time.perf_counter()
            child = subprocess.Popen(
                self._command(tool),
                cwd=self._project,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )
            _, status, used = os.wait4(child.pid, 0)
            wall_s = time.perf_counter() - begun
            child.returncode = os.waitstatus_to_exitcode(status)
        counts = self._counted()
        said = (home / "out").read_text()
        if child.returncode != 0 or self._verified(tool, said) != self._world.packages:
            said += (home / "err").read_text()
            raise SystemExit(f"{tool} did not verify all: exit {child.returncode}\n{said[-4000:]}")
        return wall_s, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, counts["requests"], counts["bytes"]

    def _command(self, tool: str) -> list[str]:
        if tool == "npm":
            return [*self._npm, "audit", "signatures"]
        if tool == "pnpm":
            return [*self._tools.pnpm, "audit", "signatures", "--json"]
        line = ["verify", "npm", "package-lock.json", "--registry", f"{self._url}/", "--upstream", UPSTREAM]
        return [sys.executable, "-m", "kedge", *line]

    def _verified(self, tool: str, said: str) -> int:
        if tool == "npm":
            counts = [line.split()[0] for line in said.splitlines() if "verified registry signature" in line]
            return int(counts[0]) if counts else 0
        if tool == "pnpm":
            return int(json.loads(said)["verified"]) if said.startswith("{") else 0
        counted = re.match(r"\S+: (\d+) of \d+ packages? verified", said)
        return int(counted[1]) if counted else 0

    def _counted(self) -> dict[str, int]:
        with urllib.request.urlopen(f"{self._url}/-/bench") as answer:
            counts: dict[str, int] = json.load(answer)
        return counts


def measure(packages: int, versions: int, runs: int, tools: Sequence[str], modules: Path) -> list[Row]:
    """Measure every tool on one size, taking turns."""
    with tempfile.TemporaryDirectory(prefix="kedge-bench-") as folder:
        world = World(Path(folder), packages, versions)
        with world.serving() as url:
            bench = Bench(world, url, Tools(modules=modules, home=Path(folder)), tools)
            taken: dict[str, list[tuple[float, float, float, int, int]]] = {tool: [] for tool in tools}
            for turn in range(runs):
                for tool in tools:
                    taken[tool].append(bench.once(tool))
                    sys.stderr.write(f"{packages} packages, run {turn + 1}: {tool} {taken[tool][-1][0]:.2f} s\n")
    rows = []
    for tool, all_runs in taken.items():
        wall, cpu, peak, requests, size = (median(each) for each in zip(*all_runs, strict=True))
        rows.append(
            Row(
                tool=tool,
                packages=packages,
                versions=versions,
                runs=runs,
                wall_s=round(wall, 3),
                cpu_s=round(cpu, 3),
                peak_mib=round(peak, 1),
                requests=int(requests),
                megabytes=round(size / 1e6, 2),
                walls_s=[round(each[0], 3) for each in all_runs],
            )
        )
    return rows


def measure_verifying(signatures: int, runs: int) -> list[Verifying]:
    """Measure the verifying alone: bare, and through kedge's own functions."""
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
    from cryptography.hazmat.primitives.hashes import SHA256

    from kedge.registries.npm.judge import Outcome, Policy, judge_package, verify_signature
    from kedge.registries.npm.locked import LockedPackage, parse_sri
    from kedge.registries.npm.packument import Served, ServedSignature
    from kedge.registries.npm.registry import NPM

    issuer, cores = Issuer(), os.cpu_count() or 1
    keys = NPM().parse(key_document(issuer), registry=UPSTREAM, custom=None, now=datetime.now(UTC))
    public, algorithm, policy = issuer.private.public_key(), ECDSA(SHA256()), Policy()
    work = []
    for index in range(signatures):
        name, digest = f"bench-{index}", "sha512-" + base64.b64encode(hashlib.sha512(b"%d" % index).digest()).decode()
        sig = issuer.sign(name, "1.0.0", digest)["sig"]
        package = LockedPackage(name=name, version="1.0.0", digests=parse_sri(digest), where=name)
        signed = (ServedSignature(issuer.keyid, sig),)
        served = Served(integrity=digest, shasum=None, signatures=signed, published=None)
        work.append((f"{name}@1.0.0:{digest}".encode(), base64.b64decode(sig), name, digest, sig, package, served))

    def bare(item: Any) -> None:
        public.verify(item[1], item[0], algorithm)

    def function(item: Any) -> None:
        verify_signature(keys, item[2], "1.0.0", item[3], keyid=issuer.keyid, signature=item[4])

    def judged(item: Any) -> None:
        assert judge_package(item[5], item[6], [keys], policy).outcome is Outcome.VERIFIED

    ways: dict[str, Callable[[Any], None]] = {"bare": bare, "verify_signature": function, "judge": judged}
    taken: dict[str, list[float]] = {what: [] for what in ways}
    for _ in range(runs):
        for what, way in ways.items():
            taken[what].append(_on_every_core(way, work, cores))
    return [
        Verifying(what=what, cores=cores, signatures=signatures, per_s=round(signatures / median(times)))
        for what, times in taken.items()
    ]


_shared: tuple[Callable[[Any], None], list[Sequence[Any]]]


def _on_every_core(way: Callable[[Any], None], work: Sequence[Any], cores: int) -> float:
    global _shared  # noqa: PLW0603 what is forked from here finds its part of the work in it
    _shared = way, [work[index::cores] for index in range(cores)]
    with ProcessPoolExecutor(cores, mp_context=get_context("fork")) as pool:
        list(pool.map(_do_share, [0] * cores, [1] * cores))  # all are there, and have begun once
        begun = time.perf_counter()
        list(pool.map(_do_share, range(cores), [None] * cores))
        return time.perf_counter() - begun


def _do_share(index: int, most: int | None) -> None:
    way, parts = _shared
    for item in parts[index][:most]:
        way(item)


def goals_of(rows: Sequence[Row], verifying: Sequence[Verifying]) -> list[Goal]:
    """What the figures are held to."""
    found = {(row.tool, row.packages): row for row in rows}
    goals = []
    for packages, times in TIMES_FASTER.items():
        ours, npms = found.get(("kedge", packages)), found.get(("npm", packages))
        if ours is not None and npms is not None:
            name = f"times faster than npm at {packages} packages"
            goals.append(Goal(name=name, value=round(npms.wall_s / ours.wall_s, 2), limit=times))
    mine = sorted((row for row in rows if row.tool == "kedge"), key=lambda row: row.packages)
    if len(mine) > 1:
        least, most = mine[0], mine[-1]
        name = "KiB of memory for each package more, at most what one packument is on the wire"
        body_kib = most.megabytes * 1000 / most.packages
        grown = (most.peak_mib - least.peak_mib) * 1024 / (most.packages - least.packages)
        goals.append(Goal(name=name, value=round(grown, 1), limit=round(body_kib, 1), at_most=True))
    per_s = {each.what: each.per_s for each in verifying}
    if "bare" in per_s:
        name = "share of a bare loop's speed, verifying alone"
        goals.append(Goal(name=name, value=round(per_s["judge"] / per_s["bare"], 2), limit=VERIFY_SHARE))
    return goals


def publish(rows: Sequence[Row], verifying: Sequence[Verifying], file: Path | None) -> int:
    """Print everything, write ``file`` if one is named, and give the exit status: 1 where a goal is missed."""
    npms = {row.packages: row.wall_s for row in rows if row.tool == "npm"}
    ratios = [
        {"tool": row.tool, "packages": row.packages, "npm_wall_by_this": round(npms[row.packages] / row.wall_s, 2)}
        for row in rows
        if row.packages in npms
    ]
    goals = goals_of(rows, verifying)
    sys.stdout.write(
        f"{'packages':>8}  {'tool':6}{'wall s':>9}{'CPU s':>9}{'MiB':>8}{'requests':>10}{'MB':>9}{'x npm':>8}\n"
    )
    for row in rows:
        times = f"{npms[row.packages] / row.wall_s:8.1f}" if row.packages in npms else ""
        figures = f"{row.wall_s:9.2f}{row.cpu_s:9.2f}{row.peak_mib:8.0f}{row.requests:10}{row.megabytes:9.1f}"
        sys.stdout.write(f"{row.packages:8}  {row.tool:6}{figures}{times}\n")
    for each in verifying:
        sys.stdout.write(f"verify    {each.what:18}{each.per_s:9.0f} a second, {each.cores} cores\n")
    for goal in goals:
        mark, sign = "reached" if goal.reached else "MISSED ", "<=" if goal.at_most else ">="
        sys.stdout.write(f"{mark}  {goal.value:8.2f} {sign} {goal.limit:6.2f}  {goal.name}\n")
    if file is not None:
        document = {
            "benchmark": "npm_audit",
            "machine": {"cpus": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()},
            "rows": [*map(asdict, rows), *map(asdict, verifying)],
            "ratios": ratios,
            "goals": [{**asdict(goal), "reached": goal.reached} for goal in goals],
        }
        file.write_text(json.dumps(document, indent=1) + "\n")
    return 0 if all(goal.reached for goal in goals) else 1


def main() -> int:
    """Run as the options say."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--packages", default="50,1000,10000", help="sizes of lockfiles, apart by commas")
    parser.add_argument("--versions", type=int, default=200, help="versions in each packument")
    parser.add_argument("--runs", default="5,3,1", help="runs of each tool for each size, apart by commas")
    parser.add_argument("--tools", default=",".join(TOOLS), help="which to run")
    parser.add_argument("--signatures", type=int, default=20_000, help="for the verifying alone; 0 leaves it out")
    parser.add_argument("--peers", type=Path, default=HERE.parent / ".peers", help="what make peers filled")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    options = parser.parse_args()
    sizes = [int(size) for size in options.packages.split(",")]
    runs = [int(count) for count in options.runs.split(",")]
    rows: list[Row] = []
    for index, size in enumerate(sizes):
        tools = options.tools.split(",")
        rows += measure(size, options.versions, runs[min(index, len(runs) - 1)], tools, options.peers / "node_modules")
    verifying = measure_verifying(options.signatures, 5) if options.signatures else []
    return publish(rows, verifying, options.json)


if __name__ == "__main__":
    sys.exit(main())

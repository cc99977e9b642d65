"""Refreshing and getting one target, side by side with other TUF clients in one run.

::

    python benchmarks/refresh.py --json refresh.json
    python benchmarks/refresh.py --roots 15 --latency-ms 50 --clients kedge,python-tuf --runs 9

Each client starts from root 1 of a chain and gets a target through a delegation, from a loopback server that answers
after a fixed time (server.py), ``cold`` with an empty cache and ``warm`` with its own cache of before. A *process* is
measured from its start to its end, with its peak memory; *in-process* runs have everything imported. The clients take
turns inside each cell, so that a busy machine is busy for all of them. Every figure is a median of the runs; a ratio is
to python-tuf in the same cell, and lower is better.

Requests and connections are the server's own count. tuf-js and go-tuf verify no chain when they are warm: they trust
the newest root of their cache, where kedge and python-tuf (with ``bootstrap``) begin at the first.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from report import Goal, Row, publish

HERE = Path(__file__).resolve().parent
PEERS = HERE.parent / ".peers"
TARGET = "registry.example/keys.json"
CLIENTS = ("kedge", "python-tuf", "tuf-js", "go-tuf")
BASE = "python-tuf"
# Compiled files are kept, as after any first start: else what is installed to be edited would be compiled each time.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One situation in which all clients are measured."""

    roots: int
    latency_ms: int
    cache: str

    def __str__(self) -> str:
        return f"{self.roots} roots, {self.latency_ms} ms, {self.cache}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Once:
    """One process."""

    wall_ms: float
    peak_kib: int
    requests: int
    connections: int
    output: str


class Bench:
    """The servers, the repositories and a place for caches."""

    def __init__(self, folder: Path, urls: dict[int, str], peers: Path) -> None:
        """Measure below ``folder``; ``urls`` are the servers by their latency."""
        self._folder = folder
        self._urls = urls
        self._modules = peers / "node_modules"
        self._go_tuf = peers / "go-tuf-reader"

    def present(self, client: str) -> bool:
        """Whether a client is installed here."""
        needed = {"tuf-js": self._modules / "tuf-js", "go-tuf": self._go_tuf}
        return client not in needed or needed[client].exists()

    def url(self, cell: Cell) -> str:
        """The repository of a cell."""
        return f"{self._urls[cell.latency_ms]}/{cell.roots}"

    def place(self, cell: Cell, client: str) -> Path:
        """An empty place for a client's caches, with the initial root in it."""
        place = Path(tempfile.mkdtemp(prefix=f"{client}-", dir=self._folder))
        shutil.copy(self._folder / "repositories" / str(cell.roots) / "metadata" / "1.root.json", place / "root.json")
        return place

    def process(self, cell: Cell, client: str, place: Path, **environment: str) -> Once:
        """Run a client once as a process, in ``place/cache``."""
        if client == "go-tuf" and not (place / "cache").exists():
            for name in ("metadata", "targets"):
                (place / "cache" / name).mkdir(parents=True)
            shutil.copy(place / "root.json", place / "cache" / "metadata" / "root.json")
        self._counted(cell)
        command = self._command(cell, client, place, "once", 0)
        begun = time.perf_counter()
        child_environment = {**ENVIRONMENT, **environment}
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=child_environment) as child:
            output = child.stdout.read() if child.stdout is not None else ""
            _, status, used = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
        wall_ms = (time.perf_counter() - begun) * 1000
        if child.returncode != 0:
            raise SystemExit(f"{client} failed in {cell}: exit status {child.returncode}")
        return Once(wall_ms=wall_ms, peak_kib=used.ru_maxrss, output=output, **self._counted(cell))

    def in_process(self, cell: Cell, client: str, place: Path, runs: int) -> list[float]:
        """Let a client measure itself; milliseconds a run."""
        command = self._command(cell, client, place, cell.cache, runs)
        times: list[float] = json.loads(
            subprocess.run(command, check=True, stdout=subprocess.PIPE, env=ENVIRONMENT).stdout
        )
        return times

    def _command(self, cell: Cell, client: str, place: Path, kind: str, runs: int) -> list[str]:
        url = self.url(cell)
        if client == "go-tuf":
            where = (f"{url}/metadata", f"{url}/targets")
            if kind == "once":
                return [str(self._go_tuf), *where, str(place / "cache"), TARGET]
            cold = ["-cold"] if kind == "cold" else []
            return [str(self._go_tuf), "-runs", str(runs), *cold, *where, str(place), TARGET]
        rest = [url, str(place), TARGET, kind, str(runs)]
        if client == "tuf-js":
            return ["node", str(HERE / "programs" / "with_tuf_js.cjs"), str(self._modules), *rest]
        return [sys.executable, str(HERE / "programs" / f"with_{client.replace('-', '_')}.py"), *rest]

    def _counted(self, cell: Cell) -> dict[str, int]:
        with urllib.request.urlopen(f"{self._urls[cell.latency_ms]}/count") as answer:
            counted: dict[str, int] = json.load(answer)
        return counted


def main() -> int:
    """Measure, print, and say by the exit status whether every goal was reached."""
    options = _options()
    with _bench(options.roots, options.latency_ms, options.peers) as bench:
        missing = [client for client in options.clients if not bench.present(client)]
        if missing:
            raise SystemExit(f"not installed: {', '.join(missing)} (make peers, or leave them out with --clients)")
        rows = list(_rows(bench, options))
        rows += _recent(bench, options)
    return publish("refresh", rows, _goals(rows), options.json)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    numbers = lambda text: [int(number) for number in text.split(",")]  # noqa: E731
    parser.add_argument("--roots", type=numbers, default=[1, 15, 100], help="lengths of chains (1,15,100)")
    parser.add_argument("--latency-ms", type=numbers, default=[0, 50], help="milliseconds an answer takes (0,50)")
    parser.add_argument("--cache", type=lambda text: text.split(","), default=["cold", "warm"], help="cold,warm")
    parser.add_argument("--clients", type=lambda text: text.split(","), default=list(CLIENTS), help=",".join(CLIENTS))
    parser.add_argument(
        "--runs", type=int, default=7, help="runs in each cell (7); at most 3 where a run takes seconds"
    )
    parser.add_argument("--peers", type=Path, default=PEERS, help="where `make peers` put tuf-js and go-tuf (.peers)")
    parser.add_argument("--json", type=Path, help="write rows, ratios and goals to this file")
    return parser.parse_args()


@contextmanager
def _bench(chains: Sequence[int], latencies: Sequence[int], peers: Path) -> Iterator[Bench]:
    with tempfile.TemporaryDirectory(prefix="kedge-bench-") as name:
        folder = Path(name)
        # Made by a process of its own: a child's peak memory would count this process's, were it big.
        making = [sys.executable, str(HERE / "chains.py"), str(folder / "repositories")]
        subprocess.run([*making, *map(str, chains)], check=True)
        servers, urls = [], {}
        try:
            for latency_ms in latencies:
                serving = [sys.executable, str(HERE / "server.py"), str(folder / "repositories"), str(latency_ms)]
                server = subprocess.Popen(serving, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
                servers.append(server)
                urls[latency_ms] = f"http://127.0.0.1:{int(server.stdout.readline() if server.stdout else 0)}"
            yield Bench(folder, urls, peers)
        finally:
            for server in servers:
                server.communicate()


def _rows(bench: Bench, options: argparse.Namespace) -> Iterator[Row]:
    for roots in options.roots:
        for latency_ms in options.latency_ms:
            for cache in options.cache:
                cell = Cell(roots=roots, latency_ms=latency_ms, cache=cache)
                slow = cache == "cold" and roots * latency_ms > 2000
                runs = min(options.runs, 3) if slow else options.runs
                sys.stderr.write(f"{cell} …\n")
                yield from _processes(bench, cell, options.clients, runs)
                yield from _in_processes(bench, cell, options.clients, runs)


def _processes(bench: Bench, cell: Cell, clients: Sequence[str], runs: int) -> Iterator[Row]:
    places = {client: bench.place(cell, client) for client in clients}
    for client in clients:  # fills the warm caches; brings programs and libraries into the page cache
        bench.process(cell, client, places[client])
    measured: dict[str, list[Once]] = {client: [] for client in clients}
    for _ in range(runs):
        for client in clients:
            place = places[client] if cell.cache == "warm" else bench.place(cell, client)
            measured[client].append(bench.process(cell, client, place))
    for client, all_runs in measured.items():
        yield Row(
            client=client,
            mode="process",
            **asdict(cell),
            runs=runs,
            wall_ms=median(run.wall_ms for run in all_runs),
            min_ms=min(run.wall_ms for run in all_runs),
            peak_kib=round(median(run.peak_kib for run in all_runs)),
            requests=max(run.requests for run in all_runs),
            connections=max(run.connections for run in all_runs),
        )


def _in_processes(bench: Bench, cell: Cell, clients: Sequence[str], runs: int) -> Iterator[Row]:
    times: dict[str, list[float]] = {client: [] for client in clients}
    # Two turns, so that one bad moment of the machine does not fall on one client alone.
    for _ in range(2):
        for client in clients:
            times[client] += bench.in_process(cell, client, bench.place(cell, client), runs)
    for client, all_runs in times.items():
        yield Row(
            client=client,
            mode="in-process",
            **asdict(cell),
            runs=len(all_runs),
            wall_ms=median(all_runs),
            min_ms=min(all_runs),
        )


def _recent(bench: Bench, options: argparse.Namespace) -> Iterator[Row]:
    """An answer from state, within ``refresh_after``."""
    if "kedge" not in options.clients:
        return
    cell = Cell(roots=options.roots[-1], latency_ms=options.latency_ms[-1], cache="recent")
    place = bench.place(cell, "kedge")
    bench.process(cell, "kedge", place)
    all_runs = [bench.process(cell, "kedge", place, REFRESH_AFTER_S="3600") for _ in range(options.runs)]
    yield Row(
        client="kedge",
        mode="process",
        **asdict(cell),
        runs=options.runs,
        wall_ms=median(run.wall_ms for run in all_runs),
        min_ms=min(run.wall_ms for run in all_runs),
        peak_kib=round(median(run.peak_kib for run in all_runs)),
        requests=max(run.requests for run in all_runs),
        connections=max(run.connections for run in all_runs),
        loads_urllib3=any(json.loads(run.output)["urllib3"] for run in all_runs),
    )


def _goals(rows: Sequence[Row]) -> Iterator[Goal]:
    for roots, latency_ms, cache, mode, limit in (
        (15, 0, "warm", "process", 0.95),
        (15, 50, "warm", "process", 0.75),
        (15, 0, "warm", "in-process", 0.6),
        (15, 50, "warm", "in-process", 0.6),
        (15, 50, "cold", "process", 0.45),
        (100, 50, "cold", "process", 0.25),
    ):
        ours, base = (_find(rows, client, mode, roots, latency_ms, cache) for client in ("kedge", BASE))
        if ours is not None and base is not None:
            name = f"{cache}, {roots} roots, {latency_ms} ms, {mode}: wall time to {BASE}'s"
            yield Goal(name=name, value=ours.wall_ms / base.wall_ms, limit=limit)
    for row in rows:
        if row.client == "kedge" and row.mode == "process":
            yield from _process_goals(row, _find(rows, BASE, "process", row.roots, row.latency_ms, row.cache))


def _process_goals(row: Row, base: Row | None) -> Iterator[Goal]:
    where = f"{row.cache}, {row.roots} roots, {row.latency_ms} ms, process"
    if row.cache == "recent":
        yield Goal(name=f"{where}: requests", value=row.requests or 0, limit=0)
        yield Goal(name=f"{where}: loads urllib3", value=int(bool(row.loads_urllib3)), limit=0)
    else:
        limit = 2 if row.cache == "warm" else 8
        yield Goal(name=f"{where}: connections", value=row.connections or 0, limit=limit)
    if base is not None and row.peak_kib and base.peak_kib:
        yield Goal(name=f"{where}: peak memory to {BASE}'s", value=row.peak_kib / base.peak_kib, limit=1.05)


def _find(rows: Sequence[Row], client: str, mode: str, roots: int, latency_ms: int, cache: str) -> Row | None:
    wanted = (client, mode, roots, latency_ms, cache)
    found = (row for row in rows if (row.client, row.mode, row.roots, row.latency_ms, row.cache) == wanted)
    return next(found, None)


if __name__ == "__main__":
    sys.exit(main())

"""A repository of millions of targets: PEP 458's table beside ours, what it takes to build one, and a release in it.

::

    python benchmarks/repository.py                      2,273,539 targets in 16,384 bins, and a million
    python benchmarks/repository.py --targets 10000000   the build alone, of so many

Each step is a process of its own, so that its peak memory is its own. ``bare`` is the measure of the build: a loop that
parses, buckets and serialises the same lines and does nothing else (it checks, signs and keeps nothing). Both are
measured by processor time, which others on the machine hardly change; the clock stands beside it.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

from report import Goal, finish

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))

PYPI_TARGETS = 2_273_539  # PEP 458, table 1
MILLION = 1_000_000
ROLE = "packages"
PATTERN = "packages/*/*/*/*"
NOW = datetime.now(UTC).replace(microsecond=0)
BATCH = 40
SUSTAINED = 5
RUNS = 2
BARE_LINES = 2_500_000  # the bare loop keeps all of them in memory
LOOKUPS = 1_000
LARGE_ROLE = 100_000

# PEP 458, tables 2 and 3: what it expected of these numbers in 2019, in bytes. It took SHA-512 and 256 bytes a path.
PEP_458 = {
    "targets a bin": 139,
    "a bin": 54_349,
    "the role that delegates to bins": 1_310_720,
    "snapshot": 98_304,
    "returning client, same snapshot (2 bins)": 108_698,
    "returning client, other snapshot (and snapshot)": 207_002,
    "new client (and the delegating role)": 1_517_722,
}


def main() -> int:
    """Measure, print, and say by the exit status whether every goal was reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", type=int, help="measure only the build of so many targets")
    parser.add_argument("--json", type=Path, help="write rows and goals to this file")
    parser.add_argument("--step", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        print(json.dumps(STEPS[options.step[0]](*options.step[1:])))
        return 0
    rows: list[dict[str, Any]] = []
    goals: list[Goal] = []
    with tempfile.TemporaryDirectory(prefix="kedge-bench-") as folder:
        if options.targets:
            _build(Path(folder), options.targets, rows, goals)
        else:
            _build(Path(folder), PYPI_TARGETS, rows, goals)
            _table(Path(folder) / str(PYPI_TARGETS), rows)
            shutil.rmtree(Path(folder) / str(PYPI_TARGETS))
            _build(Path(folder), MILLION, rows, goals)
            _releases(Path(folder) / str(MILLION), rows, goals)
            _clients(Path(folder) / str(MILLION), rows, goals)
            _large_role(rows, goals)
    return finish("repository", rows, {}, goals, options.json)


def _build(folder: Path, targets: int, rows: list[dict[str, Any]], goals: list[Goal]) -> None:
    place = folder / str(targets)
    place.mkdir()
    _run("lines", place, targets)
    bare, built = _best("bare", place), _best("build", place)
    shown = f"{targets:,} targets"
    speed, base = targets / built["cpu_s"], bare["lines"] / bare["cpu_s"]
    wall = f"{targets / built['wall_s']:,.0f} by the clock, {built['wall_s']:.1f} s"
    rows += [
        _row(f"{shown}: from lines to signed bins, targets a second", round(speed), note=wall),
        _row(f"{shown}: the bare loop, targets a second", round(base), note=f"ratio {speed / base:.2f}"),
        _row(f"{shown}: peak memory, MiB", built["peak_mib"]),
        _row(f"{shown}: signed metadata, MiB", built["metadata_mib"]),
    ]
    goals += [
        Goal(name=f"{shown}: 100,000 / targets a second", value=100_000 / speed, limit=1),
        Goal(name=f"{shown}: 0.4 / ratio to the bare loop", value=0.4 * base / speed, limit=1),
        Goal(name=f"{shown}: peak memory, MiB", value=built["peak_mib"], limit=300),
    ]


def _table(place: Path, rows: list[dict[str, Any]]) -> None:
    found = _run("table", place)
    for name, estimate in PEP_458.items():
        raw, packed = found[name]
        rows.append(_row(f"PEP 458: {name}", raw, beside=estimate, note=f"{packed:,} gzip" if packed else ""))


def _releases(place: Path, rows: list[dict[str, Any]], goals: list[Goal]) -> None:
    found = _run("releases", place)
    rows += [
        _row("the first publication of it to a folder, s", found["first_publication_s"]),
        _row("one release: bins, online, publish, s (median of 5)", found["release_s"]),
        _row("one release: processor time, s", found["release_cpu_s"]),
        _row("one release: files that are new", found["release_files"], note="bin, snapshot, timestamp"),
        _row(f"releases a second, {BATCH} at a time", found["sustained"]),
    ]
    goals += [
        Goal(name="one release in a million targets, s", value=found["release_s"], limit=1),
        Goal(name="files of one release", value=found["release_files"], limit=3),
        Goal(name="20 / releases a second", value=20 / found["sustained"], limit=1),
    ]


def _clients(place: Path, rows: list[dict[str, Any]], goals: list[Goal]) -> None:
    found = _run("lookups", place)
    asked, needed = found["downloads"], found["bins"]
    rows.append(_row(f"{LOOKUPS:,} look-ups: bins downloaded", asked, beside=needed, note="beside: needed"))
    rows.append(_row(f"{LOOKUPS:,} look-ups, s", found["wall_s"]))
    goals.append(Goal(name="downloads of a bin that was there already", value=asked - needed, limit=0))


def _large_role(rows: list[dict[str, Any]], goals: list[Goal]) -> None:
    found = _run("large-role")
    ours, theirs = found["kedge"], found["python-tuf"]
    what = f"a role of {LARGE_ROLE:,} targets, parsed and verified, ms"
    rows.append(_row(what, ours, beside=theirs, note="beside: python-tuf"))
    goals.append(Goal(name="3 x kedge / python-tuf on that role", value=3 * ours / theirs, limit=1))


def _row(what: str, value: float, *, beside: float | str = "", note: str = "") -> dict[str, Any]:
    """One line of the answer, printed as soon as it is known."""
    shown = [f"{number:,}" if isinstance(number, int | float) else number for number in (value, beside)]
    print(f"{what:<62} {shown[0]:>12} {shown[1]:>12}  {note}".rstrip(), flush=True)
    return {"what": what, "value": value, "beside": beside, "note": note}


def _run(step: str, *arguments: object) -> dict[str, Any]:
    command = [sys.executable, __file__, "--step", step, *map(str, arguments)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _best(step: str, place: Path) -> dict[str, Any]:
    """The quickest of some runs, with the highest peak of memory: others use the machine too."""
    found = [_run(step, place) for _ in range(RUNS)]
    return {**min(found, key=lambda run: run["cpu_s"]), "peak_mib": max(run["peak_mib"] for run in found)}


def _timed(act: Callable[[], object]) -> float:
    begun = time.perf_counter()
    act()
    return time.perf_counter() - begun


# The steps; each runs in a process of its own.


def _lines(place: str, targets: str) -> dict[str, Any]:
    """Write lines shaped like PyPI's files: packages/aa/bb/<60 digits>/name-1.0.tar.gz."""
    with (Path(place) / "lines").open("wb", 1 << 20) as file:
        for number in range(int(targets)):
            digest = hashlib.blake2b(b"%d" % number, digest_size=32).hexdigest()
            name = f"project-{number // 12}/project_{number // 12}-{number % 12}.0.tar.gz"
            path = f"packages/{digest[:2]}/{digest[2:4]}/{name}"
            file.write(f"{path} {number * 37 % 9_999_999} {digest}\n".encode())
    return {}


def _bare(place: str) -> dict[str, Any]:
    """Parse, bucket and serialise, and nothing else."""
    bits, lines = _bits(_count(Path(place))), 0
    bins: list[list[tuple[bytes, bytes]]] = [[] for _ in range(1 << bits)]
    begun = time.process_time()
    with (Path(place) / "lines").open("rb", 1 << 20) as file:
        for line in islice(file, BARE_LINES):
            lines += 1
            path, length, sha256 = line.split()
            number = int.from_bytes(hashlib.sha256(path).digest()[:4]) >> (32 - bits)
            bins[number].append((path, b'"%b":{"hashes":{"sha256":"%b"},"length":%b}' % (path, sha256, length)))
    for entries in bins:
        entries.sort()
        b"{%b}" % b",".join([entry for _, entry in entries])
    return {"cpu_s": time.process_time() - begun, "lines": lines, "peak_mib": _peak_mib()}


def _build_step(place: str) -> dict[str, Any]:
    from kedge_repo.bins.lines import read_lines
    from kedge_repo.bins.store import BinStore
    from kedge_repo.bins.update import update_bins

    binned = _repository(Path(place))
    signer = [binned.signers["ci"]]

    def build() -> None:
        with (Path(place) / "lines").open("rb") as file:
            update_bins(binned.workspace, ROLE, read_lines(file, file="lines"), signer, now=NOW)

    begun = time.process_time()
    wall_s = _timed(build)
    cpu_s = time.process_time() - begun
    peak = _peak_mib()
    folder = BinStore(workspace=binned.workspace, role=ROLE).folder
    size = sum(file.stat().st_size for file in folder.iterdir())
    return {"wall_s": wall_s, "cpu_s": cpu_s, "peak_mib": peak, "metadata_mib": round(size / (1 << 20))}


def _table_step(place: str) -> dict[str, Any]:
    from kedge_repo.bins.store import BinStore

    binned = _reopened(Path(place))
    binned.online()
    store = BinStore(workspace=binned.workspace, role=ROLE)
    index = store.index()
    assert index is not None
    bins = 1 << index.bit_length
    some = [store.data(index.file(number)) for number in range(0, bins, bins // 64)]
    one = (round(sum(map(len, some)) / len(some)), round(sum(len(gzip.compress(data)) for data in some) / len(some)))
    metadata = binned.workspace.root / "metadata"
    role, snapshot = _sizes(metadata / f"1.{ROLE}.json"), _sizes(max(metadata.glob("*.snapshot.json")))
    same = _sum(one, one)
    names = list(PEP_458)
    found = [(round(index.total / bins), 0), one, role, snapshot]
    found += [same, _sum(same, snapshot), _sum(same, snapshot, role)]
    return dict(zip(names, found, strict=True))


def _releases_step(place: str) -> dict[str, Any]:
    from kedge_repo.bins.lines import BinTarget, in_batches
    from kedge_repo.bins.update import update_bins
    from kedge_repo.publish.publish import publish_workspace

    binned = _reopened(Path(place))
    public = Path(place) / "public"
    numbers = iter(range(10**9))

    def release(count: int) -> tuple[str, ...]:
        targets = [_release(next(numbers)) for _ in range(count)]
        update_bins(binned.workspace, ROLE, in_batches(targets), [binned.signers["ci"]], now=NOW)
        binned.online()
        (done,) = publish_workspace(binned.workspace, public, now=NOW)
        return done.written

    def _release(number: int) -> BinTarget:
        digest = hashlib.sha256(b"%d" % number).hexdigest()
        return BinTarget(path=f"packages/00/00/new-{number}/new.tar.gz", length=number, sha256=digest)

    binned.online()
    first = _timed(lambda: publish_workspace(binned.workspace, public, now=NOW))
    times, worked, files = [], [], 0
    for _ in range(5):
        begun, before = time.perf_counter(), time.process_time()
        files = max(files, len(release(1)))
        times.append(time.perf_counter() - begun)
        worked.append(time.process_time() - before)
    sustained = _timed(lambda: [release(BATCH) for _ in range(SUSTAINED)])
    return {
        "first_publication_s": round(first, 1),
        "release_s": round(median(times), 3),
        "release_cpu_s": round(median(worked), 3),
        "release_files": files,
        "sustained": round(BATCH * SUSTAINED / sustained, 1),
    }


def _lookups_step(place: str) -> dict[str, Any]:
    from kedge.client.anchor import Anchor
    from kedge.client.client import TrustClient
    from kedge.transport.mirror import Mirror
    from kedge.transport.open import open_mirrors
    from kedge.tuf import workflow
    from kedge_repo.bins.update import bin_number

    public = Path(place) / "public"
    paths = [line.split()[0].decode() for line in _every(Path(place) / "lines", MILLION // LOOKUPS)]
    mirror = Mirror(url=str(public))
    anchor = Anchor(name="bench", initial_root=(public / "metadata/1.root.json").read_bytes(), mirrors=(mirror,))
    counting = _Counting(open_mirrors((mirror,)))
    with tempfile.TemporaryDirectory() as state, TrustClient(anchor, state=Path(state), transport=counting) as client:

        def look_up() -> None:
            for path in paths:

                def steps(state: Any, freshness: Any, path: str = path) -> Any:
                    return (yield from workflow.find(state, path, freshness)).state

                client.follow(steps)

        client.refresh()
        wall_s = _timed(look_up)
    bins = {bin_number(path.encode(), _bits(MILLION)) for path in paths}
    downloads = [path for path in counting.asked if f".{ROLE}-" in path]
    return {"downloads": len(downloads), "bins": len(bins), "wall_s": round(wall_s, 1)}


def _large_role_step() -> dict[str, Any]:
    from securesystemslib.signer import CryptoSigner
    from tuf.api.metadata import Metadata, Role, Root, Targets

    from kedge.tuf.metadata import parse, require_threshold
    from kedge_repo.bins.store import bin_payload, with_signatures

    signer = CryptoSigner.generate_ed25519()
    keyid = signer.public_key.keyid
    lines = sorted(b"packages/%07d.tar.gz %d %064x" % (number, number, number) for number in range(LARGE_ROLE))
    payload = bin_payload(lines, version=1, expires=NOW + timedelta(days=1))
    data = with_signatures(payload, {keyid: signer.sign(payload).signature})
    roles = {name: Role([keyid], 1) for name in ("root", "timestamp", "snapshot", "targets")}
    root = Root(keys={keyid: signer.public_key}, roles=roles)

    def python_tuf() -> None:
        metadata = Metadata[Targets].from_bytes(data)
        root.verify_delegate("targets", metadata.signed_bytes, metadata.signatures)

    def kedge() -> None:
        require_threshold(root, "targets", parse(data, Targets, file="targets.json"))

    runs = [(_timed(kedge), _timed(python_tuf)) for _ in range(5)]
    return {
        "kedge": round(median(run[0] for run in runs) * 1000),
        "python-tuf": round(median(run[1] for run in runs) * 1000),
    }


class _Counting:
    """A transport that notes what it is asked for."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.asked: list[str] = []

    def get(self, step: Any, *arguments: Any) -> Any:
        self.asked.append(step.path)
        return self._inner.get(step, *arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def _repository(place: Path) -> Any:
    from repo_tools.test_bins import Binned, packages

    shutil.rmtree(place / "repository", ignore_errors=True)
    binned = Binned(place / "repository", now=NOW)
    binned.ready()
    (place / "key").write_bytes(binned.signers["ci"].private_bytes)
    return binned.delegated(replace(packages(_bits(_count(place))), paths=(PATTERN,)))


def _reopened(place: Path) -> Any:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from securesystemslib.signer import CryptoSigner

    from repo_tools.test_bins import Binned

    binned = Binned(place / "repository", now=NOW)
    key = load_pem_private_key((place / "key").read_bytes(), None)
    binned.signers["ci"] = CryptoSigner(key, binned.workspace.keys(binned.workspace.policy())["ci"])
    return binned


def _count(place: Path) -> int:
    with (place / "lines").open("rb") as lines:
        return sum(1 for _ in lines)


def _bits(targets: int) -> int:
    from kedge_repo.bins.store import bit_length_for

    return bit_length_for(targets)


def _every(file: Path, step: int) -> Iterator[bytes]:
    with file.open("rb") as lines:
        yield from (line for number, line in enumerate(lines) if number % step == 0)


def _sizes(file: Path) -> tuple[int, int]:
    data = file.read_bytes()
    return len(data), len(gzip.compress(data))


def _sum(*sizes: tuple[int, int]) -> tuple[int, int]:
    return sum(size[0] for size in sizes), sum(size[1] for size in sizes)


def _peak_mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


STEPS: dict[str, Callable[..., dict[str, Any]]] = {
    "lines": _lines,
    "bare": _bare,
    "build": _build_step,
    "table": _table_step,
    "releases": _releases_step,
    "lookups": _lookups_step,
    "large-role": _large_role_step,
}

if __name__ == "__main__":
    sys.exit(main())

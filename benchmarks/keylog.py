"""What the log costs: how long proofs are and take to check, a whole replay, what ``require`` adds to a refresh.

::

    python benchmarks/keylog.py --json keylog.json
    python benchmarks/keylog.py --runs 51 --vectors ../shared/vectors.zip

Three real witnesses (the Rust package witness-log) cosign. Refreshes are warm, against the loopback server of
refresh.py; with and without the log they take turns, and the figure is the ratio of the medians of the work (CPU time)
of whole processes, which a busy machine does not change; the time on the wall, and both with everything imported, are
printed beside it. The other figures are of this process's work. Without ``vectors.zip`` the row of Sigstore's
repository is left out, and said so.
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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from statistics import median

from chains import make
from report import Goal, publish_figures
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import TargetFile, Targets
from witness_log import WitnessService

from kedge.client.anchor import Anchor, Transparency
from kedge.client.client import TrustClient
from kedge.client.keylog.entries import RoleLeaf, check_complete, replay
from kedge.tlog.checkpoint import LogProof, check_checkpoint, write_body
from kedge.tlog.note import Note, NoteSignature
from kedge.tlog.policy import LogPolicy
from kedge.tlog.tree import TILE_WIDTH, check_inclusion, split_entries
from kedge.transport.mirror import Mirror
from kedge.tuf.metadata import parse
from kedge_repo.publish.log_writer import LogBook, RoleVersion, missing_entries, verifier_key

HERE = Path(__file__).resolve().parent
ORIGIN = "keys.example/log"
# Compiled files are kept, as after any first start.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
NOW = datetime(2026, 8, 22, tzinfo=UTC)


class Log:
    """A log's key and three witnesses."""

    def __init__(self) -> None:
        """Make fresh keys."""
        self._signer = CryptoSigner.generate_ed25519()
        self.key = verifier_key(ORIGIN, self._signer.public_key)
        self._witnesses = [WitnessService.new(f"witness{number}.example", bytes([number]) * 32) for number in (1, 2, 3)]
        for witness in self._witnesses:
            witness.add_log(ORIGIN, self.key.to_text())
        names = " ".join(f"w{number}" for number in (1, 2, 3))
        lines = [f"witness w{number} {witness.vkey()}" for number, witness in enumerate(self._witnesses, start=1)]
        text = "\n".join([f"log {self.key.to_text()}", *lines, f"group all 3 {names}", "quorum all", ""])
        self.policy = LogPolicy.from_bytes(text.encode())

    def checkpoint(self, book: LogBook) -> bytes:
        """A checkpoint that all three cosigned."""
        body = write_body(ORIGIN, book.size, book.tree.root())
        signature = bytes.fromhex(self._signer.sign(body.encode()).signature)
        own = NoteSignature(name=ORIGIN, key_id=self.key.id, signature=signature)
        note = Note(text=body, signatures=(own,))
        fresh = [WitnessService.new(f"witness{number}.example", bytes([number]) * 32) for number in (1, 2, 3)]
        lines = []
        for witness in fresh:
            witness.add_log(ORIGIN, self.key.to_text())
            status, answer = witness.handle_add_checkpoint(f"old 0\n\n{note.to_bytes().decode()}")
            if status != 200:
                raise SystemExit(f"a witness answers with {status}")
            lines.append(NoteSignature.from_text(answer.removesuffix("\n")))
        return replace(note, signatures=(own, *lines)).to_bytes()


def book_of(size: int) -> LogBook:
    """A log of so many entries, as long as real ones."""
    return LogBook(tuple(RoleLeaf.of("registry.example", number, b"x").to_bytes() for number in range(1, size + 1)))


def median_s(work: Callable[[], object], runs: int) -> float:
    """The median of so many runs, in seconds of this process's work: others on the machine do not count."""
    times = []
    for _ in range(runs):
        begun = time.process_time()
        work()
        times.append(time.process_time() - begun)
    return median(times)


def proofs(log: Log, small: LogBook, large: LogBook) -> Iterator[Goal]:
    """How long proofs are, and how long one takes to check without its signatures."""
    for book, limit in ((small, 1024), (large, 1434)):
        checkpoint, index = log.checkpoint(book), book.size // 3
        proof = LogProof(index=index, hashes=tuple(book.tree.inclusion(index)), checkpoint=checkpoint)
        proof.check(book.hashes[index], log.policy)
        yield Goal(
            name=f"bytes of a proof with 3 witnesses, {book.size} leaves", value=len(proof.to_bytes()), limit=limit
        )
    index, root = large.size // 3, large.tree.root()
    hashes, leaf = large.tree.inclusion(index), large.hashes[index]

    def many() -> None:
        for _ in range(1_000):
            check_inclusion(leaf, index=index, size=large.size, proof=hashes, root=root)

    yield Goal(
        name=f"us for inclusion among {large.size} ({len(hashes)} hashes)", value=median_s(many, 15) * 1e3, limit=20
    )


def replays(log: Log, large: LogBook, vectors: Path, runs: int) -> Iterator[Goal]:
    """How long it takes to show that a log is complete, and to say which keys one registry ever had."""
    files = large.files()
    bundles = [data for path, data in sorted(files.items()) if path.startswith("tile/entries/")]
    ordered = sorted(bundles, key=lambda data: int(json.loads(split_entries(data)[0])["n"]))
    witnessed = check_checkpoint(log.checkpoint(large), log.policy)

    def whole() -> None:
        entries = [entry for bundle in ordered for entry in split_entries(bundle)]
        check_complete(entries, witnessed)
        replay(entries, registry="registry.npmjs.org")

    yield Goal(name=f"s to replay {large.size} leaves for a registry", value=median_s(whole, runs), limit=0.3)
    if not vectors.is_file():
        sys.stderr.write(f"{vectors} is not there: Sigstore's repository is left out\n")
        return
    roots, roles, targets = sigstore(vectors)

    def read(path: str, target: TargetFile) -> bytes | None:
        return targets.get((path, target.hashes["sha256"]))

    def logged() -> None:
        book = LogBook(missing_entries(LogBook(), roots, roles, read, now=NOW)[0])
        bundle = [entry for path, data in book.files().items() if "entries" in path for entry in split_entries(data)]
        head = replace(witnessed.checkpoint, size=book.size, root=book.tree.root())
        check_complete(bundle, replace(witnessed, checkpoint=head))
        history = replay(bundle)
        if history.faults or not history.events("registry.npmjs.org"):
            raise SystemExit("the log of Sigstore's repository is not what it should be")

    yield Goal(name="ms to log and replay Sigstore's repository", value=median_s(logged, runs) * 1e3, limit=100)


def sigstore(vectors: Path) -> tuple[list[tuple[int, bytes]], list[RoleVersion], dict[tuple[str, str], bytes]]:
    """The roots, role versions and targets of Sigstore's public-good repository, from the archive."""
    roots: list[tuple[int, bytes]] = []
    roles: list[RoleVersion] = []
    targets: dict[tuple[str, str], bytes] = {}
    with zipfile.ZipFile(BytesIO(vectors.read_bytes())) as archive:
        for name in archive.namelist():
            path = name.removeprefix("vectors/sigstore-repo/")
            version, _, role = path.removeprefix("metadata/").removesuffix(".json").partition(".")
            if path == name or not path.startswith(("metadata/", "targets/")):
                continue
            data = archive.read(name)
            if path.startswith("targets/"):
                folder, _, file = path.removeprefix("targets/").rpartition("/")
                digest, _, plain = file.partition(".")
                targets["/".join(part for part in (folder, plain) if part), digest] = data
            elif role == "root":
                roots.append((int(version), data))
            elif role not in ("", "snapshot") and version.isdecimal():
                listed: dict[str, TargetFile] = parse(data, Targets, file=path).signed.targets
                roles.append(RoleVersion(role=role, version=int(version), data=data, targets=tuple(listed.items())))
    return sorted(roots), roles, targets


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The loopback server of refresh.py, without a wait."""
    command = [sys.executable, str(HERE / "server.py"), str(folder), "0"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        port = server.stdout.readline().strip() if server.stdout is not None else ""
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.communicate()


def refreshes(log: Log, folder: Path, runs: int) -> Goal:
    """What ``require`` adds to a warm refresh of a repository with 15 roots, logged among others."""
    make(folder, 15)
    metadata = folder / "metadata"
    roots = [(number, (metadata / f"{number}.root.json").read_bytes()) for number in range(1, 16)]
    roles = [RoleVersion(role="targets", version=1, data=(metadata / "1.targets.json").read_bytes(), targets=())]
    new, _ = missing_entries(LogBook(), roots, roles, lambda path, target: None, now=NOW)  # noqa: ARG005 no documents
    book = LogBook(new).with_entries(book_of(TILE_WIDTH - len(new)).entries)
    for path, data in {**book.files(), "checkpoint": log.checkpoint(book)}.items():
        (folder / "tlog" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "tlog" / path).write_bytes(data)
    with serving(folder) as url:
        anchor = Anchor(
            name="bench", initial_root=roots[0][1], mirrors=(Mirror(url=url),), log_policy=log.policy.data.decode()
        )
        (folder / "root.json").write_bytes(roots[0][1])
        (folder / "policy").write_bytes(log.policy.data)
        in_process(anchor, folder, runs)
        added = whole_processes(url, folder, runs)
    return Goal(name="% that require adds to a warm refresh", value=added, limit=15)


def in_process(anchor: Anchor, folder: Path, runs: int) -> None:
    """Print what ``require`` adds where everything is imported: on the wall, and of the work of this process."""
    walls: dict[Transparency, list[float]] = {Transparency.OFF: [], Transparency.REQUIRE: []}
    works: dict[Transparency, list[float]] = {Transparency.OFF: [], Transparency.REQUIRE: []}
    for run in range(runs + 2):
        for mode in walls if run % 2 else [*walls][::-1]:
            client = TrustClient(replace(anchor, transparency=mode), state=folder / f"state-{mode}")
            begun, worked = time.perf_counter(), time.process_time()
            with client:
                client.refresh()
            if run > 1:
                walls[mode].append(time.perf_counter() - begun)
                works[mode].append(time.process_time() - worked)
    where = "warm refresh, 15 roots"
    for what, taken in (("wall", walls), ("work", works)):
        sys.stdout.write(f"{where}, in-process, {what}: {_compared(taken)[0]}\n")


def _compared(taken: dict[Transparency, list[float]]) -> tuple[str, float]:
    off, require = median(taken[Transparency.OFF]) * 1e3, median(taken[Transparency.REQUIRE]) * 1e3
    added = (require / off - 1) * 100
    return f"{off:.2f} ms, with require {require:.2f} ms ({added:+.1f} %)", added


def whole_processes(url: str, folder: Path, runs: int) -> float:
    """What ``require`` adds to a warm refresh from the start of a process to its end, in percent of its work."""
    walls: dict[Transparency, list[float]] = {Transparency.OFF: [], Transparency.REQUIRE: []}
    works: dict[Transparency, list[float]] = {Transparency.OFF: [], Transparency.REQUIRE: []}
    for run in range(runs + 1):
        for mode in walls if run % 2 else [*walls][::-1]:
            command = [sys.executable, str(HERE / "programs" / "with_kedge_log.py"), url, str(folder), mode.value]
            begun = time.perf_counter()
            with subprocess.Popen(command, env=ENVIRONMENT) as child:
                _, status, used = os.wait4(child.pid, 0)
                child.returncode = os.waitstatus_to_exitcode(status)
            if child.returncode:
                raise SystemExit(f"a refresh ended with {child.returncode}")
            if run:
                walls[mode].append(time.perf_counter() - begun)
                works[mode].append(used.ru_utime + used.ru_stime)
    for what, taken in (("wall", walls), ("work", works)):
        sys.stdout.write(f"warm refresh, 15 roots, whole process, {what}: {_compared(taken)[0]}\n")
    return _compared(works)[1]


def main() -> int:
    """Measure, print, and say with the exit status whether every goal is reached."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=31)
    parser.add_argument("--vectors", type=Path, default=HERE.parent / ".." / "shared" / "vectors.zip")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    log, small, large = Log(), book_of(TILE_WIDTH), book_of(100_000)
    goals = [*proofs(log, small, large), *replays(log, large, options.vectors, max(3, options.runs // 4))]
    with tempfile.TemporaryDirectory(prefix="kedge-keylog-") as folder:
        goals.append(refreshes(log, Path(folder), options.runs))
    return publish_figures("keylog", {}, goals, options.json)


if __name__ == "__main__":
    sys.exit(main())

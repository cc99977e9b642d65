"""B1 to B4 and B7: real processes on a machine that fails them."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner

from kedge.documents import format_time
from support.simulator import RepositorySimulator
from support.world import KEYS, NOW, World

PROGRAM = Path(__file__).with_name("programs") / "refresh.py"
Require = Callable[[object, str], None]
Record = Callable[[str, object], None]


class Machine:
    """A published repository in a folder, and processes that refresh from it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.world = World(self.state)
        (folder / "root.json").write_bytes(self.repo.initial_root)
        self.publish()

    @property
    def repo(self) -> RepositorySimulator:
        return self.world.repo

    def publish(self) -> None:
        self.repo.write(self.folder / "repository")

    def command(self, state: Path | None = None, *, loops: int = 1) -> list[str]:
        arguments = [self.folder, state or self.state, format_time(NOW), loops]
        return [sys.executable, str(PROGRAM), *map(str, arguments)]

    def run(self, state: Path | None = None, *, loops: int = 1, prefix: tuple[str, ...] = ()) -> list[dict[str, Any]]:
        """Run one process to its end; a traceback fails the test."""
        done = subprocess.run([*prefix, *self.command(state, loops=loops)], capture_output=True, text=True)
        assert "Traceback" not in done.stderr, done.stderr
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def right(self, result: dict[str, Any]) -> bool:
        return result.get("data") == "the keys"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def floor(state: Path) -> int:
    """The timestamp's floor on disk, over every record that can be read."""
    found = [0]
    for name in ("state.json", "state.json.prev", "floors.json"):
        try:
            document = json.loads((state / name).read_bytes())
        except (OSError, ValueError):
            continue
        floors = document.get("floors", document)
        found.append(floors.get("timestamp", {}).get("version", 0))
    return max(found)


# Row B1: many at once


def test_b1_eight_processes_on_one_state_never_fail_while_the_repository_publishes(
    machine: Machine, record_property: Record
) -> None:
    processes = [
        subprocess.Popen(machine.command(loops=50), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(8)
    ]
    with ThreadPoolExecutor(8) as readers:
        outputs = [readers.submit(process.communicate) for process in processes]
        while not all(output.done() for output in outputs):
            machine.repo.publish()
            publish_with_history(machine)
            time.sleep(0.1)
    results = []
    for output in outputs:
        stdout, stderr = output.result()
        assert stderr == ""
        results += [json.loads(line) for line in stdout.splitlines()]
    failures = [result for result in results if "error" in result]
    torn = [result for result in results if "error" not in result and not machine.right(result)]
    record_property("figure", f"{len(failures)} failures and {len(torn)} torn reads of {len(results)}")
    assert failures == torn == []
    assert len(results) == 400
    assert len({result["timestamp"] for result in results}) > 1, "nothing was published meanwhile"
    assert machine.right(machine.run()[0])
    assert floor(machine.state) == machine.repo.timestamp.version


def publish_with_history(machine: Machine) -> None:
    """Write new files, the timestamp last, and take none away: what an honest publisher does."""
    repository = machine.folder / "repository"
    for path in sorted(machine.repo.files, key=lambda path: path.endswith("/timestamp.json")):
        destination = repository / path
        if not destination.exists() or destination.read_bytes() != machine.repo.files[path]:
            partial = destination.with_name(f".{destination.name}")
            partial.write_bytes(machine.repo.files[path])
            partial.replace(destination)


# Row B2: killed


def killed_state(machine: Machine, folder: Path) -> Path:
    """A state that has seen version 2; the repository goes on to a new root and new versions of everything."""
    state = folder / "before"
    assert machine.right(machine.run(state)[0])
    machine.repo.rotate("root", keys=3, threshold=2)
    for role in ("targets", "registry.example"):
        with machine.repo.edit(role):
            pass
    machine.publish()
    return state


def fault_after_kill(machine: Machine, state: Path, before: int, offline: Path) -> str | None:
    """What a kill has broken: an offline run answers or says that it cannot, the next run works, no floor falls."""
    if floor(state) < before:
        return f"the floor fell to {floor(state)}"
    result = in_process(machine, state, offline)
    if not machine.right(result) and result["exit"] != 1:
        return f"offline: {result}"
    repository = machine.folder / "repository"
    assert repository.is_dir()
    result = in_process(machine, state, repository)
    newest = machine.repo.timestamp.version
    if not machine.right(result) or result["timestamp"] != newest or floor(state) != newest:
        return f"the next run: {result}, floor {floor(state)}"
    return None


def in_process(machine: Machine, state: Path, repository: Path) -> dict[str, Any]:
    from kedge.errors import KedgeError
    from kedge.transport.mirror import Mirror
    from kedge.transport.open import open_mirror

    machine.world.folder = state
    try:
        client = machine.world.client(open_mirror(Mirror(url=str(repository))))
        trust = client.refresh()
        return {"data": client.target(KEYS).data.decode(), "timestamp": trust.timestamp.version}
    except KedgeError as error:
        return {"exit": int(error.exit_code), "text": str(error)}


CHANGING = "openat,write,fsync,rename,renameat,renameat2,mkdir,unlink,unlinkat,link,linkat,symlink,ftruncate,utimensat"


def test_b2_a_kill_at_any_system_call_that_changes_the_state_leaves_a_state_that_works(
    machine: Machine, tmp_path: Path, require: Require, record_property: Record
) -> None:
    strace = shutil.which("strace")
    require(strace, "strace is not installed")
    before = killed_state(machine, tmp_path)
    probe = subprocess.run([str(strace), "-f", "-o", "/dev/null", "true"], capture_output=True)
    require(probe.returncode == 0, "strace may not trace here")
    assert traced(machine, str(strace), before, tmp_path / "whole", ()) == 0
    moments = changes(tmp_path / "whole.log", tmp_path / "whole")
    assert len(moments) > 40, "the trace has missed the store's writes"
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        codes = list(pool.map(lambda moment: kill_at(machine, str(strace), before, tmp_path, moment), moments))
    assert codes == [-signal.SIGKILL] * len(moments)
    states = [tmp_path / f"kill-{name}-{number}" for number, name in moments]
    faults = [fault for state in states if (fault := fault_after_kill(machine, state, 2, tmp_path / "nowhere"))]
    record_property("figure", f"{len(faults)} of {len(states)} states do not recover from a kill at a system call")
    assert faults == []


def traced(machine: Machine, strace: str, before: Path, state: Path, options: tuple[str, ...]) -> int:
    """Run the client under strace on a copy of a state; its exit code."""
    shutil.copytree(before, state)
    log = state.with_name(f"{state.name}.log")
    command = [strace, "-f", "-qq", "-y", "-o", str(log), "-e", f"trace={CHANGING}", *options]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0"}
    return subprocess.run([*command, *machine.command(state)], capture_output=True, env=environment).returncode


def changes(log: Path, state: Path) -> list[tuple[int, str]]:
    """The calls that change something in the state folder: which of all calls of that name, and the name."""
    counts: dict[str, int] = {}
    found = []
    for line in log.read_text().splitlines():
        match = re.match(r"\d+ +(\w+)\(", line)
        if match is None:
            continue
        name = match[1]
        counts[name] = counts.get(name, 0) + 1
        if str(state) in line and "O_RDONLY" not in line and "ENOENT" not in line:
            found.append((counts[name], name))
    return found


def kill_at(machine: Machine, strace: str, before: Path, folder: Path, moment: tuple[int, str]) -> int:
    """Kill the client as it enters one call."""
    number, name = moment
    injection = f"inject={name}:signal=SIGKILL:when={number}"
    return traced(machine, strace, before, folder / f"kill-{name}-{number}", ("-e", injection))


def test_b2_a_kill_at_a_random_moment_leaves_a_state_that_works(
    machine: Machine, tmp_path: Path, record_property: Record
) -> None:
    before = killed_state(machine, tmp_path)
    whole = []
    for number in range(5):
        state, begun = shutil.copytree(before, tmp_path / f"whole-{number}"), time.monotonic()
        assert machine.right(in_process(machine, state, tmp_path / "repository"))
        whole.append(time.monotonic() - begun)
    longest_s = min(whole) * 1.5  # the quickest: what slows one down is no measure of the others
    spread = random.Random(20260101)
    unfinished, faults = 0, []
    for number in range(300):
        state = shutil.copytree(before, tmp_path / f"random-{number}")
        unfinished += killed_after(machine, state, spread.uniform(0, longest_s))
        if fault := fault_after_kill(machine, state, 2, tmp_path / "nowhere"):
            faults.append(fault)
        shutil.rmtree(state)
    record_property("figure", f"{len(faults)} of 300 from a kill at a random moment")
    assert faults == []
    assert unfinished > 50, "the kills came too late to prove anything"


def killed_after(machine: Machine, state: Path, seconds: float) -> bool:
    """Fork, refresh in the child, and kill it; whether it was still at work."""
    child = os.fork()
    if child == 0:
        try:
            in_process(machine, state, machine.folder / "repository")
        finally:
            os._exit(0)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


# Rows B3 and B4: a disk that is full, or may not be written


@pytest.fixture
def private_mounts(require: Require) -> tuple[str, ...]:
    """The command that gives a process mounts of its own."""
    unshare = shutil.which("unshare")
    options = ("-m",) if os.geteuid() == 0 else ("-Urm",)
    allowed = unshare and subprocess.run([unshare, *options, "true"], capture_output=True).returncode == 0
    require(allowed, "this user may not make mounts of its own (unshare)")
    return (str(unshare), *options)


FULL = """
set -e
mount -t tmpfs -o size=400k tmpfs "$1"
cp -r "$2"/. "$1"
free=$(stat -f -c %f "$1")
fill=$((free - $3))
if [ $fill -gt 0 ]; then dd if=/dev/zero of="$1/filler" bs=4096 count=$fill status=none; fi
shift 3
"$@"
echo
for file in "$STATE"/blobs/[0-9a-f]*; do
  [ "$(sha256sum < "$file" | cut -d' ' -f1)" = "$(basename "$file")" ] || { echo "truncated: $file" >&2; exit 9; }
done
for file in "$STATE"/*.json; do tail -c 2 "$file" | grep -q '}' || { echo "truncated: $file" >&2; exit 9; }; done
rm -f "$STATE/filler"
"$@"
"""


def test_b3_on_a_full_disk_there_is_an_answer_and_nothing_truncated(
    machine: Machine, tmp_path: Path, private_mounts: tuple[str, ...]
) -> None:
    before = killed_state(machine, tmp_path)
    state = tmp_path / "small"
    state.mkdir()
    stored = []
    for pages in range(24):
        script = [*private_mounts, "sh", "-c", FULL, "sh", str(state), str(before), str(pages)]
        done = subprocess.run(
            [*script, *machine.command(state)], capture_output=True, text=True, env={**os.environ, "STATE": str(state)}
        )
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        full, freed = (json.loads(line) for line in done.stdout.splitlines() if line)
        assert machine.right(full) or full["exit"] == 1, full
        if machine.right(full):
            assert full["timestamp"] == machine.repo.timestamp.version
            stored.append(not full["warnings"])
            assert not full["warnings"] or "no space left on device" in full["warnings"][0]
        assert machine.right(freed), freed
        assert freed["warnings"] == []
        assert freed["timestamp"] == machine.repo.timestamp.version
    assert not stored[0], "the disk was not full"
    assert stored[-1], "the disk was always full"


READ_ONLY = """
set -e
mount --bind "$1" "$1"
mount -o remount,bind,ro "$1"
shift
exec "$@"
"""


@pytest.mark.parametrize("news", [False, True], ids=["nothing-new", "news"])
def test_b4_a_read_only_state_answers_and_says_that_it_could_not_store(
    machine: Machine, private_mounts: tuple[str, ...], news: bool
) -> None:
    assert machine.right(machine.run()[0])
    before = {path: path.read_bytes() for path in machine.state.rglob("*") if path.is_file()}
    if news:
        machine.repo.publish()
        machine.publish()
    (result,) = machine.run(prefix=(*private_mounts, "sh", "-c", READ_ONLY, "sh", str(machine.state)))
    assert machine.right(result), result
    assert result["timestamp"] == machine.repo.timestamp.version
    # Where there was nothing to store, there is nothing to say.
    assert any("could not be stored" in warning and "read-only" in warning for warning in result["warnings"]) is news
    assert {path: path.read_bytes() for path in machine.state.rglob("*") if path.is_file()} == before
    (again,) = machine.run()
    assert machine.right(again)
    assert again["warnings"] == []


# Row B7: cryptography that is too old

TOO_OLD = """
import runpy, sys
import cryptography.x509
import cryptography.hazmat.primitives.asymmetric.types
import cryptography.hazmat.primitives.serialization
from cryptography.hazmat.primitives.asymmetric import mldsa
there = {name: value for name, value in vars(mldsa).items() if name.startswith("MLDSA")}
for name in there:
    delattr(mldsa, name)
import securesystemslib.signer  # finds none of them, as before cryptography 48
vars(mldsa).update(there)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def with_new_scheme(machine: Machine, *others: CryptoSigner) -> None:
    """Publish a timestamp by a key of a scheme that old libraries do not know, and by ``others``."""
    from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey

    machine.repo.root.revoke_key(machine.repo.signers["timestamp"][0].public_key.keyid, "timestamp")
    machine.repo.signers["timestamp"] = [CryptoSigner(MLDSA65PrivateKey.generate()), *others]
    for signer in machine.repo.signers["timestamp"]:
        machine.repo.root.add_key(signer.public_key, "timestamp")
    for role in ("root", "timestamp"):
        with machine.repo.edit(role):
            pass
    machine.publish()


def with_old_libraries(machine: Machine) -> dict[str, Any]:
    command = machine.command()
    done = subprocess.run([command[0], "-c", TOO_OLD, *command[1:]], capture_output=True, text=True)
    assert done.stderr == ""
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_b7_a_scheme_that_this_machine_cannot_check_is_not_called_an_attack(machine: Machine) -> None:
    with_new_scheme(machine)
    result = with_old_libraries(machine)
    assert (result["error"], result["exit"]) == ("StoreError", 1)
    assert "this machine's cryptography cannot check ml-dsa-65/1 signatures" in result["text"]
    assert machine.right(machine.run()[0])


def test_b7_a_scheme_that_this_machine_cannot_check_hinders_nobody_where_other_keys_suffice(machine: Machine) -> None:
    with_new_scheme(machine, CryptoSigner.generate_ed25519())
    assert machine.right(with_old_libraries(machine))

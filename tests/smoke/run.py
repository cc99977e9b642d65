"""Installs a wheel under every Python that is here, and runs the main commands of what was installed.

``make smoke`` builds the wheel; ``.ci/run`` hands over the one that it has built. Looked at are the programs
``python3.N`` on PATH and pyenv's versions, each installation once. In each, in a virtual environment of its own with
nothing but the wheel and its extra ``cli``, run ``kedge demo``, a refresh from the reference repository, and ``kedge
verify npm`` on a lockfile of one package that npm really signed, which a registry on the loopback serves; and on the
same one with another digest, which must be refused. Which of the versions 3.11 to 3.15 are not here is said at the end.

    python tests/smoke/run.py WHEEL [--jobs N]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from kedge_repo.demo import story as facts
from kedge_repo.demo.story import LoopbackMirror

__all__ = ["MINORS", "Installation", "absent", "found", "places", "smoke"]

REPOSITORY = Path(__file__).resolve().parents[2]
REFERENCE = REPOSITORY / "metadata" / "reference"
MINORS = range(11, 16)
"""The versions 3.N of Python that are looked for."""

_WHICH = "import json, sys; print(json.dumps([sys.version_info[:3], sys.base_prefix]))"


@dataclass(frozen=True, slots=True, order=True)
class Installation:
    """A Python on this machine: its version, and where it is installed."""

    version: tuple[int, int, int]
    prefix: str
    program: Path

    def __str__(self) -> str:
        return f"Python {'.'.join(map(str, self.version))} ({self.program})"


def places(environment: Mapping[str, str]) -> list[Path]:
    """The folders in which a Python may lie: those of PATH, and the ``bin`` of each version of pyenv."""
    folders = [Path(folder) for folder in environment.get("PATH", "").split(os.pathsep) if folder]
    pyenv = Path(environment.get("PYENV_ROOT") or Path(environment.get("HOME", "/")) / ".pyenv")
    return [*folders, *sorted(pyenv.glob("versions/*/bin"))]


def found(folders: Iterable[Path]) -> list[Installation]:
    """Each Python of ``MINORS`` in these folders, once; a name behind which none answers (a shim of pyenv) is none."""
    installations: dict[tuple[tuple[int, int, int], str], Installation] = {}
    for folder in folders:
        for minor in MINORS:
            program = folder / f"python3.{minor}"
            if not os.access(program, os.X_OK):
                continue
            asked = subprocess.run([program, "-I", "-c", _WHICH], capture_output=True, text=True)
            if asked.returncode == 0:
                version, prefix = json.loads(asked.stdout)
                key = ((version[0], version[1], version[2]), os.path.realpath(prefix))
                installations.setdefault(key, Installation(*key, program))
    return sorted(installations.values())


def absent(installations: Iterable[Installation]) -> list[str]:
    """The versions of which there is none."""
    here = {installation.version[1] for installation in installations}
    return [f"3.{minor}" for minor in MINORS if minor not in here]


@dataclass(frozen=True, slots=True)
class _Promise:
    """A command, its exit status, and what it must say."""

    command: tuple[str, ...]
    says: str
    code: int = 0


def _promises(folder: Path, registry: str) -> Iterable[_Promise]:
    """The commands of an installation, in their order; ``folder`` is its own."""
    good, bad = folder / "good", folder / "bad"
    _write_lockfile(good, facts.INTEGRITY)
    _write_lockfile(bad, facts.INTEGRITY.replace("yJhH", "yJhI"))
    root = str(REFERENCE / "metadata" / "1.root.json")
    asked = ("--anchor", "reference", "--registry", registry, "--upstream", facts.REGISTRY)
    yield _Promise(("kedge", "--version"), "kedge ")
    yield _Promise(("kedge-repo", "--version"), "kedge-repo ")
    yield _Promise(("kedge", "demo"), "checks passed")
    yield _Promise(("kedge", "anchor", "add", "reference", "--root", root, "--mirror", str(REFERENCE)), "reference")
    yield _Promise(("kedge", "refresh", "--anchor", "reference", "--require-refresh"), "version 2")
    yield _Promise(("kedge", "keys", "show", facts.REGISTRY, "--anchor", "reference"), facts.NEW_KEYID)
    yield _Promise(("kedge", "verify", "npm", str(good), *asked), "1 of 1 package verified")
    yield _Promise(("kedge", "verify", "npm", str(bad), *asked), "digest-mismatch", code=5)


def _write_lockfile(folder: Path, integrity: str) -> None:
    entry = {"version": facts.VERSION, "integrity": integrity}
    lock = {"lockfileVersion": 3, "packages": {"": {}, f"node_modules/{facts.NAME}": entry}}
    folder.mkdir()
    (folder / "package-lock.json").write_text(json.dumps(lock))


def _write_packument(folder: Path) -> None:
    """What npm's registry says of the one package: its real signature."""
    signature = {"keyid": facts.KEYID, "sig": facts.SIGNATURE}
    dist = {"integrity": facts.INTEGRITY, "signatures": [signature]}
    release = {"name": facts.NAME, "version": facts.VERSION, "dist": dist}
    table = {"name": facts.NAME, "versions": {facts.VERSION: release}}
    (folder / facts.NAME).write_text(json.dumps(table))


def smoke(installation: Installation, wheel: Path, folder: Path, registry: str) -> str | None:
    """Install the wheel there and run the commands. None if all went as promised, else what did not."""
    folder.mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "KEDGE_", "VIRTUAL_"))}
    kept.update(
        KEDGE_CONFIG_DIR=str(folder / "config"), KEDGE_STATE_DIR=str(folder / "state"), COLUMNS="200", NO_COLOR="1"
    )
    programs = folder / "venv" / "bin"

    def run(*command: object) -> subprocess.CompletedProcess[str]:
        line = [str(part) for part in command]
        return subprocess.run(line, cwd=folder, env=kept, capture_output=True, text=True)

    install = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", f"{wheel}[cli]")
    for step in ((installation.program, "-m", "venv", folder / "venv"), (programs / "python", *install)):
        done = run(*step)
        if done.returncode != 0:
            return f"{' '.join(map(str, step))}\n{done.stdout}{done.stderr}"
    for promise in _promises(folder, registry):
        done = run(programs / promise.command[0], *promise.command[1:])
        if done.returncode != promise.code or promise.says not in done.stdout or "Traceback" in done.stderr:
            wanted = f"expected exit status {promise.code} and {promise.says!r}, found {done.returncode}"
            return f"{' '.join(promise.command)}: {wanted}\n{done.stdout}{done.stderr}"
    return None


def main(arguments: Sequence[str]) -> int:
    """Run all, and print a line for each; the exit status is 1 where one does not do what it must."""
    parser = argparse.ArgumentParser(description="Runs the main commands under every Python that is here.")
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="so many at a time")
    options = parser.parse_args(arguments)
    wheel, installations = options.wheel.resolve(strict=True), found(places(os.environ))
    failed = not installations
    with tempfile.TemporaryDirectory(prefix="kedge-smoke.") as temporary:
        top = Path(temporary)
        served = top / "registry"
        served.mkdir()
        _write_packument(served)

        def one(number: int) -> tuple[str | None, float]:
            begun = time.monotonic()
            fault = smoke(installations[number], wheel, top / str(number), registry.url)
            return fault, time.monotonic() - begun

        with LoopbackMirror(served) as registry, ThreadPoolExecutor(options.jobs) as pool:
            for installation, (fault, seconds) in zip(
                installations, pool.map(one, range(len(installations))), strict=True
            ):
                failed |= fault is not None
                print(f"{installation}: {'as promised' if fault is None else 'FAILED'}, {seconds:.0f} s")
                if fault is not None:
                    print(fault)
    missing = absent(installations)
    print(f"not here, and so not tried: {', '.join(missing)}" if missing else "all versions were here")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

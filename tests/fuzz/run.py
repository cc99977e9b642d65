"""Fuzzes every parser of bytes that others write, for a bounded time, with atheris (libFuzzer for Python).

    make fuzz SECONDS=300                     that long in all, shared out among the targets
    make fuzz SECONDS=60 ARGS="lockfile http" these targets only

What is found is a file below ``--findings``; put it into ``tests/fuzz/corpus/<target>/``, where ``make test`` replays
it for ever, and mend kedge. The exit status is 1 if anything was found.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
INSTALL = "atheris is not installed: .venv/bin/python -m pip install atheris (it has wheels for Linux)"
SLOW_S, MEMORY_MB, LONGEST = 5, 2_048, 4_096


def main() -> int:
    """Fuzz, each target in a process of its own."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("targets", nargs="*", help="the targets to fuzz; all if none is named")
    parser.add_argument("--seconds", type=int, default=120, help="how long in all")
    parser.add_argument("--findings", type=Path, default=Path("fuzz-findings"), help="where to put what is found")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many run at a time")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if find_spec("atheris") is None:
        print(INSTALL, file=sys.stderr)
        return 2
    if options.one:
        _fuzz(options.one, options.seconds, options.findings)
    return _fuzz_all(options.targets, options.seconds, options.findings, options.jobs)


def _fuzz_all(names: list[str], seconds: int, findings: Path, jobs: int) -> int:
    sys.path[0] = str(TESTS)
    from fuzz.targets import TARGETS

    unknown = set(names) - set(TARGETS)
    if unknown:
        print(f"there is no target {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}", file=sys.stderr)
        return 2
    waiting, failed = list(names or TARGETS), 0
    each_s = max(1, seconds * jobs // len(waiting))
    running: dict[str, subprocess.Popen[bytes]] = {}
    while waiting or running:
        while waiting and len(running) < jobs:
            name = waiting.pop(0)
            running[name] = _start(name, each_s, findings)
        for name, process in list(running.items()):
            if process.poll() is not None:
                failed += _report(name, running.pop(name), findings)
        time.sleep(0.1)
    return 1 if failed else 0


def _start(name: str, seconds: int, findings: Path) -> subprocess.Popen[bytes]:
    (findings / name).mkdir(parents=True, exist_ok=True)
    command = [sys.executable, __file__, "--one", name, "--seconds", str(seconds), "--findings", str(findings)]
    with _log(name, findings).open("wb") as log:
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)


def _report(name: str, process: subprocess.Popen[bytes], findings: Path) -> bool:
    lines = _log(name, findings).read_text(errors="replace").splitlines()
    last = next((line for line in reversed(lines) if line.startswith("#") and "cov:" in line), "nothing was run")
    found = process.returncode != 0
    print(f"{name:16} {'FOUND something' if found else 'found nothing'}  {last}", flush=True)
    if found:
        print("\n".join(f"    {line}" for line in lines if "INFO" not in line and not line.startswith("#")), flush=True)
    return found


def _log(name: str, findings: Path) -> Path:
    return findings / f"{name}.log"


def _fuzz(name: str, seconds: int, findings: Path) -> None:
    """Fuzz one target in this process; it ends here."""
    import atheris  # type: ignore[import-untyped,import-not-found,unused-ignore]  # it may be there or not

    for variable in [variable for variable in os.environ if variable.lower().endswith("_proxy")]:
        del os.environ[variable]
    sys.path[0] = str(TESTS)
    with atheris.instrument_imports(include=["kedge", "kedge_repo", "fuzz"]):
        from fuzz.seeds import seeds
        from fuzz.targets import check

    with tempfile.TemporaryDirectory(prefix="kedge-fuzz-") as corpus:
        for number, seed in enumerate(seeds(name)):
            Path(corpus, f"seed-{number}").write_bytes(seed)
        arguments = [
            *(f"-max_total_time={seconds}", f"-timeout={SLOW_S}", f"-rss_limit_mb={MEMORY_MB}"),
            *(f"-max_len={LONGEST}", f"-artifact_prefix={findings / name}/"),
        ]
        atheris.Setup([sys.argv[0], *arguments, corpus], lambda data: check(name, data))
        atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())

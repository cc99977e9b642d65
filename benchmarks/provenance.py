"""Verifying bundles: kedge beside sigstore-python's own ``Verifier``, in one process, without a network.

::

    python benchmarks/provenance.py --bundles 200 --json provenance.json

Both are given the same bytes and the same trusted root, and both read and verify each bundle anew; only the root is
loaded once. The bundles are attestations of 200 files by an instance made here, with certificates, log entries and
proofs of their own; with ``../shared/vectors.zip`` beside the repository also PyPI's real one, over and over. The two
take turns; every figure is a median of processor time, since both use one core and wait for nothing.

sigstore-python verifies whom the certificate names, which it always asks for; kedge reads it out and compares it here.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "tests"))

from sigstore.models import Bundle as SigstoreBundle  # noqa: E402
from sigstore.verify import Verifier, policy  # noqa: E402

from kedge.registries.sigstore.bundle import Bundle  # noqa: E402
from kedge.registries.sigstore.reference import trusted_root  # noqa: E402
from kedge.registries.sigstore.registry import Sigstore  # noqa: E402
from kedge.registries.sigstore.verify import BundleVerifier  # noqa: E402
from support.attested import RealAttestations, SigstoreInstance, provenance  # noqa: E402

NOW = datetime(2026, 8, 22, tzinfo=UTC)
LIMIT = 0.8
REAL = "trailofbits/pypi-attestations/.github/workflows/release.yml@refs/tags/v0.0.19"
VECTORS = REPOSITORY.parent / "shared" / "vectors.zip"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Bundles, the identity that each of them must name, and the trusted root for all."""

    name: str
    root: bytes
    bundles: Sequence[tuple[bytes, str]]


def main() -> int:
    """Measure, print, and say by the exit status whether every goal was reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundles", type=int, default=200, help="bundles in each round (200)")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of each (7)")
    parser.add_argument("--json", type=Path, help="write rows and goals to this file")
    options = parser.parse_args()
    rows, goals = [], []
    print(f"{'bundles':<22}{'verifier':<18}{'bundles/s':>10}{'ms each':>9}{'ratio':>7}")
    for case in (_made(options.bundles), *_real(options.bundles)):
        ours, theirs = _measure(case, options.rounds)
        ratio = theirs / ours
        for name, seconds in (("sigstore-python", theirs), ("kedge", ours)):
            rate, each = len(case.bundles) / seconds, seconds / len(case.bundles) * 1000
            rows.append({"case": case.name, "verifier": name, "per_second": round(rate, 1), "ms": round(each, 3)})
            shown = f"{ratio:7.2f}" if name == "kedge" else f"{1:7.2f}"
            print(f"{case.name:<22}{name:<18}{rate:>10.0f}{each:>9.2f}{shown}")
        goals.append({"name": f"{case.name}: kedge to sigstore-python", "value": round(ratio, 3), "limit": LIMIT})
    brought = _brought_by_import()
    print(f"import kedge loads of the extra: {', '.join(brought) or 'nothing'}")
    goals.append({"name": "import kedge: modules of the extra loaded", "value": len(brought), "limit": 0})
    reached = [goal["value"] >= goal["limit"] for goal in goals[:-1]] + [not brought]
    for goal, is_reached in zip(goals, reached, strict=True):
        goal["reached"] = is_reached
        print(f"{'reached' if is_reached else 'MISSED'}: {goal['name']} {goal['value']} (limit {goal['limit']})")
    if options.json:
        options.json.write_text(json.dumps({"benchmark": "provenance", "rows": rows, "goals": goals}, indent=1) + "\n")
    return 0 if all(reached) else 1


def _made(count: int) -> Case:
    instance, bundles = SigstoreInstance(), []
    for number in range(count):
        repository, commit = f"https://github.com/o/r{number}", f"{number:040x}"
        sha512 = hashlib.sha512(str(number).encode()).hexdigest()
        said = provenance(f"p{number}", "1.0.0", sha512, repository=repository, commit=commit)
        bundle = instance.attest(said, repository=repository, commit=commit)
        identity = f"{repository}/.github/workflows/release.yml@refs/tags/v1"
        bundles.append((json.dumps(bundle).encode(), identity))
    return Case(name=f"{count} of our own", root=instance.trusted_root(), bundles=bundles)


def _real(count: int) -> list[Case]:
    if not VECTORS.is_file():
        print(f"{VECTORS.name} is not there: PyPI's real attestation is left out", file=sys.stderr)
        return []
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(VECTORS) as archive:
            archive.extractall(folder)
        facts = RealAttestations(Path(folder) / "vectors")
        bundle, root = facts.pypi_bundle(), facts.trusted_root
    one = (json.dumps(bundle).encode(), f"https://github.com/{REAL}")
    return [Case(name=f"a real one, {count} times", root=root, bundles=[one] * count)]


def _measure(case: Case, rounds: int) -> tuple[float, float]:
    """The median processor seconds of a round, ours and theirs, after one of each that is not counted."""
    keys = Sigstore().parse(case.root, registry="sigstore", custom=None, now=NOW)
    ours, theirs = BundleVerifier(keys), Verifier(trusted_root=trusted_root(case.root))

    def with_kedge() -> None:
        for data, identity in case.bundles:
            found = ours.verify_statement(Bundle.from_bytes(data))
            if found.signed.identity is None or found.signed.identity.subject != identity:
                raise AssertionError(identity)

    def with_sigstore_python() -> None:
        for data, identity in case.bundles:
            theirs.verify_dsse(SigstoreBundle.from_json(data), policy.Identity(identity=identity))

    times: dict[Callable[[], None], list[float]] = {with_kedge: [], with_sigstore_python: []}
    for number in range(rounds + 1):
        for run, taken in times.items():
            begun = time.process_time()
            run()
            if number:
                taken.append(time.process_time() - begun)
    return median(times[with_kedge]), median(times[with_sigstore_python])


def _brought_by_import() -> list[str]:
    code = "import kedge, sys; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    extra = {"sigstore", "sigstore_models", "rekor_types", "rfc3161_client", "pydantic", "requests"}
    return sorted(extra.intersection(done.stdout.split()))


if __name__ == "__main__":
    sys.exit(main())

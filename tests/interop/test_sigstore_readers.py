"""Real sigstore-python reads what kedge exports: with no network, and without writing a file anywhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from kedge.registries.export import Source, find_exporter
from kedge.registries.keys import KeySet
from kedge.registries.registry import Severity
from kedge.registries.sigstore.registry import Sigstore
from kedge.tuf.trust import Target
from support.attested import RealAttestations

NOW = datetime(2026, 8, 22, tzinfo=UTC)
PUBLISHER = "https://github.com/trailofbits/pypi-attestations/.github/workflows/release.yml@refs/tags/v0.0.19"

# Every way to a network, and every file opened for writing, ends the program; so what it says it says without either.
VERIFY = """
import builtins, json, os, socket, sys
def refuse(*_, **__):
    raise SystemExit("the network was asked")
socket.socket.connect = socket.getaddrinfo = refuse
plain = builtins.open
def watched(file, mode="r", *rest, **named):
    if set(mode) & set("wax+"):
        raise SystemExit(f"{file} was written")
    return plain(file, mode, *rest, **named)
builtins.open = watched
from sigstore.models import Bundle, ClientTrustConfig
from sigstore.verify import Verifier, policy
config = ClientTrustConfig.from_json(plain(sys.argv[1]).read())
assert config.signing_config is not None
verifier = Verifier(trusted_root=config.trusted_root)
bundle = Bundle.from_json(plain(sys.argv[2]).read())
kind, payload = verifier.verify_dsse(bundle, policy.Identity(identity=sys.argv[3]))
print(kind, json.loads(payload)["subject"][0]["name"])
"""


@pytest.fixture
def source(shared_vectors: Path) -> Source:
    data = (shared_vectors / "sigstore" / "trusted_root.json").read_bytes()

    def fetch(path: str) -> Target:
        found = (shared_vectors / "sigstore" / path).read_bytes()
        return Target(path=path, data=found, sha256="", role="targets", custom=None)

    keys = Sigstore().parse(data, registry="sigstore", custom=None, now=NOW)
    return Source(keys=keys, fetch=fetch)


@pytest.fixture(autouse=True)
def sigstore_python(require: Callable[[object, str], None]) -> None:
    require(find_spec("sigstore"), "sigstore-python is not installed: run make signers")


def run(code: str, *arguments: str | Path, home: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-B", "-c", code, *map(str, arguments)]
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONWARNINGS": "ignore"}
    return subprocess.run(command, capture_output=True, text=True, cwd=home, env=environment, timeout=60, check=False)


def test_s1_the_exported_client_config_verifies_a_real_bundle_without_network_or_files(
    source: Source, shared_vectors: Path, tmp_path: Path
) -> None:
    """formats.md §12, s1, with the attestation of pypi_attestations-0.0.19.tar.gz."""
    home = tmp_path / "home"
    home.mkdir()
    config, bundle = tmp_path / "config.json", tmp_path / "bundle.json"
    exported = find_exporter("sigstore-client-config").export([source], with_retired=True)
    config.write_bytes(exported.content)
    bundle.write_text(json.dumps(RealAttestations(shared_vectors).pypi_bundle()))
    done = run(VERIFY, config, bundle, PUBLISHER, home=home)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "application/vnd.in-toto+json pypi_attestations-0.0.19.tar.gz\n"
    assert list(home.rglob("*")) == []
    done = run(VERIFY, config, bundle, f"{PUBLISHER}x", home=home)  # the control: for another identity it refuses
    assert done.returncode == 1
    assert "VerificationError" in done.stderr


# What sigstore-python 3.0.0 makes of a trusted root; its later versions give the class another place.
READ = """
import sys
from sigstore._internal.trust import KeyringPurpose, TrustedRoot
root = TrustedRoot.from_file(sys.argv[1])
root.rekor_keyring(KeyringPurpose.VERIFY)
root.ct_keyring(KeyringPurpose.VERIFY)
root.get_fulcio_certs()
"""


@pytest.fixture
def oldest(repository: Path, require: Callable[[object, str], None]) -> Path:
    """The Python of the oldest sigstore-python that reads trusted roots and still installs: version 3.0.0."""
    peers = Path(os.environ.get("KEDGE_PEERS") or repository / ".peers")
    python = peers / "sigstore-python-3.0.0" / "bin" / "python"
    require(python.is_file(), "sigstore-python 3.0.0 is not there: run make peers")
    return python


def drop_the_second_log(document: Any) -> None:
    del document["tlogs"][1]


def nothing(document: Any) -> None:
    assert len(document["tlogs"]) == 2


def newer_form(document: Any) -> None:
    drop_the_second_log(document)
    document["mediaType"] = "application/vnd.dev.sigstore.trustedroot.v0.2+json"


@pytest.mark.parametrize(
    ("edit", "rules", "error"),
    [
        (drop_the_second_log, set(), ""),
        (nothing, {"several-logs", "new-algorithm"}, "Did not find one Rekor key"),
        (newer_form, {"media-type"}, "unsupported trusted root format"),
    ],
)
def test_lint_warns_of_what_the_oldest_reader_refuses(
    edit: Callable[[Any], None], rules: set[str], error: str, source: Source, oldest: Path, tmp_path: Path
) -> None:
    """The Ed25519 log that came in 2025 is the middle row: it broke real clients, and none was warned."""
    document = json.loads(source.keys.document)
    edit(document)
    data = json.dumps(document).encode()
    before = json.loads(source.keys.document)
    drop_the_second_log(before)

    def parsed(given: bytes) -> KeySet:
        return Sigstore().parse(given, registry="sigstore", custom=None, now=NOW)

    found = Sigstore().lint(parsed(json.dumps(before).encode()), parsed(data))
    warned = {each.rule for each in found if each.severity in (Severity.WARNING, Severity.ERROR)}
    assert {rule.removeprefix("sigstore/") for rule in warned} - {"unreadable"} == rules
    file = tmp_path / "trusted_root.json"
    file.write_bytes(data)
    command = [str(oldest), "-W", "ignore", "-c", READ, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode == 0) is (rules == set()), done.stderr
    assert error in done.stderr

"""What the programs really write fits the schemas: files in a state folder and a workspace, and answers to ``--json``.

One repository is made with kedge-repo's library functions, and read and shown by both commands as processes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from architecture import schemas
from interop.ceremony import NPM, Maintained
from kedge_repo.events.changes import change
from kedge_repo.events.event import Signing
from kedge_repo.events.hand_in import HandIn, Wished, prepare, read_published
from kedge_repo.events.plan import add_target, remove_target
from kedge_repo.events.signatures import export_request, own_request
from kedge_repo.signing.keyholder import TrustedRoot, sign_request, verify_request

REPOSITORY = Path(__file__).resolve().parents[2]

NOW = datetime(2026, 1, 1, tzinfo=UTC)

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def maintained(tmp_path_factory: pytest.TempPathFactory) -> Maintained:
    """A published repository with a signing event open for the next change."""
    now = datetime.now(UTC).replace(microsecond=0)
    made = Maintained(tmp_path_factory.mktemp("repository"), now=now)
    change(made.workspace, lambda view: add_target(view, f"{NPM}/more.json", b"{}"), now=now, reason="more")
    change(made.workspace, lambda view: remove_target(view, f"{NPM}/keys.json"), now=now)
    return made


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that holds what kedge keeps: ``state`` and ``config``."""
    return tmp_path_factory.mktemp("machine")


@pytest.fixture(scope="module")
def run(maintained: Maintained, machine: Path) -> Run:
    """``run(program, *arguments)`` gives the JSON answer of a command; the anchor ``example`` was added before."""
    places = {"KEDGE_STATE_DIR": str(machine / "state"), "KEDGE_CONFIG_DIR": str(machine / "config")}
    root = maintained.public / "metadata" / "1.root.json"

    def command(program: str, *arguments: object, exit_code: int = 0) -> Any:
        line = [sys.executable, "-m", program, *map(str, arguments), "--json"]
        done = subprocess.run(line, env={**os.environ, **places}, cwd=machine, capture_output=True, text=True)
        assert done.returncode == exit_code, done.stderr
        return json.loads(done.stdout)

    added = command(
        "kedge", "anchor", "add", "example", "--root", root, "--mirror", maintained.public, "--registry", NPM
    )
    assert schemas.faults("anchors", added) == []
    command("kedge", "refresh")
    return command


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("trust", "refresh"),
        ("trust", "status"),
        ("keys", f"keys show {NPM}"),
        ("keys", "keys list"),
        ("config-show", "config show"),
        ("doctor", "doctor --offline"),
        ("anchors", "anchor list"),
        ("anchors", "anchor show example"),
        ("anchors", "anchor show sigstore"),
    ],
)
def test_an_answer_of_the_client_fits_its_schema(run: Run, name: str, arguments: str) -> None:
    assert schemas.faults(name, run("kedge", *arguments.split())) == []


def test_a_copy_and_what_is_said_of_it_fit_their_schemas(run: Run, machine: Path) -> None:
    assert schemas.faults("mirror-report", run("kedge", "mirror", "sync", machine / "copy")) == []
    assert schemas.faults("mirror", json.loads((machine / "copy" / ".kedge-mirror.json").read_bytes())) == []


def test_a_bundle_and_what_is_said_of_it_fit_their_schemas(run: Run, machine: Path) -> None:
    file = machine / "whole.kedge"
    answers = [run("kedge", "bundle", verb, file) for verb in ("create", "inspect", "verify", "apply")]
    answers.append(run("kedge", "bundle", "create", machine / "delta.kedge", "--since", file))
    for answer in answers:
        assert schemas.faults("bundle-report", answer) == []
    for bundle in (file, machine / "delta.kedge"):
        assert schemas.faults("bundle", json.loads(bundle.read_bytes().partition(b"\n")[0])) == []


def test_a_history_fits_its_schemas(run: Run, machine: Path) -> None:
    bundles = machine / "bundles"
    bundles.mkdir()
    run("kedge", "bundle", "create", bundles / "one.kedge")
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert schemas.faults("history", run("kedge", "history", "--from", bundles)) == []
    assert schemas.faults("history", run("kedge", "history", "--from", bundles, "--at", now)) == []
    assert schemas.faults("history-diff", run("kedge", "history", "diff", now, now, "--from", bundles)) == []
    assert schemas.faults("history-keys", run("kedge", "history", "keys", NPM, "--from", bundles)) == []


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("repo-status", "status"),
        ("event-status", "event status"),
        ("review", "event review"),
        ("key-list", "key list"),
        ("forecast", "forecast"),
    ],
)
def test_an_answer_of_the_repository_tool_fits_its_schema(
    run: Run, maintained: Maintained, name: str, arguments: str
) -> None:
    assert schemas.faults(name, run("kedge_repo", *arguments.split(), "-w", maintained.workspace.root)) == []


def test_the_answer_of_an_audit_fits_its_schema(run: Run, maintained: Maintained, shared_vectors: Path) -> None:
    assert schemas.faults("audit", run("kedge_repo", "audit", maintained.workspace.root)) == []
    repository = shared_vectors / "sigstore-repo"
    at = (repository / "REFERENCE_TIME").read_text().strip()
    assert schemas.faults("audit", run("kedge_repo", "audit", repository, "--as-of", at, exit_code=5)) == []


def test_a_hand_in_and_what_becomes_of_it_fit_their_schemas(run: Run, maintained: Maintained, tmp_path: Path) -> None:
    root = maintained.public / "metadata" / "1.root.json"
    published = read_published(str(maintained.public), root.read_bytes(), NPM, now=datetime.now(UTC))
    request = prepare(published, NPM, Wished(), reason="renewal", expiry=timedelta(days=99), now=datetime.now(UTC))
    verified = verify_request(request, TrustedRoot(data=root.read_bytes(), file="root"))
    hand_in = HandIn(request=request, responses=(sign_request(verified, maintained.signer("npm-team")),))
    assert schemas.faults("hand-in", json.loads(hand_in.to_bytes())) == []
    file = tmp_path / "hand-in.json"
    file.write_bytes(hand_in.to_bytes())
    line = ["hand-in", "take", file, "-w", maintained.workspace.root]
    assert schemas.faults("hand-ins", run("kedge_repo", *line, exit_code=2)) == []


def test_the_answer_of_a_recovery_fits_its_schema(run: Run, maintained: Maintained) -> None:
    line = ["recover", "-w", maintained.workspace.root, "--lost", "alice", "--stolen", "ci", "--rehearse"]
    assert schemas.faults("recovery", run("kedge_repo", *line)) == []


def test_the_answer_of_a_lint_fits_its_schema(run: Run, maintained: Maintained, tmp_path: Path) -> None:
    document = tmp_path / "keys.json"
    document.write_text('{"keys": []}')
    line = ["lint", "-w", maintained.workspace.root, "--registry", NPM]
    assert schemas.faults("lint", run("kedge_repo", *line, "--file", document, exit_code=5)) == []


def test_the_answer_of_the_demo_fits_its_schema(run: Run, tmp_path: Path) -> None:
    assert schemas.faults("demo", run("kedge", "demo", "--keep", tmp_path / "kept")) == []
    assert schemas.faults("demo", run("kedge", "demo")) == []


def test_what_a_client_keeps_fits_its_schemas(run: Run, machine: Path) -> None:
    run("kedge", "keys", "show", NPM)
    state = machine / "state" / "example"
    for name in ("state", "floors"):
        assert schemas.faults(name, json.loads((state / f"{name}.json").read_bytes())) == []
    anchors = [machine / "config" / "anchors" / "example", *(REPOSITORY / "client/kedge/_anchors").iterdir()]
    for folder in anchors:
        assert schemas.faults("anchor", tomllib.loads((folder / "anchor.toml").read_text())) == []


def test_what_maintainers_keep_and_send_fits_its_schemas(maintained: Maintained) -> None:
    workspace = maintained.workspace
    assert schemas.faults("policy", tomllib.loads((workspace.root / "kedge-repo.toml").read_text())) == []
    signing = Signing(event="e", reason="r", opened=NOW, merged=NOW, roles=("root",), keyholders=("alice",))
    assert schemas.faults("signing", json.loads(signing.to_bytes())) == []
    (event,) = (workspace.root / "events").glob("*/event.json")
    assert schemas.faults("event", json.loads(event.read_bytes())) == []
    request = export_request(workspace)
    assert schemas.faults("request", json.loads(request.to_bytes())) == []
    response = sign_request(own_request(workspace), maintained.signer("npm-team"))
    assert schemas.faults("response", json.loads(response.to_bytes())) == []


def test_the_catalogue_that_ships_fits_its_schema() -> None:
    folder = REPOSITORY / "metadata" / "registries"
    entries = sorted(folder.rglob("*.json"))
    assert entries
    for entry in entries:
        document = json.loads(entry.read_bytes())
        assert schemas.faults("catalogue", document) == []
        assert document["registry"] == entry.relative_to(folder).as_posix().removesuffix(".json")

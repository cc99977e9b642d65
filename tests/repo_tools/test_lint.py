"""``kedge-repo lint``: what holds for every registry, what a registry serves beside it, and the verbs that it stops."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from kedge.errors import InputError
from kedge_repo._cli.app import app
from kedge_repo.events.plan import add_target
from kedge_repo.events.signatures import own_request
from kedge_repo.publish.folder import FolderDestination
from kedge_repo.publish.publish import publication_changes, publish_workspace
from kedge_repo.signing.lint import (
    DocumentChange,
    exit_code,
    fetch_live,
    lint_change,
    lint_live,
    request_changes,
)
from kedge_repo.workspace.key_document import find_key_document
from repo_tools.ceremony import NPM, Ceremony, contents
from support.server import HostileServer

PATH = f"{NPM}/keys.json"
OLD = "SHA256:jl3bwswu80PjjokCgh0o2w5c2U4LhQAE57gj9cz1kzA"
NEW = "SHA256:DhQ8wR5APBvFHLF/+Tc+AYvPOdTpcIDqOhxsBHRwC7U"


@pytest.fixture
def ceremony(tmp_path: Path) -> Ceremony:
    made = Ceremony(tmp_path).ready()
    publish_workspace(made.workspace, made.folder / "public", now=made.now)
    return made


def entries(made: Ceremony) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(made.workspace.target(PATH))["keys"]
    return found


def dropping(made: Ceremony, keyid: str) -> bytes:
    return json.dumps({"keys": [entry for entry in entries(made) if entry["keyId"] != keyid]}).encode()


def endpoint(made: Ceremony) -> dict[str, Any]:
    """What npm's keys endpoint answers for the keys of the document."""
    keys = [
        {
            "expires": entry["publicKey"]["validFor"].get("end"),
            "keyid": entry["keyId"],
            "keytype": "ecdsa-sha2-nistp256",
            "scheme": "ecdsa-sha2-nistp256",
            "key": entry["publicKey"]["rawBytes"],
        }
        for entry in entries(made)
        if entry["keyUsage"] == "npm:signatures"
    ]
    return {"keys": keys}


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_d3_the_old_key_dropped_stops_export_signing_and_publishing(ceremony: Ceremony, tmp_path: Path) -> None:
    made = ceremony
    made.change(lambda view: add_target(view, PATH, dropping(made, OLD)))
    before = contents(tmp_path)
    for line in (
        ["event", "export", "-w", made.workspace.root, "-o", tmp_path / "r.json"],
        ["sign", "-w", made.workspace.root, "--key", "file:nowhere.pem", "--yes"],
        ["sign", "-w", made.workspace.root, "--payload-out", tmp_path / "payloads"],
    ):
        stopped = run(*line)
        assert (stopped.exit_code, stopped.stdout) == (5, "")
        assert f"error: {PATH}: keys: {OLD} is no longer there for npm:signatures" in stopped.stderr
        assert "--accept-lint-errors" in stopped.stderr
    assert contents(tmp_path) == before
    made.sign("npm-team")
    made.merge()
    made.online()
    published = contents(tmp_path / "public")
    stopped = run("publish", "-w", made.workspace.root)
    assert (stopped.exit_code, stopped.stdout) == (5, "")
    assert contents(tmp_path / "public") == published
    assert run("publish", "-w", made.workspace.root, "--accept-lint-errors").exit_code == 0
    assert contents(tmp_path / "public") != published


def test_d3_control_a_document_in_order_passes_and_is_published(ceremony: Ceremony) -> None:
    made = ceremony
    data = json.dumps({"keys": entries(made)}).encode()
    made.change(lambda view: add_target(view, PATH, data))
    assert run("event", "export", "-w", made.workspace.root, "-o", made.folder / "r.json").exit_code == 0
    made.sign("npm-team")
    made.merge()
    made.online()
    assert run("publish", "-w", made.workspace.root).exit_code == 0


def test_a_document_that_clients_cannot_read_and_one_that_goes_are_told(ceremony: Ceremony) -> None:
    document = find_key_document(PATH)
    assert document is not None
    old = (ceremony.workspace.target(PATH), None)
    for new, expected in (
        (b"{}", "document/unreadable"),
        (b'{"keys": []}', "document/unreadable"),
        (None, "document/removed"),
    ):
        change = DocumentChange(document=document, old=old, new=None if new is None else (new, None))
        assert [finding.rule for finding in lint_change(change, now=ceremony.now)] == [expected]
    control = DocumentChange(document=document, old=old, new=old)
    assert lint_change(control, now=ceremony.now) == ()
    assert exit_code(()) == 0


def test_an_event_brings_its_documents_with_what_they_replace(ceremony: Ceremony) -> None:
    ceremony.change(lambda view: add_target(view, PATH, dropping(ceremony, OLD), {"kedge": {"v": 1, "revoked": [OLD]}}))
    ceremony.change(lambda view: add_target(view, f"{NPM}/other.json", b"{}"))
    (change,) = request_changes(own_request(ceremony.workspace))
    assert change.document.path == PATH
    assert change.old is not None
    assert change.new is not None
    assert change.new[1] == {"kedge": {"v": 1, "revoked": [OLD]}}
    assert lint_change(change, now=ceremony.now) == ()


def test_a_publication_is_compared_with_what_the_folder_serves(ceremony: Ceremony) -> None:
    public = ceremony.folder / "public"
    assert publication_changes(ceremony.workspace, FolderDestination(folder=public)) == ()
    (fresh,) = publication_changes(ceremony.workspace, FolderDestination(folder=ceremony.folder / "elsewhere"))
    assert fresh.old is None


Spoil = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize(
    ("spoil", "rules"),
    [
        (lambda live: live.update(more=[]), []),
        (lambda live: live["keys"].pop(0), []),
        (lambda live: live["keys"].pop(1), ["live/not-served"]),
        (lambda live: live["keys"].append({**live["keys"][1], "keyid": "SHA256:new"}), ["live/missing-key"]),
        (lambda live: live["keys"][1].update(key=live["keys"][0]["key"]), ["live/other-key"]),
        (lambda live: live["keys"][1].update(expires="2027-01-01T00:00:00.000Z"), ["live/other-end"]),
    ],
)
def test_the_document_is_compared_with_what_the_registry_serves(
    ceremony: Ceremony, spoil: Spoil, rules: list[str]
) -> None:
    live = endpoint(ceremony)
    spoil(live)
    document = find_key_document(PATH)
    assert document is not None
    signed = (ceremony.workspace.target(PATH), None)
    found = lint_live(document, signed, json.dumps(live).encode(), now=ceremony.now, file="live")
    assert [finding.rule for finding in found] == rules


def test_a_revoked_key_that_the_registry_still_serves_is_told(ceremony: Ceremony) -> None:
    document = find_key_document(PATH)
    assert document is not None
    signed = (dropping(ceremony, NEW), {"kedge": {"v": 1, "revoked": [NEW]}})
    live = json.dumps(endpoint(ceremony)).encode()
    found = lint_live(document, signed, live, now=ceremony.now, file="live")
    assert [finding.rule for finding in found] == ["live/revoked-key"]


def test_the_live_answer_comes_from_a_url_or_a_file(ceremony: Ceremony, tmp_path: Path) -> None:
    folder = tmp_path / "registry" / "-" / "npm" / "v1"
    folder.mkdir(parents=True)
    live = endpoint(ceremony)
    live["keys"].append({**live["keys"][1], "keyid": "SHA256:new"})
    (folder / "keys").write_text(json.dumps(live))
    with HostileServer(tmp_path / "registry") as server:
        for place in (f"{server.url}/-/npm/v1/keys", folder / "keys"):
            said = run("lint", "-w", ceremony.workspace.root, "--against", place)
            assert said.exit_code == 5
            assert (
                "the registry signs with SHA256:new, which the document does not hold [live/missing-key]" in said.stdout
            )
        missing = f"{server.url}/nothing"
        with pytest.raises(InputError, match="there is nothing there"):
            fetch_live(missing)


def test_findings_are_text_json_and_sarif(ceremony: Ceremony, tmp_path: Path) -> None:
    root, file = ceremony.workspace.root, tmp_path / "new.json"
    clean = run("lint", "-w", root)
    assert (clean.exit_code, clean.stdout) == (0, f"0 findings in {PATH}\n")
    file.write_bytes(dropping(ceremony, OLD))
    line = ["lint", "-w", root, "--file", file, "--registry", NPM]
    text = run(*line)
    assert text.exit_code == 5
    assert text.stdout.endswith(f"2 findings in {PATH}\n")
    answer = json.loads(run(*line, "--json", "--sarif", tmp_path / "lint.sarif").stdout)
    assert answer["format"] == "kedge.lint/1"
    assert [finding["rule"] for finding in answer["findings"]] == ["npm/key-dropped"] * 2
    (sarif,) = json.loads((tmp_path / "lint.sarif").read_text())["runs"]
    assert sarif["tool"]["driver"]["name"] == "kedge-repo lint"
    assert [(result["ruleId"], result["level"]) for result in sarif["results"]] == [("npm/key-dropped", "error")] * 2
    rules = sarif["tool"]["driver"]["rules"]
    assert all(rules[result["ruleIndex"]]["id"] == result["ruleId"] for result in sarif["results"])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--file", "x.json"], "--file goes with --registry ID"),
        (["--registry", "elsewhere.example"], "no key document of elsewhere.example is signed here"),
        (["--file", "nowhere.json", "--registry", NPM], "there is no such key document"),
        (["--against", "nowhere.json"], "there is no such answer of the registry"),
    ],
)
def test_bad_input_ends_in_one_line(ceremony: Ceremony, arguments: list[str], text: str) -> None:
    done = run("lint", "-w", ceremony.workspace.root, *arguments)
    assert isinstance(done.exception, InputError)
    assert text in str(done.exception)

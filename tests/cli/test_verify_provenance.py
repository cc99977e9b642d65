"""``kedge verify npm --attestations`` as a process: where packages were built, and what is expected of them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from architecture import schemas
from cli.conftest import World
from cli.shell import Done
from kedge.registries.npm.locked import parse_sri
from support.attested import SigstoreInstance, provenance, publish_statement
from support.packages import PackageRegistry, SigningKey, archive_of, integrity_of, lockfile
from support.server import HostileServer

INSTANCE = "sigstore/acme"
SOURCE = "https://github.com/o/r"
COMMIT = "c0ffee" * 6 + "0000"


@dataclass
class Project:
    """A project, a registry that attests, and a repository that carries its keys and an instance's trusted root."""

    world: World
    npm: PackageRegistry
    key: SigningKey
    instance: SigstoreInstance
    folder: Path

    def verify(self, *options: str | Path, **environment: str) -> Done:
        with HostileServer(self.npm) as server:
            command = ("verify", "npm", self.folder, "--registry", server.url, "--upstream", "registry.example")
            return self.world.shell.run(*command, "--trusted-root", INSTANCE, *options, **environment)

    def bundles(self, name: str, version: str) -> list[dict[str, Any]]:
        sha512 = parse_sri(integrity_of(archive_of(name, version)))[0].value.hex()
        built = provenance(name, version, sha512, repository=SOURCE, commit=COMMIT)
        said = publish_statement(name, version, sha512)
        return [
            self.instance.attest(built, repository=SOURCE, commit=COMMIT),
            self.instance.attest_by_key(said, self.key.keyid, self.key.private),
        ]


@pytest.fixture
def project(world: World) -> Project:
    key = SigningKey("SHA256:retired", start="2020-01-01T00:00:00Z", end="2025-12-01T00:00:00Z")
    instance, npm = SigstoreInstance(), PackageRegistry()
    entries = [key.entry(usage) for usage in ("npm:signatures", "npm:attestations")]
    world.repo.add_target(f"{INSTANCE}/trusted_root.json", instance.trusted_root())
    world.publish(json.dumps({"keys": entries}).encode())
    world.add_anchor("repo", "--registry", INSTANCE)
    npm.publish("a", "1.0.0", keys=[key])
    npm.publish("b", "1.0.0", keys=[key])
    npm.publish("b", "1.1.0", keys=[key])
    folder = world.shell.folder / "project"
    folder.mkdir()
    (folder / "package-lock.json").write_bytes(lockfile(("a", "1.0.0"), ("b", "1.1.0")))
    project = Project(world=world, npm=npm, key=key, instance=instance, folder=folder)
    npm.attest("a", "1.0.0", *project.bundles("a", "1.0.0"))
    npm.attest("b", "1.0.0", *project.bundles("b", "1.0.0"))
    return project


def test_the_report_shows_where_each_package_was_built_and_which_lost_its_provenance(project: Project) -> None:
    done = project.verify("--attestations")
    assert (done.code, done.err) == (0, "")
    shown = re.sub(" +", " ", done.out)
    assert (
        "provenance\n verified 1\n lost 1\n b@1.1.0 has no provenance, and 1.0.0 of the same release line had one\n\n"
        "where it was built\n package source repository commit workflow builder who says so log entry\n"
        f" a@1.0.0 github.com/o/r {COMMIT} .github/workflows/release.yml@refs/tags/v1 "
        "github.com/actions/runner/github-hosted registry, build (token.actions.githubusercontent.com) "
        "rekor.sigstore.example 0\n"
    ) in shown
    assert "  sigstore/acme     the trusted root sigstore/acme/trusted_root.json, anchor repo\n" in done.out
    assert "It does not say that what was built is good." in done.out


@pytest.mark.parametrize("columns", [60, 140])
def test_the_table_fits_the_terminal_or_becomes_blocks(project: Project, columns: int) -> None:
    done = project.verify("--attestations", COLUMNS=str(columns))
    lines = done.out.splitlines()
    assert [line for line in lines if len(line) > columns and " " in line.strip()] == []
    assert any(line.split() == ["source", "repository", "github.com/o/r"] for line in lines)


def test_without_attestations_nobody_asks_for_any(project: Project) -> None:
    done = project.verify("--json")
    answer = json.loads(done.out)
    assert answer["trusted_root"] is None
    assert {package["attestations"] for package in answer["packages"]} == {None}
    assert [package["outcome"] for package in answer["packages"]] == ["verified-time-unsigned"] * 2


def test_the_answer_as_json_fits_its_schema(project: Project) -> None:
    done = project.verify("--attestations", "--json")
    answer = json.loads(done.out)
    assert schemas.faults("verify-npm", answer) == []
    assert answer["trusted_root"]["target"] == f"{INSTANCE}/trusted_root.json"
    first, second = (package["attestations"] for package in answer["packages"])
    assert (first["status"], first["build"]["repository"]) == ("verified", SOURCE)
    assert (second["status"], second["lost_since"]) == ("lost", "1.0.0")
    assert [package["outcome"] for package in answer["packages"]] == ["verified", "verified-time-unsigned"]


def test_the_log_time_policy_asks_only_for_what_a_retired_key_signed(project: Project) -> None:
    done = project.verify("--retired-keys", "log-time", "--json")
    answer = json.loads(done.out)
    assert [package["outcome"] for package in answer["packages"]] == ["verified", "outside-validity"]
    assert done.code == 5


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--attestations"], 0),
        (["--attestations", "--strict"], 5),
        (["--require-provenance"], 5),
        (["--source-repository", SOURCE], 5),
    ],
)
def test_a_lost_provenance_is_a_fault_where_one_is_asked_for(project: Project, options: list[str], code: int) -> None:
    assert project.verify(*options).code == code


def test_rules_stand_in_a_file(project: Project, tmp_path: Path) -> None:
    rules = tmp_path / "provenance.toml"
    rules.write_text(
        'format = "kedge.provenance/1"\n[[npm]]\npackage = "a"\nsource-repository = "https://github.com/x/r"\n'
    )
    done = project.verify("--provenance-policy", rules)
    assert done.code == 5
    assert "a@1.0.0  verified; provenance unexpected: was built from https://github.com/o/r, expected" in done.out
    rules.write_text(rules.read_text().replace("/x/r", "/o/r"))
    assert project.verify("--provenance-policy", rules).code == 0


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("format = 1", "format: must be a text"),
        ('format = "kedge.provenance/2"', "a newer kedge is needed"),
        ('format = "kedge.provenance/1"\n[[npm]]\npackage = "a"\nsource = "x"', "npm[0].source: is not a field"),
        ('format = "kedge.provenance/1"\n[[pypi]]\nproject = "a"', "pypi[0].publisher: must be there, or pinned"),
        ("[[", "is not TOML"),
    ],
)
def test_a_file_of_rules_that_cannot_be_read_is_the_users_fault(
    project: Project, tmp_path: Path, text: str, problem: str
) -> None:
    rules = tmp_path / "provenance.toml"
    rules.write_text(text)
    done = project.verify("--provenance-policy", rules)
    assert (done.code, done.out) == (2, "")
    assert problem in done.err


def test_sarif_names_a_provenance_that_is_missing(project: Project, tmp_path: Path) -> None:
    file = tmp_path / "faults.sarif"
    assert project.verify("--require-provenance", "--sarif", file).code == 5
    (result,) = json.loads(file.read_bytes())["runs"][0]["results"]
    assert (result["ruleId"], result["level"]) == ("provenance-missing", "error")
    rules = json.loads(file.read_bytes())["runs"][0]["tool"]["driver"]["rules"]
    assert rules[result["ruleIndex"]]["id"] == "provenance-missing"


def test_evidence_holds_what_judges_attestations_again(project: Project, tmp_path: Path) -> None:
    file = tmp_path / "evidence.json"
    assert project.verify("--attestations", "--evidence", file).code == 0
    document = json.loads(file.read_bytes())
    assert schemas.faults("evidence", document) == []
    done = project.world.shell.run("verify", "evidence", file, "--json")
    answer = json.loads(done.out)
    assert schemas.faults("verify-evidence", answer) == []
    assert (done.code, answer["differing_count"]) == (0, 0)
    assert [package["attestations"] for package in answer["packages"]] == ["verified", "lost"]
    assert [package["claimed"] for package in answer["packages"]] == ["verified", "verified-time-unsigned"]
    served = document["packages"][0]["attestations"]
    served["served"] = served["served"].replace("release.yml", "evil.yml").replace('"payload": "', '"payload": "AAAA')
    file.write_text(json.dumps(document))
    done = project.world.shell.run("verify", "evidence", file)
    assert done.code == 5
    assert "recorded verified, provenance verified, judged" in done.out


def test_an_instance_that_no_anchor_speaks_for_is_named(project: Project) -> None:
    done = project.verify("--attestations", "--trusted-root", "sigstore/other")
    assert (done.code, done.out) == (2, "")
    assert "no anchor speaks for sigstore/other" in done.err
    done = project.verify("--attestations", "--trusted-root", "npm")
    assert (done.code, "is not a Sigstore instance" in done.err) == (2, True)

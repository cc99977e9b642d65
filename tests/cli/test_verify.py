"""``kedge verify npm`` as a process: what it says, its exit status, and what it never does."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from architecture import schemas
from cli.conftest import World
from cli.shell import Done
from support import server as hostile
from support.packages import PackageRegistry, SigningKey, archive_of, integrity_of, key_document, lockfile
from support.server import HostileServer

SECRET = "s3cr3t-t0ken"


@dataclass
class Project:
    """A project folder, a registry that serves its packages, and a repository that carries the registry's keys."""

    world: World
    npm: PackageRegistry
    old: SigningKey
    new: SigningKey
    folder: Path

    def publish_keys(self, *keys: SigningKey, custom: dict[str, Any] | None = None) -> None:
        self.world.publish(key_document(*keys), custom=custom)

    def verify(self, *options: str | Path, path: str | Path | None = None, **environment: str) -> Done:
        with HostileServer(self.npm) as server:
            return self.run(server, *options, path=path, **environment)

    def run(
        self, server: HostileServer, *options: str | Path, path: str | Path | None = None, **environment: str
    ) -> Done:
        command = ("verify", "npm", path or self.folder, "--registry", server.url, "--upstream", "registry.example")
        return self.world.shell.run(*command, *options, **environment)


@pytest.fixture
def project(world: World) -> Project:
    old = SigningKey("SHA256:old", start="1999-01-01T00:00:00.000Z", end="2025-01-29T00:00:00.000Z")
    new = SigningKey("SHA256:new", start="2025-01-13T00:00:00.000Z")
    npm = PackageRegistry()
    npm.publish("lodash", "4.17.20", keys=[old], published="2020-08-13T16:53:54.152Z")
    npm.publish("@scope/pad", "1.3.0", keys=[new])
    world.publish(key_document(old, new))
    world.add_anchor()
    folder = world.shell.folder / "project"
    folder.mkdir()
    (folder / "package-lock.json").write_bytes(lockfile(("lodash", "4.17.20"), ("@scope/pad", "1.3.0")))
    return Project(world=world, npm=npm, old=old, new=new, folder=folder)


def test_the_report_says_what_is_verified_by_whom_and_what_is_not_checked(project: Project) -> None:
    done = project.verify()
    assert (done.code, done.err) == (0, "")
    shown = done.out.replace(str(project.folder), "<project>")
    shown = re.sub(r"127\.0\.0\.1:\d+", "<registry>", shown)
    assert shown == (
        "<project>/package-lock.json: 2 of 2 packages verified\n"
        "  verified                1\n"
        "  verified-time-unsigned  1\n"
        "\n"
        "by whose keys\n"
        "  registry.example  2 verified; 2 keys of registry.example/keys.json, anchor repo\n"
        "  asked             http://<registry>/\n"
        "  retired keys      registry-time\n"
        "\n"
        "1 package is signed by a retired key. The signature is right, and the registry says that it was published "
        "while the key was valid; but nobody signs that time. Whoever stole the retired key, and stands between here "
        "and the registry, could sign today and date it back. --retired-keys reject takes no such signature; --strict "
        "counts it as a fault.\n"
        "\n"
        "Checked: that a registry's key signed name, version and content of each verified package, held against the "
        "lockfile's digests. Not checked: whether newer or other versions exist that the registry does not show; who "
        "wrote a package; what an installed folder holds today.\n"
    )


@pytest.mark.parametrize("columns", [40, 100])
def test_the_report_fits_the_terminal(project: Project, columns: int) -> None:
    project.npm.dist("@scope/pad", "1.3.0")["signatures"] = []
    done = project.verify("--all", COLUMNS=str(columns))
    assert done.code == 5
    lines = done.out.splitlines()
    assert [line for line in lines if len(line) > columns and " " in line.strip()] == []
    assert any("unsigned" in line for line in lines)


def test_the_answer_as_json_fits_its_schema_and_counts_every_package(project: Project) -> None:
    project.npm.dist("lodash", "4.17.20")["signatures"].append({"keyid": "SHA256:junk", "sig": "AAAA"})
    done = project.verify("--json")
    answer = json.loads(done.out)
    assert schemas.faults("verify-npm", answer) == []
    assert (done.code, answer["exit_code"], answer["packages_count"], answer["faults_count"]) == (0, 0, 2, 0)
    assert sum(answer["counts"].values()) == 2
    assert answer["issuers"][0]["verified"] == 2
    assert answer["lockfile"]["kind"] == "package-lock v3"
    project.npm.packuments.clear()
    done = project.verify("--json")
    answer = json.loads(done.out)
    assert schemas.faults("verify-npm", answer) == []
    assert (done.code, answer["exit_code"], answer["counts"]["not-found"], answer["faults_count"]) == (5, 5, 2, 2)


def test_strict_counts_an_unsigned_time_among_the_faults(project: Project) -> None:
    done = project.verify("--strict", "--json")
    assert done.code == 5
    faults = [package["name"] for package in json.loads(done.out)["packages"] if package["fault"]]
    assert faults == ["lodash"]


def test_as_of_is_no_option_of_verify(project: Project) -> None:
    done = project.verify("--as-of", "2024-01-01")
    assert (done.code, done.out) == (2, "")
    assert "--as-of" in done.err


def test_sarif_names_each_fault_at_its_line(project: Project, tmp_path: Path) -> None:
    file = tmp_path / "faults.sarif"
    assert project.verify("--sarif", file).code == 0
    assert json.loads(file.read_bytes())["runs"][0]["results"] == []
    project.npm.dist("@scope/pad", "1.3.0")["signatures"] = []
    assert project.verify("--sarif", file).code == 5
    log = json.loads(file.read_bytes())
    assert log["version"] == "2.1.0"
    (result,) = log["runs"][0]["results"]
    assert (result["ruleId"], result["level"]) == ("unsigned", "error")
    assert log["runs"][0]["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == "unsigned"
    line = result["locations"][0]["physicalLocation"]["region"]["startLine"]
    assert '"node_modules/@scope/pad"' in (project.folder / "package-lock.json").read_text().splitlines()[line - 1]


def test_lines_on_stdin_are_verified(project: Project) -> None:
    import subprocess

    line = f"lodash 4.17.20 {integrity_of(archive_of('lodash', '4.17.20'))}\n"
    with HostileServer(project.npm) as server:
        done = subprocess.run(
            project.world.shell.command(
                *("verify", "npm", "-", "--registry", server.url, "--upstream", "registry.example")
            ),
            input=line,
            capture_output=True,
            text=True,
            env=project.world.shell.environment(),
            cwd=project.folder,
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("stdin: 1 of 1 package verified\n")


def test_the_registry_and_its_token_come_from_npmrc_and_the_token_is_never_shown(
    project: Project, tmp_path: Path
) -> None:
    evidence, sarif = tmp_path / "evidence.json", tmp_path / "faults.sarif"
    project.npm.base = "npm/"
    with HostileServer(project.npm) as server:
        address = server.url.removeprefix("http://")
        home = project.world.shell.folder / "home"  # variables count in the user's own file
        home.mkdir(exist_ok=True)
        (home / ".npmrc").write_text(
            f"registry=http://user:{SECRET}@{address}/npm\n@scope:registry=${{SCOPED}}\n//{address}/:_authToken=${{TOKEN}}\n"
        )
        project.npm.dist("lodash", "4.17.20")["signatures"] = []
        done = project.world.shell.run(
            *("verify", "npm", project.folder, "--upstream", "registry.example", "--json"),
            *("--evidence", evidence, "--sarif", sarif),
            SCOPED=f"{server.url}/npm/",
            TOKEN=SECRET,
        )
        assert done.code == 5, done.err
        headers = {request.path: request.headers.get("Authorization") for request in server.requests}
    assert headers["npm/@scope%2Fpad"] == f"Bearer {SECRET}"
    assert str(headers["npm/lodash"]).startswith("Basic ")
    assert SECRET not in done.out + done.err + evidence.read_text() + sarif.read_text()


def test_a_mapped_proxy_needs_no_option(project: Project) -> None:
    with HostileServer(project.npm) as server:
        (project.folder / ".npmrc").write_text(f"registry={server.url}\n")
        done = project.world.shell.run("verify", "npm", project.folder)
        assert done.code == 5
        assert "no anchor speaks for 127.0.0.1" in done.out
        project.world.shell.config.joinpath("npm.toml").write_text(
            f'format = "kedge.npm/1"\n[[registry]]\nurl = "{server.url}/"\nupstream = "registry.example"\n'
        )
        assert project.world.shell.run("verify", "npm", project.folder).code == 0


def test_an_empty_lockfile_says_so_and_is_the_only_one_to_verify_nothing_and_pass(project: Project) -> None:
    (project.folder / "package-lock.json").write_bytes(lockfile())
    done = project.verify()
    assert done.code == 0
    assert "empty, nothing to verify" in done.out
    assert "The lockfile is empty" in done.out
    entries = {"": {}, "node_modules/tool": {"link": True, "resolved": "tool"}, "tool": {}}
    (project.folder / "package-lock.json").write_text(json.dumps({"lockfileVersion": 3, "packages": entries}))
    assert project.verify().code == 0, "the project's own folders, and nothing that they need"
    entries["tool"] = {"dependencies": {"lodash": "^4.17.20"}}
    (project.folder / "package-lock.json").write_text(json.dumps({"lockfileVersion": 3, "packages": entries}))
    done = project.verify()
    assert (done.code, done.out) == (2, "")
    assert "has dependencies, and no package is locked" in done.err


@pytest.mark.parametrize("group", ["dependencies", "devDependencies", "optionalDependencies"])
def test_an_empty_yarn_lock_passes_only_where_the_project_needs_nothing(project: Project, group: str) -> None:
    (project.folder / "package-lock.json").unlink()
    (project.folder / "yarn.lock").write_text("# yarn lockfile v1\n")
    (project.folder / "package.json").write_text(json.dumps({"name": "p", group: {}}))
    assert project.verify().code == 0
    (project.folder / "package.json").write_text(json.dumps({"name": "p", group: {"lodash": "1"}}))
    done = project.verify()
    assert (done.code, "is empty, though package.json has dependencies" in done.err) == (2, True)


def test_what_no_registry_signs_is_a_failure_that_only_the_user_can_allow(project: Project) -> None:
    table = json.loads(lockfile(("lodash", "4.17.20")))
    table["packages"]["node_modules/tool"] = {
        "version": "1.0.0",
        "resolved": "git+ssh://git@github.com/corp/tool.git#1",
    }
    (project.folder / "package-lock.json").write_text(json.dumps(table))
    (project.folder / "config.toml").write_text('format = "kedge.config/1"\nallow = []\n')
    done = project.verify("--json")
    (found,) = [package for package in json.loads(done.out)["packages"] if package["name"] == "tool"]
    assert (done.code, found["outcome"], found["cause"], found["fault"]) == (5, "not-in-registry", "git", True)
    done = project.verify("--sarif", project.folder / "out.sarif")
    assert "not-in-registry" in done.out
    (result,) = json.loads((project.folder / "out.sarif").read_text())["runs"][0]["results"]
    assert result["ruleId"] == "not-in-registry"
    assert project.verify("--allow", "git=github.com/other/*").code == 5
    done = project.verify("--allow", "git=github.com/corp/*")
    assert (done.code, "1 allowed" in done.out) == (0, True)


def test_the_name_of_a_lockfile_says_who_reads_it(project: Project) -> None:
    other = project.folder / "lock.json"
    (project.folder / "package-lock.json").rename(other)
    done = project.verify(path=other)
    assert (done.code, "no package manager reads a lockfile of this name" in done.err) == (2, True)
    assert project.verify("--kind", "npm", path=other).code == 0
    (project.folder / "yarn.lock").write_bytes(other.read_bytes())
    done = project.verify("--kind", "npm", path=project.folder / "yarn.lock")
    assert (done.code, "is read by yarn" in done.err) == (2, True)
    assert project.verify(path=project.folder / "yarn.lock").code == 2


def test_a_lockfile_beside_the_one_that_npm_reads_is_refused(project: Project) -> None:
    (project.folder / "npm-shrinkwrap.json").write_bytes(lockfile())
    done = project.verify(path=project.folder / "package-lock.json")
    assert (done.code, "npm reads npm-shrinkwrap.json instead" in done.err) == (2, True)


def test_an_alias_is_told(project: Project) -> None:
    table = json.loads(lockfile(("lodash", "4.17.20"), ("@scope/pad", "1.3.0")))
    table["packages"]["node_modules/left-pad"] = table["packages"].pop("node_modules/@scope/pad") | {
        "name": "@scope/pad"
    }
    (project.folder / "package-lock.json").write_text(json.dumps(table))
    done = project.verify()
    assert (done.code, "installed as left-pad" in done.out) == (0, True)
    done = project.verify("--no-alias", "--json")
    (found,) = [package for package in json.loads(done.out)["packages"] if package["name"] == "@scope/pad"]
    assert (done.code, found["outcome"], found["aliases"]) == (5, "alias", ["left-pad"])


def test_what_is_skipped_is_counted_by_its_reason(project: Project) -> None:
    done = project.verify("--skip", "@scope")
    assert done.code == 0
    assert "skipped                 1 (1 rule)" in done.out
    done = project.verify("--skip", "@scope", "--skip", "lodash")
    assert done.code == 5, "nothing verified is never a success"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b'{"lockfileVersion": 3, "packages": {"node_modules/a": {"vers', "is the file cut off?"),
        (b'{"lockfileVersion": 99, "packages": {}}', "lockfileVersion: is 99; 1, 2 and 3 are read"),
        (b"\x00\x01\x02", "is not JSON"),
        (b"", "is empty"),
    ],
)
def test_a_lockfile_that_cannot_be_read_is_the_users_fault_in_one_line(
    project: Project, data: bytes, text: str
) -> None:
    (project.folder / "package-lock.json").write_bytes(data)
    done = project.verify()
    assert (done.code, done.out) == (2, "")
    assert text in done.err
    assert len(done.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("integrity", "outcome", "cause"),
    [
        (f"{integrity_of(archive_of('lodash', '4.17.20'))} {integrity_of(b'evil')}", "digest-mismatch", "two-digests"),
        ("sha1-AAAAAAAAAAAAAAAAAAAAAAAAAAA=", "digest-mismatch", "registry-differs"),
        ("sha256-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "skipped", "not-bound"),
    ],
)
def test_a_digest_that_binds_nothing_is_a_fault(project: Project, integrity: str, outcome: str, cause: str) -> None:
    lock = lockfile(("lodash", "4.17.20"), ("@scope/pad", "1.3.0"), lodash=integrity)
    (project.folder / "package-lock.json").write_bytes(lock)
    done = project.verify("--json")
    assert done.code == 5
    (found,) = [package for package in json.loads(done.out)["packages"] if package["name"] == "lodash"]
    assert (found["outcome"], found["cause"], found["fault"]) == (outcome, cause, True)


def test_a_folder_without_or_with_several_lockfiles_is_said(project: Project) -> None:
    (project.folder / "yarn.lock").write_text("# yarn lockfile v1\n")
    done = project.verify()
    assert (done.code, done.out) == (2, "")
    assert "there are several lockfiles: package-lock.json, yarn.lock" in done.err
    assert project.verify(path=project.folder / "package-lock.json").code == 0
    for name in ("yarn.lock", "package-lock.json"):
        (project.folder / name).unlink()
    assert "there is no lockfile here" in project.verify().err


def test_a_shrinkwrap_goes_before_a_package_lock(project: Project) -> None:
    (project.folder / "npm-shrinkwrap.json").write_bytes(lockfile(("lodash", "4.17.20")))
    assert "npm-shrinkwrap.json: 1 of 1 package verified" in project.verify().out


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--registry", "ftp://x"), "must be a URL"),
        (("--upstream", "https://registry.example"), "give its id, which is registry.example"),
        (("--skip", "a b"), "a rule is a package's name"),
        (("--tarballs", "/nowhere"), "there is no such folder"),
        (("--anchor", "nobody"), "there is no anchor named"),
        (("--jobs", "0"), "--jobs"),
    ],
)
def test_an_option_that_cannot_be_used_is_said(project: Project, options: tuple[str, str], text: str) -> None:
    done = project.verify(*options)
    assert (done.code, done.out) == (2, "")
    assert text in done.err


def test_a_registry_that_stalls_limits_or_fails_leaves_every_package_counted(project: Project) -> None:
    with HostileServer(project.npm) as server:
        server.misbehave("lodash", hostile.silence())
        server.misbehave("@scope%2Fpad", hostile.captive_portal())
        done = project.run(server, "--timeout", "5", "--json")
    assert done.code == 5
    answer = json.loads(done.out)
    assert answer["counts"]["unreachable"] == 2
    assert "Traceback" not in done.err


def test_names_that_a_terminal_would_obey_are_shown_and_not_obeyed(project: Project) -> None:
    project.npm.packuments["lodash"]["versions"]["4.17.20"]["name"] = "\x1b[2Jgone"
    project.npm.dist("@scope/pad", "1.3.0")["signatures"] = [{"keyid": "\x1b[2J\u202e", "sig": "AAAA"}]
    done = project.verify()
    assert done.code == 5
    assert "asked for was lodash" in done.out
    assert "unknown-key" in done.out
    assert not {"\x1b", "\u202e"} & set(done.out + done.err)


def test_progress_is_shown_on_a_terminal_and_nowhere_else(project: Project) -> None:
    import pty
    import subprocess

    leader, follower = pty.openpty()
    with HostileServer(project.npm) as server:
        command = ("verify", "npm", project.folder, "--registry", server.url, "--upstream", "registry.example")
        done = subprocess.run(
            project.world.shell.command(*command),
            stdout=subprocess.PIPE,
            stderr=follower,
            env=project.world.shell.environment(TERM="xterm"),
            cwd=project.folder,
        )
    os.close(follower)
    shown = os.read(leader, 100_000)
    os.close(leader)
    assert done.returncode == 0
    assert b"verifying" in shown
    assert b"\x1b" not in done.stdout
    assert project.verify().err == ""


def test_an_interrupt_ends_it_without_a_traceback(project: Project) -> None:
    with HostileServer(project.npm) as server:
        server.misbehave("*", hostile.silence())
        options = ("--registry", server.url, "--upstream", "registry.example", "--jobs", "2")
        with project.world.shell.start("verify", "npm", project.folder, *options) as process:
            # Both threads are at work then: of one that is still being started, Python itself prints a traceback.
            while len(server.requests) < 2:
                assert process.poll() is None
                time.sleep(0.02)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in err


# Evidence


@pytest.fixture
def evidence(project: Project, tmp_path: Path) -> Path:
    file = tmp_path / "evidence.json"
    assert project.verify("--evidence", file).code == 0
    assert oct(file.stat().st_mode & 0o777) == "0o644"
    assert schemas.faults("evidence", json.loads(file.read_bytes())) == []
    return file


def judged(project: Project, file: Path, *options: str) -> Done:
    return project.world.shell.run("verify", "evidence", file, *options)


def test_evidence_is_judged_again_without_the_repository_and_without_the_registry(
    project: Project, evidence: Path
) -> None:
    project.world.folder.rename(project.world.folder.with_name("gone"))
    done = judged(project, evidence, "--anchor", "repo")
    assert (done.code, done.err) == (0, "")
    assert "as claimed at" in done.out
    assert done.out.count("verified-time-unsigned  1") == 2
    answer = json.loads(judged(project, evidence, "--json").out)
    assert schemas.faults("verify-evidence", answer) == []
    assert answer["claimed"] == answer["today"]


def test_a_key_that_was_revoked_since_shows_today_and_not_as_claimed(project: Project, evidence: Path) -> None:
    custom = {"kedge": {"v": 1, "revoked": [project.old.keyid]}}
    project.publish_keys(project.old, project.new, custom=custom)
    assert project.world.shell.run("keys", "show", "registry.example").code == 0
    done = judged(project, evidence, "--json")
    assert done.code == 5
    answer = json.loads(done.out)
    assert (answer["claimed"]["revoked-key"], answer["today"]["revoked-key"]) == (0, 1)
    assert answer["differing_count"] == 0


def test_evidence_is_refused_by_another_anchor(project: Project, evidence: Path, tmp_path: Path) -> None:
    from datetime import UTC, datetime

    from support.simulator import RepositorySimulator

    other = RepositorySimulator(now=datetime(2098, 1, 1, tzinfo=UTC))
    root = tmp_path / "other.json"
    root.write_bytes(other.initial_root)
    added = project.world.shell.run(
        "anchor", "add", "other", "--root", root, "--mirror", tmp_path, "--registry", "registry.example"
    )
    assert added.code == 0, added.err
    done = judged(project, evidence, "--anchor", "other")
    assert (done.code, done.out) == (3, "")
    assert "Traceback" not in done.err
    assert judged(project, evidence, "--anchor", "repo").code == 0


def test_without_state_today_cannot_be_said_and_the_claim_still_can(project: Project, evidence: Path) -> None:
    import shutil

    shutil.rmtree(project.world.shell.state)
    done = judged(project, evidence)
    assert done.code == 1
    assert "verified-time-unsigned  1" in done.out
    assert "today: not judged" in done.out
    assert done.err.startswith("kedge: ")


@pytest.mark.parametrize(
    ("change", "code", "text"),
    [
        (lambda found: found["packages"][0]["served"].update(signatures=[]), 5, "recorded verified-time-unsigned"),
        (lambda found: found["packages"][1].update(version="9.9.9"), 5, "judged bad-signature"),
        (lambda found: found["packages"][0].update(outcome="unsigned"), 5, "recorded unsigned, judged verified"),
        (lambda found: found["proofs"][0].update(timestamp="e30="), 3, "timestamp.json"),
        (lambda found: found["proofs"][0]["targets"].update({"registry.example/keys.json": "e30="}), 3, "keys.json"),
        (lambda found: found["proofs"][0].update(reference_time="2099-01-01T00:00:00Z"), 4, "expired"),
        (lambda found: found.update(proofs=[]), 5, "no-keys"),
        (lambda found: found["packages"][0].pop("served"), 2, "served: must be there"),
        (lambda found: found.update(format="kedge.evidence/2"), 2, "a newer kedge is needed"),
        (lambda found: found.update(more=1), 2, "is not a field of this document"),
    ],
)
def test_evidence_that_was_changed_is_found_out(
    project: Project, evidence: Path, change: Any, code: int, text: str
) -> None:
    assert judged(project, evidence).code == 0
    document = json.loads(evidence.read_bytes())
    change(document)
    evidence.write_text(json.dumps(document))
    done = judged(project, evidence)
    assert done.code == code, done.out + done.err
    assert text in done.out + done.err
    assert "Traceback" not in done.err
    if code in (2, 3, 4):
        assert done.out == ""


EVIL_SHA512 = f"sha512-{base64.b64encode(bytes(64)).decode()}"


def test_c15_an_evidence_file_for_another_lockfile_is_judged_by_what_was_locked(
    project: Project, evidence: Path
) -> None:
    assert judged(project, evidence).code == 0
    document = json.loads(evidence.read_bytes())
    package = document["packages"][0]
    package.update(content=package["locked"][0], locked=[EVIL_SHA512])
    evidence.write_text(json.dumps(document))
    done = judged(project, evidence)
    assert done.code == 5
    assert "digest-mismatch" in done.out


def test_c15_recorded_content_does_not_bind_what_the_lockfile_leaves_open(project: Project, evidence: Path) -> None:
    """A digest that is not the lockfile's shows nothing about the lockfile."""
    document = json.loads(evidence.read_bytes())
    package = document["packages"][0]
    package.update(content=package["locked"][0], locked=[])
    evidence.write_text(json.dumps(document))
    done = judged(project, evidence)
    assert done.code == 5
    assert "the lockfile holds no digest of this package" in done.out


def test_c15_a_file_without_packages_is_no_verdict(project: Project, evidence: Path) -> None:
    document = json.loads(evidence.read_bytes())
    document["packages"] = []
    evidence.write_text(json.dumps(document))
    done = judged(project, evidence)
    assert (done.code, done.out) == (2, "")
    assert "names no package: such a file shows nothing" in done.err

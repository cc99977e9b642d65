"""The real Corepack: 0.30.0 with the keys of 2024 compiled in, and the newest, on the day of a rotation and after it.

The day that this project is about, with what was published then: pnpm@10.1.0 was signed with npm's new key on
2025-01-27, and no Corepack in the world knew that key. The signature is npm's, and so are the bytes.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cli.shell import Done, Shell
from interop.npm_world import Issuer, Package, key_document, packument, sri
from interop.npm_world.tools import Ran, Tools
from kedge_repo.demo import story as facts
from kedge_repo.workspace.catalogue import catalogue_entry
from support.server import HostileServer
from support.simulator import RepositorySimulator

NPM = facts.REGISTRY
VERSIONS = ["0.30.0", "0.36.0"]
# Corepack 0.30.0 looks the newest release up, and checks its signature, before it reads what the project pins.
PINNED = {"COREPACK_DEFAULT_TO_LATEST": "0"}

OWN_KEYS_FAIL = {"0.30.0": "Cannot find matching keyid", "0.36.0": "not signed by any trusted keys"}

both = pytest.mark.parametrize("version", VERSIONS)


@dataclass
class Day:
    """A registry on loopback, a repository that carries its keys, a user of kedge, and a project."""

    tools: Tools
    shell: Shell
    repo: RepositorySimulator
    published: Path
    server: HostileServer
    files: dict[str, bytes]
    project: Path

    def publish(self, document: bytes) -> None:
        self.repo.add_target(f"{NPM}/keys.json", document)
        self.repo.publish()
        self.repo.write(self.published)

    def serve(self, package: Package) -> None:
        self.files.clear()
        self.files.update(packument(self.server.url, [package]))

    def kedge(self, *arguments: str | Path) -> Done:
        return self.shell.run(*arguments, COREPACK_NPM_REGISTRY=self.server.url)

    def exported(self) -> str:
        done = self.kedge("keys", "export", "corepack-json", NPM)
        assert done.code == 0, done.err
        return done.out.removesuffix("\n")

    def corepack(self, version: str, *arguments: str, **environment: str) -> Ran:
        return self.tools.run(
            [*self.tools.corepack(version), *arguments], cwd=self.project, environment=self._environment(environment)
        )

    def through_kedge(self, version: str, *arguments: str) -> Ran:
        """The same, run by ``kedge corepack exec``."""
        line = [sys.executable, "-m", "kedge", "corepack", "exec", "--", *self.tools.corepack(version), *arguments]
        own = {"KEDGE_STATE_DIR": str(self.shell.state), "KEDGE_CONFIG_DIR": str(self.shell.config)}
        return self.tools.run(line, cwd=self.project, environment=self._environment(own))

    def _environment(self, more: Mapping[str, str]) -> dict[str, str]:
        return {"COREPACK_NPM_REGISTRY": self.server.url, **more}


@pytest.fixture
def day(npm_tools: Tools, tmp_path: Path) -> Iterator[Day]:
    shell = Shell(folder=tmp_path / "user")
    project = tmp_path / "project"
    for folder in (shell.folder, project):
        folder.mkdir()
    repo, files = RepositorySimulator(now=datetime(2098, 1, 1, tzinfo=UTC)), dict[str, bytes]()
    root = tmp_path / "root.json"
    root.write_bytes(repo.initial_root)
    (project / "package.json").write_text('{\n  "private": true\n}\n')
    with HostileServer(files) as server:
        made = Day(npm_tools, shell, repo, tmp_path / "repo", server, files, project)
        made.publish(catalogue_entry(NPM).target_bytes)
        added = shell.run("anchor", "add", "repo", "--root", root, "--mirror", made.published, "--registry", NPM)
        assert added.code == 0, added.err
        yield made


@pytest.fixture
def pnpm(npm_tools: Tools) -> Package:
    """pnpm@10.1.0 as npm published it."""
    data = (npm_tools.tarballs / "pnpm-10.1.0.tgz").read_bytes()
    assert sri(data) == facts.INTEGRITY
    signature = {"keyid": facts.KEYID, "sig": facts.SIGNATURE}
    return Package(
        name="pnpm", version="10.1.0", data=data, integrity=facts.INTEGRITY, signatures=(signature,), published=None
    )


@pytest.fixture
def yarn(npm_tools: Tools) -> Package:
    """Yarn 4.9.1's real bytes; whoever signs them is up to the test."""
    data = (npm_tools.tarballs / "yarnpkg-cli-dist-4.9.1.tgz").read_bytes()
    return Package(name="@yarnpkg/cli-dist", version="4.9.1", data=data, integrity=sri(data))


def test_on_the_day_of_the_rotation_corepack_fails_alone_and_works_with_our_export(day: Day, pnpm: Package) -> None:
    day.serve(pnpm)
    alone = day.corepack("0.30.0", "pnpm@10.1.0", "--version")
    assert alone.code == 1
    assert "Cannot find matching keyid" in alone.out + alone.err
    with_ours = day.corepack("0.30.0", "pnpm@10.1.0", "--version", COREPACK_INTEGRITY_KEYS=day.exported())
    assert (with_ours.code, with_ours.out) == (0, "10.1.0\n"), with_ours.err


def test_the_newest_corepack_takes_the_same_release_with_our_export(day: Day, pnpm: Package) -> None:
    day.serve(pnpm)
    ran = day.corepack("0.36.0", "pnpm@10.1.0", "--version", COREPACK_INTEGRITY_KEYS=day.exported())
    assert (ran.code, ran.out) == (0, "10.1.0\n"), ran.err


@both
def test_on_the_day_of_the_next_rotation_no_corepack_works_alone_and_each_does_through_kedge(
    day: Day, pnpm: Package, version: str
) -> None:
    next_key = Issuer()
    day.serve(pnpm.signed(next_key))
    alone = day.corepack(version, "pnpm@10.1.0", "--version")
    assert alone.code == 1
    assert OWN_KEYS_FAIL[version] in alone.out + alone.err
    before = day.through_kedge(version, "pnpm@10.1.0", "--version")
    assert before.code == 1
    assert OWN_KEYS_FAIL[version] in before.out + before.err
    document = json.loads(catalogue_entry(NPM).target_bytes)
    document["keys"] += json.loads(key_document(next_key))["keys"]
    day.publish(json.dumps(document).encode())
    after = day.through_kedge(version, "pnpm@10.1.0", "--version")
    assert (after.code, after.out) == (0, "10.1.0\n"), after.err


@both
def test_one_changed_character_fails_with_our_export(day: Day, pnpm: Package, version: str) -> None:
    digest = pnpm.integrity
    day.serve(replace(pnpm, integrity=digest[:20] + ("A" if digest[20] != "A" else "B") + digest[21:]))
    ran = day.corepack(version, "pnpm@10.1.0", "--version", COREPACK_INTEGRITY_KEYS=day.exported())
    assert ran.code == 1
    assert "Signature does not match" in ran.out + ran.err


@both
def test_without_the_retired_key_an_older_release_fails_as_the_note_says(day: Day, pnpm: Package, version: str) -> None:
    retired = Issuer(end="2025-01-29T00:00:00.000Z")
    day.publish(key_document(retired, Issuer()))
    day.serve(pnpm.signed(retired))
    active = day.kedge("keys", "export", "corepack-json", NPM, "--without-retired").out.strip()
    without = day.corepack(version, "pnpm@10.1.0", "--version", COREPACK_INTEGRITY_KEYS=active)
    assert without.code == 1
    assert OWN_KEYS_FAIL[version] in without.out + without.err
    ran = day.corepack(version, "pnpm@10.1.0", "--version", COREPACK_INTEGRITY_KEYS=day.exported())
    assert (ran.code, ran.out) == (0, "10.1.0\n"), ran.err


@both
def test_our_dotenv_file_is_read_and_the_environment_goes_before_it(day: Day, pnpm: Package, version: str) -> None:
    day.serve(pnpm.signed(next_key := Issuer()))
    day.publish(key_document(next_key))
    (day.project / "package.json").write_text('{"packageManager": "pnpm@10.1.0"}')
    assert day.kedge("keys", "export", "corepack-dotenv", NPM, "-o", day.project / ".corepack.env").code == 0
    ran = day.corepack(version, "pnpm", "--version")
    if version == "0.30.0":  # reads no such file yet
        assert OWN_KEYS_FAIL[version] in ran.out + ran.err
        return
    assert (ran.code, ran.out) == (0, "10.1.0\n"), ran.err
    other = day.corepack(
        version, "pnpm", "--version", COREPACK_INTEGRITY_KEYS='{"npm":[]}', COREPACK_HOME=str(day.tools.home / "other")
    )
    assert other.code == 1


@both
def test_our_pin_is_accepted_without_a_signature_and_then_without_a_network(
    day: Day, pnpm: Package, version: str
) -> None:
    day.serve(pnpm)
    pinned = day.kedge("corepack", "pin", "pnpm@10.1.0", "--package-json", day.project / "package.json")
    assert pinned.code == 0, pinned.err
    assert pinned.out == f"pnpm@10.1.0+sha512.{hashlib.sha512(pnpm.data).hexdigest()}\n"
    day.serve(replace(pnpm, signatures=None))
    fresh = day.corepack(version, "pnpm", "--version", **PINNED)
    assert (fresh.code, fresh.out) == (0, "10.1.0\n"), fresh.err
    day.files.clear()
    offline = day.corepack(version, "pnpm", "--version", **PINNED, COREPACK_ENABLE_NETWORK="0")
    assert (offline.code, offline.out) == (0, "10.1.0\n"), offline.err


@both
def test_modern_yarn_is_pinned_to_the_bytes_that_corepack_hashes(day: Day, yarn: Package, version: str) -> None:
    issuer = Issuer()
    day.publish(key_document(issuer))
    day.serve(yarn.signed(issuer))
    manifest = day.project / "package.json"
    pinned = day.kedge("corepack", "pin", "yarn@4.9.1", "--package-json", manifest)
    assert pinned.code == 0, pinned.err
    ran = day.corepack(version, "yarn", "--version", **PINNED)
    assert (ran.code, ran.out[:5]) == (0, "4.9.1"), ran.err


@both
@pytest.mark.parametrize("name", ["pnpm", "yarn"])
def test_a_pin_with_one_changed_character_is_refused(
    day: Day, request: pytest.FixtureRequest, version: str, name: str
) -> None:
    package: Package = request.getfixturevalue(name)
    issuer = Issuer()
    day.publish(key_document(issuer))
    day.serve(package.signed(issuer))
    manifest = day.project / "package.json"
    assert day.kedge("corepack", "pin", f"{name}@{package.version}", "--package-json", manifest).code == 0
    text = manifest.read_text()
    at = text.index("sha512.") + 20
    manifest.write_text(text[:at] + ("0" if text[at] != "0" else "1") + text[at + 1 :])
    ran = day.corepack(version, name, "--version", **PINNED)
    assert ran.code == 1
    assert "Mismatch hashes" in ran.out + ran.err


@both
def test_corepacks_own_use_and_our_pin_write_the_same(day: Day, pnpm: Package, version: str) -> None:
    day.serve(pnpm)
    ours = day.kedge("corepack", "pin", "pnpm@10.1.0", "--package-json", day.project / "package.json").out
    (day.project / "package.json").write_text('{"private": true}')
    # What Corepack does after it wrote the field, installing the project, needs more than this registry has.
    day.corepack(version, "use", "pnpm@10.1.0", COREPACK_INTEGRITY_KEYS=day.exported())
    assert json.loads((day.project / "package.json").read_text())["packageManager"] == ours.strip()


@both
def test_the_line_of_the_dockerfile_works_on_the_day_of_a_rotation(
    day: Day, pnpm: Package, repository: Path, version: str
) -> None:
    page = (repository / "docs" / "how-to" / "corepack-in-docker.md").read_text()
    (line,) = re.findall(r"^RUN (kedge corepack exec .*)$", page, re.MULTILINE)
    day.serve(pnpm.signed(next_key := Issuer()))
    (day.project / "package.json").write_text('{"packageManager": "pnpm@10.1.0"}')
    programs = day.tools.home / "programs"
    programs.mkdir()
    for name, command in (("kedge", [sys.executable, "-m", "kedge"]), ("corepack", day.tools.corepack(version))):
        (programs / name).write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
        (programs / name).chmod(0o755)

    def run_line() -> Ran:
        own = {"KEDGE_STATE_DIR": str(day.shell.state), "KEDGE_CONFIG_DIR": str(day.shell.config)}
        more = {"PATH": f"{programs}:/usr/bin:/bin", "COREPACK_NPM_REGISTRY": day.server.url, **own, **PINNED}
        return day.tools.run(["sh", "-c", line], cwd=day.project, environment=more)

    before = run_line()
    assert before.code == 1
    assert OWN_KEYS_FAIL[version] in before.out + before.err
    day.publish(key_document(next_key))
    after = run_line()
    assert after.code == 0, after.err
    assert day.corepack(version, "pnpm", "--version", **PINNED, COREPACK_ENABLE_NETWORK="0").out == "10.1.0\n"

"""``keys export`` and ``corepack``, as processes: what they write, what they run, and what they do not."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from architecture import schemas
from cli.conftest import NEW, OLD, World, key_document
from interop.npm_world import Issuer, Package, packument
from interop.npm_world import key_document as issuers_document
from support.server import HostileServer, captive_portal, status

UPSTREAM = "registry.example"
FORMATS = ["npm-endpoint", "corepack-env", "corepack-json", "corepack-dotenv", "github-env"]
SHOW = "import os; print(os.environ['COREPACK_INTEGRITY_KEYS'])"


@pytest.fixture
def trusted(world: World) -> World:
    world.add_anchor()
    return world


def exported(world: World, *arguments: str | Path) -> list[str]:
    done = world.shell.run("keys", "export", "corepack-json", UPSTREAM, *arguments)
    assert done.code == 0, done.err
    return [entry["keyid"] for entry in json.loads(done.out)["npm"]]


def test_both_keys_are_exported_and_the_retired_one_is_noted(trusted: World) -> None:
    done = trusted.shell.run("keys", "export", "corepack-json", UPSTREAM)
    assert [entry["keyid"] for entry in json.loads(done.out)["npm"]] == [OLD[0], NEW[0]]
    assert done.err.startswith(f"kedge: note: {OLD[0]} is retired (it signed until 2025-01-29)")
    assert done.err.count("\n") == 1
    assert exported(trusted, "--without-retired") == [NEW[0]]


def test_a_revoked_key_leaves_every_export(trusted: World) -> None:
    trusted.publish(key_document(OLD, NEW), custom={"kedge": {"v": 1, "revoked": [OLD[0]]}})
    for layout in FORMATS:
        done = trusted.shell.run("keys", "export", layout, UPSTREAM)
        assert (done.code, OLD[0] in done.out, NEW[0] in done.out) == (0, False, True)


@pytest.mark.parametrize("layout", FORMATS)
def test_an_export_to_a_file_is_what_stdout_would_show(trusted: World, tmp_path: Path, layout: str) -> None:
    file = tmp_path / "out"
    file.write_text("x" * 10_000)
    file.chmod(0o600)
    shown = trusted.shell.run("keys", "export", layout, UPSTREAM)
    done = trusted.shell.run("keys", "export", layout, UPSTREAM, "--output", file)
    assert (done.code, done.out, done.err) == (0, "", shown.err)
    assert file.read_text() == shown.out
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert [path.name for path in tmp_path.iterdir() if "out" in path.name] == ["out"]


def test_a_planted_link_is_replaced_and_not_followed(trusted: World, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "out").symlink_to(victim)
    assert trusted.shell.run("keys", "export", "npm-endpoint", UPSTREAM, "-o", tmp_path / "out").code == 0
    assert victim.read_text() == "precious"
    assert not (tmp_path / "out").is_symlink()


def test_a_file_that_cannot_be_written_is_one_line(trusted: World, tmp_path: Path) -> None:
    done = trusted.shell.run("keys", "export", "npm-endpoint", UPSTREAM, "-o", tmp_path / "missing" / "out")
    assert (done.code, done.out) == (1, "")
    assert "cannot be written: no such file or directory" in done.err


def test_the_file_of_github_is_never_replaced(trusted: World, tmp_path: Path) -> None:
    file = tmp_path / "github-env"
    file.write_text("OTHER=1\n")
    done = trusted.shell.run("keys", "export", "github-env", UPSTREAM, "-o", file, GITHUB_ENV=str(file))
    assert (done.code, done.out) == (2, "")
    assert '>> "$GITHUB_ENV"' in done.err
    assert file.read_text() == "OTHER=1\n"


def test_an_answer_of_another_time_is_not_exported(trusted: World) -> None:
    for arguments in (("keys", "export", "corepack-env", UPSTREAM), ("corepack", "env"), ("corepack", "pin")):
        done = trusted.shell.run(*arguments, "--as-of", "2025-01-01")
        assert (done.code, done.out) == (2, "")
        assert "--as-of" in done.err


@pytest.mark.parametrize("layout", FORMATS)
def test_the_json_answer_fits_its_schema(trusted: World, tmp_path: Path, layout: str) -> None:
    for more in ((), ("--without-retired",), ("-o", str(tmp_path / "out"))):
        done = trusted.shell.run("keys", "export", layout, UPSTREAM, "--json", *more)
        document = json.loads(done.out)
        assert schemas.faults("key-export", document) == []
        assert document["sources"][0]["target"] == f"{UPSTREAM}/keys.json"
        assert done.err == ""


def test_the_shell_gets_the_variable_that_corepack_reads(trusted: World) -> None:
    done = trusted.shell.run("corepack", "env", "--upstream", UPSTREAM)
    script = f'{done.out}printf %s "$COREPACK_INTEGRITY_KEYS"'
    value = subprocess.run(["sh", "-c", script], capture_output=True, text=True).stdout
    assert value == trusted.shell.run("keys", "export", "corepack-json", UPSTREAM).out.removesuffix("\n")


def test_exec_hands_the_keys_of_now_to_the_command(trusted: World) -> None:
    arguments = ("corepack", "exec", "--upstream", UPSTREAM, "--", sys.executable, "-c", SHOW)
    first = trusted.shell.run(*arguments, COREPACK_INTEGRITY_KEYS="0")
    assert [entry["keyid"] for entry in json.loads(first.out)["npm"]] == [OLD[0], NEW[0]]
    assert "was set to 0, which checks nothing: replaced" in first.err
    trusted.publish(key_document(NEW))
    assert [entry["keyid"] for entry in json.loads(trusted.shell.run(*arguments).out)["npm"]] == [NEW[0]]


def test_what_follows_the_command_is_the_commands(trusted: World) -> None:
    code = "import sys; print(sys.argv[1:])"
    for separator in ((), ("--",)):
        line = (*separator, sys.executable, "-c", code, "--json", "--", "-h", "")
        done = trusted.shell.run("corepack", "exec", "--upstream", UPSTREAM, *line)
        assert done.out == "['--json', '--', '-h', '']\n"


def test_the_exit_status_is_the_commands(trusted: World) -> None:
    done = trusted.shell.run("corepack", "exec", "--upstream", UPSTREAM, "--", "sh", "-c", "exit 37")
    assert done.code == 37


def test_a_signal_reaches_the_command(trusted: World) -> None:
    code = "import time; print('ready', flush=True); time.sleep(60)"
    with trusted.shell.start("corepack", "exec", "--upstream", UPSTREAM, "--", sys.executable, "-c", code) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == -signal.SIGTERM


def test_a_command_that_is_not_there_is_one_line(trusted: World) -> None:
    done = trusted.shell.run("corepack", "exec", "--upstream", UPSTREAM, "--", "no-such-command")
    assert (done.code, done.out) == (2, "")
    assert "no-such-command: cannot be run: no such file or directory" in done.err


def test_without_trust_nothing_is_run(trusted: World, tmp_path: Path) -> None:
    path = trusted.repo.path_of_target(f"{UPSTREAM}/keys.json", key_document(OLD, NEW))
    trusted.repo.replace(path, key_document(OLD))
    trusted.repo.write(trusted.folder)
    touched = tmp_path / "touched"
    done = trusted.shell.run("corepack", "exec", "--upstream", UPSTREAM, "--", "touch", touched)
    assert (done.code, done.out) == (3, "")
    assert not touched.exists()


def test_a_fresh_machine_with_the_projects_lock_takes_no_older_keys(trusted: World, tmp_path: Path) -> None:
    older = tmp_path / "older"
    shutil.copytree(trusted.folder, older)
    trusted.publish(key_document(NEW))
    assert trusted.shell.run("lock").code == 0
    shutil.rmtree(trusted.folder)
    older.rename(trusted.folder)
    fresh = {"KEDGE_STATE_DIR": str(tmp_path / "fresh")}
    arguments = ("corepack", "exec", "--upstream", UPSTREAM, "--", sys.executable, "-c", SHOW)
    refused = trusted.shell.run(*arguments, **fresh)
    assert (refused.code, refused.out) == (3, "")
    assert "kedge.lock" in refused.err
    (trusted.shell.folder / "kedge.lock").unlink()
    assert trusted.shell.run(*arguments, **fresh).code == 0


# corepack pin


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A project, the mirror that it uses, and the anchor of the registry behind it."""

    world: World
    server: HostileServer
    files: dict[str, bytes]
    npm: Issuer
    folder: Path

    @property
    def manifest(self) -> Path:
        return self.folder / "package.json"

    def serve(self, *packages: Package) -> None:
        self.files.update(packument(self.server.url, packages))

    def pin(self, *arguments: str | Path, **environment: str) -> tuple[int, str, str]:
        home = {"HOME": str(self.folder.parent / "nobody"), "COREPACK_NPM_REGISTRY": self.server.url}
        line = ("corepack", "pin", "--package-json", self.manifest, "--upstream", UPSTREAM, *arguments)
        done = self.world.shell.run(*line, **{**home, **environment})
        return done.code, done.out, done.err


@pytest.fixture
def project(trusted: World, tmp_path: Path) -> Iterator[Project]:
    npm, files = Issuer(), dict[str, bytes]()
    trusted.publish(issuers_document(npm))
    folder = tmp_path / "project"
    folder.mkdir()
    with HostileServer(files) as server:
        made = Project(world=trusted, server=server, files=files, npm=npm, folder=folder)
        made.serve(Package.made("pnpm", "10.1.0", npm))
        yield made


def sha512(package: Package) -> str:
    return hashlib.sha512(package.data).hexdigest()


def test_a_pin_changes_the_one_value_and_no_other_byte(project: Project) -> None:
    pnpm = Package.made("pnpm", "10.1.0", project.npm)
    project.serve(pnpm)
    project.manifest.write_text('{\n\t"packageManager":  "pnpm@10.1.0" , "private": true,\n "v": 1.50}\n')
    project.manifest.chmod(0o640)
    reference = f"pnpm@10.1.0+sha512.{sha512(pnpm)}"
    assert project.pin() == (0, f"{reference}\n", "")
    expected = f'{{\n\t"packageManager":  "{reference}" , "private": true,\n "v": 1.50}}\n'
    assert project.manifest.read_text() == expected
    assert stat.S_IMODE(project.manifest.stat().st_mode) == 0o640
    assert project.pin() == (0, f"{reference}\n", "")


def test_a_pin_of_latest_says_whose_word_that_is(project: Project) -> None:
    project.manifest.write_text("{}")
    code, out, err = project.pin("pnpm@latest")
    assert code == 0
    assert out.startswith("pnpm@10.1.0+sha512.")
    assert f"that pnpm@latest is 10.1.0 is the word of {project.server.url}: nobody signs it" in err


def test_the_mirrors_own_keys_are_never_asked_for(project: Project) -> None:
    project.manifest.write_text("{}")
    forger = Issuer()
    project.files["-/npm/v1/keys"] = json.dumps({"keys": [forger.endpoint_entry]}).encode()
    project.serve(Package.made("pnpm", "10.1.0", forger))
    code, out, err = project.pin("pnpm@10.1.0")
    assert (code, out) == (3, "")
    assert forger.keyid in err
    assert project.server.paths == ["pnpm"]
    assert project.manifest.read_text() == "{}"
    project.serve(Package.made("pnpm", "10.1.0", project.npm))
    assert project.pin("pnpm@10.1.0")[0] == 0
    assert not [path for path in project.server.paths if "keys" in path]


def test_a_tarball_that_was_swapped_pins_nothing(project: Project) -> None:
    pnpm = Package.made("pnpm", "10.1.0", project.npm)
    project.serve(pnpm)
    project.files[pnpm.file] = pnpm.data + b"\0"
    project.manifest.write_text('{"packageManager": "pnpm@10.1.0"}')
    code, out, err = project.pin()
    assert (code, out) == (3, "")
    assert "holds other bytes than were signed" in err
    assert project.manifest.read_text() == '{"packageManager": "pnpm@10.1.0"}'


def test_a_former_pin_to_other_bytes_is_refused_until_it_is_replaced_by_name(project: Project) -> None:
    project.manifest.write_text(json.dumps({"packageManager": "pnpm@10.1.0+sha512." + "0" * 128}))
    code, out, err = project.pin()
    assert (code, out) == (3, "")
    assert "to replace it: kedge corepack pin pnpm@10.1.0" in err
    assert project.pin("pnpm@10.1.0")[0] == 0
    assert project.pin()[0] == 0


def test_a_link_to_package_json_stays_a_link(project: Project) -> None:
    real = project.folder / "real.json"
    real.write_text('{"packageManager": "pnpm@10.1.0"}')
    project.manifest.symlink_to(real)
    assert project.pin()[0] == 0
    assert project.manifest.is_symlink()
    assert "sha512" in real.read_text()


def test_the_json_answer_of_a_pin_fits_its_schema(project: Project) -> None:
    project.manifest.write_text("{}")
    for spec in ("pnpm@latest", "pnpm@10.1.0"):
        code, out, _ = project.pin(spec, "--json")
        assert code == 0
        assert schemas.faults("corepack-pin", json.loads(out)) == []


def test_credentials_go_to_their_registry_alone(project: Project) -> None:
    project.manifest.write_text("{}")
    project.pin("pnpm@10.1.0", COREPACK_NPM_TOKEN="t0ken")
    assert {request.headers.get("Authorization") for request in project.server.requests} == {"Bearer t0ken"}
    project.server.requests.clear()
    host = project.server.url.removeprefix("http:")
    (project.folder / ".npmrc").write_text(f"{host}/:_authToken=${{NPM_TOKEN}}\n")
    project.pin("pnpm@10.1.0", NPM_TOKEN="fr0m-npmrc")
    assert {request.headers.get("Authorization") for request in project.server.requests} == {"Bearer fr0m-npmrc"}
    project.server.requests.clear()
    (project.folder / ".npmrc").unlink()
    # A token that is meant for another registry than the one that is asked.
    other = {"COREPACK_NPM_REGISTRY": "https://other.invalid", "COREPACK_NPM_TOKEN": "t0ken"}
    assert project.pin("pnpm@10.1.0", "--registry", project.server.url, **other)[0] == 0
    assert {request.headers.get("Authorization") for request in project.server.requests} == {None}


def test_no_credentials_reach_the_answer(project: Project) -> None:
    project.manifest.write_text("{}")
    url = project.server.url.replace("http://", "http://user:s3cret@")
    for arguments in (("--json",), ()):
        code, out, err = project.pin("pnpm@latest", "--registry", url, *arguments)
        assert code == 0, err
        assert "s3cret" not in out + err


@pytest.mark.parametrize(
    ("content", "arguments", "text"),
    [
        ("{}", (), "names no packageManager"),
        ("{", ("pnpm@10.1.0",), "is not a JSON object"),
        ('{"packageManager": "deno@1.0.0"}', (), "must name npm, pnpm or yarn"),
        ("{}", ("pnpm@^10",), "SPEC: must be an exact version or a tag"),
        ("{}", ("pnpm@9.9.9",), "has no version 9.9.9"),
        ("{}", ("npm@11.0.0",), "has no package npm"),
        ("{}", ("pnpm@10.1.0", "--registry", "ftp://x"), "must be a URL"),
    ],
)
def test_what_the_user_has_wrong_is_one_line(
    project: Project, content: str, arguments: tuple[str, ...], text: str
) -> None:
    project.manifest.write_text(content)
    code, out, err = project.pin(*arguments)
    assert (code, out) == (2, "")
    assert text in err
    assert "Traceback" not in err
    assert project.manifest.read_text() == content


def test_a_registry_that_fails_is_one_line(project: Project) -> None:
    project.manifest.write_text("{}")
    project.server.misbehave("pnpm", status(503, retry_after="9999"), once=True)
    code, out, err = project.pin("pnpm@10.1.0")
    assert (code, out) == (1, "")
    assert "503" in err
    project.server.misbehave("pnpm", captive_portal(), once=True)
    code, out, err = project.pin("pnpm@10.1.0")
    assert (code, out) == (3, "")
    assert "a page of HTML" in err
    assert project.pin("pnpm@10.1.0")[0] == 0

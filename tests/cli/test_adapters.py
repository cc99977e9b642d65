"""The files that run kedge in other people's CI: what can be run of them without a network is run."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.conftest import World
from interop.npm_world import Issuer, Package, key_document, packument
from interop.npm_world.project import write_project
from support.server import HostileServer

UPSTREAM = "registry.example"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A checked-out project behind a mirror, on a runner that has kedge where the action installs it."""

    world: World
    server: HostileServer
    files: dict[str, bytes]
    npm: Issuer
    project: Path
    temporary: Path

    def serve(self, package: Package) -> None:
        self.files.update(packument(self.server.url, [package]))

    def run(self, line: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
        more = {"RUNNER_TEMP": str(self.temporary), "GITHUB_STEP_SUMMARY": str(self.temporary / "summary")}
        path = f"{self.temporary / 'kedge' / 'bin'}:/usr/bin:/bin"
        return subprocess.run(
            line,
            cwd=self.project,
            env={**self.world.shell.environment(), "PATH": path, **more, **environment},
            capture_output=True,
            text=True,
        )


@pytest.fixture
def job(world: World, tmp_path: Path) -> Iterator[Job]:
    world.add_anchor()
    npm, files = Issuer(), dict[str, bytes]()
    world.publish(key_document(npm))
    kedge = tmp_path / "runner" / "kedge" / "bin" / "kedge"
    kedge.parent.mkdir(parents=True)
    kedge.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m kedge "$@"\n')
    kedge.chmod(0o755)
    with HostileServer(files) as server:
        project, good = tmp_path / "project", Package.made("good", "1.0.0", npm)
        made = Job(
            world=world, server=server, files=files, npm=npm, project=project, temporary=kedge.parent.parent.parent
        )
        made.serve(good)
        write_project(project, {"good": (good.version, good.integrity)}, registry=server.url)
        yield made


@pytest.fixture(scope="module")
def action(repository: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((repository / "adapters/github/verify-npm/action.yml").read_text())
    return loaded


def variables(action: dict[str, Any], **inputs: str) -> dict[str, str]:
    """What the runner puts into the environment of the second step."""
    inputs.setdefault("path", "package-lock.json")
    values = {name: each["default"] for name, each in action["inputs"].items()} | inputs
    env: dict[str, str] = action["runs"]["steps"][1]["env"]
    return {
        name: re.sub(r"\$\{\{ inputs\.(\w+) \}\}", lambda match: values[match[1]], text) for name, text in env.items()
    }


def act(job: Job, action: dict[str, Any], repository: Path, **inputs: str) -> subprocess.CompletedProcess[str]:
    """Run the second step as a runner would."""
    step = action["runs"]["steps"][1]
    folder = repository / "adapters/github/verify-npm"
    return job.run(["bash", "-c", step["run"]], GITHUB_ACTION_PATH=str(folder), **variables(action, **inputs))


def test_every_input_of_the_action_reaches_its_script_and_no_shell_text(action: dict[str, Any]) -> None:
    steps = action["runs"]["steps"]
    assert action["runs"]["using"] == "composite"
    assert all("${{" not in step["run"] for step in steps)
    passed = " ".join(steps[1]["env"].values())
    assert sorted(re.findall(r"inputs\.(\w+)", passed)) == sorted(action["inputs"])


def test_the_action_installs_this_checkout_and_its_extras(action: dict[str, Any], repository: Path) -> None:
    run = action["runs"]["steps"][0]["run"]
    (installed, extras) = re.findall(r'"(\$GITHUB_ACTION_PATH/[^"\[]*)\[([a-z,]+)\]"', run)[0]
    folder = installed.replace("$GITHUB_ACTION_PATH", str(repository / "adapters/github/verify-npm"))
    assert (Path(folder) / "pyproject.toml").resolve() == repository / "pyproject.toml"
    offered = tomllib.loads((repository / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(extras.split(",")) <= set(offered)


def test_the_action_verifies_and_writes_what_it_was_asked_for(
    job: Job, action: dict[str, Any], repository: Path
) -> None:
    done = act(job, action, repository, upstream=UPSTREAM, sarif="out.sarif", evidence="out.evidence")
    assert done.returncode == 0, done.stderr
    assert json.loads((job.project / "out.sarif").read_bytes())["version"] == "2.1.0"
    assert (job.project / "out.evidence").exists()
    assert "exit status 0" in (job.temporary / "summary").read_text()


def test_the_action_fails_as_kedge_does(job: Job, action: dict[str, Any], repository: Path) -> None:
    job.serve(Package.made("good", "1.0.0", Issuer(), files={"evil.js": b""}))
    done = act(job, action, repository, upstream=UPSTREAM)
    assert done.returncode == 5
    assert "digest-mismatch" in done.stdout
    assert "exit status 5" in (job.temporary / "summary").read_text()


def test_the_action_starts_from_a_root_of_the_project_if_it_is_told_to(
    job: Job, action: dict[str, Any], repository: Path
) -> None:
    (job.project / "root.json").write_bytes(job.world.repo.initial_root)
    given = {"anchor": "mine", "root": "root.json", "mirror": str(job.world.folder), "upstream": UPSTREAM}
    for _ in range(2):
        done = act(job, action, repository, **given)
        assert done.returncode == 0, done.stderr
    assert act(job, action, repository, root="root.json").returncode == 2


@pytest.mark.parametrize("hostile", ["$(touch pwned)", "`touch pwned`", "; touch pwned", '"; touch pwned; "', "--json"])
def test_a_hostile_input_is_a_text(job: Job, action: dict[str, Any], repository: Path, hostile: str) -> None:
    for name in ("path", "upstream", "anchor", "strict", "mirror"):
        assert act(job, action, repository, **{name: hostile}).returncode != 0 or name == "mirror"
    assert not (job.project / "pwned").exists()


def hook(repository: Path) -> dict[str, Any]:
    (found,) = yaml.safe_load((repository / ".pre-commit-hooks.yaml").read_text())
    assert isinstance(found, dict)
    return found


def hooked(job: Job, repository: Path, *arguments: str) -> int:
    """Run the hook's entry as pre-commit does."""
    environment = {"KEDGE_CONFIG_DIR": str(job.world.shell.config)}
    return job.run([*shlex.split(hook(repository)["entry"]), *arguments], **environment).returncode


def test_the_hook_verifies_each_lockfile_and_fails_if_one_does(job: Job, repository: Path) -> None:
    forged = Package.made("good", "1.0.0", Issuer(), files={"evil.js": b""})
    for name in ("-rf", "bad"):
        write_project(job.project / name, {"good": ("1.0.0", forged.integrity)}, registry=job.server.url)
    good, bad, odd = "package-lock.json", "bad/package-lock.json", "-rf/package-lock.json"
    options = (f"--upstream={UPSTREAM}", "--")
    assert hooked(job, repository, *options, good) == 0
    assert hooked(job, repository, *options, good, good) == 0
    for files in ((good, bad), (bad, good), (odd, good)):
        assert hooked(job, repository, *options, *files) == 5


def test_the_hook_says_so_if_it_cannot_tell_options_from_files(job: Job, repository: Path) -> None:
    assert hook(repository)["args"][-1] == "--"
    assert hooked(job, repository, f"--upstream={UPSTREAM}", "package-lock.json") == 2


def test_the_hook_installs_what_the_extras_ask_for(repository: Path) -> None:
    extras = tomllib.loads((repository / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert sorted(hook(repository)["additional_dependencies"]) == sorted(extras["cli"])


@pytest.mark.parametrize("name", ["package-lock.json", "a/b/pnpm-lock.yaml", "yarn.lock", "x/bun.lock"])
def test_the_hook_is_run_for_lockfiles_alone(repository: Path, name: str) -> None:
    pattern = hook(repository)["files"]
    assert re.search(pattern, name)
    folder, slash, file = name.rpartition("/")
    for other in (f"{name}.txt", f"{folder}{slash}my-{file}", f"{name}/x"):
        assert not re.search(pattern, other)

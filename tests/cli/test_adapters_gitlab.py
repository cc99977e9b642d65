"""The GitLab template: its script is run as a runner would, on the same project as the GitHub action's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from cli.test_adapters import UPSTREAM, Job, job
from interop.npm_world import Issuer, Package

__all__ = ["job"]  # the fixture


def template(repository: Path) -> dict[str, Any]:
    (found,) = yaml.safe_load((repository / "adapters/gitlab/kedge-verify-npm.yml").read_text()).values()
    assert isinstance(found, dict)
    return found


def act(job: Job, repository: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the script with this kedge in place of an installed one."""
    found = template(repository)
    commands = job.project / ".kedge-venv" / "bin"
    commands.mkdir(parents=True, exist_ok=True)
    (commands / "kedge").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m kedge "$@"\n')
    (commands / "kedge").chmod(0o755)
    given = {**found["variables"], "CI_PROJECT_DIR": str(job.project), "KEDGE_UPSTREAM": UPSTREAM}
    given |= {"KEDGE_PATH": "package-lock.json", **variables}
    given["KEDGE_STATE_DIR"] = given["KEDGE_STATE_DIR"].replace("$CI_PROJECT_DIR", str(job.project))
    environment = {**job.world.shell.environment(), **given, "KEDGE_CONFIG_DIR": str(job.world.shell.config)}
    script = "set -e\n" + "\n".join(found["script"])
    return subprocess.run(
        ["sh", "-c", script], cwd=job.project, env={**os.environ, **environment}, capture_output=True, text=True
    )


def test_the_template_verifies_and_leaves_what_it_promises(job: Job, repository: Path) -> None:
    done = act(job, repository)
    assert done.returncode == 0, done.stderr
    for name in template(repository)["artifacts"]["paths"]:
        assert (job.project / name).exists()
    assert (job.project / ".kedge-state" / "repo" / "floors.json").exists(), "the state is where the cache looks for it"


def test_the_template_fails_as_kedge_does(job: Job, repository: Path) -> None:
    job.serve(Package.made("good", "1.0.0", Issuer(), files={"evil.js": b""}))
    done = act(job, repository)
    assert done.returncode == 5
    assert "digest-mismatch" in done.stdout


def test_a_hostile_variable_is_a_text(job: Job, repository: Path) -> None:
    for hostile in ("$(touch pwned)", "; touch pwned", '"; touch pwned; "'):
        assert act(job, repository, KEDGE_PATH=hostile).returncode == 2
        assert act(job, repository, KEDGE_UPSTREAM=hostile).returncode == 2
    assert not (job.project / "pwned").exists()

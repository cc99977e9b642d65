"""What a command loads before it does anything: the verb that runs, and no other."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from kedge._cli.app import VERBS
from kedge._cli.plugins import Verb
from kedge_repo._cli.app import _VERBS as MAINTAINERS_VERBS

LOADED = """
import json, sys
from {package}.__main__ import main
sys.argv = ["command", *{arguments!r}]
code = main()
sys.stderr.write(json.dumps([code, sorted(sys.modules)]))
"""
NEVER_AT_START = {"rich", "pydantic", "sigstore", "urllib3", "tuf", "cryptography"}


def loaded(package: str, *arguments: str, **environment: str) -> set[str]:
    """The modules that a command line has loaded when it ends."""
    code = LOADED.format(package=package, arguments=list(arguments))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment or None)
    status, modules = json.loads(done.stderr)
    assert status == 0, done.stderr
    return set(modules)


def places(verbs: dict[str, Verb], path: str = "") -> Iterator[tuple[str, Verb]]:
    """Every verb of a table, with its path on the command line."""
    for name, verb in verbs.items():
        yield f"{path} {name}".strip(), verb
        yield from places(dict(verb.verbs), f"{path} {name}".strip())


@pytest.mark.parametrize("package", ["kedge", "kedge_repo"])
@pytest.mark.parametrize("option", ["--version", "--help"])
def test_the_first_answers_load_no_verb_and_nothing_heavy(package: str, option: str) -> None:
    modules = loaded(package, option)
    assert {name.partition(".")[0] for name in modules} & NEVER_AT_START == set()
    verbs = {verb.place.partition(":")[0] for _, verb in places({**VERBS, **MAINTAINERS_VERBS}) if verb.place}
    assert modules & verbs == set()


def test_help_of_a_group_loads_none_of_its_commands() -> None:
    modules = loaded("kedge", "verify", "--help")
    assert [name for name in modules if name.startswith(("kedge._cli.verify.", "kedge.registries.npm"))] == []


def test_completion_of_a_verb_loads_none() -> None:
    words = {"COMP_WORDS": "kedge verify n", "COMP_CWORD": "2", "_KEDGE_COMPLETE": "complete_bash"}
    code = "import sys; sys.argv = ['kedge']\nfrom kedge._cli.app import run\nrun([])\n"
    report = "import atexit, json, sys\natexit.register(lambda: sys.stderr.write(json.dumps(sorted(sys.modules))))\n"
    done = subprocess.run([sys.executable, "-c", report + code], capture_output=True, text=True, env=words)
    assert done.stdout.split() == ["npm", "nuget"]
    assert [name for name in json.loads(done.stderr) if name.startswith("kedge._cli.verify")] == []


@pytest.mark.parametrize(("path", "verb"), list(places({**VERBS, **MAINTAINERS_VERBS})))
def test_a_verb_is_where_the_table_says_and_its_summary_fits_a_line(path: str, verb: Verb) -> None:
    assert verb.place or verb.verbs
    if verb.place:
        module, _, name = verb.place.partition(":")
        assert callable(getattr(import_module(module), name))
    assert len(verb.summary) <= 66, path
    assert verb.summary.endswith(".")


def test_every_verifier_that_ships_is_in_the_table(repository: Path) -> None:
    text = (repository / "pyproject.toml").read_text()
    section = text[text.index('[project.entry-points."kedge.verifiers"]') :].split("\n\n", 1)[0]
    entries = dict(line.split(" = ") for line in section.splitlines()[1:])
    assert {name: f'"{verb.place}"' for name, verb in VERBS["verify"].verbs.items()} == entries

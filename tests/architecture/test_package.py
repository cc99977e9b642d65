"""What is built, and what stands there after it is installed: the wheel, an empty environment, an editable checkout.

The tests that run pip's client need its package registry for the dependencies; the others need nothing.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from kedge._version import __version__
from kedge.errors import extra_hint

REPOSITORY = Path(__file__).resolve().parents[2]
HEAVY = ("typer", "rich", "click", "pydantic", "urllib3", "sigstore", "tomlkit")
NOT_SOURCE = shutil.ignore_patterns(".*", "__pycache__", "dist", "build", "node_modules", "*.egg-info")


LOADED_BY_IMPORT = f"""
import json, sys
import kedge
print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))
"""

Require = Callable[[object, str], None]


def run(*command: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command without this process's Python settings and outside this repository."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run([str(part) for part in command], cwd=cwd, env=kept, capture_output=True, text=True)


def copy_of_the_source(folder: Path) -> Path:
    """The repository as a clone would hold it, with other times on its files."""
    copy = folder / "source"
    shutil.copytree(REPOSITORY, copy, ignore=NOT_SOURCE)
    shutil.copy(REPOSITORY / ".gitignore", copy)
    for file in copy.rglob("*"):
        os.utime(file, (1_000_000_000, 1_000_000_000))
    return copy


def build_wheel(source: Path, folder: Path) -> Path:
    """Build the wheel with the hatchling that is installed here; no network."""
    done = run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, source, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(REPOSITORY, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def install(require: Require, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """``install(*pip_arguments)`` makes an empty environment, installs there, and returns its ``bin`` folder."""
    probe = tmp_path_factory.mktemp("probe")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    reached = run(*pip, "download", "--quiet", "--no-deps", "--dest", probe, "hatchling", cwd=probe)
    require(reached.returncode == 0, f"pip cannot fetch packages here: {reached.stderr.strip()[-200:]}")

    def make(*arguments: object) -> Path:
        folder = tmp_path_factory.mktemp("environment")
        programs = folder / "bin"
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        done = run(programs / "python", *pip[1:], "install", "--quiet", *arguments, cwd=folder)
        assert done.returncode == 0, done.stdout + done.stderr
        return programs

    return make


@pytest.fixture(scope="session")
def bare(install: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment in which ``pip install .`` was run in a checkout, and nothing else."""
    return install(copy_of_the_source(tmp_path_factory.mktemp("checkout")))


def test_the_wheel_holds_the_two_packages_whole_and_nothing_else(wheel: Path) -> None:
    expected = set()
    for package in (REPOSITORY / "client" / "kedge", REPOSITORY / "repo_tools" / "kedge_repo"):
        files = [file for file in package.rglob("*") if file.is_file() and "__pycache__" not in file.parts]
        expected |= {file.relative_to(package.parent).as_posix() for file in files}
    names = zipfile.ZipFile(wheel).namelist()
    assert len(names) == len(set(names))
    code = {name for name in names if ".dist-info/" not in name}
    assert code == expected
    assert {
        "kedge/py.typed",
        "kedge_repo/py.typed",
        "kedge/_anchors/sigstore/root.json",
        "kedge/_anchors/sigstore/anchor.toml",
        "kedge_repo/_catalogue/registry.npmjs.org.json",
    } <= code
    assert {name.partition("/")[2] for name in set(names) - code} == {
        "METADATA",
        "WHEEL",
        "RECORD",
        "entry_points.txt",
        "licenses/LICENSE",
    }


def test_the_wheel_holds_code_types_anchors_catalogue_and_two_more_files_only(wheel: Path) -> None:
    code = [name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name]
    others = {name for name in code if not name.endswith((".py", "/__init__.pyi", "/py.typed"))}
    others -= {"kedge/transport/dictionary.txt", "kedge_repo/audit/style.css"}
    assert all(name.startswith(("kedge/_anchors/", "kedge_repo/_catalogue/")) for name in others), others
    assert not [name for name in code if "tests" in name.split("/") or name.rpartition("/")[2].startswith("test_")]


def test_two_builds_of_one_source_are_the_same_bytes(wheel: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    again = build_wheel(copy_of_the_source(tmp_path), out)
    assert again.name == wheel.name
    assert again.read_bytes() == wheel.read_bytes()


def test_the_source_archive_builds_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    # `python -m build` without --wheel builds the wheel out of the source archive that it made before.
    done = run(sys.executable, "-m", "build", "--no-isolation", "--outdir", tmp_path, REPOSITORY, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / wheel.name).read_bytes() == wheel.read_bytes()


@pytest.mark.parametrize(
    ("shipped", "public"),
    [("client/kedge/_anchors", "metadata/anchors"), ("repo_tools/kedge_repo/_catalogue", "metadata/registries")],
)
def test_what_ships_is_what_stands_in_metadata(shipped: str, public: str) -> None:
    def files(folder: str) -> dict[str, bytes]:
        top = REPOSITORY / folder
        found = [file for file in top.rglob("*") if file.is_file() and file.name != "README.md"]
        return {file.relative_to(top).as_posix(): file.read_bytes() for file in found}

    assert files(shipped) == files(public)
    assert files(shipped) != {}


def test_import_kedge_loads_no_command_line_and_no_network() -> None:
    done = run(sys.executable, "-c", LOADED_BY_IMPORT)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == []


def test_pip_install_of_a_checkout_brings_a_light_library(bare: Path) -> None:
    done = run(bare / "python", "-c", LOADED_BY_IMPORT)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == []
    listed = json.loads(run(bare / "python", "-m", "pip", "list", "--format=json").stdout)
    installed = {entry["name"].lower() for entry in listed}
    assert "kedge" in installed
    assert not installed & {"typer", "rich", "click", "pydantic", "tomlkit"}


@pytest.mark.parametrize("command", ["kedge", "kedge-repo"])
def test_a_command_without_the_extra_says_how_to_install_it(bare: Path, command: str) -> None:
    done = run(bare / command, "status")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"{command}: the command line is not installed\nhint: {extra_hint('cli')}\n"


def test_pip_install_of_the_wheel_with_the_extra_brings_both_commands_and_the_demo(
    install: Callable[..., Path], wheel: Path
) -> None:
    programs = install(f"{wheel}[cli]")
    for command in ("kedge", "kedge-repo"):
        assert run(programs / command, "--version").stdout.split() == [command, __version__]
        done = run(programs / command, "--help")
        assert (done.returncode, done.stderr) == (0, "")
        assert "Usage: " in done.stdout
    played = run(programs / "kedge", "demo", "--json", cwd=programs)
    assert (played.returncode, played.stderr) == (0, "")
    assert json.loads(played.stdout)["kept"] is True


def test_pip_install_editable_runs_the_checkout_itself(install: Callable[..., Path], tmp_path: Path) -> None:
    source = copy_of_the_source(tmp_path)
    programs = install("--editable", f"{source}[cli]")
    where = "import kedge, kedge_repo; print(kedge.__file__); print(kedge_repo.__file__)"
    found = run(programs / "python", "-c", where, cwd=tmp_path).stdout.split()
    assert found == [str(source / "client/kedge/__init__.py"), str(source / "repo_tools/kedge_repo/__init__.py")]
    assert run(programs / "kedge", "--version").returncode == 0

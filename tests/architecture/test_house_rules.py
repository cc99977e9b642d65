"""The rules of the house that a machine can check (CONTRIBUTING.md); the linters check the rest."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import grimp
import pytest

import kedge

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGES = {"kedge": REPOSITORY / "client" / "kedge", "kedge_repo": REPOSITORY / "repo_tools" / "kedge_repo"}
MODULES = sorted(file for folder in PACKAGES.values() for file in folder.rglob("*.py"))
TREES = {file: ast.parse(file.read_bytes()) for file in MODULES}

MAX_PUBLIC_NAMES = 15
MAX_PARAMETERS = 10
VAGUE_NAMES = {"utils", "util", "common", "helpers", "helper", "base", "misc"}
ECOSYSTEMS = ("apt", "go", "hex", "npm", "nuget", "pgp", "pub", "pypi", "sigstore")
ROOMS = {
    *(f"kedge.{room}" for room in ("_cli", "audit", "client", "mirror", "registries", "tlog", "transport", "tuf")),
    *(f"kedge.registries.{ecosystem}" for ecosystem in ECOSYSTEMS),
    *(f"kedge_repo.{room}" for room in ("_cli", "audit", "bins", "demo", "events", "publish", "signing", "workspace")),
}

# A key as PEM holds it, in a file of its own or inside a text with escaped line ends.
PRIVATE_KEY = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----(?:\\r|\\n|\s)+[A-Za-z0-9+/=]{16}")


def name_of(file: Path) -> str:
    """The path of a file below the repository."""
    return file.relative_to(REPOSITORY).as_posix()


def module_of(file: Path) -> str:
    """The dotted name of a module."""
    package = next(name for name, folder in PACKAGES.items() if folder in file.parents)
    parts = file.relative_to(PACKAGES[package]).with_suffix("").parts
    return ".".join([package, *parts]).removesuffix(".__init__")


def room_of(module: str) -> str | None:
    """The room that a module is in; None for what stands at the top of a package."""
    parts = module.split(".")
    names = (".".join(parts[:end]) for end in range(len(parts), 0, -1))
    return next((name for name in names if name in ROOMS), None)


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function and method of a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def files_in_the_tree() -> list[Path]:
    """Every file that is, or may be, committed: what git knows and what it does not ignore."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        capture_output=True,
        check=True,
    )
    names = [name for name in listed.stdout.decode().split("\0") if name]
    return [REPOSITORY / name for name in names if (REPOSITORY / name).is_file()]


def is_private(file: Path) -> bool:
    """Whether a module or a package above it is private: ``__init__``, ``__main__``, what lies in ``_cli``."""
    return any(part.startswith("_") for part in file.relative_to(REPOSITORY).with_suffix("").parts)


def test_nothing_but_the_two_packages_stands_in_the_source_folders() -> None:
    # In editable mode client/ and repo_tools/ are on sys.path: a module there would be importable, and only there.
    for folder in PACKAGES.values():
        assert [file.name for file in folder.parent.glob("*.py")] == []


def test_no_module_has_a_vague_name() -> None:
    parts = {name_of(file): set(file.relative_to(REPOSITORY).with_suffix("").parts) for file in MODULES}
    assert [name for name, found in parts.items() if found & VAGUE_NAMES] == []


def test_every_module_has_a_docstring() -> None:
    silent = [name_of(file) for file, tree in TREES.items() if not ast.get_docstring(tree)]
    assert silent == [], "the first thing in a module says what it is"


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_a_door_tells_programs_and_type_checkers_the_same(room: str) -> None:
    package = room.split(".", maxsplit=1)[0]
    folder = PACKAGES[package].joinpath(*room.split(".")[1:])
    offered = getattr(import_module(room), "__all__", [])
    stub = folder / "__init__.pyi"
    written = {
        alias.name: node.module
        for node in ast.walk(ast.parse(stub.read_bytes() if stub.is_file() else b""))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert sorted(written) == sorted(offered)
    for name, module in written.items():
        assert getattr(import_module(room), name) is getattr(import_module(str(module)), name)


def test_rooms_are_entered_by_their_doors() -> None:
    """A module imports another room's names from the room, and its own room's from the modules."""
    graph = grimp.build_graph("kedge", "kedge_repo", cache_dir=None)
    offenders = []
    for module in graph.modules:
        here = room_of(module)
        for other in graph.find_modules_directly_imported_by(module):
            there = room_of(other)
            if there != here and other != there and there is not None:
                offenders.append(f"{module} imports {other}, not {there}")
            if there == here and other == there and module != here:
                offenders.append(f"{module} imports its own door")
    assert offenders == []


def names_taken(here: str | None, tree: ast.Module) -> Iterator[tuple[str, str]]:
    """What a module takes from other rooms' doors, as (room, name)."""
    whole = {}  # the local name of a room that is imported as a whole
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module is not None:
            for alias in node.names:
                if node.module in ROOMS and node.module != here:
                    yield node.module, alias.name
                whole[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and whole.get(node.value.id) in ROOMS:
            yield whole[node.value.id], node.attr


def test_every_name_of_a_door_is_used_outside_of_its_room() -> None:
    used = {taken for file, tree in TREES.items() for taken in names_taken(room_of(module_of(file)), tree)}
    used |= set(re.findall(r'"(kedge[\w.]*):(\w+)"', (REPOSITORY / "pyproject.toml").read_text()))
    offered = {(room, name) for room in ROOMS for name in getattr(import_module(room), "__all__", [])}
    assert sorted(offered - used) == []


def test_no_function_takes_more_parameters_than_one_remembers() -> None:
    """But for commands, whose options are parameters."""
    long = []
    for file, tree in TREES.items():
        for function in () if "_cli" in file.parts else functions(tree):
            given = function.args
            count = len([*given.posonlyargs, *given.args, *given.kwonlyargs])
            if count - (given.args[:1] != [] and given.args[0].arg in ("self", "cls")) > MAX_PARAMETERS:
                long.append(f"{name_of(file)}: {function.name} takes {count}")
    assert long == []


def test_nothing_catches_everything() -> None:
    caught = []
    for file, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ExceptHandler):
                names = (
                    [part.id for part in ast.walk(node.type) if isinstance(part, ast.Name)] if node.type else ["bare"]
                )
                last = node.body[-1]
                cleans_up = names == ["BaseException"] and isinstance(last, ast.Raise) and last.exc is None
                if not cleans_up:
                    broad = {"bare", "Exception", "BaseException"}
                    caught += [f"{name_of(file)}:{node.lineno}" for name in names if name in broad]
    assert caught == []


def test_only_the_command_line_reads_the_system_clock() -> None:
    calls = []
    for file, tree in TREES.items():
        if "_cli" in file.parts or file == PACKAGES["kedge"] / "client" / "settings.py":
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                called = f"{node.value.id}.{node.attr}"
                if called in {"datetime.now", "datetime.utcnow", "datetime.today", "date.today", "time.time"}:
                    calls.append(f"{name_of(file)}:{node.lineno}: {called}")
    assert calls == []


def test_no_private_key_is_in_the_tree() -> None:
    files = files_in_the_tree()
    assert len(files) > len(MODULES) / 2, "git lists the files of this repository"
    assert [name_of(file) for file in files if PRIVATE_KEY.search(file.read_bytes())] == []


def test_the_search_for_private_keys_finds_one() -> None:
    # Put together here, so that the file itself holds none.
    dashes, body = b"-----", b"MC4CAQAwBQYDK2VwBCIEIA"
    for line_end in (b"\n", b"\r\n", b"\\n"):
        for kind in (b"PRIVATE KEY", b"ENCRYPTED PRIVATE KEY", b"OPENSSH PRIVATE KEY"):
            assert PRIVATE_KEY.search(dashes + b"BEGIN " + kind + dashes + line_end + body)


def test_every_public_callable_says_what_it_raises() -> None:
    silent = []
    for file, tree in TREES.items():
        for owner in () if is_private(file) else ast.walk(tree):
            if not isinstance(owner, ast.Module | ast.ClassDef) or getattr(owner, "name", "").startswith("_"):
                continue
            said_for_all = "Raises" in (ast.get_docstring(owner) or "") if isinstance(owner, ast.ClassDef) else False
            for each in owner.body:
                if not isinstance(each, ast.FunctionDef) or each.name.startswith("_") or said_for_all:
                    continue
                if any(raised(each)) and "Raises" not in (ast.get_docstring(each) or ""):
                    silent.append(f"{name_of(file)}: {each.name}")
    assert silent == []


def raised(function: ast.FunctionDef) -> Iterator[ast.Raise]:
    """What a function raises by itself, not counting what is raised again or inside other functions."""
    left: list[ast.AST] = list(function.body)
    while left:
        node = left.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            continue
        if isinstance(node, ast.Raise) and node.exc is not None:
            yield node
        left += ast.iter_child_nodes(node)


def test_no_modules_import_each_other_in_a_circle() -> None:
    # Imports inside functions count as well: what can only be read together is one module.
    graph = grimp.build_graph("kedge", "kedge_repo", cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    while free := [module for module, needed in imports.items() if not needed & imports.keys()]:
        for module in free:
            del imports[module]
    assert {module: needed & imports.keys() for module, needed in imports.items()} == {}


def test_the_library_offers_no_more_names_than_one_remembers() -> None:
    assert len(kedge.__all__) <= MAX_PUBLIC_NAMES


def test_the_contracts_between_the_rooms_are_kept() -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout

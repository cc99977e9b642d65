"""The rules of the house that a machine can check (CONTRIBUTING.md); the linters check the rest."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

import grimp
import pytest

import kedge

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGES = {"kedge": REPOSITORY / "client" / "kedge", "kedge_repo": REPOSITORY / "repo_tools" / "kedge_repo"}
MODULES = sorted(file for folder in PACKAGES.values() for file in folder.rglob("*.py"))

MAX_MODULE_LINES = 300
MAX_FUNCTION_LINES = 40
MAX_PUBLIC_NAMES = 15
VAGUE_NAMES = {"utils", "util", "common", "helpers", "helper", "base", "misc"}

# A key as PEM holds it, in a file of its own or inside a text with escaped line ends.
PRIVATE_KEY = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----(?:\\r|\\n|\s)+[A-Za-z0-9+/=]{16}")


def name_of(file: Path) -> str:
    """The path of a module as it stands in a test's id."""
    return file.relative_to(REPOSITORY).as_posix()


def docstring_of(node: ast.AST) -> ast.Expr | None:
    """The expression that is the docstring of a module, class or function."""
    body = getattr(node, "body", None)
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and body:
        first = body[0]
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
            return first
    return None


def code_lines(file: Path, tree: ast.Module) -> set[int]:
    """The numbers of the lines that hold code: no blank lines, comments or docstrings."""
    quiet = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    lines: set[int] = set()
    with file.open("rb") as stream:
        for token in tokenize.tokenize(stream.readline):
            if token.type not in quiet and token.type != tokenize.ENCODING:
                lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(tree):
        docstring = docstring_of(node)
        if docstring is not None:
            lines.difference_update(range(docstring.lineno, (docstring.end_lineno or docstring.lineno) + 1))
    return lines


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


def is_public(file: Path) -> bool:
    """True unless the module or a package above it is private: ``__init__``, ``__main__``, what lies in ``_cli``."""
    return not any(part.startswith("_") for part in file.relative_to(REPOSITORY).with_suffix("").parts)


every_module = pytest.mark.parametrize("module", MODULES, ids=name_of)


def test_nothing_but_the_two_packages_stands_in_the_source_folders() -> None:
    # In editable mode client/ and repo_tools/ are on sys.path: a module there would be importable, and only there.
    for folder in PACKAGES.values():
        assert [file.name for file in folder.parent.glob("*.py")] == []


def test_no_module_has_a_vague_name() -> None:
    parts = {name_of(file): set(file.relative_to(REPOSITORY).with_suffix("").parts) for file in MODULES}
    assert [name for name, found in parts.items() if found & VAGUE_NAMES] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_a_stranger_finds_every_room_named(package: str) -> None:
    """CONTRIBUTING.md has a table for each package, which names every room in it and none that is not there."""
    text = (REPOSITORY / "CONTRIBUTING.md").read_text()
    header = f"| room of `{name_of(PACKAGES[package])}` |"
    rows = text[text.index(header) :].split("\n\n", 1)[0].splitlines()[2:]
    named = {name for row in rows for name in re.findall(r"`([a-z_]+)/?`", row.split(" | ")[0])}
    here = PACKAGES[package].iterdir()
    rooms = {entry.stem for entry in here if entry.suffix == ".py" or (entry / "__init__.py").is_file()}
    assert named == rooms - {"__init__", "__main__", "_version"}


@every_module
def test_a_module_has_a_docstring(module: Path) -> None:
    assert ast.get_docstring(ast.parse(module.read_bytes())), "the first thing in a module says what it is"


@pytest.mark.parametrize("module", [file for file in MODULES if is_public(file)], ids=name_of)
def test_a_public_module_says_what_is_public(module: Path) -> None:
    tree = ast.parse(module.read_bytes())
    targets = [target for node in tree.body if isinstance(node, ast.Assign) for target in node.targets]
    assert "__all__" in [target.id for target in targets if isinstance(target, ast.Name)]


@every_module
def test_a_module_is_one_idea_and_so_is_a_function(module: Path) -> None:
    tree = ast.parse(module.read_bytes())
    lines = code_lines(module, tree)
    assert len(lines) <= MAX_MODULE_LINES
    long = {}
    for function in functions(tree):
        # From the first statement on: a command's options stand in its signature, and take a line each.
        count = len(lines & set(range(function.body[0].lineno, (function.end_lineno or function.lineno) + 1)))
        if count > MAX_FUNCTION_LINES:
            long[function.name] = count
    assert long == {}


@every_module
def test_nothing_catches_everything(module: Path) -> None:
    caught = []
    for node in ast.walk(ast.parse(module.read_bytes())):
        if isinstance(node, ast.ExceptHandler):
            names = [part.id for part in ast.walk(node.type) if isinstance(part, ast.Name)] if node.type else ["bare"]
            last = node.body[-1]
            cleans_up = names == ["BaseException"] and isinstance(last, ast.Raise) and last.exc is None
            if not cleans_up:
                caught += [(node.lineno, name) for name in names if name in {"bare", "Exception", "BaseException"}]
    assert caught == []


@every_module
def test_only_the_command_line_reads_the_system_clock(module: Path) -> None:
    calls = []
    for node in ast.walk(ast.parse(module.read_bytes())):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            called = f"{node.value.id}.{node.attr}"
            if called in {"datetime.now", "datetime.utcnow", "datetime.today", "date.today", "time.time"}:
                calls.append((node.lineno, called))
    at_the_edge = module.name == "clock.py" or "_cli" in module.parts
    assert at_the_edge or calls == []


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


@pytest.mark.parametrize("module", [file for file in MODULES if is_public(file)], ids=name_of)
def test_a_public_callable_says_what_it_raises(module: Path) -> None:
    silent = []
    for owner in ast.walk(ast.parse(module.read_bytes())):
        if not isinstance(owner, ast.Module | ast.ClassDef) or getattr(owner, "name", "").startswith("_"):
            continue
        said_for_all = "Raises" in (ast.get_docstring(owner) or "") if isinstance(owner, ast.ClassDef) else False
        for each in owner.body:
            if not isinstance(each, ast.FunctionDef) or each.name.startswith("_") or said_for_all:
                continue
            if any(raised(each)) and "Raises" not in (ast.get_docstring(each) or ""):
                silent.append(each.name)
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
    graph = grimp.build_graph("kedge", "kedge_repo")
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    while free := [module for module, needed in imports.items() if not needed & imports.keys()]:
        for module in free:
            del imports[module]
    assert {module: needed & imports.keys() for module, needed in imports.items()} == {}


def test_the_library_offers_no_more_names_than_one_remembers() -> None:
    assert len(kedge.__all__) <= MAX_PUBLIC_NAMES


def test_the_arrows_between_the_modules_are_kept() -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout

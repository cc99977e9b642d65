"""Takes out the client's checks, one at a time, and asks the tests whether they notice.

``make mutants`` makes a copy of the package ``kedge`` for each check of ``checks.py`` and ``workflow.py``, and for each
rule of ``metadata.py`` on which signatures count, without that check, and runs the tests of the workflow and of the
hostile repositories on it until one fails. Each check is printed with the step of the specification that it bears (the
comment above it, or, for a function that several steps share, the steps that call it) and with the test that noticed.
A check that nobody misses is a survivor: the exit status is 1.

What counts as a check, and how it is taken out (see :func:`find_mutants`): a statement that calls one, a condition
with a consequence, one part of a condition, a bound on a value, a floor that an accepted file raises, a file that is
kept, and the few in ``SPECIAL`` that are none of these. Conditions that guard against a mistake of our own (they raise
``RuntimeError``) are no checks.

    python tests/mutants/mutants.py [--jobs N] [--only TEXT] [--list]
"""

from __future__ import annotations

import argparse
import ast
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tokenize
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

__all__ = [
    "HARMLESS",
    "MODULES",
    "PACKAGE",
    "ROOM",
    "Mutant",
    "Verdict",
    "find_mutants",
    "judge",
    "unchanged",
    "why_harmless",
]

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "client" / "kedge"
ROOM = "tuf"
MODULES = ("checks.py", "workflow.py", "metadata.py")
TESTS = (
    "tests/client/test_workflow_root.py",
    "tests/client/test_workflow_online.py",
    "tests/client/test_workflow_targets.py",
    "tests/client/test_checks.py",
    "tests/client/test_signature_count.py",
    "tests/client/test_transport_access.py::test_in_sequence_there_is_one_request_at_a_time_on_one_connection",
    "tests/attacks/test_lying_repository.py",
    "tests/attacks/test_rollback_after_change.py",
    "tests/attacks/test_documents.py",
    "tests/attacks/test_publish_race.py",
    "tests/attacks/test_time.py",
    "tests/attacks/test_state.py",
    "tests/attacks/test_mirrors.py",
    "tests/attacks/test_hostile_server.py",
    "tests/attacks/test_machine.py::test_b7_a_scheme_that_this_machine_cannot_check_is_not_called_an_attack",
    "tests/attacks/test_machine.py::test_b7_a_scheme_that_this_machine_cannot_check_hinders_nobody_where_other_keys_suffice",
)
TIMEOUT_S = 240

CHECK_CALL = re.compile(r"_?(require|check|verify)(_\w+)?|text|integer|boolean|table|time|_\w+_shape|\w+_shape")
"""The functions whose call, as a statement of its own, is a check: it returns nothing of use, or it raises."""
BOUNDS = frozenset({"every", "floors", "minimum", "maximum", "pattern", "again"})
"""The arguments without which a call checks less, or a state forgets."""

WORDING = frozenset({"describe_age", "_expired_hint"})
"""Functions that choose words and decide nothing."""

COUNTING = frozenset({"parse", "require_threshold", "count_signatures", "_role_shape"})
COUNTING |= {"_is_right", "_readable_key", "_material", "_material_of"}
"""What is mutated of ``metadata.py``: its other rules are the shapes of fields, which python-tuf checks as well."""

SPECIAL: tuple[tuple[str, str, str, str], ...] = (
    ("metadata.py", "valid.setdefault(material, keyid)", "valid.setdefault(keyid, keyid)", "one key counts once"),
    ("metadata.py", "text = loaded.public_bytes(", "loaded.public_bytes(", "one key in two PEM texts counts once"),
    ("checks.py", "len(still_trusted) < root", "len(still_trusted) < 0 * root", "what replacing keys means"),
    ("workflow.py", "freshness = freshness.above(state.floors)", "pass", "the floor of time"),
    ("workflow.py", "checks.settle_floors(state, recorded)", "state", "the floors of earlier runs"),
)
"""Module, text that stands there once, what to put in its place, and what that takes out."""

HARMLESS: tuple[tuple[str, str, str], ...] = (
    (
        "checks.py",
        "without: if not signed.is_expired(freshness.reference_time): return",
        "an age below zero is within every staleness",
    ),
    (
        "metadata.py",
        "without the part: not signature.signature",
        "an empty signature is right for no key",
    ),
    (
        "metadata.py",
        "without: if len(valid) >= listed.threshold and (not every): break",
        "it spares checking more signatures than are asked for",
    ),
    (
        "metadata.py",
        "without: if checked is not None and name in checked: return",
        "it spares checking a signature twice",
    ),
    (
        "metadata.py",
        "without: if checked is not None: checked[name] = right",
        "it spares checking a signature twice",
    ),
    (
        "metadata.py",
        "without the part: key.keytype == key.scheme",
        "a key of an ECDSA scheme has the old type or the new one, and becomes one of the new one",
    ),
    (
        "workflow.py",
        "without: if role in state.roles:",
        "it spares a second reading: what is recalled passes the same checks",
    ),
)
"""Module, how what is taken out begins, and why that changes no answer: such a mutant is listed and not run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One module without one check: its whole changed ``source``."""

    module: str
    line: int
    step: str
    what: str
    source: str

    def __str__(self) -> str:
        return f"{self.module}:{self.line}  {self.step}  {self.what}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the tests say: ``killer`` is the test that fails, None where all pass."""

    mutant: Mutant
    killer: str | None
    seconds: float


def main() -> int:
    """Print every mutant with the test that notices it; 1 if one survives, 2 if the tests fail without any."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many run at a time")
    parser.add_argument("--only", default="", help="only mutants whose line of the list holds this text")
    parser.add_argument("--list", action="store_true", help="print the mutants and run nothing")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kedge-mutants-") as folder:
        # A copy, so that whoever works on the package meanwhile changes nothing here.
        package = shutil.copytree(PACKAGE, Path(folder, "kedge"), ignore=shutil.ignore_patterns("__pycache__"))
        sources = {module: (package / ROOM / module).read_text() for module in MODULES}
        mutants = [mutant for mutant in find_mutants(sources) if options.only in str(mutant)]
        if options.list:
            print(*mutants, sep="\n")
            return 0
        judge_one = partial(judge, tests=TESTS, package=package)
        first = judge_one(unchanged("checks.py", sources["checks.py"]))
        if first.killer is not None:
            print(f"the tests fail without any mutant: {first.killer}", file=sys.stderr)
            return 2
        return _report(mutants, judge_one, options.jobs)


def _report(mutants: Sequence[Mutant], judge_one: Callable[[Mutant], Verdict], jobs: int) -> int:
    begun, run, survivors = time.monotonic(), [], []
    for mutant in mutants:
        if (reason := why_harmless(mutant)) is None:
            run.append(mutant)
        else:
            print(f"{mutant}\n    harmless: {reason}")
    with ThreadPoolExecutor(jobs) as pool:
        for verdict in pool.map(judge_one, run):
            print(f"{verdict.mutant}\n    {_fate(verdict)}", flush=True)
            if verdict.killer is None:
                survivors.append(verdict.mutant)
    minutes, seconds = divmod(round(time.monotonic() - begun), 60)
    took = f"{minutes} min {seconds} s with {jobs} at a time"
    print(f"\n{len(run)} mutants, {len(survivors)} survive; {len(mutants) - len(run)} harmless; {took}")
    print(*(f"SURVIVES  {mutant}" for mutant in survivors), sep="\n")
    return 1 if survivors else 0


def why_harmless(mutant: Mutant) -> str | None:
    """Why a mutant changes no answer, where that is known."""
    for module, what, reason in HARMLESS:
        if mutant.module == module and mutant.what.startswith(what):
            return reason
    return None


def find_mutants(sources: dict[str, str]) -> list[Mutant]:
    """Every module of ``sources`` without each of its checks."""
    steps = Steps(sources)
    found: list[Mutant] = []
    for module, source in sources.items():
        tree = ast.parse(source)
        for node, what, change in _sites(tree):
            if module == "metadata.py" and steps.function(module, node.lineno) not in COUNTING and "seen" not in what:
                continue
            with _changed(change):
                changed = ast.unparse(ast.fix_missing_locations(tree))
            found.append(
                Mutant(module=module, line=node.lineno, step=steps.of(module, node.lineno), what=what, source=changed)
            )
        found += _special(module, source, steps)
    return sorted(found, key=lambda mutant: (MODULES.index(mutant.module), mutant.line))


def unchanged(module: str, source: str) -> Mutant:
    """A mutant that takes nothing out: written anew from its syntax tree, as the others are."""
    return Mutant(module=module, line=0, step="-", what="nothing taken out", source=ast.unparse(ast.parse(source)))


def judge(mutant: Mutant, tests: Iterable[str], *, package: Path = PACKAGE, timeout_s: float = TIMEOUT_S) -> Verdict:
    """Run the tests on a copy of ``package`` that holds the mutant, until one fails."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="kedge-mutant-") as folder:
        shutil.copytree(package, Path(folder, "kedge"), ignore=shutil.ignore_patterns("__pycache__"))
        Path(folder, "kedge", ROOM, mutant.module).write_text(mutant.source)
        path = os.pathsep.join([folder, str(REPOSITORY / "repo_tools")])
        environment = {
            **os.environ,
            "PYTHONPATH": path,
            "PYTHONDONTWRITEBYTECODE": "1",
            "HYPOTHESIS_STORAGE_DIRECTORY": str(Path(folder, "hypothesis")),
        }
        options = ["-x", "-q", "--tb=no", "--no-header", "-p", "no:cacheprovider", "--basetemp", str(Path(folder, "t"))]
        command = [sys.executable, "-m", "pytest", *options, *tests]
        try:
            done = subprocess.run(
                command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=timeout_s
            )
        except subprocess.TimeoutExpired:
            return Verdict(mutant=mutant, killer="no end in time", seconds=time.monotonic() - begun)
    return Verdict(mutant=mutant, killer=_killer(done), seconds=time.monotonic() - begun)


def _killer(done: subprocess.CompletedProcess[str]) -> str | None:
    if done.returncode == 0:
        return None
    failed = re.search(r"^(?:FAILED|ERROR) (?:tests/)?(\S+)", done.stdout, re.MULTILINE)
    return failed[1] if failed else f"pytest ends with {done.returncode}: {(done.stdout + done.stderr)[-200:]!r}"


def _fate(verdict: Verdict) -> str:
    return f"killed by {verdict.killer}" if verdict.killer is not None else "SURVIVES"


# Where the checks are

Undo = Callable[[], None]
Change = Callable[[], Undo]
Site = tuple[ast.stmt | ast.expr, str, Change]


def _sites(tree: ast.Module) -> Iterator[Site]:
    conditions = {id(part) for node in ast.walk(tree) for part in _conditions(node)}
    wording = {id(part) for node in tree.body if getattr(node, "name", "") in WORDING for part in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) in wording:
            continue
        for body in (getattr(node, field, None) for field in ("body", "orelse", "finalbody")):
            if isinstance(body, list):
                for index, statement in enumerate(body):
                    yield from _statement_sites(node, body, index, statement)
        if isinstance(node, ast.BoolOp) and id(node) in conditions:
            for index, part in enumerate(node.values):
                if not _asks_only_whether_it_is_there(part):
                    yield part, f"without the part: {_shown(part)}", _dropping(node.values, index)
        elif isinstance(node, ast.Call):
            yield from _call_sites(node)


def _conditions(node: ast.AST) -> Iterator[ast.AST]:
    """Every part of a condition; ``a or b`` elsewhere only chooses a value."""
    match node:
        case ast.If(test=test) | ast.While(test=test) | ast.IfExp(test=test):
            yield from ast.walk(test)
        case ast.BoolOp(op=ast.And()):
            yield from ast.walk(node)
        case _:
            pass


def _statement_sites(owner: ast.AST, body: list[ast.stmt], index: int, statement: ast.stmt) -> Iterator[Site]:
    nothing = _replacing(body, index, ast.Pass())
    match statement:
        case ast.If(orelse=[]) if not _is_our_mistake(statement):
            yield statement, f"without: if {_shown(statement.test)}: {_shown(statement.body[-1])}", nothing
        case ast.Assign(value=ast.Call(func=ast.Name(id="require_threshold") as function)):
            yield (
                statement,
                f"counted, not required: {_shown(statement.value)}",
                _renaming(function, "count_signatures"),
            )
        case ast.Expr(value=ast.Call(func=function)) if CHECK_CALL.fullmatch(_name(function)):
            yield statement, f"without: {_shown(statement)}", nothing
        case ast.Expr(value=ast.Yield(value=ast.Call(func=ast.Name(id="Accepted")))):
            # Whoever drives a generator is asked nothing then: what passed is not kept.
            yield statement, f"without: {_shown(statement)}", nothing
        case ast.Continue() if isinstance(owner, ast.ExceptHandler):
            yield statement, f"on with it after: except {_shown(owner.type)}", nothing
        case ast.Assign(value=ast.Constant(value=False)) if isinstance(owner, ast.ExceptHandler):
            taken_for_true = ast.Assign(targets=statement.targets, value=ast.Constant(value=True))
            change = _replacing(body, index, taken_for_true)
            yield statement, f"taken for true: {_shown(statement)} after except {_shown(owner.type)}", change
        case _:
            pass


def _call_sites(call: ast.Call) -> Iterator[Site]:
    for index, keyword in enumerate(call.keywords):
        if keyword.arg in BOUNDS and not _is_constructor(call):
            yield (
                call,
                f"{_name(call.func)} without: {keyword.arg}={_shown(keyword.value)}",
                _dropping(call.keywords, index),
            )


def _asks_only_whether_it_is_there(part: ast.expr) -> bool:
    """Such a part protects the parts behind it from None or another type; mypy asks for it, and sees to it."""
    match part:
        case ast.Compare(ops=[ast.Is() | ast.IsNot()], comparators=[ast.Constant(value=None)]):
            return True
        case ast.Call(func=ast.Name(id="isinstance")):
            return True
    return False


def _is_constructor(call: ast.Call) -> bool:
    return _name(call.func)[:1].isupper()


def _is_our_mistake(statement: ast.If) -> bool:
    match statement.body[-1]:
        case ast.Raise(exc=ast.Call(func=ast.Name(id="RuntimeError"))):
            return True
    return False


def _special(module: str, source: str, steps: Steps) -> Iterator[Mutant]:
    for where, old, new, what in SPECIAL:
        if where == module:
            if source.count(old) != 1:
                raise ValueError(f"{module}: {old!r} stands there {source.count(old)} times, expected once")
            line = source[: source.index(old)].count("\n") + 1
            changed = source.replace(old, new)
            yield Mutant(module=module, line=line, step=steps.of(module, line), what=f"without: {what}", source=changed)


# How a check is taken out, and put back


@contextmanager
def _changed(change: Change) -> Iterator[None]:
    undo = change()
    try:
        yield
    finally:
        undo()


def _replacing(items: list[ast.stmt], index: int, new: ast.stmt) -> Change:
    def change() -> Undo:
        old, items[index] = items[index], new
        return lambda: items.__setitem__(index, old)

    return change


def _dropping(items: list[ast.expr] | list[ast.keyword], index: int) -> Change:
    def change() -> Undo:
        old = items.pop(index)
        return lambda: items.insert(index, old)  # type: ignore[arg-type]  # it comes from this very list

    return change


def _renaming(name: ast.Name, new: str) -> Change:
    def change() -> Undo:
        old, name.id = name.id, new
        return lambda: setattr(name, "id", old)

    return change


def _name(function: ast.expr) -> str:
    match function:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def _shown(node: ast.AST | None) -> str:
    text = " ".join(ast.unparse(node).split()) if node is not None else ""
    return text if len(text) <= 90 else f"{text[:87]}..."


# Which step a line bears


class Steps:
    """Knows the comments with steps, and which function is called where."""

    def __init__(self, sources: dict[str, str]) -> None:
        self._comments: dict[str, list[tuple[int, str]]] = {}
        self._functions: dict[str, list[ast.FunctionDef]] = {}
        self._calls: list[tuple[str, int, str]] = []
        for module, source in sources.items():
            tokens = tokenize.generate_tokens(io.StringIO(source).readline)
            self._comments[module] = [
                (token.start[0], found[0])
                for token in tokens
                if token.type == tokenize.COMMENT and (found := re.search(r"§[\d.]+\d( to §[\d.]+\d)?", token.string))
            ]
            nodes = list(ast.walk(ast.parse(source)))
            self._functions[module] = [node for node in nodes if isinstance(node, ast.FunctionDef)]
            self._calls += [
                (module, node.lineno, name)
                for node in nodes
                if isinstance(node, ast.Name | ast.Attribute) and (name := _name(node))
            ]

    def of(self, module: str, line: int) -> str:
        """The step whose comment stands last above ``line``, or the steps that lead to its function."""
        return ", ".join(sorted(self._of(module, line, frozenset()), key=_numbers)) or "-"

    def function(self, module: str, line: int) -> str:
        """The name of the function that a line stands in."""
        return next(
            (node.name for node in self._functions[module] if node.lineno <= line <= (node.end_lineno or 0)), ""
        )

    def _of(self, module: str, line: int, seen: frozenset[str]) -> set[str]:
        around = [node for node in self._functions[module] if node.lineno <= line <= (node.end_lineno or 0)]
        if not around or around[0].name in seen:
            return set()
        function = around[0]
        last = function.end_lineno or function.lineno
        within = [(number, step) for number, step in self._comments[module] if function.lineno <= number <= last]
        if within:
            return {next((step for number, step in reversed(within) if number <= line), within[0][1])}
        if function.name == "parse" or function.name.endswith("_shape"):
            return {"§4"}  # the formats, which every step reads
        return {
            step
            for where, called_at, name in self._calls
            if name == function.name
            for step in self._of(where, called_at, seen | {function.name})
        }


def _numbers(step: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", step)]


if __name__ == "__main__":
    sys.exit(main())

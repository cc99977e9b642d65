"""C19 and A28: what a reader of foreign bytes costs grows with the input, and its memory is bounded by it.

Each worst input is read at one size and at four times that size, each in a process of its own.
"""

from __future__ import annotations

import ast
import importlib
import json
import os
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from re import _parser  # type: ignore[attr-defined] # the parser of re itself has no public name
from typing import Any

import pytest

import kedge
from bounds.reading import SHAPES

TESTS = Path(__file__).parent.parent
CLIENT = TESTS.parent / "client" / "kedge"
SMALL, LARGE = 1 << 20, 4 << 20
SLACK_S = 1.0
"""What a machine under load may add to either of two measurements of CPU time."""

CONSTANT_BYTES = 160 << 20
"""What a reader may take beside eight times its input: the budget for tiny values in ``documents``, and buffers."""


def cost(name: str, size: int) -> dict[str, float]:
    environment = {**os.environ, "PYTHONPATH": f"{TESTS}{os.pathsep}{TESTS.parent / 'client'}"}
    command = [sys.executable, "-m", "bounds.reading", name, str(size)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("name", SHAPES)
def test_c19_time_is_linear_and_memory_is_bounded(name: str) -> None:
    small, large = cost(name, SMALL), cost(name, LARGE)
    assert large["length"] > 3 * small["length"]
    # Linear is 4 times as long; quadratic is 16 times.
    assert large["cpu_s"] <= 8 * small["cpu_s"] + SLACK_S
    assert large["memory"] <= 8 * large["length"] + CONSTANT_BYTES


@pytest.mark.parametrize("name", [name for name in SHAPES if name.startswith("json-")])
def test_a28_sixty_megabytes_of_metadata_cost_eight_times_their_size_at_most(name: str) -> None:
    found = cost(name, 60_000_000)
    assert found["memory"] <= 8 * found["length"]


def has_nested_quantifiers(pattern: str, flags: int = 0) -> bool:
    """Whether a group that is repeated holds nothing but what is repeated: exponential where it fails late."""
    parsed = _walk(_parser.parse(pattern, flags))
    return any(_is_ambiguous(arguments) for operation, arguments in parsed if _repeats(operation))


def _repeats(operation: object) -> bool:
    return str(operation) in ("MAX_REPEAT", "MIN_REPEAT")  # a possessive one cannot be tried again


def _walk(items: Any) -> Iterator[tuple[Any, Any]]:
    for operation, arguments in items:
        yield operation, arguments
        yield from _inside(arguments)


def _inside(arguments: Any) -> Iterator[tuple[Any, Any]]:
    for each in arguments if isinstance(arguments, tuple | list) else ():
        yield from _walk(each) if isinstance(each, _parser.SubPattern) else _inside(each)


def _is_ambiguous(arguments: Any) -> bool:
    _, most, body = arguments
    items = list(body)
    while len(items) == 1 and str(items[0][0]) == "SUBPATTERN":
        items = list(items[0][1][-1])
    if int(most) <= 1 or not items:
        return False
    if len(items) == 1 and str(items[0][0]) == "BRANCH":
        return any(_is_only_repeats(list(branch)) for branch in items[0][1][1])
    return _is_only_repeats(items)


def _is_only_repeats(items: list[tuple[Any, Any]]) -> bool:
    return bool(items) and all(_repeats(operation) and int(arguments[1]) > 1 for operation, arguments in items)


def patterns() -> Iterator[tuple[str, tuple[str, int]]]:
    """Every regular expression of the client that is compiled at import, or stands in a call of ``re``."""
    for found in pkgutil.walk_packages(kedge.__path__, "kedge."):
        if found.name.endswith("__main__"):
            continue
        for name, value in vars(importlib.import_module(found.name)).items():
            if isinstance(value, re.Pattern) and isinstance(value.pattern, str):
                yield f"{found.name}.{name}", (value.pattern, value.flags)
    for file in CLIENT.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            called = node.func if isinstance(node, ast.Call) else None
            if (
                not isinstance(called, ast.Attribute)
                or not isinstance(called.value, ast.Name)
                or called.value.id != "re"
            ):
                continue
            first = node.args[0] if isinstance(node, ast.Call) and node.args else None
            if isinstance(first, ast.Constant) and isinstance(first.value, str) and called.attr != "escape":
                yield f"{file.relative_to(CLIENT)}:{first.lineno}", (first.value, 0)


def test_c19_no_regular_expression_has_nested_quantifiers() -> None:
    found = dict(patterns())
    assert len(found) > 100
    assert [place for place, pattern in found.items() if has_nested_quantifiers(*pattern)] == []


@pytest.mark.parametrize("pattern", [r"(a+)+b", r"(?:a|b*)*c", r"(?P<x>[ \t]*)+$", r"x(?:(?:a+)+|c)y", r"(\s+\w*)*"])
def test_the_scan_finds_nested_quantifiers(pattern: str) -> None:
    assert has_nested_quantifiers(pattern)


@pytest.mark.parametrize("pattern", [r"(?:a++|b)*+", r"(?:\.[0-9]+)*", r"(?:[^a]|\\.)*", r"(?:a+)?"])
def test_the_scan_leaves_what_is_linear(pattern: str) -> None:
    assert not has_nested_quantifiers(pattern)

"""What a benchmark says: a table for people on stdout, and one JSON object for programs.

::

    {"benchmark": "refresh", "rows": [...], "ratios": {name: value}, "goals": {name: limit}}

A goal bears the name of its ratio: the ratio is to be at most the goal.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

__all__ = ["Goal", "Import", "Row", "finish", "publish", "publish_figures", "publish_imports"]

BASE = "python-tuf"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What one client took in one situation. ``min_ms`` is the quietest run; the rest are medians, counts the most."""

    client: str
    mode: str
    roots: int
    latency_ms: int
    cache: str
    runs: int
    wall_ms: float
    min_ms: float
    peak_kib: int | None = None
    requests: int | None = None
    connections: int | None = None
    loads_urllib3: bool | None = None

    @property
    def cell(self) -> tuple[object, ...]:
        """What rows have in common that may be compared."""
        return self.mode, self.roots, self.latency_ms, self.cache


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """What it cost to start and import something."""

    name: str
    runs: int
    wall_ms: float
    min_ms: float
    modules: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """A figure that is to be at most ``limit``."""

    name: str
    value: float
    limit: float

    @property
    def reached(self) -> bool:
        """Whether it is."""
        return self.value <= self.limit


def publish(benchmark: str, rows: Sequence[Row], goals: Iterable[Goal], file: Path | None) -> int:
    """Print a refresh, write ``file`` if one is named, and give the exit status: 1 where a goal is missed."""
    ratios = _ratios(rows)
    _print_rows(rows, ratios)
    listed = {" ".join(map(str, (row.client, *row.cell))): ratio for row, ratio in ratios}
    return finish(benchmark, [asdict(row) for row in rows], listed, list(goals), file)


def publish_imports(benchmark: str, base: str, rows: Sequence[Import], goals: Iterable[Goal], file: Path | None) -> int:
    """Print imports as ratios to ``base``; the rest is as with :func:`publish`."""
    (base_ms,) = (row.wall_ms for row in rows if row.name == base)
    sys.stdout.write(f"{'import':30}{'ms':>8}{'least':>8}{'ratio':>7}{'modules':>9}\n")
    for row in rows:
        times = f"{row.wall_ms:8.1f}{row.min_ms:8.1f}"
        sys.stdout.write(f"{row.name:30}{times}{row.wall_ms / base_ms:7.2f}{row.modules:9}\n")
    listed = {row.name: row.wall_ms / base_ms for row in rows}
    return finish(benchmark, [asdict(row) for row in rows], listed, list(goals), file)


def publish_figures(benchmark: str, figures: Mapping[str, float], goals: Iterable[Goal], file: Path | None) -> int:
    """Print single figures by name; the rest is as with :func:`publish`."""
    for name, value in figures.items():
        sys.stdout.write(f"{value:12,.1f}  {name}\n")
    rows = [{"name": name, "value": value} for name, value in figures.items()]
    return finish(benchmark, rows, {}, list(goals), file)


def finish(
    benchmark: str, rows: list[dict[str, Any]], ratios: dict[str, float], goals: list[Goal], file: Path | None
) -> int:
    """Print what became of ``goals``, write ``file`` if one is named, and give the exit status."""
    for goal in goals:
        mark = "reached" if goal.reached else "MISSED "
        sys.stdout.write(f"{mark}  {goal.value:8.2f} of {goal.limit:5.2f}  {goal.name}\n")
    if file is not None:
        document: dict[str, Any] = {
            "benchmark": benchmark,
            "machine": {"cpus": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()},
            "rows": rows,
            "ratios": ratios | {goal.name: goal.value for goal in goals},
            "goals": {goal.name: goal.limit for goal in goals},
        }
        file.write_text(json.dumps(document, indent=1) + "\n")
    return 0 if all(goal.reached for goal in goals) else 1


def _ratios(rows: Sequence[Row]) -> list[tuple[Row, float]]:
    bases = {row.cell: row.wall_ms for row in rows if row.client == BASE}
    return [(row, row.wall_ms / bases[row.cell]) for row in rows if row.cell in bases]


def _print_rows(rows: Sequence[Row], ratios: Sequence[tuple[Row, float]]) -> None:
    of = {id(row): ratio for row, ratio in ratios}
    sys.stdout.write(f"{'situation':36}{'client':12}{'ms':>8}{'least':>8}{'ratio':>7}{'MiB':>7}{'req':>5}{'conn':>5}\n")
    before: tuple[object, ...] = ()
    for row in rows:
        where = f"{row.roots} roots, {row.latency_ms} ms, {row.cache}, {row.mode}" if row.cell != before else ""
        before = row.cell
        ratio = f"{of[id(row)]:.2f}" if id(row) in of else ""
        memory = f"{row.peak_kib / 1024:.1f}" if row.peak_kib else ""
        requests = "" if row.requests is None else str(row.requests)
        connections = "" if row.connections is None else str(row.connections)
        times = f"{row.wall_ms:8.1f}{row.min_ms:8.1f}"
        sys.stdout.write(f"{where:36}{row.client:12}{times}{ratio:>7}{memory:>7}{requests:>5}{connections:>5}\n")

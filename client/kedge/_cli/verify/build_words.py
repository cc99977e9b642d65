"""One table for people: where packages were built, who says so, and where a log has it.

On a line a package where the screen is wide enough, else a block a package: the values are names to be compared with
others, and a name that is cut off compares with anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from kedge._cli.output import Screen, visible
from kedge.registries.sigstore.builds import Build
from kedge.registries.sigstore.verify import LogPlace

__all__ = ["BuildRow", "build_lines", "row_of"]

NOT_SAID = "-"
_HEADS = {
    "package": "package",
    "repository": "source repository",
    "commit": "commit",
    "workflow": "workflow",
    "builder": "builder",
    "says": "who says so",
    "entry": "log entry",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRow:
    """One package's line."""

    package: str
    repository: str
    commit: str
    workflow: str
    builder: str
    says: str
    entry: str


def row_of(package: str, build: Build | None, published: LogPlace | None) -> BuildRow:
    """Put what is known of a package into words; ``published`` is where a log has its registry's attestation."""
    registry = ["registry"] if published is not None else []
    place = build.place if build is not None else published
    entry = f"{_bare(place.log)} {place.index}" if place is not None else NOT_SAID
    if build is None:
        nothing = dict.fromkeys(("repository", "commit", "workflow", "builder"), NOT_SAID)
        return BuildRow(package=package, **nothing, says=", ".join(registry) or "nobody", entry=entry)
    own_word = "" if build.backed or build.builder is None else " (the build's own word)"
    return BuildRow(
        package=package,
        repository=_bare(build.repository or build.signer),
        commit=build.commit or NOT_SAID,
        workflow=_workflow(build),
        builder=f"{_bare(build.builder)}{own_word}" if build.builder else NOT_SAID,
        says=", ".join([*registry, "build"]),
        entry=entry,
    )


def build_lines(screen: Screen, rows: Sequence[BuildRow]) -> list[str]:
    """The table, or blocks where it is too wide for the screen."""
    if not rows:
        return []
    names = [field.name for field in fields(BuildRow)]
    table = [[_HEADS[name] for name in names], *([visible(getattr(row, name)) for name in names] for row in rows)]
    widths = [max(len(cells[column]) for cells in table) for column in range(len(names))]
    heading = ["", *screen.heading("where it was built")]
    if screen.columns is None or 2 + sum(widths) + 2 * (len(widths) - 1) <= screen.columns:
        lines = ["  ".join(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True)) for cells in table]
        return [*heading, *(f"  {line}".rstrip() for line in lines)]
    blocks: list[str] = []
    for row in rows:
        blocks += screen.rows([(_HEADS[name], getattr(row, name)) for name in names])
        blocks.append("")
    return [*heading, *blocks[:-1]]


def _workflow(build: Build) -> str:
    """The workflow, inside its repository (``.github/workflows/release.yml@refs/tags/v1``) where it is of that one."""
    if build.workflow is None:
        return NOT_SAID
    return _bare(build.workflow.removeprefix(f"{build.repository}/"))


def _bare(url: str) -> str:
    return url.removeprefix("https://")

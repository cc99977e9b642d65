"""``kedge-repo report``: the repository on one static page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kedge_repo import disk
from kedge_repo._cli.options import AsOf, WorkspaceFolder, judged_at, open_workspace
from kedge_repo._cli.output import answer
from kedge_repo.report import gather, page

__all__ = ["report"]


def report(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Where to.")] = Path("report.html"),
    as_of: AsOf = None,
    folder: WorkspaceFolder = None,
) -> None:
    """Write one HTML page: roles, keys, expiry, registries, signing, history and audit; nothing in it runs."""
    facts = gather(open_workspace(folder), now=judged_at(as_of))
    disk.replace(out, page(facts))
    answer(str(out))

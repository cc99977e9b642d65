"""``kedge-repo target``: add, replace and remove targets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from kedge._cli import PLAIN
from kedge.documents import Fields, blame_user, load_json
from kedge_repo._cli.options import DropSignatures, EventName, Reason, WorkspaceFolder, change, say
from kedge_repo.events import add_target, remove_target
from kedge_repo.workspace import KnownPath, known_path, read_file

app = typer.Typer(**PLAIN, help="Add, replace and remove targets.", no_args_is_help=True)


@app.command("add")
def add(
    path: Annotated[
        str, typer.Argument(metavar="PATH", help="The target's path, such as registry.npmjs.org/keys.json.")
    ],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file that holds its bytes.")],
    custom: Annotated[
        Path | None,
        typer.Option(
            "--custom", metavar="FILE.json", help="What stands beside it in the metadata (default: as it is now)."
        ),
    ] = None,
    event: EventName = None,
    reason: Reason = None,
    drop_signatures: DropSignatures = False,
    folder: WorkspaceFolder = None,
) -> None:
    """Add a target, or replace its bytes, in the role that its path is delegated to."""
    data = read_file(file, what="target")
    extra = None if custom is None else _custom(custom)
    known = known_path(path)
    change(
        folder,
        lambda view: add_target(view, path, data, extra),
        event=event,
        reason=reason,
        drop_signatures=drop_signatures,
    )
    _warn(path, known)


@app.command("remove")
def remove(
    path: Annotated[str, typer.Argument(metavar="PATH", help="The target's path.")],
    event: EventName = None,
    reason: Reason = None,
    drop_signatures: DropSignatures = False,
    folder: WorkspaceFolder = None,
) -> None:
    """Remove a target."""
    change(
        folder,
        lambda view: remove_target(view, path),
        event=event,
        reason=reason,
        drop_signatures=drop_signatures,
    )


def _warn(path: str, known: KnownPath) -> None:
    """Say that no client asks for a path, or that another may be meant: a slip in it would be found by users only."""
    if not known.is_read:
        say(f"warning: target {path}: no ecosystem that kedge knows reads this path")
        if known.nearest is not None:
            say(f"hint: the nearest that one reads is {known.nearest}")
    elif known.nearest is not None:
        say(f"note: target {path}: the catalogue has {known.nearest}; make sure that it is not the one that is meant")


def _custom(file: Path) -> dict[str, Any]:
    data = read_file(file, max_bytes=1_000_000)
    with blame_user(str(file)):
        value = load_json(data)
        Fields(value)
    return dict(value)

"""``kedge lock``: write down how far trust has come, for a project to commit."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from kedge._cli.options import AnchorName, Json, chosen_anchors, for_each, open_client, takes_mirrors
from kedge._cli.output import answer_json, replace_file
from kedge.client import LOCK_FILE, Anchor, Lock, LockedAnchor, find_lock, read_lock


@takes_mirrors
def lock(
    anchor: AnchorName = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", metavar="FILE", help=f"The lock to write; without it the project's {LOCK_FILE}."),
    ] = None,
    merge: Annotated[
        Path | None,
        typer.Option("--merge", metavar="FILE", help="Take over what another lock holds, without the network."),
    ] = None,
    json: Json = False,
) -> None:
    """Write kedge.lock: how far trust has come.

    A project commits it, so that a fresh machine cannot be shown an older state. Floors only rise: what the lock holds
    already stays where it is higher.
    """
    path = file if file is not None else find_lock(Path.cwd())[0] or Path(LOCK_FILE)
    present = read_lock(path) if path.exists() else Lock(anchors={}, file=str(path))
    if merge is not None:
        new = read_lock(merge)
    else:
        pairs = for_each(chosen_anchors(anchor), _locked)
        new = Lock(anchors=dict(pairs), file="what the repository serves")
    merged = present.merged(new)
    replace_file(path, merged.to_bytes())
    for name, held in sorted(merged.anchors.items()):
        timestamp = f", timestamp {held.floors.timestamp.version}" if held.floors.timestamp is not None else ""
        sys.stderr.write(f"kedge: {path}: {name} is locked at root {held.floors.root}{timestamp}\n")
    if json:
        answer_json({"format": "kedge.locked/1", "file": str(path), "anchors": sorted(merged.anchors)})


def _locked(each: Anchor) -> tuple[str, LockedAnchor]:
    with open_client(each, require_refresh=True) as client:
        return each.name, client.lock()

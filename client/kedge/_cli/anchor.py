"""``kedge anchor``: the initial roots that this machine starts from."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from kedge import anchor as anchors
from kedge import checks
from kedge._cli.options import Json
from kedge._cli.output import Screen, answer, answer_json
from kedge._cli.tables import anchors_document
from kedge._cli.words import anchor_lines
from kedge.anchor import Anchor
from kedge.errors import InputError, VerificationError
from kedge.folders import config_folder
from kedge.transport import Mirror, open_mirror

__all__ = ["COMMANDS", "HELP", "add", "list_anchors", "remove", "show"]

HELP = "The initial roots."

Name = Annotated[str, typer.Argument(metavar="NAME", help="The anchor's name.")]


def add(
    name: Name,
    root: Annotated[
        Path, typer.Option("--root", metavar="FILE", help="The initial root: from a source that you trust.")
    ],
    mirror: Annotated[str, typer.Option("--mirror", metavar="URL|DIR", help="Where the repository lies.")],
    registry: Annotated[
        list[str] | None,
        typer.Option("--registry", metavar="REGISTRY", help="A registry that it may speak for. May be repeated."),
    ] = None,
    metadata: Annotated[
        str,
        typer.Option("--metadata", metavar="SUB", help='The folder of the metadata below the mirror ("" for its top).'),
    ] = "metadata",
    targets: Annotated[
        str,
        typer.Option("--targets", metavar="SUB", help='The folder of the targets below the mirror ("" for its top).'),
    ] = "targets",
    json: Json = False,
) -> None:
    """Add an anchor: an initial root, and where its repository lies."""
    anchor = Anchor(
        name=name,
        initial_root=_read_root(root),
        mirrors=(_mirror(mirror, metadata, targets),),
        registries=tuple(dict.fromkeys(registry or ())),
    )
    anchors.add(anchor, config_folder())
    _print([anchor], json=json)
    if not json:
        sys.stderr.write(f"kedge: added the anchor {name}; next: kedge refresh --anchor {name}\n")


def list_anchors(json: Json = False) -> None:
    """List the anchors, those that were added and those that ship."""
    config = config_folder()
    _print([anchors.load(name, config) for name in anchors.names(config)], json=json)


def show(name: Name, json: Json = False) -> None:
    """Show one anchor."""
    _print([anchors.load(name, config_folder())], json=json)


def remove(name: Name) -> None:
    """Remove an anchor that was added.

    Its trust state stays: if the same anchor is added again, no older state will be accepted.
    """
    anchors.remove(name, config_folder())
    sys.stderr.write(f"kedge: removed the anchor {name}; its trust state stays\n")


COMMANDS: dict[str, Callable[..., None]] = {"add": add, "list": list_anchors, "show": show, "remove": remove}


def _print(found: list[Anchor], *, json: bool) -> None:
    added = anchors.configured(config_folder())
    answers = [(anchor, anchor.name not in added) for anchor in found]
    if json:
        answer_json(anchors_document(answers))
        return
    screen = Screen.of_stdout()
    answer(line for anchor, ships in answers for line in anchor_lines(screen, anchor, ships=ships))


def _read_root(path: Path) -> bytes:
    try:
        data = path.read_bytes()
        checks.begin(data, file=str(path))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}") from error
    except VerificationError as error:
        raise InputError(error.message, hint="an anchor's root is a TUF root signed by its own keys") from error
    return data


def _mirror(place: str, metadata: str, targets: str) -> Mirror:
    if "://" not in place:
        folder = Path(place).absolute()
        if not folder.is_dir():
            raise InputError(f"{place}: there is no such folder", hint="a mirror is an https URL or a folder")
        place = str(folder)
    mirror = Mirror(url=place, metadata=metadata, targets=targets)
    open_mirror(mirror).close()
    return mirror

"""``kedge mirror``: a verified copy of a repository, in a folder that any TUF client can use."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack, closing
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from kedge._cli.options import AnchorName, Json, at_named_mirrors, open_client, takes_mirrors, the_anchor
from kedge._cli.output import Screen, answer, answer_json, progress_bar, say_warnings, trust_entry, trust_rows
from kedge.client import Anchor, SystemClock
from kedge.errors import InputError
from kedge.mirror import JOBS, Copied, Layout, LoopbackServer, MirrorFolder, Options, carried_targets, copy_repository
from kedge.registries import find_registry
from kedge.transport import open_mirror
from kedge.tuf import Listed, Trust

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The folder of the copy.")]
Port = Annotated[int, typer.Option(metavar="PORT", min=0, max=65535, help="The port; 0 is any that is free.")]


@takes_mirrors
def sync_mirror(
    folder: Folder,
    anchor: AnchorName = None,
    registry: Annotated[
        list[str] | None,
        typer.Option("--registry", metavar="ID", help="Copy this registry's keys only. May be repeated."),
    ] = None,
    target: Annotated[
        list[str] | None, typer.Option("--target", metavar="PATH", help="Copy this target only. May be repeated.")
    ] = None,
    keep_days: Annotated[
        int | None,
        typer.Option(
            "--keep-days",
            metavar="N",
            min=0,
            max=36500,
            help="Clear away what has not been part of the newest copy for so long; else all stays. Roots always stay.",
            show_default=False,
        ),
    ] = None,
    jobs: Annotated[int, typer.Option(metavar="N", min=1, max=256, help="Fetch so many targets at once.")] = JOBS,
    check: Annotated[bool, typer.Option("--check", help="Read every target again that is there already.")] = False,
    metadata: Annotated[
        str | None,
        typer.Option(metavar="SUB", help="The metadata's folder; else as at the source.", show_default=False),
    ] = None,
    targets: Annotated[
        str | None, typer.Option(metavar="SUB", help="The targets' folder; else as at the source.", show_default=False)
    ] = None,
    serve_it: Annotated[
        bool, typer.Option("--serve", help="Then serve it on the loopback, until interrupted.")
    ] = False,
    port: Port = 0,
    json: Json = False,
) -> None:
    """Copy a repository, all of it verified: all roots, all metadata, and all targets unless some are named.

    What is there already is not fetched again, and what was cut off is taken up. At any moment whoever reads the folder
    finds a consistent repository. With --mirror FILE.kedge the copy has what the bundle carries.
    """
    chosen = at_named_mirrors(the_anchor(anchor))
    first = chosen.mirrors[0]
    layout = Layout(
        metadata=first.metadata if metadata is None else metadata,
        targets=first.targets if targets is None else targets,
    )
    options = Options(
        layout=layout,
        wanted=_wanted(registry or [], target or []),
        carried=carried_targets(chosen.mirrors),
        keep=timedelta(days=keep_days) if keep_days is not None else None,
        jobs=jobs,
        rehash=check,
    )
    copied, trust = _sync(folder, chosen, options)
    say_warnings([trust])
    if json:
        answer_json(_document(folder, copied, trust))
    else:
        answer(_lines(Screen.of_stdout(), folder, copied, trust))
    if serve_it:
        _serve(folder, port)


def serve(folder: Folder, port: Port = 0) -> None:
    """Serve a copy on the loopback, until interrupted.

    What is not there is answered with 404, and only that. To serve a site, let any web server serve the folder.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder", hint="kedge mirror sync makes one")
    _serve(folder, port)


def _sync(folder: Path, anchor: Anchor, options: Options) -> tuple[Copied, Trust]:
    with ExitStack() as stack:
        client = stack.enter_context(open_client(anchor, require_refresh=True))
        sources = [
            stack.enter_context(closing(open_mirror(mirror, connections=options.jobs))) for mirror in anchor.mirrors
        ]

        def progress(total: int) -> Callable[[int], None]:
            return stack.enter_context(progress_bar("targets", total))

        copied = copy_repository(
            client, sources, MirrorFolder(folder), options, now=SystemClock().now(), progress=progress
        )
        return copied, client.trust


def _wanted(registries: list[str], targets: list[str]) -> Callable[[Listed], bool]:
    if not registries and not targets:
        return lambda _listed: True
    paths = {*targets, *(find_registry(registry).target_path(registry) for registry in registries)}
    return lambda listed: listed.target.path in paths


def _serve(folder: Path, port: int) -> None:
    with LoopbackServer(folder, port) as server:
        sys.stderr.write(f"kedge: {folder} is served at {server.url}\n")
        server.serve_forever()


def _document(folder: Path, copied: Copied, trust: Trust) -> dict[str, Any]:
    return {
        "format": "kedge.mirror-report/1",
        "folder": str(folder),
        "first_root": copied.first_root,
        "targets": copied.targets,
        "fetched": copied.fetched.files,
        "fetched_bytes": copied.fetched.bytes,
        "cleared": list(copied.cleared),
        "trust": trust_entry(trust),
    }


def _lines(screen: Screen, folder: Path, copied: Copied, trust: Trust) -> list[str]:
    fetched = f"{copied.fetched.files:,} fetched now, {copied.fetched.bytes:,} bytes"
    rows = [
        ("targets", f"{copied.targets:,} ({fetched})"),
        ("roots", f"from version {copied.first_root} on"),
    ]
    if copied.cleared:
        rows.append(("cleared", f"{len(copied.cleared):,} files that were out of date for as long as they stay"))
    return [*screen.heading(str(folder)), *screen.rows([*rows, *trust_rows(trust)])]

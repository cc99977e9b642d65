"""``kedge bundle``: one file that carries trust across an air gap."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from kedge._cli.bundle_words import Report, Standing, report_document, report_lines
from kedge._cli.clients import open_client, project_lock
from kedge._cli.mirrors import takes_mirrors
from kedge._cli.options import AnchorName, AsOf, Json, read_as_of, the_anchor
from kedge._cli.outfile import replace_file
from kedge._cli.output import Screen, answer, answer_json
from kedge._cli.qr import TERMINAL, codes_on_terminal, write_codes
from kedge._cli.words import say_warnings
from kedge.anchor import Anchor
from kedge.bundle.frames import from_frames, to_frames
from kedge.bundle.packing import read_manifest
from kedge.carry import default_targets, make_bundle, open_bundle, read_receiver, take_in
from kedge.census import every_role, every_target
from kedge.client import TrustClient
from kedge.document import blame_user
from kedge.errors import InputError
from kedge.folders import state_folder
from kedge.registry import find_registry
from kedge.store import Store
from kedge.transport import BUNDLE_SUFFIX

__all__ = ["COMMANDS", "HELP", "apply", "create", "from_qr_text", "inspect", "verify"]

HELP = "One file that carries trust across an air gap."

MAX_TEXT = 20_000_000

BundleFile = Annotated[Path, typer.Argument(metavar="FILE", help=f"A bundle: a file *{BUNDLE_SUFFIX}.")]

BundleFiles = Annotated[list[Path], typer.Argument(metavar="FILE...", help=f"A bundle: a file *{BUNDLE_SUFFIX}.")]


@takes_mirrors
def create(
    file: BundleFile,
    anchor: AnchorName = None,
    registry: Annotated[
        list[str] | None, typer.Option("--registry", metavar="ID", help="Carry this registry's keys. May be repeated.")
    ] = None,
    target: Annotated[
        list[str] | None, typer.Option("--target", metavar="PATH", help="Carry this target as well. May be repeated.")
    ] = None,
    all_targets: Annotated[bool, typer.Option("--all-targets", help="Carry every target.")] = False,
    since: Annotated[
        Path | None,
        typer.Option(
            "--since",
            metavar="BUNDLE|STATE",
            help="Carry what is new since that bundle, or to whoever has that state folder.",
            show_default=False,
        ),
    ] = None,
    qr: Annotated[
        str | None,
        typer.Option(
            "--qr",
            metavar="FILE|-",
            help="Draw it as QR codes too: .png or .svg files, or on the terminal.",
            show_default=False,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Make a bundle of what is trusted now.

    It refreshes first. Without more it carries the keys of the registries that the anchor speaks for.
    """
    chosen = the_anchor(anchor)
    if qr == TERMINAL and json:
        raise InputError("--qr - and --json both want stdout", hint="let --qr name a .png or .svg file")
    if file.suffix != BUNDLE_SUFFIX:
        raise InputError(f"{file}: a bundle's name ends in {BUNDLE_SUFFIX}", hint=f"name it {file}{BUNDLE_SUFFIX}")
    receiver = read_receiver(since, Store(state_folder() / chosen.name)) if since is not None else None
    with open_client(chosen, require_refresh=True) as client:
        paths = _paths(client, chosen, registry or [], target or [], all_targets=all_targets)
        data, trust = make_bundle(client, paths, receiver=receiver), client.trust
    if qr is not None:
        _draw(qr, data)
    replace_file(file, data)
    say_warnings([trust])
    manifest = read_manifest(data, file=str(file))
    _print(Report(file=file, file_bytes=len(data), manifest=manifest, standing=Standing.MADE, trust=trust), json=json)


def inspect(file: BundleFile, json: Json = False) -> None:
    """Show what a bundle says of itself.

    This needs no anchor and proves nothing: a transfer guard reads it, and verify holds it to the signatures.
    """
    data = open_bundle(file)
    manifest = read_manifest(data, file=str(file))
    _print(Report(file=file, file_bytes=len(data), manifest=manifest, standing=Standing.READ), json=json)


def verify(files: BundleFiles, anchor: AnchorName = None, as_of: AsOf = None, json: Json = False) -> None:
    """Verify all of a bundle, and keep nothing.

    Of several files the last one is meant; those before it are what it stands on.
    """
    _take_in(files, anchor, Standing.VERIFIED, as_of=as_of, json=json)


def apply(files: BundleFiles, anchor: AnchorName = None, json: Json = False) -> None:
    """Verify all of a bundle, and keep it: from now on it answers, without a network.

    A bundle that is older than what is kept is refused. Whatever is wrong with it, nothing of it is kept.
    Of several files the last one is meant; those before it are what it stands on.
    """
    _take_in(files, anchor, Standing.APPLIED, as_of=None, json=json)


def from_qr_text(
    file: BundleFile,
    text: Annotated[
        str, typer.Argument(metavar="TEXT", help="A file with the texts that were read from the codes; - is stdin.")
    ] = "-",
    json: Json = False,
) -> None:
    """Put a bundle together from QR codes that were read.

    A code a line, in any order; what is read twice does no harm. The bundle is not verified by this.
    """
    name = "stdin" if text == "-" else text
    try:
        lines = (sys.stdin.read(MAX_TEXT) if text == "-" else Path(text).read_text("ascii")).split()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{name}: cannot be read: {getattr(error, 'strerror', None) or 'is not ASCII'}") from error
    with blame_user(name):
        data = from_frames(lines)
    manifest = read_manifest(data, file=str(file))
    replace_file(file, data)
    _print(Report(file=file, file_bytes=len(data), manifest=manifest, standing=Standing.READ), json=json)


COMMANDS: dict[str, Callable[..., None]] = {
    "create": create,
    "inspect": inspect,
    "verify": verify,
    "apply": apply,
    "from-qr-text": from_qr_text,
}


def _draw(qr: str, data: bytes) -> None:
    try:
        frames = to_frames(data)
    except ValueError as error:
        raise InputError(f"--qr: {error}", hint="carry the file, or make a delta with --since") from error
    if qr == TERMINAL:
        answer(codes_on_terminal(frames))
        return
    for path in write_codes(Path(qr), frames):
        sys.stderr.write(f"kedge: wrote {path}\n")


def _take_in(files: list[Path], anchor: str | None, standing: Standing, *, as_of: str | None, json: bool) -> None:
    taken = take_in(
        files,
        the_anchor(anchor),
        keep=standing is Standing.APPLIED,
        as_of=read_as_of(as_of),
        lock=project_lock(),
    )
    say_warnings([taken.trust])
    report = Report(
        file=files[-1], file_bytes=taken.file_bytes, manifest=taken.manifest, standing=standing, trust=taken.trust
    )
    _print(report, json=json)


def _paths(
    client: TrustClient, anchor: Anchor, registries: Sequence[str], targets: Sequence[str], *, all_targets: bool
) -> list[str]:
    if all_targets:
        client.follow(every_role)
        return sorted({listed.target.path for listed in every_target(client.verified)})
    named = [*(find_registry(registry).target_path(registry) for registry in registries), *targets]
    return list(dict.fromkeys(named if registries else [*default_targets(anchor, needed=not named), *named]))


def _print(report: Report, *, json: bool) -> None:
    if json:
        answer_json(report_document(report))
    else:
        answer(report_lines(Screen.of_stdout(), report))

"""``kedge bundle``: one file that carries trust across an air gap.

What a bundle is, in words and as ``kedge.bundle-report/1``.

Frames as QR codes: images beside each other, or on the terminal (extra ``qr``).
"""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from kedge._cli.options import (
    AnchorName,
    AsOf,
    Json,
    open_client,
    project_lock,
    read_as_of,
    takes_mirrors,
    the_anchor,
)
from kedge._cli.output import (
    Screen,
    Tone,
    answer,
    answer_json,
    moment_text,
    replace_file,
    say_warnings,
    trust_entry,
    trust_rows,
)
from kedge.client import Anchor, Store, TrustClient
from kedge.documents import blame_user, format_time
from kedge.errors import InputError, StoreError, extra_hint
from kedge.files import state_folder
from kedge.mirror import (
    default_targets,
    from_frames,
    make_bundle,
    open_bundle,
    read_receiver,
    take_in,
    to_frames,
)
from kedge.registries import find_registry
from kedge.transport import BUNDLE_SUFFIX, Manifest, read_manifest
from kedge.tuf import Trust, every_role, every_target


class Standing(StrEnum):
    """What was done with a bundle."""

    READ = "read"
    """Nothing was checked: it is what the file says of itself."""
    MADE = "made"
    VERIFIED = "verified"
    APPLIED = "applied"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A bundle, what was done with it, and how far trust reaches with it where that is known."""

    file: Path
    file_bytes: int
    manifest: Manifest
    standing: Standing
    trust: Trust | None = None


def report_document(report: Report) -> dict[str, Any]:
    """The answer to ``--json``."""
    manifest, summary = report.manifest, report.manifest.summary
    return {
        "format": "kedge.bundle-report/1",
        "file": str(report.file),
        "file_bytes": report.file_bytes,
        "standing": report.standing.value,
        "tool": manifest.tool,
        "sha256": manifest.sha256,
        "payload_bytes": manifest.payload_bytes,
        "valid_until": format_time(summary.valid_until),
        "baseline": manifest.baseline.sha256 if manifest.baseline is not None else None,
        "carries": {
            "first_root": manifest.first_root,
            "roles": list(manifest.carried_roles),
            "targets": list(manifest.carried_targets),
            "extra": sorted(manifest.extra),
        },
        "roles": [
            {"name": name, "version": version, "signed_by": list(summary.signed_by.get(name, ()))}
            for name, version in sorted(summary.roles.items())
        ],
        "targets": [{"path": path, "sha256": digest} for path, digest in sorted(summary.targets.items())],
        "trust": trust_entry(report.trust) if report.trust is not None else None,
    }


def report_lines(screen: Screen, report: Report) -> list[str]:
    """The same for people."""
    manifest, summary = report.manifest, report.manifest.summary
    rows: list[tuple[str, str] | tuple[str, str, Tone]] = [
        ("standing", *_STANDINGS[report.standing]),
        ("size", f"{report.file_bytes:,} bytes, {manifest.payload_bytes:,} unpacked"),
        ("sha256", f"{manifest.sha256} (unpacked)"),
        ("made by", manifest.tool),
        ("valid until", f"{moment_text(summary.valid_until)} (signed)"),
    ]
    if manifest.baseline is not None:
        rows.append(("since", manifest.baseline.sha256))
    rows.append(("carries", _carries(manifest)))
    lines = [*screen.heading(str(report.file)), *screen.rows(rows)]
    lines += ["", *screen.heading("roles"), *screen.rows([*_roles(manifest)])]
    if summary.targets:
        lines += [
            "",
            *screen.heading("targets"),
            *screen.rows([(path, ("sha256 " + digest)) for path, digest in sorted(summary.targets.items())]),
        ]
    if report.trust is not None:
        lines += ["", *screen.heading(f"trust (anchor {report.trust.anchor})"), *screen.rows(trust_rows(report.trust))]
    return lines


_STANDINGS: dict[Standing, tuple[str, Tone]] = {
    Standing.READ: ("unverified: this is what the file says of itself", Tone.CAUTION),
    Standing.MADE: ("made from what this machine trusts", Tone.GOOD),
    Standing.VERIFIED: ("verified, all of it; nothing was kept", Tone.GOOD),
    Standing.APPLIED: ("verified, all of it, and kept", Tone.GOOD),
}


def _carries(manifest: Manifest) -> str:
    last = manifest.summary.roles["root"]
    parts = [*manifest.carried_roles, *manifest.carried_targets, *sorted(manifest.extra)]
    if manifest.first_root is not None:
        parts.insert(0, f"roots {manifest.first_root} to {last}" if manifest.first_root < last else f"root {last}")
    return ", ".join(parts) or "nothing: nothing is new"


def _roles(manifest: Manifest) -> list[tuple[str, str]]:
    summary = manifest.summary
    return [
        (name, f"version {version}, signed by {', '.join(summary.signed_by.get(name, ())) or 'nobody who is named'}")
        for name, version in sorted(summary.roles.items())
    ]


TERMINAL = "-"
_KINDS = {".png": "png", ".svg": "svg"}


def write_codes(path: Path, frames: Sequence[str]) -> list[Path]:
    """Write an image a frame: ``path`` itself, or, where there are several, its name with ``-1``, ``-2`` and so on.

    Raises:
        InputError: the name is neither of a PNG nor of an SVG file.
        StoreError: segno is not installed, or a file cannot be written.
    """
    kind = _KINDS.get(path.suffix.lower())
    if kind is None:
        raise InputError(f"{path}: QR codes are written as .png or .svg", hint="or name - to show them on the terminal")
    written: list[Path] = []
    for number, code in enumerate(_codes(frames), 1):
        place = path if len(frames) == 1 else path.with_stem(f"{path.stem}-{number}")
        image = io.BytesIO()
        code.save(image, kind=kind, scale=4, border=4)
        replace_file(place, image.getvalue())
        written.append(place)
    return written


def codes_on_terminal(frames: Sequence[str]) -> list[str]:
    """The lines of all codes, each below its number.

    Raises:
        StoreError: segno is not installed.
    """
    lines: list[str] = []
    for number, code in enumerate(_codes(frames), 1):
        drawn = io.StringIO()
        code.terminal(drawn, compact=True)
        lines += [f"{number} of {len(frames)}", *drawn.getvalue().rstrip("\n").split("\n"), ""]
    return lines


def _codes(frames: Sequence[str]) -> list[Any]:
    try:
        import segno  # the extra
    except ModuleNotFoundError as error:
        raise StoreError("QR codes need the Python package segno", hint=extra_hint("qr")) from error
    return [segno.make(frame, error="m", boost_error=False, micro=False) for frame in frames]


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

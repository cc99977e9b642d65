"""``kedge anchor``: the initial roots that this machine starts from."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from kedge import tuf
from kedge._cli.options import Json, read_mirror, read_span
from kedge._cli.output import Screen, anchor_lines, anchors_document, answer, answer_json
from kedge.client import (
    Anchor,
    Store,
    Transparency,
    add_anchor,
    anchor_names,
    configured_anchors,
    fetch_root,
    forget_time,
    load_anchor,
    remove_anchor,
)
from kedge.documents import format_time
from kedge.errors import InputError, VerificationError
from kedge.files import config_folder, state_folder
from kedge.transport import Mirror, open_mirrors

Name = Annotated[str, typer.Argument(metavar="NAME", help="The anchor's name.")]


def add(
    name: Name,
    mirror: Annotated[
        list[str], typer.Option("--mirror", metavar="URL|DIR|FILE", help="Where the repository lies. May be repeated.")
    ],
    root: Annotated[
        Path | None, typer.Option("--root", metavar="FILE", help="The initial root: from a source that you trust.")
    ] = None,
    root_sha256: Annotated[
        str | None,
        typer.Option("--root-sha256", metavar="HEX", help="Instead: its SHA-256, and the mirror brings the file."),
    ] = None,
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
    ca_file: Annotated[
        Path | None, typer.Option("--ca-file", metavar="FILE", help="Certificate authorities, not the machine's.")
    ] = None,
    credentials_file: Annotated[
        Path | None,
        typer.Option("--credentials-file", metavar="FILE", help='A file of one line: "bearer TOKEN" or "basic U:P".'),
    ] = None,
    redirect_origin: Annotated[
        list[str] | None,
        typer.Option("--redirect-origin", metavar="URL", help="Another origin that a mirror may redirect to."),
    ] = None,
    allow_plain_http: Annotated[
        bool, typer.Option("--allow-plain-http", help="Ask other hosts without TLS, for everybody to see.")
    ] = False,
    transparency: Annotated[
        Transparency, typer.Option("--transparency", help="Whether the repository's log must vouch for everything.")
    ] = Transparency.OFF,
    log_policy: Annotated[
        Path | None, typer.Option("--log-policy", metavar="FILE", help="A log policy of yours, not the repository's.")
    ] = None,
    max_staleness: Annotated[
        str | None,
        typer.Option("--max-staleness", metavar="SPAN", help="Use expired trust for so long, such as 7d or 36h."),
    ] = None,
    warn_after: Annotated[
        str | None, typer.Option("--warn-after", metavar="SPAN", help="Warn of trust that is so old.")
    ] = None,
    red_line: Annotated[
        str | None, typer.Option("--red-line", metavar="SPAN", help="Give no answer from trust that is so old.")
    ] = None,
    keep_history: Annotated[
        bool, typer.Option("--keep-history", help="Keep every set that is ever trusted, for kedge history.")
    ] = False,
    json: Json = False,
) -> None:
    """Add an anchor: an initial root, and where its repository lies."""
    options = Mirror(
        url="",
        metadata=metadata,
        targets=targets,
        ca_file=str(ca_file.absolute()) if ca_file is not None else None,
        credentials_file=str(credentials_file.absolute()) if credentials_file is not None else None,
        redirect_origins=tuple(redirect_origin or ()),
        allow_plain_http=allow_plain_http,
    )
    mirrors = tuple(read_mirror(place, options) for place in dict.fromkeys(mirror))
    anchor = Anchor(
        name=name,
        initial_root=_initial_root(root, root_sha256, mirrors),
        mirrors=mirrors,
        registries=tuple(dict.fromkeys(registry or ())),
        transparency=transparency,
        log_policy=_text(log_policy) if log_policy is not None else None,
        max_staleness=read_span("--max-staleness", max_staleness),
        warn_after=read_span("--warn-after", warn_after),
        red_line=read_span("--red-line", red_line),
        keep_history=keep_history,
    )
    add_anchor(anchor, config_folder())
    _print([anchor], json=json)
    if not json:
        sys.stderr.write(f"kedge: added the anchor {name}; next: kedge refresh --anchor {name}\n")


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is not UTF-8"
        raise InputError(f"{file}: cannot be read: {reason.lower()}") from error


def list_anchors(json: Json = False) -> None:
    """List the anchors, those that were added and those that ship."""
    config = config_folder()
    _print([load_anchor(name, config) for name in anchor_names(config)], json=json)


def show(name: Name, json: Json = False) -> None:
    """Show one anchor."""
    _print([load_anchor(name, config_folder())], json=json)


def remove(name: Name) -> None:
    """Remove an anchor that was added.

    Its trust state stays: if the same anchor is added again, no older state will be accepted.
    """
    remove_anchor(name, config_folder())
    sys.stderr.write(f"kedge: removed the anchor {name}; its trust state stays\n")


def reset_time(
    name: Name,
    forget: Annotated[
        bool, typer.Option("--yes-forget-time", help="Yes: what has expired since may be accepted again once.")
    ] = False,
) -> None:
    """Forget the latest time seen, after this machine's clock was far ahead.

    Versions are not forgotten: no older state is accepted than was seen.
    """
    anchor = load_anchor(name, config_folder())
    if not forget:
        raise InputError(
            "the time floor protects against a clock that was set back",
            hint="if this machine's clock was far ahead and is right now, say --yes-forget-time",
        )
    held = forget_time(Store(state_folder() / anchor.name))
    was = format_time(held) if held is not None else "not set"
    sys.stderr.write(f"kedge: the time floor of {name} is forgotten; it was {was}\n")


def _print(found: list[Anchor], *, json: bool) -> None:
    added = configured_anchors(config_folder())
    answers = [(anchor, anchor.name not in added) for anchor in found]
    if json:
        answer_json(anchors_document(answers))
        return
    screen = Screen.of_stdout()
    answer(line for anchor, ships in answers for line in anchor_lines(screen, anchor, ships=ships))


def _initial_root(file: Path | None, sha256: str | None, mirrors: tuple[Mirror, ...]) -> bytes:
    if file is not None and sha256 is None:
        return _read_root(file)
    if sha256 is None or file is not None:
        raise InputError("say what the initial root is: --root FILE, or --root-sha256 HEX")
    transport = open_mirrors(mirrors)
    try:
        return fetch_root(transport, sha256)
    finally:
        transport.close()


def _read_root(path: Path) -> bytes:
    try:
        data = path.read_bytes()
        tuf.begin(data, file=str(path))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}") from error
    except VerificationError as error:
        raise InputError(error.message, hint="an anchor's root is a TUF root signed by its own keys") from error
    return data

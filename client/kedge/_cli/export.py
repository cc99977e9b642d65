"""``kedge keys export``: a registry's keys as other tools read them."""

from __future__ import annotations

import base64
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from kedge._cli.keys import speaking_anchor
from kedge._cli.options import AnchorName, Json, RequireRefresh, for_each, open_client, registry_ids, takes_mirrors
from kedge._cli.output import Screen, answer, answer_json, replace_file, say_warnings, visible
from kedge.errors import InputError
from kedge.registries import GROUP, Adjustable, Exported, Exporter, Source, find_exporter, names_of_extensions
from kedge.tuf import Trust

WithoutRetired = Annotated[bool, typer.Option("--without-retired", help="Leave out keys whose time is over.")]


@takes_mirrors
def export(
    layout: Annotated[
        str | None,
        typer.Argument(
            metavar="FORMAT",
            help="What reads them; without it, all formats are listed.",
            autocompletion=lambda: names_of_extensions(GROUP),
        ),
    ] = None,
    registries: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="REGISTRY",
            help="Registries' ids; the format's usual one if none is named; several are merged.",
            autocompletion=registry_ids,
        ),
    ] = None,
    anchor: AnchorName = None,
    without_retired: WithoutRetired = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="Replace this file, whole; else stdout.", show_default=False
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="What the format needs beside keys (repeat).", show_default=False
        ),
    ] = None,
    require_refresh: RequireRefresh = False,
    json: Json = False,
) -> None:
    """Export keys for other tools.

    What the format cannot say is said on stderr. Revoked keys are never exported.
    """
    if layout is None:
        _list_formats()
        return
    exporter = _adjusted(layout, find_exporter(layout), settings or [])
    if output is not None and exporter.appended_to is not None and _is_named_by(exporter.appended_to, output):
        hint = f'append: >> "${exporter.appended_to}"'
        raise InputError(f"{output}: --output would replace what other steps wrote", hint=hint)
    names = registries or _default(layout, exporter)
    with trusted_sources(names, anchor, require_refresh=require_refresh) as (sources, trusts):
        exported = exporter.export(sources, with_retired=not without_retired)
    if output is not None:
        replace_file(output, exported.content)
    if json:
        answer_json(_document(layout, exported, sources, trusts, output))
        return
    say_notes(exported)
    if output is None:
        _print(layout, exported)


@contextmanager
def trusted_sources(
    registries: Sequence[str], anchor: str | None, *, require_refresh: bool = False
) -> Iterator[tuple[list[Source], list[Trust]]]:
    """Refresh, and give each registry's keys and the trust that they stand on; warnings go to stderr.

    Other targets can be fetched from a source until the block ends.

    Raises:
        KedgeError: trust, or a key document, cannot be had or is refused.
    """
    with ExitStack() as open_clients:

        def source_of(registry: str) -> tuple[Source, Trust]:
            client = open_clients.enter_context(
                open_client(speaking_anchor(registry, anchor), require_refresh=require_refresh)
            )
            return Source(keys=client.registry_keys(registry), fetch=client.target), client.trust

        found = for_each(dict.fromkeys(registries), source_of)
        trusts = [trust for _, trust in found]
        say_warnings(list(dict.fromkeys(trusts)))
        yield [source for source, _ in found], trusts


def say_notes(exported: Exported) -> None:
    """Say on stderr what the form that was exported cannot say."""
    for note in exported.notes:
        sys.stderr.write(f"kedge: note: {visible(note)}\n")


def _adjusted(layout: str, exporter: Exporter, settings: Sequence[str]) -> Exporter:
    given: dict[str, str] = {}
    for text in settings:
        name, separator, value = text.partition("=")
        if not (separator and name and value):
            raise InputError(f"--set {text}: must be NAME=VALUE")
        if given.setdefault(name, value) != value:
            raise InputError(f"--set {name}: stands there twice")
    if isinstance(exporter, Adjustable):
        return exporter.adjusted(given)
    if given:
        raise InputError(f"--set: there is nothing to set for {layout}")
    return exporter


def _list_formats() -> None:
    screen = Screen.of_stdout()
    rows = [(name, find_exporter(name).summary) for name in names_of_extensions(GROUP)]
    answer([*screen.heading("formats"), *screen.rows(rows)])


def _default(layout: str, exporter: Exporter) -> list[str]:
    if exporter.default_registry is None:
        raise InputError(f"{layout}: name the registry whose keys are meant", hint=f"kedge keys export {layout} ID")
    return [exporter.default_registry]


def _print(layout: str, exported: Exported) -> None:
    if exported.is_text:
        answer(exported.content.decode().splitlines())
    elif sys.stdout.isatty():
        raise InputError(f"{layout}: is no text, and a terminal cannot show it", hint="name a file with --output")
    else:
        sys.stdout.flush()
        sys.stdout.buffer.write(exported.content)
        sys.stdout.buffer.flush()


def _is_named_by(variable: str, output: Path) -> bool:
    named = os.environ.get(variable)
    return bool(named) and output.absolute() == Path(named or "").absolute()


def _document(
    layout: str, exported: Exported, sources: Sequence[Source], trusts: Sequence[Trust], output: Path | None
) -> dict[str, Any]:
    chosen = {(key.registry, key.id) for key in exported.keys}
    return {
        "format": "kedge.key-export/1",
        "layout": layout,
        "variable": exported.variable,
        "value": exported.value,
        "text": exported.content.decode() if exported.is_text else None,
        "base64": None if exported.is_text else base64.b64encode(exported.content).decode("ascii"),
        "output": str(output) if output is not None else None,
        "sources": [
            {
                "registry": source.keys.registry,
                "anchor": trust.anchor,
                "target": source.keys.target,
                "sha256": source.keys.sha256,
                "keys": [
                    {"id": key.id, "status": key.status.value}
                    for key in exported.keys
                    if key.registry == source.keys.registry
                ],
                "left_out": [
                    key.id
                    for key in exported.left_out
                    if (key.registry, key.id) not in chosen and key.registry == source.keys.registry
                ],
            }
            for source, trust in zip(sources, trusts, strict=True)
        ],
        "notes": list(exported.notes),
    }

"""``kedge keys export``: a registry's keys as other tools read them."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from kedge._cli.clients import open_client
from kedge._cli.keys import speaking_anchor
from kedge._cli.options import AnchorName, Json, RequireRefresh, for_each
from kedge._cli.outfile import replace_file
from kedge._cli.output import answer, answer_json, visible
from kedge._cli.words import say_warnings
from kedge.errors import InputError
from kedge.keys import KeySet
from kedge.registries.npm.export import VARIABLE, Export, Layout, export_keys
from kedge.trust import Trust

__all__ = ["DEFAULT_UPSTREAM", "WithoutRetired", "export", "say_notes", "trusted_keys"]

DEFAULT_UPSTREAM = "registry.npmjs.org"
"""The registry whose keys npm's tools ask for when nobody says which."""

WithoutRetired = Annotated[bool, typer.Option("--without-retired", help="Leave out keys whose time is over.")]


def export(
    layout: Annotated[Layout, typer.Argument(metavar="FORMAT", help="What reads them.")],
    registries: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="REGISTRY", help=f"Registries' ids, {DEFAULT_UPSTREAM} if none is named; several are merged."
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
    require_refresh: RequireRefresh = False,
    json: Json = False,
) -> None:
    """Export keys for other tools.

    What the format cannot say is said on stderr. Revoked keys are never exported.
    """
    if output is not None and layout is Layout.GITHUB_ENV and _is_github_env(output):
        raise InputError(f"{output}: --output would replace what other steps wrote", hint='append: >> "$GITHUB_ENV"')
    answers = trusted_keys(registries or [DEFAULT_UPSTREAM], anchor, require_refresh=require_refresh)
    exported = export_keys([keys for keys, _ in answers], layout, with_retired=not without_retired)
    if output is not None:
        replace_file(output, exported.text.encode("ascii"))
    if json:
        answer_json(_document(exported, answers, output))
        return
    say_notes(exported)
    if output is None:
        answer(exported.text.splitlines())


def trusted_keys(
    registries: Sequence[str], anchor: str | None, *, require_refresh: bool = False
) -> list[tuple[KeySet, Trust]]:
    """Refresh, and give each registry's keys with the trust that they stand on; warnings go to stderr.

    Raises:
        KedgeError: trust, or a key document, cannot be had or is refused.
    """

    def keys_of(registry: str) -> tuple[KeySet, Trust]:
        with open_client(speaking_anchor(registry, anchor), require_refresh=require_refresh) as client:
            return client.registry_keys(registry), client.trust

    answers = for_each(dict.fromkeys(registries), keys_of)
    say_warnings(list(dict.fromkeys(trust for _, trust in answers)))
    return answers


def say_notes(exported: Export) -> None:
    """Say on stderr what the form that was exported cannot say."""
    for note in exported.notes:
        sys.stderr.write(f"kedge: note: {visible(note)}\n")


def _is_github_env(output: Path) -> bool:
    named = os.environ.get("GITHUB_ENV")
    return bool(named) and output.absolute() == Path(named or "").absolute()


def _document(exported: Export, answers: Sequence[tuple[KeySet, Trust]], output: Path | None) -> dict[str, Any]:
    chosen = {(key.registry, key.id) for key in exported.keys}
    return {
        "format": "kedge.key-export/1",
        "layout": exported.layout.value,
        "variable": None if exported.layout is Layout.NPM_ENDPOINT else VARIABLE,
        "value": exported.value,
        "text": exported.text,
        "output": str(output) if output is not None else None,
        "sources": [
            {
                "registry": keys.registry,
                "anchor": trust.anchor,
                "target": keys.target,
                "sha256": keys.sha256,
                "keys": [
                    {"id": key.id, "status": key.status.value} for key in exported.keys if key.registry == keys.registry
                ],
                "left_out": [
                    key.id
                    for key in exported.left_out
                    if (key.registry, key.id) not in chosen and key.registry == keys.registry
                ],
            }
            for keys, trust in answers
        ],
        "notes": list(exported.notes),
    }

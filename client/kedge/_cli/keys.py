"""``kedge keys``: a registry's keys, refreshed and verified."""

from __future__ import annotations

from typing import Annotated

import typer

from kedge._cli.options import (
    AnchorName,
    AsOf,
    Json,
    RequireRefresh,
    chosen_anchors,
    for_each,
    open_client,
    read_as_of,
    registry_ids,
    takes_mirrors,
)
from kedge._cli.output import Screen, answer, answer_json, key_lines, key_list_lines, keys_document, say_warnings
from kedge.client import Anchor, anchor_for_registry, load_anchor
from kedge.errors import InputError
from kedge.files import config_folder
from kedge.registries import KeySet, find_registry
from kedge.tuf import Trust


@takes_mirrors
def show(
    registry: Annotated[
        str, typer.Argument(metavar="REGISTRY", help="A registry's id, such as its host.", autocompletion=registry_ids)
    ],
    anchor: AnchorName = None,
    as_of: AsOf = None,
    require_refresh: RequireRefresh = False,
    pem: Annotated[bool, typer.Option("--pem", help="Print each key as PEM as well.")] = False,
    json: Json = False,
) -> None:
    """Show a registry's keys, and what they stand on.

    Without --anchor the one that speaks for the registry is used.
    """
    moment = read_as_of(as_of)
    with open_client(speaking_anchor(registry, anchor), as_of=moment, require_refresh=require_refresh) as client:
        keys, trust = client.registry_keys(registry), client.trust
    say_warnings([trust])
    if json:
        answer_json(keys_document([(keys, trust)]))
    else:
        answer(key_lines(Screen.of_stdout(), keys, trust, pem=pem))


@takes_mirrors
def list_keys(
    registries: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="REGISTRY",
            help="Registries' ids; all that the anchors speak for, if none is named.",
            autocompletion=registry_ids,
        ),
    ] = None,
    anchor: AnchorName = None,
    as_of: AsOf = None,
    require_refresh: RequireRefresh = False,
    json: Json = False,
) -> None:
    """List the keys of registries, a line each."""
    moment = read_as_of(as_of)
    wanted: dict[str, list[str]] = {}
    speakers: dict[str, Anchor] = {}
    for registry, speaker in _pairs(registries or [], anchor):
        speakers[speaker.name] = speaker
        wanted.setdefault(speaker.name, []).append(registry)

    def listed(name: str) -> list[tuple[KeySet, Trust]]:
        with open_client(speakers[name], as_of=moment, require_refresh=require_refresh) as client:
            return [(client.registry_keys(registry), client.trust) for registry in wanted[name]]

    answers = [pair for pairs in for_each(wanted, listed) for pair in pairs]
    say_warnings(list(dict.fromkeys(trust for _, trust in answers)))
    if json:
        answer_json(keys_document(answers))
    else:
        screen = Screen.of_stdout()
        answer(line for keys, trust in answers for line in key_list_lines(screen, keys, trust))


def speaking_anchor(registry: str, name: str | None) -> Anchor:
    """Give the anchor of that name; without one, the anchor that speaks for the registry.

    Raises:
        InputError: there is none, or the registry's id is none.
    """
    config = config_folder()
    find_registry(registry).target_path(registry)  # what is no id at all is said before who speaks for it
    return anchor_for_registry(registry, config) if name is None else load_anchor(name, config)


def _pairs(registries: list[str], name: str | None) -> list[tuple[str, Anchor]]:
    if registries:
        return [(registry, speaking_anchor(registry, name)) for registry in dict.fromkeys(registries)]
    pairs = [(registry, anchor) for anchor in chosen_anchors(name) for registry in anchor.registries]
    if name is None:
        pairs = [
            (registry, speaking_anchor(registry, None)) for registry in dict.fromkeys(registry for registry, _ in pairs)
        ]
    if not pairs:
        raise InputError("no anchor names a registry", hint="name one: kedge keys list REGISTRY --anchor NAME")
    return pairs

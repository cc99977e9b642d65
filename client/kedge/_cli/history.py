"""``kedge history``: which keys were trusted on a day, since when, by which metadata, and who signed it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from kedge._cli.history_log import history_from_log
from kedge._cli.history_words import (
    At,
    diff_document,
    diff_lines,
    history_document,
    history_lines,
    windows_document,
    windows_lines,
)
from kedge._cli.mirrors import read_mirror, takes_mirrors
from kedge._cli.options import AnchorName, Json, read_as_of, registry_ids, the_anchor
from kedge._cli.output import Screen, answer, answer_json, warn
from kedge.anchor import Anchor
from kedge.errors import InputError
from kedge.folders import state_folder
from kedge.history.moments import Story, tell
from kedge.history.places import KeptSet, kept_in_folder, kept_in_mirror, kept_in_state
from kedge.history.questions import differences, moment_at, windows
from kedge.store import Store
from kedge.transport import BUNDLE_SUFFIX

__all__ = ["COMMANDS", "HELP", "diff", "history", "keys"]

HELP = """Which keys were trusted on a day, since when, by which metadata version, and who signed it.

Without a command it lists every moment that it knows, or answers for the day of --at. What it knows comes from a state
with keep_history, or from places that --from names: a folder of bundles, or a copy that kedge mirror sync made. All of
it is verified from the anchor.
"""

Places = Annotated[
    list[str] | None,
    typer.Option(
        "--from",
        metavar="DIR|URL",
        help="A folder of bundles, a copy, or a mirror; else this machine's state. May be repeated.",
        show_default=False,
    ),
]
Registries = Annotated[
    list[str] | None,
    typer.Option(
        "--registry", metavar="ID", help="Registries; else those that the anchor speaks for. May be repeated."
    ),
]
Day = Annotated[str, typer.Argument(metavar="TIME", help="A time, or a date.")]


@takes_mirrors
def history(
    context: typer.Context,
    at: Annotated[
        str | None,
        typer.Option("--at", "--as-of", metavar="TIME", help="Answer for this time, or date.", show_default=False),
    ] = None,
    place: Places = None,
    from_log: Annotated[
        bool,
        typer.Option("--from-log", help="Every key ever allowed, by the whole log: none is left out."),
    ] = False,
    registry: Registries = None,
    anchor: AnchorName = None,
    json: Json = False,
) -> None:
    """List the moments that are known, or say which keys were trusted at a time.

    With --from-log all entries of the repository's log are read, and must make the root hash that the log and its
    witnesses signed. Exit 5 where the log contradicts itself.
    """
    if context.invoked_subcommand is not None:
        return
    chosen = the_anchor(anchor)
    if from_log:
        _from_log(chosen, place, at, registry or [], json=json)
        return
    story = _story(chosen, place, registry or chosen.registries)
    asked = _at(story, _time(at)) if at is not None else None
    if json:
        answer_json(history_document(chosen.name, story, asked))
    else:
        answer(history_lines(Screen.of_stdout(), story, asked))


def diff(
    before: Day,
    after: Day,
    place: Places = None,
    registry: Registries = None,
    anchor: AnchorName = None,
    json: Json = False,
) -> None:
    """Say what changed between two times: versions, signers, and keys one by one."""
    chosen = the_anchor(anchor)
    story = _story(chosen, place, registry or chosen.registries)
    pair = tuple(_at(story, _time(day)) for day in (before, after))
    changes = differences(pair[0].chosen.moment, pair[1].chosen.moment)
    if json:
        answer_json(diff_document(chosen.name, pair, changes))
    else:
        answer(diff_lines(Screen.of_stdout(), pair, changes))


def keys(
    registry: Annotated[
        str, typer.Argument(metavar="REGISTRY", help="A registry's id, such as its host.", autocompletion=registry_ids)
    ],
    place: Places = None,
    anchor: AnchorName = None,
    json: Json = False,
) -> None:
    """List every key that was ever allowed for a registry: from when, until when, and by whose word."""
    chosen = the_anchor(anchor)
    found = windows(_story(chosen, place, [registry]), registry)
    if json:
        answer_json(windows_document(chosen.name, registry, found))
    else:
        answer(windows_lines(Screen.of_stdout(), registry, found))


COMMANDS: dict[str, Callable[..., None]] = {"diff": diff, "keys": keys}


def _from_log(
    anchor: Anchor, places: Sequence[str] | None, at: str | None, registries: Sequence[str], *, json: bool
) -> None:
    if places or at is not None or len(registries) > 1:
        raise InputError("--from-log goes with one --registry at most, and with neither --from nor --at")
    history_from_log(anchor, registries[0] if registries else None, as_json=json)


def _story(anchor: Anchor, places: Sequence[str] | None, registries: Iterable[str]) -> Story:
    story = tell(anchor, _sets(anchor, places), registries)
    for text in story.left_out:
        warn(f"left out: {text}")
    return story


def _sets(anchor: Anchor, places: Sequence[str] | None) -> Iterator[KeptSet]:
    if not places:
        yield from kept_in_state(Store(state_folder() / anchor.name))
    for place in places or ():
        folder = Path(place)
        if "://" not in place and not folder.is_dir():
            raise InputError(f"{place}: there is no such folder", hint="name a folder of bundles, a copy, or a URL")
        if "://" not in place and (folder / "state.json").is_file():
            yield from kept_in_state(Store(folder))
        elif "://" not in place and next(folder.rglob(f"*{BUNDLE_SUFFIX}"), None) is not None:
            yield from kept_in_folder(folder)
        else:
            yield from kept_in_mirror(read_mirror(place, anchor.mirrors[0]), anchor)


def _at(story: Story, day: datetime) -> At:
    chosen = moment_at(story, day)
    entries = {registry: entry.as_of(day) for registry, entry in chosen.moment.registries.items()}
    known = {registry: windows(story, registry) for registry in entries}
    return At(day=day, chosen=chosen, keys=entries, windows=known)


def _time(text: str) -> datetime:
    moment = read_as_of(text)
    if moment is None:
        raise InputError("a time must be given")
    return moment

"""What several verbs take, and what they mean by it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from functools import cache
from typing import Annotated, TypeVar

import typer

from kedge import anchor as anchors
from kedge._cli.output import report
from kedge.anchor import Anchor
from kedge.config import Settings, read_settings
from kedge.document import parse_time
from kedge.errors import ExitCode, InputError, KedgeError
from kedge.folders import config_folder

__all__ = [
    "AnchorName",
    "AsOf",
    "Json",
    "RequireRefresh",
    "chosen_anchors",
    "for_each",
    "read_as_of",
    "read_span",
    "registry_ids",
    "settings",
    "the_anchor",
]


@cache
def settings() -> Settings:
    """What this process goes by where no option says otherwise.

    Raises:
        InputError: a variable or the user's file holds what it cannot mean.
    """
    return read_settings(config_folder(), os.environ)


def registry_ids() -> list[str]:
    """The registries that the anchors speak for, for a shell that completes."""
    config = config_folder()
    return sorted({each for name in anchors.names(config) for each in anchors.load(name, config).registries})


AnchorName = Annotated[
    str | None,
    typer.Option(
        "--anchor",
        metavar="NAME",
        help="The anchor to start from (see: kedge anchor list).",
        show_default=False,
        callback=lambda name: name if name is not None else settings().anchor.value,
        autocompletion=lambda: anchors.names(config_folder()),
    ),
]
AsOf = Annotated[
    str | None,
    typer.Option(
        "--as-of",
        metavar="TIME",
        help="Judge by this time and keep nothing: 2026-08-22T00:00:00Z, or a date.",
        show_default=False,
    ),
]
RequireRefresh = Annotated[
    bool,
    typer.Option(
        "--require-refresh",
        help="Fail where the repository cannot be reached: no answer from stored trust.",
        callback=lambda wanted: wanted or settings().require_refresh.value,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]

# Where several exit statuses hold, the first of these is the command's.
SEVERITY = (ExitCode.REFUSED, ExitCode.EXPIRED, ExitCode.FAULTS, ExitCode.COULD_NOT)

SECONDS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}

A = TypeVar("A")
B = TypeVar("B")


def read_as_of(text: str | None) -> datetime | None:
    """Read the time of ``--as-of``; a date means its first moment in UTC.

    Raises:
        InputError: it is no time.
    """
    if text is None:
        return None
    try:
        return parse_time(f"{text}T00:00:00Z" if re.fullmatch(r"\d{4}-\d\d-\d\d", text, re.ASCII) else text)
    except ValueError as error:
        raise InputError(f"--as-of {text}: must be a time such as 2025-01-27T00:00:00Z, or a date") from error


def read_span(option: str, text: str | None) -> timedelta:
    """Read a span of time such as ``7d``, ``36h``, ``90m`` or ``30s``; none means zero.

    Raises:
        InputError: it is none.
    """
    match = re.fullmatch(r"(\d{1,9})([dhms])", text, re.ASCII) if text is not None else None
    if text is not None and match is None:
        raise InputError(f"{option} {text}: must be a span of time such as 7d, 36h or 90m")
    return timedelta(seconds=int(match[1]) * SECONDS[match[2]]) if match is not None else timedelta(0)


def chosen_anchors(name: str | None) -> list[Anchor]:
    """Give the anchor of that name; without one, all that were added, or those that ship if none was.

    Raises:
        InputError: there is none of that name, or its files cannot be read.
    """
    config = config_folder()
    names = [name] if name is not None else anchors.configured(config) or anchors.shipped()
    return [anchors.load(each, config) for each in names]


def the_anchor(name: str | None) -> Anchor:
    """Give the anchor of that name; without one, the only one that was added, or that ships if none was.

    Raises:
        InputError: there is none of that name, or there are several to choose from.
    """
    found = chosen_anchors(name)
    if len(found) > 1:
        names = ", ".join(anchor.name for anchor in found)
        raise InputError(f"there are several anchors: {names}", hint="choose one with --anchor NAME")
    return found[0]


def for_each(things: Iterable[A], work: Callable[[A], B]) -> list[B]:
    """Do the work for all of them; if it fails for some, raise the error that counts most and report the others.

    Raises:
        KedgeError: the work failed for at least one.
    """
    done: list[B] = []
    failed: list[KedgeError] = []
    for thing in things:
        try:
            done.append(work(thing))
        except KedgeError as error:
            failed.append(error)
    if not failed:
        return done
    *others, worst = sorted(failed, key=_rank, reverse=True)
    for other in others:
        report(other)
    raise worst


def _rank(error: KedgeError) -> int:
    return SEVERITY.index(error.exit_code) if error.exit_code in SEVERITY else len(SEVERITY)

"""What several verbs take, and what they mean by it.

Mirrors that a command line names: a URL, a folder or a bundle, instead of those of the anchor.

``--mirror`` is given to a verb by the decorator :func:`takes_mirrors`; every client that the verb opens keeps to it.

How the commands make a client: with the project's lock, if there is one.
"""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache, wraps
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from kedge._cli.output import report
from kedge.client import (
    Anchor,
    Lock,
    Settings,
    TrustClient,
    anchor_names,
    configured_anchors,
    find_lock,
    load_anchor,
    read_lock,
    read_settings,
    shipped_anchors,
)
from kedge.documents import parse_time
from kedge.errors import ExitCode, InputError, KedgeError
from kedge.files import config_folder
from kedge.registries import Allowances, parse_allowance
from kedge.transport import BUNDLE_SUFFIX, Mirror, open_mirror, split_url

Mirrors = Annotated[
    list[str] | None,
    typer.Option(
        "--mirror",
        metavar="URL|DIR|FILE",
        help="Ask this mirror or bundle, not the anchor's mirrors. May be repeated.",
        show_default=False,
    ),
]


@dataclass(slots=True)
class _Named:
    """What one command line names, and for which anchor it was used."""

    places: tuple[str, ...] = ()
    anchors: dict[str, None] = field(default_factory=dict)


_named: ContextVar[_Named | None] = ContextVar("mirrors of the command line", default=None)


def takes_mirrors(command: Callable[..., None]) -> Callable[..., None]:
    """Give a verb the option ``--mirror``."""

    @wraps(command)
    def with_mirrors(*arguments: object, mirror: list[str] | None = None, **options: object) -> None:
        with _naming(mirror or []):
            command(*arguments, **options)

    signature = inspect.signature(command, eval_str=True)
    option = inspect.Parameter("mirror", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Mirrors)
    parameters = [*signature.parameters.values(), option]
    with_mirrors.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined] # what typer reads
    return with_mirrors


def at_named_mirrors(anchor: Anchor) -> Anchor:
    """Give an anchor with the mirrors that the command line names, in the layout of its own; itself, if none is named.

    Raises:
        InputError: one of them cannot be used, or they are asked for two repositories.
    """
    named = _named.get()
    if named is None or not named.places:
        return anchor
    named.anchors[anchor.name] = None
    if len(named.anchors) > 1:
        both = " and ".join(named.anchors)
        raise InputError(f"--mirror is for one repository, not for {both}", hint="name its anchor with --anchor")
    return replace(anchor, mirrors=tuple(_like(place, anchor.mirrors) for place in dict.fromkeys(named.places)))


def read_mirror(place: str, options: Mirror) -> Mirror:
    """Read a mirror's URL, folder or bundle as a user writes it, with all else as ``options`` says.

    Raises:
        InputError: it cannot be used.
    """
    if "://" not in place:
        path = Path(place).absolute()
        if not (path.is_file() if path.suffix == BUNDLE_SUFFIX and not path.is_dir() else path.is_dir()):
            kind = "bundle" if path.suffix == BUNDLE_SUFFIX else "folder"
            raise InputError(
                f"{place}: there is no such {kind}",
                hint=f"a mirror is an https URL, a folder, or a bundle whose name ends in {BUNDLE_SUFFIX}",
            )
        place = str(path)
    mirror = replace(options, url=place)
    open_mirror(mirror).close()
    return mirror


def _like(place: str, mirrors: tuple[Mirror, ...]) -> Mirror:
    # What is meant for one origin (credentials, permissions) is not carried over to another.
    own = next((mirror for mirror in mirrors if _origin(mirror.url) == _origin(place)), None)
    first = mirrors[0]
    options = own or Mirror(url="", metadata=first.metadata, targets=first.targets, ca_file=first.ca_file)
    return read_mirror(place, options)


def _origin(url: str) -> tuple[str, str]:
    parts = split_url(url)
    return parts.scheme.lower(), parts.netloc.lower()


@contextmanager
def _naming(places: list[str]) -> Iterator[None]:
    token = _named.set(_Named(tuple(places)))
    try:
        yield
    finally:
        _named.reset(token)


@cache
def settings() -> Settings:
    """What this process goes by where no option says otherwise.

    Raises:
        InputError: a variable or the user's file holds what it cannot mean.
    """
    return read_settings(config_folder(), os.environ)


def read_allow(allow: list[str] | None) -> Allowances:
    """The user's exceptions: those of the command line, and those of the user's file as they are today.

    Raises:
        InputError: one of them is none, or the file cannot be read.
    """
    named = tuple(parse_allowance(text) for text in allow or ())
    return Allowances(entries=(*named, *settings().allow), today=datetime.now(UTC).date())


def registry_ids() -> list[str]:
    """The registries that the anchors speak for, for a shell that completes."""
    config = config_folder()
    return sorted({each for name in anchor_names(config) for each in load_anchor(name, config).registries})


AnchorName = Annotated[
    str | None,
    typer.Option(
        "--anchor",
        metavar="NAME",
        help="The anchor to start from (see: kedge anchor list).",
        show_default=False,
        callback=lambda name: name if name is not None else settings().anchor.value,
        autocompletion=lambda: anchor_names(config_folder()),
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
Allow = Annotated[
    list[str] | None,
    typer.Option(
        "--allow",
        metavar="KIND=SOURCE",
        help="Allow what no registry can vouch for, as git=github.com/corp/* (repeat).",
        show_default=False,
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
    names = [name] if name is not None else configured_anchors(config) or shipped_anchors()
    return [load_anchor(each, config) for each in names]


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


def open_client(anchor: Anchor, *, as_of: datetime | None = None, require_refresh: bool = False) -> TrustClient:
    """Make a client that keeps to the project's ``kedge.lock``, and to the mirrors that the command line names.

    Raises:
        InputError: the lock cannot be read, or a mirror cannot be used.
    """
    timeout_s = float(settings().timeout_s.value)
    anchor = at_named_mirrors(anchor)
    return TrustClient(anchor, as_of=as_of, timeout_s=timeout_s, require_refresh=require_refresh, lock=project_lock())


@cache
def project_lock() -> Lock | None:
    """Read the project's lock; say on stderr which ones are passed over.

    Raises:
        InputError: it cannot be read.
    """
    path, passed_over = find_lock(Path.cwd())
    for line in passed_over:
        sys.stderr.write(f"kedge: {line}\n")
    return read_lock(path) if path is not None else None

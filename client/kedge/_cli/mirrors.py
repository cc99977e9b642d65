"""Mirrors that a command line names: a URL, a folder or a bundle, instead of those of the anchor.

``--mirror`` is given to a verb by the decorator :func:`takes_mirrors`; every client that the verb opens keeps to it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import wraps
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from kedge.anchor import Anchor
from kedge.errors import InputError
from kedge.transport import BUNDLE_SUFFIX, Mirror, open_mirror

__all__ = ["at_named_mirrors", "read_mirror", "takes_mirrors"]

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
    parts = urlsplit(url)
    return parts.scheme.lower(), parts.netloc.lower()


@contextmanager
def _naming(places: list[str]) -> Iterator[None]:
    token = _named.set(_Named(tuple(places)))
    try:
        yield
    finally:
        _named.reset(token)

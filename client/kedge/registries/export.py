"""Verified keys in the forms that other tools read: what a form must offer, and how it is found.

A form is an entry point of the group ``kedge.exports``: its name is what the user types. The commands know forms by
this protocol only, so that another tool's form is another entry point and no change here.

What a form cannot say, it says in notes: an export carries less than the keys do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, cast, runtime_checkable

from kedge.errors import InputError
from kedge.registries.keys import KeySet, RegistryKey
from kedge.registries.registry import find_extension, load_extension, names_of_extensions
from kedge.tuf import Target

GROUP = "kedge.exports"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One registry's verified keys, and ``fetch``: a path to another verified target of the same repository."""

    keys: KeySet
    fetch: Callable[[str], Target]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """Keys in one form. ``content`` is the whole file, text in UTF-8 where ``is_text``.

    ``value`` is the part that goes into ``variable``, where the form is one that sets a variable. ``left_out`` holds
    the keys that were not exported, ``notes`` what the user should know of it.
    """

    content: bytes
    keys: tuple[RegistryKey, ...]
    left_out: tuple[RegistryKey, ...] = ()
    notes: tuple[str, ...] = ()
    is_text: bool = True
    variable: str | None = None
    value: str | None = None


class Exporter(Protocol):
    """One form in which another tool reads keys."""

    @property
    def summary(self) -> str:
        """What reads it, in a few words."""

    @property
    def default_registry(self) -> str | None:
        """The registry that is meant when the user names none; None: one must be named."""

    @property
    def appended_to(self) -> str | None:
        """The environment variable that names a file which this form is appended to and never replaces, or None."""

    def export(self, sources: Sequence[Source], *, with_retired: bool) -> Exported:
        """Put the keys of one or several registries into this form.

        Raises:
            VerificationError: no key is left to export (``no-keys``), or another target that the form needs is refused.
            InputError: these registries cannot be put together, or are not of the form's kind.
        """


@runtime_checkable
class Adjustable(Exporter, Protocol):
    """A form that cannot be written from keys alone: the user says more (``--set NAME=VALUE``)."""

    @property
    def settings(self) -> Mapping[str, str]:
        """What can be set, and what it means."""

    def adjusted(self, given: Mapping[str, str]) -> Exporter:
        """Give the form with these settings.

        Raises:
            InputError: one is not known, or cannot be used.
        """


def take_settings(given: Mapping[str, str], known: Mapping[str, str]) -> Mapping[str, str]:
    """Check that every setting is one that the form knows, and give them back.

    Raises:
        InputError: one is not.
    """
    for name in given:
        if name not in known:
            raise InputError(f"--set {name}: there is no such setting", hint=f"settings: {', '.join(known)}")
    return given


def find_exporter(name: str) -> Exporter:
    """Give the form ``name``.

    Raises:
        InputError: there is none of that name.
        StoreError: it cannot be loaded, or two installed packages offer it.
    """
    entry = find_extension(GROUP, name, what="the export format") if name else None
    if entry is None:
        known = ", ".join(names_of_extensions(GROUP))
        raise InputError(f'there is no export format "{name}"', hint=f"formats: {known}")
    # An entry point is untyped by nature; each form of ours is checked against the protocol by a test.
    return cast("Exporter", load_extension(entry, what="the export format"))

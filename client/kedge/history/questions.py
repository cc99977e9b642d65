"""What moments answer: which keys on a day, what changed between two days, and every key that was ever allowed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from kedge.document import format_time
from kedge.errors import InputError
from kedge.history.moments import Moment, RegistryKeys, Story
from kedge.keys import KeySet, RegistryKey

__all__ = ["Change", "Chosen", "KeyWindow", "differences", "moment_at", "windows"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The moment that answers for a day.

    ``certain`` is false where nobody says since when it held: then it is the oldest set that had not expired by then.
    ``expired`` says that it had: a client with no newer one refused to answer on that day.
    """

    moment: Moment
    certain: bool
    expired: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One difference between two moments; ``before`` and ``after`` are texts, None where there was nothing."""

    what: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyWindow:
    """A key that was ever allowed for a usage: from which moment on, and up to which.

    ``brought`` is the entry that first had it, ``gone`` the first moment after the last one that had it: None where it
    is allowed to this day. ``revoked`` is the first moment that revoked it.
    """

    key: RegistryKey
    first: Moment
    last: Moment
    brought: RegistryKeys
    gone: Moment | None
    revoked: Moment | None


def moment_at(story: Story, day: datetime) -> Chosen:
    """Choose the moment that was in force at a time.

    Raises:
        InputError: the history does not reach back so far.
    """
    dated = [moment for moment in story.moments if moment.since is not None and moment.since <= day]
    if dated:
        moment = dated[-1]
        return Chosen(moment=moment, certain=True, expired=moment.valid_until <= day)
    for moment in story.moments:
        if moment.since is None and day < moment.valid_until:
            return Chosen(moment=moment, certain=False, expired=False)
    first = next((moment.since for moment in story.moments if moment.since is not None), None)
    begins = f"it begins on {format_time(first)}" if first is not None else "everything in it had expired by then"
    raise InputError(f"the history says nothing of {format_time(day)}: {begins}")


def differences(before: Moment, after: Moment) -> list[Change]:
    """What is another between two moments: versions, signers, and keys one by one."""
    changes = [
        Change(what=f"{role} version", before=_text(before.versions.get(role)), after=_text(after.versions.get(role)))
        for role in _names(before.versions, after.versions)
        if before.versions.get(role) != after.versions.get(role)
    ]
    changes += [
        Change(
            what=f"{role} signed by",
            before=", ".join(before.signed_by.get(role, ())) or None,
            after=", ".join(after.signed_by.get(role, ())) or None,
        )
        for role in _names(before.signed_by, after.signed_by)
        if set(before.signed_by.get(role, ())) != set(after.signed_by.get(role, ()))
    ]
    for registry in _names(before.registries, after.registries):
        changes += _key_changes(registry, before.registries.get(registry), after.registries.get(registry))
    return changes


def windows(story: Story, registry: str) -> list[KeyWindow]:
    """Every key that was ever allowed for a registry, in the order in which they came.

    Raises:
        InputError: no set in the history holds this registry's keys.
    """
    moments = [moment for moment in story.moments if registry in moment.registries]
    if not moments:
        raise InputError(f"the history holds no keys of {registry}", hint="were they carried, or copied?")
    found: dict[tuple[str, tuple[str, ...]], KeyWindow] = {}
    for moment in moments:
        entry = moment.registries[registry]
        present = {(key.id, key.usages): key for key in entry.keys.keys if key.id not in entry.keys.revoked}
        for name, key in present.items():
            known = found.get(name)
            found[name] = KeyWindow(
                key=key,
                first=known.first if known is not None else moment,
                last=moment,
                brought=known.brought if known is not None else entry,
                gone=None,
                revoked=None,
            )
        for name, known in found.items():
            if name not in present and known.gone is None:
                revoked = moment if known.key.id in entry.keys.revoked else None
                found[name] = KeyWindow(
                    key=known.key,
                    first=known.first,
                    last=known.last,
                    brought=known.brought,
                    gone=moment,
                    revoked=revoked,
                )
    return list(found.values())


def _key_changes(registry: str, before: RegistryKeys | None, after: RegistryKeys | None) -> Iterator[Change]:
    old, new = _by_name(before), _by_name(after)
    for name in _names(old, new):
        if old.get(name) != new.get(name):
            yield Change(what=f"{registry} key {name}", before=old.get(name), after=new.get(name))


def _by_name(entry: RegistryKeys | None) -> dict[str, str]:
    if entry is None:
        return {}
    keys: KeySet = entry.keys
    told = {f"{key.id} for {', '.join(key.usages)}": _described(key) for key in keys.keys}
    present = {key.id for key in keys.keys}
    told.update({f"{keyid}": "revoked" for keyid in keys.revoked if keyid not in present})
    return told


def _described(key: RegistryKey) -> str:
    start = f" from {format_time(key.valid_from)}" if key.valid_from is not None else ""
    end = f" until {format_time(key.valid_until)}" if key.valid_until is not None else ""
    status = "revoked" if key.status.value == "revoked" else f"allowed{start}{end}"
    return f"{status}, {key.fingerprint}"


def _names(one: Iterable[str], other: Iterable[str]) -> list[str]:
    return sorted({*one, *other})


def _text(version: int | None) -> str | None:
    return None if version is None else str(version)

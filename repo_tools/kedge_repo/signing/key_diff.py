"""What changes inside a key document, key by key, and what that does to releases that were signed.

A document is read by the registry's own module, as a client reads it; one entry is a keyid with one usage, since each
usage has a validity of its own. The sample is a packument: the releases of one package with their signatures.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from kedge.documents import DocumentError, format_time, parse_time
from kedge.errors import InputError, StoreError, VerificationError
from kedge.registries import KeySet, RegistryKey
from kedge.registries.npm import SIGNATURES, verify_signature
from kedge_repo.workspace import KeyDocument

_ANY_TIME = datetime(2000, 1, 1, tzinfo=UTC)  # when a document is read decides its keys' status, which is not compared


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyDiff:
    """The entries that come, go and change (before, after), and the keyids that are revoked or are so no longer.

    ``problem`` says why the new document cannot be read as one; then nothing else is known. ``old`` and ``new`` are
    the key sets, where there are such.
    """

    added: tuple[RegistryKey, ...] = ()
    removed: tuple[RegistryKey, ...] = ()
    changed: tuple[tuple[RegistryKey, RegistryKey], ...] = ()
    revoked: tuple[str, ...] = ()
    no_longer_revoked: tuple[str, ...] = ()
    problem: str | None = None
    old: KeySet | None = None
    new: KeySet | None = None

    def lines(self) -> Iterator[str]:
        """The difference in words."""
        if self.problem is not None:
            yield f"WARNING: clients cannot read the new key document: {self.problem}"
            return
        yield from (f"removes key {_entry(key)}, {_window(key)}" for key in self.removed)
        yield from (f"adds key {_entry(key)}, {_window(key)}; sha256 {key.fingerprint}" for key in self.added)
        for before, after in self.changed:
            if before.material != after.material:
                yield f"WARNING: key {_entry(after)} is another key now; sha256 {after.fingerprint}"
            if _window(before) != _window(after):
                yield f"key {_entry(after)}: {_window(after)} (was {_window(before)})"
        yield from (f"revokes key {keyid}: nothing that it ever signed is accepted any more" for keyid in self.revoked)
        yield from (f"WARNING: key {keyid} is revoked no longer" for keyid in self.no_longer_revoked)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The releases of one package: version, integrity, signatures (keyid and base64), and when it was published."""

    package: str
    releases: tuple[tuple[str, str, tuple[tuple[str, str], ...], datetime | None], ...]

    @property
    def timed(self) -> bool:
        """Whether it says when the releases were published."""
        return all(published is not None for *_, published in self.releases)


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleCount:
    """How many of a sample's releases verify before and after, and how many stop and begin to."""

    package: str
    releases: int
    before: int
    after: int
    stop: int
    start: int
    timed: bool

    def line(self) -> str:
        """The count in words."""
        parts = [f"{self.stop} of {self.releases} releases stop verifying"]
        if self.start:
            parts.append(f"{self.start} begin to")
        basis = "" if self.timed else " (the sample states no publish times: each is judged inside its key's validity)"
        return f"sample {self.package}: {', '.join(parts)}{basis}"


def compare(
    document: KeyDocument,
    old: tuple[bytes, Mapping[str, Any] | None] | None,
    new: tuple[bytes, Mapping[str, Any] | None] | None,
) -> KeyDiff:
    """Compare two versions of a key document: bytes and ``custom`` of the target (None: there is no such target)."""
    before = None
    if old is not None:
        try:
            before = document.read(*old, now=_ANY_TIME)
        except DocumentError:
            before = None  # it is being replaced: what matters is whether the new one can be read
    after = None
    if new is not None:
        try:
            after = document.read(*new, now=_ANY_TIME)
        except DocumentError as error:
            return KeyDiff(problem=str(error), old=before)
    was, now = _entries(before), _entries(after)
    gone, come = _revoked(before), _revoked(after)
    return KeyDiff(
        added=tuple(key for name, key in now.items() if name not in was),
        removed=tuple(key for name, key in was.items() if name not in now),
        changed=tuple(
            (was[name], key) for name, key in now.items() if name in was and _facts(was[name]) != _facts(key)
        ),
        revoked=tuple(keyid for keyid in come if keyid not in gone),
        no_longer_revoked=tuple(keyid for keyid in gone if keyid not in come) if after is not None else (),
        old=before,
        new=after,
    )


def read_sample(data: bytes) -> Sample:
    """Read a packument, whole or abbreviated, as the registry serves it.

    Raises:
        DocumentError: it is not one.
    """
    try:
        value = json.loads(data)
        times = value.get("time") or {}
        releases = tuple(
            (
                str(version),
                str(entry["dist"].get("integrity", "")),
                tuple((str(item["keyid"]), str(item["sig"])) for item in entry["dist"].get("signatures") or ()),
                parse_time(times[version]) if version in times else None,
            )
            for version, entry in value["versions"].items()
        )
        return Sample(package=str(value["name"]), releases=releases)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DocumentError("", "is not a packument: expected name, and versions with dist.signatures") from error


def count(sample: Sample, diff: KeyDiff) -> SampleCount:
    """Count the releases of ``sample`` that verify before and after ``diff``."""
    before, after = set(_verifying(sample, diff.old, diff)), set(_verifying(sample, diff.new, diff))
    return SampleCount(
        package=sample.package,
        releases=len(sample.releases),
        before=len(before),
        after=len(after),
        stop=len(before - after),
        start=len(after - before),
        timed=sample.timed,
    )


def _verifying(sample: Sample, keys: KeySet | None, diff: KeyDiff) -> Iterator[str]:
    if keys is None:
        return
    for version, integrity, signatures, published in sample.releases:
        for keyid, signature in signatures:
            at = published or _moment_inside(keyid, diff)
            try:
                verify_signature(
                    keys, sample.package, version, integrity, keyid=keyid, signature=signature, published=at
                )
            except (VerificationError, DocumentError, StoreError, InputError):
                continue
            yield version
            break


def _moment_inside(keyid: str, diff: KeyDiff) -> datetime | None:
    """A moment when the key was valid, by the old document if it names the key, else by the new one."""
    for keys in (diff.old, diff.new):
        for key in keys.keys if keys is not None else ():
            if key.id == keyid and SIGNATURES in key.usages:
                return key.valid_until - timedelta(seconds=1) if key.valid_until is not None else key.valid_from
    return None


def _entries(keys: KeySet | None) -> dict[tuple[str, tuple[str, ...]], RegistryKey]:
    return {(key.id, key.usages): key for key in keys.keys} if keys is not None else {}


def _revoked(keys: KeySet | None) -> tuple[str, ...]:
    return keys.revoked if keys is not None else ()


def _facts(key: RegistryKey) -> tuple[object, ...]:
    return (key.material, key.algorithm, key.valid_from, key.valid_until)


def _entry(key: RegistryKey) -> str:
    return f"{key.id} for {', '.join(key.usages)}"


def _window(key: RegistryKey) -> str:
    start = f"from {format_time(key.valid_from)}" if key.valid_from else "from any time"
    return f"valid {start} to {format_time(key.valid_until)}" if key.valid_until else f"valid {start} on"

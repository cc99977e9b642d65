"""Verifies an apt repository: the signature on its Release, the Release's age, its indexes, and packages on disk.

The chain is Release → Packages → .deb, each link by size and SHA-256. A link is checked only if the one above it
holds: what hangs on a Release that nobody known signed is not right and not wrong, and counts as a fault. A Release
that is too old, or older than one seen before, is a fault of its own, and the chain below it is checked all the same.

What became of a Release, an index or a package of an apt repository; and how old a Release may be. Pure.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from kedge.documents import DocumentError, Fields, format_time
from kedge.errors import FetchError, InputError, StoreError, VerificationError
from kedge.registries import Checked, KeySet, Memory, Served, TooLongError
from kedge.registries.apt.release import Index, Listed, Release, SignedRelease, Stanza, read_release, unpack
from kedge.registries.pgp import Checker, SignatureOutcome, future_refusals, judge, keyring_of, read_signature, split

FUTURE_TOLERANCE = timedelta(seconds=10)  # as apt's Acquire::Max-FutureTime


class Outcome(StrEnum):
    """The outcome for one thing. The values stand in ``--json``; those of signatures are OpenPGP's."""

    VERIFIED = "verified"
    UNSIGNED = "unsigned"
    BAD_SIGNATURE = "bad-signature"
    REVOKED_KEY = "revoked-key"
    EXPIRED_KEY = "expired-key"
    EXPIRED_SIGNATURE = "expired-signature"
    WEAK_DIGEST = "weak-digest"
    UNKNOWN_KEY = "unknown-key"
    UNCHECKED = "unchecked"
    MALFORMED = "malformed"
    WRONG_SUITE = "wrong-suite"
    ROLLED_BACK = "rolled-back"
    EXPIRED = "expired"
    STALE = "stale"
    NOT_YET_VALID = "not-yet-valid"
    DIGEST_MISMATCH = "digest-mismatch"
    NOT_LISTED = "not-listed"
    MISSING = "missing"
    TOO_LONG = "too-long"
    UNREACHABLE = "unreachable"


GOOD: frozenset[StrEnum] = frozenset({Outcome.VERIFIED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the user decides: how old a Release without ``Valid-Until`` may be, and which suite is meant.

    ``accept_older`` takes a Release that is older than one that was seen: the way out where that was a mistake.
    """

    max_age: timedelta = field(default=timedelta(days=180))
    suite: str | None = None
    accept_older: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Aged:
    """What a Release's dates came to; ``outcome`` is ``VERIFIED`` where nothing speaks against it."""

    outcome: Outcome
    detail: str = ""
    notes: tuple[str, ...] = ()


def subject_of(registry: str, release: Release) -> str:
    """Of what a Release is the newest: the archive by its key document, and what it calls itself for good.

    The suite is left out where there is a codename: stable becomes oldstable, and stays the same repository.
    """
    return " ".join(
        part or "-" for part in (registry, release.origin, release.label, release.codename or release.suite)
    )


def is_newer(seen: Mapping[str, Any] | None, release: Release) -> bool:
    """Whether a Release that was seen before is newer than this one.

    Raises:
        DocumentError: what was seen cannot be read.
    """
    return seen is not None and _seen(seen)[0] > release.date


def remembered(release: Release, sha256: str, seen: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """What is to be remembered once ``release`` was verified: the newer of it and of what was seen.

    Raises:
        DocumentError: what was seen cannot be read.
    """
    if seen is not None and _seen(seen)[0] > release.date:
        return seen
    return {"date": format_time(release.date), "sha256": sha256}


def judge_age(release: Release, sha256: str, seen: Mapping[str, Any] | None, policy: Policy, *, now: datetime) -> Aged:
    """Judge a Release's dates and names at ``now``, and against the one that was seen before.

    Raises:
        DocumentError: what was seen cannot be read.
    """
    notes: tuple[str, ...] = ()
    if policy.suite is not None and not release.is_called(policy.suite):
        found = " and ".join(dict.fromkeys(filter(None, (release.suite, release.codename))))
        return Aged(outcome=Outcome.WRONG_SUITE, detail=f"{policy.suite} was asked for, and this is {found}")
    if seen is not None:
        date, digest = _seen(seen)
        if release.date < date:
            detail = f"made at {format_time(release.date)}, and one of {format_time(date)} was seen before: a replay"
            if not policy.accept_older:
                return Aged(outcome=Outcome.ROLLED_BACK, detail=detail)
            notes = (f"{detail}, which you accept",)
        elif release.date == date and digest != sha256:
            notes = ("another Release of the very same date was seen before",)
    return _by_dates(release, policy, notes, now)


def _by_dates(release: Release, policy: Policy, notes: tuple[str, ...], now: datetime) -> Aged:
    age = f"made at {format_time(release.date)}, {_days(now - release.date)} ago"
    if release.date > now + FUTURE_TOLERANCE:
        detail = f"made at {format_time(release.date)}, and it is {format_time(now)} now"
        return Aged(outcome=Outcome.NOT_YET_VALID, detail=detail, notes=notes)
    if release.valid_until is not None:
        over = release.valid_until <= now
        detail = f"{age}, valid until {format_time(release.valid_until)}"
        return Aged(outcome=Outcome.EXPIRED if over else Outcome.VERIFIED, detail=detail, notes=notes)
    if now - release.date > policy.max_age:
        detail = f"{age}; it says not how long it holds (no Valid-Until), and {_days(policy.max_age)} are allowed"
        return Aged(outcome=Outcome.STALE, detail=detail, notes=notes)
    return Aged(outcome=Outcome.VERIFIED, detail=f"{age}; no Valid-Until", notes=notes)


def _seen(seen: Mapping[str, Any]) -> tuple[datetime, str]:
    fields = Fields(seen, "seen")
    return fields.time("date"), fields.sha256("sha256")


def _days(age: timedelta) -> str:
    if age < timedelta(days=2):
        hours = int(age.total_seconds() // 3600)
        return f"{hours} {'hour' if hours == 1 else 'hours'}"
    return f"{age.days} days"


MAX_INDEX_FILE_BYTES = 512 << 20
# What is validly signed is the newest that there is, also where it is too old: an older one is a replay all the more.
_REMEMBERED = frozenset({Outcome.VERIFIED, Outcome.EXPIRED, Outcome.STALE})
_INDEX = re.compile(r"(?:.*/)?Packages(?:\.[a-z0-9]+)?")
_FORMS = (".xz", ".zst", ".gz", ".lz4", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What came of a Release: the check, and its facts where its signature is right."""

    check: Checked
    release: Release | None


def verify_served(served: Served, file: str | None, judge: Callable[[SignedRelease], Verified]) -> Verified:
    """Read what a suite's folder serves as its Release, and let ``judge`` (:func:`verify_release`) check it.

    Raises:
        InputError: there is no Release.
        FetchError: it cannot be had in time.
        StoreError: as :func:`verify_release` does.
    """
    try:
        return judge(read_release(served, file))
    except TooLongError as error:
        told = Checked(name=served.url, outcome=Outcome.TOO_LONG, is_fault=True, facts={"what": "release", "key": None})
        return Verified(check=replace(told, detail=str(error)), release=None)


def verify_release(
    signed: SignedRelease, keys: KeySet, checker: Checker, policy: Policy, memory: Memory, *, now: datetime
) -> Verified:
    """Checked a Release: its frame, its signatures, its fields, its age. A newer one than before is remembered.

    Raises:
        StoreError: gpgv cannot be run, or what was seen before cannot be read.
    """

    def told(outcome: Outcome, detail: str = "", key: str | None = None, notes: tuple[str, ...] = ()) -> Checked:
        return Checked(
            name=signed.name,
            outcome=outcome,
            is_fault=outcome is not Outcome.VERIFIED,
            detail=detail,
            notes=notes,
            facts={"what": "release", "key": key},
        )

    try:
        text, signature = _take_apart(signed)
        if not signature:
            detail = "there is no signature: whoever served it, or somebody on the way, left it out"
            return Verified(check=told(Outcome.UNSIGNED, detail), release=None)
        judged = judge(checker.check(signature, text, keyring_of(keys)), keys)
        if judged.outcome is not SignatureOutcome.VERIFIED:
            return Verified(check=told(Outcome(judged.outcome.value), judged.detail), release=None)
        release = Release.from_text(text)
    except DocumentError as error:
        return Verified(check=told(Outcome.MALFORMED, str(error)), release=None)
    digest = hashlib.sha256(text).hexdigest()
    # An archive may publish several repositories under one name and one key, each at an address of its own: an older
    # Release is a replay at the same address, and worth a note at another.
    subject = archive = subject_of(keys.registry, release)
    try:
        newer_elsewhere = is_newer(memory.recall(archive), release)
        subject = f"{archive} {signed.name.rpartition('/')[0]}"
        aged = judge_age(release, digest, memory.recall(subject), policy, now=now)
        notes = (*judged.notes, *future_refusals(judged, keys), *aged.notes)
        if newer_elsewhere and aged.outcome is not Outcome.ROLLED_BACK:
            notes += ("another address of this archive served a newer Release",)
        if aged.outcome in _REMEMBERED:
            notes += _remember(memory, subject, release, digest, policy)
            notes += _remember(memory, archive, release, digest, policy)
    except DocumentError as error:
        raise StoreError(f"{memory.path(subject)}: what was seen before is damaged: {error}") from error
    return Verified(check=told(aged.outcome, f"{aged.detail}; by key {judged.key}", judged.key, notes), release=release)


def _take_apart(signed: SignedRelease) -> tuple[bytes, bytes]:
    if signed.signature is not None:
        return signed.data, read_signature(signed.signature)
    parts = split(signed.data)
    return parts.text, parts.signature


def _remember(memory: Memory, subject: str, release: Release, digest: str, policy: Policy) -> tuple[str, ...]:
    """Remember a Release that holds; a disk that refuses makes the answer no worse, and is said."""
    try:
        memory.update(subject, lambda seen: remembered(release, digest, None if policy.accept_older else seen))
    except StoreError as error:
        return (f"could not be remembered: {error.message}",)
    return ()


def fetch_indexes(
    served: Served, release: Release, *, components: Sequence[str], architectures: Sequence[str]
) -> Iterator[tuple[str, bytes] | Checked]:
    """Fetch the Packages indexes that the Release lists for these components and architectures, smallest form first."""
    for stem in _stems(release, components, architectures):
        listed = [release.files[f"{stem}{form}"] for form in _FORMS if f"{stem}{form}" in release.files]
        if not listed:
            yield _index(f"{served.url}/{stem}", Outcome.NOT_LISTED, "the Release lists no such index")
            continue
        yield _fetch(served, listed, by_hash=release.by_hash)


def _stems(release: Release, components: Sequence[str], architectures: Sequence[str]) -> list[str]:
    if any(f"Packages{form}" in release.files for form in _FORMS):
        return ["Packages"]  # a flat repository
    wanted = [part.rpartition("/")[2] for part in components] or release.components
    return [f"{part}/binary-{architecture}/Packages" for part in wanted for architecture in architectures]


def _fetch(served: Served, listed: Sequence[Listed], *, by_hash: bool) -> tuple[str, bytes] | Checked:
    # By its digest first, where the archive offers that: under its name, another one may lie there in a moment.
    for each, path in [(form, path) for form in listed for path in _paths(form, by_hash=by_hash)]:
        name = f"{served.url}/{each.path}"
        try:
            data = served.read(path, max_bytes=min(each.size, MAX_INDEX_FILE_BYTES))
        except TooLongError:
            return _index(name, Outcome.DIGEST_MISMATCH, f"is longer than the {each.size} bytes that are signed")
        except (FetchError, VerificationError) as error:
            return _index(name, Outcome.UNREACHABLE, error.message)
        if data is not None:
            return name, data
    return _index(f"{served.url}/{listed[0].path}", Outcome.MISSING, "is listed, and not there")


def _paths(listed: Listed, *, by_hash: bool) -> list[str]:
    folder = listed.path.rpartition("/")[0]
    hashed = [f"{folder}/by-hash/{name}/{value}".lstrip("/") for name, value in listed.digests.items()]
    return [*hashed, listed.path] if by_hash else [listed.path]


def check_indexes(release: Release | None, given: Sequence[tuple[str, bytes]]) -> tuple[list[Index], list[Checked]]:
    """Hold index files against the Release, by their bytes and not their names; give those that hold."""
    listing = release.files.values() if release is not None else ()
    by_size: dict[int, list[Listed]] = {}
    for listed in listing:
        if _INDEX.fullmatch(listed.path):
            by_size.setdefault(listed.size, []).append(listed)
    indexes: list[Index] = []
    checks: list[Checked] = []
    for name, data in given:
        if release is None:
            checks.append(_index(name, Outcome.UNCHECKED, "the Release that it would be held against is not verified"))
            continue
        found = next((each for each in by_size.get(len(data), ()) if each.holds(data)), None)
        if found is None:
            detail = "its bytes are in no entry of the Release: it is of another Release, or was changed"
            checks.append(_index(name, Outcome.DIGEST_MISMATCH, detail))
            continue
        try:
            indexes.append(Index(found.path, unpack(data)))
        except DocumentError as error:
            checks.append(_index(name, Outcome.MALFORMED, str(error)))
            continue
        checks.append(_index(name, Outcome.VERIFIED, f"is {found.path} of the Release"))
    return indexes, checks


def _index(name: str, outcome: Outcome, detail: str) -> Checked:
    fault = outcome is not Outcome.VERIFIED
    return Checked(name=name, outcome=outcome, is_fault=fault, detail=detail, facts={"what": "index"})


def not_needed(check: Checked) -> Checked:
    """An index that a mirror does not have is no failure where every package was found in another one."""
    if check.facts.get("what") == "index" and check.outcome is Outcome.MISSING:
        return replace(check, is_fault=False, detail=f"{check.detail}; no package here needs it")
    return check


def check_packages(indexes: Sequence[Index], files: Sequence[Path]) -> list[Checked]:
    """Hold packages on disk against verified indexes.

    Raises:
        InputError: a file cannot be read.
    """
    return [_check_package(indexes, file) for file in files]


def _check_package(indexes: Sequence[Index], file: Path) -> Checked:
    told = Checked(name=str(file), outcome=Outcome.UNCHECKED, is_fault=True, facts={"what": "package"})
    if not indexes:
        return replace(told, detail="no index is verified that it could be held against")
    digests, size = _digests(file)
    try:
        found = _first(index.by_digest(digests) for index in indexes)
        if found is not None and found.size == size:
            detail = f"is {found.package} {found.version} {found.architecture}"
            return replace(told, outcome=Outcome.VERIFIED, is_fault=False, detail=detail)
        other = _first(index.by_file(_plain_name(file)) for index in indexes)
    except DocumentError as error:
        return replace(told, outcome=Outcome.MALFORMED, detail=str(error))
    if other is None:
        return replace(told, outcome=Outcome.NOT_LISTED, detail="no verified index lists its bytes or its name")
    name, listed = next(iter(other.digests.items()))
    detail = f"{other.package} {other.version} is listed with {name} {listed}, and the file's is {digests[name]}"
    return replace(told, outcome=Outcome.DIGEST_MISMATCH, detail=detail)


def _first(found: Iterator[Stanza | None]) -> Stanza | None:
    return next((stanza for stanza in found if stanza is not None), None)


def _plain_name(file: Path) -> str:
    """A package's file name as a pool has it: apt's cache writes the epoch into it, and escapes the colon."""
    return re.sub(r"_\d+:", "_", unquote(file.name), count=1)


def _digests(file: Path) -> tuple[dict[str, str], int]:
    try:
        with file.open("rb") as stream:
            found = {}
            for name in ("SHA512", "SHA256"):
                stream.seek(0)
                found[name] = hashlib.file_digest(stream, name.lower()).hexdigest()
            return found, stream.tell()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{file}: cannot be read: {reason.lower()}") from error

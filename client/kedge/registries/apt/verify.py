"""Verifies an apt repository: the signature on its Release, the Release's age, its indexes, and packages on disk.

The chain is Release → Packages → .deb, each link by size and SHA-256. A link is checked only if the one above it
holds: what hangs on a Release that nobody known signed is not right and not wrong, and counts as a fault. A Release
that is too old, or older than one seen before, is a fault of its own, and the chain below it is checked all the same.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from urllib.parse import unquote

from kedge.document import DocumentError
from kedge.errors import FetchError, InputError, StoreError, VerificationError
from kedge.keys import KeySet
from kedge.memory import Memory
from kedge.registries.apt.index import Index, Stanza, unpack
from kedge.registries.apt.release import Listed, Release
from kedge.registries.apt.source import SignedRelease, read_release
from kedge.registries.apt.verdict import Outcome, Policy, judge_age, remembered, subject_of
from kedge.registries.checklist import Checked
from kedge.registries.pgp.clearsigned import split
from kedge.registries.pgp.detached import read_signature
from kedge.registries.pgp.document import keyring_of
from kedge.registries.pgp.judge import SignatureOutcome, judge
from kedge.registries.pgp.tool import Checker
from kedge.registries.served import Served, TooLongError

__all__ = ["Verified", "check_indexes", "check_packages", "fetch_indexes", "verify_release", "verify_served"]

MAX_INDEX_FILE_BYTES = 512 << 20
# What is validly signed is the newest that there is, also where it is too old: an older one is a replay all the more.
_REMEMBERED = frozenset({Outcome.VERIFIED, Outcome.EXPIRED, Outcome.STALE})
_INDEX = re.compile(r"(?:.*/)?Packages(?:\.[a-z0-9]+)?")
_FORMS = (".xz", ".gz", "")


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
    subject = subject_of(keys.registry, release)
    try:
        seen = memory.recall(subject)
        aged = judge_age(release, digest, seen, policy, now=now)
        notes = (*judged.notes, *aged.notes)
        if aged.outcome in _REMEMBERED:
            notes += _remember(memory, subject, release, digest, policy)
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
    if any(name in release.files for name in ("Packages", "Packages.gz", "Packages.xz")):
        return ["Packages"]  # a flat repository
    wanted = components or release.components
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
    return [f"{folder}/by-hash/SHA256/{listed.sha256}", listed.path] if by_hash else [listed.path]


def check_indexes(release: Release | None, given: Sequence[tuple[str, bytes]]) -> tuple[list[Index], list[Checked]]:
    """Hold index files against the Release, by their bytes and not their names; give those that hold."""
    listing = release.files.values() if release is not None else ()
    by_digest = {listed.sha256: listed for listed in listing if _INDEX.fullmatch(listed.path)}
    indexes: list[Index] = []
    checks: list[Checked] = []
    for name, data in given:
        if release is None:
            checks.append(_index(name, Outcome.UNCHECKED, "the Release that it would be held against is not verified"))
            continue
        listed = by_digest.get(hashlib.sha256(data).hexdigest())
        if listed is None or listed.size != len(data):
            detail = "its bytes are in no entry of the Release: it is of another Release, or was changed"
            checks.append(_index(name, Outcome.DIGEST_MISMATCH, detail))
            continue
        try:
            indexes.append(Index(listed.path, unpack(data)))
        except DocumentError as error:
            checks.append(_index(name, Outcome.MALFORMED, str(error)))
            continue
        checks.append(_index(name, Outcome.VERIFIED, f"is {listed.path} of the Release"))
    return indexes, checks


def _index(name: str, outcome: Outcome, detail: str) -> Checked:
    fault = outcome is not Outcome.VERIFIED
    return Checked(name=name, outcome=outcome, is_fault=fault, detail=detail, facts={"what": "index"})


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
    digest, size = _digest(file)
    try:
        found = _first(index.by_digest(digest) for index in indexes)
        if found is not None and found.size == size:
            detail = f"is {found.package} {found.version} {found.architecture}"
            return replace(told, outcome=Outcome.VERIFIED, is_fault=False, detail=detail)
        other = _first(index.by_file(_plain_name(file)) for index in indexes)
    except DocumentError as error:
        return replace(told, outcome=Outcome.MALFORMED, detail=str(error))
    if other is None:
        return replace(told, outcome=Outcome.NOT_LISTED, detail="no verified index lists its bytes or its name")
    detail = f"{other.package} {other.version} is listed with sha256 {other.sha256}, and the file's is {digest}"
    return replace(told, outcome=Outcome.DIGEST_MISMATCH, detail=detail)


def _first(found: Iterator[Stanza | None]) -> Stanza | None:
    return next((stanza for stanza in found if stanza is not None), None)


def _plain_name(file: Path) -> str:
    """A package's file name as a pool has it: apt's cache writes the epoch into it, and escapes the colon."""
    return re.sub(r"_\d+:", "_", unquote(file.name), count=1)


def _digest(file: Path) -> tuple[str, int]:
    try:
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
            return digest, stream.tell()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{file}: cannot be read: {reason.lower()}") from error

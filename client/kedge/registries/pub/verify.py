"""Verifies a ``pubspec.lock``: each hosted package against the signed listing of its versions.

What is locked is bound by its digest. What a mirror shows, and archives on disk, are held against the same listing if
they are given. Nothing that a mirror says is believed anywhere: it is compared.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from kedge.document import DocumentError, blame_served
from kedge.errors import FetchError, InputError, VerificationError
from kedge.registries.checklist import Checked
from kedge.registries.pub.compare import Fault, compare
from kedge.registries.pub.document import PubSource, listing_path
from kedge.registries.pub.listing import Listing, read_answer, read_listing
from kedge.registries.pub.lockfile import LockedPackage
from kedge.steps import Area, Fetch
from kedge.transport import Deadline, Transport
from kedge.trust import Target

__all__ = ["GOOD", "Mirrored", "Outcome", "Plan", "ask_mirror", "find_archives", "judge", "plan"]

AHEAD = 16
MAX_ANSWER_BYTES = 16_000_000


class Outcome(StrEnum):
    """What became of one locked package."""

    VERIFIED = "verified"
    RETRACTED = "retracted"
    DIGEST_MISMATCH = "digest-mismatch"
    BYTES_DIFFER = "bytes-differ"
    NOT_LISTED = "not-listed"
    NO_LISTING = "no-listing"
    NOT_BOUND = "not-bound"
    REPLACED = "replaced"
    WITHOUT_DIGEST = "without-digest"
    HIDDEN = "hidden"
    REPLAYED = "replayed"
    UNLISTED = "unlisted"
    MALFORMED = "malformed"
    UNREACHABLE = "unreachable"
    OTHER_SOURCE = "other-source"
    SKIPPED = "skipped"


GOOD = frozenset({Outcome.VERIFIED, Outcome.RETRACTED})

Mirrored = Listing | DocumentError | FetchError | VerificationError | None
"""What a mirror answered about a package: its listing, what is wrong with it, or None: it has no such package."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be asked for: target paths by package name; and what needs no asking."""

    paths: Mapping[str, str]
    decided: Mapping[str, Checked] = field(default_factory=dict)


def plan(packages: Sequence[LockedPackage], registry: str, source: PubSource, skip: Sequence[str] = ()) -> Plan:
    """Decide which packages' listings are needed.

    Raises:
        InputError: the registry's id is none.
    """
    paths: dict[str, str] = {}
    decided: dict[str, Checked] = {}
    for package in packages:
        if package.name in skip:
            decided[package.name] = _checked(package, Outcome.SKIPPED, "left out, as you asked", fault=False)
        elif package.source != "hosted" or package.url is None:
            detail = f"from {package.source}, which no registry lists"
            decided[package.name] = _checked(package, Outcome.SKIPPED, detail, fault=False)
        elif not source.names(package.url):
            detail = f"locked from {package.url}, which is not {source.url} nor one of its mirrors"
            decided[package.name] = _checked(package, Outcome.OTHER_SOURCE, detail)
        else:
            paths[package.name] = listing_path(registry, package.name)
    return Plan(paths=paths, decided=decided)


def judge(
    packages: Sequence[LockedPackage],
    planned: Plan,
    listings: Mapping[str, Target],
    *,
    mirrored: Mapping[str, Mirrored] | None = None,
    archives: Mapping[tuple[str, str], Path] | None = None,
    strict: bool = False,
) -> Iterator[Checked]:
    """Judge every locked package by the signed listings; ``mirrored`` is what a mirror answered, by name.

    Raises:
        VerificationError: a signed listing cannot be read.
        InputError: an archive cannot be read.
    """
    for package in packages:
        if package.name in planned.decided:
            yield planned.decided[package.name]
            continue
        target = listings.get(planned.paths[package.name])
        if target is None:
            detail = "nobody signed for a listing of this package"
            yield _checked(package, Outcome.NO_LISTING, detail)
            continue
        with blame_served(target.path):
            listing = read_listing(target.data)
            if listing.name != package.name:
                raise DocumentError("name", f"must be {package.name}, as its path says")
        archive = (archives or {}).get((package.name, package.version))
        yield _judge(package, listing, archive, mirrored, strict=strict)


def ask_mirror(
    transport: Transport,
    names: Sequence[str],
    *,
    timeout_s: float,
    progress: Callable[[int], None] = lambda _count: None,
) -> dict[str, Mirrored]:
    """Ask a mirror for what it shows of each package, many at a time."""
    deadline = Deadline(timeout_s)
    requests = [Fetch(Area.TARGETS, f"api/packages/{name}", MAX_ANSWER_BYTES) for name in names]
    found: dict[str, Mirrored] = {}
    for index, (name, request) in enumerate(zip(names, requests, strict=True)):
        ahead = tuple(requests[index + 1 : index + AHEAD])
        try:
            answer = transport.get(Fetch(request.area, request.path, request.max_bytes, ahead=ahead), deadline)
            found[name] = read_answer(answer, name) if isinstance(answer, bytes) else None
        except (FetchError, VerificationError, DocumentError) as error:
            found[name] = error
        progress(1)
    return found


def find_archives(folder: Path, packages: Sequence[LockedPackage]) -> dict[tuple[str, str], Path]:
    """The archives of locked packages below a folder: ``NAME-VERSION.tar.gz``, or laid out as a mirror's API is.

    Raises:
        InputError: there is no such folder.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder")
    found: dict[tuple[str, str], Path] = {}
    for package in packages:
        name, version = package.name, package.version
        for place in (
            f"{name}-{version}.tar.gz",
            f"packages/{name}/versions/{version}.tar.gz",
            f"{name}/{version}.tar.gz",
        ):
            if (folder / place).is_file():
                found[name, version] = folder / place
                break
    return found


def _judge(
    package: LockedPackage,
    listing: Listing,
    archive: Path | None,
    mirrored: Mapping[str, Mirrored] | None,
    *,
    strict: bool,
) -> Checked:
    faults = list(_faults(package, listing, archive))
    if mirrored is not None:
        faults += _mirror_faults(listing, mirrored.get(package.name))
    notes = list(_notes(package, listing, archive))
    if faults:
        outcome, detail = faults[0]
        also = [f"and {other.value}: {text}" for other, text in faults[1:]]
        return _checked(package, outcome, detail, notes=(*also, *notes))
    if package.version in listing.retracted:
        detail = "its publisher has retracted this version"
        return _checked(package, Outcome.RETRACTED, detail, fault=strict, notes=tuple(notes))
    return _checked(package, Outcome.VERIFIED, "", fault=False, notes=tuple(notes))


def _faults(package: LockedPackage, listing: Listing, archive: Path | None) -> Iterator[tuple[Outcome, str]]:
    if package.version not in listing.versions:
        yield Outcome.NOT_LISTED, f"the signed listing has no version {package.version}"
        return
    signed = listing.versions[package.version]
    if signed is None:
        yield Outcome.WITHOUT_DIGEST, "the signed listing states no digest of this version"
        return
    if package.sha256 is not None and package.sha256 != signed:
        yield Outcome.DIGEST_MISMATCH, f"locked is {package.sha256}, signed is {signed}"
    if archive is not None:
        found = _sha256(archive)
        if found != signed:
            yield Outcome.BYTES_DIFFER, f"{archive} is {found}, signed is {signed}"
    elif package.sha256 is None:
        yield Outcome.NOT_BOUND, "the lock file states no digest; --archives DIR binds it to the archive"


def _mirror_faults(listing: Listing, shown: Mirrored) -> list[tuple[Outcome, str]]:
    if isinstance(shown, FetchError | VerificationError):
        return [(Outcome.UNREACHABLE, shown.message)]
    if isinstance(shown, DocumentError):
        return [(Outcome.MALFORMED, f"the mirror's answer: {shown}")]
    if shown is None:
        return [(Outcome.HIDDEN, "the mirror has no such package")]
    return [(_OUTCOMES[found.fault], found.detail) for found in compare(listing, shown)]


_OUTCOMES = {fault: Outcome(fault.value) for fault in Fault}


def _notes(package: LockedPackage, listing: Listing, archive: Path | None) -> Iterator[str]:
    if listing.discontinued:
        instead = f", use {listing.replaced_by} instead" if listing.replaced_by else ""
        yield f"discontinued{instead}"
    if package.sha256 is None and archive is not None:
        yield "bound by its archive: the lock file states no digest"


def _checked(
    package: LockedPackage, outcome: Outcome, detail: str, *, fault: bool = True, notes: tuple[str, ...] = ()
) -> Checked:
    facts = {"version": package.version, "url": package.url, "sha256": package.sha256, "line": package.where}
    return Checked(name=package.spec, outcome=outcome, detail=detail, is_fault=fault, notes=notes, facts=facts)


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}") from error

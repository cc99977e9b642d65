"""Verifies a ``pubspec.lock``: each hosted package against the signed listing of its versions.

What is locked is bound by its digest. What a mirror shows, and archives on disk, are held against the same listing if
they are given. Nothing that a mirror says is believed anywhere: it is compared.

What a mirror shows of a package, held against the signed listing: hidden, replaced and replayed versions. Pure.

The signed listing is the registry's word of a known time, and never older than one that was seen before: TUF sees to
that. So a mirror that shows less, other or older things is behind, or lies; each difference names its versions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from kedge.documents import DocumentError, blame_served
from kedge.errors import FetchError, InputError, VerificationError
from kedge.registries import Checked
from kedge.registries.pub.listing import Listing, read_answer, read_listing, version_order
from kedge.registries.pub.lockfile import LockedPackage
from kedge.registries.pub.registry import PubSource, listing_path
from kedge.transport import Deadline, Transport
from kedge.tuf import Area, Fetch, Target

MAX_NAMED = 5


class Fault(StrEnum):
    """What is wrong with what a mirror shows."""

    REPLACED = "replaced"
    HIDDEN = "hidden"
    REPLAYED = "replayed"
    UNLISTED = "unlisted"
    WITHOUT_DIGEST = "without-digest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One kind of difference, the versions that it is about, and what it means."""

    fault: Fault
    versions: tuple[str, ...]
    detail: str


def compare(signed: Listing, shown: Listing) -> tuple[Difference, ...]:
    """Every difference that matters between what is signed and what is shown, the worst first."""
    return tuple(sorted(_differences(signed, shown), key=lambda found: list(Fault).index(found.fault)))


def _differences(signed: Listing, shown: Listing) -> Iterator[Difference]:
    both = [version for version in signed.versions if version in shown.versions]
    replaced = [each for each in both if _differ(signed.versions[each], shown.versions[each])]
    if replaced:
        yield _found(Fault.REPLACED, replaced, "shows other bytes than were signed for")
    stripped = [each for each in both if signed.versions[each] is not None and shown.versions[each] is None]
    if stripped:
        yield _found(Fault.WITHOUT_DIGEST, stripped, "shows no digest, though one is signed")
    yield from _missing(signed, shown, both)
    forgotten = sorted(signed.retracted.intersection(both) - shown.retracted, key=version_order)
    if forgotten:
        yield _found(Fault.REPLAYED, forgotten, "does not show that it was retracted")
    invented = [version for version in shown.versions if version not in signed.versions]
    if invented:
        yield _found(Fault.UNLISTED, invented, "shows what nobody signed for, or what is newer than the signed listing")


def _missing(signed: Listing, shown: Listing, both: Sequence[str]) -> Iterator[Difference]:
    """Versions that are not shown: an old answer lacks the newest only; where others are missing, they are hidden."""
    missing = sorted((each for each in signed.versions if each not in shown.versions), key=version_order)
    newest_shown = max((version_order(each) for each in both), default=None)
    newer = [each for each in missing if newest_shown is None or version_order(each) > newest_shown]
    hidden = [each for each in missing if each not in newer]
    if hidden:
        yield _found(Fault.HIDDEN, hidden, "does not show what was signed for")
    if newer:
        yield _found(Fault.REPLAYED, newer, "shows an old answer, or leaves out the newest")


def _differ(signed: str | None, shown: str | None) -> bool:
    return signed is not None and shown is not None and signed != shown


def _found(fault: Fault, versions: Sequence[str], detail: str) -> Difference:
    ordered = tuple(sorted(versions, key=version_order))
    named = ", ".join(ordered[:MAX_NAMED]) + (
        f" and {len(ordered) - MAX_NAMED} more" if len(ordered) > MAX_NAMED else ""
    )
    return Difference(fault=fault, versions=ordered, detail=f"the mirror {detail}: {named}")


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

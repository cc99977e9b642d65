"""Verifies what a ``mix.lock`` names: asks for each package's signed resource, and judges lock, resource and tarball.

For each package, in this order: the resource's signature, the repository and the name inside it, what was seen of it
before, the locked release, its digests, and the tarball on disk if there is one. The first that is wrong is the
outcome.

A Hex package's tarball: its outer checksum, over the file, and its inner one, over what is in it.

The outer checksum is what counts: it covers every byte. The inner one is older, and does not cover the tar itself; it
is checked as well, since old lock files hold nothing else. Source: Hex's ``package_tarball`` specification, version
3.

What became of a Hex package, and what is remembered of it, since nothing that Hex signs has a version. Pure.

A replayed resource can hide a release, or take back that one was retired. Both also happen honestly (a release is
reverted in its first day, a retirement taken back): whoever knows says ``accept_older``, and what is served is the new
memory.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from kedge.documents import DocumentError, Fields
from kedge.errors import FetchError, InputError, Reason, StoreError, VerificationError
from kedge.registries import Allowances, Checked, KeySet, KeyStatus, Memory, Served, TooLongError
from kedge.registries.hex.mixlock import Locked
from kedge.registries.hex.registry import USAGE
from kedge.registries.hex.resource import MAX_RESOURCE_BYTES, Package, Release, Signed, UnsignedError

MAX_TARBALL_BYTES = 256 << 20
MAX_CHECKSUM_BYTES = 256
_BLOCK = 512
_MEMBERS = ("VERSION", "CHECKSUM", "metadata.config", "contents.tar.gz")
_COVERED = ("VERSION", "metadata.config", "contents.tar.gz")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tarball:
    """The two checksums of a tarball, as hexadecimal digits."""

    outer: str
    inner: str

    @classmethod
    def from_bytes(cls, data: bytes) -> Tarball:
        """Read a tarball.

        Raises:
            DocumentError: it is none, or its own checksum is not that of its content.
        """
        members = _members(data)
        covered = hashlib.sha256()
        for name in _COVERED:
            covered.update(members[name])
        inner = covered.hexdigest()
        stated = bytes(members["CHECKSUM"][:MAX_CHECKSUM_BYTES]).decode("ascii", "replace").strip()
        if stated.lower() != inner:
            raise DocumentError("CHECKSUM", f"is {stated[:80]}, and the content's is {inner}")
        return cls(outer=hashlib.sha256(data).hexdigest(), inner=inner)


def _members(data: bytes) -> dict[str, memoryview]:
    """The members of a tar archive, of plain files only, as Hex writes it: no links, sparse files or long names."""
    if len(data) < _BLOCK:
        raise DocumentError("", "is no tar archive: it is too short")
    found: dict[str, memoryview] = {}
    view, place = memoryview(data), 0
    while place + _BLOCK <= len(data):
        header = data[place : place + _BLOCK]
        if not header.strip(b"\0"):
            break
        name, size = _header(header)
        if name not in _MEMBERS or name in found:
            raise DocumentError(name[:100], "is no file of a package, or occurs twice")
        place += _BLOCK
        if place + size > len(data):
            raise DocumentError(name, "is cut off")
        found[name] = view[place : place + size]
        place += -(-size // _BLOCK) * _BLOCK
    if bytes(view[place:]).strip(b"\0"):
        raise DocumentError("", "is no tar archive: it goes on after its end")
    for name in _MEMBERS:
        if name not in found:
            raise DocumentError(name, "is missing")
    return found


def _header(header: bytes) -> tuple[str, int]:
    """A member's name and size, from its block.

    Raises:
        DocumentError: it is no plain file of a ustar archive.
    """
    stated = re.fullmatch(rb"[ 0]{0,7}([0-7]{1,7})[ \0]{0,2}", header[148:156])
    if stated is None or int(stated[1], 8) != sum(header[:148]) + 8 * 0x20 + sum(header[156:]):
        raise DocumentError("", "is no tar archive: the checksum of a header is wrong")
    name = header[:100].rstrip(b"\0").decode("utf-8", "replace")
    size = re.fullmatch(rb"([0-7]{1,11})[ \0]{1,2}", header[124:136])
    if size is None or header[156:157] not in (b"0", b"\0") or header[345:500].strip(b"\0"):
        raise DocumentError(ascii(name[:100]), "is no plain file")
    return name, int(size[1], 8)


MAX_NAMED = 3


class Outcome(StrEnum):
    """The outcome for one package. The values stand in ``--json``."""

    VERIFIED = "verified"
    UNSIGNED = "unsigned"
    BAD_SIGNATURE = "bad-signature"
    REVOKED_KEY = "revoked-key"
    OUTSIDE_VALIDITY = "outside-validity"
    MALFORMED = "malformed"
    WRONG_REPOSITORY = "wrong-repository"
    WRONG_NAME = "wrong-name"
    ROLLED_BACK = "rolled-back"
    NOT_LISTED = "not-listed"
    DIGEST_MISMATCH = "digest-mismatch"
    NOT_BOUND = "not-bound"
    NO_KEYS = "no-keys"
    NOT_FOUND = "not-found"
    TOO_LONG = "too-long"
    UNREACHABLE = "unreachable"
    UNVOUCHED = "unvouched"
    ALLOWED = "allowed"
    SKIPPED = "skipped"


GOOD: frozenset[StrEnum] = frozenset({Outcome.VERIFIED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the user decides. ``accept_older`` takes what hides something that was seen before, and remembers it."""

    accept_older: bool = False


def subject_of(registry: str, package: Package) -> str:
    """Of what a package is the newest."""
    return f"{registry} {package.repository} {package.name}"


def remembered(package: Package, seen: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """What is to be remembered: every release that was ever seen, and whether it was retired.

    Raises:
        DocumentError: what was seen cannot be read.
    """
    releases = dict(_seen(seen)) if seen is not None else {}
    for release in package.releases.values():
        outer, retired = releases.get(release.version, (release.outer, False))
        releases[release.version] = (release.outer or outer, retired or release.retired is not None)
    table = {
        version: {"retired": retired, **({"outer": outer} if outer else {})}
        for version, (outer, retired) in releases.items()
    }
    return {"releases": table}


def rollbacks(package: Package, seen: Mapping[str, Any] | None) -> list[str]:
    """In what a package as it is served is older than what was seen of it: a sentence each.

    Raises:
        DocumentError: what was seen cannot be read.
    """
    gone: list[str] = []
    changed: list[str] = []
    taken_back: list[str] = []
    for version, (outer, retired) in _seen(seen).items() if seen is not None else ():
        release = package.releases.get(version)
        if release is None:
            gone.append(version)
        elif outer is not None and release.outer is not None and release.outer != outer:
            changed.append(version)
        elif retired and release.retired is None:
            taken_back.append(version)
    told = (
        (gone, "seen before, and no longer listed"),
        (changed, "listed with another content than before"),
        (taken_back, "was retired, and is not any more"),
    )
    return [f"{_named(versions)}: {text}" for versions, text in told if versions]


def _named(versions: list[str]) -> str:
    shown = ", ".join(versions[-MAX_NAMED:])
    return shown if len(versions) <= MAX_NAMED else f"{shown} and {len(versions) - MAX_NAMED} more"


def _seen(seen: Mapping[str, Any]) -> dict[str, tuple[str | None, bool]]:
    fields = Fields(seen, "seen")
    return {
        version: (release.optional("outer", release.sha256), release.boolean("retired"))
        for version, release in fields.table("releases").items()
    }


JOBS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What one run goes by. ``open_served`` opens the repository or its mirror, once for each thread."""

    keys: KeySet
    open_served: Callable[[], Served]
    memory: Memory
    allowances: Allowances
    policy: Policy = field(default_factory=Policy)
    tarballs: Path | None = None
    jobs: int = JOBS


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """Whose signature is right, and the payload under it; or what is wrong instead."""

    outcome: Outcome
    detail: str = ""
    key: str | None = None
    payload: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Resource:
    """What became of one package's resource: the check without a subject, and the package where it holds."""

    check: Checked
    package: Package | None = None


def verify_packages(locked: Sequence[Locked], settings: Settings) -> tuple[Checked, ...]:
    """Give the outcome of each package, in their order.

    Raises:
        InputError: the mirror's address, or a tarball, cannot be used.
        StoreError: what was seen before cannot be read.
    """
    wanted = list(dict.fromkeys((each.repository, each.name) for each in locked if _is_ours(each, settings)))
    answers = _fetch(wanted, settings)
    resources = {
        (repository, name): _judge_resource(answers[repository, name], repository, name, settings)
        for repository, name in wanted
    }
    return tuple(_judge(each, resources.get((each.repository, each.name)), settings) for each in locked)


def _is_ours(locked: Locked, settings: Settings) -> bool:
    return locked.kind == "hex" and locked.repository.partition(":")[0] == settings.keys.registry.removeprefix("hex/")


def _fetch(wanted: Sequence[tuple[str, str]], settings: Settings) -> Mapping[tuple[str, str], bytes | Checked]:
    """Ask for the resources, several at a time; each thread has a connection of its own."""
    local = threading.local()
    with ExitStack() as opened:
        lock = threading.Lock()

        def served() -> Served:
            if not hasattr(local, "served"):
                with lock:
                    local.served = opened.enter_context(settings.open_served())
            found: Served = local.served
            return found

        def ask(what: tuple[str, str]) -> bytes | Checked:
            return _ask(served(), *what)

        with ThreadPoolExecutor(max(1, min(settings.jobs, len(wanted)))) as pool:
            return dict(zip(wanted, pool.map(ask, wanted), strict=True))


def _ask(served: Served, repository: str, name: str) -> bytes | Checked:
    organisation = repository.partition(":")[2]
    path = f"{f'repos/{organisation}/' if organisation else ''}packages/{name}"
    told = Checked(name="", outcome=Outcome.UNREACHABLE, is_fault=True)
    try:
        data = served.read(path, max_bytes=MAX_RESOURCE_BYTES)
    except TooLongError as error:
        return replace(told, outcome=Outcome.TOO_LONG, detail=str(error))
    except (FetchError, VerificationError) as error:
        return replace(told, detail=error.message)
    if data is None:
        return replace(told, outcome=Outcome.NOT_FOUND, detail=f"{served.url} has no {path}")
    return data


def _judge_resource(answer: bytes | Checked, repository: str, name: str, settings: Settings) -> _Resource:
    if isinstance(answer, Checked):
        return _Resource(check=answer)
    told = Checked(name="", outcome=Outcome.VERIFIED, is_fault=False)
    signer = check_resource(answer, settings.keys)
    if signer.outcome is not Outcome.VERIFIED:
        return _Resource(check=replace(told, outcome=signer.outcome, is_fault=True, detail=signer.detail))
    try:
        package = Package.from_payload(signer.payload)
    except DocumentError as error:
        return _Resource(check=replace(told, outcome=Outcome.MALFORMED, is_fault=True, detail=str(error)))
    told = replace(told, facts={"key": signer.key})
    expected = repository.partition(":")[2] or repository
    if package.repository != expected:
        detail = f"is signed for the repository {package.repository}, and {expected} was asked"
        return _Resource(check=replace(told, outcome=Outcome.WRONG_REPOSITORY, is_fault=True, detail=detail))
    if package.name != name:
        detail = f"is signed for the package {package.name}: whoever served it answered for another one"
        return _Resource(check=replace(told, outcome=Outcome.WRONG_NAME, is_fault=True, detail=detail))
    return _Resource(check=_against_memory(package, told, settings), package=package)


def check_resource(data: bytes, keys: KeySet) -> Signer:
    """Checked the signature of a resource as it is served. It names no key: each one is tried."""
    try:
        signed = Signed.from_bytes(data)
    except UnsignedError as error:
        return Signer(outcome=Outcome.UNSIGNED, detail=str(error))
    except DocumentError as error:
        return Signer(outcome=Outcome.MALFORMED, detail=str(error))
    # Who signed is asked first, as if every key counted; then whether that key's word is worth anything.
    every = replace(
        keys,
        keys=tuple(replace(key, status=KeyStatus.ACTIVE, valid_from=None, valid_until=None) for key in keys.keys),
        revoked=(),
    )
    for key in keys.keys:
        try:
            every.verify(signed.payload, keyid=key.id, signature=signed.signature, usage=USAGE)
        except VerificationError:
            continue
        try:
            keys.verify(signed.payload, keyid=key.id, signature=signed.signature, usage=USAGE)
        except VerificationError as error:
            revoked = error.refusal.reason is Reason.REVOKED_KEY
            outcome = Outcome.REVOKED_KEY if revoked else Outcome.OUTSIDE_VALIDITY
            return Signer(outcome=outcome, detail=error.message)
        return Signer(outcome=Outcome.VERIFIED, key=key.id, payload=signed.payload)
    count = len(keys.keys)
    detail = (
        f"none of the {count} keys of {keys.target} made this signature"
        if count > 1
        else (f"the key of {keys.target} did not make this signature")
    )
    return Signer(outcome=Outcome.BAD_SIGNATURE, detail=detail)


def _against_memory(package: Package, told: Checked, settings: Settings) -> Checked:
    memory, subject = settings.memory, subject_of(settings.keys.registry, package)
    accept = settings.policy.accept_older
    try:
        older = rollbacks(package, memory.recall(subject))
        if older and not accept:
            return replace(told, outcome=Outcome.ROLLED_BACK, is_fault=True, detail="; ".join(older))
        try:
            memory.update(subject, lambda seen: remembered(package, None if accept else seen))
        except StoreError as error:
            return replace(told, notes=(*told.notes, f"could not be remembered: {error.message}"))
    except DocumentError as error:
        raise StoreError(f"{memory.path(subject)}: what was seen before is damaged: {error}") from error
    return replace(told, notes=(*told.notes, *(f"{text}, which you accept" for text in older)))


def _judge(locked: Locked, resource: _Resource | None, settings: Settings) -> Checked:
    subject = f"{locked.name} {locked.version}".rstrip()
    if locked.kind != "hex":
        return _judge_elsewhere(locked, settings)
    if resource is None:
        allowed = settings.allowances.find("registry", f"hex/{locked.repository}")
        if allowed is not None:
            return Checked(name=subject, outcome=Outcome.ALLOWED, is_fault=False, detail=allowed.text)
        detail = (
            f"is of the repository {locked.repository}, and these are the keys of {settings.keys.registry}; to verify "
            f"it: --mirror hex/{locked.repository}=URL, to leave it out: --allow registry=hex/{locked.repository}"
        )
        return Checked(name=subject, outcome=Outcome.NO_KEYS, is_fault=True, detail=detail)
    told = replace(resource.check, name=subject)
    if told.is_fault or resource.package is None:
        return told
    return (
        _judge_release(locked, resource.package, told, settings)
        if locked.version
        else (replace(told, detail=f"{len(resource.package.releases)} releases"))
    )


def _judge_elsewhere(locked: Locked, settings: Settings) -> Checked:
    """The outcome for what no Hex repository signs: a failure, unless it is of the project or the user allows it."""
    told = Checked(name=locked.app, outcome=Outcome.SKIPPED, is_fault=False, facts={"source": locked.source})
    kind = {"git": "git", "path": "local"}.get(locked.kind, "unknown")
    steps = locked.source.split("/")
    if kind == "local" and steps[0] and not {"..", "~"} & set(steps) and "\\" not in locked.source:
        return replace(told, detail=f"is a folder of the project: {locked.source}")
    allowed = settings.allowances.find(kind, locked.source)
    if allowed is not None:
        return replace(told, outcome=Outcome.ALLOWED, detail=allowed.text)
    why = settings.allowances.explain(kind, locked.source)
    detail = f"comes from {locked.kind} {locked.source}: {why}"
    return replace(told, outcome=Outcome.UNVOUCHED, is_fault=True, detail=detail)


def _judge_release(locked: Locked, package: Package, told: Checked, settings: Settings) -> Checked:
    release = package.releases.get(locked.version)
    if release is None:
        return replace(told, outcome=Outcome.NOT_LISTED, is_fault=True, detail="the repository signs no such release")
    if release.retired is not None:
        told = replace(told, notes=(*told.notes, f"this release was retired, {release.retired}"))
    pairs = (("outer", locked.outer, release.outer), ("inner", locked.inner, release.inner))
    for name, ours, theirs in pairs:
        if ours is not None and theirs is not None and ours != theirs:
            detail = f"locked is the {name} checksum {ours}, and signed is {theirs}"
            return replace(told, outcome=Outcome.DIGEST_MISMATCH, is_fault=True, detail=detail)
    if settings.tarballs is not None:
        told, bound = _judge_tarball(locked, release, told, settings.tarballs)
    else:
        bound = False
    if not told.is_fault and not bound and locked.inner is None and locked.outer is None:
        detail = "nothing says which content is meant: the lock file holds no checksum, and there is no tarball"
        return replace(told, outcome=Outcome.NOT_BOUND, is_fault=True, detail=detail)
    return told


def _judge_tarball(locked: Locked, release: Release, told: Checked, folder: Path) -> tuple[Checked, bool]:
    file = folder / f"{locked.name}-{locked.version}.tar"
    try:
        with file.open("rb") as stream:
            data = stream.read(MAX_TARBALL_BYTES + 1)
    except FileNotFoundError:
        return replace(told, notes=(*told.notes, f"there is no {file}")), False
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{file}: cannot be read: {reason.lower()}") from error
    if len(data) > MAX_TARBALL_BYTES:
        return replace(told, outcome=Outcome.TOO_LONG, is_fault=True, detail=f"{file} is longer than any package"), True
    try:
        tarball = Tarball.from_bytes(data)
    except DocumentError as error:
        return replace(told, outcome=Outcome.MALFORMED, is_fault=True, detail=f"{file}: {error}"), True
    for name, ours, theirs in (("outer", tarball.outer, release.outer), ("inner", tarball.inner, release.inner)):
        if theirs is not None and ours != theirs:
            detail = f"{file} has the {name} checksum {ours}, and signed is {theirs}"
            return replace(told, outcome=Outcome.DIGEST_MISMATCH, is_fault=True, detail=detail), True
    return told, True

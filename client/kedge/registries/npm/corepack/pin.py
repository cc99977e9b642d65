"""The hash that Corepack checks, of bytes that the registry's maintainers vouch for.

Corepack checks a hash in ``packageManager`` and then no signature; for Yarn 2 and later it has no signature to check at
all. So the hash must be right when it is written. It is taken of bytes that were bound in this order::

    keys (TUF)  ->  signature over name@version:integrity  ->  tarball  ->  the bytes that Corepack hashes

What the mirror says is a claim until that chain holds. Two things in it nobody signs, and :class:`Pin` says so where
they were used: which version a tag such as latest is, and when a version was published (for a retired key).

Source: ``sources/corepackUtils.ts`` of Corepack 0.30 to 0.36: the SHA-512 of the tarball as served, or of the file
``bin/yarn.js`` once the tarball's outermost folder is stripped.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
import zlib
from base64 import b64decode, b64encode
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from kedge.document import DocumentError, Fields, blame_served, format_time
from kedge.errors import InputError, Reason, Refusal, VerificationError
from kedge.keys import Evidence, KeySet, KeyStatus
from kedge.registries.npm.corepack.spec import Spec
from kedge.registries.npm.signature import SIGNATURES, verify_signature

__all__ = ["Pin", "Source", "make_pin"]

MAX_UNPACKED_BYTES = 256_000_000
MAX_SIGNATURES = 20
_SHA512 = r"sha512-[A-Za-z0-9+/]{86}=="


class Source(Protocol):
    """The registry, or the mirror, that packages come from."""

    @property
    def url(self) -> str:
        """Its address, as messages name it, without credentials."""
        ...

    def packument(self, package: str) -> bytes | None:
        """Get what it says of all versions of a package; None if it has no such package.

        Raises:
            FetchError: it cannot be had.
        """
        ...

    def tarball(self, url: str) -> bytes:
        """Get a tarball from the address that a packument names.

        Raises:
            FetchError: it cannot be had.
            VerificationError: it is too long.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """A package manager at one version, and the SHA-512 that Corepack will check. ``notes`` is what nobody signs."""

    spec: Spec
    integrity: str
    sha512: str
    evidence: Evidence
    published: datetime | None
    notes: tuple[str, ...]

    @property
    def reference(self) -> str:
        """What ``packageManager`` holds: ``pnpm@10.1.0+sha512.…``."""
        return f"{self.spec.name}@{self.spec.version}+sha512.{self.sha512}"


def make_pin(spec: Spec, source: Source, keys: KeySet, *, strict: bool = False) -> Pin:
    """Get a package manager, verify it down to the bytes that Corepack hashes, and give the pin.

    A hash in ``spec`` is checked against the same bytes. With ``strict`` a signature by a retired key is refused, for
    nobody signs when it was made.

    Raises:
        VerificationError: it is unsigned, signed by no key that may sign it, or other bytes than were signed.
        InputError: there is no such version or tag.
        FetchError: it cannot be had.
    """
    notes: list[str] = []
    listed = _packument(spec, source)
    if spec.version is None:
        spec = _resolve(spec, listed, source)
        notes.append(f"that {spec.name}@{spec.tag} is {spec.version} is the word of {source.url}: nobody signs it")
    dist = _dist(spec, listed, source)
    evidence, published = _verified(spec, dist, source, keys, notes, strict=strict)
    tarball = source.tarball(dist.tarball)
    if hashlib.sha512(tarball).digest() != b64decode(dist.integrity.removeprefix("sha512-")):
        found = "sha512-" + b64encode(hashlib.sha512(tarball).digest()).decode("ascii")
        raise _refused(Reason.CONTENT, spec, f"{dist.tarball} holds other bytes than were signed", source, found=found)
    hashed = tarball if spec.file is None else _file_of(tarball, spec, source)
    _require_former_hash(spec, hashed, source)
    return Pin(
        spec=spec,
        integrity=dist.integrity,
        sha512=hashlib.sha512(hashed).hexdigest(),
        evidence=evidence,
        published=published,
        notes=tuple(notes),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Dist:
    """What the mirror claims of one version."""

    tarball: str
    integrity: str
    signatures: tuple[tuple[str, str], ...]
    published: datetime | None


def _packument(spec: Spec, source: Source) -> Fields:
    data = source.packument(spec.package)
    if data is None:
        raise InputError(f"{source.url} has no package {spec.package}", hint="name the registry with --registry")
    with blame_served(f"{source.url}: {spec.package}"):
        try:
            # Somebody else's document: it may hold fractions and whatever authors put into their package.json.
            fields = Fields(json.loads(data))
        except (ValueError, RecursionError) as error:
            page = "a page of HTML" if data.lstrip().startswith(b"<") else "no JSON"
            raise DocumentError("", f"is {page}, expected a packument") from error
        if fields.text("name") != spec.package:
            fields.fail("name", f"must be {spec.package}: the answer is about another package")
    return fields


def _resolve(spec: Spec, packument: Fields, source: Source) -> Spec:
    with blame_served(f"{source.url}: {spec.package}"):
        tags, tag = packument.table("dist-tags"), spec.tag or "latest"
        if tag not in tags:
            known = ", ".join(sorted(tags.names())[:8])
            raise InputError(f"{source.url}: {spec.package} has no tag {tag}", hint=f"among its tags are {known}")
        found = Spec.parse(f"{spec.name}@{tags.text(tag)}")
        if found.version is None or found.algorithm is not None or found.package != spec.package:
            tags.fail(tag, "must be a version of this package")
    return replace(found, tag=tag)


def _dist(spec: Spec, packument: Fields, source: Source) -> _Dist:
    with blame_served(f"{source.url}: {spec.package}"):
        versions = packument.table("versions")
        if (spec.version or "") not in versions:
            raise InputError(f"{source.url}: {spec.package} has no version {spec.version}")
        version = versions.table(spec.version or "")
        for name, expected in (("name", spec.package), ("version", spec.version)):
            if version.text(name) != expected:
                version.fail(name, f"must be {expected}: the answer is about something else")
        dist = version.table("dist")
        signatures = dist.tables("signatures")[:MAX_SIGNATURES] if "signatures" in dist else []
        times = packument.optional("time", packument.table)
        return _Dist(
            tarball=dist.text("tarball", pattern=r"https?://[!-~]+", expected="an address"),
            integrity=dist.text("integrity", pattern=_SHA512, expected="one sha512 digest (sha512-…)"),
            signatures=tuple((each.text("keyid"), each.text("sig")) for each in signatures),
            published=times.optional(spec.version or "", times.time) if times is not None else None,
        )


def _verified(
    spec: Spec, dist: _Dist, source: Source, keys: KeySet, notes: list[str], *, strict: bool
) -> tuple[Evidence, datetime | None]:
    """One signature by a key that may sign is enough; the others are named in the notes."""
    if not dist.signatures:
        why = f"{source.url} gives no signature of {spec.package}@{spec.version}, and {keys.registry} signs everything"
        raise _refused(Reason.SIGNATURES, spec, why, source)
    published: datetime | None = None
    if not strict and any(_is_retired(keys, keyid) for keyid, _ in dist.signatures):
        published = dist.published
    found: Evidence | None = None
    faults: list[VerificationError] = []
    for keyid, signature in dist.signatures:
        try:
            evidence = verify_signature(
                keys,
                spec.package,
                spec.version or "",
                dist.integrity,
                keyid=keyid,
                signature=signature,
                published=published,
            )
        except VerificationError as error:
            faults.append(error)
        else:
            found = found or evidence
    if found is None:
        worst = min(faults, key=lambda fault: fault.refusal.reason is Reason.UNKNOWN_KEY)
        raise VerificationError(
            f"{spec.package}@{spec.version} from {source.url}: {worst.message}",
            refusal=replace(worst.refusal, source=source.url),
            hint=_HINTS.get(worst.refusal.reason),
        )
    notes += [f"a signature beside the one that holds was left aside: {fault.message}" for fault in faults]
    if found.key.status is KeyStatus.RETIRED and published is not None:
        said = f"published {format_time(published)} by the word of {source.url}: nobody signs when"
        notes.append(f"{found.key.id} is retired, and {spec.package}@{spec.version} was {said}")
    return found, published


_HINTS = {
    Reason.OUTSIDE_VALIDITY: "a retired key is taken for what was published in its time; --strict never takes it",
    Reason.UNKNOWN_KEY: "if the mirror signs with a key of its own, name that registry with --upstream",
}


def _is_retired(keys: KeySet, keyid: str) -> bool:
    return any(key.status is KeyStatus.RETIRED for key in keys.keys if key.id == keyid and SIGNATURES in key.usages)


def _file_of(tarball: bytes, spec: Spec, source: Source) -> bytes:
    """The one regular file that stands at ``spec.file`` once the outermost folder is stripped."""
    found: list[bytes] = []
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(tarball)) as packed:
            unpacked = packed.read(MAX_UNPACKED_BYTES + 1)
        if len(unpacked) > MAX_UNPACKED_BYTES:
            raise _refused(Reason.TOO_LARGE, spec, f"unpacks to more than {MAX_UNPACKED_BYTES} bytes", source)
        with tarfile.open(fileobj=io.BytesIO(unpacked), mode="r:") as archive:
            for member in archive:
                file = archive.extractfile(member) if member.isreg() else None
                if file is not None and member.name.partition("/")[2] == spec.file:
                    found.append(file.read())
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise _refused(Reason.MALFORMED, spec, f"the signed tarball cannot be read: {error}", source) from error
    if len(found) != 1:
        count = "no" if not found else f"{len(found)} times the"
        raise _refused(Reason.CONTENT, spec, f"the signed tarball holds {count} file {spec.file}", source)
    return found[0]


def _require_former_hash(spec: Spec, hashed: bytes, source: Source) -> None:
    if spec.algorithm is None or spec.digest is None:
        return
    found = hashlib.new(spec.algorithm, hashed).hexdigest()
    if found != spec.digest:
        refusal = Refusal(
            reason=Reason.CONTENT, file="packageManager", expected=spec.digest, found=found, source=source.url
        )
        raise VerificationError(
            f"packageManager pins {spec.name}@{spec.version} to other bytes than the registry signed: "
            f"{spec.algorithm} {spec.digest[:16]}… is pinned, {found[:16]}… is signed",
            refusal=refusal,
            hint=f"find out who wrote that pin; to replace it: kedge corepack pin {spec.name}@{spec.version}",
        )


def _refused(
    reason: Reason, spec: Spec, problem: str, source: Source, *, found: str | None = None
) -> VerificationError:
    refusal = Refusal(reason=reason, file=f"{spec.package}@{spec.version}", found=found, source=source.url)
    return VerificationError(f"{spec.package}@{spec.version}: {problem}", refusal=refusal)

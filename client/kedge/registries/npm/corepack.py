"""The hash that Corepack checks, of bytes that the registry's maintainers vouch for.

Corepack checks a hash in ``packageManager`` and then no signature; for Yarn 2 and later it has no signature to check at
all. So the hash must be right when it is written. It is taken of bytes that were bound in this order::

    keys (TUF)  ->  signature over name@version:integrity  ->  tarball  ->  the bytes that Corepack hashes

What the mirror says is a claim until that chain holds. Two things in it nobody signs, and :class:`Pin` says so where
they were used: which version a tag such as latest is, and when a version was published (for a retired key).

Source: ``sources/corepackUtils.ts`` of Corepack 0.30 to 0.36: the SHA-512 of the tarball as served, or of the file
``bin/yarn.js`` once the tarball's outermost folder is stripped.

The field ``packageManager`` of a package.json: read, and replaced with every other byte left as it is.

Where package managers come from: the registry that Corepack would ask, or the one that the user names.

The registry is, in this order: the option, ``COREPACK_NPM_REGISTRY``, ``.npmrc``. Its credentials are Corepack's
(``COREPACK_NPM_TOKEN``, or ``COREPACK_NPM_USERNAME`` with ``COREPACK_NPM_PASSWORD``) where it is the registry that
Corepack itself would ask, else those of ``.npmrc``; they go to the registry's own host and to no other. A packument of
a mirror may still name npm's own host for tarballs: as in Corepack, these come from the mirror.

``pnpm@10.1.0+sha512.…``: a package manager as the field ``packageManager`` of package.json names it.

Which package holds it, and which of its bytes Corepack hashes, depends on the name and the version: Yarn 2 and later is
one file inside ``@yarnpkg/cli-dist``; everything else is the whole tarball of the package of the same name.

Source: ``config.json``, ``sources/specUtils.ts`` and ``sources/corepackUtils.ts`` of Corepack 0.30 to 0.36.

Corepack's ``packageManager``: what it names, the hash that Corepack would check, and who vouches for it.

What asks a registry for it stands in :mod:`kedge.registries.npm.corepack`, and is imported where it is needed.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import tarfile
import zlib
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from types import TracebackType
from typing import Protocol, Self
from urllib.parse import urlsplit

from urllib3.util import make_headers

from kedge.documents import DocumentError, Fields, blame_served, format_time
from kedge.errors import FetchError, InputError, Reason, Refusal, VerificationError
from kedge.registries import Evidence, KeySet, KeyStatus
from kedge.registries.npm.config import DEFAULT_REGISTRY, Npmrc, Registries, Source
from kedge.registries.npm.fetch import Asker, FetchLimits, NotServedError, Watch
from kedge.registries.npm.judge import SIGNATURES, verify_signature

FIELD = "packageManager"

_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()


def read_package_manager(data: bytes) -> str | None:
    """Give the field's text, or None where there is no such field.

    Raises:
        DocumentError: it is no JSON object, or names the field twice or as anything but a text.
    """
    text = _decode(data)
    found = [member for member in _members(text) if member.name == FIELD]
    if not found:
        return None
    if len(found) > 1:
        raise DocumentError(FIELD, "stands twice in this file")
    value = json.loads(text[found[0].start : found[0].end])
    if not isinstance(value, str):
        raise DocumentError(FIELD, "must be a text")
    return value


def set_package_manager(data: bytes, value: str) -> bytes:
    """Put ``value`` into the field; where there is none, add it as the last, indented as the others are.

    Raises:
        DocumentError: as :func:`read_package_manager` does.
    """
    present = read_package_manager(data)
    text, written = _decode(data), json.dumps(value)
    members = _members(text)
    if present is not None:
        (at,) = (member for member in members if member.name == FIELD)
        changed = text[: at.start] + written + text[at.end :]
    elif members:
        space, last = members[0].space, members[-1]
        colon = ": " if "\n" in space else ":"
        changed = f'{text[: last.end]},{space}"{FIELD}"{colon}{written}{text[last.end :]}'
    else:
        opened = text.index("{") + 1
        changed = f'{text[:opened]}\n  "{FIELD}": {written}\n{text[text.index("}") :]}'
    return changed.encode("utf-8")


@dataclass(frozen=True, slots=True)
class _Member:
    """A member of the outermost object: the white space before its name, and where its value stands."""

    name: str
    space: str
    start: int
    end: int


def _decode(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DocumentError("", f"is not UTF-8 (byte {error.start})") from error


def _members(text: str) -> list[_Member]:
    try:
        return _scan(text)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise DocumentError("", f"is not a JSON object: {error.msg.lower()} ({place})") from error
    except RecursionError as error:
        raise DocumentError("", "is nested too deep") from error


def _scan(text: str) -> list[_Member]:
    members: list[_Member] = []
    at = _expect(text, 1 if text.startswith("\ufeff") else 0, "{")
    after = _skip(text, at)
    if text[after : after + 1] == "}":
        _expect_end(text, after + 1)
        return members
    while True:
        space = text[at : _skip(text, at)]
        name, at = _DECODER.raw_decode(text, _expect(text, at, '"') - 1)
        start = _skip(text, _expect(text, at, ":"))
        _, end = _DECODER.raw_decode(text, start)
        members.append(_Member(name, space, start, end))
        at = _skip(text, end)
        if text[at : at + 1] == "}":
            _expect_end(text, at + 1)
            return members
        at = _expect(text, at, ",")


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _expect(text: str, at: int, char: str) -> int:
    at = _skip(text, at)
    if text[at : at + 1] != char:
        raise json.JSONDecodeError(f"expecting {char!r}", text, at)
    return at + 1


def _expect_end(text: str, at: int) -> None:
    at = _skip(text, at)
    if at != len(text):
        raise json.JSONDecodeError("extra data", text, at)


def choose_registry(
    package: str, files: Sequence[Npmrc], environment: Mapping[str, str], *, registry: str | None = None
) -> Source:
    """Choose the registry that a package comes from; of ``files``, read from ``.npmrc``, the first goes first.

    Raises:
        DocumentError: its address, or its credentials, cannot be used.
    """
    corepacks = environment.get("COREPACK_NPM_REGISTRY") or None
    source = Registries.of(files, environment, registry=registry or corepacks).of_package(package)
    if not _same_host(source.url, corepacks or DEFAULT_REGISTRY):
        return source
    token = environment.get("COREPACK_NPM_TOKEN")
    user, password = (environment.get(f"COREPACK_NPM_{name}") for name in ("USERNAME", "PASSWORD"))
    if token:
        return replace(source, authorization=f"Bearer {token}")
    if user and password:
        return replace(source, authorization=make_headers(basic_auth=f"{user}:{password}")["authorization"])
    return source


class PackageMirror:
    """One registry, asked for packuments and tarballs."""

    def __init__(self, source: Source, *, limits: FetchLimits | None = None) -> None:
        """Ask ``source``."""
        self.url = source.url.rstrip("/")
        self._source = source
        self._watch = Watch(limits or FetchLimits())
        self._asker = Asker(self._watch)

    def packument(self, package: str) -> bytes | None:
        """Get what the registry says of a package; None if it has no such package.

        Raises:
            FetchError: it cannot be had.
        """
        try:
            return self._asker.packument(self._source, package)
        except NotServedError:
            return None

    def tarball(self, url: str) -> bytes:
        """Get a tarball, from the registry itself where the address is the registry's or npm's own.

        Raises:
            FetchError: it cannot be had, or the address cannot be used.
        """
        if url.startswith(DEFAULT_REGISTRY):
            url = self._source.url + url.removeprefix(DEFAULT_REGISTRY)
        folder, _, name = url.rpartition("/")
        ours = _same_host(url, self._source.url)
        if not ours and urlsplit(url).scheme != "https":
            raise FetchError(f"{url[:200]}: a tarball from another host is got over https only")
        authorization = self._source.authorization if ours else None
        return self._asker.packument(replace(self._source, url=f"{folder}/", authorization=authorization), name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._asker.close()
        self._watch.close()


def _same_host(url: str, other: str) -> bool:
    return urlsplit(url)[:2] == urlsplit(other)[:2]


_VERSION = r"(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)(-[0-9A-Za-z.-]+)?"
_TAG = r"[A-Za-z][A-Za-z0-9._-]{0,99}"
_HASH = r"(sha1|sha224|sha256|sha384|sha512)\.([0-9a-f]{40,128})"
_NAMES = ("npm", "pnpm", "yarn")
_DIGITS = {"sha1": 40, "sha224": 56, "sha256": 64, "sha384": 96, "sha512": 128}


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """A package manager's name, its exact version or a tag, and the hash of a former pin if there is one."""

    name: str
    version: str | None
    tag: str | None
    algorithm: str | None = None
    digest: str | None = None

    @classmethod
    def parse(cls, text: str) -> Spec:
        """Read ``pnpm@10.1.0``, ``pnpm@10.1.0+sha512.…``, ``pnpm@latest`` or ``pnpm``, which means its tag latest.

        Raises:
            DocumentError: it is none of these; ranges are not: a pin is exact.
        """
        name, at, reference = text.partition("@")
        if name not in _NAMES:
            raise DocumentError("", f"must name npm, pnpm or yarn, as in pnpm@10.1.0, not {text[:80]!r}")
        if not at:
            return cls(name=name, version=None, tag="latest")
        if re.fullmatch(_TAG, reference, re.ASCII) is not None:
            return cls(name=name, version=None, tag=reference)
        match = re.fullmatch(rf"({_VERSION})(\+{_HASH})?", reference, re.ASCII)
        if match is None:
            raise DocumentError("", f"must be an exact version or a tag, as in {name}@10.1.0, not {text[:80]!r}")
        algorithm, digest = match[7], match[8]
        if algorithm is not None and len(digest) != _DIGITS[algorithm]:
            raise DocumentError("", f"holds a {algorithm} of {len(digest)} digits, expected {_DIGITS[algorithm]}")
        return cls(name=name, version=match[1], tag=None, algorithm=algorithm, digest=digest)

    @property
    def is_modern_yarn(self) -> bool:
        """Whether it is Yarn 2 or later. Corepack looks tags up among these, too."""
        return self.name == "yarn" and (self.version is None or int(self.version.partition(".")[0]) >= 2)

    @property
    def package(self) -> str:
        """The package that holds it."""
        return "@yarnpkg/cli-dist" if self.is_modern_yarn else self.name

    @property
    def file(self) -> str | None:
        """The file inside the package that Corepack hashes; None for the whole tarball."""
        return "bin/yarn.js" if self.is_modern_yarn else None


MAX_UNPACKED_BYTES = 256_000_000
MAX_SIGNATURES = 20
_SHA512 = r"sha512-[A-Za-z0-9+/]{86}=="


class PinSource(Protocol):
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


def make_pin(spec: Spec, source: PinSource, keys: KeySet, *, strict: bool = False) -> Pin:
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


def _packument(spec: Spec, source: PinSource) -> Fields:
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


def _resolve(spec: Spec, packument: Fields, source: PinSource) -> Spec:
    with blame_served(f"{source.url}: {spec.package}"):
        tags, tag = packument.table("dist-tags"), spec.tag or "latest"
        if tag not in tags:
            known = ", ".join(sorted(tags.names())[:8])
            raise InputError(f"{source.url}: {spec.package} has no tag {tag}", hint=f"among its tags are {known}")
        found = Spec.parse(f"{spec.name}@{tags.text(tag)}")
        if found.version is None or found.algorithm is not None or found.package != spec.package:
            tags.fail(tag, "must be a version of this package")
    return replace(found, tag=tag)


def _dist(spec: Spec, packument: Fields, source: PinSource) -> _Dist:
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
    spec: Spec, dist: _Dist, source: PinSource, keys: KeySet, notes: list[str], *, strict: bool
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


def _file_of(tarball: bytes, spec: Spec, source: PinSource) -> bytes:
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


def _require_former_hash(spec: Spec, hashed: bytes, source: PinSource) -> None:
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
    reason: Reason, spec: Spec, problem: str, source: PinSource, *, found: str | None = None
) -> VerificationError:
    refusal = Refusal(reason=reason, file=f"{spec.package}@{spec.version}", found=found, source=source.url)
    return VerificationError(f"{spec.package}@{spec.version}: {problem}", refusal=refusal)

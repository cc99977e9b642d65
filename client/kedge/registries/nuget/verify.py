"""Verifies package files: the zip, the signature in it, whose it is, and that the package is what its name says.

A file is read as a stream, once for its digest; what it holds is never unpacked, but for the few lines of its manifest.

Judges one package: its signatures, which are right by themselves, by certificates that keyholders signed for. Pure.

One good signature is enough, the repository's word before the author's: a repository's (primary or counter-signature)
by a certificate of the feed, or an author's primary signature by a certificate of that author. A fingerprint counts
in its own place only. What NuGet does not do and this does:

- the service index that a repository signed into the package must be the feed's: NuGet never compares it;
- a certificate's time counts. One that is valid now needs nothing else. One that has expired needs a time stamp
  inside its validity; if that comes from an authority that the keyholders pinned, the package is verified, and if it
  comes from any other, the package is "verified, time unverified": who stole the expired key could have made one.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO
from xml.etree import ElementTree as ET

from kedge.documents import format_time
from kedge.errors import InputError, Reason, VerificationError
from kedge.registries import Checked, KeySet, KeyStatus, parser_errors
from kedge.registries.nuget.archive import ArchiveError, UnsignedError, read_archive
from kedge.registries.nuget.cms import CmsError, Unsupported, load_certificate
from kedge.registries.nuget.registry import AUTHOR, REPOSITORY, TIMESTAMP, Feed
from kedge.registries.nuget.signature import (
    Kind,
    PackageSignature,
    Signature,
    pinned_certificate,
    read_signature,
)


class Outcome(StrEnum):
    """What became of one package."""

    VERIFIED = "verified"
    VERIFIED_TIME_UNVERIFIED = "verified-time-unverified"
    REVOKED_KEY = "revoked-key"
    WRONG_SOURCE = "wrong-source"
    OUTSIDE_VALIDITY = "outside-validity"
    UNKNOWN_KEY = "unknown-key"
    DIGEST_MISMATCH = "digest-mismatch"
    WRONG_NAME = "wrong-name"
    BAD_SIGNATURE = "bad-signature"
    UNSUPPORTED = "unsupported"
    UNSIGNED = "unsigned"
    MALFORMED = "malformed"


GOOD = frozenset({Outcome.VERIFIED, Outcome.VERIFIED_TIME_UNVERIFIED})
MAX_SUBJECT = 200

_REASONS = {Reason.REVOKED_KEY: Outcome.REVOKED_KEY, Reason.UNKNOWN_KEY: Outcome.UNKNOWN_KEY}
_USAGES = {Kind.AUTHOR: AUTHOR, Kind.REPOSITORY: REPOSITORY}


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one signature, or the whole package, is worth; ``notes`` are what should be known beside it."""

    outcome: Outcome
    detail: str = ""
    signature: Signature | None = None
    notes: tuple[str, ...] = ()


def judge(signed: PackageSignature, keys: KeySet, feed: Feed) -> Result:
    """Judge a package whose content is what was signed."""
    results = [_judge(signature, keys, feed) for signature in signed.signatures]
    best = min(results, key=lambda result: list(Outcome).index(result.outcome))
    beside = [_beside(result) for result in results if result is not best and result.outcome is not Outcome.UNKNOWN_KEY]
    return Result(outcome=best.outcome, detail=best.detail, signature=best.signature, notes=(*best.notes, *beside))


def _judge(signature: Signature, keys: KeySet, feed: Feed) -> Result:
    try:
        key = keys.find(signature.fingerprint, _USAGES[signature.kind])
    except VerificationError as error:
        outcome = _REASONS.get(error.refusal.reason, Outcome.UNKNOWN_KEY)
        detail = f"{_who(signature)}: {error.message}; its certificate calls itself {_subject(signature)}"
        return Result(outcome=outcome, detail=detail, signature=signature)
    if key.status is KeyStatus.REVOKED:
        named = f"{signature.fingerprint}, which calls itself {_subject(signature)},"
        detail = f"{_who(signature)}: its certificate {named} was revoked"
        return Result(outcome=Outcome.REVOKED_KEY, detail=detail, signature=signature)
    if signature.service_index is not None:
        wrong = feed.check_service_index(signature.service_index)
        if wrong is not None:
            detail = f"{_who(signature)} names another service index: {wrong}"
            return Result(outcome=Outcome.WRONG_SOURCE, detail=detail, signature=signature)
    return _judge_time(signature, keys)


def _judge_time(signature: Signature, keys: KeySet) -> Result:
    now, stamp = keys.reference_time, signature.time_stamp
    start, end = signature.valid_from, signature.valid_until
    window = f"its certificate is valid from {format_time(start)} to {format_time(end)}"
    if stamp is not None and not start <= stamp.time <= end:
        detail = f"{_who(signature)}: {window}, and its time stamp says {format_time(stamp.time)}"
        return Result(outcome=Outcome.OUTSIDE_VALIDITY, detail=detail, signature=signature)
    if start <= now <= end:
        note = () if stamp is not None else (f"{signature.time_fault}: it will not outlive its certificate",)
        return Result(outcome=Outcome.VERIFIED, signature=signature, notes=note)
    if stamp is None:
        detail = f"{_who(signature)}: {window}, it is {format_time(now)} now, and {signature.time_fault}"
        return Result(outcome=Outcome.OUTSIDE_VALIDITY, detail=detail, signature=signature)
    if _is_pinned(signature, keys):
        return Result(outcome=Outcome.VERIFIED, signature=signature)
    detail = f"{window}; that it was signed at {format_time(stamp.time)} is the word of an authority that nobody pinned"
    return Result(outcome=Outcome.VERIFIED_TIME_UNVERIFIED, detail=detail, signature=signature)


def _is_pinned(signature: Signature, keys: KeySet) -> bool:
    pinned = {key.id for key in keys.keys if TIMESTAMP in key.usages and key.status is not KeyStatus.REVOKED}
    if signature.time_stamp is None or not pinned:
        return False
    try:
        return pinned_certificate(signature.time_stamp, pinned) is not None
    except CmsError:
        return False


def _who(signature: Signature) -> str:
    if signature.kind is Kind.AUTHOR:
        return "the author's signature"
    return "the repository's counter-signature" if signature.is_counter else "the repository's signature"


def _subject(signature: Signature) -> str:
    """The name in a signature's certificate, on one line: what its maker wrote, so nothing is decided by it."""
    try:
        name = load_certificate(signature.certificate, what="the certificate").subject.rfc4514_string()
    except CmsError:
        return "by a name that cannot be read"
    except parser_errors():
        return "by a name that cannot be read"
    shown = name[:MAX_SUBJECT] + ("..." if len(name) > MAX_SUBJECT else "")
    return (shown if shown.isprintable() else ascii(shown)) or "by no name"


def _beside(result: Result) -> str:
    who = _who(result.signature) if result.signature is not None else "a signature"
    return f"beside it, {who}: {result.outcome.value}"


MAX_MANIFEST_BYTES = 1 << 20
_UTF16 = ((b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"), (b"<\0?\0", "utf-16-le"), (b"\0<\0?", "utf-16-be"))
"""How UTF-16 begins, with a byte order mark or with an XML declaration (XML 1.0, appendix F)."""


def find_packages(paths: Iterable[Path]) -> tuple[Path, ...]:
    """The package files that are meant: files as they are named, and every ``*.nupkg`` below a folder.

    Raises:
        InputError: there is nothing of that name, or no package in a folder.
    """
    found: dict[Path, None] = {}
    for path in paths:
        if path.is_dir():
            inside = sorted(file for file in path.rglob("*.nupkg") if file.is_file())
            if not inside:
                raise InputError(f"{path}: there is no package (*.nupkg) in this folder")
            found.update(dict.fromkeys(inside))
        elif path.is_file():
            found[path] = None
        else:
            raise InputError(f"{path}: there is no such file or folder")
    return tuple(found)


def verify_packages(
    files: Iterable[Path],
    keys: KeySet,
    feed: Feed,
    *,
    strict: bool = False,
    progress: Callable[[int], None] = lambda _count: None,
) -> Iterator[Checked]:
    """Judge each package; with ``strict`` a time that nobody vouches for is a fault.

    Raises:
        InputError: a file cannot be read.
        StoreError: asn1crypto is not installed.
    """
    for path in files:
        try:
            with path.open("rb") as file:
                identity, result = judge_file(file, keys, feed, name=path.name)
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}") from error
        progress(1)
        yield _checked(path, identity, result, strict=strict)


def judge_file(file: BinaryIO, keys: KeySet, feed: Feed, *, name: str) -> tuple[str | None, Result]:
    """Judge one package; give its identity as its manifest states it, if that could be read, and the result.

    Raises:
        StoreError: asn1crypto is not installed.
    """
    try:
        archive = read_archive(file)
        signed = read_signature(archive.signature)
    except UnsignedError:
        return None, Result(outcome=Outcome.UNSIGNED, detail="the package holds no signature")
    except ArchiveError as error:
        return None, Result(outcome=Outcome.MALFORMED, detail=str(error))
    except Unsupported as error:
        return None, Result(outcome=Outcome.UNSUPPORTED, detail=str(error))
    except CmsError as error:
        return None, Result(outcome=Outcome.BAD_SIGNATURE, detail=str(error))
    found = archive.digest(file, signed.algorithm)
    if found != signed.digest:
        detail = f"what was signed is {signed.algorithm} {signed.digest.hex()}, the file is {found.hex()}"
        return None, Result(outcome=Outcome.DIGEST_MISMATCH, detail=detail)
    result = judge(signed, keys, feed)
    try:
        identity = _identity(file)
    except ManifestError as error:
        return None, Result(outcome=Outcome.MALFORMED, detail=str(error), signature=result.signature)
    if result.outcome in GOOD and name.lower() not in _file_names(*identity):
        detail = f"the package says that it is {' '.join(identity)}, the file is called {name}"
        return " ".join(identity), Result(outcome=Outcome.WRONG_NAME, detail=detail, signature=result.signature)
    return " ".join(identity), result


# What zipfile ends in: RuntimeError for what is encrypted or packed in a way it does not know, zlib's own for the rest.
UNREADABLE = (zipfile.BadZipFile, zlib.error, RuntimeError, EOFError, OSError, ValueError)


class ManifestError(ValueError):
    """The package's manifest cannot be read."""


def _identity(file: BinaryIO) -> tuple[str, str]:
    """The id and the version that a package's manifest states."""
    try:
        with zipfile.ZipFile(file) as opened:
            names = [
                info for info in opened.infolist() if re.fullmatch(r"[^/\\]+\.nuspec", info.filename, re.IGNORECASE)
            ]
            if len(names) != 1:
                raise ManifestError(f"the package holds {len(names)} manifests (*.nuspec), where one must be")
            with opened.open(names[0]) as manifest:
                data = manifest.read(MAX_MANIFEST_BYTES + 1)
    except ManifestError:
        raise
    except UNREADABLE as error:
        raise ManifestError("the package's manifest cannot be read") from error
    if len(data) > MAX_MANIFEST_BYTES:
        raise ManifestError(f"the package's manifest is longer than {MAX_MANIFEST_BYTES} bytes")
    plain, encoding = _without_utf16(data)
    if any(sign in plain for sign in (b"<!DOCTYPE", b"<!ENTITY", b"\0")):
        raise ManifestError("the package's manifest is neither UTF-8 nor UTF-16, or defines entities")
    try:
        parser = ET.XMLParser(encoding=encoding)  # noqa: S314 no entities, and at most a megabyte
        metadata = _child(ET.fromstring(plain, parser), "metadata")  # noqa: S314 as above
        return _text(metadata, "id"), _text(metadata, "version")
    except (ET.ParseError, LookupError, ValueError) as error:
        raise ManifestError("the package's manifest does not state id and version") from error


def _without_utf16(data: bytes) -> tuple[bytes, str | None]:
    """A manifest in UTF-8 if it is in UTF-16, and the encoding that then counts, whatever its declaration says."""
    encoding = next((encoding for mark, encoding in _UTF16 if data.startswith(mark)), None)
    if encoding is None:
        return data, None
    try:
        return data.decode(encoding).removeprefix("\ufeff").encode(), "utf-8"
    except UnicodeError as error:
        raise ManifestError("the package's manifest begins as UTF-16 and is none") from error


def _child(element: Any, name: str) -> Any:
    for child in element:
        if str(child.tag).rpartition("}")[2] == name:
            return child
    raise LookupError(name)


def _text(element: Any, name: str) -> str:
    text = (_child(element, name).text or "").strip()
    if not re.fullmatch(r"[A-Za-z0-9._+-]{1,200}", text, re.ASCII):
        raise LookupError(name)
    return text


def _file_names(package: str, version: str) -> set[str]:
    """What the file of a package may be called: with the version as written, normalized, or none as in a cache."""
    plain = version.partition("+")[0]
    numbers, dash, label = plain.partition("-")
    parts = [str(int(part)) if part.isdecimal() else part for part in numbers.split(".")]
    while len(parts) < 3:
        parts.append("0")
    if len(parts) == 4 and parts[3] == "0":
        parts.pop()
    versions = {plain, version, ".".join(parts) + dash + label}
    return {f"{package}.{each}.nupkg".lower() for each in versions}


def _checked(path: Path, identity: str | None, result: Result, *, strict: bool) -> Checked:
    signature = result.signature
    fault = result.outcome not in GOOD or (strict and result.outcome is Outcome.VERIFIED_TIME_UNVERIFIED)
    stamp = signature.time_stamp if signature is not None else None
    facts = {
        "identity": identity,
        "certificate": signature.fingerprint if signature is not None else None,
        "placement": signature.kind.value if signature is not None else None,
        "counter_signature": signature.is_counter if signature is not None else None,
        "service_index": signature.service_index if signature is not None else None,
        "owners": list(signature.owners) if signature is not None else [],
        "time": format_time(stamp.time) if stamp is not None else None,
    }
    return Checked(
        name=str(path), outcome=result.outcome, detail=result.detail, is_fault=fault, notes=result.notes, facts=facts
    )

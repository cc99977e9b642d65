"""Verifies package files: the zip, the signature in it, whose it is, and that the package is what its name says.

A file is read as a stream, once for its digest; what it holds is never unpacked, but for the few lines of its manifest.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO
from xml.etree import ElementTree as ET

from kedge.document import format_time
from kedge.errors import InputError
from kedge.keys import KeySet
from kedge.registries.checklist import Checked
from kedge.registries.nuget.archive import ArchiveError, UnsignedError, read_archive
from kedge.registries.nuget.cms import CmsError, Unsupported
from kedge.registries.nuget.document import Feed
from kedge.registries.nuget.judge import GOOD, Outcome, Result, judge
from kedge.registries.nuget.signature import read_signature

__all__ = ["find_packages", "judge_file", "verify"]

MAX_MANIFEST_BYTES = 1 << 20


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


def verify(
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
    if len(data) > MAX_MANIFEST_BYTES or any(sign in data for sign in (b"<!DOCTYPE", b"<!ENTITY", b"\0")):
        raise ManifestError("the package's manifest is too long, is not UTF-8, or defines entities")
    try:
        metadata = _child(ET.fromstring(data), "metadata")  # noqa: S314 no entities, and at most a megabyte
        return _text(metadata, "id"), _text(metadata, "version")
    except (ET.ParseError, LookupError, ValueError) as error:
        raise ManifestError("the package's manifest does not state id and version") from error


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

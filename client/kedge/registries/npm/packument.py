"""What a registry serves for a package (its *packument*), reduced to what a judgement needs.

A packument lists every version and may be many megabytes; a lockfile asks for one or two of them. So there are two
ways to read it:

- :func:`glance` finds one version's object in the bytes and parses that alone. It may be led astray by a packument that
  was made to lead it astray. That is harmless: a signature that verifies over the *locked* digest proves what was
  locked, wherever it was found; and whatever does not verify is read again by
- :func:`read`, which parses the whole document and looks where npm looks.

Nothing here is trusted, and nothing of the rest is kept.

Source: npm's registry documentation, "package metadata".
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from kedge.documents import DocumentError

MAX_SIGNATURES = 32
MAX_TEXT = 4096
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d{1,9})?Z", re.ASCII)
_DECODER = json.JSONDecoder()
_MAX_CANDIDATES = 64
_GLANCE_BYTES = 1 << 16
_COLON = re.compile(rb"[ \t\r\n]{0,64}:[ \t\r\n]{0,64}")
_TIME_BESIDE = re.compile(_COLON.pattern + rb'"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?Z)"')


class WrongPackageError(DocumentError):
    """The registry answered for another package or version than the one it was asked for."""


@dataclass(frozen=True, slots=True)
class ServedSignature:
    """One entry of ``dist.signatures``, as served."""

    keyid: str
    sig: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What a registry states about one version today; nothing of it is signed but through ``signatures``.

    ``broken`` counts entries of ``dist.signatures`` that are no signatures at all, or too many to look at. ``logged``
    is no word of the registry's: it is when a log took its publish attestation in, once that was verified.
    """

    integrity: str | None
    shasum: str | None
    signatures: tuple[ServedSignature, ...]
    published: datetime | None
    broken: int = 0
    logged: datetime | None = None


def glance(data: bytes, name: str, version: str) -> Served | None:
    """Find one version's object in a packument's bytes; None where it is not plainly there."""
    for start in _places(data, version):
        if not data.startswith(b"{", start):
            continue
        # What is cut off at the end, or is no UTF-8, parses to nothing, or to what no signature is over.
        piece = data[start : start + _GLANCE_BYTES].decode(errors="replace")
        try:
            manifest, _ = _DECODER.raw_decode(piece)
        except (ValueError, RecursionError):
            return None
        if manifest.get("version") == version and manifest.get("name") == name and "dist" in manifest:
            return _served(manifest, _glance_time(data, version))
    return None


def read(data: bytes, name: str, versions: Collection[str]) -> dict[str, Served | WrongPackageError | None]:
    """Read the wanted versions out of a whole packument; None stands for a version that is not served.

    Raises:
        DocumentError: the answer is no packument.
        WrongPackageError: it is the packument of another package.
    """
    document = _load(data)
    if document.get("name") != name:
        raise WrongPackageError("name", f"is {_shown(document.get('name'))}, asked for was {name}")
    listed, times = document.get("versions"), document.get("time")
    if not isinstance(listed, dict):
        raise DocumentError("versions", "is missing: this is no packument")
    found: dict[str, Served | WrongPackageError | None] = {}
    for version in versions:
        found[version] = None
        if version in listed:
            stated = times.get(version) if isinstance(times, dict) else None
            try:
                found[version] = _read_version(listed[version], name, version, stated)
            except WrongPackageError as error:
                found[version] = error
    return found


def _read_version(manifest: Any, name: str, version: str, stated: Any) -> Served:
    if not isinstance(manifest, dict):
        raise WrongPackageError(f'versions["{version}"]', "is no object")
    # Registries that keep an old or lean form leave the names out; what is there must be right.
    for field, wanted in (("name", name), ("version", version)):
        if manifest.get(field, wanted) != wanted:
            raise WrongPackageError(
                f'versions["{version}"].{field}', f"is {_shown(manifest[field])}, asked for was {wanted}"
            )
    return _served(manifest, _time(stated))


def _served(manifest: Mapping[str, Any], published: datetime | None) -> Served:
    dist = manifest.get("dist")
    if not isinstance(dist, dict):
        dist = {}
    listed = dist.get("signatures")
    entries = listed if isinstance(listed, list) else [] if listed is None else [listed]
    signatures = tuple(_signatures(entries[:MAX_SIGNATURES]))
    return Served(
        integrity=_text(dist.get("integrity")),
        shasum=_text(dist.get("shasum")),
        signatures=signatures,
        published=published,
        broken=len(entries) - len(signatures),
    )


def _signatures(entries: list[Any]) -> Iterator[ServedSignature]:
    for entry in entries:
        if isinstance(entry, dict):
            keyid, sig = _text(entry.get("keyid")), _text(entry.get("sig"))
            if keyid is not None and sig is not None:
                yield ServedSignature(keyid, sig)


def _glance_time(data: bytes, version: str) -> datetime | None:
    """The time that stands beside this version, looked for from the end: that is where registries write the times."""
    quoted, end = f'"{version}"'.encode(), len(data)
    for _ in range(_MAX_CANDIDATES):
        end = data.rfind(quoted, 0, end)
        if end < 0:
            return None
        match = _TIME_BESIDE.match(data, end + len(quoted))
        if match is not None:
            return _time(match[1].decode())
    return None


def _places(data: bytes, version: str) -> Iterator[int]:
    """Where a value stands whose name is this version. A version holds no character that JSON would escape."""
    quoted, at = f'"{version}"'.encode(), 0
    for _ in range(_MAX_CANDIDATES):
        at = data.find(quoted, at)
        if at < 0:
            return
        at += len(quoted)
        colon = _COLON.match(data, at)
        if colon is not None:
            yield colon.end()


def _load(data: bytes) -> dict[str, Any]:
    try:
        document = json.loads(data.decode())
    except UnicodeDecodeError as error:
        raise DocumentError("", f"is not UTF-8 (byte {error.start})") from error
    except RecursionError as error:
        raise DocumentError("", "is nested too deep") from error
    except ValueError as error:
        if data.lstrip()[:1] == b"<":
            raise DocumentError("", "is a page of HTML, expected a packument (a login, an error page?)") from error
        raise DocumentError("", "is not JSON") from error
    if not isinstance(document, dict):
        raise DocumentError("", "is no JSON object, expected a packument")
    return document


def _time(value: Any) -> datetime | None:
    match = _TIME.fullmatch(value) if isinstance(value, str) else None
    if match is None or value < "1970":
        return None
    try:
        return datetime.fromisoformat(match[1]).replace(tzinfo=UTC)
    except ValueError:
        return None


def _text(value: Any) -> str | None:
    if not isinstance(value, str) or not value or len(value) > MAX_TEXT:
        return None
    try:
        value.encode()
    except UnicodeEncodeError:
        return None
    return value


def _shown(value: Any) -> str:
    return ascii(value[:80]) if isinstance(value, str) else "not a text"

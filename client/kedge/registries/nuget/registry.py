"""The key document of a NuGet feed: ``nuget/<host><path>/repository-signatures.json``, the feed's own resource.

It lists every certificate that the feed ever signed packages with, by SHA-256 fingerprint. Expired ones stay: packages
that they signed are installed for years, and their time stamps say that they were signed in time. What the resource
cannot say stands in the TUF target's ``custom`` under ``nuget``: the URL of the feed's service index, which the feed
signs into packages; certificates of authors, which may stand for themselves; and time stamp authorities, by the
fingerprint of the authority's own certificate or of one above it.

- The bytes are the feed's, so that they can be carried over; fields that nobody here knows are left alone.
- A fingerprint under another algorithm than SHA-256 is left alone too; an entry without SHA-256 is refused by name.
- The id of a feed is the host of its service index, with a path where one host has several feeds.

Source: NuGet "Repository signatures" resource (RepositorySignatures/5.0.0).

What would go wrong with a new key document of a NuGet feed, said before anybody signs it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from kedge.documents import DocumentError, Fields, format_time, load_json
from kedge.errors import InputError
from kedge.registries import (
    Finding,
    KeyFormat,
    KeySet,
    KeyStatus,
    NoKeysError,
    RegistryKey,
    Severity,
    TimeBasis,
    dropped,
    read_custom,
)

ROTATION_AHEAD = timedelta(days=180)
"""How long before the last certificate ends its successor should be there: restores pin fingerprints in files."""


def lint(old: KeySet | None, new: KeySet) -> tuple[Finding, ...]:
    """Say what would go wrong with ``new`` in place of ``old``."""
    return (*_dropped(old, new), *_nothing_active(new), *_rotation_due(new), *_placed_twice(new))


def _dropped(old: KeySet | None, new: KeySet) -> list[Finding]:
    return [
        Finding(
            rule="nuget/certificate-dropped",
            severity=Severity.ERROR,
            place=f"{new.target}: signingCertificates",
            message=f"{key.id} is no longer there ({usage}): packages that it signed would not be installed any more",
            hint="keep expired certificates: a package's time stamp says that it was signed in time",
        )
        for key, usage in dropped(old, new)
    ]


def _nothing_active(new: KeySet) -> list[Finding]:
    if any(key.status is KeyStatus.ACTIVE and _signs(key.usages) for key in new.keys):
        return []
    return [
        Finding(
            rule="nuget/no-active-certificate",
            severity=Severity.ERROR,
            place=f"{new.target}: signingCertificates",
            message="no certificate may sign packages now: every new package would be refused",
            hint="add the certificate that signs today before the old one ends",
        )
    ]


def _rotation_due(new: KeySet) -> list[Finding]:
    ends = [key.valid_until for key in new.keys if key.status is KeyStatus.ACTIVE and key.valid_until is not None]
    last = max(ends, default=None)
    if last is None or last - new.reference_time > ROTATION_AHEAD:
        return []
    return [
        Finding(
            rule="nuget/rotation-due",
            severity=Severity.WARNING,
            place=f"{new.target}: signingCertificates",
            message=f"the last certificate ends at {format_time(last)}, and no successor is listed",
            hint="list the next one well before it signs: whoever pins fingerprints needs it on the first day",
        )
    ]


def _placed_twice(new: KeySet) -> list[Finding]:
    usages: dict[str, set[str]] = {}
    for key in new.keys:
        usages.setdefault(key.id, set()).update(key.usages)
    return [
        Finding(
            rule="nuget/repository-and-author",
            severity=Severity.WARNING,
            place=f"{new.target}: custom.nuget.authors",
            message=f"{keyid} is a repository's certificate and stands among the authors' too",
            hint="a repository's certificate never makes an author's signature: take it out there",
        )
        for keyid, names in usages.items()
        if {"nuget:repository", "nuget:author"} <= names
    ]


def _signs(usages: tuple[str, ...]) -> bool:
    return "nuget:repository" in usages


REPOSITORY = "nuget:repository"
"""A repository's certificate: it signs packages, and countersigns those of authors."""
AUTHOR = "nuget:author"
"""An author's certificate: it signs that author's packages."""
TIMESTAMP = "nuget:timestamp"
"""The certificate of a time stamp authority, or one above it."""

MAX_CERTIFICATES = 1_000
MAX_BYTES = 4_000_000
SHA256_OID = "2.16.840.1.101.3.4.2.1"
_FEED = r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*"
_URL = r"https://[!#-;=?-\[\]_a-z~]{1,2000}"
_HEX = r"[0-9A-Fa-f]{64}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """What is known of a feed beside its certificates: its service index, and whose the authors' certificates are.

    Without a stated ``service_index`` one on the host of the feed's id is expected. ``authors`` are names by
    fingerprint.
    """

    host: str
    service_index: str | None
    authors: Mapping[str, str]

    def check_service_index(self, found: str) -> str | None:
        """What is wrong with the service index that a repository signed into a package; None if nothing is."""
        if self.service_index is not None:
            return None if found == self.service_index else f"expected {self.service_index}, found {found[:200]}"
        parts = urlsplit(found)
        if parts.scheme == "https" and parts.netloc.lower() == self.host.partition("/")[0].lower():
            return None
        return f"expected one on {self.host.partition('/')[0]}, found {found[:200]}"


class NuGet:
    """The registry module of NuGet feeds."""

    name = "nuget"

    def target_path(self, registry: str) -> str:
        """Give the target path of a feed's key document: ``nuget/<host><path>/repository-signatures.json``.

        Raises:
            InputError: the id is not ``nuget/``, a host and perhaps a path.
        """
        _host(registry)
        return f"{registry}/repository-signatures.json"

    def parse(self, data: bytes, *, registry: str, custom: Mapping[str, Any] | None, now: datetime) -> KeySet:
        """Read the key document of ``registry``; a certificate whose time ended at ``now`` or before is retired.

        Raises:
            DocumentError: the document or ``custom`` is not what it should be; the path leads to the fault.
            NoKeysError: the document names no certificate.
            InputError: ``registry`` is not a feed's id.
        """
        target = self.target_path(registry)
        revoked = tuple(keyid.lower() for keyid in read_custom(custom)[0])
        if len(data) > MAX_BYTES:
            raise DocumentError("", f"is longer than {MAX_BYTES} bytes")
        fields = Fields(load_json(data))
        fields.boolean("allRepositorySigned")
        entries = fields.tables("signingCertificates")
        if not entries:
            raise NoKeysError("signingCertificates", "is empty: the document names no certificate")
        if len(entries) > MAX_CERTIFICATES:
            fields.fail("signingCertificates", f"holds {len(entries)} entries, at most {MAX_CERTIFICATES} are read")
        keys: dict[str, RegistryKey] = {}
        for entry in entries:
            key = _certificate(entry, registry=registry, revoked=revoked, now=now)
            if keys.setdefault(key.id, key) != key:
                entry.fail("fingerprints", f"{key.id} stands there twice, with other validity")
        pinned = _pins(custom, registry=registry, revoked=revoked, now=now)
        return KeySet.of_document(
            data, registry=registry, target=target, keys=(*keys.values(), *pinned), now=now, revoked=revoked
        )

    def lint(self, old: KeySet | None, new: KeySet) -> tuple[Finding, ...]:
        """Say what would go wrong with ``new`` in place of ``old``."""
        return lint(old, new)


def read_feed(registry: str, custom: Mapping[str, Any] | None) -> Feed:
    """Read what ``custom.nuget`` says of a feed.

    Raises:
        DocumentError: it is not what it should be.
        InputError: ``registry`` is not a feed's id.
    """
    host = _host(registry)
    ours = _ours(custom)
    if ours is None:
        return Feed(host=host, service_index=None, authors={})
    authors = {pin.fingerprint: pin.name for pin in _authors(ours)}
    return Feed(host=host, service_index=_service_index(ours), authors=authors)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pin:
    name: str
    fingerprint: str


def _host(registry: str) -> str:
    module, _, feed = registry.partition("/")
    if module != "nuget" or re.fullmatch(_FEED, feed, re.ASCII) is None:
        shown = registry if registry.isprintable() else ascii(registry)
        raise InputError(f"{shown[:200]} is not a NuGet feed's id: expected nuget/, a host and perhaps a path")
    return feed


def _certificate(fields: Fields, *, registry: str, revoked: tuple[str, ...], now: datetime) -> RegistryKey:
    fingerprints = fields.table("fingerprints")
    if SHA256_OID not in fingerprints:
        named = ", ".join(fingerprints.names()[:5]) or "none"
        fields.fail("fingerprints", f"must hold one by SHA-256 ({SHA256_OID}); it holds {named}")
    fingerprint = fingerprints.text(SHA256_OID, pattern=_HEX, expected="64 hexadecimal digits").lower()
    start, end = fields.time("notBefore"), fields.time("notAfter")
    if end <= start:
        fields.fail("notAfter", "must be later than notBefore")
    return _key(fingerprint, REPOSITORY, registry=registry, revoked=revoked, window=(start, end), now=now)


def _pins(
    custom: Mapping[str, Any] | None, *, registry: str, revoked: tuple[str, ...], now: datetime
) -> list[RegistryKey]:
    """Authors' certificates and time stamp authorities, whose validity stands in the certificates themselves."""
    ours = _ours(custom)
    if ours is None:
        return []
    _service_index(ours)
    pins = [(pin.fingerprint, AUTHOR) for pin in _authors(ours)]
    for index, fingerprint in enumerate(ours.optional("timestamp_authorities", ours.texts) or ()):
        if re.fullmatch(_HEX, fingerprint) is None:
            raise DocumentError(f"{ours.at('timestamp_authorities')}[{index}]", "must be 64 hexadecimal digits")
        pins.append((fingerprint.lower(), TIMESTAMP))
    ours.end()
    if len(pins) > MAX_CERTIFICATES:
        raise DocumentError(ours.path, f"holds {len(pins)} certificates, at most {MAX_CERTIFICATES} are read")
    return [
        _key(fingerprint, usage, registry=registry, revoked=revoked, now=now)
        for fingerprint, usage in dict.fromkeys(pins)
    ]


def _ours(custom: Mapping[str, Any] | None) -> Fields | None:
    outer = Fields({} if custom is None else custom, "custom")
    if "nuget" not in outer:
        return None
    ours = outer.table("nuget")
    if ours.integer("v", minimum=1) != 1:
        ours.fail("v", "must be 1: a newer kedge is needed to read this")
    return ours


def _service_index(ours: Fields) -> str | None:
    return ours.optional("service_index", ours.text, pattern=_URL, expected="an https URL")


def _authors(ours: Fields) -> Iterator[_Pin]:
    for author in ours.optional("authors", ours.tables) or ():
        name = author.text("name", pattern=r"[^\x00-\x1f\x7f<>&\"']{1,100}", expected="a name without <, > and &")
        certificates = author.texts("certificates")
        author.end()
        for index, fingerprint in enumerate(certificates):
            if re.fullmatch(_HEX, fingerprint) is None:
                raise DocumentError(f"{author.at('certificates')}[{index}]", "must be 64 hexadecimal digits")
            yield _Pin(name=name, fingerprint=fingerprint.lower())


def _key(
    fingerprint: str,
    usage: str,
    *,
    registry: str,
    revoked: tuple[str, ...],
    window: tuple[datetime | None, datetime | None] = (None, None),
    now: datetime,
) -> RegistryKey:
    start, end = window
    return RegistryKey(
        id=fingerprint,
        registry=registry,
        usages=(usage,),
        material=bytes.fromhex(fingerprint),
        format=KeyFormat.CERTIFICATE_SHA256,
        algorithm="SHA-256",
        valid_from=start,
        valid_until=end,
        time_basis=TimeBasis.SIGNATURE_TIMESTAMP,
        status=KeyStatus.at(now, until=end, is_revoked=fingerprint in revoked),
    )

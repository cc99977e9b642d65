"""What would go wrong with a new key document of an npm registry, said before anybody signs it.

The two mistakes of January 2025 come first: the old key was taken out while packages that it signed were still
installed, and the new key was missing where it was needed. The others are what the oldest consumers (npm 9, pnpm,
Corepack 0.30) do with a document: they verify ECDSA P-256 alone, read ``validFor.end`` of every entry, compare with
the first entry of a keyid whatever its usage, and derive a keyid from nothing, while people compare it with what
``ssh-keygen -l`` prints.

What a registry's own keys endpoint answers (``GET /-/npm/v1/keys``), read as keys to compare a key document with.

Nobody signs this answer and it says less than a key document: no usage, and no beginning of a key's validity.

Source: npm's ``GET /-/npm/v1/keys``.

The key document of an npm registry: ``<host><path>/keys.json``.

The document is Sigstore's, byte for byte, so that a target that npm publishes there can be carried over. What it
cannot say (``revoked``, ``time_basis``) stands in the TUF target's ``custom`` under ``kedge``. Both arrive verified by
TUF; they are read strictly all the same, for a signing mistake must not become a silent "no such key".

- Fields that nobody here knows are left alone: the document is somebody else's. ``custom.kedge`` is ours, and is not.
- keyids are opaque. npm's are OpenSSH fingerprints, which stands in no specification; they are compared, not computed.
- One keyid is one key. The same keyid for the same usage twice, or with other bytes, is refused unless it is the same
  entry again.
- A key of an algorithm that this kedge does not know is kept, and says so when it is asked to verify: a key that npm
  adds for newer tools must not take the older ones away.

Sources: Sigstore protobuf-specs ``PublicKey``, ``PublicKeyDetails``, ``TimeRange`` in ProtoJSON.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from kedge.documents import Fields, format_time, load_json
from kedge.errors import InputError
from kedge.registries import (
    ALGORITHMS,
    KEYID,
    Finding,
    KeyFormat,
    KeySet,
    KeyStatus,
    NoKeysError,
    RegistryKey,
    Severity,
    TimeBasis,
    dropped,
    load_public_key,
    read_custom,
    ssh_fingerprint,
)
from kedge.registries.npm.judge import SIGNATURES

_ALGORITHMS = {"ecdsa-sha2-nistp256": "PKIX_ECDSA_P256_SHA_256", "ed25519": "PKIX_ED25519"}


def parse_endpoint(data: bytes, *, registry: str, target: str, now: datetime) -> KeySet:
    """Read the answer of the keys endpoint of ``registry``.

    Raises:
        DocumentError: it is not one; the path leads to the fault.
        NoKeysError: it names no key.
    """
    value = load_json(data)
    entries = Fields(value).tables("keys")
    if not entries:
        raise NoKeysError("keys", "is empty: the endpoint names no key")
    return KeySet.of_document(
        data,
        registry=registry,
        target=target,
        keys=(
            _key(fields, registry, now, endless=entry.get("expires") is None)
            for fields, entry in zip(entries, value["keys"], strict=True)
        ),
        now=now,
    )


def _key(fields: Fields, registry: str, now: datetime, *, endless: bool) -> RegistryKey:
    scheme = fields.text("scheme")
    text = fields.text("key")
    try:
        material = base64.b64decode(text, validate=True)
    except ValueError:
        fields.fail("key", "must be base64")
    until = None if endless else fields.time("expires")
    return RegistryKey(
        id=fields.text("keyid", pattern=KEYID, expected="up to 200 visible ASCII characters"),
        registry=registry,
        usages=(SIGNATURES,),
        material=material,
        format=KeyFormat.SPKI_DER,
        algorithm=_ALGORITHMS.get(scheme, scheme),
        valid_from=None,
        valid_until=until,
        time_basis=TimeBasis.PUBLISH_TIME,
        status=KeyStatus.at(now, until=until, is_revoked=False),
    )


_REGISTRY = r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?(:[0-9]{1,5})?(/[A-Za-z0-9_~@-][A-Za-z0-9._~@-]*)*"


class NPM:
    """The registry module of npm and of every registry that speaks its protocol."""

    name = "npm"

    def target_path(self, registry: str) -> str:
        """Give the target path of a registry's key document: ``<host><path>/keys.json``.

        Raises:
            InputError: the id is not a host with an optional path.
        """
        if re.fullmatch(_REGISTRY, registry) is None:
            shown = registry if registry.isprintable() else ascii(registry)
            hint = None
            if match := re.fullmatch(rf"https?://({_REGISTRY})/?", registry):
                hint = f"give its id, which is {match[1]}"
            raise InputError(f"{shown[:200]} is not a registry's id: expected a host and perhaps a path", hint=hint)
        return f"{registry}/keys.json"

    def parse(self, data: bytes, *, registry: str, custom: Mapping[str, Any] | None, now: datetime) -> KeySet:
        """Read the key document of ``registry``; a key whose validity ended at ``now`` or before is retired.

        Raises:
            DocumentError: the document or ``custom`` is not what it should be; the path leads to the fault.
            NoKeysError: the document names no key.
            InputError: ``registry`` is not an id of an npm registry.
            StoreError: this machine's cryptography cannot read keys of a kind that kedge knows.
        """
        target = self.target_path(registry)
        revoked, time_basis = read_custom(custom)
        entries = Fields(load_json(data)).tables("keys")
        if not entries:
            raise NoKeysError("keys", "is empty: the document names no key")
        first: dict[str, RegistryKey] = {}
        keys: dict[tuple[str, str], RegistryKey] = {}
        for fields in entries:
            key = _read_key(fields, registry=registry, revoked=revoked, basis=time_basis, now=now)
            same = keys.setdefault((key.id, key.usages[0]), key)
            _require_one_meaning(fields, key, first.setdefault(key.id, key), same)
        return KeySet.of_document(data, registry=registry, target=target, keys=keys.values(), now=now, revoked=revoked)

    def lint(self, old: KeySet | None, new: KeySet) -> tuple[Finding, ...]:
        """Say what would go wrong with ``new`` in place of ``old`` (None: there was no document)."""
        return lint(old, new)

    def parse_live(self, data: bytes, *, registry: str, now: datetime) -> KeySet:
        """Read what the registry's own keys endpoint answers, or a key document in its place.

        Raises:
            DocumentError: it is neither.
        """
        if any("keyId" in fields for fields in Fields(load_json(data)).tables("keys")):
            return self.parse(data, registry=registry, custom=None, now=now)
        return parse_endpoint(data, registry=registry, target=self.target_path(registry), now=now)


def _read_key(
    fields: Fields, *, registry: str, revoked: tuple[str, ...], basis: TimeBasis | None, now: datetime
) -> RegistryKey:
    keyid = fields.text("keyId", pattern=KEYID, expected="up to 200 visible ASCII characters")
    usage = fields.text("keyUsage", pattern=KEYID, expected="up to 200 visible ASCII characters")
    public = fields.table("publicKey")
    algorithm = public.text("keyDetails", pattern="[A-Z][A-Z0-9_]{0,99}", expected="a name such as PKIX_ED25519")
    material = _read_material(public, algorithm)
    valid_from, valid_until = _read_window(public.optional("validFor", public.table))
    return RegistryKey(
        id=keyid,
        registry=registry,
        usages=(usage,),
        material=material,
        format=KeyFormat.SPKI_DER if algorithm in ALGORITHMS else KeyFormat.RAW,
        algorithm=algorithm,
        valid_from=valid_from,
        valid_until=valid_until,
        time_basis=basis or TimeBasis.PUBLISH_TIME,
        status=KeyStatus.at(now, until=valid_until, is_revoked=keyid in revoked),
    )


def _read_material(public: Fields, algorithm: str) -> bytes:
    text = public.text("rawBytes")
    try:
        material = base64.b64decode(text, validate=True)
    except ValueError:
        public.fail("rawBytes", "must be base64")
    if algorithm in ALGORITHMS:
        try:
            load_public_key(material, algorithm)
        except ValueError as error:
            public.fail("rawBytes", str(error))
    return material


def _read_window(fields: Fields | None) -> tuple[datetime | None, datetime | None]:
    if fields is None:
        return None, None
    start, end = fields.optional("start", fields.time), fields.optional("end", fields.time)
    if start is not None and end is not None and end <= start:
        fields.fail("end", "must be later than start")
    return start, end


def _require_one_meaning(fields: Fields, key: RegistryKey, first: RegistryKey, same: RegistryKey) -> None:
    """Check ``key`` against the first entry of its keyid and the entry of the same keyid and usage."""
    if (first.material, first.algorithm) != (key.material, key.algorithm):
        fields.fail("keyId", f"{key.id} stands for another key further up")
    if same != key:
        fields.fail("keyId", f"{key.id} stands twice for {key.usages[0]}, with other validity")


P256 = "PKIX_ECDSA_P256_SHA_256"


def lint(old: KeySet | None, new: KeySet) -> tuple[Finding, ...]:
    """Say what would go wrong with ``new`` in place of ``old``."""
    return (
        *_dropped(old, new),
        *_nothing_active(old, new),
        *_changed(old, new),
        *_gaps(new),
        *_keyids(new),
        *_oldest_consumers(new),
    )


def _dropped(old: KeySet | None, new: KeySet) -> Iterator[Finding]:
    for key, usage in dropped(old, new):
        yield _finding(
            "key-dropped",
            Severity.ERROR,
            new,
            f"{key.id} is no longer there for {usage}: nothing that it signed would verify any more",
            hint="end its validity and keep its entry, or revoke it if it was stolen",
        )
    for keyid in old.revoked if old is not None else ():
        if keyid not in new.revoked:
            yield Finding(
                rule="npm/key-unrevoked",
                severity=Severity.ERROR,
                place=f"{new.target}: custom.kedge.revoked",
                message=f"{keyid} was revoked, and would be trusted again",
            )


def _nothing_active(old: KeySet | None, new: KeySet) -> Iterator[Finding]:
    if any(key.status is KeyStatus.ACTIVE and SIGNATURES in key.usages for key in new.keys):
        return
    before = [key.id for key in old.keys if SIGNATURES in key.usages] if old is not None else []
    stolen = bool(before) and set(before) <= set(new.revoked)
    yield _finding(
        "no-active-key",
        Severity.WARNING if stolen else Severity.ERROR,
        new,
        f"no key may sign packages now ({SIGNATURES}): every new release would be refused",
        hint="add the key that signs from now on" if stolen else "add the key that signs today before the old one ends",
    )


def _changed(old: KeySet | None, new: KeySet) -> Iterator[Finding]:
    was = {key.id: key for key in old.keys} if old is not None else {}
    for position, key in enumerate(new.keys):
        before = was.get(key.id)
        if before is not None and (before.material, before.algorithm) != (key.material, key.algorithm):
            text = f"{key.id} is another key than before: nothing that it signed would verify any more"
            yield _finding(
                "key-replaced", Severity.ERROR, new, text, position, hint="give the new key a keyid of its own"
            )
    earlier = _entries(old)
    for position, key in enumerate(new.keys):
        same = earlier.get((key.id, key.usages[0]))
        if same is None or key.id in new.revoked:
            continue
        if key.valid_from is not None and (same.valid_from is None or key.valid_from > same.valid_from):
            start = format_time(key.valid_from)
            text = f"{key.id} would be valid from {start} on only: what it signed before stops verifying"
            yield _finding("start-later", Severity.ERROR, new, text, position, field="publicKey.validFor.start")
        until = key.valid_until
        shortened = until is not None and (same.valid_until is None or until < same.valid_until)
        if until is not None and shortened and until < new.reference_time:
            text = (
                f"{key.id} would have ended at {format_time(until)} already: what it signed since then stops verifying"
            )
            yield _finding("ended-in-the-past", Severity.WARNING, new, text, position, field="publicKey.validFor.end")


def _gaps(new: KeySet) -> Iterator[Finding]:
    """Where a key ends, another one of its usage must be valid already: that is when late clients learn of it."""
    for position, key in enumerate(new.keys):
        end = key.valid_until
        if end is None or key.status is KeyStatus.REVOKED:
            continue
        others = [other for other in new.keys if other is not key and set(other.usages) & set(key.usages)]
        later = [other for other in others if other.valid_until is None or other.valid_until > end]
        if not later:
            continue  # the last of its line: whether there should be another is no matter of overlap
        if not any(other.valid_from is None or other.valid_from < end for other in later):
            start = min(other.valid_from for other in later if other.valid_from is not None)
            text = f"{key.id} ends at {format_time(end)}, and no other {key.usages[0]} key is valid by then"
            hint = f"let it end after {format_time(start)}, when the next one begins"
            yield _finding(
                "windows-gap", Severity.ERROR, new, text, position, field="publicKey.validFor.end", hint=hint
            )


def _keyids(new: KeySet) -> Iterator[Finding]:
    for position, key in enumerate(new.keys):
        if key.algorithm != P256:
            continue
        derived = ssh_fingerprint(load_public_key(key.material, key.algorithm))
        if key.id == derived:
            continue
        severity = Severity.ERROR if key.id.startswith("SHA256:") else Severity.NOTE
        text = f"{key.id} is not what ssh-keygen -l prints for its key, which is {derived}"
        yield _finding("keyid", severity, new, text, position, field="keyId")


def _oldest_consumers(new: KeySet) -> Iterator[Finding]:
    listed = load_json(new.document)["keys"]
    for position, entry in enumerate(listed):
        if "validFor" not in entry["publicKey"]:
            text = "has no validFor, which npm and pnpm cannot read: they stop with an error"
            hint = "write an empty one: {}"
            yield _finding("no-window", Severity.ERROR, new, text, position, field="publicKey", hint=hint)
    first: dict[str, RegistryKey] = {}
    for position, key in enumerate(new.keys):
        if key.algorithm != P256:
            text = f"{key.id} is {key.algorithm}: npm, pnpm and Corepack of today verify {P256} alone"
            yield _finding("unsupported-algorithm", Severity.WARNING, new, text, position, field="publicKey.keyDetails")
        shown = first.setdefault(key.id, key)
        if _ends_before(shown.valid_until, key.valid_until):
            text = f"{key.id} ends later for {key.usages[0]} than in its first entry, whose end npm takes for both"
            yield _finding("first-entry", Severity.WARNING, new, text, position, field="publicKey.validFor.end")
    active = [key for key in new.keys if key.status is KeyStatus.ACTIVE and SIGNATURES in key.usages]
    if active and not any(key.algorithm == P256 for key in active):
        text = f"no active key is {P256}: npm, pnpm and Corepack of today would refuse every new release"
        yield _finding("no-readable-key", Severity.ERROR, new, text)


def _entries(keys: KeySet | None) -> dict[tuple[str, str], RegistryKey]:
    return {(key.id, usage): key for key in keys.keys for usage in key.usages} if keys is not None else {}


def _ends_before(one: datetime | None, other: datetime | None) -> bool:
    return one is not None and (other is None or one < other)


def _finding(
    rule: str,
    severity: Severity,
    new: KeySet,
    message: str,
    position: int | None = None,
    *,
    field: str | None = None,
    hint: str | None = None,
) -> Finding:
    place = "keys" if position is None else f"keys[{position}]"
    if field is not None:
        place += f".{field}"
    return Finding(rule=f"npm/{rule}", severity=severity, place=f"{new.target}: {place}", message=message, hint=hint)

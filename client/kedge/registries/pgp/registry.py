"""Key documents that are OpenPGP keyrings: apt's, Gradle's, and those of any issuer of ``.asc`` files.

The target is the keyring itself, as other tools read it, so that a copy of the repository can be used without kedge. A
key's id is the fingerprint of its certificate, which OpenPGP computes. ``custom.kedge.revoked`` names fingerprints, of
certificates or of single subkeys; a certificate that carries its own revocation is revoked too.

OpenPGP keys end by the clock of whoever verifies (gpgv judges by now), so the time basis is ``now`` and no other.

What would go wrong with a new keyring, said before anybody signs it.

What breaks installed machines: the key that signs today ends, or is gone, before they have the next one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, ClassVar

from kedge.documents import DocumentError, format_time
from kedge.errors import InputError
from kedge.registries import (
    Finding,
    KeyFormat,
    KeySet,
    KeyStatus,
    RegistryKey,
    Severity,
    TimeBasis,
    dropped,
    read_custom,
)
from kedge.registries.pgp.certificate import Certificate, read_keyring, without_subkeys
from kedge.registries.pgp.packets import MAX_BYTES

SOON = timedelta(days=60)
MIN_RSA_BITS = 2048
MANY_BYTES = MAX_BYTES // 32


def lint(kind: str, old: KeySet | None, new: KeySet) -> tuple[Finding, ...]:
    """Say what would go wrong with ``new`` in place of ``old``; ``kind`` begins the rules' names."""
    return (
        *_nothing_active(kind, new),
        *_dropped(kind, old, new),
        *_ending(kind, new),
        *_weak(kind, new),
        *_weakly_bound(kind, new),
        *_misplaced(kind, new),
        *_large(kind, new),
    )


def _nothing_active(kind: str, new: KeySet) -> list[Finding]:
    if any(key.status is KeyStatus.ACTIVE for key in new.keys):
        return []
    text = "no key is valid now: every signature would be refused"
    return [_finding(f"{kind}/no-active-key", Severity.ERROR, new, text, "add the key that signs today")]


def _dropped(kind: str, old: KeySet | None, new: KeySet) -> list[Finding]:
    return [
        _finding(
            f"{kind}/key-dropped",
            Severity.ERROR if key.status is KeyStatus.ACTIVE else Severity.WARNING,
            new,
            f"{key.id} is no longer there: what it still signs would be refused",
            "leave it in until nothing signs with it, or name it under custom.kedge.revoked",
        )
        for key, _ in dropped(old, new)
    ]


def _ending(kind: str, new: KeySet) -> list[Finding]:
    active = [key for key in new.keys if key.status is KeyStatus.ACTIVE]
    lasting = [key for key in active if key.valid_until is None or key.valid_until > new.reference_time + SOON]
    if not active or lasting:
        return []
    last = max(key.valid_until for key in active if key.valid_until is not None)
    text = f"the last valid key ends at {format_time(last)}, in less than {SOON.days} days"
    return [_finding(f"{kind}/ends-soon", Severity.WARNING, new, text, "add the next key, or extend this one")]


def _weak(kind: str, new: KeySet) -> list[Finding]:
    return [
        _finding(f"{kind}/weak-key", Severity.ERROR, new, f"{key.id} is a {key.algorithm} key, which can be forged")
        for key in new.keys
        if _is_weak(key) and key.status is not KeyStatus.REVOKED
    ]


def _weakly_bound(kind: str, new: KeySet) -> list[Finding]:
    found = []
    for key in new.keys:
        digest = read_keyring(key.material)[0].weak_binding
        if digest is not None and key.status is not KeyStatus.REVOKED:
            text = f"{key.id} is bound by {digest} alone: apt of Debian 13 refuses it from 2026-02-01 on"
            hint = "its owner signs it again: gpg --cert-digest-algo SHA512 --quick-set-expire FINGERPRINT 2y"
            found.append(_finding(f"{kind}/weak-binding", Severity.ERROR, new, text, hint))
    return found


def _is_weak(key: RegistryKey) -> bool:
    _, algorithm, *bits = key.algorithm.split("_")
    return algorithm == "DSA" or (algorithm == "RSA" and bool(bits) and int(bits[0]) < MIN_RSA_BITS)


def _misplaced(kind: str, new: KeySet) -> list[Finding]:
    """A file is read by its name: apt finds no keys in armour that is called .gpg, and Gradle none in packets."""
    packets = new.document[:1] >= b"\x80"
    if new.target.endswith(".gpg") and not packets:
        text, hint = "is armoured, and a .gpg file holds binary packets", "gpg --dearmor makes them"
        return [_finding(f"{kind}/armoured-gpg", Severity.ERROR, new, text, hint)]
    if new.target.endswith(".keys") and packets:
        text, hint = "is binary, and Gradle reads a .keys file as armoured text", "gpg --enarmor, or kedge keys export"
        return [_finding(f"{kind}/binary-keys", Severity.ERROR, new, text, hint)]
    return []


def _large(kind: str, new: KeySet) -> list[Finding]:
    if len(new.document) <= MANY_BYTES:
        return []
    text = f"is {len(new.document)} bytes long: certificates carry signatures of other people, which nobody needs here"
    return [_finding(f"{kind}/large", Severity.NOTE, new, text, "gpg --export-options export-minimal --export")]


def _finding(rule: str, severity: Severity, new: KeySet, message: str, hint: str | None = None) -> Finding:
    return Finding(rule=rule, severity=severity, place=new.target, message=message, hint=hint)


_NAME = "[a-z0-9][a-z0-9._-]{0,99}"


class Keyring:
    """A registry module whose key document is a keyring: ``<kind>/<name>/<file>``."""

    name: ClassVar[str]
    file: ClassVar[str]
    usage: ClassVar[str]
    example: ClassVar[str]

    def target_path(self, registry: str) -> str:
        """Give the target path of a registry's keyring.

        Raises:
            InputError: the id is not ``<kind>/<name>``.
        """
        if re.fullmatch(f"{self.name}/{_NAME}", registry) is None:
            shown = registry if registry.isprintable() else ascii(registry)
            raise InputError(f"{shown[:200]} is not a registry's id: expected {self.name}/NAME, such as {self.example}")
        return f"{registry}/{self.file}"

    def parse(self, data: bytes, *, registry: str, custom: Mapping[str, Any] | None, now: datetime) -> KeySet:
        """Read a keyring; a key whose time is over at ``now`` is retired.

        Raises:
            DocumentError: it is no keyring, holds a private key, or ``custom`` is not what it should be.
            InputError: ``registry`` is not an id of this kind.
        """
        target = self.target_path(registry)
        revoked = _read_revoked(custom)
        return KeySet.of_document(
            data,
            registry=registry,
            target=target,
            keys=(self._key(each, registry, revoked, now) for each in read_keyring(data)),
            now=now,
            revoked=revoked,
        )

    def lint(self, old: KeySet | None, new: KeySet) -> tuple[Finding, ...]:
        """Say what would go wrong with ``new`` in place of ``old``."""
        return lint(self.name, old, new)

    def _key(self, each: Certificate, registry: str, revoked: tuple[str, ...], now: datetime) -> RegistryKey:
        return RegistryKey(
            id=each.fingerprint,
            registry=registry,
            usages=(self.usage,),
            material=each.material,
            format=KeyFormat.OPENPGP,
            algorithm=f"OPENPGP_{each.algorithm}" + (f"_{each.bits}" if each.bits else ""),
            valid_from=each.created,
            valid_until=each.expires,
            time_basis=TimeBasis.NOW,
            status=KeyStatus.at(now, until=each.expires, is_revoked=each.revoked or each.fingerprint in revoked),
        )


def _read_revoked(custom: Mapping[str, Any] | None) -> tuple[str, ...]:
    revoked, basis = read_custom(custom)
    if basis not in (None, TimeBasis.NOW):
        raise DocumentError("custom.kedge.time_basis", "must be now: OpenPGP keys end by the verifier's clock")
    for index, keyid in enumerate(revoked):
        # Another spelling would match nothing, and revoke nothing.
        if re.fullmatch("[0-9A-F]{40}|[0-9A-F]{64}", keyid) is None:
            text = "must be a fingerprint: 40 or 64 upper-case hexadecimal digits"
            raise DocumentError(f"custom.kedge.revoked[{index}]", text)
    return revoked


class PGP(Keyring):
    """Whoever signs files with OpenPGP: ``pgp/<name>/keyring.gpg``."""

    name = "pgp"
    file = "keyring.gpg"
    usage = "pgp:file"
    example = "pgp/example"


class Gradle(Keyring):
    """Who signs what a Gradle build takes from Maven repositories: ``gradle/<org>/verification-keyring.keys``."""

    name = "gradle"
    file = "verification-keyring.keys"
    usage = "gradle:artifact"
    example = "gradle/example"


def keyring_of(keys: KeySet) -> bytes:
    """A key set as one binary keyring, for judging and not for handing on: revoked certificates are in it.

    Revoked subkeys are not: a tool that names the certificate and not the subkey could not be told of them.
    """
    return b"".join(without_subkeys(key.material, keys.revoked) for key in keys.keys)

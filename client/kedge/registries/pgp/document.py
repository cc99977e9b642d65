"""Key documents that are OpenPGP keyrings: apt's, Gradle's, and those of any issuer of ``.asc`` files.

The target is the keyring itself, as other tools read it, so that a copy of the repository can be used without kedge. A
key's id is the fingerprint of its certificate, which OpenPGP computes. ``custom.kedge.revoked`` names fingerprints, of
certificates or of single subkeys; a certificate that carries its own revocation is revoked too.

OpenPGP keys end by the clock of whoever verifies (gpgv judges by now), so the time basis is ``now`` and no other.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar

from kedge.document import DocumentError
from kedge.errors import InputError
from kedge.findings import Finding
from kedge.keys import KeyFormat, KeySet, KeyStatus, RegistryKey, TimeBasis
from kedge.registries.pgp.certificate import Certificate, read_keyring, without_subkeys
from kedge.registries.pgp.lint import lint
from kedge.registry import read_custom

__all__ = ["PGP", "Gradle", "Keyring", "keyring_of"]

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

"""The key document of a Sigstore instance: its ``trusted_root.json``, as keys.

``sigstore`` is the instance whose trusted root stands at the top of its repository, as in Sigstore's public-good one;
``sigstore/NAME`` is any other, at ``sigstore/NAME/trusted_root.json``. Beside it may stand what signers need,
``signing_config.v0.2.json``.

A log's key has the log's id; an authority has no id in the document, so it is called ``x509:`` and the SHA-256 of the
certificate that issues. What TUF says beside the target (``revoked``) holds for both.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from kedge.document import DocumentError
from kedge.errors import InputError
from kedge.findings import Finding
from kedge.keys import ALGORITHMS, KeyFormat, KeySet, KeyStatus, RegistryKey, TimeBasis
from kedge.registries.sigstore.trustedroot import Authority, Log, TrustedRoot
from kedge.registries.sigstore.usages import CERTIFICATE_LOG, ISSUER, LOG, TIMESTAMPER
from kedge.registry import NoKeysError, read_custom

__all__ = ["SIGNING_CONFIG", "Sigstore", "authority_id", "log_id"]

SIGNING_CONFIG = "signing_config.v0.2.json"
_INSTANCE = r"sigstore(/[A-Za-z0-9]([A-Za-z0-9._-]{0,98}[A-Za-z0-9])?)?"


class Sigstore:
    """The registry module of Sigstore instances."""

    name = "sigstore"

    def target_path(self, registry: str) -> str:
        """Give the target path of an instance's trusted root.

        Raises:
            InputError: the id is neither ``sigstore`` nor ``sigstore/NAME``.
        """
        if re.fullmatch(_INSTANCE, registry) is None:
            raise InputError(f"{registry[:200]!a} is not a Sigstore instance: expected sigstore, or sigstore/NAME")
        _, slash, name = registry.partition("/")
        return f"sigstore/{name}/trusted_root.json" if slash else "trusted_root.json"

    def parse(self, data: bytes, *, registry: str, custom: Mapping[str, Any] | None, now: datetime) -> KeySet:
        """Read a trusted root; what ended at ``now`` or before is retired.

        Raises:
            DocumentError: the document or ``custom`` is not what it should be; the path leads to the fault.
            NoKeysError: it names no transparency log.
            InputError: ``registry`` is not a Sigstore instance's id.
            StoreError: this machine's cryptography cannot read keys of a kind that kedge knows.
        """
        target = self.target_path(registry)
        revoked, time_basis = read_custom(custom)
        root = TrustedRoot.from_bytes(data)
        if not root.logs:
            raise NoKeysError("tlogs", "is empty: the document names no transparency log")
        keys: dict[tuple[str, str], RegistryKey] = {}
        for path, key in _keys(root, registry, time_basis or TimeBasis.LOG_TIME):
            status = KeyStatus.at(now, until=key.valid_until, is_revoked=key.id in revoked)
            key = replace(key, status=status)  # noqa: PLW2901 the same key, with its status
            if keys.setdefault((key.id, key.usages[0]), key) != key:
                raise DocumentError(path, f"stands for another key further up: {key.id}")
        return KeySet.of_document(data, registry=registry, target=target, keys=keys.values(), now=now, revoked=revoked)

    def lint(self, old: KeySet | None, new: KeySet) -> tuple[Finding, ...]:
        """Say what would go wrong with ``new`` in place of ``old``."""
        from kedge.registries.sigstore.lint import lint

        return lint(old, new)


def log_id(log: Log) -> str:
    """The keyid of a log: its id in base64, as bundles write it."""
    return base64.b64encode(log.id).decode("ascii")


def authority_id(authority: Authority) -> str:
    """The keyid of an authority: the digest of the certificate that issues."""
    return f"x509:{hashlib.sha256(authority.certificates[0]).hexdigest()}"


def _keys(root: TrustedRoot, registry: str, basis: TimeBasis) -> Iterator[tuple[str, RegistryKey]]:
    """Every key of the document with the place that it stands at, active for now."""
    for name, usage, logs in (("tlogs", LOG, root.logs), ("ctlogs", CERTIFICATE_LOG, root.certificate_logs)):
        for index, log in enumerate(logs):
            form = KeyFormat.SPKI_DER if log.algorithm in ALGORITHMS else KeyFormat.RAW
            facts = (log_id(log), usage, log.material, form, log.algorithm, log.valid_from, log.valid_until)
            yield f"{name}[{index}].logId", _key(registry, basis, *facts)
    for name, usage, authorities in (
        ("certificateAuthorities", ISSUER, root.issuers),
        ("timestampAuthorities", TIMESTAMPER, root.timestampers),
    ):
        for index, authority in enumerate(authorities):
            material, window = authority.certificates[0], (authority.valid_from, authority.valid_until)
            facts = (authority_id(authority), usage, material, KeyFormat.X509_DER, "X509", *window)
            yield f"{name}[{index}].certChain", _key(registry, basis, *facts)


def _key(
    registry: str,
    basis: TimeBasis,
    keyid: str,
    usage: str,
    material: bytes,
    form: KeyFormat,
    algorithm: str,
    valid_from: datetime | None,
    valid_until: datetime | None,
) -> RegistryKey:
    return RegistryKey(
        id=keyid,
        registry=registry,
        usages=(usage,),
        material=material,
        format=form,
        algorithm=algorithm,
        valid_from=valid_from,
        valid_until=valid_until,
        time_basis=basis,
        status=KeyStatus.ACTIVE,
    )

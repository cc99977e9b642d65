"""What would go wrong with a new trusted root, said before anybody signs it.

A trusted root that is *valid* can still stop the world: what it drops, nothing that was signed with it verifies any
more; what it adds in a new form, older clients cannot read. Both happened: in October 2025 the first Ed25519 key of a
log stopped sigstore-ruby. So the document is held against the old one, against what the oldest clients were seen to
read (tests/interop/test_sigstore_readers.py runs them), and read with the sigstore-python that is installed here.

What the keys of a trusted root may speak for.

The key document of a Sigstore instance: its ``trusted_root.json``, as keys.

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

from kedge.documents import DocumentError, format_time
from kedge.errors import InputError, Reason, Refusal, VerificationError, extra_hint
from kedge.registries import (
    ALGORITHMS,
    Finding,
    KeyFormat,
    KeySet,
    KeyStatus,
    NoKeysError,
    RegistryKey,
    Severity,
    TimeBasis,
    read_custom,
)
from kedge.registries.sigstore.trustedroot import MEDIA_TYPES, Authority, Log, TrustedRoot

LOG = "sigstore:tlog"
CERTIFICATE_LOG = "sigstore:ctlog"
ISSUER = "sigstore:ca"
TIMESTAMPER = "sigstore:tsa"


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
        return lint(old, new)


def log_id(log: Log) -> str:
    """The keyid of a log: its id in base64, as bundles write it."""
    return base64.b64encode(log.id).decode("ascii")


def verify_by_log(keys: KeySet, keyid: str, message: bytes, signature: bytes, *, usage: str, at: datetime) -> None:
    """Check what a log signed at ``at``. Its window must state a start, and includes its end, as authorities' do.

    Raises:
        VerificationError: as :meth:`KeySet.verify`; ``outside-validity`` also where no start is stated.
        StoreError: as :meth:`KeySet.verify`.
    """
    key = keys.find(keyid, usage)
    if key.valid_from is None:
        refusal = Refusal(reason=Reason.OUTSIDE_VALIDITY, file=keys.target, found=keyid)
        problem = f"{keys.target} states no start of its validity (validFor.start)"
        raise VerificationError(f"{keys.registry}: key {keyid} is not trusted: {problem}", refusal=refusal)
    if key.valid_until is not None:
        key = replace(key, valid_until=key.valid_until + datetime.resolution)
    keys.check(key, message, signature, at=at)


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


_FIELDS = {
    LOG: "tlogs",
    CERTIFICATE_LOG: "ctlogs",
    ISSUER: "certificateAuthorities",
    TIMESTAMPER: "timestampAuthorities",
}
_EVERYBODY_READS = "PKIX_ECDSA_P256_SHA_256"


def lint(old: KeySet | None, new: KeySet) -> tuple[Finding, ...]:
    """Say what would go wrong with ``new`` in place of ``old``."""
    changed = _changed(old, new) if old is not None else ()
    return (*changed, *_nothing_active(new), *_forms(old, new), *_installed_reader(new))


def _changed(old: KeySet, new: KeySet) -> Iterator[Finding]:
    kept = {(key.id, key.usages): key for key in new.keys}
    for key in old.keys:
        now, what = kept.get((key.id, key.usages)), f"{key.id} ({key.usages[0]})"
        if now is None and key.id in new.revoked:
            continue
        if now is None:
            problem = f"{what} is no longer there: nothing that was signed with it would verify any more"
            hint = "end its validity and keep its entry, or revoke it if it was stolen"
            yield _finding(new, key, "dropped", Severity.ERROR, problem, hint)
        elif now.material != key.material:
            problem = f"{what} stands for other bytes than before: what was signed with the former would not verify"
            yield _finding(new, key, "replaced", Severity.ERROR, problem, "give the new one an entry of its own")
        elif _ends_earlier(now, key) or _begins_later(now, key):
            problem = (
                f"{what} is valid for {_window(now)}, before for {_window(key)}: what was signed between is refused"
            )
            yield _finding(new, key, "window-shortened", Severity.WARNING, problem)


def _ends_earlier(now: RegistryKey, before: RegistryKey) -> bool:
    """Whether a window ends earlier than it did; to end one that was open is how a key is retired."""
    return now.valid_until is not None and before.valid_until is not None and now.valid_until < before.valid_until


def _begins_later(now: RegistryKey, before: RegistryKey) -> bool:
    return now.valid_from is not None and (before.valid_from is None or now.valid_from > before.valid_from)


def _nothing_active(new: KeySet) -> Iterator[Finding]:
    for usage, what in ((LOG, "transparency log"), (CERTIFICATE_LOG, "certificate log"), (ISSUER, "authority")):
        if not any(key.status is KeyStatus.ACTIVE and usage in key.usages for key in new.keys):
            yield Finding(
                rule="sigstore/nothing-active",
                severity=Severity.ERROR,
                place=f"{new.target}: {_FIELDS[usage]}",
                message=f"no {what} is valid now: every new signature would be refused",
                hint="add the one that is in use before the old one ends",
            )


def _forms(old: KeySet | None, new: KeySet) -> Iterator[Finding]:
    media_type = TrustedRoot.from_bytes(new.document).media_type
    if media_type != MEDIA_TYPES[0]:
        yield Finding(
            rule="sigstore/media-type",
            severity=Severity.ERROR,
            place=f"{new.target}: mediaType",
            message=f"{media_type} is refused by sigstore-python up to 4.5, and by older clients of others",
            hint=f"write {MEDIA_TYPES[0]}",
        )
    for key in new.keys:
        if key.usages[0] in (LOG, CERTIFICATE_LOG) and key.valid_from is None:
            problem = f"{key.id} states no start of its validity: verifiers refuse all that it signs"
            yield _finding(new, key, "no-start", Severity.ERROR, problem, "state since when it signs (validFor.start)")
    known = {(key.id, key.usages) for key in old.keys} if old is not None else set()
    logs = [key for key in new.keys if LOG in key.usages]
    if len(logs) > 1 and any((key.id, key.usages) not in known for key in logs):
        problem = f"names {len(logs)} transparency logs, one of them new: sigstore-python 3.0 takes no more than one"
        yield _finding(new, logs[-1], "several-logs", Severity.WARNING, problem)
    for key in new.keys:
        is_log = key.usages[0] in (LOG, CERTIFICATE_LOG)
        if is_log and key.algorithm != _EVERYBODY_READS and (key.id, key.usages) not in known:
            problem = f"{key.id} is a {key.algorithm} key, new here: clients from before it cannot read it"
            hint = "some then refuse the whole document, as sigstore-ruby did in 2025-10: try those that you support"
            yield _finding(new, key, "new-algorithm", Severity.WARNING, problem, hint)


def _installed_reader(new: KeySet) -> Iterator[Finding]:
    """Read it with the sigstore-python that is installed; where there is none, that is said."""
    place = f"{new.target}: the whole document"
    try:
        import sigstore
        from sigstore.errors import Error
        from sigstore.verify import Verifier

        from kedge.registries.sigstore.reference import trusted_root
    except ImportError:
        message = "was not read with sigstore-python, which is not installed here"
        hint = extra_hint("sigstore")
        yield Finding(rule="sigstore/not-read", severity=Severity.NOTE, place=place, message=message, hint=hint)
        return
    try:
        Verifier(trusted_root=trusted_root(new.document))
    except (Error, ValueError) as error:
        message = f"sigstore-python {sigstore.__version__} cannot read it: {error}"
        yield Finding(rule="sigstore/unreadable", severity=Severity.ERROR, place=place, message=message)


def _window(key: RegistryKey) -> str:
    start = format_time(key.valid_from) if key.valid_from else "any time"
    return f"{start} to {format_time(key.valid_until)}" if key.valid_until else f"{start} on"


def _finding(
    new: KeySet, key: RegistryKey, rule: str, severity: Severity, message: str, hint: str | None = None
) -> Finding:
    place = f"{new.target}: {_FIELDS[key.usages[0]]}"
    return Finding(rule=f"sigstore/{rule}", severity=severity, place=place, message=message, hint=hint)

"""The keyholder's side of a signing request: check it against a root of one's own, then sign.

The keyholder starts from a root that *this keyholder* trusts, and never from one that the request brings; only the
first ceremony, before which there is none, is different, and has to be asked for by name. From there everything is
checked with the client's own rules: the chain of roots up to the one the request is based on, the thresholds of the
metadata the payloads follow from, that each payload is exactly the next version, and that the request brings the bytes
of every target that changes. The signed snapshot tells which roles there are, so that none can be left out and begun
again. Then, and only then, is there something to review and to sign.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum

from securesystemslib.signer import Signer
from tuf.api.metadata import Root, Snapshot, TargetFile, Targets

from kedge.documents import DocumentError
from kedge.errors import InputError, Reason, Refusal, VerificationError
from kedge.tuf import Parsed, parse, require_threshold
from kedge_repo.signing.key_rules import KeyFault, KeyRule, request_key_faults
from kedge_repo.signing.request import Request, Response, RoleSignature, request_code
from kedge_repo.signing.threshold import Group, check_signature, groups_for
from kedge_repo.workspace import Payload, SignedMetadata, digest, fingerprint, verify_roots


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedRoot:
    """A root that the keyholder trusts; ``file`` is its name in messages."""

    data: bytes
    file: str


class FirstCeremony(Enum):
    """The one case without a trusted root: the keyholder knows that this repository begins now."""

    NOTHING_IS_SIGNED_YET = "first-ceremony"


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedRequest:
    """A request that holds: ``signed`` is its verified base; ``groups`` says who must sign each payload, by SHA-256.

    ``key_faults`` is what is wrong with the keys that it lists: to be shown, and signed only when that is accepted.
    """

    request: Request
    signed: SignedMetadata
    groups: Mapping[str, tuple[Group, ...]]
    code: str
    key_faults: tuple[KeyFault, ...] = ()


def verify_request(request: Request, start: TrustedRoot | FirstCeremony, *, file: str = "request") -> VerifiedRequest:
    """Check a request against the root that the keyholder trusts; ``file`` is its name in messages.

    Raises:
        InputError: the trusted root is not a root.
        VerificationError: the request does not follow from it.
    """
    signed = _signed(request, _roots(request, start, file), file)
    groups: dict[str, tuple[Group, ...]] = {}
    for payload in request.payloads:
        _check_version(payload, signed, request.payloads, file)
        try:
            groups[payload.sha256] = groups_for(payload, signed, request.payloads)
        except DocumentError as error:
            raise _refuse(f"{file}: {error}", Reason.NOT_FOUND, payload.role) from error
    _check_targets(request, signed, file)
    return VerifiedRequest(
        request=request,
        signed=signed,
        groups=groups,
        code=request_code(request),
        key_faults=request_key_faults(request.payloads, signed),
    )


def require_right_keys(verified: VerifiedRequest, *, accept: Collection[KeyRule] = ()) -> None:
    """Check that nothing is wrong with the keys that a request lists, the rules in ``accept`` apart.

    Raises:
        VerificationError: something is; the text names each rule and key.
    """
    faults = [fault for fault in verified.key_faults if fault.rule not in accept]
    if faults:
        rules = dict.fromkeys(fault.rule.value for fault in faults)
        raise _refuse(
            "not signed: "
            + "; ".join(f"{fault.role} version {fault.version}: {fault.message} [{fault.rule}]" for fault in faults),
            Reason.CONFLICT,
            faults[0].role,
            hint="ask the keys' owners for their fingerprints; where that is what they want, sign with "
            + " ".join(f"--accept-key-fault {rule}" for rule in rules),
        )


def sign_request(verified: VerifiedRequest, signer: Signer, *, accept: Collection[KeyRule] = ()) -> Response:
    """Sign every payload of the request in which this key has a say.

    Raises:
        InputError: it has a say in none of them.
        VerificationError: something is wrong with the keys that it lists, by a rule that is not in ``accept``.
    """
    require_right_keys(verified, accept=accept)
    mark = fingerprint(signer.public_key)
    signatures: list[RoleSignature] = []
    for payload in verified.request.payloads:
        groups = verified.groups[payload.sha256]
        keyids = {keyid for group in groups for keyid, key in group.keys.items() if fingerprint(key) == mark}
        for keyid in sorted(keyids):
            value = signer.sign(payload.data).signature
            check_signature(payload, keyid, value, groups, file="own signature")
            signatures.append(
                RoleSignature(role=payload.role, payload_sha256=payload.sha256, keyid=keyid, signature=value)
            )
    if not signatures:
        raise InputError(
            f"the key {mark} has no say in this request; it is for {_expected(verified)}",
            hint="compare the key's fingerprint with those that the review lists",
        )
    request = verified.request
    return Response(
        repository=request.repository, event=request.event, code=verified.code, signatures=tuple(signatures)
    )


def _expected(verified: VerifiedRequest) -> str:
    names = verified.request.keyholders
    keys = {keyid: key for groups in verified.groups.values() for group in groups for keyid, key in group.keys.items()}
    return ", ".join(f"{names.get(keyid, 'unnamed')} {fingerprint(key)[:16]}" for keyid, key in keys.items())


def _roots(request: Request, start: TrustedRoot | FirstCeremony, file: str) -> tuple[Parsed[Root], ...]:
    if isinstance(start, FirstCeremony):
        if request.roots or any(payload.version != 1 for payload in request.payloads):
            raise _refuse(
                f"{file}: is no first ceremony: it follows {len(request.roots)} roots that are signed already",
                Reason.ANCHOR,
                Root.type,
                hint="name the root you trust with --root",
            )
        return ()
    trusted = _trusted(start)
    roots = tuple(parse(data, Root, file=f"{file}: roots[{index}]") for index, data in enumerate(request.roots))
    for index, root in enumerate(roots, start=1):
        if root.signed.version != index:
            raise _refuse(
                f"{file}: roots[{index - 1}]: is version {root.signed.version}, expected {index}",
                Reason.VERSION,
                Root.type,
            )
    version = trusted.signed.version
    if version > len(roots):
        raise _refuse(
            f"{file}: is based on root version {len(roots)}, older than version {version} in {start.file}",
            Reason.ROLLBACK,
            Root.type,
        )
    if roots[version - 1].payload != trusted.payload:
        raise _refuse(
            f"{file}: does not follow from {start.file}: its root version {version} is another one",
            Reason.ANCHOR,
            Root.type,
            hint="ask the maintainers which repository this request is for; do not sign it",
        )
    verify_roots(roots[version - 1 :])
    return roots


def _trusted(start: TrustedRoot) -> Parsed[Root]:
    try:
        return parse(start.data, Root, file=start.file)
    except VerificationError as error:
        raise InputError(error.message) from error


def _signed(request: Request, roots: tuple[Parsed[Root], ...], file: str) -> SignedMetadata:
    """The base of the request, verified; what the signed snapshot lists and the payloads follow from must be there."""
    parsed = {
        role: parse(data, Targets, file=f"{file}: base {role}")
        for role, data in request.base.items()
        if role != Snapshot.type
    }
    snapshot = request.base.get(Snapshot.type)
    signed = SignedMetadata(
        roots=roots,
        targets=parsed.pop(Targets.type, None),
        delegated=parsed,
        snapshot=None if snapshot is None else parse(snapshot, Snapshot, file=f"{file}: base snapshot"),
    )
    if signed.root is None:
        return signed
    if signed.targets is None:
        raise _refuse(f"{file}: base: does not bring the signed targets", Reason.MALFORMED, Targets.type)
    signed.verify()
    if signed.snapshot is not None:
        require_threshold(signed.root.signed, Snapshot.type, signed.snapshot)
        for role in {Targets.type, *(payload.role for payload in request.payloads)} - {Root.type}:
            _check_listed(role, signed, signed.snapshot.signed, file)
    return signed


def _check_listed(role: str, signed: SignedMetadata, snapshot: Snapshot, file: str) -> None:
    """Check that the base of ``role`` is no older than the snapshot says, so that none is left out or rolled back."""
    listed, brought = snapshot.meta.get(f"{role}.json"), signed.role(role)
    if listed is None:
        return
    if brought is None:
        raise _refuse(
            f"{file}: base: does not bring {role}, which is version {listed.version} in the signed snapshot",
            Reason.NOT_IN_SNAPSHOT,
            role,
        )
    if brought.signed.version < listed.version:
        raise _refuse(
            f"{brought.file}: is version {brought.signed.version}, and the signed snapshot lists {listed.version}",
            Reason.ROLLBACK,
            role,
        )
    sha256 = (listed.hashes or {}).get("sha256")
    if brought.signed.version == listed.version and sha256 is not None and digest(brought.data) != sha256:
        raise _refuse(f"{brought.file}: is not the file that the signed snapshot lists", Reason.CONTENT, role)


def _check_version(payload: Payload, signed: SignedMetadata, pending: tuple[Payload, ...], file: str) -> None:
    before = signed.role(payload.role)
    known = [before.signed.version] if before else [0]
    if payload.role == Root.type:  # the only role that may move by several versions in one event
        known += [other.version for other in pending if other.role == Root.type and other.version < payload.version]
    expected = known[0] + len(known)
    if payload.version != expected:
        raise _refuse(
            f"{file}: the payload of {payload.role} is version {payload.version}, expected {expected}: "
            f"the next after what the request is based on",
            Reason.VERSION,
            payload.role,
        )


def _check_targets(request: Request, signed: SignedMetadata, file: str) -> None:
    old: dict[str, TargetFile] = {}
    new: dict[str, TargetFile] = {}
    for payload in request.payloads:
        if isinstance(payload.signed, Targets):
            before = signed.role(payload.role)
            old |= before.signed.targets if before is not None and isinstance(before.signed, Targets) else {}
            new |= payload.signed.targets
    brought = {change.path: change for change in request.targets}
    for path in sorted(old.keys() | new.keys() | brought.keys()):
        change = brought.get(path)
        if old.get(path) == new.get(path) and change is None:
            continue
        if change is None:
            raise _refuse(f"{file}: changes the target {path} and does not bring its bytes", Reason.CONTENT, None)
        _check_bytes(old.get(path), change.old, f"{file}: old bytes of {path}")
        _check_bytes(new.get(path), change.new, f"{file}: new bytes of {path}")


def _check_bytes(target: TargetFile | None, data: bytes | None, what: str) -> None:
    if target is None and data is None:
        return
    if target is None or data is None:
        raise _refuse(f"{what}: are {'missing' if data is None else 'of no target'}", Reason.CONTENT, None)
    right = "sha256" in target.hashes and target.length == len(data)
    for name in target.hashes.keys() & _HASHES:
        right = right and target.hashes[name] == hashlib.new(name, data).hexdigest()
    if not right:
        raise _refuse(f"{what}: are not those that the metadata names", Reason.CONTENT, None)


_HASHES = frozenset({"sha224", "sha256", "sha384", "sha512"})  # others cannot be checked, and the review shows them


def _refuse(message: str, reason: Reason, role: str | None, *, hint: str | None = None) -> VerificationError:
    return VerificationError(message, refusal=Refusal(reason=reason, role=role), hint=hint)

"""The keyholder's side of a signing request: check it against a root of one's own, then sign.

The keyholder starts from a root that *this keyholder* trusts, and never from one that the request brings; only the
first ceremony, before which there is none, is different, and has to be asked for by name. From there everything is
checked with the client's own rules: the chain of roots up to the one the request is based on, the thresholds of the
metadata the payloads follow from, that each payload is exactly the next version, and that the request brings the bytes
of every target that changes. Then, and only then, is there something to review and to sign.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from securesystemslib.signer import Signer
from tuf.api.metadata import Root, TargetFile, Targets

from kedge.document import DocumentError
from kedge.errors import InputError, Reason, Refusal, VerificationError
from kedge.metadata import Parsed, parse
from kedge_repo.payload import Payload
from kedge_repo.publickey import fingerprint
from kedge_repo.request import Request, Response, RoleSignature
from kedge_repo.requestcode import request_code
from kedge_repo.signed import SignedMetadata, verify_roots
from kedge_repo.threshold import Group, check_signature, groups_for

__all__ = ["FirstCeremony", "TrustedRoot", "VerifiedRequest", "sign_request", "verify_request"]


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
    """A request that holds: ``signed`` is its base, verified; ``groups`` says who must sign each role."""

    request: Request
    signed: SignedMetadata
    groups: Mapping[str, tuple[Group, ...]]
    code: str

    def payload(self, role: str) -> Payload | None:
        """The payload of ``role``, if the request has one."""
        return next((payload for payload in self.request.payloads if payload.role == role), None)


def verify_request(request: Request, start: TrustedRoot | FirstCeremony, *, file: str = "request") -> VerifiedRequest:
    """Check a request against the root that the keyholder trusts; ``file`` is its name in messages.

    Raises:
        InputError: the trusted root is not a root.
        VerificationError: the request does not follow from it.
    """
    roots = _roots(request, start, file)
    signed = SignedMetadata(
        roots=roots,
        targets=_base(request, Targets.type, file),
        delegated={
            role: parsed
            for role in request.base
            if role != Targets.type and (parsed := _base(request, role, file)) is not None
        },
    )
    if roots and signed.targets is None:
        raise _refuse(f"{file}: base: does not bring the signed targets", Reason.MALFORMED, Targets.type)
    signed.verify()
    pending = {payload.role: payload for payload in request.payloads}
    groups: dict[str, tuple[Group, ...]] = {}
    for payload in request.payloads:
        _check_version(payload, signed, file)
        try:
            groups[payload.role] = groups_for(payload, signed, pending)
        except DocumentError as error:
            raise _refuse(f"{file}: {error}", Reason.NOT_FOUND, payload.role) from error
    _check_targets(request, signed, file)
    return VerifiedRequest(request=request, signed=signed, groups=groups, code=request_code(request))


def sign_request(verified: VerifiedRequest, signer: Signer) -> Response:
    """Sign every payload of the request in which this key has a say.

    Raises:
        InputError: it has a say in none of them.
    """
    mark = fingerprint(signer.public_key)
    signatures: list[RoleSignature] = []
    for payload in verified.request.payloads:
        groups = verified.groups[payload.role]
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


def _base(request: Request, role: str, file: str) -> Parsed[Targets] | None:
    data = request.base.get(role)
    return None if data is None else parse(data, Targets, file=f"{file}: base {role}")


def _check_version(payload: Payload, signed: SignedMetadata, file: str) -> None:
    before = signed.role(payload.role)
    expected = before.signed.version + 1 if before else 1
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
    right = target.hashes.get("sha256") == hashlib.sha256(data).hexdigest() and target.length == len(data)
    if not right:
        raise _refuse(f"{what}: are not those that the metadata names", Reason.CONTENT, None)


def _refuse(message: str, reason: Reason, role: str | None, *, hint: str | None = None) -> VerificationError:
    return VerificationError(message, refusal=Refusal(reason=reason, role=role), hint=hint)

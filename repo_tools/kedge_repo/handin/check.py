"""Whether a repository may take a hand-in: by its own signed metadata, and within its policy. Pure.

Everything that the hand-in claims about the repository is left aside; only its payload, the new targets' bytes and the
signatures count. Refused are: any role but one delegated role that takes hand-ins, a version that is not exactly the
next one (an old hand-in, or one far ahead), an expiry outside the bounds, paths outside the delegation, more or larger
targets than allowed, targets that are no key documents where only those may come, a key document that clients cannot
read or that lint finds errors in, delegations to others, and signatures that are no signatures.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from tuf.api.metadata import DelegatedRole, TargetFile, Targets

from kedge.document import DocumentError, format_time
from kedge.errors import InputError, Reason, Refusal, VerificationError
from kedge.findings import Finding, Severity
from kedge_repo.handin.file import HandIn
from kedge_repo.handinpolicy import HandInPolicy
from kedge_repo.keydocument import key_document
from kedge_repo.lint import DocumentChange, Version, lint_change
from kedge_repo.payload import Payload
from kedge_repo.policy import DelegationPolicy, Policy
from kedge_repo.signed import SignedMetadata
from kedge_repo.targetpath import check_target_path
from kedge_repo.threshold import check_signature, groups_for

__all__ = ["CheckedHandIn", "Holdings", "check_hand_in"]

METADATA_BYTES = 65_536
"""A role's metadata may be so much larger than its targets may: this bounds ``custom`` and unknown fields."""

Holdings = Mapping[str, bytes]
"""The bytes of the targets that the role has now, by path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedHandIn:
    """A hand-in that may be taken: its payload, the targets that change (None: removed) and its right signatures."""

    payload: Payload
    targets: Mapping[str, bytes | None]
    signatures: Mapping[str, str]
    findings: tuple[Finding, ...]
    changes: tuple[str, ...]


def check_hand_in(
    hand_in: HandIn, signed: SignedMetadata, policy: Policy, held: Holdings, *, now: datetime, file: str
) -> CheckedHandIn:
    """Check a hand-in; ``file`` is its name in messages.

    Raises:
        InputError: the repository takes no hand-ins for this role.
        VerificationError: it is refused; the text says why.
    """
    payload = _payload(hand_in, file)
    delegation, bounds = _policy(payload.role, policy, file)
    before = signed.delegated.get(payload.role)
    new = payload.signed
    if before is None or not isinstance(new, Targets) or signed.targets is None:
        raise InputError(f"{file}: {payload.role} is not signed here yet, so there is nothing to follow")
    _check_version(payload, before.signed.version, file)
    _check_expiry(payload, delegation, bounds, now, file)
    if not bounds.sub_delegations and _delegations(new) != _delegations(before.signed):
        raise _refuse(f"{file}: {payload.role} delegates to others, which its hand-ins may not", Reason.PATH, payload)
    role = signed.targets.signed.get_delegated_role(payload.role)
    _check_targets(payload, new, role, bounds, file)
    targets = _changed(hand_in, before.signed, new, payload, file)
    findings = tuple(_lint(before.signed, new, targets, held, bounds, payload, now, file))
    return CheckedHandIn(
        payload=payload,
        targets=targets,
        signatures=_signatures(hand_in, payload, signed, file),
        findings=findings,
        changes=tuple(_words(payload, targets, before.signed)),
    )


def _payload(hand_in: HandIn, file: str) -> Payload:
    payloads = hand_in.request.payloads
    if len(payloads) != 1:
        roles = ", ".join(payload.role for payload in payloads)
        text = f"{file}: changes {len(payloads)} roles ({roles}), and a hand-in changes one"
        raise VerificationError(text, refusal=Refusal(reason=Reason.PATH, file=file))
    return payloads[0]


def _policy(role: str, policy: Policy, file: str) -> tuple[DelegationPolicy, HandInPolicy]:
    delegation = policy.delegations.get(role)
    if delegation is None or delegation.hand_in is None:
        hint = f'the policy says so, in [delegations."{role}".hand_in]' if delegation is not None else None
        raise InputError(f"{file}: this repository takes no hand-ins for {role}", hint=hint)
    return delegation, delegation.hand_in


def _check_version(payload: Payload, before: int, file: str) -> None:
    if payload.version == before + 1:
        return
    text = f"{file}: {payload.role} version {payload.version}, expected exactly {before + 1}, the next one"
    if payload.version <= before:
        hint = "it is an old hand-in, or another one came first: prepare it again from what is published"
        raise _refuse(text, Reason.ROLLBACK, payload, hint=hint)
    raise _refuse(text, Reason.VERSION, payload)


def _check_expiry(
    payload: Payload, delegation: DelegationPolicy, bounds: HandInPolicy, now: datetime, file: str
) -> None:
    expires = payload.signed.expires
    if now + delegation.signing < expires <= now + bounds.max_expiry:
        return
    text = (
        f"{file}: {payload.role} would expire at {format_time(expires)}, expected between "
        f"{format_time(now + delegation.signing)} and {format_time(now + bounds.max_expiry)}"
    )
    raise _refuse(text, Reason.EXPIRED, payload)


def _check_targets(payload: Payload, new: Targets, role: object, bounds: HandInPolicy, file: str) -> None:
    for path in new.targets:
        try:
            check_target_path(path)
        except DocumentError as error:
            raise _refuse(f"{file}: targets: {error}", Reason.PATH, payload) from error
        if isinstance(role, DelegatedRole) and not role.is_delegated_path(path):
            text = f"{file}: the target {path} is outside the paths of {payload.role}"
            raise _refuse(text, Reason.PATH, payload)
    if len(new.targets) > bounds.max_targets:
        text = f"{file}: {len(new.targets)} targets, and hand-ins may have {bounds.max_targets} at most"
        raise _refuse(text, Reason.LIMIT, payload)
    size = sum(target.length for target in new.targets.values())
    if len(payload.data) > bounds.max_bytes + METADATA_BYTES:
        text = f"{file}: {len(payload.data)} bytes of metadata, expected at most {bounds.max_bytes + METADATA_BYTES}"
        raise _refuse(text, Reason.TOO_LARGE, payload)
    if size > bounds.max_bytes:
        text = f"{file}: {size} bytes of targets, and hand-ins may have {bounds.max_bytes} at most"
        raise _refuse(text, Reason.TOO_LARGE, payload)


def _changed(hand_in: HandIn, old: Targets, new: Targets, payload: Payload, file: str) -> dict[str, bytes | None]:
    """The bytes of every target that changes, held to what the payload signs; nothing else may be brought."""
    brought = {change.path: change.new for change in hand_in.request.targets}
    found: dict[str, bytes | None] = {}
    for path in sorted(old.targets.keys() | new.targets.keys()):
        was, will_be = old.targets.get(path), new.targets.get(path)
        if was == will_be:
            continue
        data = brought.get(path)
        if will_be is not None and (data is None or not _is(will_be, data)):
            text = f"{file}: the bytes of {path} are {'missing' if data is None else 'not those that were signed'}"
            raise _refuse(text, Reason.CONTENT, payload)
        found[path] = data if will_be is not None else None
    for path in brought.keys() - found.keys():
        raise _refuse(f"{file}: brings {path}, which the signed payload does not change", Reason.CONTENT, payload)
    return found


def _is(target: TargetFile, data: bytes) -> bool:
    return target.length == len(data) and target.hashes.get("sha256") == hashlib.sha256(data).hexdigest()


def _lint(
    old: Targets,
    new: Targets,
    targets: Mapping[str, bytes | None],
    held: Holdings,
    bounds: HandInPolicy,
    payload: Payload,
    now: datetime,
    file: str,
) -> Iterator[Finding]:
    for path, data in targets.items():
        document = key_document(path)
        if document is None:
            if bounds.key_documents_only:
                raise _refuse(f"{file}: {path} is no key document, and nothing else is taken", Reason.PATH, payload)
            continue
        if data is None:
            text = f"{file}: would remove {path}, the keys of {document.registry}: that is a matter for the maintainers"
            raise _refuse(text, Reason.NO_KEYS, payload)
        before: Version | None = (held[path], old.targets[path].custom) if path in old.targets else None
        change = DocumentChange(document=document, old=before, new=(data, new.targets[path].custom))
        for finding in lint_change(change, now=now):
            if finding.severity is Severity.ERROR:
                text = f"{file}: lint: {finding.place}: {finding.message} ({finding.rule})"
                raise _refuse(text, Reason.MALFORMED, payload, hint=finding.hint)
            yield finding


def _signatures(hand_in: HandIn, payload: Payload, signed: SignedMetadata, file: str) -> dict[str, str]:
    try:
        groups = groups_for(payload, signed, (payload,))
    except DocumentError as error:
        raise InputError(f"{file}: {error}") from error
    found: dict[str, str] = {}
    for position, response in enumerate(hand_in.responses):
        place = f"{file}: responses[{position}]"
        for item in response.signatures:
            if (item.role, item.payload_sha256) != (payload.role, payload.sha256):
                raise _refuse(
                    f"{place}: signs another payload than the one that is handed in", Reason.SIGNATURES, payload
                )
            check_signature(payload, item.keyid, item.signature, groups, file=place)
            found[item.keyid] = item.signature
    return found


def _words(payload: Payload, targets: Mapping[str, bytes | None], old: Targets) -> Iterator[str]:
    if not targets:
        yield f"hand-in: renew {payload.role} as version {payload.version}"
    for path, data in targets.items():
        verb = "remove" if data is None else "replace" if path in old.targets else "add"
        yield f"hand-in: {verb} target {path} in {payload.role}"


def _delegations(targets: Targets) -> object:
    return targets.delegations.to_dict() if targets.delegations is not None else None


def _refuse(message: str, reason: Reason, payload: Payload, *, hint: str | None = None) -> VerificationError:
    return VerificationError(message, refusal=Refusal(reason=reason, role=payload.role), hint=hint)

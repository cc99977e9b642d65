"""Who must sign a payload, and who has.

A root version is signed by the threshold of the root before it *and* by its own; targets by the keys that the root
names, a delegated role by those that targets names, where an event's pending root and targets count before the signed
ones: they are merged together.

One key's material counts once, under however many keyids it stands.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.exceptions import VerificationError as SignatureFault
from securesystemslib.signer import Signature
from tuf.api.metadata import Key, Root, Targets

from kedge.documents import DocumentError
from kedge.errors import Reason, Refusal, VerificationError
from kedge_repo.signing.key_rules import listed_keys, material
from kedge_repo.workspace import Payload, SignedMetadata


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Keys of which ``threshold`` must sign, as ``delegator`` (``root version 1``) lists them."""

    delegator: str
    keys: Mapping[str, Key]
    threshold: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far one group has come with one payload; keyids."""

    group: Group
    have: tuple[str, ...]
    missing: tuple[str, ...]

    @property
    def need(self) -> int:
        """How many more signatures are needed."""
        return max(0, self.group.threshold - len(self.have))


def groups_for(payload: Payload, signed: SignedMetadata, pending: Iterable[Payload]) -> tuple[Group, ...]:
    """The groups that must sign ``payload``, given the signed metadata and an event's payloads.

    Raises:
        DocumentError: nobody delegates to the role.
    """
    roots = {root.signed.version: root.signed for root in signed.roots}
    roots |= {other.version: other.signed for other in pending if isinstance(other.signed, Root)}
    if isinstance(payload.signed, Root):
        older = [version for version in roots if version < payload.version]
        before = roots[max(older)] if older else None
        return tuple(_group(root, Root.type) for root in (before, payload.signed) if root is not None)
    if payload.role == Targets.type:
        if not roots:
            raise DocumentError("", f"{payload.role}: there is no root role that says who signs it")
        return (_group(roots[max(roots)], payload.role),)
    targets = [other.signed for other in pending if other.role == Targets.type]
    if not targets and signed.targets is not None:
        targets = [signed.targets.signed]
    if not targets:
        raise DocumentError("", f"{payload.role}: there is no targets role that says who signs it")
    return (_group(targets[-1], payload.role),)


def progress(group: Group, signatures: Mapping[str, str]) -> Progress:
    """Count ``signatures`` (verified, by keyid) towards ``group``."""
    seen: dict[str, str] = {}
    for keyid, key in group.keys.items():
        if keyid in signatures:
            seen.setdefault(material(key), keyid)
    have = tuple(seen.values())
    return Progress(
        group=group,
        have=have,
        missing=tuple(keyid for keyid, key in group.keys.items() if material(key) not in seen),
    )


def check_signature(payload: Payload, keyid: str, signature: str, groups: Iterable[Group], *, file: str) -> None:
    """Check one signature (hexadecimal) over ``payload``; ``file`` is where it came from.

    Raises:
        VerificationError: the key has no say in this role, or the signature is empty, or not over these bytes.
    """
    key = next((group.keys[keyid] for group in groups if keyid in group.keys), None)
    what = f"{file}: signature of {payload.role} version {payload.version} by {keyid[:16]}"
    if key is None:
        raise _refuse(f"{what}: this key signs nothing in {payload.role}", Reason.UNKNOWN_KEY, payload, file)
    if not signature:
        raise _refuse(f"{what}: is empty", Reason.BAD_SIGNATURE, payload, file)
    try:
        key.verify_signature(Signature(keyid, signature), payload.data)
    except (UnverifiedSignatureError, SignatureFault) as error:
        message = f"{what}: is not a signature of this key over this payload"
        raise _refuse(message, Reason.BAD_SIGNATURE, payload, file) from error


def _refuse(message: str, reason: Reason, payload: Payload, file: str) -> VerificationError:
    return VerificationError(message, refusal=Refusal(reason=reason, file=file, role=payload.role))


def _group(delegator: Root | Targets, role: str) -> Group:
    try:
        listed = delegator.get_delegated_role(role)
    except ValueError as error:
        raise DocumentError("", f"{delegator.type} version {delegator.version} does not delegate to {role}") from error
    keys = listed_keys(delegator)
    return Group(
        delegator=f"{delegator.type} version {delegator.version}",
        keys={keyid: keys[keyid] for keyid in listed.keyids if keyid in keys},
        threshold=listed.threshold,
    )

"""Collecting signatures for an event: export a request, sign here or take in responses, see who is missing.

A signature is verified before it is kept, against the keys that the event's own payloads and the signed metadata name;
of several responses all signatures are taken in, or none.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from securesystemslib.signer import Key, Signer

from kedge.documents import blame_user
from kedge.errors import InputError, VerificationError
from kedge_repo.events.changes import unmet
from kedge_repo.events.event import Event, save_event
from kedge_repo.events.open_event import Standing, choose_event, read_signed, stand
from kedge_repo.signing import (
    FirstCeremony,
    Group,
    KeyRule,
    Request,
    Response,
    RoleSignature,
    TrustedRoot,
    VerifiedRequest,
    check_signature,
    request_code,
    sign_request,
    verify_request,
)
from kedge_repo.workspace import Payload, Workspace, fingerprint, ssh_fingerprint_of

_P256_PAIR = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """Signatures that an event took in, or held before: (role, keyholder); ``due`` when it can be merged now."""

    event: str
    added: tuple[tuple[str, str], ...]
    held: tuple[tuple[str, str], ...]
    due: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RawSignature:
    """The bytes of one signature over the payload of ``role``; ``key`` is a keyid or fingerprint, ``file`` its name."""

    file: str
    data: bytes
    role: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupStatus:
    """Who signed and who is missing of one group of keys; ``need`` is how many more must."""

    asked_by: str
    threshold: int
    have: tuple[str, ...]
    missing: tuple[str, ...]
    need: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleStatus:
    """How far one payload has come."""

    role: str
    version: int
    payload_sha256: str
    groups: tuple[GroupStatus, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EventStatus:
    """How far an event has come."""

    name: str
    reason: str
    opened: datetime
    changes: tuple[str, ...]
    roles: tuple[RoleStatus, ...]
    due: bool


def event_status(workspace: Workspace, *, event: str | None = None) -> EventStatus:
    """How far an event has come, and who is missing.

    Raises:
        InputError: there is no such event, or it is damaged, or no longer fits the signed metadata.
        VerificationError: the signed metadata, or a signature in the event, does not verify.
    """
    standing = _stand(workspace, event)
    current = standing.open_event()
    found = current.progress(standing.signed)
    return EventStatus(
        name=current.name,
        reason=current.reason,
        opened=current.opened,
        changes=current.changes,
        due=not current.is_empty and not unmet(found),
        roles=tuple(
            RoleStatus(
                role=payload.role,
                version=payload.version,
                payload_sha256=payload.sha256,
                groups=tuple(
                    GroupStatus(
                        asked_by=part.group.delegator,
                        threshold=part.group.threshold,
                        have=tuple(standing.owner(keyid) for keyid in part.have),
                        missing=tuple(standing.owner(keyid) for keyid in part.missing),
                        need=part.need,
                    )
                    for part in parts
                ),
            )
            for payload, parts in found
        ),
    )


def _stand(workspace: Workspace, event: str | None) -> Standing:
    signed = read_signed(workspace)
    return stand(workspace, choose_event(workspace, event, signed), signed=signed)


def export_request(workspace: Workspace, *, event: str | None = None) -> Request:
    """The signing request of an event, to be handed to keyholders as a file (``.to_bytes()``).

    Raises:
        InputError: there is no such event, or it no longer fits the signed metadata.
        VerificationError: the signed metadata, or a signature in the event, does not verify.
    """
    return _stand(workspace, event).request()


def own_request(workspace: Workspace, *, event: str | None = None) -> VerifiedRequest:
    """The request of an event, verified from the workspace's own first root: what ``review`` and signing here take.

    Raises:
        InputError: there is no such event, or it no longer fits the signed metadata.
        VerificationError: the event does not follow from the signed metadata.
    """
    standing = _stand(workspace, event)
    request = standing.request()
    start: TrustedRoot | FirstCeremony = FirstCeremony.NOTHING_IS_SIGNED_YET
    if standing.signed.roots:
        first = standing.signed.roots[0]
        start = TrustedRoot(data=first.data, file=first.file)
    return verify_request(request, start, file=f"event {request.event}")


def sign_event(
    workspace: Workspace,
    signer: Signer,
    *,
    event: str | None = None,
    code: str | None = None,
    accept: Collection[KeyRule] = (),
) -> Imported:
    """Sign an open event inside the workspace, whose own first root is the root that is trusted.

    ``code`` is the request code of what the keyholder was shown; anything else is not signed. ``accept`` names what
    may be wrong with the keys that it lists.

    Raises:
        InputError: there is no such event, this key has no say in it, or the event has another code by now.
        VerificationError: the event does not follow from the signed metadata, or something is wrong with its keys.
    """
    verified = own_request(workspace, event=event)
    if code is not None and verified.code != code:
        raise InputError(f"event {verified.request.event}: has changed since it was shown", hint="review it again")
    response = sign_request(verified, signer, accept=accept)
    return import_responses(workspace, [("own signature", response)])


def import_responses(workspace: Workspace, responses: Iterable[tuple[str, Response]]) -> Imported:
    """Take the signatures of responses (with their file names) into their event; all of them or none.

    Raises:
        InputError: a response answers no open event, or payloads that have changed since.
        VerificationError: a signature is by the wrong key, empty, or over other bytes.
        StoreError: the workspace cannot be locked or written.
    """
    given = list(responses)
    if not given:
        raise InputError("there is no response to import")
    with workspace.lock():
        file, first = given[0]
        if first.event not in workspace.events():
            opened = ", ".join(workspace.events()) or "none"
            raise InputError(f"{file}: answers event {first.event}, which is not open here; open are: {opened}")
        standing = stand(workspace, first.event)
        event = before = standing.open_event()
        added: list[tuple[str, str]] = []
        held: list[tuple[str, str]] = []
        for file, response in given:
            for payload, keyid, signature in _checked(standing, event, file, response):
                owner = (payload.role, standing.owner(keyid))
                if keyid in event.signatures.get(payload.sha256, {}):
                    held.append(owner)
                    continue
                event = event.with_signature(payload, keyid, signature)
                added.append(owner)
        if event is not before:
            save_event(workspace, event)
    due = not unmet(event.progress(standing.signed))
    return Imported(event=event.name, added=tuple(added), held=tuple(held), due=due)


def import_raw(workspace: Workspace, raw: RawSignature, *, event: str | None = None) -> Imported:
    """Take in one bare signature, as ``openssl`` or the tool of an HSM writes it.

    An ECDSA signature may be DER or ``r || s``. Of several root versions in the event it is for the one that it fits.

    Raises:
        InputError: the event has no such role, or nobody with this key has a say in it.
        VerificationError: it is no signature of this key over this payload.
        StoreError: the workspace cannot be locked or written.
    """
    standing = _stand(workspace, event)
    current = standing.open_event()
    payloads = [payload for payload in current.payloads if payload.role == raw.role]
    if not payloads:
        roles = ", ".join(current.newest()) or "no role"
        raise InputError(f"event {current.name}: does not change {raw.role}; it changes {roles}")
    item = next((found for payload in payloads[:-1] if (found := _fits(standing, current, payload, raw))), None)
    item = item or _raw_signature(standing, current, payloads[-1], raw)
    request = standing.request()
    response = Response(
        repository=request.repository, event=request.event, code=request_code(request), signatures=(item,)
    )
    return import_responses(workspace, [(raw.file, response)])


def _fits(standing: Standing, event: Event, payload: Payload, raw: RawSignature) -> RoleSignature | None:
    try:
        return _raw_signature(standing, event, payload, raw)
    except (InputError, VerificationError):
        return None  # it may be for another root version of this event


def _raw_signature(standing: Standing, event: Event, payload: Payload, raw: RawSignature) -> RoleSignature:
    with blame_user(f"event {event.name}"):
        groups = event.groups(payload, standing.signed)
    keyid, key = _named_key(raw, groups)
    signature = _as_tuf(raw.data, key).hex()
    check_signature(payload, keyid, signature, groups, file=raw.file)
    return RoleSignature(role=payload.role, payload_sha256=payload.sha256, keyid=keyid, signature=signature)


def _named_key(raw: RawSignature, groups: tuple[Group, ...]) -> tuple[str, Key]:
    keys = {keyid: key for group in groups for keyid, key in group.keys.items()}
    for keyid, key in keys.items():
        if raw.key in {keyid, fingerprint(key), ssh_fingerprint_of(key)}:
            return keyid, key
    expected = ", ".join(fingerprint(key) for key in keys.values())
    raise InputError(f"{raw.file}: the key {raw.key} has no say in {raw.role}", hint=f"expected one of {expected}")


def _as_tuf(data: bytes, key: Key) -> bytes:
    """The signature as TUF wants it: ECDSA as DER, also where a token's tool wrote ``r || s``."""
    if key.scheme != "ecdsa-sha2-nistp256" or len(data) != _P256_PAIR:
        return data
    middle = _P256_PAIR // 2
    return encode_dss_signature(int.from_bytes(data[:middle], "big"), int.from_bytes(data[middle:], "big"))


def _checked(standing: Standing, event: Event, file: str, response: Response) -> list[tuple[Payload, str, str]]:
    if response.event != event.name:
        raise InputError(f"{file}: answers event {response.event}, the first file answers {event.name}")
    if response.repository != standing.policy.name:
        raise InputError(f"{file}: answers the repository {response.repository}, this one is {standing.policy.name}")
    found: list[tuple[Payload, str, str]] = []
    for position, item in enumerate(response.signatures):
        place = f"{file}: signatures[{position}]"
        signed = (item.role, item.payload_sha256)
        payload = next((payload for payload in event.payloads if (payload.role, payload.sha256) == signed), None)
        if payload is None:
            raise InputError(
                f"{place}: signs another payload of {item.role} than event {event.name} has now",
                hint="export the request again: the event has changed since it was answered",
            )
        with blame_user(place):
            groups = event.groups(payload, standing.signed)
        check_signature(payload, item.keyid, item.signature, groups, file=place)
        found.append((payload, item.keyid, item.signature))
    return found

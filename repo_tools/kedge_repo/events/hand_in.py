"""Whether a repository may take a hand-in: by its own signed metadata, and within its policy. Pure.

Everything that the hand-in claims about the repository is left aside; only its payload, the new targets' bytes and the
signatures count. Refused are: any role but one delegated role that takes hand-ins, a version that is not exactly the
next one (an old hand-in, or one far ahead), an expiry outside the bounds, paths outside the delegation, more or larger
targets than allowed, targets that are no key documents where only those may come, a key document that clients cannot
read or that lint finds errors in, delegations to others, and signatures that are no signatures.

The one file that a role's keyholders hand in (``kedge.hand-in/1``): their signing request and their responses.

::

    {"format": "kedge.hand-in/1", "request": {…kedge.request/1…}, "responses": [{…kedge.response/1…}]}

The request is the same that any keyholder signs, so that the same tool reviews and signs it. What a hand-in says is not
yet true: the repository judges it by its own signed metadata and policy (:mod:`kedge_repo.events.hand_in`).

What a role's keyholders start from: the published repository, read as any client reads it, from a root they trust.

Nothing is copied from the maintainers' workspace, and nobody has to send anything. The mirror's word is taken for
nothing: the chain, snapshot, the role and its targets are verified with the client's own workflow.

Preparing a role's next version from what is published: a signing request, as any keyholder signs it. Pure.

Taking a hand-in: checked under the workspace's lock, kept as an event, and merged if nobody else has to sign.

Where the delegation asks for the repository's signature beside the registry's (two owners), the event stays open with
what was handed in, and the maintainers sign it as any other.

Delegated self-service: keyholders of a role hand in its next version, and the repository takes it by its policy.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar
from urllib.parse import quote, unquote

from tuf.api.metadata import DelegatedRole, Snapshot, TargetFile, Targets

from kedge import tuf
from kedge.documents import DocumentError, Fields, format_time, load_json
from kedge.errors import FetchError, InputError, Reason, Refusal, VerificationError
from kedge.registries import Finding, Severity
from kedge.transport import Deadline, Mirror, Transport, open_mirror
from kedge.tuf import (
    Area,
    Fetch,
    Freshness,
    Limits,
    Parsed,
    TrustedState,
    begin,
    content_matches,
    parse,
    require_threshold,
    run,
)
from kedge_repo.events.changes import Merged, merge_event, unmet
from kedge_repo.events.event import Base, Event, save_event
from kedge_repo.events.open_event import open_roles, read_signed
from kedge_repo.signing import (
    DocumentChange,
    Request,
    Response,
    TargetChange,
    Version,
    check_signature,
    groups_for,
    lint_change,
)
from kedge_repo.workspace import (
    DelegationPolicy,
    HandInPolicy,
    Payload,
    Policy,
    SignedMetadata,
    Workspace,
    check_target_path,
    copy_signed,
    find_key_document,
    fingerprint,
)

HANDIN_FORMAT = "kedge.hand-in/1"

V = TypeVar("V")


@dataclass(frozen=True, slots=True, kw_only=True)
class HandIn:
    """A request and the responses to it."""

    request: Request
    responses: tuple[Response, ...]

    @classmethod
    def from_bytes(cls, data: bytes) -> HandIn:
        """Read a hand-in.

        Raises:
            DocumentError: it is not one; the path leads to the fault.
        """
        value = load_json(data)
        fields = Fields(value)
        fields.format(HANDIN_FORMAT)
        fields.table("request")
        responses = fields.tables("responses")
        fields.end()
        hand_in = cls(
            request=_nested("request", value["request"], Request.from_bytes),
            responses=tuple(
                _nested(f"responses[{position}]", value["responses"][position], Response.from_bytes)
                for position in range(len(responses))
            ),
        )
        if not hand_in.responses:
            fields.fail("responses", "must hold at least one response")
        return hand_in

    def to_bytes(self) -> bytes:
        """Write the hand-in as a JSON file."""
        value = {
            "format": HANDIN_FORMAT,
            "request": json.loads(self.request.to_bytes()),
            "responses": [json.loads(response.to_bytes()) for response in self.responses],
        }
        return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode("utf-8")


def _nested(place: str, value: Any, read: Callable[[bytes], V]) -> V:
    try:
        return read(json.dumps(value, ensure_ascii=False).encode("utf-8"))
    except DocumentError as error:
        raise DocumentError(f"{place}.{error.path}" if error.path else place, error.problem) from error


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
        document = find_key_document(path)
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


_LIMITS = Limits()


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A published repository as far as one role needs it, verified. ``contents`` are the bytes of its targets."""

    roots: tuple[bytes, ...]
    targets: Parsed[Targets]
    snapshot: Parsed[Snapshot]
    role: Parsed[Targets]
    contents: dict[str, bytes]


def read_published(place: str, root: bytes, role: str, *, now: datetime, timeout_s: float = 60.0) -> Published:
    """Read what ``place`` (a URL or a folder) publishes of ``role``, starting from ``root``, which must be trusted.

    Raises:
        InputError: targets does not delegate to the role, or the place cannot be used.
        VerificationError: what is published must not be trusted.
        ExpiredError: it has expired.
        FetchError: it cannot be had in time.
    """
    transport = open_mirror(Mirror(url=place))
    reader = _Reader(transport, Deadline(timeout_s))
    try:
        state = reader.refresh(root, now)
        parsed = reader.role(state, role)
        contents = {path: reader.target(target) for path, target in parsed.signed.targets.items()}
        targets, snapshot = state.targets, state.snapshot
        if targets is None or snapshot is None:
            raise InputError(f"{place}: publishes no targets")
        first = begin(root).root.version
        older = tuple(reader.get(f"{version}.root.json", _LIMITS.root_bytes) for version in range(1, first))
        return Published(
            roots=(*older, *(link.data for link in state.roots)),
            targets=targets,
            snapshot=snapshot,
            role=parsed,
            contents=contents,
        )
    finally:
        transport.close()


@dataclass(frozen=True, slots=True)
class _Reader:
    transport: Transport
    deadline: Deadline

    def refresh(self, root: bytes, now: datetime) -> TrustedState:
        steps = tuf.refresh(begin(root), Freshness(reference_time=now))
        return run(steps, lambda request: self.transport.get(request, self.deadline))

    def role(self, state: TrustedState, role: str) -> Parsed[Targets]:
        meta = state.snapshot.signed.meta.get(f"{role}.json") if state.snapshot is not None else None
        if state.targets is None or meta is None:
            raise InputError(f"--role: the repository has no role {role}")
        file = f"{meta.version}.{role}.json"
        data = self.get(f"{meta.version}.{quote(role, safe='')}.json", _LIMITS.targets_bytes)
        if not content_matches(meta, data):
            raise _refuse_published(file, "is not the file that the signed snapshot names", role)
        parsed = parse(data, Targets, file=file)
        require_threshold(state.targets.signed, role, parsed)
        if parsed.signed.version != meta.version:
            raise _refuse_published(
                file, f"is version {parsed.signed.version}, and the signed snapshot lists {meta.version}", role
            )
        return parsed

    def target(self, target: TargetFile) -> bytes:
        folder, _, name = target.path.rpartition("/")
        digest = target.hashes.get("sha256", "")
        path = "/".join(quote(unquote(part), safe="") for part in (*folder.split("/"), f"{digest}.{name}") if part)
        data = self.transport.get(Fetch(Area.TARGETS, path, target.length), self.deadline)
        if not isinstance(data, bytes):
            raise FetchError(f"{target.path}: is not there", hint="the mirror is incomplete: try another one")
        if not content_matches(target, data):
            raise _refuse_published(target.path, "is not the file that was signed for", None)
        return data

    def get(self, path: str, max_bytes: int) -> bytes:
        data = self.transport.get(Fetch(Area.METADATA, path, max_bytes), self.deadline)
        if not isinstance(data, bytes):
            raise FetchError(f"{path}: is not there", hint="the mirror is incomplete: try another one")
        return data


def _refuse_published(file: str, problem: str, role: str | None) -> VerificationError:
    return VerificationError(f"{file}: {problem}", refusal=Refusal(reason=Reason.CONTENT, file=file, role=role))


REPOSITORY = "published"
"""A request names its repository, which signed metadata does not; whoever takes the hand-in knows its own name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wished:
    """What the keyholders want: targets to put and to remove; ``customs`` are new ``custom`` values, by path."""

    put: Mapping[str, bytes] = field(default_factory=dict)
    remove: tuple[str, ...] = ()
    customs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def prepare(
    published: Published, role: str, wished: Wished, *, reason: str, expiry: timedelta, now: datetime
) -> Request:
    """The request for the next version of ``role``; with nothing wished it is signed again with a new expiry.

    A target that is replaced keeps its ``custom``, with its list of revoked keys, unless there is a new one.

    Raises:
        InputError: a target that is to be removed is not there, or one is already as it is wished.
        DocumentError: a path cannot be a target's.
    """
    signed = copy_signed(published.role.signed)
    if not isinstance(signed, Targets):
        raise InputError(f"--role: {role} is no targets role")
    signed.version += 1
    signed.expires = now.replace(microsecond=0) + expiry
    for path in wished.customs.keys() - wished.put.keys():
        raise InputError(f"--custom: {path} goes with --target {path}=FILE")
    changes = [_put(signed, published, path, data, wished.customs.get(path)) for path, data in wished.put.items()]
    for path in wished.remove:
        if signed.targets.pop(path, None) is None:
            raise InputError(f"--remove: {role} version {published.role.signed.version} has no target {path}")
        changes.append(TargetChange(path=path, old=published.contents[path], new=None))
    payload = Payload.of(role, signed)
    base = {role: published.role.data, Targets.type: published.targets.data, Snapshot.type: published.snapshot.data}
    return Request(
        repository=REPOSITORY,
        event=_event_name(role, payload.version),
        reason=reason,
        payloads=(payload,),
        roots=published.roots,
        base=base,
        targets=tuple(changes),
        keyholders=_names(published, role),
    )


def _put(
    signed: Targets, published: Published, path: str, data: bytes, custom: Mapping[str, Any] | None
) -> TargetChange:
    check_target_path(path)
    before = signed.targets.get(path)
    target = TargetFile.from_data(path, data, ["sha256"])
    kept = before.custom if custom is None and before is not None else custom
    if kept:
        target.unrecognized_fields["custom"] = dict(kept)
    if target == before:
        raise InputError(f"--target: {path} is just so already in {published.role.file}")
    signed.targets[path] = target
    return TargetChange(path=path, old=published.contents.get(path), new=data)


def _event_name(role: str, version: int) -> str:
    words = re.sub(r"[^A-Za-z0-9._-]", "-", role)[:80]
    return f"hand-in-{words}-{version}"


def _names(published: Published, role: str) -> dict[str, str]:
    """Names for the review: nobody told any, so that each key is called by its fingerprint."""
    listed = published.targets.signed.get_delegated_role(role)
    keys = {keyid: published.targets.signed.get_key(keyid) for keyid in listed.keyids}
    return {keyid: f"key {fingerprint(key)[:8]}" for keyid, key in keys.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What became of a hand-in. ``merged`` is None where more signatures are needed first, or with a dry run."""

    event: str
    role: str
    version: int
    changes: tuple[str, ...]
    findings: tuple[Finding, ...]
    merged: Merged | None


def take_hand_in(
    workspace: Workspace, hand_in: HandIn, *, now: datetime, file: str = "hand-in", dry_run: bool = False
) -> Taken:
    """Take a hand-in within the policy, or refuse it and change nothing; ``dry_run`` only says what would be.

    Raises:
        InputError: nothing is taken for this role, or an open event changes it.
        VerificationError: it is refused; the text says why.
        StoreError: the workspace cannot be locked or written.
    """
    with workspace.lock():
        signed = read_signed(workspace)
        _check_open(workspace, signed, hand_in, file)
        held = {
            path: workspace.target(path)
            for payload in hand_in.request.payloads
            if payload.role in signed.delegated
            for path in signed.delegated[payload.role].signed.targets
        }
        checked = check_hand_in(hand_in, signed, workspace.policy(), held, now=now, file=file)
        event = Event(
            name=hand_in.request.event,
            reason=_one_line(hand_in.request.reason),
            opened=now,
            base=Base.of(signed),
            changes=checked.changes,
            payloads=(checked.payload,),
            targets=checked.targets,
            signatures={checked.payload.sha256: checked.signatures},
        )
        if event.name in workspace.events():
            raise InputError(f"{file}: the event {event.name} is open already")
        due = not unmet(event.progress(signed))
        if not dry_run:
            save_event(workspace, event)
    merged = merge_event(workspace, event=event.name, now=now) if due and not dry_run else None
    return Taken(
        event=event.name,
        role=checked.payload.role,
        version=checked.payload.version,
        changes=checked.changes,
        findings=checked.findings,
        merged=merged,
    )


def _check_open(workspace: Workspace, signed: SignedMetadata, hand_in: HandIn, file: str) -> None:
    roles = {payload.role for payload in hand_in.request.payloads}
    for name, changed in open_roles(workspace, signed).items():
        if roles & set(changed):
            raise InputError(
                f"{file}: the event {name} changes {', '.join(sorted(roles & set(changed)))} already",
                hint=f"merge it first, or discard it with kedge-repo event cancel --event {name} --yes",
            )


def _one_line(reason: str) -> str:
    return "".join(sign for sign in reason if sign.isprintable()).strip() or "hand-in"

"""What a plan starts from and what it comes to.

Adding, replacing and removing targets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from tuf.api.metadata import Key, Role, Root, TargetFile, Targets

from kedge.documents import DocumentError, blame_user
from kedge.errors import InputError
from kedge.tuf import count_signatures
from kedge_repo.workspace import (
    Payload,
    Policy,
    SignedMetadata,
    check_target_path,
    copy_signed,
    digest,
    find_key_document,
    parse_public_key,
)


def _no_targets(path: str) -> bytes:
    raise InputError(f"targets/{path}: there is no such target")


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The signed metadata, with an open event on top.

    ``pending`` holds the event's newest payload of each role, ``staged`` its target bytes (None: removed);
    ``read_target`` gives the signed bytes of a target. With ``on_top``, a pending root stays as it is, and a change
    makes one more version after it.
    """

    signed: SignedMetadata
    policy: Policy
    policy_text: str
    keys: Mapping[str, Key]
    now: datetime
    pending: Mapping[str, Payload] = field(default_factory=dict)
    staged: Mapping[str, bytes | None] = field(default_factory=dict)
    read_target: Callable[[str], bytes] = _no_targets
    on_top: bool = False

    def current(self, role: str) -> Root | Targets | None:
        """The role as it will be when the event is merged; it must not be changed."""
        if role in self.pending:
            return self.pending[role].signed
        parsed = self.signed.role(role)
        return parsed.signed if parsed else None

    def root(self) -> Root:
        """The root as it will be.

        Raises:
            InputError: there is none yet.
        """
        current = self.current(Root.type)
        if not isinstance(current, Root):
            raise InputError("metadata/1.root.json: is missing", hint="begin with kedge-repo init")
        return current

    def targets(self, role: str = Targets.type) -> Targets:
        """Targets or a delegated role as it will be.

        Raises:
            InputError: there is none yet.
        """
        current = self.current(role)
        if not isinstance(current, Targets):
            raise InputError(f"metadata/1.{role}.json: is missing", hint="begin with kedge-repo init")
        return current

    def target(self, path: str) -> bytes:
        """The bytes of a target as they will be.

        Raises:
            InputError: there is no such target, or its bytes cannot be read.
        """
        data = self.staged[path] if path in self.staged else self.read_target(path)
        return _no_targets(path) if data is None else data

    def expires(self, role: str) -> datetime:
        """When a version of ``role`` that is planned now expires, by the policy.

        Raises:
            InputError: the policy does not speak of the role.
        """
        policy = self.policy.role(role)
        if policy is None:
            raise InputError(f"kedge-repo.toml: delegations.{role}: is missing, but targets delegates to it")
        return self.now.replace(microsecond=0) + policy.expiry

    def with_plan(self, plan: Plan) -> View:
        """The view after ``plan``."""
        text = self.policy_text if plan.policy_text is None else plan.policy_text
        with blame_user("kedge-repo.toml"):
            policy = self.policy if plan.policy_text is None else Policy.from_text(text)
        return replace(
            self,
            pending={**self.pending, **{payload.role: payload for payload in plan.payloads}},
            staged={**self.staged, **plan.targets},
            policy=policy,
            policy_text=text,
            keys={**self.keys, **{name: parse_public_key(pem) for name, pem in plan.keys.items()}},
            on_top=self.on_top and not any(payload.role == Root.type for payload in plan.payloads),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a wish comes to: texts for people, changed payloads, target bytes (None: removed) and new public keys.

    ``topic`` is what it is about, in a word or two: the name of the event that it opens, if it opens one.
    """

    topic: str
    changes: tuple[str, ...]
    payloads: tuple[Payload, ...] = ()
    targets: Mapping[str, bytes | None] = field(default_factory=dict)
    keys: Mapping[str, bytes] = field(default_factory=dict)
    policy_text: str | None = None

    def then(self, later: Plan) -> Plan:
        """Both plans as one; of a role that both change, the later payload counts."""
        payloads = {payload.role: payload for payload in (*self.payloads, *later.payloads)}
        return Plan(
            topic=self.topic,
            changes=(*self.changes, *later.changes),
            payloads=tuple(payloads.values()),
            targets={**self.targets, **later.targets},
            keys={**self.keys, **later.keys},
            policy_text=later.policy_text or self.policy_text,
        )

    def adding(self, *payloads: Payload, change: str | None = None) -> Plan:
        """The plan with more payloads."""
        return self.then(Plan(topic="", changes=() if change is None else (change,), payloads=payloads))


def next_version(view: View, role: str) -> Any:
    """A copy of the role to be changed: the pending payload, or the successor of the newest version.

    Raises:
        InputError: there is no such role, or the policy does not speak of it.
    """
    if role in view.pending and not (view.on_top and role == Root.type):
        return copy_signed(view.pending[role].signed)
    signed = copy_signed(view.root() if role == Root.type else view.targets(role))
    signed.version += 1
    signed.expires = view.expires(role)
    return signed


def drop_unused(keys: dict[str, Key], roles: Sequence[Role]) -> None:
    """Remove the keys that no role names any more."""
    used = {keyid for role in roles for keyid in role.keyids}
    for keyid in [keyid for keyid in keys if keyid not in used]:
        del keys[keyid]


def with_stranded(view: View, plan: Plan) -> Plan:
    """Add the next version of each signed role whose signatures no longer reach the threshold after ``plan``.

    Raises:
        InputError: the policy does not speak of such a role.
    """
    after = view.with_plan(plan)
    for role in (Targets.type, *view.signed.delegated):
        parsed = view.signed.role(role)
        if parsed is None or role in after.pending:
            continue
        superior = after.root() if role == Targets.type else after.targets()
        if not count_signatures(superior, role, parsed).met:
            payload = Payload.of(role, next_version(after, role))
            plan = plan.adding(payload, change=f"sign {role} again as version {payload.version}: its keys have changed")
            after = after.with_plan(plan)
    return plan


def add_target(view: View, path: str, data: bytes, custom: Mapping[str, Any] | None = None) -> Plan:
    """Add or replace the target ``path``, in the role that its path is delegated to.

    Without ``custom`` a target that is replaced keeps what it has: a list of revoked keys is never lost by the way.
    An empty ``custom`` removes it.

    Raises:
        InputError: the path cannot be a target's, or the target is so already.
    """
    role = responsible_role(view, path)
    old = view.targets(role).targets.get(path)
    if custom is None and old is not None:
        custom = old.custom
    target = TargetFile.from_data(path, data, ["sha256"])
    if custom:
        target.unrecognized_fields["custom"] = dict(custom)
    if old == target:
        raise InputError(f"target {path}: already has these bytes in {role} version {view.targets(role).version}")
    signed = next_version(view, role)
    signed.targets[path] = target
    verb = "add" if old is None else "replace"
    change = f"{verb} target {path} in {role}: {len(data)} bytes, sha256 {digest(data)}"
    payload = Payload.of(role, signed)
    return Plan(topic=topic_of(path, verb), changes=(change,), payloads=(payload,), targets={path: data})


def add_targets(view: View, role: str, files: Mapping[str, bytes], *, topic: str) -> Plan:
    """Add or replace many targets of ``role`` at once; those that are so already are left alone.

    Raises:
        InputError: a path cannot be a target's or belongs to another role, or nothing would change.
    """
    for path in files:
        if (other := responsible_role(view, path)) != role:
            raise InputError(f"target {path}: belongs to {other}, not to {role}")
    listed = view.targets(role).targets
    fresh = {path: TargetFile.from_data(path, data, ["sha256"]) for path, data in files.items()}
    changed = {path: target for path, target in fresh.items() if path not in listed or not _same(listed[path], target)}
    if not changed:
        raise InputError(f"{topic}: {role} version {view.targets(role).version} has all of it already")
    signed = next_version(view, role)
    for path, target in changed.items():
        if (old := listed.get(path)) is not None and old.custom:
            target.unrecognized_fields["custom"] = old.custom
        signed.targets[path] = target
    added = sum(path not in listed for path in changed)
    change = f"{topic}: {added} targets are added in {role}, {len(changed) - added} are replaced"
    return Plan(
        topic=topic,
        changes=(change,),
        payloads=(Payload.of(role, signed),),
        targets={path: files[path] for path in changed},
    )


def _same(one: TargetFile, other: TargetFile) -> bool:
    return (one.length, one.hashes) == (other.length, other.hashes)


def remove_target(view: View, path: str) -> Plan:
    """Remove the target ``path``.

    Raises:
        InputError: there is no such target.
    """
    role = responsible_role(view, path)
    if path not in view.targets(role).targets:
        raise InputError(f"target {path}: {role} version {view.targets(role).version} has no such target")
    signed = next_version(view, role)
    del signed.targets[path]
    return Plan(
        topic=f"remove {topic_of(path, '')}",
        changes=(f"remove target {path} from {role}",),
        payloads=(Payload.of(role, signed),),
        targets={path: None},
    )


def responsible_role(view: View, path: str) -> str:
    """The role that a target at ``path`` belongs to: the first that the path is delegated to, else targets.

    Raises:
        InputError: the path cannot be a target's.
    """
    try:
        check_target_path(path)
    except DocumentError as error:
        raise InputError(error.problem) from error
    delegations = view.targets().delegations
    if delegations is None:
        return Targets.type
    role = next((name for name, _ in delegations.get_roles_for_target(path)), Targets.type)
    listed = view.targets(role).delegations
    if role != Targets.type and listed is not None and listed.succinct_roles is not None:
        raise InputError(
            f"target {path}: belongs to the bins of {role}, which are signed without an event",
            hint=f"use kedge-repo bins add {role}",
        )
    return role


def topic_of(path: str, verb: str) -> str:
    """What a change of the target ``path`` is about: ``npm keys`` for a key document of npm's kind."""
    document = find_key_document(path)
    if document is not None:
        return f"{document.module.name} keys"
    return f"{verb} {path.rpartition('/')[2]}".strip()

"""Planning: the signed metadata and a wish in, new payloads out. Pure; nothing is read or written here.

Every function takes a :class:`View` (what is signed, what an open event already plans, the policy and the keys) and
gives a :class:`Plan`. Invariants:

- A role that a wish does not touch keeps its payload, and with it its signatures.
- A role that is touched for the first time in an event moves to exactly the next version, with a new expiry by the
  policy; touched again in the same event it keeps both.
- Where a change of keys would leave a signed role below its new threshold, that role moves too, for no client could
  follow otherwise.
- Nothing but keys stands in key objects; ``consistent_snapshot`` is always on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from tuf.api.metadata import DelegatedRole, Delegations, Key, Role, Root, TargetFile, Targets

from kedge.document import DocumentError
from kedge.errors import InputError
from kedge.metadata import count_signatures
from kedge_repo.payload import Payload, copy_signed, digest
from kedge_repo.policy import ROLE_NAMES, DelegationPolicy, Policy
from kedge_repo.publickey import fingerprint, to_pem
from kedge_repo.signed import SignedMetadata
from kedge_repo.targetpath import check_target_path

__all__ = ["Plan", "View", "add_target", "delegate", "initial", "remove_target", "responsible_role", "rotate_key"]


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What a plan starts from: the signed metadata, with an open event's payloads on top."""

    signed: SignedMetadata
    policy: Policy
    keys: Mapping[str, Key]
    now: datetime
    pending: Mapping[str, Payload] = field(default_factory=dict)

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
        return replace(self, pending={**self.pending, **{payload.role: payload for payload in plan.payloads}})


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a wish comes to: texts for people, changed payloads, target bytes (None: removed) and new public keys."""

    changes: tuple[str, ...]
    payloads: tuple[Payload, ...] = ()
    targets: Mapping[str, bytes | None] = field(default_factory=dict)
    keys: Mapping[str, bytes] = field(default_factory=dict)
    policy_text: str | None = None

    def then(self, later: Plan) -> Plan:
        """Both plans as one; of a role that both change, the later payload counts."""
        payloads = {payload.role: payload for payload in (*self.payloads, *later.payloads)}
        return Plan(
            changes=(*self.changes, *later.changes),
            payloads=tuple(payloads.values()),
            targets={**self.targets, **later.targets},
            keys={**self.keys, **later.keys},
            policy_text=later.policy_text or self.policy_text,
        )


def initial(view: View) -> Plan:
    """Version 1 of root, targets and every delegated role, by the policy.

    Raises:
        InputError: there is a root already.
    """
    if view.current(Root.type) is not None:
        raise InputError("metadata/1.root.json: is there already; a repository begins once")
    policy = view.policy
    used = {holder for name in ROLE_NAMES for holder in policy.roles[name].keyholders}
    root = Root(
        version=1,
        expires=view.expires(Root.type),
        keys={view.keys[name].keyid: view.keys[name] for name in policy.keyholders if name in used},
        roles={
            name: _role_of(view, policy.roles[name].keyholders, policy.roles[name].threshold) for name in ROLE_NAMES
        },
        consistent_snapshot=True,
    )
    targets = Targets(version=1, expires=view.expires(Targets.type))
    for delegation in policy.delegations.values():
        _set_delegation(view, targets, delegation)
    roles = (Targets(version=1, expires=view.expires(name)) for name in policy.delegations)
    payloads = [Payload.of(Root.type, root), Payload.of(Targets.type, targets)]
    payloads += [Payload.of(name, role) for name, role in zip(policy.delegations, roles, strict=True)]
    change = f"begin the repository {policy.name}: root version 1 with {len(root.keys)} keys"
    return Plan(changes=(change,), payloads=tuple(payloads))


def add_target(view: View, path: str, data: bytes, custom: Mapping[str, Any] | None = None) -> Plan:
    """Add or replace the target ``path``, in the role that its path is delegated to.

    Raises:
        InputError: the path cannot be a target's, or the target is so already.
    """
    role = responsible_role(view, path)
    target = TargetFile.from_data(path, data, ["sha256"])
    if custom is not None:
        target.unrecognized_fields["custom"] = dict(custom)
    old = view.targets(role).targets.get(path)
    if old == target:
        raise InputError(f"target {path}: already has these bytes in {role} version {view.targets(role).version}")
    signed = _next(view, role)
    signed.targets[path] = target
    verb = "add" if old is None else "replace"
    change = f"{verb} target {path} in {role}: {len(data)} bytes, sha256 {digest(data)}"
    return Plan(changes=(change,), payloads=(Payload.of(role, signed),), targets={path: data})


def remove_target(view: View, path: str) -> Plan:
    """Remove the target ``path``.

    Raises:
        InputError: there is no such target.
    """
    role = responsible_role(view, path)
    if path not in view.targets(role).targets:
        raise InputError(f"target {path}: {role} version {view.targets(role).version} has no such target")
    signed = _next(view, role)
    del signed.targets[path]
    return Plan(
        changes=(f"remove target {path} from {role}",), payloads=(Payload.of(role, signed),), targets={path: None}
    )


def rotate_key(view: View, keyholder: str, new: Key) -> Plan:
    """Replace the key of ``keyholder`` wherever it stands, in root and in delegations.

    Raises:
        InputError: the keyholder is unknown or stands in no role, or somebody holds the new key already.
    """
    old = view.keys.get(keyholder)
    if old is None:
        raise InputError(f'kedge-repo.toml: keyholders: there is no keyholder "{keyholder}"')
    for name, key in view.keys.items():
        if fingerprint(key) == fingerprint(new):
            raise InputError(f"the new key of {keyholder} is the key that {name} already holds")
    plan = Plan(
        changes=(f"rotate the key of {keyholder}: {fingerprint(old)} out, {fingerprint(new)} in",),
        keys={keyholder: to_pem(new)},
    )
    plan = plan.then(_rotate_in_root(view, old, new)).then(_rotate_in_delegations(view, old, new))
    if not plan.payloads:
        raise InputError(f"the key of {keyholder} stands in no role, so there is nothing to rotate")
    return _with_stranded(view, plan)


def delegate(view: View, delegation: DelegationPolicy) -> Plan:
    """Delegate paths to a role, or change the keys, threshold or paths of one that there is.

    Raises:
        InputError: nothing would change.
    """
    signed = _next(view, Targets.type)
    before = copy_signed(view.targets())
    _set_delegation(view, signed, delegation)
    if isinstance(before, Targets) and before.delegations == signed.delegations:
        raise InputError(f"targets delegates to {delegation.name} just so already")
    change = (
        f"delegate {', '.join(delegation.paths)} to {delegation.name}: "
        f"{delegation.threshold} of {', '.join(delegation.keyholders)}"
    )
    plan = Plan(changes=(change,), payloads=(Payload.of(Targets.type, signed),))
    if view.current(delegation.name) is None:
        expires = view.now.replace(microsecond=0) + delegation.expiry
        role = Payload.of(delegation.name, Targets(version=1, expires=expires))
        return plan.then(Plan(changes=(), payloads=(role,)))
    return _with_stranded(view, plan)


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
    return next((name for name, _ in delegations.get_roles_for_target(path)), Targets.type)


def _next(view: View, role: str) -> Any:
    """A copy of the role to be changed: the pending payload, or the successor of the signed version."""
    if role in view.pending:
        return copy_signed(view.pending[role].signed)
    signed = copy_signed(view.root() if role == Root.type else view.targets(role))
    signed.version += 1
    signed.expires = view.expires(role)
    return signed


def _role_of(view: View, keyholders: tuple[str, ...], threshold: int) -> Role:
    return Role([view.keys[name].keyid for name in keyholders], threshold)


def _set_delegation(view: View, targets: Targets, policy: DelegationPolicy) -> None:
    if targets.delegations is None:
        targets.delegations = Delegations(keys={}, roles={})
    delegations = targets.delegations
    if delegations.roles is None:
        raise InputError("targets delegates to hash bins; a named role cannot stand beside them")
    role = _role_of(view, policy.keyholders, policy.threshold)
    delegations.roles[policy.name] = DelegatedRole(
        policy.name, role.keyids, role.threshold, policy.terminating, paths=list(policy.paths)
    )
    delegations.keys.update({view.keys[name].keyid: view.keys[name] for name in policy.keyholders})
    _drop_unused(delegations.keys, list(delegations.roles.values()))


def _rotate_in_root(view: View, old: Key, new: Key) -> Plan:
    if not any(old.keyid in role.keyids for role in view.root().roles.values()):
        return Plan(changes=())
    root = _next(view, Root.type)
    _swap(root.keys, list(root.roles.values()), old, new)
    return Plan(changes=(), payloads=(Payload.of(Root.type, root),))


def _rotate_in_delegations(view: View, old: Key, new: Key) -> Plan:
    current = view.targets().delegations
    if current is None or not current.roles:
        return Plan(changes=())
    if not any(old.keyid in role.keyids for role in current.roles.values()):
        return Plan(changes=())
    targets = _next(view, Targets.type)
    _swap(targets.delegations.keys, list(targets.delegations.roles.values()), old, new)
    return Plan(changes=(), payloads=(Payload.of(Targets.type, targets),))


def _swap(keys: dict[str, Key], roles: list[Role] | list[DelegatedRole], old: Key, new: Key) -> None:
    for role in roles:
        role.keyids = [new.keyid if keyid == old.keyid else keyid for keyid in role.keyids]
    keys[new.keyid] = new
    _drop_unused(keys, roles)


def _drop_unused(keys: dict[str, Key], roles: list[Role] | list[DelegatedRole]) -> None:
    used = {keyid for role in roles for keyid in role.keyids}
    for keyid in [keyid for keyid in keys if keyid not in used]:
        del keys[keyid]


def _with_stranded(view: View, plan: Plan) -> Plan:
    """Add the next version of each signed role whose signatures no longer reach the threshold after ``plan``."""
    after = view.with_plan(plan)
    for role in (Targets.type, *view.signed.delegated):
        parsed = view.signed.role(role)
        if parsed is None or role in after.pending:
            continue
        superior = after.root() if role == Targets.type else after.targets()
        if not count_signatures(superior, role, parsed).met:
            payload = Payload.of(role, _next(after, role))
            change = f"sign {role} again as version {payload.version}: its keys have changed"
            plan = plan.then(Plan(changes=(change,), payloads=(payload,)))
            after = after.with_plan(plan)
    return plan

"""The keys of keyholders: added to roles, rotated and revoked, in root and in delegations at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tuf.api.metadata import DelegatedRole, Key, Role, Root, Targets

from kedge.errors import InputError
from kedge_repo.payload import Payload
from kedge_repo.plan.view import Plan, View, drop_unused, next_version, with_stranded
from kedge_repo.policy import ROLE_NAMES
from kedge_repo.policyedit import with_keyholder, with_location, without_keyholder
from kedge_repo.publickey import fingerprint, to_pem

__all__ = ["add_key", "revoke_key", "rotate_key"]


def add_key(view: View, keyholder: str, new: Key | None, *, roles: Sequence[str], location: str | None = None) -> Plan:
    """Add a keyholder to roles; ``new`` is the key of somebody whom the policy does not describe yet.

    Without roles the policy describes the keyholder, and nothing is signed.

    Raises:
        InputError: the keyholder is known (or unknown, without a key), stands in a role already, or somebody holds
            this key; or a role is unknown.
    """
    key = view.keys.get(keyholder)
    if key is not None and new is not None:
        raise InputError(f"{keyholder}: is a keyholder already", hint="replace the key with kedge-repo key rotate")
    if key is not None and not roles:
        raise InputError(f"{keyholder}: is a keyholder already, and no --role was named")
    if key is None:
        if new is None:
            raise InputError(
                f'kedge-repo.toml: keyholders: there is no keyholder "{keyholder}"', hint="name the file of the key"
            )
        _require_unheld(view, new, f"the key of {keyholder}")
        key = new
    plan = Plan(
        topic=f"add {keyholder}",
        changes=(f"add {keyholder} {fingerprint(key)} to {', '.join(roles) or 'the keyholders, in no role yet'}",),
        keys={} if new is None else {keyholder: to_pem(new)},
        policy_text=with_keyholder(view.policy_text, keyholder, roles=roles, location=location),
    )

    def add(listed: Role, keys: dict[str, Key]) -> None:
        listed.keyids.append(key.keyid)
        keys[key.keyid] = key

    return _change_roles(view, plan, add, set(roles))


def rotate_key(view: View, keyholder: str, new: Key, *, location: str | None = None) -> Plan:
    """Replace the key of ``keyholder`` wherever it stands, in root and in delegations.

    Raises:
        InputError: the keyholder is unknown or stands in no role, or somebody holds the new key already.
    """
    old = _held(view, keyholder)
    _require_unheld(view, new, f"the new key of {keyholder}")
    plan = Plan(
        topic=f"rotate {keyholder}",
        changes=(f"rotate the key of {keyholder}: {fingerprint(old)} out, {fingerprint(new)} in",),
        keys={keyholder: to_pem(new)},
        policy_text=None if location is None else with_location(view.policy_text, keyholder, location),
    )

    def swap(listed: Role, keys: dict[str, Key]) -> None:
        listed.keyids = [new.keyid if keyid == old.keyid else keyid for keyid in listed.keyids]
        keys[new.keyid] = new

    changed = _change_bins(view, _change_roles(view, plan, swap, _roles_with(view, old)), swap, old)
    if not changed.payloads:
        raise InputError(f"the key of {keyholder} stands in no role, so there is nothing to rotate")
    return with_stranded(view, changed)


def revoke_key(view: View, keyholder: str) -> Plan:
    """Take the key of ``keyholder`` out of every role, and the keyholder out of the policy.

    Raises:
        InputError: the keyholder is unknown, or a role would have fewer keys than its threshold.
    """
    old = _held(view, keyholder)
    plan = Plan(
        topic=f"revoke {keyholder}",
        changes=(f"revoke the key of {keyholder}: {fingerprint(old)}",),
        policy_text=without_keyholder(view.policy_text, keyholder),
    )

    def remove(listed: Role, _keys: dict[str, Key]) -> None:
        listed.keyids = [keyid for keyid in listed.keyids if keyid != old.keyid]
        if len(listed.keyids) < listed.threshold:
            raise InputError(
                f"without {keyholder}, a signed role would have {len(listed.keyids)} keys and a threshold of "
                f"{listed.threshold}"
            )

    changed = _change_bins(view, _change_roles(view, plan, remove, _roles_with(view, old)), remove, old)
    return with_stranded(view, changed)


def _held(view: View, keyholder: str) -> Key:
    key = view.keys.get(keyholder)
    if key is None:
        raise InputError(f'kedge-repo.toml: keyholders: there is no keyholder "{keyholder}"')
    return key


def _require_unheld(view: View, new: Key, what: str) -> None:
    for name, key in view.keys.items():
        if fingerprint(key) == fingerprint(new):
            raise InputError(f"{what} is the key that {name} already holds")


def _roles_with(view: View, key: Key) -> set[str]:
    roles = {name for name, role in view.root().roles.items() if key.keyid in role.keyids}
    return roles | {name for name, role in _delegated(view.targets()).items() if key.keyid in role.keyids}


def _change_bins(view: View, plan: Plan, act: Callable[[Role, dict[str, Key]], None], old: Key) -> Plan:
    """Let ``act`` change the bins of each role that ``old`` signs."""
    for name in _delegated(view.targets()):
        delegations = view.targets(name).delegations if view.current(name) is not None else None
        succinct = delegations.succinct_roles if delegations is not None else None
        if succinct is None or old.keyid not in succinct.keyids:
            continue
        role = next_version(view, name)
        listed = role.delegations.succinct_roles
        act(listed, role.delegations.keys)
        drop_unused(role.delegations.keys, [listed])
        plan = plan.adding(Payload.of(name, role))
    return plan


def _change_roles(view: View, plan: Plan, act: Callable[[Role, dict[str, Key]], None], roles: set[str]) -> Plan:
    """Let ``act`` change each of ``roles`` where it is listed: in root, or among the delegations of targets."""
    if roles & set(ROLE_NAMES):
        root = next_version(view, Root.type)
        for name in roles & set(ROLE_NAMES):
            act(root.roles[name], root.keys)
        drop_unused(root.keys, list(root.roles.values()))
        plan = plan.adding(Payload.of(Root.type, root))
    if roles - set(ROLE_NAMES):
        targets = next_version(view, Targets.type)
        listed = _delegated(targets)
        for name in roles - set(ROLE_NAMES):
            if name not in listed:
                raise InputError(f"targets does not delegate to {name}", hint="begin with kedge-repo delegate")
            act(listed[name], targets.delegations.keys)
        drop_unused(targets.delegations.keys, list(listed.values()))
        plan = plan.adding(Payload.of(Targets.type, targets))
    return plan


def _delegated(targets: Targets) -> dict[str, DelegatedRole]:
    return (targets.delegations.roles if targets.delegations is not None else None) or {}

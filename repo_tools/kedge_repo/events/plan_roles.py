"""The roles themselves: the first ceremony, delegations, thresholds and periods, renewal."""

from __future__ import annotations

from collections.abc import Sequence

from tuf.api.metadata import DelegatedRole, Delegations, Role, Root, SuccinctRoles, Targets

from kedge.documents import format_time
from kedge.errors import InputError
from kedge_repo.events.plan import Plan, View, drop_unused, next_version, with_stranded
from kedge_repo.workspace import ROLE_NAMES, DelegationPolicy, Payload, copy_signed, with_delegation, with_role

ONLINE_ROLES = ("snapshot", "timestamp")


def plan_initial(view: View) -> Plan:
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
    payloads = [Payload.of(Root.type, root), Payload.of(Targets.type, targets)]
    for name, delegation in policy.delegations.items():
        role = Targets(version=1, expires=view.expires(name), delegations=_delegations_to_bins(view, delegation))
        payloads.append(Payload.of(name, role))
    change = f"begin the repository {policy.name}: root version 1 with {len(root.keys)} keys"
    return Plan(topic="first ceremony", changes=(change,), payloads=tuple(payloads))


def plan_delegation(view: View, delegation: DelegationPolicy) -> Plan:
    """Delegate paths to a role, or change the keys, threshold or paths of one that there is; the policy says so after.

    Raises:
        InputError: nothing would change, or a keyholder is not described in the policy.
    """
    text = with_delegation(view.policy_text, delegation)
    before = copy_signed(view.targets())
    signed = next_version(view, Targets.type)
    _set_delegation(view, signed, delegation)
    change = (
        f"delegate {', '.join(delegation.paths)} to {delegation.name}: "
        f"{delegation.threshold} of {', '.join(delegation.keyholders)}"
    )
    topic = f"delegate {delegation.name}"
    plan = Plan(topic=topic, changes=(change,), policy_text=text)
    if isinstance(before, Targets) and before.delegations != signed.delegations:
        plan = plan.adding(Payload.of(Targets.type, signed))
    if view.current(delegation.name) is None:
        expires = view.now.replace(microsecond=0) + delegation.expiry
        role = Targets(version=1, expires=expires, delegations=_delegations_to_bins(view, delegation))
        plan = plan.adding(Payload.of(delegation.name, role), change=_bins_in_words(delegation))
    else:
        plan = _with_bins(view, plan, delegation)
    if plan.payloads:
        return with_stranded(view, plan)
    if text == view.policy_text:
        raise InputError(f"targets delegates to {delegation.name} just so already")
    return Plan(topic=topic, changes=(f"{change}, with other periods",), policy_text=text)


def _with_bins(view: View, plan: Plan, delegation: DelegationPolicy) -> Plan:
    """Add what changes in the bins of a role that there is."""
    current = view.targets(delegation.name)
    wanted = _delegations_to_bins(view, delegation)
    if current.delegations == wanted:
        return plan
    if current.targets:
        raise InputError(
            f"{delegation.name}: lists {len(current.targets)} targets itself, which bins cannot stand beside",
            hint="delegate to bins under another name",
        )
    signed = next_version(view, delegation.name)
    signed.delegations = wanted
    return plan.adding(Payload.of(delegation.name, signed), change=_bins_in_words(delegation))


def _delegations_to_bins(view: View, policy: DelegationPolicy) -> Delegations | None:
    bins = policy.bins
    if bins is None:
        return None
    keys = {view.keys[name].keyid: view.keys[name] for name in bins.keyholders}
    succinct = SuccinctRoles(list(keys), bins.threshold, bins.bit_length, policy.name)
    return Delegations(keys=keys, succinct_roles=succinct)


def _bins_in_words(policy: DelegationPolicy) -> str | None:
    bins = policy.bins
    if bins is None:
        return None
    who = f"{bins.threshold} of {', '.join(bins.keyholders)}"
    return f"let {policy.name} have {1 << bins.bit_length} bins, signed by {who}"


def plan_role(
    view: View,
    role: str,
    *,
    threshold: int | None = None,
    expiry_days: int | None = None,
    signing_days: int | None = None,
) -> Plan:
    """Give a role another threshold, or other periods; periods count from the role's next version on.

    Raises:
        InputError: there is no such role, nothing would change, or the numbers break a rule of the policy.
    """
    text = with_role(view.policy_text, role, threshold=threshold, expiry_days=expiry_days, signing_days=signing_days)
    if text == view.policy_text:
        raise InputError(f"kedge-repo.toml: {role} is just so already")
    changes = [
        f"set {name} of {role} to {value}{unit}"
        for name, value, unit in (
            ("the threshold", threshold, ""),
            ("the expiry", expiry_days, " days, from its next version on"),
            ("the signing period", signing_days, " days"),
        )
        if value is not None
    ]
    plan = Plan(topic=f"set {role}", changes=tuple(changes), policy_text=text)
    if threshold is None:
        return plan
    superior = Root.type if role in ROLE_NAMES else Targets.type
    signed = next_version(view, superior)
    listed = signed.roles[role] if superior == Root.type else signed.delegations.roles[role]
    if listed.threshold == threshold:
        return plan
    listed.threshold = threshold
    return with_stranded(view, plan.adding(Payload.of(superior, signed)))


def plan_renewal(view: View, roles: Sequence[str]) -> Plan:
    """Sign roles again with a new expiry and nothing else changed.

    Raises:
        InputError: there is no such role, it is an online one, or it has this expiry already.
    """
    plan = Plan(topic=f"renew {' '.join(roles)}", changes=())
    for role in roles:
        if role in ONLINE_ROLES:
            raise InputError(f"{role}: is signed by online keys", hint="renew it with kedge-repo online")
        before = view.current(role)
        if before is None:
            raise InputError(f'there is no signed role "{role}"')
        signed = next_version(view, role)
        signed.expires = view.expires(role)
        if signed.version == before.version and signed.expires == before.expires:
            raise InputError(f"{role} version {before.version}: is valid until {format_time(before.expires)} already")
        change = f"renew {role} as version {signed.version}: valid until {format_time(signed.expires)}"
        plan = plan.adding(Payload.of(role, signed), change=change)
    return plan


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
    drop_unused(delegations.keys, list(delegations.roles.values()))

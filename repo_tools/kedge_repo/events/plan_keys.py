"""The keys of keyholders: added to roles, rotated and revoked, in root and in delegations at once.

A registry's own keys: added, rotated and revoked inside its key document.

A revoked key is named in the target's ``custom.kedge.revoked``, for good: kedge's clients then say ``revoked-key``
whatever the document says. Its entry leaves the document as well, because other readers of the document know nothing of
``custom``. Only the last entry stays, with its validity ended: a document without keys is refused by every client.

Documents of other kinds than npm's (keyrings, Hex's, NuGet's) are not edited here: their keys can be revoked, and the
document is replaced as a whole by who makes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from tuf.api.metadata import DelegatedRole, Key, Role, Root, Targets

from kedge.documents import DocumentError, format_time
from kedge.errors import InputError
from kedge.registries import KeySet, find_registry
from kedge_repo.events.plan import (
    Plan,
    View,
    add_target,
    drop_unused,
    next_version,
    responsible_role,
    with_stranded,
)
from kedge_repo.workspace import (
    ROLE_NAMES,
    KeyDocument,
    Payload,
    end_key,
    find_key_document,
    fingerprint,
    new_document,
    remove_key,
    ssh_fingerprint_of,
    to_pem,
    with_key,
    with_keyholder,
    with_location,
    without_keyholder,
)


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


EDITED = "npm"
"""The kind of registry whose key documents are edited here."""


def add_registry_key(
    view: View, registry: str, key: Key, *, keyid: str | None, start: datetime, usages: Sequence[str] = ()
) -> Plan:
    """Add a key to a registry's key document, which begins with it where there is none.

    Raises:
        InputError: the registry's documents cannot be edited here, or this one has the keyid already.
    """
    document, data, custom = _current(view, registry, required=False)
    name = keyid or _default_keyid(key)
    edited = with_key(data, key, name, usages=usages, start=start)
    change = f"add key {name} to {document.path}, valid from {format_time(start)}"
    return _plan(view, document, edited, custom, change)


def rotate_registry_key(
    view: View, registry: str, old: str, key: Key, *, keyid: str | None, start: datetime, end: datetime
) -> Plan:
    """Add a key for the usages of ``old``, valid from ``start``, and end the validity of ``old`` at ``end``.

    Raises:
        InputError: the document has no key ``old``, has the new one already, or ``end`` is before ``start``.
    """
    if end < start:
        raise InputError(
            f"the old key would end at {format_time(end)}, before the new one begins at {format_time(start)}: nothing "
            "that the registry signs in between would verify"
        )
    document, data, custom = _current(view, registry)
    usages = [usage for item in _keys(view, document, data, custom).keys if item.id == old for usage in item.usages]
    name = keyid or _default_keyid(key)
    edited = with_key(end_key(data, old, end), key, name, usages=usages, start=start)
    change = f"rotate in {document.path}: {old} until {format_time(end)}, {name} from {format_time(start)}"
    return _plan(view, document, edited, custom, change)


def revoke_registry_key(view: View, registry: str, keyid: str) -> Plan:
    """Revoke a key of a registry: nothing that it signed, at any time, is accepted by kedge's clients any more.

    Raises:
        InputError: the document has no such key, or it is revoked already.
    """
    document, data, custom = _current(view, registry, edited=False)
    keys = _keys(view, document, data, custom)
    if keyid in keys.revoked:
        raise InputError(f"{document.path}: {keyid} is revoked already")
    if document.module.name != EDITED:
        return _plan(view, document, data, _revoking(custom, keys, keyid), _noted(document, keys, keyid))
    edited = remove_key(data, keyid)
    change = f"revoke key {keyid} in {document.path} and remove it"
    if edited is None:
        edited = end_key(data, keyid, view.now)
        change = f"revoke key {keyid} in {document.path}, whose only key it is: its entry stays until there is another"
    return _plan(view, document, edited, _revoking(custom, keys, keyid), change)


def _revoking(custom: Mapping[str, Any] | None, keys: KeySet, keyid: str) -> dict[str, Any]:
    before = dict((custom or {}).get("kedge") or {"v": 1})
    return {**(custom or {}), "kedge": {**before, "revoked": [*keys.revoked, keyid]}}


def _noted(document: KeyDocument, keys: KeySet, keyid: str) -> str:
    """The change where a document is not edited here: its bytes stay, and who reads them alone must be told."""
    known = list(dict.fromkeys(key.id for key in keys.keys))
    if keyid not in known:
        raise InputError(f'{document.path}: has no key "{keyid}"; it has {", ".join(known)}')
    return f"revoke key {keyid} of {document.path}, whose bytes stay: take it out of them with kedge-repo target add"


def _current(
    view: View, registry: str, *, required: bool = True, edited: bool = True
) -> tuple[KeyDocument, bytes, Mapping[str, Any] | None]:
    document = find_key_document(find_registry(registry).target_path(registry))
    if document is None or (edited and document.module.name != EDITED):
        raise InputError(
            f"{registry}: only key documents of npm's kind are edited here",
            hint="replace it with kedge-repo target add",
        )
    target = view.targets(responsible_role(view, document.path)).targets.get(document.path)
    if target is not None:
        return document, view.target(document.path), target.custom
    if required:
        raise InputError(f"{document.path}: there is no such target", hint="begin with kedge-repo key add --registry")
    return document, new_document(), None


def _keys(view: View, document: KeyDocument, data: bytes, custom: Mapping[str, Any] | None) -> KeySet:
    try:
        return document.read(data, custom, now=view.now)
    except DocumentError as error:
        raise InputError(f"{document.path}: {error}") from error


def _plan(view: View, document: KeyDocument, data: bytes, custom: Mapping[str, Any] | None, change: str) -> Plan:
    _keys(view, document, data, custom)  # as a client will read it: what it refuses is not handed to anybody to sign
    plan = add_target(view, document.path, data, custom)
    return Plan(topic=plan.topic, changes=(change,), payloads=plan.payloads, targets=plan.targets)


def _default_keyid(key: Key) -> str:
    keyid = ssh_fingerprint_of(key)
    if keyid is None:
        raise InputError("a key of this kind has no OpenSSH fingerprint", hint="name its keyid with --keyid")
    return keyid

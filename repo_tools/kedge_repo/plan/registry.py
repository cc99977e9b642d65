"""A registry's own keys: added, rotated and revoked inside its key document.

A revoked key is named in the target's ``custom.kedge.revoked``, for good: kedge's clients then say ``revoked-key``
whatever the document says. Its entry leaves the document as well, because other readers of the document know nothing of
``custom``. Only the last entry stays, with its validity ended: a document without keys is refused by every client.

Documents of other kinds than npm's (keyrings, Hex's, NuGet's) are not edited here: their keys can be revoked, and the
document is replaced as a whole by who makes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from securesystemslib.signer import Key

from kedge.document import DocumentError, format_time
from kedge.errors import InputError
from kedge.keys import KeySet
from kedge.registry import find_registry
from kedge_repo.keydocument import KeyDocument, end_key, key_document, new_document, remove_key, with_key
from kedge_repo.plan.targets import add_target, responsible_role
from kedge_repo.plan.view import Plan, View
from kedge_repo.publickey import ssh_fingerprint

__all__ = ["add_registry_key", "revoke_registry_key", "rotate_registry_key"]

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
    document = key_document(find_registry(registry).target_path(registry))
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
    keyid = ssh_fingerprint(key)
    if keyid is None:
        raise InputError("a key of this kind has no OpenSSH fingerprint", hint="name its keyid with --keyid")
    return keyid

"""The rules for keys in metadata, one place for review, sign, lint and audit: a key is its material, not its keyid.

TUF binds signatures to keyids, and a keyid is a text that whoever writes the metadata chooses. So metadata can put
another key under the keyid that everybody knows, or one key under two keyids, and still look as it did.

- ``keyid``: a keyid is not the digest of its key, or a role names one without a key.
- ``material-changed``: a keyid is another key now than it was in something that was signed before.
- ``one-key-twice``: a role lists one key under two keyids. kedge counts it once, python-tuf twice.
- ``online-key-in-root``: a key that signs snapshot or timestamp may sign root.

Pure. What is to be signed is judged with everything that was signed before it, over all requests: material that
was swapped in an earlier root is still named. A keyid that did not fit in what was signed already is no news, and
is not refused again.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from tuf.api.metadata import Key, Role, Root, Targets

from kedge_repo.workspace import Payload, SignedMetadata, canonical_json, fingerprint

_KEYID = re.compile(r"[0-9a-f]{64}", re.ASCII)
_TOOLS_OWN = "x-"  # the prefix of fields that some tools add to a key, and leave out of its keyid


class KeyRule(StrEnum):
    """What is wrong with a key. The values stand in ``--json`` answers and are what ``--accept-key-fault`` takes."""

    KEYID = "keyid"
    MATERIAL = "material-changed"
    TWICE = "one-key-twice"
    ONLINE = "online-key-in-root"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFault:
    """One finding about the keys ``keyids``; ``role`` and ``version`` are those of the payload, in a request."""

    rule: KeyRule
    message: str
    keyids: tuple[str, ...]
    role: str = ""
    version: int = 0


def judge_keys(signed: Root | Targets, before: dict[str, dict[str, str]], place: str) -> Iterator[KeyFault]:
    """What is wrong with the keys that ``signed`` lists.

    ``before`` says where each key was seen, by keyid and :func:`material`; those of ``signed`` are added as ``place``.
    """
    keys = listed_keys(signed)
    yield from _changed(keys, before)
    yield from _odd(keys, _listed_roles(signed))
    _remember(before, keys, place)


def _odd(keys: Mapping[str, Key], roles: Mapping[str, Iterable[str]]) -> Iterator[KeyFault]:
    """What is wrong with the keys of one file: ``keys`` by keyid, and the keyids of each role that it names."""
    for keyid, key in keys.items():
        if not is_digest(keyid, key):
            text = f"the keyid {keyid[:16]} is not the digest of its key: clients that compare them refuse the file"
            yield KeyFault(rule=KeyRule.KEYID, message=text, keyids=(keyid,))
    online = {
        material(keys[keyid]): (keyid, role)
        for role in ("timestamp", "snapshot")
        for keyid in roles.get(role, ())
        if keyid in keys
    }
    for role, keyids in roles.items():
        seen: dict[str, str] = {}
        for keyid in keyids:
            if keyid not in keys:
                text = f"{role} names the key {keyid[:16]}, which is not there"
                yield KeyFault(rule=KeyRule.KEYID, message=text, keyids=(keyid,))
                continue
            mark = material(keys[keyid])
            other = seen.setdefault(mark, keyid)
            if other != keyid:
                text = (
                    f"{role} names one key under two keyids, {other[:16]} and {keyid[:16]}: "
                    f"kedge counts it once, python-tuf twice"
                )
                yield KeyFault(rule=KeyRule.TWICE, message=text, keyids=(other, keyid))
            elif role == Root.type and mark in online:
                text = f"the key {keyid[:16]} may sign root, and is online: it signs {online[mark][1]}"
                yield KeyFault(rule=KeyRule.ONLINE, message=text, keyids=(keyid,))


def _changed(keys: Mapping[str, Key], before: Mapping[str, Mapping[str, str]]) -> Iterator[KeyFault]:
    """The keyids that are another key than before."""
    for keyid, key in keys.items():
        now = material(key)
        other = next((mark for mark in before.get(keyid, {}) if mark != now), None)
        if other is not None:
            text = (
                f"the keyid {keyid[:16]} is another key than in {before[keyid][other]}: "
                f"{grouped(now)}, and was {grouped(other)}"
            )
            yield KeyFault(rule=KeyRule.MATERIAL, message=text, keyids=(keyid,))


def request_key_faults(payloads: Iterable[Payload], signed: SignedMetadata) -> tuple[KeyFault, ...]:
    """What is wrong with the keys of ``payloads``, given all that was signed before them.

    A keyid that does not fit and stood there already, for the same key, is left out.
    """
    before: dict[str, dict[str, str]] = {}
    for root in signed.roots:
        _remember(before, root.signed.keys, f"root version {root.signed.version}")
    for name, parsed in {"targets": signed.targets, **signed.delegated}.items():
        if parsed is not None:
            _remember(before, listed_keys(parsed.signed), f"{name} version {parsed.signed.version}")
    found: list[KeyFault] = []
    for payload in sorted(payloads, key=lambda item: (item.role != Root.type, item.version)):
        keys = listed_keys(payload.signed)
        known = {keyid: set(marks) for keyid, marks in before.items()}
        for fault in judge_keys(payload.signed, before, f"{payload.role} version {payload.version}"):
            stood = all(keyid in keys and material(keys[keyid]) in known.get(keyid, ()) for keyid in fault.keyids)
            if fault.rule is not KeyRule.KEYID or not stood:
                found.append(replace(fault, role=payload.role, version=payload.version))
    return tuple(found)


def _remember(before: dict[str, dict[str, str]], keys: Mapping[str, Key], place: str) -> None:
    """Add the keys of ``place`` to what was seen."""
    for keyid, key in keys.items():
        before.setdefault(keyid, {}).setdefault(material(key), place)


def listed_keys(signed: Root | Targets) -> dict[str, Key]:
    """The keys that a root, or a role's delegations, list."""
    if isinstance(signed, Root):
        return dict(signed.keys)
    return dict(signed.delegations.keys) if signed.delegations is not None else {}


def _listed_roles(signed: Root | Targets) -> dict[str, list[str]]:
    """The keyids of each role that a root or a role's delegations name."""
    if isinstance(signed, Root):
        return {name: list(role.keyids) for name, role in signed.roles.items()}
    if signed.delegations is None:
        return {}
    roles: dict[str, Role] = dict(signed.delegations.roles or {})
    if signed.delegations.succinct_roles is not None:
        roles["each bin"] = signed.delegations.succinct_roles
    return {name: list(role.keyids) for name, role in roles.items()}


def material(key: Key) -> str:
    """What the key is, whatever its keyid says: its fingerprint, or a digest where it is of a kind that has none."""
    mark = fingerprint(key)
    if not mark.startswith("keyid:"):
        return mark
    return _digest({"keytype": key.keytype, "scheme": key.scheme, "keyval": dict(key.keyval)})


def is_digest(keyid: str, key: Key) -> bool:
    """Whether ``keyid`` is one that tools derive from ``key``: over all fields, without a tool's own, or the bare."""
    whole: dict[str, Any] = dict(key.to_dict())
    named = {name: value for name, value in whole.items() if not name.startswith(_TOOLS_OWN)}
    bare = {name: value for name, value in whole.items() if name in {"keytype", "scheme", "keyval"}}
    return _KEYID.fullmatch(keyid) is not None and keyid in {_digest(fields) for fields in (whole, named, bare)}


def grouped(mark: str) -> str:
    """A fingerprint in groups of eight, to be compared by eye or ear."""
    return " ".join(mark[start : start + 8] for start in range(0, len(mark), 8))


def _digest(fields: dict[str, Any]) -> str:
    return hashlib.sha256(canonical_json(fields).encode("utf-8", "surrogatepass")).hexdigest()

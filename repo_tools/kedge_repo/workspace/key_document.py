"""Key documents among the targets: which target is one, and how an npm key document is edited.

Which target is a key document is the client's own rule: the registry modules say where theirs stand. Editing keeps the
layout of the document as it was, so that what a registry publishes itself and what is edited here differ in what was
meant and nothing else. What comes out is read back as a client would before it is given away.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from securesystemslib.signer import Key

from kedge.documents import DocumentError, load_json
from kedge.errors import InputError
from kedge.registries import KeySet, Registry, find_registry
from kedge_repo.workspace.public_key import to_pem

_DETAILS = {"ed25519": "PKIX_ED25519", "ecdsa-sha2-nistp256": "PKIX_ECDSA_P256_SHA_256"}
_LAYOUTS: tuple[Callable[[Any], str], ...] = (
    lambda value: json.dumps(value, indent=4) + "\n",
    lambda value: json.dumps(value, indent=4),
    lambda value: json.dumps(value, indent=2) + "\n",
    lambda value: json.dumps(value, indent=2),
    lambda value: json.dumps(value, indent=1) + "\n",
    lambda value: json.dumps(value, indent=1),
    lambda value: json.dumps(value, separators=(",", ":")),
    lambda value: json.dumps(value, separators=(",", ":")) + "\n",
    json.dumps,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyDocument:
    """A target that is the key document of a registry."""

    path: str
    registry: str
    module: Registry

    def read(self, data: bytes, custom: Mapping[str, Any] | None, *, now: datetime) -> KeySet:
        """Read the document as a client does at ``now``.

        Raises:
            DocumentError: it is not one.
        """
        return self.module.parse(data, registry=self.registry, custom=custom, now=now)


def find_key_document(path: str) -> KeyDocument | None:
    """The key document that a target at ``path`` is, or None."""
    registry = path.rpartition("/")[0]
    if not registry:
        return None
    module = find_registry(registry)
    try:
        expected = module.target_path(registry)
    except InputError:
        return None
    return KeyDocument(path=path, registry=registry, module=module) if expected == path else None


def new_document() -> bytes:
    """A document without keys: the beginning of one."""
    return _LAYOUTS[0]({"keys": []}).encode()


def with_key(data: bytes, key: Key, keyid: str, *, usages: Sequence[str], start: datetime) -> bytes:
    """The document with ``key`` as ``keyid``, an entry for each usage, valid from ``start`` on.

    Without usages, the key gets those that the document's other keys have, or else ``npm:signatures``.

    Raises:
        InputError: the document has the keyid already, or is none; or a registry's key cannot be of this kind.
    """
    details = _DETAILS.get(key.scheme)
    if details is None:
        raise InputError("a registry's key must be Ed25519 or ECDSA P-256, which is what its clients can check")
    loaded = load_pem_public_key(to_pem(key))
    material = loaded.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    def add(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if any(entry["keyId"] == keyid for entry in entries):
            raise InputError(f"the key document has the key {keyid} already")
        names = usages or list(dict.fromkeys(entry["keyUsage"] for entry in entries)) or ["npm:signatures"]
        public = {"rawBytes": base64.b64encode(material).decode(), "keyDetails": details}
        fresh = [
            {"keyId": keyid, "keyUsage": name, "publicKey": {**public, "validFor": {"start": _time(start)}}}
            for name in names
        ]
        return [*entries, *fresh]

    return _edited(data, add)


def end_key(data: bytes, keyid: str, end: datetime) -> bytes:
    """The document in which the validity of ``keyid`` ends at ``end``, or where it ended before.

    Raises:
        InputError: the document has no such key, or is none.
    """

    def close(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for entry in _of(entries, keyid):
            window = entry["publicKey"].setdefault("validFor", {})
            window["end"] = min(window.get("end", _time(end)), _time(end))
        return entries

    return _edited(data, close)


def remove_key(data: bytes, keyid: str) -> bytes | None:
    """The document without ``keyid``, or None where it would be left without keys.

    Raises:
        InputError: the document has no such key, or is none.
    """
    left: list[dict[str, Any]] = []

    def drop(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        gone = _of(entries, keyid)
        left.extend(entry for entry in entries if entry not in gone)
        return left

    edited = _edited(data, drop)
    return edited if left else None


def _edited(data: bytes, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> bytes:
    try:
        value = load_json(data)
        text = data.decode()
        layout = next((layout for layout in _LAYOUTS if layout(value) == text), _LAYOUTS[0])
        value["keys"] = change(value["keys"])
    except (DocumentError, KeyError, TypeError) as error:
        raise InputError(f"the key document cannot be edited: {error}", hint="replace it with target add") from error
    return layout(value).encode()


def _of(entries: list[dict[str, Any]], keyid: str) -> list[dict[str, Any]]:
    found = [entry for entry in entries if entry["keyId"] == keyid]
    if not found:
        known = ", ".join(dict.fromkeys(str(entry["keyId"]) for entry in entries))
        raise InputError(f'the key document has no key "{keyid}"; it has {known or "none"}')
    return found


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")

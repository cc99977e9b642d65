"""Preparing a role's next version from what is published: a signing request, as any keyholder signs it. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from tuf.api.metadata import Snapshot, TargetFile, Targets

from kedge.errors import InputError
from kedge_repo.handin.published import Published
from kedge_repo.payload import Payload, copy_signed
from kedge_repo.publickey import fingerprint
from kedge_repo.request import Request, TargetChange
from kedge_repo.targetpath import check_target_path

__all__ = ["Wished", "prepare"]

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

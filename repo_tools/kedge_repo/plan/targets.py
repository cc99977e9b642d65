"""Adding, replacing and removing targets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tuf.api.metadata import TargetFile, Targets

from kedge.document import DocumentError
from kedge.errors import InputError
from kedge_repo.keydocument import key_document
from kedge_repo.payload import Payload, digest
from kedge_repo.plan.view import Plan, View, next_version
from kedge_repo.targetpath import check_target_path

__all__ = ["add_target", "add_targets", "remove_target", "responsible_role", "topic_of"]


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
    document = key_document(path)
    if document is not None:
        return f"{document.module.name} keys"
    return f"{verb} {path.rpartition('/')[2]}".strip()

"""What the holders of keys can do once a request is signed: computed from the metadata alone.

One key's material counts once, under however many keyids it stands. A label is what the maintainers call a key, with
the beginning of its fingerprint, so that a wrong name cannot hide another key.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tuf.api.metadata import Key, Role, Root, Targets

from kedge_repo.publickey import fingerprint

__all__ = ["consequences"]

_POWERS = {
    "root": "can replace root, and with it every other key",
    "targets": "can change every target that no role before it holds, and whom paths are delegated to",
    "snapshot": "can decide which signed versions clients are shown, among those that are signed",
    "timestamp": "can decide for how long clients are shown the present state",
}


def consequences(
    root: Root | None, targets: Targets | None, label: Mapping[str, str], *, bins: Mapping[str, Targets] | None = None
) -> Iterator[str]:
    """Say what a new ``root`` and new delegations of ``targets`` (None: not changed) let whom do, a line each.

    ``bins`` are new versions of roles that delegate to hash bins.
    """
    if root is not None:
        for name, role in root.roles.items():
            keys = _distinct(role, root.keys)
            yield f"after this, {_who(keys, role.threshold, label)} {_POWERS[name]}"
            if name == Root.type:
                yield _loss(len(keys), role.threshold)
    roles = targets.delegations.roles if targets is not None and targets.delegations is not None else None
    for name, role in (roles or {}).items():
        keys = _distinct(role, targets.delegations.keys if targets is not None and targets.delegations else {})
        paths = ", ".join(role.paths or ["the paths with its hash prefixes"])
        yield f"after this, {_who(keys, role.threshold, label)} can change {paths} (as {name})"
    for name, delegating in (bins or {}).items():
        delegations = delegating.delegations
        if delegations is not None and delegations.succinct_roles is not None:
            keys = _distinct(delegations.succinct_roles, delegations.keys)
            who = _who(keys, delegations.succinct_roles.threshold, label)
            yield f"after this, {who} can change every target in the bins of {name}, online and without an event"


def _distinct(role: Role, keys: Mapping[str, Key]) -> list[str]:
    found: dict[str, str] = {}
    for keyid in role.keyids:
        if keyid in keys:
            found.setdefault(fingerprint(keys[keyid]), keyid)
    return list(found.values())


def _who(keyids: list[str], threshold: int, label: Mapping[str, str]) -> str:
    names = [label[keyid] for keyid in keyids]
    if len(names) < threshold:
        return f"nobody ({threshold} keys are asked for, and there are {len(names)})"
    if len(names) == threshold:
        return f"{' and '.join(filter(None, [', '.join(names[:-1]), names[-1]]))} alone"
    if threshold == 1:
        return f"any one of {', '.join(names)} alone"
    return f"any {threshold} of {', '.join(names)}"


def _loss(keys: int, threshold: int) -> str:
    spare = keys - threshold
    if spare <= 0:
        return "after this, if one of these keys is lost, root can never be changed again"
    return f"after this, root can still be changed when {spare} of its {keys} keys {'is' if spare == 1 else 'are'} lost"

"""Whether a client that looks a path up comes to the role that is to hold it.

What ``targets`` delegates by plain path patterns is put into one regular expression, for there may be millions of
paths to ask about. It says what TUF says (§4.5): a pattern has as many parts as the path, and ``*`` stands for
anything in one of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from tuf.api.metadata import DelegatedRole, Targets

from kedge.errors import InputError
from kedge_repo.bins.lines import Batch

__all__ = ["belonging"]


def belonging(batches: Iterable[Batch], targets: Targets, role: str) -> Iterator[Batch]:
    """The same batches, if every path in them belongs to ``role`` by the delegations of ``targets``.

    Raises:
        InputError: one does not; no client would find it.
    """
    pattern = _rule(targets, role)
    for batch in batches:
        paths = [path for _, path in batch]
        # All at once: a path holds no line feed, and no part of the pattern lets one stand for anything.
        if pattern is None or pattern.fullmatch(b"\n".join(paths)) is None:
            path = next((path for path in paths if _asked(targets, path.decode()) != role), None)
            if path is not None:
                raise InputError(
                    f"target {path.decode()}: targets version {targets.version} leads no client for it to {role}",
                    hint=f"name the paths that belong to {role} with kedge-repo delegate {role} --path PATTERN",
                )
        yield batch


def _rule(targets: Targets, role: str) -> re.Pattern[bytes] | None:
    """What any number of paths, a line each, all match if they belong to ``role``; None if that takes asking."""
    delegations = targets.delegations
    listed = (delegations.roles if delegations is not None else None) or {}
    before = list(listed)[: list(listed).index(role)] if role in listed else []
    own, earlier = _pattern([listed[role]] if role in listed else []), _pattern([listed[name] for name in before])
    if own is None or earlier is None:
        return None
    one = rb"(?!(?:%b)(?:\n|\Z))(?:%b)" % (earlier, own)
    return re.compile(rb"(?:%b\n)*+%b" % (one, one))


def _asked(targets: Targets, path: str) -> str:
    delegations = targets.delegations
    return next((name for name, _ in delegations.get_roles_for_target(path)), "") if delegations is not None else ""


def _pattern(roles: Iterable[DelegatedRole]) -> bytes | None:
    """All that ``roles`` are delegated; None where it takes more than ``*`` to say it."""
    texts: list[str] = []
    for role in roles:
        if role.paths is None or any(set(path) & set("?[") for path in role.paths):
            return None
        texts += [re.escape(path).replace(r"\*", r"[^/\n]*") for path in role.paths]
    return "|".join(texts).encode() if texts else b"(?!)"

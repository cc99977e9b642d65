"""What differs between two signed objects, member by member: complete, whatever the members are called.

An object is read as its leaves: a path of names and the canonical JSON of what stands there. Lists are leaves, but for
the delegated roles, whose list is read as its order and each role by its name. Two objects with the same leaves are
equal, so that what has no sentence is still a difference. Pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kedge_repo.workspace import canonical_json

Path = tuple[str, ...]
"""The names that lead to a member: ``("roles", "root", "threshold")``."""

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*", re.ASCII)
_ROLES: Path = ("delegations", "roles")
_TABLE = "{}"  # what stands at the path of every table, empty or not


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One member before and after, as canonical JSON; None where it is not there."""

    path: Path
    old: str | None
    new: str | None

    @property
    def member(self) -> str:
        """The path as text: ``roles.root.threshold``, ``targets["a/b"].length``."""
        parts = [f".{name}" if _PLAIN.fullmatch(name) else f"[{json.dumps(name)}]" for name in self.path]
        return "".join(parts).removeprefix(".")

    def line(self) -> str:
        """The difference as it stands."""
        if self.new is None:
            return f"{self.member}: gone (was {self.old})"
        return f"{self.member}: {self.new}" + ("" if self.old is None else f" (was {self.old})")


def differences(old: bytes | None, new: bytes) -> tuple[Difference, ...]:
    """Every member that differs between two payloads (canonical JSON); all of ``new`` where there was none before."""
    before = _leaves(json.loads(old, strict=False)) if old is not None else {}
    after = _leaves(json.loads(new, strict=False))
    filled = {path[:-1] for leaves in (before, after) for path in leaves if path}
    return tuple(
        Difference(path=path, old=before.get(path), new=after.get(path))
        for path in sorted(before.keys() | after.keys())
        if before.get(path) != after.get(path)
        and not (path in filled and {before.get(path), after.get(path)} == {None, _TABLE})  # its members tell of it
    )


def _leaves(value: Any, path: Path = ()) -> dict[Path, str]:
    if path == _ROLES and _named(value):
        order = {path: canonical_json([role["name"] for role in value])}
        return order | _below({role["name"]: role for role in value}, path)
    if isinstance(value, dict):
        return {path: _TABLE} | _below(value, path)
    return {path: canonical_json(value)}


def _below(table: Mapping[str, Any], path: Path) -> dict[Path, str]:
    return {place: text for name, value in table.items() for place, text in _leaves(value, (*path, name)).items()}


def _named(value: Any) -> bool:
    """Whether ``value`` is a list of roles, each with a name of its own."""
    if not isinstance(value, list) or not all(isinstance(role, dict) for role in value):
        return False
    names = [role.get("name") for role in value]
    return all(isinstance(name, str) for name in names) and len(set(names)) == len(names)

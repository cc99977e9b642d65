"""What a packument *claims* about provenance: which versions have one, and which release line lost it. Nobody signs it.

A claim serves two ends only. It says where to ask, and it shows that a release line which had a provenance came without
one: the mark that stolen publishing tokens leave. A mirror that takes the claims of all versions out hides that; a rule
that requires a provenance does not let it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

__all__ = ["Claims", "read_claims"]

_VERSION = re.compile(r"(\d{1,9})\.(\d{1,9})\.(\d{1,9})(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?")


@dataclass(frozen=True, slots=True)
class Claims:
    """The versions that are said to have attestations, and those of them that are said to have a provenance."""

    attested: frozenset[str] = frozenset()
    built: frozenset[str] = frozenset()

    def lost_since(self, version: str) -> str | None:
        """The last version before this one, in its release line, that is said to have a provenance.

        A release line is a major version; below 1.0.0 a minor one. Only whole releases count as having had one.
        """
        mine = _parts(version)
        if mine is None or version in self.built:
            return None
        earlier = [
            (parts, other)
            for other in self.built
            if (parts := _parts(other)) is not None and "-" not in other and _line(parts) == _line(mine)
        ]
        before = [entry for entry in earlier if entry[0] < mine]
        return max(before)[1] if before else None


def read_claims(data: bytes) -> Claims:
    """Read the claims of a packument's bytes; none, where they cannot be read."""
    try:
        listed = json.loads(data).get("versions")
    except (ValueError, RecursionError, AttributeError):
        return Claims()
    attested, built = set(), set()
    for version, manifest in listed.items() if isinstance(listed, dict) else ():
        claim = _claim(manifest)
        if claim is not None:
            attested.add(version)
            if isinstance(claim.get("provenance"), dict):
                built.add(version)
    return Claims(frozenset(attested), frozenset(built))


def _claim(manifest: Any) -> dict[str, Any] | None:
    dist = manifest.get("dist") if isinstance(manifest, dict) else None
    claim = dist.get("attestations") if isinstance(dist, dict) else None
    return claim if isinstance(claim, dict) else None


def _parts(version: str) -> tuple[int, int, int] | None:
    match = _VERSION.fullmatch(version)
    return (int(match[1]), int(match[2]), int(match[3])) if match else None


def _line(parts: tuple[int, int, int]) -> tuple[int, ...]:
    return parts[:1] if parts[0] else parts[:2]

"""What became of a Hex package, and what is remembered of it, since nothing that Hex signs has a version. Pure.

A replayed resource can hide a release, or take back that one was retired. Both also happen honestly (a release is
reverted in its first day, a retirement taken back): whoever knows says ``accept_older``, and what is served is the new
memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from kedge.document import Fields
from kedge.registries.hex.resource import Package

__all__ = ["GOOD", "Outcome", "Policy", "remembered", "rollbacks", "subject_of"]

MAX_NAMED = 3


class Outcome(StrEnum):
    """The outcome for one package. The values stand in ``--json``."""

    VERIFIED = "verified"
    UNSIGNED = "unsigned"
    BAD_SIGNATURE = "bad-signature"
    REVOKED_KEY = "revoked-key"
    OUTSIDE_VALIDITY = "outside-validity"
    MALFORMED = "malformed"
    WRONG_REPOSITORY = "wrong-repository"
    WRONG_NAME = "wrong-name"
    ROLLED_BACK = "rolled-back"
    NOT_LISTED = "not-listed"
    DIGEST_MISMATCH = "digest-mismatch"
    NOT_BOUND = "not-bound"
    NO_KEYS = "no-keys"
    NOT_FOUND = "not-found"
    TOO_LONG = "too-long"
    UNREACHABLE = "unreachable"
    SKIPPED = "skipped"


GOOD: frozenset[StrEnum] = frozenset({Outcome.VERIFIED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the user decides. ``accept_older`` takes what hides something that was seen before, and remembers it."""

    accept_older: bool = False


def subject_of(registry: str, package: Package) -> str:
    """Of what a package is the newest."""
    return f"{registry} {package.repository} {package.name}"


def remembered(package: Package, seen: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """What is to be remembered: every release that was ever seen, and whether it was retired.

    Raises:
        DocumentError: what was seen cannot be read.
    """
    releases = dict(_seen(seen)) if seen is not None else {}
    for release in package.releases.values():
        outer, retired = releases.get(release.version, (release.outer, False))
        releases[release.version] = (release.outer or outer, retired or release.retired is not None)
    table = {
        version: {"retired": retired, **({"outer": outer} if outer else {})}
        for version, (outer, retired) in releases.items()
    }
    return {"releases": table}


def rollbacks(package: Package, seen: Mapping[str, Any] | None) -> list[str]:
    """In what a package as it is served is older than what was seen of it: a sentence each.

    Raises:
        DocumentError: what was seen cannot be read.
    """
    gone: list[str] = []
    changed: list[str] = []
    taken_back: list[str] = []
    for version, (outer, retired) in _seen(seen).items() if seen is not None else ():
        release = package.releases.get(version)
        if release is None:
            gone.append(version)
        elif outer is not None and release.outer is not None and release.outer != outer:
            changed.append(version)
        elif retired and release.retired is None:
            taken_back.append(version)
    told = (
        (gone, "seen before, and no longer listed"),
        (changed, "listed with another content than before"),
        (taken_back, "was retired, and is not any more"),
    )
    return [f"{_named(versions)}: {text}" for versions, text in told if versions]


def _named(versions: list[str]) -> str:
    shown = ", ".join(versions[-MAX_NAMED:])
    return shown if len(versions) <= MAX_NAMED else f"{shown} and {len(versions) - MAX_NAMED} more"


def _seen(seen: Mapping[str, Any]) -> dict[str, tuple[str | None, bool]]:
    fields = Fields(seen, "seen")
    return {
        version: (release.optional("outer", release.sha256), release.boolean("retired"))
        for version, release in fields.table("releases").items()
    }

"""What this machine holds already, by digest: the ground that a delta stands on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

__all__ = ["Held", "nothing_held"]

Held: TypeAlias = Callable[[str], bytes | None]
"""Gives the file with a SHA-256 digest, or None where it is not held."""


def nothing_held(digest: str) -> bytes | None:  # noqa: ARG001 a Held
    """Hold nothing."""
    return None

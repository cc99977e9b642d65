"""What both worlds know: when it begins, and which registry's keys it is about."""

from __future__ import annotations

from datetime import UTC, datetime

from cli import conftest as documents

__all__ = ["BEGIN", "KEYS", "REGISTRY", "key_document"]

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
REGISTRY = "registry.example"
KEYS = f"{REGISTRY}/keys.json"


def key_document(*names: str) -> bytes:
    """A key document with the keys ``old`` and ``new``."""
    material = {"old": documents.OLD, "new": documents.NEW}
    return documents.key_document(*((name, material[name][1], {"start": "2020-01-01T00:00:00Z"}) for name in names))

"""The objects of ``--json``: ``kedge.trust/1``, ``kedge.keys/1`` and ``kedge.anchors/1``.

Their schemas stand in docs/reference/formats.md. Times are texts such as ``2025-01-27T00:00:00Z``.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from kedge import checks
from kedge.anchor import Anchor
from kedge.document import format_time
from kedge.keys import KeySet, RegistryKey
from kedge.trust import LogState, RoleState, Trust

__all__ = ["anchors_document", "keys_document", "trust_document", "trust_entry"]


def trust_document(answers: Sequence[Trust]) -> dict[str, Any]:
    """The answer of ``refresh`` and ``status``."""
    return {"format": "kedge.trust/1", "anchors": [trust_entry(trust) for trust in answers]}


def keys_document(answers: Sequence[tuple[KeySet, Trust]]) -> dict[str, Any]:
    """The answer of ``keys show`` (one registry) and ``keys list``."""
    return {"format": "kedge.keys/1", "registries": [_registry(keys, trust) for keys, trust in answers]}


def anchors_document(answers: Sequence[tuple[Anchor, bool]]) -> dict[str, Any]:
    """The answer of ``anchor add``, ``list`` and ``show``; beside each anchor, whether it ships with kedge."""
    return {"format": "kedge.anchors/1", "anchors": [_anchor(anchor, ships) for anchor, ships in answers]}


def trust_entry(trust: Trust) -> dict[str, Any]:
    """One anchor's entry."""
    return {
        "anchor": trust.anchor,
        "root": _role(trust.root),
        "timestamp": _role(trust.timestamp),
        "snapshot": _role(trust.snapshot),
        "targets": _role(trust.targets),
        "valid_until": format_time(trust.valid_until),
        "reference_time": format_time(trust.reference_time),
        "fetched": _time(trust.fetched),
        "source": trust.source,
        "refreshed": trust.refreshed,
        "stale": trust.stale,
        "age_s": int(trust.age.age.total_seconds()) if trust.age.age is not None else None,
        "age_basis": trust.age.basis.value if trust.age.basis is not None else None,
        "next_by": format_time(trust.age.next_by),
        "as_of": _time(trust.as_of),
        "warnings": list(trust.warnings),
        "log": _log(trust.log),
    }


def _log(log: LogState | None) -> dict[str, Any] | None:
    return {"origin": log.origin, "size": log.size, "time": _time(log.time)} if log is not None else None


def _registry(keys: KeySet, trust: Trust) -> dict[str, Any]:
    return {
        "registry": keys.registry,
        "target": keys.target,
        "sha256": keys.sha256,
        "keys": [_key(key) for key in keys.keys],
        "revoked": list(keys.revoked),
        "trust": trust_entry(trust),
    }


def _key(key: RegistryKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "usages": list(key.usages),
        "status": key.status.value,
        "valid_from": _time(key.valid_from),
        "valid_until": _time(key.valid_until),
        "time_basis": key.time_basis.value,
        "algorithm": key.algorithm,
        "format": key.format.value,
        "material": base64.b64encode(key.material).decode("ascii"),
        "fingerprint": key.fingerprint,
        "pem": key.pem,
    }


def _anchor(anchor: Anchor, ships: bool) -> dict[str, Any]:
    root = checks.begin(anchor.initial_root, file=f"the root of anchor {anchor.name}").root
    return {
        "name": anchor.name,
        "ships": ships,
        "registries": list(anchor.registries),
        "mirrors": [
            {"url": mirror.url, "metadata": mirror.metadata, "targets": mirror.targets} for mirror in anchor.mirrors
        ],
        "root": {
            "version": root.version,
            "expires": format_time(root.expires),
            "sha256": hashlib.sha256(anchor.initial_root).hexdigest(),
        },
        "not_before": _time(anchor.not_before),
        "max_staleness_s": int(anchor.max_staleness.total_seconds()),
        "refresh_after_s": int(anchor.refresh_after.total_seconds()),
        "warn_after_s": int(anchor.warn_after.total_seconds()),
        "red_line_s": int(anchor.red_line.total_seconds()),
        "keep_history": anchor.keep_history,
        "transparency": anchor.transparency.value,
        "log_policy": anchor.log_policy,
    }


def _role(role: RoleState) -> dict[str, Any]:
    return {"version": role.version, "expires": format_time(role.expires)}


def _time(moment: datetime | None) -> str | None:
    return format_time(moment) if moment is not None else None

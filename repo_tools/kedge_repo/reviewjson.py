"""A review as the ``kedge.review/1`` object of ``--json``: every field is there, null where it does not apply."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from tuf.api.metadata import TargetFile

from kedge.document import format_time
from kedge.keys import RegistryKey
from kedge_repo.keydiff import KeyDiff, SampleCount
from kedge_repo.review import Review, RoleReview, TargetReview

__all__ = ["REVIEW_FORMAT", "review_table"]

REVIEW_FORMAT = "kedge.review/1"


def review_table(review: Review) -> dict[str, Any]:
    """The review as plain values."""
    return {
        "format": REVIEW_FORMAT,
        "repository": review.repository,
        "event": review.event,
        "reason": review.reason,
        "code": review.code,
        "base": {
            "root_version": review.root_version,
            "root_sha256": review.root_sha256 or None,
            "snapshot_version": review.snapshot_version,
        },
        "roles": [_role(role) for role in review.roles],
        "consequences": list(review.consequences),
        "keys": [
            {
                "keyid": key.keyid,
                "name": key.name,
                "label": key.label,
                "algorithm": key.algorithm,
                "fingerprint": key.fingerprint,
                "ssh_fingerprint": key.ssh_fingerprint,
            }
            for key in review.keys
        ],
    }


def _role(role: RoleReview) -> dict[str, Any]:
    return {
        "role": role.role,
        "version": role.version,
        "before": role.before,
        "expires": role.expires,
        "payload_sha256": role.payload_sha256,
        "signers": [
            {"asked_by": group.delegator, "threshold": group.threshold, "keyids": list(group.keys)}
            for group in role.signers
        ],
        "facts": list(role.facts),
        "targets": [_target(target) for target in role.targets],
    }


def _target(target: TargetReview) -> dict[str, Any]:
    return {
        "path": target.path,
        "old": _file(target.old),
        "new": _file(target.new),
        "keys": None if target.keys is None else _diff(target.keys),
        "sample": None if target.sample is None else _sample(target.sample),
    }


def _file(target: TargetFile | None) -> dict[str, Any] | None:
    if target is None:
        return None
    return {"length": target.length, "sha256": target.hashes.get("sha256"), "custom": target.custom}


def _diff(diff: KeyDiff) -> dict[str, Any]:
    return {
        "added": [_key(key) for key in diff.added],
        "removed": [_key(key) for key in diff.removed],
        "changed": [{"before": _key(before), "after": _key(after)} for before, after in diff.changed],
        "revoked": list(diff.revoked),
        "no_longer_revoked": list(diff.no_longer_revoked),
        "problem": diff.problem,
    }


def _key(key: RegistryKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "usages": list(key.usages),
        "algorithm": key.algorithm,
        "fingerprint": key.fingerprint,
        "valid_from": _time(key.valid_from),
        "valid_until": _time(key.valid_until),
    }


def _sample(sample: SampleCount) -> dict[str, Any]:
    return {
        "package": sample.package,
        "releases": sample.releases,
        "verify_before": sample.before,
        "verify_after": sample.after,
        "stop": sample.stop,
        "start": sample.start,
        "timed": sample.timed,
    }


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else format_time(moment)

"""A recovery, and its rehearsal, as the JSON object that ``--json`` answers with, ``kedge.recovery/1``."""

from __future__ import annotations

from typing import Any

from kedge_repo.recover import Recovery
from kedge_repo.rehearse import Rehearsal

__all__ = ["recovery_table"]


def recovery_table(recovery: Recovery, rehearsal: Rehearsal | None, event: str | None) -> dict[str, Any]:
    """The object; ``event`` is the one that was opened, if one was."""
    return {
        "format": "kedge.recovery/1",
        "repository": recovery.repository,
        "lost": sorted(recovery.harm.lost),
        "stolen": sorted(recovery.harm.stolen),
        "verdict": recovery.verdict.value,
        "roles": [
            {
                "role": role.role,
                "bins": role.bins,
                "threshold": role.threshold,
                "holders": list(role.holders),
                "able": list(role.able),
                "thieves": list(role.thieves),
                "can_sign": role.can_sign,
                "thief_can": role.thief_can,
            }
            for role in recovery.roles
        ],
        "rotated": list(recovery.rotated),
        "dropped": list(recovery.dropped),
        "wanted": list(recovery.wanted),
        "changes": list(recovery.changes),
        "needs": [
            {
                "role": need.role,
                "version": need.version,
                "asked_by": need.asked_by,
                "threshold": need.threshold,
                "able": list(need.able),
                "enough": need.enough,
            }
            for need in recovery.needs
        ],
        "steps": list(recovery.steps),
        "event": event,
        "rehearsal": None if rehearsal is None else _rehearsal(rehearsal),
    }


def _rehearsal(rehearsal: Rehearsal) -> dict[str, Any]:
    return {
        "as_expected": rehearsal.as_expected,
        "acts": [
            {
                "what": act.what,
                "as_expected": act.as_expected,
                "sights": [
                    {"client": sight.client, "accepted": sight.accepted, "saw": sight.saw} for sight in act.sights
                ],
            }
            for act in rehearsal.acts
        ],
    }

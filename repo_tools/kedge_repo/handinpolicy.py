"""What a repository takes from the keyholders of a delegated role without asking anybody: a table of the policy.

::

    [delegations."registry.npmjs.org".hand_in]
    max_bytes = 100000             # of all the role's targets together
    max_targets = 4
    max_expiry_days = 200          # optional: how long a version may last at most; else expiry_days
    key_documents_only = true      # no other target may come, change or go
    sub_delegations = false        # whether the role may delegate further

Without the table nothing is taken. Paths are those of the delegation; a version is exactly the next one.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from kedge.document import Fields

__all__ = ["HandInPolicy", "read_hand_in_policy"]

MAX_EXPIRY_DAYS = 3_660


@dataclass(frozen=True, slots=True, kw_only=True)
class HandInPolicy:
    """The bounds of a hand-in."""

    max_bytes: int
    max_targets: int
    max_expiry: timedelta
    key_documents_only: bool
    sub_delegations: bool


def read_hand_in_policy(fields: Fields, *, expiry: timedelta, signing: timedelta) -> HandInPolicy:
    """Read the table; ``expiry`` and ``signing`` are the periods of its role.

    Raises:
        DocumentError: it is not one; the path leads to the fault.
    """
    days = fields.optional("max_expiry_days", fields.integer, minimum=1, maximum=MAX_EXPIRY_DAYS)
    policy = HandInPolicy(
        max_bytes=fields.integer("max_bytes", minimum=1, maximum=64_000_000),
        max_targets=fields.integer("max_targets", minimum=1, maximum=100_000),
        max_expiry=timedelta(days=days) if days is not None else expiry,
        key_documents_only=fields.boolean("key_documents_only"),
        sub_delegations=fields.boolean("sub_delegations"),
    )
    if policy.max_expiry <= signing:
        fields.fail("max_expiry_days", f"must be more than the {signing.days} of signing_days, not {days}")
    fields.end()
    return policy

"""Planning: the signed metadata and a wish in, new payloads out. Pure; nothing is written here.

Every function takes a :class:`View` (what is signed, what an open event already plans, the policy and the keys) and
gives a :class:`Plan`. Invariants:

- A role that a wish does not touch keeps its payload, and with it its signatures.
- A role that is touched for the first time in an event moves to exactly the next version, with a new expiry by the
  policy; touched again in the same event it keeps both. Root alone can move once more on top, if that is asked for.
- Where a change of keys would leave a signed role below its new threshold, that role moves too, for no client could
  follow otherwise.
- Nothing but keys stands in key objects; ``consistent_snapshot`` is always on.
- What a wish changes in the policy goes with the event: the policy file changes when the event is merged.
"""

from __future__ import annotations

from kedge_repo.plan.keys import add_key, revoke_key, rotate_key
from kedge_repo.plan.registry import add_registry_key, revoke_registry_key, rotate_registry_key
from kedge_repo.plan.roles import delegate, initial, renew, set_role
from kedge_repo.plan.targets import add_target, add_targets, remove_target, responsible_role
from kedge_repo.plan.view import Plan, View

__all__ = [
    "Plan",
    "View",
    "add_key",
    "add_registry_key",
    "add_target",
    "add_targets",
    "delegate",
    "initial",
    "remove_target",
    "renew",
    "responsible_role",
    "revoke_key",
    "revoke_registry_key",
    "rotate_key",
    "rotate_registry_key",
    "set_role",
]

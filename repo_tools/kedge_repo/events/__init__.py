"""Signing events: beginning a repository, planned changes, collected signatures, submissions by a delegate.

Plans are pure (signed metadata and a wish in, new payloads out); events keep them until the threshold has signed, and
merging one brings it into the workspace. It uses ``signing``, ``bins`` and ``workspace``.
"""

from kedge._doors import door

__all__, __getattr__, __dir__ = door(
    __name__,
    {
        "changes": ["Change", "Wish", "cancel_event", "change", "merge_event", "new_event"],
        "event": ["Base", "Event", "Signing", "read_signings", "save_event"],
        "hand_in": ["HandIn", "Taken", "Wished", "prepare", "read_published", "take_hand_in"],
        "init": [
            "Charter",
            "DEFAULT_EXPIRIES",
            "DELEGATION_EXPIRY",
            "Delegate",
            "Expiry",
            "check_is_new",
            "found_repository",
        ],
        "open_event": ["choose_event", "open_roles", "read_signed", "signed_view", "stand"],
        "plan": ["Plan", "View", "add_target", "remove_target"],
        "plan_keys": [
            "add_key",
            "add_registry_key",
            "revoke_key",
            "revoke_registry_key",
            "rotate_key",
            "rotate_registry_key",
        ],
        "plan_roles": ["plan_delegation", "plan_initial", "plan_renewal", "plan_role"],
        "pub": [
            "Answers",
            "Gathered",
            "folder_answers",
            "gather",
            "has_bins",
            "into_bins",
            "into_event",
            "read_names",
            "web_answers",
        ],
        "signatures": [
            "EventStatus",
            "GroupStatus",
            "Imported",
            "RawSignature",
            "event_status",
            "export_request",
            "import_raw",
            "import_responses",
            "own_request",
            "sign_event",
        ],
    },
)

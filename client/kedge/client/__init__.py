"""The client: trust anchors, stored state, the project's lock file, the key log that an anchor requires.

:class:`TrustClient` is the way in: an anchor, a state folder, a transport and a clock make verified keys. It does the
reading and writing that ``tuf`` asks for. It uses ``registries``, ``transport``, ``tuf``, ``tlog`` and the files below.
"""

from kedge._doors import door

__all__, __getattr__, __dir__ = door(
    __name__,
    {
        "anchor": [
            "Anchor",
            "Transparency",
            "add_anchor",
            "anchor_for_registry",
            "anchor_names",
            "configured_anchors",
            "fetch_root",
            "load_anchor",
            "remove_anchor",
            "shipped_anchors",
        ],
        "client": ["TrustClient"],
        "keylog.entries": [
            "Entry",
            "EventKind",
            "History",
            "KeyLeaf",
            "RoleLeaf",
            "RootLeaf",
            "document_leaf",
            "key_events",
            "replay",
        ],
        "keylog.require": ["stored_log_files"],
        "lockfile": ["LOCK_FILE", "Lock", "LockedAnchor", "find_lock", "read_lock"],
        "session": ["forget_time"],
        "settings": [
            "Clock",
            "SETTINGS_FILE",
            "Setting",
            "Settings",
            "SystemClock",
            "read_settings",
            "unknown_variables",
        ],
        "store": ["Store"],
    },
)

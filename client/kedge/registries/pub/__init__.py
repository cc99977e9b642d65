"""pub registries (Dart, Flutter): signed listings of versions, and mirrors verified against them."""

from kedge._doors import door

__all__, __getattr__, __dir__ = door(
    __name__,
    {
        "listing": ["Listing", "MAX_BYTES", "NAME", "read_answer", "read_listing", "version_order"],
        "lockfile": ["LockedPackage", "read_lock"],
        "registry": ["Pub", "PubSource", "default_source", "listing_path", "read_source"],
        "verify": ["GOOD", "Mirrored", "ask_mirror", "find_archives", "judge", "plan"],
    },
)

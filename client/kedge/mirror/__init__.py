"""Copies of a repository: a verified mirror in a folder, served on the loopback, and bundles for an air gap.

What a copy holds was verified from the copier's own anchor; who uses it verifies again. It uses ``client`` and what
lies below.
"""

from kedge._doors import door

__all__, __getattr__, __dir__ = door(
    __name__,
    {
        "bundle": [
            "carried_targets",
            "default_targets",
            "from_frames",
            "make_bundle",
            "open_bundle",
            "read_receiver",
            "take_in",
            "to_frames",
        ],
        "folder": ["MirrorFolder"],
        "serve": ["LoopbackServer"],
        "sync": ["Copied", "JOBS", "Layout", "Options", "copy_repository"],
    },
)

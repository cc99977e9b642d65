"""Hex repositories: their keys, signed resources, and ``mix.lock`` verified against them."""

from kedge._doors import door

__all__, __getattr__, __dir__ = door(
    __name__,
    {
        "mixlock": ["Locked", "NAME", "read_lock"],
        "registry": ["Hex"],
        "verify": ["GOOD", "JOBS", "Policy", "Settings", "verify_packages"],
    },
)

"""PyPI: PEP 740 attestations of files, verified against the publisher that the user expects."""

from kedge._doors import door

__all__, __getattr__, __dir__ = door(
    __name__,
    {
        "index": ["Index", "base_of"],
        "locked": ["LockedFile", "parse_filename"],
        "lockfiles": ["read_lock"],
        "verify": ["GOOD", "Result", "Sources", "verify_files"],
    },
)

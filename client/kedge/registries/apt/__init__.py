"""apt's repositories: keyrings, and the chain from a signed Release over its indexes to a package's bytes."""

from kedge._doors import door

__all__, __getattr__, __dir__ = door(
    __name__,
    {
        "registry": ["APT"],
        "release": ["suite_of"],
        "verify": [
            "GOOD",
            "Policy",
            "check_indexes",
            "check_packages",
            "fetch_indexes",
            "not_needed",
            "verify_release",
            "verify_served",
        ],
    },
)

"""NuGet's repository signatures: certificates, time-stamps, and packages verified against them."""

from kedge._doors import door

__all__, __getattr__, __dir__ = door(
    __name__,
    {
        "registry": ["Feed", "NuGet", "REPOSITORY", "TIMESTAMP", "read_feed"],
        "verify": ["GOOD", "Outcome", "find_packages", "verify_packages"],
    },
)

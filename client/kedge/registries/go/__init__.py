"""Go's checksum database: its keys, signed tree heads, tiles, and ``go.sum`` verified against them."""

from kedge._doors import door

__all__, __getattr__, __dir__ = door(
    __name__,
    {
        "registry": ["Go", "database_name", "read_lines"],
        "sumdb": ["SumDatabase", "TreeHead", "later", "remembered"],
        "sumfile": ["SumLine", "read_sums"],
        "verify": ["GOOD", "Verified", "verify_sums"],
    },
)

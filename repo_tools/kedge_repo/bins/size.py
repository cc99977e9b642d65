"""How many bins: the least power of two that leaves at most 150 targets a bin on average, and at most 2 ** 14 bins.

A bin is what a client downloads for one target, so that more bins cost it less there; but the snapshot names every bin
(35 bytes each, 573,440 bytes for 2 ** 14), and each client downloads it anew after every change. Between the two stands
PEP 458's choice, 2 ** 14 bins for 2,273,539 targets (139 a bin), which this rule reaches. Above that the bins grow and
the snapshot does not. Whoever wants more may have 2 ** 15, for python-tuf reads a snapshot of at most 2,000,000 bytes.
"""

from __future__ import annotations

__all__ = ["TARGETS_PER_BIN", "bit_length_for"]

TARGETS_PER_BIN = 150
_MOST_BY_RULE = 14


def bit_length_for(targets: int) -> int:
    """The number of bits that tell the bin of a path apart, by the rule, in a role of so many ``targets``."""
    bins = -(-targets // TARGETS_PER_BIN)
    return min(max(1, (bins - 1).bit_length()), _MOST_BY_RULE)

"""``kedge verify``: hold what a registry or its mirror serves against keys that no mirror can replace.

One module a kind. Each is a command of the entry-point group ``kedge.verifiers`` and is loaded when it is called, so
that another ecosystem, ours or somebody else's, is another entry point.
"""

from __future__ import annotations

__all__ = ["GROUP", "HELP"]

GROUP = "kedge.verifiers"
HELP = "Hold packages against registries' signatures."

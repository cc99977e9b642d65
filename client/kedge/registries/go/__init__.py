"""Go checksum databases: their verifier keys, and ``go.sum`` lines proven by what they sign.

:class:`Go` is what the client finds through the entry point. What stands in the modules beside it is imported by those
who need it, so that reading keys stays light.
"""

from __future__ import annotations

from kedge.registries.go.document import TREE_HEADS, Go

__all__ = ["TREE_HEADS", "Go"]

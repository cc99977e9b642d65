"""One module for each kind of registry: its key document, its signatures, its exports.

Each implements :class:`kedge.registry.Registry` and is found through the entry-point group ``kedge.registries``
(:func:`kedge.registry.find_registry`), so that the client below needs to know none of them.
"""

from __future__ import annotations

__all__: list[str] = []

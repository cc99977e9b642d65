"""Hex repositories: their key documents, the resources that they sign, and what a ``mix.lock`` says.

:class:`Hex` is what the client finds through the entry point. What stands in the modules beside this one is imported by
those who need it.
"""

from __future__ import annotations

from kedge.registries.hex.document import Hex

__all__ = ["Hex"]

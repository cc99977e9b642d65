"""Sigstore instances: their trusted roots as key documents, and bundles verified by them.

:class:`Sigstore` is what the client finds through the entry point. What stands in the modules beside this one is
imported by those who need it, so that reading keys stays light.
"""

from __future__ import annotations

from kedge.registries.sigstore.document import Sigstore

__all__ = ["Sigstore"]

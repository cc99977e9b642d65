"""PyPI: provenance of distribution files (PEP 740), held against who is expected to publish them.

An index has no key of its own: what it serves are attestations by whoever published, and a trusted root of Sigstore
says whose certificates count. So there is no key document here, and no module of the group ``kedge.registries``.
"""

from __future__ import annotations

__all__: list[str] = []

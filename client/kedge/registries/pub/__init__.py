"""pub registries (Dart, Flutter): signed listings of versions, which make any mirror safe to use.

:class:`Pub` is what the client finds through the entry point.
"""

from __future__ import annotations

from kedge.registries.pub.document import Pub

__all__ = ["Pub"]

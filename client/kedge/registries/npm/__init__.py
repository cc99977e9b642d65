"""npm registries: their key documents, and the signatures that they put on packages.

:class:`NPM` is what the client finds through the entry point; the other names check one signature. What stands in the
modules beside this one is imported by those who need it, so that reading keys stays light.
"""

from __future__ import annotations

from kedge.registries.npm.document import NPM
from kedge.registries.npm.signature import SIGNATURES, signed_message, verify_signature

__all__ = ["NPM", "SIGNATURES", "signed_message", "verify_signature"]

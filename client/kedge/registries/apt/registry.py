"""apt's repositories: their keyrings, and the chain from a signed Release over its indexes to a package's bytes.

:class:`APT` is what the client finds through the entry point. What stands in the modules beside this one is imported by
those who need it.
"""

from __future__ import annotations

from kedge.registries.pgp import Keyring


class APT(Keyring):
    """Whoever publishes an apt repository: ``apt/<origin>/archive-keyring.gpg``, the file that apt itself reads."""

    name = "apt"
    file = "archive-keyring.gpg"
    usage = "apt:release"
    example = "apt/debian"

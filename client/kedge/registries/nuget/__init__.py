"""NuGet feeds: the certificates with which repositories and authors sign packages, and packages held against them.

:class:`NuGet` is what the client finds through the entry point. What stands in the modules beside it is imported by
those who need it, so that reading keys stays light; reading signatures needs asn1crypto (the extra ``nuget``).
"""

from __future__ import annotations

from kedge.registries.nuget.document import AUTHOR, REPOSITORY, TIMESTAMP, NuGet

__all__ = ["AUTHOR", "REPOSITORY", "TIMESTAMP", "NuGet"]

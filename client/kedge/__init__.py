"""kedge: registry keys that their maintainers signed offline, by threshold, and that no mirror can replace.

::

    from kedge import TrustClient

    with TrustClient("sigstore") as client:                    # an anchor: built in, or added with `kedge anchor add`
        keys = client.registry_keys("registry.npmjs.org")      # refreshes; raises what is wrong, never returns less
        evidence = keys.verify(
            b"name@version:sha512-...",                        # the bytes that the registry signed
            keyid="SHA256:...",                                # as the registry's answer names it
            signature=b"...",
        )
        print(evidence.key.id, client.trust.valid_until)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kedge._version import __version__

if TYPE_CHECKING:
    from kedge.client import Anchor, TrustClient
    from kedge.errors import ExpiredError, FetchError, InputError, KedgeError, StoreError, VerificationError
    from kedge.registries import Evidence, KeySet, RegistryKey
    from kedge.transport import Mirror
    from kedge.tuf import Trust

__all__ = [
    "Anchor",
    "Evidence",
    "ExpiredError",
    "FetchError",
    "InputError",
    "KedgeError",
    "KeySet",
    "Mirror",
    "RegistryKey",
    "StoreError",
    "Trust",
    "TrustClient",
    "VerificationError",
    "__version__",
]

_HOME = {
    "Anchor": "kedge.client.anchor",
    "Evidence": "kedge.registries.keys",
    "KeySet": "kedge.registries.keys",
    "Mirror": "kedge.transport",
    "RegistryKey": "kedge.registries.keys",
    "Trust": "kedge.tuf.trust",
    "TrustClient": "kedge.client.client",
}


def __getattr__(name: str) -> Any:
    # Names are loaded when they are first used (PEP 562): `import kedge` alone costs next to nothing.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOME.get(name, "kedge.errors")), name)


def __dir__() -> list[str]:
    return __all__

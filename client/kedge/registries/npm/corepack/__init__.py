"""Corepack's ``packageManager``: what it names, the hash that Corepack would check, and who vouches for it.

What asks a registry for it stands in :mod:`kedge.registries.npm.corepack.mirror`, and is imported where it is needed.
"""

from __future__ import annotations

from kedge.registries.npm.corepack.manifest import read_package_manager, set_package_manager
from kedge.registries.npm.corepack.pin import Pin, Source, make_pin
from kedge.registries.npm.corepack.spec import Spec

__all__ = ["Pin", "Source", "Spec", "make_pin", "read_package_manager", "set_package_manager"]

"""A room's door: the names that other rooms use, each loaded from its module when it is first asked for (PEP 562).

``__init__.py`` of a room says which module holds which name; ``__init__.pyi`` beside it says the same to type checkers
and editors. So a command loads what it runs, and a reader sees in one place what a room offers.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module

__all__ = ["door"]


def door(
    package: str, modules: Mapping[str, Sequence[str]]
) -> tuple[list[str], Callable[[str], object], Callable[[], list[str]]]:
    """Give ``__all__``, ``__getattr__`` and ``__dir__`` of ``package``, whose ``modules`` hold the names."""
    homes = {name: module for module, names in modules.items() for name in names}
    exported = sorted(homes)

    def load(name: str) -> object:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(f"{package}.{homes[name]}"), name)
        setattr(sys.modules[package], name, value)  # found directly from now on
        return value

    return exported, load, lambda: exported

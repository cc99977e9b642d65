"""Entry points: how parts that are found by name are found, ours and those of other packages alike.

A name that two packages offer is refused: which code judges signatures is never a matter of import order. What cannot
be loaded is this machine's fault, and named with the package that brought it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kedge.errors import StoreError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["find_extension", "load_extension", "names_of_extensions"]

BREAKAGE: tuple[type[Exception], ...] = (ImportError, AttributeError)


def find_extension(group: str, name: str, *, what: str) -> EntryPoint | None:
    """Give the entry point ``name`` of ``group``, or None; ``what`` names the part in messages (``"the command"``).

    Raises:
        StoreError: two installed packages offer it.
    """
    from importlib.metadata import entry_points  # heavy, and not needed by every use of the library

    # By what it points to: one package that is found twice on the path counts once.
    offered = {entry.value: entry for entry in entry_points(group=group, name=name)}
    if len(offered) > 1:
        values = " and ".join(sorted(offered))
        raise StoreError(f"two installed packages offer {what} {name}: {values}", hint="uninstall one")
    return next(iter(offered.values()), None)


def names_of_extensions(group: str) -> list[str]:
    """The names that any installed package offers in ``group``, sorted."""
    from importlib.metadata import entry_points

    return sorted({entry.name for entry in entry_points(group=group)})


def load_extension(entry: EntryPoint, *, what: str, breakage: tuple[type[Exception], ...] = BREAKAGE) -> Any:
    """Import what an entry point names; ``breakage`` is what its import may end in.

    Raises:
        StoreError: it cannot be loaded.
    """
    try:
        return entry.load()
    except breakage as error:
        package = entry.dist.name if entry.dist else "an unknown package"
        fault = f"{type(error).__name__}: {error}"
        raise StoreError(f"{what} {entry.name} of {package} cannot be loaded: {fault}") from error

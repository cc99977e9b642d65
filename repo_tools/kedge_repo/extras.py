"""Optional parts of the installation: what is missing is one line with the command that installs it."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from kedge.errors import InputError

__all__ = ["load_extra"]


def load_extra(module: str, *, extra: str, what: str) -> Any:
    """Import ``module``, which the extra ``extra`` of kedge brings; ``what`` needs it.

    Raises:
        InputError: it is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise InputError(
            f"{what}: needs the Python package {module.partition('.')[0]}",
            hint=f"install it with: pip install 'kedge[{extra}]'",
        ) from error

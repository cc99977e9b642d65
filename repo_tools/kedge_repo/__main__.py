"""The command ``kedge-repo``: loads the command line, which needs the extra ``cli``, or says how to install it."""

from __future__ import annotations

import sys

from kedge._version import __version__
from kedge.errors import extra_hint

__all__ = ["main"]

_EXTRA = frozenset({"typer", "tomlkit"})


def main() -> int:
    """Run ``kedge-repo`` with this process's arguments; the result is the exit code."""
    if sys.argv[1:] == ["--version"]:  # asked by installers and scripts, before anything is loaded
        sys.stdout.write(f"kedge-repo {__version__}\n")
        return 0
    try:
        from kedge_repo._cli import run
    except ModuleNotFoundError as missing:
        if missing.name not in _EXTRA:
            raise
        sys.stderr.write(f"kedge-repo: the command line is not installed\nhint: {extra_hint('cli')}\n")
        return 2
    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())

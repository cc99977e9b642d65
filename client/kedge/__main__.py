"""The command ``kedge``. What it needs beyond the library comes with the extra ``cli`` and is imported late."""

from __future__ import annotations

import sys

from kedge._version import __version__
from kedge.errors import extra_hint

__all__ = ["main"]

_EXTRA = ("typer", "tomlkit")


def main() -> int:
    """Run the command line on this process's arguments, and return its exit status."""
    if sys.argv[1:] == ["--version"]:  # asked by installers and scripts, before anything is loaded
        sys.stdout.write(f"kedge {__version__}\n")
        return 0
    try:
        from kedge._cli import run

        return run(sys.argv[1:])
    except ModuleNotFoundError as error:
        if error.name not in _EXTRA:
            raise
        sys.stderr.write(f"kedge: the command line is not installed\nhint: {extra_hint('cli')}\n")
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())

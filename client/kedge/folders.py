"""Where kedge keeps things on this machine: configuration, and trust state.

Trust state is not a cache: deleting it would forget the floors. ``KEDGE_CONFIG_DIR`` and ``KEDGE_STATE_DIR`` say where,
else the platform's own places (XDG on Linux).
"""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["config_folder", "state_folder"]


def config_folder() -> Path:
    """The folder of the anchors that were added."""
    named = os.environ.get("KEDGE_CONFIG_DIR")
    if named:
        return Path(named)
    from platformdirs import user_config_path

    return user_config_path("kedge", appauthor=False)


def state_folder() -> Path:
    """The folder of the trust states, one folder an anchor below it."""
    named = os.environ.get("KEDGE_STATE_DIR")
    if named:
        return Path(named)
    from platformdirs import user_state_path

    return user_state_path("kedge", appauthor=False)

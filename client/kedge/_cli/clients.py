"""How the commands make a client: with the project's lock, if there is one."""

from __future__ import annotations

import sys
from datetime import datetime
from functools import cache
from pathlib import Path

from kedge._cli.mirrors import at_named_mirrors
from kedge._cli.options import settings
from kedge.anchor import Anchor
from kedge.client import TrustClient
from kedge.lockfile import Lock, find_lock, read_lock

__all__ = ["open_client", "project_lock"]


def open_client(anchor: Anchor, *, as_of: datetime | None = None, require_refresh: bool = False) -> TrustClient:
    """Make a client that keeps to the project's ``kedge.lock``, and to the mirrors that the command line names.

    Raises:
        InputError: the lock cannot be read, or a mirror cannot be used.
    """
    timeout_s = float(settings().timeout_s.value)
    anchor = at_named_mirrors(anchor)
    return TrustClient(anchor, as_of=as_of, timeout_s=timeout_s, require_refresh=require_refresh, lock=project_lock())


@cache
def project_lock() -> Lock | None:
    """Read the project's lock; say on stderr which ones are passed over.

    Raises:
        InputError: it cannot be read.
    """
    path, passed_over = find_lock(Path.cwd())
    for line in passed_over:
        sys.stderr.write(f"kedge: {line}\n")
    return read_lock(path) if path is not None else None

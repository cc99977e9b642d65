"""From a path to bytes: the only part of the client that reaches outside.

A transport answers a :class:`~kedge.steps.Fetch` with the file's bytes or with ``MISSING``, which means HTTP 404 or
403, or a file that is not there, and nothing else. It judges no content: it bounds what is read, in bytes and in time.
"""

from __future__ import annotations

from kedge.transport.opening import BUNDLE_SUFFIX, open_mirror, open_mirrors
from kedge.transport.source import Deadline, Mirror, ReadableMirror, Transport, is_loopback

__all__ = [
    "BUNDLE_SUFFIX",
    "Deadline",
    "Mirror",
    "ReadableMirror",
    "Transport",
    "is_loopback",
    "open_mirror",
    "open_mirrors",
]

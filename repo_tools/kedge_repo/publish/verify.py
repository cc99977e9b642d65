"""Reading back what is published, as a client does that knows the first root and nothing else.

Whatever stands before the files (a bucket's policy, a CDN, a web server) is part of what is read. It must show the
state that the workspace has, every target, each sampled bin; and it must answer 404 or 403 for a root that is not there
yet, or no client would ever get past that.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from kedge import workflow
from kedge.anchor import Anchor
from kedge.checks import Freshness
from kedge.client import TrustClient
from kedge.clock import Clock
from kedge.errors import KedgeError
from kedge.state import TrustedState
from kedge.transport import Mirror
from kedge.workflow import Workflow
from kedge_repo.publish.files import PublishedFiles

__all__ = ["ReadBack", "read_back"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadBack:
    """What a client came to at ``url``; ``faults`` are in words, and none where all is as it should be."""

    url: str
    root: int | None
    timestamp: int | None
    targets: int
    lookups: int
    faults: tuple[str, ...]


def read_back(files: PublishedFiles, url: str, *, clock: Clock | None = None) -> ReadBack:
    """Read ``files`` back from ``url``, which may be a folder.

    Raises:
        InputError: the URL cannot be used.
    """
    anchor = Anchor(name="published", initial_root=files.roots[0], mirrors=(Mirror(url=url),))
    faults: list[str] = []
    root = timestamp = None
    with (
        tempfile.TemporaryDirectory(prefix="kedge-verify-") as state,
        closing(TrustClient(anchor, state=Path(state), clock=clock, require_refresh=True)) as client,
    ):
        try:
            trust = client.refresh()
        except KedgeError as error:
            return ReadBack(url=url, root=None, timestamp=None, targets=0, lookups=0, faults=(error.message,))
        root, timestamp = trust.root.version, trust.timestamp.version
        if root != len(files.roots):
            faults.append(f"serves root version {root}, and the workspace has {len(files.roots)}")
        if timestamp != files.timestamp_version:
            faults.append(f"serves timestamp version {timestamp}, and the workspace has {files.timestamp_version}")
        faults += _missing_targets(client, files)
        samples = files.samples()
        faults += _missing_lookups(client, samples)
    return ReadBack(
        url=url,
        root=root,
        timestamp=timestamp,
        targets=len(files.targets),
        lookups=len(samples),
        faults=tuple(faults),
    )


def _missing_targets(client: TrustClient, files: PublishedFiles) -> Iterator[str]:
    for path in files.targets:
        try:
            client.target(path)
        except KedgeError as error:
            yield error.message


def _missing_lookups(client: TrustClient, paths: tuple[str, ...]) -> Iterator[str]:
    for path in paths:

        def steps(state: TrustedState, freshness: Freshness, path: str = path) -> Workflow[TrustedState]:
            found = yield from workflow.find(state, path, freshness)
            return found.state

        try:
            client.follow(steps)
        except KedgeError as error:
            yield error.message

"""The world outside: a repository that publishes and rotates, its server, and whoever makes bundles of it.

``python outside.py FOLDER SHARED``; one command a line on stdin, each answered with one JSON line:

    publish DAY [CHANGE]        the repository signs again, after a change: root, online-key, new-key, revoke
    bundle DAY NAME [SINCE]     a client fetches all of it over HTTP, and SHARED/NAME.kedge is made
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

from airgap.scene import BEGIN, KEYS, REGISTRY, key_document
from kedge.client.anchor import Anchor
from kedge.client.client import TrustClient
from kedge.client.settings import FixedClock
from kedge.client.store import Store
from kedge.mirror.bundle import make_bundle, read_receiver
from kedge.transport.mirror import Mirror
from kedge.transport.open import open_mirror
from support.server import HostileServer
from support.simulator import RepositorySimulator

folder, shared = (Path(argument) for argument in sys.argv[1:])
repo = RepositorySimulator(now=BEGIN, root=(2, 3))
repo.lifetimes.update(timestamp=timedelta(days=10), snapshot=timedelta(days=40), targets=timedelta(days=365))
repo.delegate(REGISTRY, paths=[f"{REGISTRY}/*"], keys=2, threshold=2)


def publish(day: int, change: str = "") -> dict[str, Any]:
    repo.now = BEGIN + timedelta(days=day)
    if day == 0:
        repo.add_target(KEYS, key_document("old"), role=REGISTRY)
    match change:
        case "root":
            repo.rotate("root", keys=3, threshold=2)
        case "online-key":
            repo.rotate("timestamp")
        case "new-key":
            repo.add_target(KEYS, key_document("old", "new"), role=REGISTRY)
        case "revoke":
            custom = {"kedge": {"v": 1, "revoked": ["old"]}}
            repo.add_target(KEYS, key_document("new"), role=REGISTRY, custom=custom)
    repo.publish()
    with repo.edit("timestamp") as timestamp:
        timestamp.unrecognized_fields["x-kedge-issued"] = repo.now.strftime("%Y-%m-%dT%H:%M:%SZ")
    (shared / "root.json").write_bytes(repo.initial_root)
    return {"timestamp": repo.timestamp.version, "root": repo.root.version}


def bundle(day: int, name: str, since: str = "") -> dict[str, Any]:
    anchor = Anchor(name="outside", initial_root=repo.initial_root, mirrors=(Mirror(url=server.url),))
    clock = FixedClock(BEGIN + timedelta(days=day))
    receiver = read_receiver(shared / f"{since}.kedge", Store(folder / "state")) if since else None
    with (
        closing(open_mirror(anchor.mirrors[0])) as transport,
        TrustClient(anchor, state=folder / "state", transport=transport, clock=clock, require_refresh=True) as client,
    ):
        client.refresh()
        data = make_bundle(client, [KEYS], receiver=receiver)
    (shared / f"{name}.kedge").write_bytes(data)
    return {"bytes": len(data), "url": server.url}


VERBS: dict[str, Callable[..., dict[str, Any]]] = {"publish": publish, "bundle": bundle}

with HostileServer(repo) as server:
    for line in sys.stdin:
        verb, day, *more = line.split()
        answer = VERBS[verb](int(day), *more)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()

"""The world inside: a verifier who sees bundles and nothing else.

``python inside.py FOLDER SHARED``; one command a line on stdin, each answered with one JSON line:

    apply DAY NAME...    take in SHARED/NAME.kedge
    keys DAY             which keys are trusted, from the state
    reach URL            whether the world outside can be reached
"""

from __future__ import annotations

import json
import socket
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from airgap.scene import BEGIN, REGISTRY
from kedge.client.anchor import Anchor
from kedge.client.client import TrustClient
from kedge.client.settings import FixedClock
from kedge.errors import KedgeError
from kedge.mirror.bundle import take_in
from kedge.transport.mirror import Mirror

folder, shared = (Path(argument) for argument in sys.argv[1:])


def anchor() -> Anchor:
    return Anchor(
        name="inside",
        initial_root=(shared / "root.json").read_bytes(),
        mirrors=(Mirror(url=str(folder / "no-mirror")),),
        registries=(REGISTRY,),
        max_staleness=timedelta(days=7),
        warn_after=timedelta(days=8),
        red_line=timedelta(days=16),
        keep_history=True,
    )


def apply(day: int, *names: str) -> dict[str, Any]:
    before = {path.name: path.read_bytes() for path in (folder / "state").glob("*.json*")}
    paths = [shared / f"{name}.kedge" for name in names]
    try:
        taken = take_in(
            paths, anchor(), keep=True, state=folder / "state", clock=FixedClock(BEGIN + timedelta(days=day))
        )
    except KedgeError as error:
        after = {path.name: path.read_bytes() for path in (folder / "state").glob("*.json*")}
        return {"code": int(error.exit_code), "error": str(error), "untouched": before == after}
    return {"code": 0, "root": taken.trust.root.version, "timestamp": taken.trust.timestamp.version}


def keys(day: int) -> dict[str, Any]:
    clock = FixedClock(BEGIN + timedelta(days=day))
    with TrustClient(anchor(), state=folder / "state", clock=clock) as client:
        try:
            found = client.registry_keys(REGISTRY)
        except KedgeError as error:
            return {"code": int(error.exit_code), "error": str(error)}
        trust = client.trust
    late = [text for text in trust.warnings if "new trust must arrive by" in text]
    age = trust.age.age.days if trust.age.age is not None else None
    return {"code": 0, "keys": [key.id for key in found.keys], "age": age, "stale": trust.stale, "late": bool(late)}


def reach(url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    try:
        socket.create_connection((parts.hostname, parts.port), timeout=20).close()
    except OSError as error:
        return {"reached": False, "error": str(error)}
    return {"reached": True}


for line in sys.stdin:
    verb, first, *more = line.split()
    answer = reach(first) if verb == "reach" else {"apply": apply, "keys": keys}[verb](int(first), *more)
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()

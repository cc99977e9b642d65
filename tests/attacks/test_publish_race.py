"""A25 and B6: the repository publishes, and others work on the same state, while a refresh is under way."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from kedge.errors import Reason
from kedge.transport.mirror import Deadline
from kedge.tuf.steps import Fetch, Limits, Missing
from support.world import World


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets", "root"])
@pytest.mark.parametrize("moment", ["metadata/timestamp.json", "snapshot.json", "targets.json"])
def test_a25_a_root_that_appears_during_a_refresh_does_not_hurt(world: World, moment: str, role: str) -> None:
    def publish(path: str) -> None:
        if path.endswith(moment) and world.repo.root.version == 1:
            world.repo.rotate(role, keys=3 if role == "root" else 1, threshold=2 if role == "root" else 1)

    world.mirror.before = publish
    world.refresh()
    assert world.keys() == b"the keys"
    assert world.refresh().root.version == 2


def test_a25_a_strictly_sequential_client_refuses_and_its_next_run_succeeds(world: World) -> None:
    def publish(path: str) -> None:
        if path == "metadata/timestamp.json" and world.repo.root.version == 1:
            world.repo.rotate("timestamp")

    world.mirror.before = publish
    world.refused("signed by 0 of the 1 keys", run=world.client(limits=Limits(root_window=0)).refresh)
    assert world.mirror.requests == ["metadata/2.root.json", "metadata/timestamp.json"]
    assert world.client(limits=Limits(root_window=0)).refresh().root.version == 2


def test_a25_the_root_is_asked_for_once_more_and_not_for_ever(world: World) -> None:
    stolen = world.repo.signers["timestamp"]
    world.repo.rotate("timestamp")
    world.repo.sign("timestamp", signers=stolen)
    world.refused("timestamp.json: signed by 0 of the 1 keys that root version 2", reason=Reason.SIGNATURES)
    # Once more, since it may have been asked ahead of the root that replaced its key.
    assert world.mirror.requests.count("metadata/timestamp.json") == 2
    assert world.mirror.requests.count("metadata/3.root.json") == 2
    world.repo.publish()
    assert world.keys() == b"the keys"


class Held:
    """A mirror that answers only once it is let go."""

    notices = ()

    def __init__(self, world: World) -> None:
        self.inner = world.mirror
        self.source = "held"
        self.waiting = threading.Event()
        self.go = threading.Event()

    def get(self, request: Fetch, deadline: Deadline) -> bytes | Missing:
        self.waiting.set()
        assert self.go.wait(30)
        return self.inner.get(request, deadline)

    def begin(self, requests: Sequence[Fetch], deadline: Deadline) -> None:
        """Nothing is asked ahead."""

    def close(self) -> None:
        pass


def test_b6_readers_and_other_writers_do_not_wait_for_a_refresh_that_waits_for_the_network(world: World) -> None:
    world.keys()
    held, results = Held(world), []
    thread = threading.Thread(target=lambda: results.append(world.client(held).refresh()))
    thread.start()
    assert held.waiting.wait(30)
    version = world.repo.timestamp.version
    assert world.client().status().timestamp.version == version
    world.tomorrow(hours=1)
    assert world.refresh().timestamp.version == version + 1
    assert world.client().status().timestamp.version == version + 1
    held.go.set()
    thread.join(30)
    assert results[0].timestamp.version == version + 1
    assert world.client().status().timestamp.version == version + 1


def test_b6_a_slow_refresh_does_not_take_back_what_a_quick_one_has_stored(world: World) -> None:
    """The slow one read everything before the repository published, and commits last."""
    world.refresh()
    gate, reached = threading.Event(), threading.Event()

    class Last(Held):
        def get(self, request: Fetch, deadline: Deadline) -> bytes | Missing:
            answer = self.inner.get(request, deadline)
            if request.path.endswith("targets.json"):
                reached.set()
                assert gate.wait(30)
            return answer

    with world.repo.edit("targets"):
        pass
    thread = threading.Thread(target=lambda: world.client(Last(world)).refresh())
    thread.start()
    assert reached.wait(30)
    with world.repo.edit("targets"):
        pass
    newest = world.refresh()
    gate.set()
    thread.join(30)
    status = world.client().status()
    assert status.timestamp == newest.timestamp
    assert status.targets == newest.targets
    assert world.floors()["timestamp"]["version"] == newest.timestamp.version

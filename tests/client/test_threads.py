"""Threads may share a client: each is answered from one whole set, and none sees another's half-done refresh."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.world import KEYS, World

THREADS = 8


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "state")


def test_threads_that_share_a_client_refresh_once_and_all_get_the_same(world: World) -> None:
    world.mirror.before = lambda _path: time.sleep(0.002)  # so that the threads do meet
    client = world.client()
    with ThreadPoolExecutor(THREADS) as pool:
        answers = list(pool.map(lambda _: client.target(KEYS).data, range(40)))
    assert set(answers) == {b"the keys"}
    assert world.mirror.requests.count("metadata/timestamp.json") == 1


def test_while_one_thread_refreshes_the_others_see_a_whole_state(world: World) -> None:
    client = world.client()
    client.refresh()
    stop, faults = threading.Event(), list[BaseException]()

    def look() -> None:
        while not stop.is_set():
            try:
                trust = client.trust
                assert trust.snapshot.version <= trust.timestamp.version
                assert client.target(KEYS).data == b"the keys"
            except BaseException as error:  # noqa: BLE001 told to the test below
                faults.append(error)
                return

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        world.repo.publish()
        client.refresh()
    stop.set()
    for thread in threads:
        thread.join()
    assert faults == []
    assert client.trust.timestamp.version == world.repo.timestamp.version

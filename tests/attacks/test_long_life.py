"""A29, B9 and B10: a client that lives for months, is forked, and finds its state unreadable."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from kedge.client.anchor import Anchor
from kedge.client.client import REFRESH_AFTER, RETRY_AFTER, TrustClient
from kedge.errors import FetchError, KedgeError, StoreError, VerificationError
from kedge.files import locked
from kedge.transport.mirror import Mirror
from support.server import HostileServer
from support.world import KEYS, World

PATIENCE_S = 30

# Row A29: what was revoked while a client lives


def revoke(world: World) -> None:
    """Let the registry have other keys, as if the old ones were stolen."""
    world.repo.now = world.clock.moment
    world.repo.add_target(KEYS, b"new keys", role="registry.example")
    world.repo.publish()


@pytest.mark.parametrize(
    ("options", "lasts"),
    [({}, REFRESH_AFTER), ({"refresh_after": timedelta(seconds=60)}, timedelta(seconds=60))],
    ids=["default", "a-minute"],
)
def test_a29_a_revoked_key_is_gone_after_the_time_that_the_policy_allows(
    world: World, options: dict[str, Any], lasts: timedelta
) -> None:
    world.repo.lifetimes["timestamp"] = timedelta(days=7)
    world.repo.publish()
    world.options = options
    client = world.client()
    assert client.target(KEYS).data == b"the keys"
    revoke(world)
    world.clock.advance(lasts - timedelta(seconds=1))
    assert client.target(KEYS).data == b"the keys"
    asked = len(world.mirror.requests)
    world.clock.advance(timedelta(seconds=1))
    assert client.target(KEYS).data == b"new keys"
    assert len(world.mirror.requests) > asked
    assert client.trust.refreshed
    assert client.trust.fetched == world.clock.moment


def test_a29_over_a_week_each_answer_is_as_young_as_the_policy_says(world: World) -> None:
    world.repo.lifetimes["timestamp"] = timedelta(days=7)
    world.repo.publish()
    client = world.client(refresh_after=timedelta(minutes=10))
    for hour in range(7 * 24):
        world.clock.advance(timedelta(hours=1))
        world.repo.now = world.clock.moment
        world.repo.add_target(KEYS, str(hour).encode(), role="registry.example")
        world.repo.publish()
        assert client.target(KEYS).data == str(hour).encode()
        assert client.trust.fetched == client.trust.reference_time == world.clock.moment


def test_a29_the_policy_is_an_hour_at_most_where_nobody_says_otherwise() -> None:
    assert timedelta(0) < REFRESH_AFTER <= timedelta(hours=1)


def test_a29_a_clock_that_is_set_back_again_and_again_keeps_nothing_alive(world: World) -> None:
    client = world.client()
    assert client.target(KEYS).data == b"the keys"
    revoke(world)
    world.clock.advance(-timedelta(minutes=1))
    assert client.target(KEYS).data == b"new keys"


def test_a29_a_clock_that_stands_still_keeps_nothing_alive(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    client = world.client()
    assert client.target(KEYS).data == b"the keys"
    revoke(world)
    assert client.target(KEYS).data == b"the keys"
    later = time.monotonic() + REFRESH_AFTER.total_seconds()
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert client.target(KEYS).data == b"new keys"


def test_a29_where_the_repository_is_away_it_is_asked_again_soon_and_the_answer_says_so(world: World) -> None:
    client = world.client()
    assert client.target(KEYS).data == b"the keys"
    revoke(world)

    def away(path: str) -> None:
        raise FetchError(f"{path}: cannot connect")

    world.mirror.before = away
    world.clock.advance(REFRESH_AFTER)
    assert client.target(KEYS).data == b"the keys"
    assert not client.trust.refreshed
    assert any(text.startswith("not refreshed: ") and "cannot connect" in text for text in client.trust.warnings)
    world.mirror.before = lambda _path: None
    world.clock.advance(RETRY_AFTER - timedelta(seconds=1))
    assert not client.trust.refreshed
    world.clock.advance(timedelta(seconds=1))
    assert client.target(KEYS).data == b"new keys"
    assert client.trust.refreshed
    assert client.trust.warnings == ()


def test_a29_what_a_refused_refresh_leaves_is_no_answer(world: World) -> None:
    """A refusal never falls back, neither at once nor at the next question."""
    client = world.client()
    assert client.target(KEYS).data == b"the keys"
    world.clock.advance(REFRESH_AFTER)
    with world.repo.lying():
        world.repo.replace("metadata/timestamp.json", b"{}")
        for _ in range(2):
            with pytest.raises(VerificationError):
                client.target(KEYS)
            with pytest.raises(VerificationError):
                _ = client.trust
    assert client.target(KEYS).data == b"the keys"


# Row B9: forks and threads


def ends(process: multiprocessing.process.BaseProcess) -> int | None:
    """Its exit code; None where it hangs."""
    process.join(PATIENCE_S)
    code = process.exitcode
    if code is None:
        process.kill()
        process.join()
    return code


def served(world: World, server: HostileServer, **options: Any) -> TrustClient:
    """A client over real HTTP, with its own transport."""
    anchor = Anchor(name="test", initial_root=world.repo.initial_root, mirrors=(Mirror(url=server.url),), **options)
    return TrustClient(anchor, state=world.folder, clock=world.clock, timeout_s=20)


def answers_in_child(client: TrustClient, world: World) -> int | None:
    """Ask in a process that was forked: for what is stored, and for what the network has."""

    def ask() -> None:
        right = client.target(KEYS).data == b"the keys"
        world.clock.advance(REFRESH_AFTER)
        right = right and client.refresh().refreshed and client.target(KEYS).data == b"the keys"
        os._exit(0 if right else 3)

    # Python 3.12 warns of what is tested here.
    context = multiprocessing.get_context("fork")
    process = context.Process(target=ask)
    process.start()
    return ends(process)


pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_b9_a_child_answers_that_was_forked_after_use(world: World) -> None:
    with HostileServer(world.repo) as server, served(world, server) as client:
        assert client.target(KEYS).data == b"the keys"
        assert answers_in_child(client, world) == 0
        world.clock.advance(REFRESH_AFTER)
        assert client.refresh().refreshed  # the parent's connections are as they were


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_b9_a_child_answers_that_was_forked_while_another_thread_was_inside(world: World) -> None:
    with HostileServer(world.repo) as server, served(world, server) as client:
        assert client.target(KEYS).data == b"the keys"
        inside, go_on = threading.Event(), threading.Event()

        def hold(exchange: Any) -> None:
            inside.set()
            go_on.wait(PATIENCE_S)
            exchange.send_honestly()

        server.misbehave("metadata/timestamp.json", hold, once=True)
        refreshing = threading.Thread(target=client.refresh)
        refreshing.start()
        try:
            assert inside.wait(PATIENCE_S)
            assert answers_in_child(client, world) == 0
        finally:
            go_on.set()
            refreshing.join()
        assert client.target(KEYS).data == b"the keys"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_b9_workers_forked_from_one_preloaded_client_answer_side_by_side(world: World) -> None:
    """As gunicorn does with ``preload_app``: the application is loaded once, and forked for each worker."""
    with HostileServer(world.repo) as server, served(world, server) as client:
        assert client.target(KEYS).data == b"the keys"

        def work() -> None:
            for _ in range(5):
                if not client.refresh().refreshed or client.target(KEYS).data != b"the keys":
                    os._exit(3)
            os._exit(0)

        context = multiprocessing.get_context("fork")
        workers = [context.Process(target=work) for _ in range(4)]
        for worker in workers:
            worker.start()
        assert [ends(worker) for worker in workers] == [0, 0, 0, 0]
        assert client.refresh().refreshed


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_b9_a_child_does_not_keep_the_lock_that_another_thread_of_its_parent_held(tmp_path: Path) -> None:
    go_on, child = threading.Event(), multiprocessing.get_context("fork").Process(target=time.sleep, args=(PATIENCE_S,))
    taken = threading.Event()

    def hold() -> None:
        with locked(tmp_path / "lock", timeout_s=5):
            taken.set()
            go_on.wait(PATIENCE_S)

    thread = threading.Thread(target=hold)
    thread.start()
    assert taken.wait(PATIENCE_S)
    child.start()
    try:
        go_on.set()
        thread.join()
        with locked(tmp_path / "lock", timeout_s=5):
            pass
    finally:
        child.kill()
        child.join()


def test_b9_one_slow_download_keeps_no_other_thread_from_what_is_verified(world: World) -> None:
    world.repo.add_target("registry.example/large", b"large", role="registry.example")
    world.repo.publish()
    started, go_on = threading.Event(), threading.Event()
    client = world.client()
    assert client.target(KEYS).data == b"the keys"

    def slow(path: str) -> None:
        if path.endswith("large"):
            started.set()
            go_on.wait(PATIENCE_S)

    world.mirror.before = slow
    got: list[bytes] = []
    downloading = threading.Thread(target=lambda: got.append(client.target("registry.example/large").data))
    downloading.start()
    try:
        assert started.wait(PATIENCE_S)
        answers: list[object] = []
        asking = threading.Thread(target=lambda: answers.extend([client.target(KEYS).data, client.trust.refreshed]))
        asking.start()
        asking.join(PATIENCE_S / 2)
        assert answers == [b"the keys", True]
        assert got == []
    finally:
        go_on.set()
        downloading.join()
    assert got == [b"large"]


def test_b9_while_one_thread_refreshes_the_others_have_the_former_answer_while_it_is_young(world: World) -> None:
    started, go_on = threading.Event(), threading.Event()
    client = world.client()
    assert client.target(KEYS).data == b"the keys"

    def slow(path: str) -> None:
        if path.endswith("timestamp.json"):
            started.set()
            go_on.wait(PATIENCE_S)

    world.mirror.before = slow
    refreshing = threading.Thread(target=client.refresh)
    refreshing.start()
    try:
        assert started.wait(PATIENCE_S)
        answers: list[object] = []
        asking = threading.Thread(target=lambda: answers.append(client.target(KEYS).data))
        asking.start()
        asking.join(PATIENCE_S / 2)
        assert answers == [b"the keys"]
    finally:
        go_on.set()
        refreshing.join()


# Row B10: a state that is there and cannot be read

RECORDS = ("state.json", "state.json.prev", "floors.json")


def zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def another_version(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'/1"', b'/9"'))


@pytest.mark.parametrize("spoil", [zeros, folder, another_version])
def test_b10_a_state_that_cannot_be_read_is_an_error_and_no_fresh_start(
    world: World, spoil: Callable[[Path], None]
) -> None:
    old = world.repo.save()
    world.tomorrow(hours=1)
    world.keys()
    world.tomorrow(hours=1)
    world.keys()
    saved = world.folder.parent / "saved"
    shutil.copytree(world.folder, saved)
    for name in RECORDS:
        spoil(world.folder / name)
    kept = sorted(path.name for path in world.folder.iterdir())
    for run in (world.keys, world.refresh, world.client().status):
        error = world.refused("is stored there and cannot be read", "state.json", kind=StoreError, run=run)
        assert "remove the folder" in error.hint
    assert sorted(path.name for path in world.folder.iterdir()) == kept
    # What the error keeps from happening: a mirror that is rolled back is refused, once the state is there again.
    shutil.rmtree(world.folder)
    shutil.copytree(saved, world.folder)
    with world.repo.lying():
        world.repo.restore(old)
        world.refused("rollback")
    assert world.keys() == b"the keys"


def test_b10_the_way_out_is_the_one_that_the_hint_names(world: World) -> None:
    world.keys()
    for name in RECORDS:
        if (world.folder / name).exists():
            zeros(world.folder / name)
    world.refused("cannot be read", kind=StoreError)
    shutil.rmtree(world.folder)
    assert world.keys() == b"the keys"


@contextmanager
def another_user() -> Iterator[None]:
    """Another user than the one who wrote the state, where we can be one."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_b10_a_state_of_another_user_is_an_error(world: World) -> None:
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        world.folder = Path(place) / "state"
        world.keys()
        world.folder.chmod(0o755)
        for name in RECORDS:
            if (world.folder / name).exists():
                (world.folder / name).chmod(0o600 if os.geteuid() == 0 else 0)
        with another_user():
            world.refused("state.json permission denied", kind=StoreError)
        world.folder.chmod(0o700 if os.geteuid() == 0 else 0)
        with another_user(), pytest.raises(KedgeError, match="permission denied"):
            world.keys()
        world.folder.chmod(0o700)
        for name in RECORDS:
            if (world.folder / name).exists():
                (world.folder / name).chmod(0o600)
        assert world.keys() == b"the keys"


def test_b10_a_log_that_was_seen_and_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    from kedge.client.keylog.require import stored_log_files
    from kedge.client.store import Store

    assert stored_log_files(Store(tmp_path)) == {}
    (tmp_path / "log.json").write_bytes(bytes(100))
    with pytest.raises(StoreError, match=r"log\.json: cannot be read: "):
        stored_log_files(Store(tmp_path))
    (tmp_path / "log.json").unlink()
    (tmp_path / "log.json").mkdir()
    with pytest.raises(StoreError, match=r"log\.json: cannot be read: "):
        stored_log_files(Store(tmp_path))

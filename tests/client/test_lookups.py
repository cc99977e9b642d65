"""Many look-ups at once: the answers of one look-up at a time, and every role and file asked for once."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from kedge.client.anchor import Anchor
from kedge.client.client import TrustClient
from kedge.errors import Reason, VerificationError
from kedge.transport.mirror import Mirror
from kedge.tuf.trust import Target
from kedge.tuf.walk import get_all
from support.clock import SettableClock
from support.simulator import RepositorySimulator
from support.world import NOW, MemoryTransport


@pytest.fixture
def repo() -> RepositorySimulator:
    """Targets of its own, and two roles that share a path, in an order of trust."""
    made = RepositorySimulator(now=NOW)
    made.add_target("top.json", b"top")
    made.delegate("first", paths=["both/*"])
    made.delegate("second", paths=["both/*", "second/*"])
    made.add_target("both/a.json", b"first's", role="first")
    made.add_target("both/a.json", b"second's", role="second")
    made.add_target("both/b.json", b"b", role="second")
    made.add_target("second/c.json", b"c", role="second")
    made.publish()
    return made


@pytest.fixture
def binned() -> RepositorySimulator:
    """Forty targets in eight hash bins."""
    made = RepositorySimulator(now=NOW)
    made.delegate_bins(bit_length=3)
    for number in range(40):
        path = f"packages/p{number}.json"
        made.add_target(path, f"content {number}".encode(), role=made.bin_of(path))
    made.publish()
    return made


def client_of(repo: RepositorySimulator, folder: Path) -> tuple[TrustClient, MemoryTransport]:
    transport = MemoryTransport(repo)
    anchor = Anchor(name="repo", initial_root=repo.initial_root, mirrors=(Mirror(url="https://repo.example"),))
    return TrustClient(anchor, state=folder, transport=transport, clock=SettableClock(NOW)), transport


def alone(client: TrustClient, path: str) -> Target | None:
    try:
        return client.target(path)
    except VerificationError as error:
        if error.refusal.reason is not Reason.NOT_FOUND:
            raise
        return None


def test_the_answers_are_those_of_one_look_up_at_a_time(repo: RepositorySimulator, tmp_path: Path) -> None:
    paths = ["top.json", "both/a.json", "both/b.json", "both/none.json", "second/c.json", "nowhere/x.json"]
    one, _ = client_of(repo, tmp_path / "one")
    many, _ = client_of(repo, tmp_path / "many")
    expected = {path: found for path in paths if (found := alone(one, path)) is not None}
    assert get_all(many.follow, paths) == expected
    assert set(expected) == {"top.json", "both/a.json", "both/b.json", "second/c.json"}
    assert expected["both/a.json"].data == b"first's"


def test_each_bin_and_each_file_is_asked_for_once(binned: RepositorySimulator, tmp_path: Path) -> None:
    client, transport = client_of(binned, tmp_path)
    paths = [f"packages/p{number}.json" for number in range(40)]
    got = get_all(client.follow, [*paths, *paths])
    assert {path: target.data for path, target in got.items()} == {
        path: f"content {number}".encode() for number, path in enumerate(paths)
    }
    assert len(transport.requests) == len(set(transport.requests))
    assert sum("bins-" in path for path in transport.requests) == 8


def test_what_was_got_is_kept_and_answers_without_a_question(binned: RepositorySimulator, tmp_path: Path) -> None:
    paths = [f"packages/p{number}.json" for number in range(40)]
    first = get_all(client_of(binned, tmp_path)[0].follow, paths)
    again, transport = client_of(binned, tmp_path)
    assert get_all(again.follow, paths) == first
    assert [path for path in transport.requests if "bins" in path or "packages" in path] == []


def test_one_bin_that_changed_is_the_only_one_that_is_asked_for(binned: RepositorySimulator, tmp_path: Path) -> None:
    paths = [f"packages/p{number}.json" for number in range(40)]
    get_all(client_of(binned, tmp_path)[0].follow, paths)
    changed = binned.bin_of(paths[0])
    binned.add_target(paths[0], b"other", role=changed)
    binned.publish()
    client, transport = client_of(binned, tmp_path)
    assert get_all(client.follow, paths)[paths[0]].data == b"other"
    assert len([path for path in transport.requests if "bins-" in path]) == 1


def test_a_bin_or_a_file_that_was_changed_refuses_all_and_is_not_kept(
    binned: RepositorySimulator, tmp_path: Path
) -> None:
    path = "packages/p7.json"
    place = binned.path_of_target(path, b"content 7")
    honest = binned.files[place]
    binned.files[place] = b"evil    7"
    client, _ = client_of(binned, tmp_path)
    with pytest.raises(VerificationError) as caught:
        get_all(client.follow, [path])
    assert caught.value.refusal.reason is Reason.CONTENT
    assert not [blob for blob in (tmp_path / "blobs").iterdir() if blob.read_bytes() == b"evil    7"]
    binned.files[place] = honest
    assert get_all(partial(client.follow, timeout_s=5), [path])[path].data == honest

"""A client of a repository with very many hash bins: look-ups are written down, but not each by itself."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from kedge.client.anchor import Anchor
from kedge.client.client import TrustClient
from kedge.client.settings import FixedClock
from kedge.transport.mirror import Mirror
from support.server import HostileServer
from support.simulator import RepositorySimulator

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
PATHS = [f"p{number}" for number in range(12)]


@pytest.fixture(scope="module")
def repo() -> RepositorySimulator:
    made = RepositorySimulator(now=NOW)
    made.delegate_bins(bit_length=10)
    for path in PATHS:
        made.add_target(path, path.encode(), role=made.bin_of(path))
    made.publish()
    return made


def downloads(server: HostileServer) -> list[str]:
    return [request.path for request in server.requests if ".bins-" in request.path]


def test_a_bin_is_downloaded_once_by_one_client_and_by_the_next(repo: RepositorySimulator, tmp_path: Path) -> None:
    with HostileServer(repo) as server:
        anchor = Anchor(name="example", initial_root=repo.initial_root, mirrors=(Mirror(url=server.url),))
        bins = {repo.bin_of(path) for path in PATHS}
        for _ in range(2):
            with TrustClient(anchor, state=tmp_path / "state", clock=FixedClock(NOW)) as client:
                for path in [*PATHS, *PATHS]:
                    assert client.target(path).data == path.encode()
        assert len(downloads(server)) == len(bins)


def test_look_ups_among_many_bins_do_not_each_write_the_state(repo: RepositorySimulator, tmp_path: Path) -> None:
    with HostileServer(repo) as server:
        anchor = Anchor(name="example", initial_root=repo.initial_root, mirrors=(Mirror(url=server.url),))
        state = tmp_path / "state"
        with TrustClient(anchor, state=state, clock=FixedClock(NOW)) as client:
            client.target(PATHS[0])
            before = (state / "state.json").read_bytes()
            for path in PATHS[1:]:
                client.target(path)
            assert (state / "state.json").read_bytes() == before
        assert (state / "state.json").read_bytes() != before


def test_a_client_that_is_never_closed_loses_no_floor(repo: RepositorySimulator, tmp_path: Path) -> None:
    with HostileServer(repo) as server:
        anchor = Anchor(name="example", initial_root=repo.initial_root, mirrors=(Mirror(url=server.url),))
        client = TrustClient(anchor, state=tmp_path / "state", clock=FixedClock(NOW))
        for path in PATHS:
            client.target(path)
        with TrustClient(anchor, state=tmp_path / "state", clock=FixedClock(NOW)) as other:
            assert other.status().snapshot.version == client.trust.snapshot.version
        client.close()

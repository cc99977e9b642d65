"""One world for each test: a repository that has published, and an empty state folder."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.register_assert_rewrite("support.world", "support.driver")

from support.world import World  # noqa: E402 rewritten asserts show their values


@pytest.fixture
def world(tmp_path: Path) -> World:
    """With lengths and digests of everything in timestamp and snapshot."""
    return World(tmp_path / "state")


@pytest.fixture
def terse_world(tmp_path: Path) -> World:
    """Timestamp and snapshot name versions only, as TUF allows."""
    return World(tmp_path / "state", meta_hashes=False)

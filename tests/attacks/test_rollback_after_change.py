"""A2, A5: floors that stand after a refresh was cut short, and after some of the online keys were replaced.

A root that replaces the timestamp's or the snapshot's keys voids the floors that those keys vouched for (TUF 1.0.34
§5.3.11). It must void no others: each floor that is dropped is a door for old metadata.
"""

from __future__ import annotations

import pytest

from kedge.errors import FetchError, Reason
from support.simulator import new_signers
from support.world import World

TIMESTAMP = "metadata/timestamp.json"


@pytest.mark.parametrize("again", [False, True], ids=["at-once", "after-another-run"])
def test_a2_a_timestamp_counts_from_the_moment_it_is_accepted(world: World, again: bool) -> None:
    """On a machine without a past the snapshot that it names was not there: nobody vouches for its version yet."""
    old = world.repo.save()
    world.repo.publish()
    with world.repo.lying():
        world.repo.replace(world.repo.path_of("snapshot"), None)
        world.refused("3.snapshot.json: is not there", kind=FetchError)
        if again:
            world.refused("3.snapshot.json: is not there", kind=FetchError)
    with world.repo.lying():
        world.repo.restore(old)
        world.refused("rollback of timestamp to version 2; version 3", file=TIMESTAMP, reason=Reason.ROLLBACK)
    assert world.keys() == b"the keys"


@pytest.mark.parametrize("replaced", [0, 1], ids=["the-first", "the-second"])
@pytest.mark.parametrize("role", ["timestamp", "snapshot"])
def test_a2_a_root_that_replaces_one_of_two_keys_voids_no_floor(world: World, role: str, replaced: int) -> None:
    """Both keys vouched for what was accepted, so one of them still does, whichever goes."""
    world.repo.signers[role] = new_signers(2)
    for signer in world.repo.signers[role]:
        world.repo.root.add_key(signer.public_key, role)
    publish_root(world)
    old = world.repo.save()
    world.repo.publish()
    assert world.keys() == b"the keys"
    floor = world.repo.snapshot.version
    gone = world.repo.signers[role].pop(replaced)
    world.repo.root.revoke_key(gone.public_key.keyid, role)
    publish_root(world)
    with world.repo.lying():
        for path in (TIMESTAMP, *(path for path in world.repo.files if path.endswith("snapshot.json"))):
            if path in old.files:
                world.repo.replace(path, old.files[path])
        world.refused("rollback of timestamp", file=TIMESTAMP, reason=Reason.ROLLBACK)
        with world.repo.edit("timestamp") as timestamp:
            timestamp.version += 5
            timestamp.snapshot_meta = old.payloads["timestamp"].snapshot_meta  # type: ignore[attr-defined]  # it is one
        world.refused(
            f"rollback of snapshot to version {floor - 1}; version {floor}", file=TIMESTAMP, reason=Reason.ROLLBACK
        )
    world.repo.publish()
    assert world.keys() == b"the keys"


def publish_root(world: World) -> None:
    """Sign the root as it stands, and whatever its online roles have to sign again."""
    with world.repo.edit("root"):
        pass
    world.repo.publish()

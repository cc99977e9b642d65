"""A1 to A9: the repository, or a key of it, or the mirror lies about the metadata.

Every refusal has its control: the attack undone, the same state folder gives the keys.
"""

from __future__ import annotations

from datetime import timedelta

import pytest
from securesystemslib.signer import CryptoSigner, SSlibKey

from kedge.errors import ExpiredError, FetchError, Reason
from kedge.tuf.steps import Limits
from support.simulator import new_signers
from support.world import KEYS, NOW, World

FOREVER = 2**31


@pytest.fixture(params=["cold", "warm"])
def any_world(request: pytest.FixtureRequest, world: World) -> World:
    """A client's first run, and a run on what an earlier one has kept."""
    if request.param == "warm":
        world.refresh()
    return world


# Row A1: wrong bytes under a right name


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"THE KEYS", "expected sha256"),
        (b"the", "expected 8 bytes, found 3"),
        (b"", "expected 8 bytes, found 0"),
    ],
)
def test_a1_other_bytes_under_the_name_of_a_target_are_refused(any_world: World, data: bytes, text: str) -> None:
    world, path = any_world, any_world.repo.path_of_target(KEYS, b"the keys")
    with world.repo.lying():
        world.repo.replace(path, data)
        world.refused(KEYS, text, file=path, reason=Reason.CONTENT)
    assert world.keys() == b"the keys"


def test_a1_a_target_that_is_too_long_is_refused(any_world: World) -> None:
    world, path = any_world, any_world.repo.path_of_target(KEYS, b"the keys")
    with world.repo.lying():
        world.repo.replace(path, b"the keys and more")
        world.refused(path, "is longer than the 8 bytes", file=path, reason=Reason.TOO_LARGE)
    assert world.keys() == b"the keys"


def test_a1_another_targets_bytes_are_refused(world: World) -> None:
    world.repo.add_target("other", b"8 bytes!")
    world.repo.publish()
    path = world.repo.path_of_target(KEYS, b"the keys")
    with world.repo.lying():
        world.repo.replace(path, b"8 bytes!")
        world.refused(KEYS, "sha256", reason=Reason.CONTENT)
    assert world.keys() == b"the keys"


# Row A2: rollback


def test_a2_a_rolled_back_timestamp_is_refused_and_not_kept(world: World) -> None:
    old = world.repo.save()
    world.tomorrow(hours=1)
    world.refresh()
    with world.repo.lying():
        world.repo.restore(old)
        world.refused(
            "timestamp.json: rollback of timestamp to version 2; version 3 was accepted before",
            file="metadata/timestamp.json",
            reason=Reason.ROLLBACK,
        )
    assert world.keys() == b"the keys"


def test_a2_a_timestamp_that_names_an_older_snapshot_is_refused(world: World) -> None:
    world.repo.publish()
    world.refresh()
    with world.repo.edit("timestamp") as timestamp:
        timestamp.snapshot_meta.version -= 1
    world.refused(
        "rollback of snapshot to version 2; version 3", file="metadata/timestamp.json", reason=Reason.ROLLBACK
    )
    world.repo.publish()
    assert world.keys() == b"the keys"


@pytest.mark.parametrize("role", ["targets", "registry.example"])
def test_a2_a_role_that_is_rolled_back_inside_the_snapshot_is_refused(any_world: World, role: str) -> None:
    world, old = any_world, any_world.repo.targets(role).version
    with world.repo.edit(role):
        pass
    world.refresh()
    with world.repo.edit("snapshot") as snapshot:
        snapshot.meta[f"{role}.json"].version = old
    world.refused(
        f"rollback of {role} to version {old}; version {old + 1} was accepted before",
        file=world.repo.path_of("snapshot"),
        reason=Reason.ROLLBACK,
    )
    world.repo.publish()
    assert world.keys() == b"the keys"


def test_a2_a_delegated_role_of_an_old_version_is_refused(terse_world: World) -> None:
    world = terse_world
    world.keys()
    with world.repo.edit("registry.example"):
        pass
    new, old = world.repo.path_of("registry.example"), world.repo.path_of("registry.example", 1)
    with world.repo.lying():
        world.repo.replace(new, world.repo.files[old])
        world.refused("2.registry.example.json: is version 1, expected version 2", reason=Reason.VERSION)
    assert world.keys() == b"the keys"


def test_a2_a_role_that_vanishes_from_the_snapshot_is_refused(world: World) -> None:
    world.refresh()
    with world.repo.edit("snapshot") as snapshot:
        del snapshot.meta["registry.example.json"]
    world.refused("no longer lists the role registry.example, version 1", reason=Reason.ROLLBACK)
    world.repo.publish()
    assert world.keys() == b"the keys"


def test_a2_a_rollback_of_everything_to_the_first_day_is_refused(world: World) -> None:
    first = world.repo.save()
    world.repo.rotate("root", keys=3, threshold=2)
    world.tomorrow()
    world.refresh()
    with world.repo.lying():
        world.repo.restore(first)
        world.refused("rollback", "version 2", "version 3", file="metadata/timestamp.json", reason=Reason.ROLLBACK)
    assert world.keys() == b"the keys"


# Row A3: freeze


def test_a3_frozen_metadata_is_refused_once_it_has_expired_with_its_date_and_age(any_world: World) -> None:
    world = any_world
    world.clock.advance(world.repo.lifetimes["timestamp"] * 3)
    error = world.refused("timestamp.json", "2026-01-02T00:00:00Z", "2 days", kind=ExpiredError, reason=Reason.EXPIRED)
    assert error.refusal.role == "timestamp"
    world.repo.now = world.clock.moment
    world.repo.publish()
    assert world.keys() == b"the keys"


@pytest.mark.parametrize("role", ["root", "snapshot", "targets", "registry.example"])
def test_a3_each_role_has_its_own_end(world: World, role: str) -> None:
    with world.repo.edit(role) as payload:
        payload.expires = NOW + timedelta(hours=1)
    assert world.keys() == b"the keys"
    world.clock.advance(timedelta(hours=3))
    error = world.refused(role, "2026-01-01T01:00:00Z", "2 hours", kind=ExpiredError)
    assert error.refusal.role == role
    with world.repo.edit(role):
        pass
    assert world.keys() == b"the keys"


# Row A4: mix and match


@pytest.mark.parametrize("names_digests", [True, False])
def test_a4_a_snapshot_of_another_day_is_refused(world: World, terse_world: World, names_digests: bool) -> None:
    world = world if names_digests else terse_world
    world.repo.publish()
    with world.repo.lying():
        world.repo.replace("metadata/3.snapshot.json", world.repo.files["metadata/2.snapshot.json"])
        world.refused("3.snapshot.json: ", reason=Reason.CONTENT if names_digests else Reason.VERSION)
        assert world.floors()["timestamp"]["version"] == 3
    assert world.keys() == b"the keys"


@pytest.mark.parametrize("role", ["targets", "registry.example"])
def test_a4_two_files_of_one_version_are_not_exchanged(world: World, role: str) -> None:
    """The same version was signed twice, with other content: only the one that the snapshot names counts."""
    with world.repo.lying():
        with world.repo.edit(role) as payload:
            payload.unrecognized_fields["x-branch"] = "theirs"
        other = world.repo.files[world.repo.path_of(role)]
    with world.repo.edit(role) as payload:
        payload.unrecognized_fields["x-branch"] = "honest"
    with world.repo.lying():
        world.repo.replace(world.repo.path_of(role), other)
        world.refused(f"{role}.json: ", "expected sha256", file=world.repo.path_of(role), reason=Reason.CONTENT)
    assert world.keys() == b"the keys"


# Row A5: fast-forward


def test_a5_a_stolen_timestamp_key_locks_nobody_out_after_the_root_has_replaced_it(world: World) -> None:
    world.refresh()
    with world.repo.lying():
        with world.repo.edit("timestamp") as timestamp:
            timestamp.version = FOREVER
        world.refresh()
    world.tomorrow(hours=1)
    world.refused(f"version {FOREVER} was accepted before", file="metadata/timestamp.json", reason=Reason.ROLLBACK)
    world.repo.rotate("timestamp")
    assert world.keys() == b"the keys"
    assert world.floors()["timestamp"]["version"] < FOREVER
    assert world.refresh().timestamp.version == world.repo.timestamp.version


def test_a5_stolen_online_keys_that_name_absurd_versions_of_roles_lock_nobody_out(world: World) -> None:
    world.keys()
    with world.repo.lying():
        with world.repo.edit("snapshot") as snapshot:
            snapshot.version = FOREVER
            for entry in snapshot.meta.values():
                entry.version = FOREVER
        world.refused(f"{FOREVER}.targets.json: is not there", kind=FetchError)
    world.tomorrow(hours=1)
    world.tomorrow(hours=1)
    world.refused("rollback", str(FOREVER), reason=Reason.ROLLBACK)
    world.repo.rotate("snapshot", republish=False)
    world.repo.rotate("timestamp")
    world.repo.publish()
    assert world.keys() == b"the keys"


def test_a5_the_old_key_is_not_heard_again_after_the_recovery(world: World) -> None:
    stolen = world.repo.signers["timestamp"]
    world.refresh()
    world.repo.rotate("timestamp")
    world.refresh()
    with world.repo.lying():
        with world.repo.edit("timestamp"):
            pass
        world.repo.sign("timestamp", signers=stolen)
        world.refused("signed by 0 of the 1 keys", file="metadata/timestamp.json", reason=Reason.SIGNATURES)
    assert world.keys() == b"the keys"


# Row A6: a root below a threshold


@pytest.mark.parametrize(("old", "new", "named"), [(1, 3, "root version 1"), (3, 1, "root version 2"), (0, 3, "root")])
def test_a6_a_root_below_the_old_or_the_new_threshold_is_refused(
    any_world: World, old: int, new: int, named: str
) -> None:
    world, former = any_world, any_world.repo.signers["root"]
    with world.repo.lying():
        world.repo.rotate("root", keys=3, threshold=2)
        world.repo.sign("root", signers=[*former[:old], *world.repo.signers["root"][:new]])
        world.refused(
            f"2.root.json: signed by {min(old, new)} of the 2 keys that {named}",
            file="metadata/2.root.json",
            reason=Reason.SIGNATURES,
        )
    world.repo.rotate("root", keys=3, threshold=2)
    assert world.refresh().root.version == 2


def test_a6_a_root_that_skips_a_version_is_refused(any_world: World) -> None:
    world = any_world
    with world.repo.lying():
        with world.repo.edit("root") as root:
            root.version = 3
        world.repo.replace("metadata/2.root.json", world.repo.files["metadata/3.root.json"])
        world.refused("2.root.json: is version 3, expected version 2", reason=Reason.VERSION)
    assert world.keys() == b"the keys"


# Row A7: thresholds that are none


def test_a7_a_threshold_of_zero_is_refused(any_world: World) -> None:
    world = any_world
    with world.repo.lying():
        with world.repo.edit("root") as root:
            root.roles["timestamp"].threshold = 0
        world.repo.sign("timestamp", signers=new_signers())
        world.refused(
            "2.root.json: signed.roles.timestamp.threshold: must be at least 1, not 0",
            file="metadata/2.root.json",
            reason=Reason.MALFORMED,
        )
    assert world.keys() == b"the keys"


def test_a7_a_delegation_with_a_threshold_of_zero_is_refused(world: World) -> None:
    with world.repo.edit("targets") as targets:
        targets.delegations.roles["registry.example"].threshold = 0
    world.refused("signed.delegations.roles[0].threshold: must be at least 1", file=world.repo.path_of("targets"))
    with world.repo.edit("targets") as targets:
        targets.delegations.roles["registry.example"].threshold = 2
    assert world.keys() == b"the keys"


def test_a7_one_keys_material_under_two_keyids_counts_once(world: World) -> None:
    signer = world.repo.signers["timestamp"][0]
    assert isinstance(signer, CryptoSigner)
    key = signer.public_key
    twin = SSlibKey("0" * 64, key.keytype, key.scheme, dict(key.keyval))
    with world.repo.edit("root") as root:
        root.add_key(twin, "timestamp")
        root.roles["timestamp"].threshold = 2
    again = CryptoSigner(signer._private_key, twin)
    with world.repo.edit("timestamp"):
        pass
    world.repo.sign("timestamp", signers=[signer, again])
    world.refused("signed by 1 of the 2 keys", file="metadata/timestamp.json", reason=Reason.SIGNATURES)
    world.repo.rotate("timestamp", keys=2, threshold=2)
    assert world.keys() == b"the keys"


def test_a7_a_keyid_twice_among_the_signatures_is_refused(world: World) -> None:
    world.repo.rotate("timestamp", keys=2, threshold=2)
    with world.repo.lying():
        world.repo.sign("timestamp", signers=world.repo.signers["timestamp"][:1])
        with world.repo.tamper("metadata/timestamp.json") as document:
            document["signatures"] *= 2
        world.refused(
            "timestamp.json: signatures[1].keyid: ",
            "stands among the signatures twice",
            file="metadata/timestamp.json",
            reason=Reason.MALFORMED,
        )
    assert world.keys() == b"the keys"


def test_a7_a_keyid_twice_in_a_role_is_refused(world: World) -> None:
    with world.repo.lying():
        with world.repo.edit("root") as root:
            root.roles["timestamp"].keyids *= 2
            root.roles["timestamp"].threshold = 2
        world.refused("2.root.json: signed.roles.timestamp.keyids: lists a keyid twice", reason=Reason.MALFORMED)
    assert world.keys() == b"the keys"


def test_a7_empty_and_unknown_signatures_count_nothing_and_hinder_nothing(world: World) -> None:
    world.repo.sign("timestamp", signers=[*new_signers(2), *world.repo.signers["timestamp"]])
    with world.repo.tamper("metadata/timestamp.json") as document:
        document["signatures"].append({"keyid": "someone", "sig": ""})
    assert world.keys() == b"the keys"
    with world.repo.lying():
        with world.repo.edit("timestamp"):
            pass
        with world.repo.tamper("metadata/timestamp.json") as document:
            document["signatures"][0]["sig"] = ""
        world.refused("signed by 0 of the 1 keys", reason=Reason.SIGNATURES)
    assert world.keys() == b"the keys"


# Row A8: more roots than the limit


def test_a8_a_revoked_key_is_not_heard_behind_more_roots_than_peers_read(world: World) -> None:
    """python-tuf stops silently at 256 roots, and then believes the key that root 260 has revoked."""
    stolen = world.repo.signers["timestamp"]
    for version in range(2, 301):
        if version == 260:
            world.repo.rotate("timestamp")
        else:
            with world.repo.edit("root"):
                pass
    with world.repo.lying():
        world.repo.sign("timestamp", signers=stolen)
        world.refused("signed by 0 of the 1 keys that root version 300", reason=Reason.SIGNATURES)
    assert world.refresh().root.version == 300


def test_a8_at_the_limit_there_is_an_error_and_never_an_answer(world: World) -> None:
    stolen = world.repo.signers["timestamp"]
    world.refresh()
    for _ in range(5):
        with world.repo.edit("root"):
            pass
    world.repo.rotate("timestamp")
    limits = Limits(root_rotations=5)
    with world.repo.lying():
        with world.repo.edit("timestamp"):
            pass
        world.repo.sign("timestamp", signers=stolen)  # root 6 would believe it
        world.refused(
            "7.root.json: more than 5 new roots in one refresh",
            file="metadata/timestamp.json",
            reason=Reason.LIMIT,
            run=lambda: world.client(limits=limits).refresh(),
        )
    assert world.client(limits=limits).refresh().root.version == 7


def test_a8_the_limit_is_not_reached_by_what_is_held(world: World) -> None:
    assert Limits().root_rotations == 1_024
    for _ in range(12):
        with world.repo.edit("root"):
            pass
        world.client(limits=Limits(root_rotations=1)).refresh()
    assert world.refresh().root.version == 13


# Row A9: delegations


def test_a9_a_delegated_role_is_not_heard_outside_its_paths(any_world: World) -> None:
    world = any_world
    world.repo.add_target("other.example/keys.json", b"stolen", role="registry.example")
    world.repo.publish()
    world.refused(
        "other.example/keys.json: no role that may speak for it lists this target",
        reason=Reason.NOT_FOUND,
        run=lambda: world.client().target("other.example/keys.json"),
    )
    assert not world.holds(b"stolen")
    assert world.keys() == b"the keys"


def test_a9_in_a_diamond_the_first_path_of_trust_counts(world: World) -> None:
    world.repo.delegate("left", paths=["shared/*"], terminating=True)
    world.repo.delegate("right", paths=["shared/*"])
    world.repo.delegate("bottom", paths=["shared/left-*"], parent="left")
    world.repo.delegate("bottom", paths=["shared/*"], parent="right")
    world.repo.add_target("shared/left-keys", b"left", role="bottom")
    world.repo.add_target("shared/right-keys", b"right", role="bottom")
    world.repo.publish()
    assert world.client().target("shared/left-keys").data == b"left"
    world.refused(
        "shared/right-keys: no role", reason=Reason.NOT_FOUND, run=lambda: world.client().target("shared/right-keys")
    )


def test_a9_a_role_in_a_diamond_needs_the_keys_of_the_delegator_that_leads_to_it(world: World) -> None:
    world.repo.delegate("left", paths=["shared/*"])
    world.repo.delegate("bottom", paths=["shared/*"], parent="left")
    world.repo.add_target("shared/keys", b"ours", role="bottom")
    world.repo.publish()
    assert world.client().target("shared/keys").data == b"ours"
    theirs = world.repo.signers["bottom"]
    world.repo.signers["bottom"] = new_signers()
    world.repo.delegate("bottom", paths=["shared/*"], parent="left")
    with world.repo.edit("left"):
        pass
    world.repo.signers["bottom"] = theirs
    with world.repo.edit("bottom"):
        pass
    world.refused(
        "2.bottom.json: signed by 0 of the 1 keys that targets version 2 asks for",
        file=world.repo.path_of("bottom"),
        reason=Reason.SIGNATURES,
        run=lambda: world.client().target("shared/keys"),
    )


def test_a9_a_held_role_that_is_no_longer_delegated_is_not_heard(world: World) -> None:
    assert world.keys() == b"the keys"
    with world.repo.edit("targets") as targets:
        delegations, targets.delegations = targets.delegations, None
    world.refused(f"{KEYS}: no role that may speak for it", reason=Reason.NOT_FOUND)
    with world.repo.edit("targets") as targets:
        targets.delegations = delegations
    assert world.keys() == b"the keys"


def test_a9_a_held_role_is_checked_again_with_the_keys_of_todays_delegator(world: World) -> None:
    assert world.keys() == b"the keys"
    world.repo.signers["registry.example"] = new_signers(3)
    world.repo.delegate("registry.example", paths=["registry.example/*"], threshold=2)
    with world.repo.edit("targets"):
        pass
    world.refused("1.registry.example.json: signed by 0 of the 2 keys", reason=Reason.SIGNATURES)
    with world.repo.edit("registry.example"):
        pass
    assert world.keys() == b"the keys"


def test_a9_in_one_run_a_role_that_one_delegator_trusts_is_not_believed_for_another(world: World) -> None:
    world.repo.delegate("left", paths=["shared/left"])
    world.repo.delegate("right", paths=["shared/right"])
    world.repo.delegate("bottom", paths=["shared/*"], parent="left")
    stolen = world.repo.signers["bottom"]
    world.repo.signers["bottom"] = new_signers()
    world.repo.delegate("bottom", paths=["shared/*"], parent="right")
    world.repo.signers["bottom"] = [*stolen, *world.repo.signers["bottom"]]
    world.repo.add_target("shared/left", b"left", role="bottom")
    world.repo.add_target("shared/right", b"right", role="bottom")
    world.repo.publish()
    client = world.client()
    with world.repo.lying():
        world.repo.signers["bottom"] = stolen
        with world.repo.edit("bottom"):
            pass
        assert client.target("shared/left").data == b"left"
        world.refused(
            "2.bottom.json: signed by 0 of the 1 keys",
            reason=Reason.SIGNATURES,
            run=lambda: client.target("shared/right"),
        )
    for _ in range(2):
        with world.repo.edit("bottom"):
            pass
    assert world.client().target("shared/right").data == b"right"

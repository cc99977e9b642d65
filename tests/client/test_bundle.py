"""Bundles: what they carry, that they are the same wherever they are made, and that they are mirrors like any other."""

from __future__ import annotations

import hashlib
import re
import zlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from kedge.client.anchor import Anchor
from kedge.client.client import TrustClient
from kedge.client.settings import FixedClock
from kedge.client.store import Store
from kedge.errors import InputError, StoreError
from kedge.mirror.bundle import default_targets, make_bundle, read_receiver, take_in
from kedge.transport.bundle_format import DICTIONARY, Carried, pack, read_manifest, unpack
from kedge.transport.mirror import Mirror
from kedge.tuf.walk import every_role, every_target
from support.gap import Gap
from support.world import KEYS, World

REPOSITORY = Path(__file__).resolve().parents[2]
TODAY = datetime(2026, 8, 22, tzinfo=UTC)


@pytest.fixture
def gap(tmp_path: Path) -> Gap:
    return Gap(tmp_path, World(tmp_path / "outside"))


def test_a_whole_bundle_carries_the_whole_chain_and_what_is_trusted_now(gap: Gap) -> None:
    gap.world.repo.rotate("root", keys=3, threshold=2)
    bundle = unpack(gap.bundle().read_bytes())
    repo, carried = gap.world.repo, bundle.carried
    assert carried.roots == {version: repo.files[f"metadata/{version}.root.json"] for version in (1, 2)}
    assert carried.timestamp == repo.files["metadata/timestamp.json"]
    assert carried.snapshot == repo.files[repo.path_of("snapshot")]
    assert carried.roles == {name: repo.files[repo.path_of(name)] for name in ("targets", "registry.example")}
    assert carried.targets == {KEYS: b"the keys"}
    assert bundle.manifest.summary.valid_until == repo.timestamp.expires
    assert len(bundle.manifest.summary.signed_by["root"]) == 3


def test_a_bundle_is_the_same_wherever_it_is_made(gap: Gap, tmp_path: Path) -> None:
    first = gap.bundle().read_bytes()
    other = Gap(tmp_path / "other", gap.world)
    other.folder.mkdir()
    gap.world.folder = tmp_path / "another machine's state"
    gap.world.clock.advance(timedelta(hours=3))
    assert other.bundle().read_bytes() == first


def test_the_payload_and_its_digest_do_not_depend_on_what_deflate_makes_of_it(gap: Gap) -> None:
    data = gap.bundle().read_bytes()
    bundle = unpack(data)
    _, _, rest = data.partition(b"\n")
    payload = zlib.decompressobj(-15, zdict=DICTIONARY).decompress(rest)
    again = zlib.compressobj(1, zlib.DEFLATED, -15, zdict=DICTIONARY)
    other = again.compress(payload) + again.flush()
    assert other != rest
    line = data.partition(b"\n")[0].replace(b'"deflated_bytes":%d' % len(rest), b'"deflated_bytes":%d' % len(other))
    read = unpack(line + b"\n" + other)
    assert (read.carried, read.manifest.sha256) == (bundle.carried, bundle.manifest.sha256)


def test_the_dictionary_is_the_one_that_is_written_down() -> None:
    reference = (REPOSITORY / "docs/reference/formats.md").read_text()
    assert f"sha256 `{hashlib.sha256(DICTIONARY).hexdigest()}`" in reference
    assert re.search(r"\(([\d,]+) bytes, sha256", reference)[1] == f"{len(DICTIONARY):,}"  # type: ignore[index] # or it fails


def test_a_bundle_is_a_mirror_like_any_other(gap: Gap, tmp_path: Path) -> None:
    bundle = gap.bundle()
    for number, url in enumerate((str(bundle), bundle.as_uri())):
        anchor = gap.world.anchor()
        at_bundle = Anchor(name="test", initial_root=anchor.initial_root, mirrors=(Mirror(url=url),))
        with TrustClient(at_bundle, state=tmp_path / f"state {number}", clock=gap.world.clock) as client:
            assert client.target(KEYS).data == b"the keys"
            assert client.trust.source == str(bundle)


def test_a_delta_is_a_mirror_for_whoever_holds_its_baseline(gap: Gap) -> None:
    first = gap.bundle()
    gap.take_in(first)
    gap.world.tomorrow(hours=1)
    delta = gap.bundle(since=first)
    anchor = Anchor(name="test", initial_root=gap.world.repo.initial_root, mirrors=(Mirror(url=str(delta)),))
    with TrustClient(anchor, state=gap.inside, clock=gap.world.clock) as client:
        assert client.refresh().timestamp.version == gap.world.repo.timestamp.version
        assert client.target(KEYS).data == b"the keys"


def test_a_delta_carries_what_is_new_and_nothing_else(gap: Gap) -> None:
    first = gap.bundle()
    gap.take_in(first)
    gap.world.repo.add_target(KEYS, b"other keys", role="registry.example")
    gap.world.tomorrow(hours=1)
    second = gap.bundle(since=first)
    manifest = read_manifest(second.read_bytes(), file="second")
    assert manifest.first_root is None
    assert manifest.carried_roles == ("registry.example", "snapshot", "timestamp")
    assert manifest.carried_targets == (KEYS,)
    gap.take_in(second)
    third = gap.bundle(since=second)
    manifest = read_manifest(third.read_bytes(), file="third")
    assert (manifest.first_root, manifest.carried_roles, manifest.carried_targets) == (None, ("timestamp",), ())
    assert manifest.deflated_bytes < 40, "it is deflated against itself"
    gap.take_in(third)


def test_a_delta_may_follow_the_state_of_its_receiver(gap: Gap) -> None:
    gap.take_in(gap.bundle())
    gap.world.repo.rotate("root", keys=3, threshold=2)
    gap.world.tomorrow(hours=1)
    delta = gap.bundle(since=gap.inside)
    manifest = read_manifest(delta.read_bytes(), file="delta")
    assert (manifest.first_root, manifest.carried_roles) == (2, ("snapshot", "timestamp"))
    assert gap.take_in(delta).trust.root.version == 2


def test_a_folder_that_is_no_state_cannot_be_followed(gap: Gap, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"state\.json: cannot be read"):
        read_receiver(tmp_path / "empty", Store(gap.world.folder))
    gap.take_in(gap.bundle())
    (gap.inside / "state.json").write_text("{}")
    with pytest.raises(InputError, match=r"state\.json: format: is missing"):
        read_receiver(gap.inside, Store(gap.world.folder))


def test_a_delta_of_a_baseline_whose_files_are_gone_here_is_still_made(gap: Gap, tmp_path: Path) -> None:
    first = gap.bundle()
    gap.take_in(first)
    gap.world.repo.add_target(KEYS, b"other keys", role="registry.example")
    gap.world.tomorrow(hours=1)
    gap.world.folder = tmp_path / "a new machine outside"
    gap.take_in(gap.bundle(since=first))


def test_a_receiver_whose_anchor_is_younger_than_the_chain_takes_it_in(gap: Gap) -> None:
    for _ in range(2):
        gap.world.repo.rotate("root", keys=3, threshold=2)
    bundle = gap.bundle()
    root = gap.world.repo.files["metadata/2.root.json"]
    anchor = Anchor(name="test", initial_root=root, mirrors=(Mirror(url="https://mirror.invalid"),))
    taken = take_in([bundle], anchor, keep=True, state=gap.inside, clock=gap.world.clock)
    assert taken.trust.root.version == 3


def test_what_other_parts_put_in_comes_out_again(gap: Gap) -> None:
    extra = {"tlog/checkpoint": b"example 1", "tlog/proofs/a": b""}
    bundle = gap.bundle(extra=extra)
    assert gap.take_in(bundle).extra == extra
    assert sorted(read_manifest(bundle.read_bytes(), file="bundle").extra) == sorted(extra)


def test_every_target_is_found_through_delegations_and_bins(gap: Gap) -> None:
    repo = gap.world.repo
    repo.delegate("other.example", paths=["other.example/*"], parent="targets")
    repo.delegate("inner", paths=["other.example/in.json"], parent="other.example")
    repo.add_target("other.example/in.json", b"1", role="inner")
    repo.add_target("registry.example/not-its-own.json", b"2", role="other.example")
    repo.add_target("top.json", b"3")
    gap.world.tomorrow(hours=1)
    with gap.world.client() as client:
        state = client.follow(every_role)
        found = {(listed.role, listed.target.path) for listed in every_target(state)}
    assert found == {("registry.example", KEYS), ("inner", "other.example/in.json"), ("targets", "top.json")}
    bundle = gap.bundle(KEYS, "other.example/in.json", "top.json")
    assert gap.take_in(bundle).manifest.summary.roles["inner"] == 1


def test_every_target_in_hash_bins_is_found(tmp_path: Path) -> None:
    world = World(tmp_path / "state")
    world.repo.delegate_bins(bit_length=3)
    paths = {f"file-{number}" for number in range(20)}
    for path in paths:
        world.repo.add_target(path, path.encode(), role=world.repo.bin_of(path))
    wrong = next(name for name in ("bins-0", "bins-7") if name != world.repo.bin_of("elsewhere"))
    world.repo.add_target("elsewhere", b"", role=wrong)
    world.tomorrow(hours=1)
    with world.client() as client:
        assert {listed.target.path for listed in every_target(client.follow(every_role))} == paths


def test_an_anchor_without_registries_says_that_something_must_be_named(gap: Gap) -> None:
    with pytest.raises(InputError, match="names no registry"):
        default_targets(gap.world.anchor())
    assert default_targets(gap.world.anchor(registries=("registry.example",))) == (KEYS,)


def test_a_file_too_large_for_a_bundle_is_said(gap: Gap, monkeypatch: pytest.MonkeyPatch) -> None:
    summary = unpack(gap.bundle().read_bytes()).manifest.summary
    monkeypatch.setattr("kedge.transport.bundle_format.MAX_PAYLOAD_BYTES", 100)
    with pytest.raises(StoreError, match="more than the 100 that one bundle holds"):
        pack(Carried(timestamp=bytes(101)), summary)


def test_sigstores_repository_is_carried_in_less_than_fourteen_and_a_half_kilobytes(
    shared_vectors: Path, tmp_path: Path
) -> None:
    source = shared_vectors / "sigstore-repo"
    root = (source / "metadata" / "5.root.json").read_bytes()
    anchor = Anchor(name="sigstore", initial_root=root, mirrors=(Mirror(url=str(source)),))
    file = tmp_path / "sigstore.kedge"
    targets = ["registry.npmjs.org/keys.json", "trusted_root.json"]
    with TrustClient(anchor, state=tmp_path / "outside", clock=FixedClock(TODAY)) as client:
        file.write_bytes(make_bundle(client, targets))
    assert file.stat().st_size <= 14_500
    taken = take_in([file], anchor, keep=True, state=tmp_path / "inside", clock=FixedClock(TODAY))
    assert taken.trust.root.version == 15
    assert taken.manifest.first_root == 5

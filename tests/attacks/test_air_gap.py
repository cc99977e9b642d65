"""G: what a courier may bring. Every refusal is one line and leaves the state as it was, to the byte."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from kedge.errors import ExpiredError, KedgeError, Reason, StoreError, VerificationError
from kedge.mirror.bundle import TakenIn
from kedge.transport.bundle_format import DICTIONARY, Carried, pack, unpack
from support.gap import Gap
from support.world import KEYS, World


@pytest.fixture
def gap(tmp_path: Path, world: World) -> Gap:
    return Gap(tmp_path, world)


def split(bundle: Path) -> tuple[dict[str, Any], bytes]:
    """The document of the first line, and what follows it."""
    line, _, rest = bundle.read_bytes().partition(b"\n")
    return json.loads(line), rest


def joined(document: dict[str, Any], rest: bytes) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode() + b"\n" + rest


def deflated(payload: bytes, level: int = 9) -> bytes:
    compressor = zlib.compressobj(level, zlib.DEFLATED, -15, zdict=DICTIONARY)
    return compressor.compress(payload) + compressor.flush()


def payload_of(bundle: Path) -> bytes:
    return zlib.decompressobj(-15, zdict=DICTIONARY).decompress(split(bundle)[1])


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: data[:0],
    "only its first line": lambda data: data.partition(b"\n")[0] + b"\n",
    "its first line without an end": lambda data: data.partition(b"\n")[0],
    "cut off by a byte": lambda data: data[:-1],
    "cut in half": lambda data: data[: len(data) // 2],
    "padded with a byte": lambda data: data + b"\0",
    "padded with itself": lambda data: data + data,
    "compressed once more": gzip.compress,
    "its line ends changed": lambda data: data.replace(b"\n", b"\r\n"),
    "a byte order mark before it": lambda data: b"\xef\xbb\xbf" + data,
    "a page of HTML": lambda data: b"<html>\n" + data,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_g1_a_bundle_that_is_not_whole_is_refused(gap: Gap, damage: Callable[[bytes], bytes]) -> None:
    bundle = gap.bundle()
    gap.refused(gap.spoilt(damage(bundle.read_bytes())), reason=Reason.MALFORMED)
    gap.take_in(gap.spoilt(bundle.read_bytes()))


@pytest.mark.parametrize(
    "again",
    [
        lambda payload: deflated(payload, 1),
        zlib.compress,
        gzip.compress,
        lambda payload: payload,
    ],
    ids=["deflate", "zlib", "gzip", "stored"],
)
def test_g1_a_bundle_that_was_compressed_again_is_refused(gap: Gap, again: Callable[[bytes], bytes]) -> None:
    bundle = gap.bundle()
    document, rest = split(bundle)
    changed = again(payload_of(bundle))
    assert changed != rest
    gap.refused(gap.spoilt(joined(document, changed)), "compressed again")
    gap.take_in(bundle)


def test_g1_a_bomb_is_not_unpacked_beyond_what_it_states(gap: Gap) -> None:
    bundle = gap.bundle()
    document, rest = split(bundle)
    bomb = deflated(payload_of(bundle) + bytes(50_000_000))
    assert len(bomb) < 60_000
    gap.refused(gap.spoilt(joined({**document, "deflated_bytes": len(bomb)}, bomb)), "another length")
    gap.take_in(gap.spoilt(joined(document, rest)))


@pytest.mark.parametrize("field", ["payload_bytes", "deflated_bytes"])
def test_g1_a_bundle_that_states_more_than_the_limit_is_refused(gap: Gap, field: str) -> None:
    document, rest = split(gap.bundle())
    gap.refused(gap.spoilt(joined({**document, field: 10**12}, rest)), "must be at most", reason=Reason.MALFORMED)


def test_g2_a_delta_without_its_baseline_is_refused(gap: Gap) -> None:
    first = gap.bundle()
    gap.world.tomorrow(hours=1)
    delta = gap.bundle(since=first)
    error = gap.refused(delta, "holds only what changed since the bundle", reason=Reason.BASELINE)
    assert json.loads(first.read_bytes().partition(b"\n")[0])["sha256"] in str(error)
    gap.take_in(first)
    assert gap.take_in(delta).trust.timestamp.version == gap.world.repo.timestamp.version


def test_g2_a_delta_on_another_baseline_than_the_one_held_is_refused(gap: Gap) -> None:
    first = gap.bundle()
    gap.world.tomorrow(hours=1)
    second = gap.bundle(since=first)
    gap.world.tomorrow(hours=1)
    third = gap.bundle(since=second)
    gap.take_in(first)
    gap.refused(third, "holds only what changed since the bundle", reason=Reason.BASELINE)
    gap.take_in(second)
    gap.take_in(third)


def test_g2_a_delta_stands_on_a_bundle_that_came_too_late_where_both_are_named(gap: Gap) -> None:
    gap.take_in(gap.bundle())
    gap.world.tomorrow(hours=1)
    late = gap.bundle()
    gap.world.tomorrow()
    delta = gap.bundle(since=late)
    gap.refused(late, "expired on", kind=ExpiredError)
    gap.refused(delta, reason=Reason.BASELINE)
    assert gap.take_in(late, delta).trust.timestamp.version == gap.world.repo.timestamp.version


def test_g2_a_delta_that_lacks_a_root_in_between_is_refused(gap: Gap) -> None:
    first = gap.bundle()
    gap.take_in(first)
    gap.world.repo.rotate("timestamp")
    second = gap.bundle(since=first)
    gap.world.repo.rotate("timestamp")
    third = gap.bundle(since=second)
    gap.refused(third)
    gap.take_in(second)
    gap.take_in(third)


def test_g3_a_bundle_of_another_repository_is_refused(gap: Gap, tmp_path: Path) -> None:
    other = Gap(tmp_path / "other", World(tmp_path / "other" / "state"))
    gap.refused(other.bundle(), "is of another repository", reason=Reason.ANCHOR)
    gap.take_in(gap.bundle())


def test_g3_a_delta_of_another_repository_is_refused(gap: Gap, tmp_path: Path) -> None:
    other = Gap(tmp_path / "other", World(tmp_path / "other" / "state"))
    first = other.bundle()
    other.world.tomorrow(hours=1)
    gap.take_in(gap.bundle())
    gap.refused(other.bundle(since=first), reason=Reason.BASELINE)


def test_g4_a_bundle_that_expired_on_the_way_is_refused(gap: Gap) -> None:
    bundle = gap.bundle()
    gap.world.clock.advance(timedelta(days=2))
    gap.refused(bundle, "timestamp version", "expired on", kind=ExpiredError)
    gap.inside_options = {"max_staleness": timedelta(days=7)}
    assert gap.take_in(bundle).trust.stale


def test_g5_a_bundle_older_than_the_last_is_refused(gap: Gap) -> None:
    old = gap.bundle()
    gap.world.tomorrow(hours=1)
    new = gap.bundle()
    gap.take_in(new)
    gap.refused(old, "rollback of timestamp", reason=Reason.ROLLBACK)
    gap.take_in(new)


def test_g5_an_older_bundle_is_refused_by_the_floors_alone(gap: Gap) -> None:
    old = gap.bundle()
    gap.world.tomorrow(hours=1)
    gap.take_in(gap.bundle())
    for name in ("state.json", "state.json.prev"):
        (gap.inside / name).unlink(missing_ok=True)
    gap.refused(old, "rollback of timestamp", reason=Reason.ROLLBACK)


def test_g6_every_single_bit_flip_of_a_bundle_is_refused_or_harmless(gap: Gap, record_property: Any) -> None:
    bundle = gap.bundle()
    data = bundle.read_bytes()
    right = gap.take_in(bundle, keep=False)
    harmless = 0
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            unpack(bytes(flipped))
            taken = gap.take_in(gap.spoilt(bytes(flipped)), keep=False)
        except VerificationError:
            continue
        harmless += 1
        assert same_trust(taken, right)
    record_property("figure", f"{8 * len(data)} bits, {harmless} harmless")
    # The name of the tool that made it is in nobody's signature: every flip there that is still a text.
    assert 0 < harmless <= 8 * len(right.manifest.tool)


def same_trust(one: TakenIn, other: TakenIn) -> bool:
    return one.manifest.summary == other.manifest.summary and one.trust.timestamp == other.trust.timestamp


LIES: dict[str, Callable[[dict[str, Any]], object]] = {
    "a later end": lambda line: line.update(valid_until="2031-01-01T00:00:00Z"),
    "a higher version": lambda line: line["roles"].update(timestamp=99),
    "a role that is not there": lambda line: line["roles"].update(other=1),
    "another signer": lambda line: line["signed_by"].update(root=["00000000"]),
    "no signer": lambda line: line.update(signed_by={}),
    "more roots": lambda line: line["roles"].update(root=2),
    "an earlier first root": lambda line: line.update(first_root=2),
    "a target that is not there": lambda line: line["targets"].update({"z": "0" * 64}),
    "something else that is not there": lambda line: line.update(extra={"x": "0" * 64}),
    "another digest of a target": lambda line: line["targets"].update({KEYS: "0" * 64}),
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
def test_g7_a_first_line_that_says_what_is_not_so_is_refused(gap: Gap, lie: Callable[[dict[str, Any]], object]) -> None:
    bundle = gap.bundle()
    document, rest = split(bundle)
    lie(document)
    gap.refused(gap.spoilt(joined(document, rest)))
    gap.take_in(bundle)


def test_g7_a_bundle_with_a_file_that_nobody_signed_is_refused(gap: Gap) -> None:
    bundle = unpack(gap.bundle().read_bytes())
    carried = bundle.carried
    for change in (
        {"roles": {**carried.roles, "targets": carried.roles["targets"] + b" "}},
        {"timestamp": carried.roles["targets"]},
        {"targets": {KEYS: b"other keys"}},
    ):
        gap.refused(gap.spoilt(pack(Carried(**{**fields(carried), **change}), bundle.manifest.summary)))
    gap.take_in(gap.spoilt(pack(carried, bundle.manifest.summary)))


def fields(carried: Carried) -> dict[str, Any]:
    return {name: getattr(carried, name) for name in ("roots", "timestamp", "snapshot", "roles", "targets", "extra")}


def test_g8_a_disk_that_refuses_keeps_nothing(gap: Gap) -> None:
    gap.take_in(gap.bundle())
    gap.world.tomorrow(hours=1)
    bundle = gap.bundle()
    (gap.inside / "blobs").rename(gap.inside / "elsewhere")
    (gap.inside / "blobs").symlink_to("elsewhere")
    before = gap.files()
    with pytest.raises(KedgeError) as caught:
        gap.take_in(bundle)
    assert type(caught.value) is StoreError
    assert gap.files() == before

"""Packuments: the quick look and the whole reading agree on honest ones, and neither trusts any."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kedge.documents import DocumentError
from kedge.registries.npm.packument import Served, WrongPackageError, glance, read
from support.packages import PackageRegistry, SigningKey

KEY = SigningKey("SHA256:own")


def packument(**changes: Any) -> dict[str, Any]:
    npm = PackageRegistry()
    npm.publish("@s/a", "1.0.0", keys=[KEY], published="2024-01-02T03:04:05.678Z")
    npm.publish("@s/a", "1.0.0-rc.1", keys=[KEY])
    return {**npm.packuments["@s/a"], **changes}


@pytest.mark.parametrize("indent", [None, 2, 20])
@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": "), ("\n,", "\t:\r\n ")])
def test_both_ways_to_read_a_packument_agree(indent: int | None, separators: tuple[str, str]) -> None:
    data = json.dumps(packument(), indent=indent, separators=separators).encode()
    for version in ("1.0.0", "1.0.0-rc.1"):
        found = glance(data, "@s/a", version)
        assert found == read(data, "@s/a", [version])[version]
        assert isinstance(found, Served)
        assert len(found.signatures) == 1
    found = glance(data, "@s/a", "1.0.0")
    assert found is not None
    assert found.published == datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_a_version_that_is_not_served_is_none() -> None:
    data = json.dumps(packument()).encode()
    assert read(data, "@s/a", ["2.0.0"]) == {"2.0.0": None}
    assert glance(data, "@s/a", "2.0.0") is None


def test_a_version_named_in_other_places_does_not_confuse_the_quick_look() -> None:
    document = packument()
    decoys = {
        "readme": 'see "1.0.0": {"dist": 1}',
        "dist-tags": {"1.0.0": "1.0.0"},
        "dependencies": {"1.0.0": {"name": "@s/a"}},
        "users": {"1.0.0": True},
    }
    data = json.dumps({**decoys, **document}).encode()
    found = glance(data, "@s/a", "1.0.0")
    assert found is not None
    assert found.signatures


def test_the_quick_look_gives_up_on_what_is_too_long_for_it() -> None:
    document = packument()
    document["versions"]["1.0.0"]["readme"] = "x" * 100_000
    document["versions"]["1.0.0"]["dist"] = document["versions"]["1.0.0"].pop("dist")
    data = json.dumps(document).encode()
    assert glance(data, "@s/a", "1.0.0") is None
    assert isinstance(read(data, "@s/a", ["1.0.0"])["1.0.0"], Served)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "is not JSON"),
        (b"\xff", "is not UTF-8"),
        (b"<!doctype html><title>Log in</title>", "is a page of HTML"),
        (b"[]", "is no JSON object"),
        (b'"x"', "is no JSON object"),
        (b'{"name": "@s/a"}', "versions: is missing"),
        (b'{"name": "@s/a", "versions": []}', "versions: is missing"),
        (b'{"error": "not found"}', "is not a text, asked for was @s/a"),
        (b'{"name": "x", "versions": {}}', "is 'x', asked for was @s/a"),
        (b'{"a":' * 100_000, "is nested too deep"),
        (b'{"name": "@s/a", "versions": {"1.0.0": ' + b"9" * 5000 + b"}}", "is not JSON"),
    ],
)
def test_what_is_no_packument_of_this_package_is_refused(data: bytes, text: str) -> None:
    with pytest.raises(DocumentError) as caught:
        read(data, "@s/a", ["1.0.0"])
    assert text in str(caught.value)


@pytest.mark.parametrize("manifest", [1, None, [], {"name": "b"}, {"version": "2.0.0"}, {"version": 1}])
def test_a_version_that_says_it_is_another_is_refused(manifest: Any) -> None:
    document = packument()
    document["versions"]["1.0.0"] = manifest
    found = read(json.dumps(document).encode(), "@s/a", ["1.0.0", "1.0.0-rc.1"])
    assert isinstance(found["1.0.0"], WrongPackageError)
    assert isinstance(found["1.0.0-rc.1"], Served)
    assert glance(json.dumps(document).encode(), "@s/a", "1.0.0") is None


def test_floats_and_odd_values_elsewhere_do_not_matter() -> None:
    document = packument(score=0.5, users={"a": 1e300}, time="never", readme=None)
    found = read(json.dumps(document).encode(), "@s/a", ["1.0.0"])["1.0.0"]
    assert isinstance(found, Served)
    assert found.published is None


@pytest.mark.parametrize("stated", ["2024-01-01", "2024-13-01T00:00:00Z", "0001-01-01T00:00:00Z", 5, None, {}])
def test_a_time_that_is_none_is_no_time(stated: Any) -> None:
    document = packument()
    document["time"]["1.0.0"] = stated
    found = read(json.dumps(document).encode(), "@s/a", ["1.0.0"])["1.0.0"]
    assert isinstance(found, Served)
    assert found.published is None


def test_more_signatures_than_anybody_needs_are_not_looked_at() -> None:
    document = packument()
    dist = document["versions"]["1.0.0"]["dist"]
    dist["signatures"] = dist["signatures"] * 1000
    found = read(json.dumps(document).encode(), "@s/a", ["1.0.0"])["1.0.0"]
    assert isinstance(found, Served)
    assert (len(found.signatures), found.broken) == (32, 968)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(dist=ANYTHING, manifest=ANYTHING, time=ANYTHING)
def test_no_value_anywhere_ends_in_a_traceback(dist: Any, manifest: Any, time: Any) -> None:
    document = packument(time=time)
    document["versions"] = {"1.0.0": {"name": "@s/a", "version": "1.0.0", "dist": dist}, "2.0.0": manifest}
    data = json.dumps(document).encode()
    found = read(data, "@s/a", ["1.0.0", "2.0.0"])
    assert isinstance(found["1.0.0"], Served)
    glance(data, "@s/a", "1.0.0")


@settings(max_examples=300, deadline=None)
@given(at=st.integers(0, 5000), cut=st.integers(0, 50), insert=st.binary(max_size=8))
def test_no_damage_ends_in_a_traceback(at: int, cut: int, insert: bytes) -> None:
    data = json.dumps(packument()).encode()
    at %= len(data)
    damaged = data[:at] + insert + data[at + cut :]
    glance(damaged, "@s/a", "1.0.0")
    try:
        found = read(damaged, "@s/a", ["1.0.0"])
    except DocumentError as error:
        message = str(error)
    else:
        message = str(found)
    assert "\n" not in message

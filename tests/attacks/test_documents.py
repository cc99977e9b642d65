"""A18: documents that two readers could read in two ways, or that hurt the reader; and any bytes at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kedge.errors import FetchError, Reason, VerificationError
from support.driver import Driver
from support.simulator import RepositorySimulator
from support.world import KEYS, NOW, World

ROLES = ["root", "timestamp", "snapshot", "targets", "registry.example"]

Change = Callable[[bytes], bytes]


def of_text(old: str, new: str) -> Change:
    """Replace the first occurrence of a text in the served bytes."""

    def change(data: bytes) -> bytes:
        assert old.encode() in data
        return data.replace(old.encode(), new.encode(), 1)

    return change


LIBERTIES: dict[str, tuple[Change, str]] = {
    "a key twice": (of_text('"version":', '"version":999,"version":'), 'holds the key "version" twice'),
    "a whole payload twice": (of_text('"signed":', '"signed":{},"signed":'), 'holds the key "signed" twice'),
    "NaN": (of_text('"version":', '"x":NaN,"version":'), "holds NaN"),
    "infinity": (of_text('"version":', '"x":-Infinity,"version":'), "holds -Infinity"),
    "a fraction": (of_text('"version":', '"x":1.5,"version":'), "holds the fraction 1.5"),
    "a huge number": (of_text('"version":', '"x":' + "9" * 5_000 + ',"version":'), "of 5000 digits"),
    "deep nesting": (of_text('"version":', '"x":' + "[" * 5_000 + "]" * 5_000 + ',"version":'), "nested more than 64"),
    "a BOM": (lambda data: b"\xef\xbb\xbf" + data, "byte order mark"),
    "UTF-16": (lambda data: data.decode().encode("utf-16"), "is not UTF-8"),
    "a lone surrogate": (of_text('"version":', '"x":"\\ud800","version":'), "lone surrogate"),
    "bytes behind it": (lambda data: data + b"{}", "is not JSON: extra data"),
    "nothing": (lambda _: b"", "is empty"),
    "a list": (lambda data: b"[" + data + b"]", "must be a table, not a list"),
    "open brackets": (lambda _: b"[" * 60_000, "nested more than 64"),
}


@pytest.mark.parametrize("liberty", LIBERTIES)
@pytest.mark.parametrize("role", ROLES)
def test_a18_a_liberty_of_json_is_refused_with_its_place(terse_world: World, role: str, liberty: str) -> None:
    world, (change, text) = terse_world, LIBERTIES[liberty]
    if role == "root":
        with world.repo.edit("root"):
            pass
    path = world.repo.path_of(role)
    with world.repo.lying():
        world.repo.replace(path, change(world.repo.files[path]))
        name = path.removeprefix("metadata/")
        world.refused(f"{name}: ", text, file=path, reason=Reason.MALFORMED)
    assert world.keys() == b"the keys"


FAULTS: dict[str, tuple[Callable[[Any], object], str]] = {
    "no signatures": (lambda d: d.pop("signatures"), "signatures: is missing"),
    "signatures are a table": (lambda d: d.update(signatures={}), "signatures: must be a list"),
    "no payload": (lambda d: d.pop("signed"), "signed: is missing"),
    "another type": (lambda d: d["signed"].update(_type="mirrors"), "signed._type: must be"),
    "a version of 0": (lambda d: d["signed"].update(version=0), "signed.version: must be at least 1"),
    "a negative version": (lambda d: d["signed"].update(version=-1), "signed.version: must be at least 1"),
    "a version as text": (lambda d: d["signed"].update(version="1"), "signed.version: must be a whole number"),
    "a version that is true": (lambda d: d["signed"].update(version=True), "signed.version: must be a whole number"),
    "a date that is none": (lambda d: d["signed"].update(expires="2026-13-01T00:00:00Z"), "signed.expires: "),
    "another time zone": (lambda d: d["signed"].update(expires="2026-01-01T00:00:00+01:00"), "signed.expires: "),
    "a specification 2.0": (lambda d: d["signed"].update(spec_version="2.0.0"), "signed.spec_version: "),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("role", ROLES)
def test_a18_a_field_that_is_wrong_is_refused_with_its_path(terse_world: World, role: str, fault: str) -> None:
    world, (change, text) = terse_world, FAULTS[fault]
    if role == "root":
        with world.repo.edit("root"):
            pass
    path = world.repo.path_of(role)
    with world.repo.lying():
        with world.repo.tamper(path) as document:
            change(document)
        world.refused(f"{path.removeprefix('metadata/')}: {text}", file=path, reason=Reason.MALFORMED)
    assert world.keys() == b"the keys"


def test_a18_unknown_fields_are_signed_and_survive(world: World) -> None:
    with world.repo.edit("timestamp") as timestamp:
        timestamp.unrecognized_fields["x-kedge-issued"] = "2026-01-01T00:00:00Z"
    assert world.keys() == b"the keys"
    with world.repo.lying():
        with world.repo.edit("timestamp"):
            pass
        with world.repo.tamper("metadata/timestamp.json") as document:
            document["signed"]["x-kedge-issued"] = "2026-01-02T00:00:00Z"
        world.refused("signed by 0 of the 1 keys", reason=Reason.SIGNATURES)
    assert world.keys() == b"the keys"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
names = st.sampled_from(
    [
        "signatures",
        "signed",
        "_type",
        "version",
        "expires",
        "meta",
        "keys",
        "roles",
        "targets",
        "delegations",
        "spec_version",
    ]
)


@st.composite
def spoilt(draw: st.DrawFn, honest: bytes) -> bytes:
    """Any bytes, any JSON, or the honest document with one thing in it replaced."""
    kind = draw(st.sampled_from(["bytes", "json", "cut", "field", "flip"]))
    if kind == "bytes":
        return draw(st.binary(max_size=400))
    if kind == "json":
        return json.dumps(draw(json_values)).encode()
    if kind == "cut":
        return honest[: draw(st.integers(0, len(honest) - 1))]
    if kind == "flip":
        position = draw(st.integers(0, len(honest) - 1))
        return honest[:position] + bytes([draw(st.integers(0, 255))]) + honest[position + 1 :]
    document = json.loads(honest)
    change_somewhere(document, draw, json_values)
    return json.dumps(document).encode()


def change_somewhere(
    document: Any, draw: Callable[[st.SearchStrategy[Any]], Any], values: st.SearchStrategy[Any]
) -> None:
    """Walk down a document, and replace or add one value."""
    place = document
    for _ in range(draw(st.integers(0, 6))):
        inner = list(place.values()) if isinstance(place, dict) else place
        tables = [value for value in inner if isinstance(value, (dict, list)) and value]
        if not tables:
            break
        place = draw(st.sampled_from(tables))
    if isinstance(place, dict):
        place[draw(names | st.sampled_from(sorted(place)))] = draw(values)
    else:
        place[draw(st.integers(0, len(place) - 1))] = draw(values)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> RepositorySimulator:
    world = World(tmp_path_factory.mktemp("published"), meta_hashes=False)
    with world.repo.edit("root"):
        pass
    return world.repo


@pytest.mark.parametrize("role", ROLES)
@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_any_bytes_as_metadata_are_refused_and_nothing_else(
    published: RepositorySimulator, role: str, data: st.DataObject
) -> None:
    path, client = published.path_of(role), Driver(published, NOW)
    honest = published.files[path]
    served = data.draw(spoilt(honest), label=path)
    with published.lying():
        published.replace(path, served)
        if same_payload(served, honest):
            # What was changed stands outside the signed payload: it may pass or not, but nothing else may happen.
            with suppress(VerificationError):
                client.target(KEYS)
            return
        with pytest.raises(VerificationError) as caught:
            client.target(KEYS)
        assert "\n" not in str(caught.value)
        assert served not in client.held.values()
    assert client.target(KEYS) == b"the keys"


whole_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize("role", ROLES)
@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_any_payload_that_a_role_signs_is_accepted_or_refused_and_nothing_else(
    published: RepositorySimulator, role: str, data: st.DataObject
) -> None:
    """A keyholder with a broken tool, or an evil one: the signatures are right, the content is anything."""
    path, client = published.path_of(role), Driver(published, NOW)
    signed = json.loads(published.files[path])["signed"]
    change_somewhere(signed, data.draw, whole_values)
    with published.lying():
        published.sign_raw(role, signed)
        with suppress(VerificationError, FetchError):
            client.target(KEYS)
    assert Driver(published, NOW).target(KEYS) == b"the keys"


def same_payload(served: bytes, honest: bytes) -> bool:
    try:
        document = json.loads(served)
        return bool(document["signed"] == json.loads(honest)["signed"])
    except (ValueError, TypeError, KeyError, LookupError):
        return False

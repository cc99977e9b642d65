"""The review is complete: one member of a real payload changed, anywhere, is seen; "no change" is equality.

Changes are made at every node of the tree of a payload, and drawn by hypothesis: a value replaced, a member added or
removed, a list in another order. What the review says is compared without the digest of the payload and the request
code, which change with every byte and tell nobody what has changed.
"""

from __future__ import annotations

import copy
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tuf.api.metadata import Targets

from architecture import schemas
from kedge.documents import DocumentError, format_time
from kedge_repo.events.plan import add_target
from kedge_repo.events.plan_roles import plan_delegation, plan_renewal
from kedge_repo.events.signatures import own_request
from kedge_repo.signing.key_rules import request_key_faults
from kedge_repo.signing.keyholder import VerifiedRequest
from kedge_repo.signing.request import TargetChange
from kedge_repo.signing.review import review_request, review_table
from kedge_repo.signing.threshold import groups_for
from kedge_repo.workspace.metadata import Payload, canonical_json
from kedge_repo.workspace.policy import DelegationPolicy
from repo_tools.ceremony import NPM, Ceremony

_ADDED = "x-added"


class Scene:
    """A request with a root, targets with two delegations, and a delegated role, each after a signed version."""

    def __init__(self, folder: Path) -> None:
        self.made = made = Ceremony(folder).ready()
        other = DelegationPolicy(
            name="other",
            paths=("other/*", "more/*"),
            keyholders=("alice", "carol"),
            threshold=1,
            expiry=timedelta(days=100),
            signing=timedelta(days=10),
            terminating=False,
        )
        made.change(lambda view: plan_delegation(view, other))
        made.sign("alice", "bob")
        made.merge()
        made.online()
        made.change(lambda view: plan_renewal(view, ["root", "targets", "other"]))
        made.change(lambda view: add_target(view, f"{NPM}/notes.txt", b"notes", {"x": [1, {"y": "z"}]}))
        self.verified = own_request(made.workspace)

    def payload(self, role: str) -> Payload:
        return next(payload for payload in self.verified.request.payloads if payload.role == role)

    def with_payload(self, role: str, value: Any) -> VerifiedRequest:
        """The request with another payload, as it would stand if its bytes were brought and its version fitted."""
        request = self.verified.request
        new = Payload.from_bytes(role, canonical_json(value).encode())
        payloads = tuple(new if payload.role == role else payload for payload in request.payloads)
        brought = {change.path: change for change in request.targets}
        for payload in payloads:
            before = self.verified.signed.role(payload.role)
            if isinstance(payload.signed, Targets):
                old = before.signed.targets if before is not None and isinstance(before.signed, Targets) else {}
                for path in payload.signed.targets.keys() | old.keys():
                    brought.setdefault(path, TargetChange(path=path, old=b"", new=b""))
        changed = replace(request, payloads=payloads, targets=tuple(brought.values()))
        return replace(
            self.verified,
            request=changed,
            groups={item.sha256: groups_for(item, self.verified.signed, payloads) for item in payloads},
            key_faults=request_key_faults(payloads, self.verified.signed),
        )

    def review(self, verified: VerifiedRequest) -> tuple[str, str]:
        """The review as text and as JSON, without the digest of the payload."""
        found = review_request(verified, now=self.made.now)
        value = json.loads(json.dumps(review_table(found)))
        text = "\n".join(found.lines())
        digests = "|".join(payload.sha256 for payload in verified.request.payloads)
        return re.sub(digests, "", text), re.sub(digests, "", json.dumps(value))


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return Scene(tmp_path_factory.mktemp("complete"))


Place = tuple[str | int, ...]


def places(value: Any, at: Place = ()) -> Iterator[Place]:
    """The way to every node below ``value``, and to itself."""
    yield at
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, below in items:
        yield from places(below, (*at, name))


def node(value: Any, at: Place) -> Any:
    for name in at:
        value = value[name]
    return value


def put(value: Any, at: Place, new: Any) -> Any:
    """A copy of ``value`` with ``new`` at a place."""
    if not at:
        return new
    value = copy.deepcopy(value)
    node(value, at[:-1])[at[-1]] = new
    return value


def ways(value: Any, at: Place) -> Iterator[Any]:
    """Every other object that one step at this place makes of ``value``."""
    here = node(value, at)
    others = {str: ["", "x", here], int: [0, 1, 7, -1], bool: [True, False], list: [[]], dict: [{}], type(None): []}
    if isinstance(here, str):
        others[str] = [f"{here}0", here[:-1], here.upper(), here[::-1], "2030-01-01T00:00:00Z"]
    for new in (*others[type(here)], None, "x", 7, True, [], {}):
        yield put(value, at, new)
    if isinstance(here, list):
        yield put(value, at, here[::-1])
        yield put(value, at, here + here[:1])
        yield put(value, at, [*here, "x"])
        yield put(value, at, here[1:])
    if isinstance(here, dict):
        yield put(value, at, {**here, _ADDED: "curl evil"})
        yield put(value, at, {**here, _ADDED: {}})
        for name in here:
            yield put(value, at, {key: item for key, item in here.items() if key != name})
            yield put(value, at, {f"{key}0" if key == name else key: item for key, item in here.items()})


def refused_or_seen(scene: Scene, role: str, new: Any, shown: tuple[str, str]) -> str:
    """How a changed payload ends; an assertion fails where it ends as nothing."""
    try:
        text, table = scene.review(scene.with_payload(role, new))
    except DocumentError:
        return "refused"
    assert text != shown[0], "the text does not show it"
    assert table != shown[1], "the JSON does not show it"
    return "visible"


@pytest.mark.parametrize("role", ["root", "targets", NPM, "other"])
def test_each_member_of_each_payload_is_refused_or_visible_when_it_changes(scene: Scene, role: str) -> None:
    value = json.loads(scene.payload(role).data, strict=False)
    shown = scene.review(scene.verified)
    ends: Counter[str] = Counter()
    for at in places(value):
        for new in ways(value, at):
            if canonical_json(new) != canonical_json(value):
                ends[refused_or_seen(scene, role, new, shown)] += 1
    assert min(ends["refused"], ends["visible"]) > 5


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 1 << 40) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_random_change_anywhere_changes_the_review(scene: Scene, data: st.DataObject) -> None:
    role = data.draw(st.sampled_from(["root", "targets", NPM, "other"]))
    value = json.loads(scene.payload(role).data, strict=False)
    at = data.draw(st.sampled_from(list(places(value))))
    here = node(value, at)
    new = data.draw(_VALUES | (st.permutations(here) if isinstance(here, list) else st.nothing()))
    if isinstance(here, dict) and data.draw(st.booleans()):
        new = {**here, data.draw(st.text(max_size=8)): new}
    changed = put(value, at, new)
    if canonical_json(changed) != canonical_json(value):
        refused_or_seen(scene, role, changed, scene.review(scene.verified))


def test_what_no_sentence_knows_stands_in_the_json_as_its_schema_says(scene: Scene) -> None:
    value = json.loads(scene.payload("targets").data, strict=False)
    value["delegations"]["x-added"] = {"a": 1}
    found = review_table(review_request(scene.with_payload("targets", value), now=scene.made.now))
    assert schemas.faults("review", json.loads(json.dumps(found))) == []
    also = next(role["also_signed"] for role in found["roles"] if role["role"] == "targets")
    assert also == [{"member": "delegations.x-added.a", "old": None, "new": "1"}]


def test_no_change_is_said_of_equal_objects_only(scene: Scene) -> None:
    text, _ = scene.review(scene.verified)
    assert text.count("no change but the version and the expiry") == 3  # root, targets and other are renewed
    value = json.loads(scene.payload("root").data, strict=False)
    text, _ = scene.review(scene.with_payload("root", {**value, "x-note": "everything is fine"}))
    assert text.count("no change but the version and the expiry") == 2
    assert 'also signed\n    x-note: "everything is fine"' in text


def test_version_and_expiry_are_named_with_the_old_ones(scene: Scene) -> None:
    text, _ = scene.review(scene.verified)
    before = scene.verified.signed.role("root")
    assert before is not None
    new = scene.payload("root").signed
    assert "root version 2 (after 1)\n" in text
    assert f"expires   {format_time(new.expires)} (was {format_time(before.signed.expires)})\n" in text


def prefixes(value: dict[str, Any], _now: datetime) -> None:
    role = value["delegations"]["roles"][1]
    del role["paths"]
    role["path_hash_prefixes"] = ["ab", "12"]


@pytest.mark.parametrize(
    ("role", "change", "sentence"),
    [
        (
            "root",
            lambda value, now: value.update(expires=format_time(now - timedelta(days=1))),
            "WARNING: expired already",
        ),
        (
            "root",
            lambda value, now: value.update(expires=format_time(now + timedelta(days=11_000, hours=1))),
            "WARNING: expires in 11000 days, and more than 3660 is too long",
        ),
        (
            "targets",
            lambda value, _: value["delegations"]["roles"].reverse(),
            f"asks the roles in this order: other, {NPM} (was {NPM}, other)",
        ),
        (
            "targets",
            lambda value, _: value["delegations"]["roles"][1].update(paths=[f"{NPM}/*"]),
            f"WARNING: other can never be reached: {NPM} before it ends the search for its paths",
        ),
        (
            "targets",
            lambda value, _: value["delegations"]["roles"][1].update(paths=[]),
            "WARNING: other can never be reached: no path is delegated to it",
        ),
        (
            "targets",
            lambda value, _: value["delegations"]["roles"][1].update(threshold=3),
            "WARNING: other can never be signed: its threshold is above the number of its keys",
        ),
        ("targets", prefixes, "delegates the paths whose hash begins with ab, 12 to other"),
        ("targets", lambda value, _: value["delegations"].update({"x-a": [1]}), "    delegations.x-a: [1]"),
        ("targets", lambda value, _: value["delegations"]["roles"][0].pop("paths"), "refused"),
        (
            NPM,
            lambda value, _: value["targets"][f"{NPM}/keys.json"].update({"x-install": "curl evil"}),
            f'    targets["{NPM}/keys.json"].x-install: "curl evil"',
        ),
        (
            NPM,
            lambda value, _: value["targets"][f"{NPM}/keys.json"]["hashes"].update(sha512="ab"),
            "sha512 ab",
        ),
    ],
)
def test_what_no_sentence_knew_has_one(
    scene: Scene, role: str, change: Callable[[dict[str, Any], datetime], object], sentence: str
) -> None:
    value = json.loads(scene.payload(role).data, strict=False)
    change(value, scene.made.now)
    if sentence == "refused":
        with pytest.raises(DocumentError):
            scene.with_payload(role, value)
        return
    assert sentence in scene.review(scene.with_payload(role, value))[0]


def test_an_expiry_beyond_the_policy_is_named(scene: Scene) -> None:
    days = timedelta(days=10)
    found = review_request(scene.verified, now=scene.made.now, life={"root": days})
    root = next(role for role in found.roles if role.role == "root")
    assert any(fact.endswith("days, and the policy allows 10") for fact in root.facts)


def test_at_80_columns_no_line_of_words_is_longer(scene: Scene) -> None:
    found = review_request(scene.verified, now=scene.made.now)
    lines = list(found.lines(width=80))
    assert all(len(line) <= 80 for line in lines)
    assert " ".join(" ".join(lines).split()) == " ".join(" ".join(found.lines()).split())
    assert sum(len(line.split()) == 8 and set(line) <= set("0123456789abcdef ") for line in lines) == len(found.keys)

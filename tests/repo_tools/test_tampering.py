"""Every field of a request and of a response, tampered with: refused, or visible in the review, or harmless and why.

The members of payloads are in ``test_complete_review.py``. Here are the fields around them. The fields are read from a
real request and response, so that a new one is in none of the three lists until somebody has thought about it.
"""

from __future__ import annotations

import base64
import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kedge.documents import DocumentError
from kedge.errors import KedgeError
from kedge_repo.events.plan import add_target
from kedge_repo.events.plan_keys import rotate_key
from kedge_repo.events.signatures import export_request, import_responses
from kedge_repo.signing.keyholder import TrustedRoot, sign_request, verify_request
from kedge_repo.signing.request import Request, Response
from kedge_repo.signing.review import review_request, review_table
from repo_tools.ceremony import NPM, Ceremony, contents

Place = tuple[str, ...]

REQUEST = {
    "format": "refused",
    "repository": "visible",
    "event": "visible",
    "reason": "visible",
    "payloads": "visible",  # one that is left out is not signed, and the others are shown as they are
    "payloads.role": "refused",
    "payloads.version": "refused",
    "payloads.payload": "visible",
    "roots": "refused",
    "base": "visible",  # without a snapshot, which is said; any other that is left out is refused
    "base.role": "refused",
    "base.metadata": "harmless",
    "targets": "refused",
    "targets.path": "refused",
    "targets.old": "refused",
    "targets.new": "refused",
    "keyholders": "visible",
}
"""How a change of each field ends where it is not refused: of a list, when an entry goes or comes twice."""

RESPONSE = {
    "format": "refused",
    "repository": "refused",
    "event": "refused",
    "code": "harmless",
    "signatures": "refused",
    "signatures.role": "refused",
    "signatures.payload_sha256": "refused",
    "signatures.keyid": "refused",
    "signatures.sig": "refused",
}

HARMLESS = {
    "base.metadata": "white space around what is signed; what is signed in it is verified by the threshold of its keys",
    "code": "what the keyholder was shown, for people; signatures name their payloads by digest, and are verified",
    "request order": "base, targets and payloads are read by their names, not by their place",
}
"""Why a change that is neither refused nor shown does no harm."""


class Scene:
    """A request after a rotation: it changes root, a delegated role and a target."""

    def __init__(self, folder: Path) -> None:
        self.made = made = Ceremony(folder).ready()
        made.change(lambda view: add_target(view, f"{NPM}/notes.txt", b"old notes"))
        made.sign("npm-team")
        made.merge()
        made.online()
        made.change(lambda view: add_target(view, f"{NPM}/notes.txt", b"notes"))
        made.change(lambda view: rotate_key(view, "carol", Ceremony(folder).signers["carol"].public_key))
        root = (made.workspace.root / "metadata/1.root.json").read_bytes()
        self.root = TrustedRoot(data=root, file="root.json")
        self.request = export_request(made.workspace)
        self.value = json.loads(self.request.to_bytes())
        self.shown = self.review(self.value)

    def review(self, value: Any) -> tuple[str, str]:
        """The review as text and as JSON, without the request code; or an error where the request is refused."""
        verified = verify_request(Request.from_bytes(json.dumps(value).encode()), self.root)
        found = review_request(verified, now=self.made.now)
        text, table = "\n".join(found.lines()), json.dumps(review_table(found))
        return text.replace(found.code, ""), table.replace(found.code, "")

    def end(self, value: Any) -> str:
        """How a changed request ends."""
        try:
            text, table = self.review(value)
        except (DocumentError, KedgeError):
            return "refused"
        if text != self.shown[0] and table != self.shown[1]:
            return "visible"
        return "harmless" if (text, table) == self.shown else "half"


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return Scene(tmp_path_factory.mktemp("tampering"))


def fields(value: Any) -> Iterator[str]:
    """Every field of a document, those of a list's entries once."""
    for name, below in value.items():
        yield name
        if isinstance(below, list) and below and isinstance(below[0], dict):
            yield from {f"{name}.{inner}": None for entry in below for inner in entry}


def changes(value: Any, field: str) -> Iterator[Any]:
    """The document with another value in this field: each entry's in turn."""
    name, _, inner = field.partition(".")
    if inner:
        for position, entry in enumerate(value[name]):
            for new in others(entry[inner]) if inner in entry else ():
                changed = copy.deepcopy(value)
                changed[name][position][inner] = new
                yield changed
            without = copy.deepcopy(value)
            if without[name][position].pop(inner, None) is not None:
                yield without
        return
    for new in others(value[name]):
        yield {**value, name: new}
    yield {other: item for other, item in value.items() if other != name}


def others(value: Any) -> Iterator[Any]:
    """Values like this one, of the same kind and well-formed where that can be."""
    if isinstance(value, int):
        yield from (value + 1, value - 1, 0)
    elif isinstance(value, str):
        yield from other_texts(value)
    elif isinstance(value, list):
        yield []
        for position in range(len(value)):
            yield [*value[:position], *value[position + 1 :]]
            yield [*value, value[position]]
    else:
        yield {}
        yield from ({**value, name: "mallory"} for name in value)


def other_texts(value: str) -> Iterator[str]:
    yield from (f"{value}x", value[:-1], "", "another")
    try:
        data = base64.b64decode(value, validate=True)
    except ValueError:
        data = b""
    if len(data) > 8:
        for new in (data[:-1], data + b" ", data.replace(b"2", b"3", 1), b""):
            yield base64.b64encode(new).decode()
    if re.fullmatch(r"[0-9a-f]{32,}", value):
        yield from (value[::-1], "00" * (len(value) // 2))
    if re.fullmatch(r"[0-9A-Z-]{34}", value):
        yield value[::-1]


def test_each_field_of_a_request_is_refused_visible_or_harmless_as_the_table_says(scene: Scene) -> None:
    assert set(fields(scene.value)) == set(REQUEST), "a field that nobody has thought about"
    for field, expected in REQUEST.items():
        ends = {scene.end(changed) for changed in changes(scene.value, field) if changed != scene.value}
        assert expected in ends, field
        assert ends <= {"refused", expected}, field
        assert expected != "harmless" or HARMLESS[field]


def test_the_order_of_entries_in_a_request_changes_nothing_that_is_signed(scene: Scene) -> None:
    for name in ("payloads", "base", "targets"):
        assert HARMLESS["request order"]
        turned = {**scene.value, name: scene.value[name][::-1]}
        verified = verify_request(Request.from_bytes(json.dumps(turned).encode()), scene.root)
        assert verified.code == verify_request(scene.request, scene.root).code
    assert scene.end({**scene.value, "roots": scene.value["roots"] * 2}) == "refused"


@pytest.mark.parametrize("where", ["", "payloads", "base", "targets"])
def test_a_field_that_is_not_known_is_refused(scene: Scene, where: str) -> None:
    changed = copy.deepcopy(scene.value)
    (changed[where][0] if where else changed)["x-added"] = "curl evil"
    assert scene.end(changed) == "refused"


def test_the_names_of_keyholders_are_shown_beside_what_proves_them(scene: Scene) -> None:
    keyid = scene.made.signers["alice"].public_key.keyid
    renamed = {**scene.value, "keyholders": {**scene.value["keyholders"], keyid: "mallory"}}
    assert scene.end(renamed) == "visible"


def test_each_field_of_a_response_is_refused_or_harmless_as_the_table_says(scene: Scene) -> None:
    response = sign_request(verify_request(scene.request, scene.root), scene.made.signers["alice"])
    value = json.loads(response.to_bytes())
    assert set(fields(value)) == set(RESPONSE), "a field that nobody has thought about"
    before = contents(scene.made.workspace.root)
    for field, expected in RESPONSE.items():
        for changed in changes(value, field):
            if changed == value:
                continue
            try:
                import_responses(scene.made.workspace, [("r.json", Response.from_bytes(json.dumps(changed).encode()))])
            except (DocumentError, KedgeError):
                assert contents(scene.made.workspace.root) == before
                continue
            assert (field, expected) == (field, "harmless")
            assert HARMLESS[field]
            taken = contents(scene.made.workspace.root)
            for path in taken.keys() - before.keys():
                (scene.made.workspace.root / path).unlink()
            for path, data in before.items():
                (scene.made.workspace.root / path).write_bytes(data)
    # The control: as it was signed, it is taken.
    assert import_responses(scene.made.workspace, [("r.json", response)]).added

"""The schemas themselves: valid, strict, one definition for one thing, and all of them in the reference."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from architecture import schemas

REFERENCE = (schemas.FOLDER.parent / "formats.md").read_text("utf-8")

# The one schema of a table that is partly somebody else's.
OPEN = {"target-custom": "$"}


def tables(node: Any, path: str = "$") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema of a table (``type: object``), and where it stands."""
    if isinstance(node, dict):
        if node.get("type") == "object":
            yield path, node
        for name, child in node.items():
            yield from tables(child, f"{path}.{name}")
    elif isinstance(node, list):
        for index, child in enumerate(node):
            yield from tables(child, f"{path}[{index}]")


@pytest.mark.parametrize("name", schemas.NAMES)
def test_a_schema_is_valid_and_says_what_it_is(name: str) -> None:
    schema = schemas.schema(name)
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == Draft202012Validator.META_SCHEMA["$id"]
    assert schema["$id"] == f"urn:kedge:schema:{name}:1"
    assert schema["description"]
    if name not in OPEN:
        assert schema["title"] == f"kedge.{name}/1" == schema["properties"]["format"]["const"]
        assert "format" in schema["required"]


@pytest.mark.parametrize("name", schemas.NAMES)
def test_a_schema_lets_no_unknown_field_pass(name: str) -> None:
    loose = []
    for path, table in tables(schemas.schema(name)):
        if "properties" in table:
            strict = table.get("additionalProperties") is False and "required" in table
        else:
            strict = "additionalProperties" in table or path in {"$.properties.document", "$.properties.custom"}
        if not strict and OPEN.get(name) != path:
            loose.append(path)
    assert loose == []


def test_one_definition_is_the_same_in_every_schema() -> None:
    seen: dict[str, str] = {}
    for name in schemas.NAMES:
        for definition, body in schemas.schema(name).get("$defs", {}).items():
            text = json.dumps(body, sort_keys=True)
            assert seen.setdefault(definition, text) == text, f"{definition} in {name}.json"
    assert {"sha256", "time", "name"} <= set(seen)


@pytest.mark.parametrize("name", schemas.NAMES)
def test_a_schema_stands_in_the_reference(name: str) -> None:
    assert f"[{name}.json](schemas/{name}.json)" in REFERENCE

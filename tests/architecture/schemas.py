"""The JSON Schemas of docs/reference, and a validator that reads them as JSON Schema means them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend

__all__ = ["FOLDER", "NAMES", "faults", "schema"]

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "reference" / "schemas"
NAMES = sorted(file.stem for file in FOLDER.glob("*.json"))


def schema(name: str) -> dict[str, Any]:
    """One schema."""
    value = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    assert isinstance(value, dict)
    return value


def faults(name: str, document: object) -> list[str]:
    """What is wrong with ``document`` by the schema ``name``: a line each."""
    return [f"{error.json_path}: {error.message[:200]}" for error in _validator(name).iter_errors(document)]


@cache
def _validator(name: str) -> Any:
    return _Validator(schema(name))


def _pattern(_: Any, pattern: str, instance: object, __: Any) -> Iterator[ValidationError]:
    # ECMA-262, which JSON Schema asks for: `$` is the end of the text, which Python writes \Z.
    if isinstance(instance, str) and re.search(pattern.replace("$", r"\Z"), instance, re.ASCII) is None:
        yield ValidationError(f"{instance!r} does not match {pattern}")


def _whole(_: Any, instance: object) -> bool:
    return isinstance(instance, int) and not isinstance(instance, bool)


# JSON Schema counts 1.0 among the integers; our JSON has no fractions at all (docs/reference/formats.md), so the
# validator is told what the text, and not the number, says.
_Validator = extend(  # type: ignore[no-untyped-call] # jsonschema's stubs leave this one function untyped
    Draft202012Validator,
    {"pattern": _pattern},
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine("integer", _whole),
)

"""``npm.toml`` and evidence files: parser and schema refuse the same documents, but for what a schema cannot say."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from architecture import schemas
from architecture.mutations import mutations
from architecture.test_formats import EXAMPLES, as_json, as_toml
from kedge.audit.evidence import Evidence
from kedge.documents import DocumentError
from kedge.registries.npm.config import Mappings
from kedge.registries.sigstore.expectations import Expectations


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    read: Callable[[bytes], object]
    write: Callable[[Any], bytes | None]
    beyond: tuple[str, ...]
    """The parser's messages that a schema has no way to say."""


FORMS = {
    "provenance": Form(
        read=Expectations.from_toml,
        write=as_toml,
        beyond=(),
    ),
    "npm": Form(
        read=Mappings.from_toml,
        write=as_toml,
        beyond=(r"url: stands there twice", r"url: must be a URL", r"url: must have a host"),
    ),
    "evidence": Form(
        read=Evidence.from_bytes,
        write=as_json,
        beyond=(
            r"day is out of range for month",
            r"served: must not be there: no issuer",
            r"served: must be there, since the outcome is",
            r"version: is missing: only what is skipped may have none",
            r"\.name: must be a package name",
            r"\.version: must be a version",
            r"must be one digest such as sha512",
        ),
    ),
}


def refusal(form: Form, data: bytes) -> str | None:
    try:
        form.read(data)
    except DocumentError as error:
        return str(error)
    return None


@pytest.mark.parametrize("name", FORMS)
def test_the_written_example_is_read_and_fits_its_schema(name: str) -> None:
    data = FORMS[name].write(EXAMPLES[name])
    assert data is not None
    assert schemas.faults(name, EXAMPLES[name]) == []
    assert refusal(FORMS[name], data) is None


@pytest.mark.parametrize("name", FORMS)
def test_the_parser_and_the_schema_refuse_the_same_documents(name: str) -> None:
    form = FORMS[name]
    disagreements: list[str] = []
    refused = 0
    for mutation in mutations(EXAMPLES[name]):
        data = form.write(mutation.document)
        if data is None:
            continue
        message, found = refusal(form, data), schemas.faults(name, mutation.document)
        refused += message is not None
        if (message is None) == (not found):
            continue
        if message is None or not any(re.search(pattern, message) for pattern in form.beyond):
            disagreements.append(f"{mutation.what}: {message or found[0]}")
    assert disagreements[:8] == [], f"{len(disagreements)} mutations are judged differently"
    assert refused > 100


def test_what_is_read_is_written_again_as_it_was() -> None:
    evidence = Evidence.from_bytes(json.dumps(EXAMPLES["evidence"]).encode())
    assert json.loads(evidence.to_bytes()) == EXAMPLES["evidence"]

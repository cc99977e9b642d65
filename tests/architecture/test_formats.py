"""Formats: each schema and its parser refuse the same documents, and what is written down as an example is one.

The parser of each format reads every mutation of a full example (``mutations.py``), and the schema judges it. Where the
parser refuses what the schema lets pass, its message must be on the list of what a schema cannot say, and every line of
that list must have been needed. The schema never refuses what the parser reads.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from tuf.api.metadata import Targets

from architecture import schemas
from architecture.mutations import mutations
from kedge.audit.monitor import Expectation, read_seen
from kedge.client import session
from kedge.client.anchor import Anchor
from kedge.client.keylog.follow import View
from kedge.client.lockfile import Lock
from kedge.client.settings import Config
from kedge.documents import DocumentError
from kedge.mirror.folder import MirrorRecord
from kedge.registries.hex.registry import Hex
from kedge.registries.last_seen import read_record
from kedge.registries.npm.registry import NPM
from kedge.registries.pub.listing import read_listing
from kedge.registries.pub.registry import read_source
from kedge.transport.bundle_format import Manifest
from kedge.tuf.state import StateRecord
from kedge_repo.bins.store import BinIndex
from kedge_repo.events.event import EventIndex, Signing
from kedge_repo.events.hand_in import HandIn
from kedge_repo.signing.request import Request, Response, TargetChange
from kedge_repo.workspace.catalogue import CatalogueEntry
from kedge_repo.workspace.metadata import Payload
from kedge_repo.workspace.policy import Policy

REPOSITORY = Path(__file__).resolve().parents[2]
REFERENCE = REPOSITORY / "docs" / "reference" / "formats.md"
NOW = datetime(2026, 8, 22, tzinfo=UTC)


def with_days_as_texts(value: Any) -> Any:
    """A document with TOML's dates as texts, which our readers take as well."""
    if isinstance(value, dict):
        return {name: with_days_as_texts(item) for name, item in value.items()}
    if isinstance(value, list):
        return [with_days_as_texts(item) for item in value]
    return value.isoformat() if isinstance(value, date) else value


def written_examples() -> dict[str, Any]:
    """The examples in formats.md: the first fenced block below each heading."""
    found: dict[str, Any] = {}
    for part in re.split(r"^### ", REFERENCE.read_text("utf-8"), flags=re.MULTILINE)[1:]:
        block = re.search(r"^```(json|toml)\n(.*?)^```$", part, re.MULTILINE | re.DOTALL)
        if block:
            heading = re.match(r"kedge\.([a-z-]+)/1|`custom\.kedge`", part)
            assert heading is not None
            read = tomllib.loads if block[1] == "toml" else json.loads
            found[heading[1] or "target-custom"] = with_days_as_texts(read(block[2]))
    return found


EXAMPLES = written_examples()


def example_request() -> Any:
    """A request as kedge-repo writes it, with one field of each kind."""
    payload = Payload.of("targets", Targets(version=2, expires=NOW))
    request = Request(
        repository="example",
        event="npm-2025-01",
        reason="npm signs with a new key",
        payloads=(payload,),
        roots=(b"{}", b"{ }"),
        base={"targets": b"{}"},
        targets=(
            TargetChange(path="a/b.json", old=b"", new=b"new"),
            TargetChange(path="c.json", old=b"gone", new=None),
        ),
        keyholders={"0" * 64: "alice"},
    )
    return json.loads(request.to_bytes())


def read_floors(data: bytes) -> None:
    """Read floors.json as a client does: it never fails on a damaged record, it goes without it."""
    if session._read_floors(data) is None:
        raise DocumentError("", "cannot be read")


def read_custom(data: bytes) -> None:
    """Read the ``custom`` of a target as the npm module does, beside a key document that is in order."""
    custom = json.loads(data)
    if custom is None:
        raise DocumentError("", "is null, which is how the module is told that there is no custom")
    NPM().parse(json.dumps(KEYS).encode(), registry="registry.example", custom=custom, now=NOW)


KEYS = json.loads((REPOSITORY / "metadata/registries/registry.npmjs.org.json").read_bytes())["document"]


def as_json(document: Any) -> bytes:
    return json.dumps(document, ensure_ascii=False).encode()


def as_toml(document: Any) -> bytes | None:
    """The TOML text of a document, tables inside it inline, or None where TOML has no way to say it."""
    if not isinstance(document, dict) or "null" in json.dumps(document):
        return None
    text = "".join(f"{json.dumps(name)} = {inline_toml(value)}\n" for name, value in document.items())
    assert tomllib.loads(text) == document
    return text.encode()


def inline_toml(value: Any) -> str:
    """One value; texts and numbers are written as in JSON, of which TOML understands every escape used here."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(name)} = {inline_toml(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(inline_toml, value)) + "]"
    return json.dumps(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """One format: a full example, its parser, and what its schema cannot say: the parser's message, and the reason."""

    example: Any
    read: Callable[[bytes], object]
    beyond: dict[str, str]
    write: Callable[[Any], bytes | None] = as_json


CALENDAR = {r"day is out of range for month": "a pattern does not know how many days a month has"}

BY_ONE_FIELD = "a schema cannot compare the entries of a list by one field"

FORMATS: dict[str, Format] = {
    "anchor": Format(
        example=EXAMPLES["anchor"],
        read=lambda data: Anchor.from_toml("example", data, b""),
        write=as_toml,
        beyond={
            **CALENDAR,
            r"^log_policy: ": "a schema does not read a text of another format",
            r"^freshness\.warn_after_s: must be less than the \d+ of red_line_s": "a schema cannot compare two fields",
        },
    ),
    "log": Format(
        example=EXAMPLES["log"],
        read=View.from_bytes,
        beyond={},
    ),
    "config": Format(example=EXAMPLES["config"], read=Config.from_bytes, beyond={}, write=as_toml),
    "state": Format(
        example=EXAMPLES["state"],
        read=StateRecord.from_bytes,
        beyond={**CALENDAR, r"^initial_root: must be the first of the roots": "a schema cannot compare two fields"},
    ),
    "floors": Format(
        example=EXAMPLES["floors"],
        read=read_floors,
        beyond={r"^cannot be read$": "a pattern does not know how many days a month has"},
    ),
    "monitored": Format(example=EXAMPLES["monitored"], read=read_seen, beyond={}),
    "expect": Format(example=EXAMPLES["expect"], read=Expectation.from_toml, write=as_toml, beyond={}),
    "memory": Format(
        example=EXAMPLES["memory"],
        read=read_record,
        beyond={
            r"^holds a number of \d+ digits": "the rule is of the JSON text, wherever the number stands",
            r"^holds the fraction 1\.[05]": "the rule is of the JSON text, wherever the number stands",
        },
    ),
    "bundle": Format(example=EXAMPLES["bundle"], read=Manifest.from_json, beyond=CALENDAR),
    "mirror": Format(example=EXAMPLES["mirror"], read=MirrorRecord.from_bytes, beyond=CALENDAR),
    "hex-keys": Format(
        example=EXAMPLES["hex-keys"],
        read=lambda data: Hex().parse(data, registry="hex/hexpm", custom=None, now=NOW),
        beyond={
            **CALENDAR,
            r"^repository: must be hexpm": "a schema does not know where the document stands",
            r"\.id: .* stands there twice": BY_ONE_FIELD,
            r"pem: must be": "a schema does not look into base64",
        },
    ),
    "pub-listing": Format(
        example=EXAMPLES["pub-listing"],
        read=read_listing,
        beyond={
            r"is not among the versions$": "one field refers to another",
            r"stands among the versions too, or twice$": "one field refers to another",
        },
    ),
    "pub-source": Format(
        example=EXAMPLES["pub-source"],
        read=read_source,
        beyond={},
    ),
    "lock": Format(example=EXAMPLES["lock"], read=Lock.from_bytes, beyond=CALENDAR),
    "policy": Format(
        example=EXAMPLES["policy"],
        read=lambda data: Policy.from_text(data.decode()),
        write=as_toml,
        beyond={
            r"threshold: must be at most \d+, the number of its keyholders": "a schema cannot compare two fields",
            r"signing_days: must be less than the \d+ of expiry_days": "a schema cannot compare two fields",
            r"keyholders?(\[\d+\])?: \".*\" is not described under keyholders": "a schema cannot look a name up",
            r"max_expiry_days: must be more than the \d+ of signing_days": "a schema cannot compare two fields",
        },
    ),
    "bins": Format(
        example=EXAMPLES["bins"],
        read=BinIndex.from_bytes,
        beyond={
            r"(versions|targets|expires): must hold \d+ numbers, one a bin": "a schema cannot compute a power",
            r"^holds a number of \d+ digits": "the rule is of the JSON text, wherever the number stands",
        },
    ),
    "event": Format(
        example=EXAMPLES["event"],
        read=EventIndex.from_bytes,
        beyond={
            **CALENDAR,
            r"^(payloads|targets|keys)\[\d+\]\.(role|path|keyholder): .* stands there": BY_ONE_FIELD,
        },
    ),
    "signing": Format(
        example=EXAMPLES["signing"],
        read=Signing.from_bytes,
        beyond={**CALENDAR, r"^merged: must not be before opened": "a schema cannot compare two fields"},
    ),
    "request": Format(
        example=example_request(),
        read=Request.from_bytes,
        beyond={
            r"payloads\[0\]\.payload: ": "a schema does not look into base64",
            r"payloads\[0\]\.version: must be \d+, as the payload says": "a schema does not look into base64",
            r"^(payloads|base|targets)\[\d+\]\.(role|path): .* stands there twice": BY_ONE_FIELD,
        },
    ),
    "hand-in": Format(
        example={"format": "kedge.hand-in/1", "request": example_request(), "responses": [EXAMPLES["response"]]},
        read=HandIn.from_bytes,
        beyond={
            r"payloads\[0\]\.payload: ": "a schema does not look into base64",
            r"payloads\[0\]\.version: must be \d+, as the payload says": "a schema does not look into base64",
            r"(payloads|base|targets)\[\d+\]\.(role|path): .* stands there twice": BY_ONE_FIELD,
            r"signs the same payload twice": "a schema cannot compare the entries of a list by two fields",
        },
    ),
    "response": Format(
        example=EXAMPLES["response"],
        read=Response.from_bytes,
        beyond={r"signs the same payload twice": "a schema cannot compare the entries of a list by two fields"},
    ),
    "catalogue": Format(
        example=EXAMPLES["catalogue"],
        read=CatalogueEntry.from_bytes,
        beyond={
            r"^document: does not give the bytes whose sha256": "a schema computes no digest",
            r"^beside\[\d+\]\.target: must stand beside": "a schema cannot compare two fields",
            r"^holds a number of \d+ digits": "the rule is of the JSON text, wherever the number stands",
            r"^holds the fraction 1\.[05]": "the rule is of the JSON text, wherever the number stands",
        },
    ),
    "target-custom": Format(example=EXAMPLES["target-custom"], read=read_custom, beyond={}),
}


def refusal(form: Format, data: bytes) -> str | None:
    """The parser's message, or None where it reads the document."""
    try:
        form.read(data)
    except DocumentError as error:
        return str(error)
    return None


@pytest.mark.parametrize("name", FORMATS)
def test_the_full_example_is_read_and_fits_its_schema(name: str) -> None:
    form = FORMATS[name]
    data = form.write(form.example)
    assert data is not None
    assert schemas.faults(name, form.example) == []
    assert refusal(form, data) is None


@pytest.mark.parametrize("name", FORMATS)
def test_the_parser_and_the_schema_refuse_the_same_documents(name: str) -> None:
    form = FORMATS[name]
    disagreements: list[str] = []
    needed: set[str] = set()
    refused = read = 0
    for mutation in mutations(form.example):
        data = form.write(mutation.document)
        if data is None:
            continue
        message, found = refusal(form, data), schemas.faults(name, mutation.document)
        refused, read = refused + (message is not None), read + (message is None)
        if (message is None) == (not found):
            continue
        reasons = {pattern for pattern in form.beyond if message is not None and re.search(pattern, message)}
        needed |= reasons
        if not reasons:
            verdict = (
                f"the parser refuses ({message})" if message is not None else f"only the schema refuses ({found[0]})"
            )
            disagreements.append(f"{mutation.what}: {verdict}")
    assert disagreements[:8] == [], f"{len(disagreements)} mutations are judged differently"
    assert needed == set(form.beyond), "every line of the list of what a schema cannot say is needed"
    assert refused > 100
    assert read > 0

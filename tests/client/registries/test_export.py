"""Exports of npm keys: byte for byte what Corepack reads, and a note for everything that the form cannot say."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.conftest import NEW, OLD, key_document
from kedge.errors import InputError, Reason, VerificationError
from kedge.registries.keys import KeySet
from kedge.registries.npm.export import Layout, export_keys
from kedge.registries.npm.registry import NPM

NOW = datetime(2026, 8, 22, tzinfo=UTC)
REGISTRY = "registry.example"


def keys_of(
    document: bytes, *, registry: str = REGISTRY, custom: Mapping[str, Any] | None = None, now: datetime = NOW
) -> KeySet:
    return NPM().parse(document, registry=registry, custom=custom, now=now)


BOTH = key_document(OLD, NEW)


def test_c1_the_export_of_the_real_target_is_corepacks_file_byte_for_byte(shared_vectors: Path) -> None:
    npm = shared_vectors / "npm"
    keys = keys_of((npm / "tuf-target-registry.npmjs.org-keys.json").read_bytes(), registry="registry.npmjs.org")
    expected = (npm / "COREPACK_INTEGRITY_KEYS.json").read_text("ascii")
    assert export_keys([keys], Layout.COREPACK_JSON).content.decode() == expected
    value = expected.removesuffix("\n")
    assert export_keys([keys], Layout.COREPACK_ENV).content.decode() == f"export COREPACK_INTEGRITY_KEYS='{value}'\n"
    assert export_keys([keys], Layout.COREPACK_DOTENV).content.decode() == f"COREPACK_INTEGRITY_KEYS='{value}'\n"
    assert export_keys([keys], Layout.GITHUB_ENV).content.decode() == f"COREPACK_INTEGRITY_KEYS={value}\n"
    entries = json.loads(value)["npm"]
    assert json.loads(export_keys([keys], Layout.NPM_ENDPOINT).content.decode()) == {"keys": entries}


def test_a_retired_key_is_included_with_a_note_unless_it_is_asked_away() -> None:
    everything = export_keys([keys_of(BOTH)], Layout.COREPACK_JSON)
    assert [key.id for key in everything.keys] == [OLD[0], NEW[0]]
    assert len(everything.notes) == 1
    assert "retired (it signed until 2025-01-29): Corepack reads no dates" in everything.notes[0]
    active = export_keys([keys_of(BOTH)], Layout.COREPACK_JSON, with_retired=False)
    assert [entry["keyid"] for entry in json.loads(active.value or "")["npm"]] == [NEW[0]]
    assert active.notes == (f"{OLD[0]} of {REGISTRY} is left out: it is retired",)


def test_before_its_time_is_over_a_key_is_not_retired() -> None:
    keys = keys_of(BOTH, now=datetime(2025, 1, 28, tzinfo=UTC))
    export = export_keys([keys], Layout.COREPACK_JSON, with_retired=False)
    assert [key.id for key in export.keys] == [OLD[0], NEW[0]]
    assert export.notes == ()


def test_a_key_that_is_not_valid_yet_is_carried_ahead_with_a_note() -> None:
    keys = keys_of(BOTH, now=datetime(2025, 1, 2, tzinfo=UTC))
    export = export_keys([keys], Layout.NPM_ENDPOINT)
    assert [key.id for key in export.keys] == [OLD[0], NEW[0]]
    assert "is valid from 2025-01-13 on, and is trusted at once" in export.notes[0]


@pytest.mark.parametrize("layout", Layout)
def test_a_revoked_key_is_never_exported(layout: Layout) -> None:
    custom = {"kedge": {"v": 1, "revoked": [OLD[0]]}}
    for with_retired in (True, False):
        export = export_keys([keys_of(BOTH, custom=custom)], layout, with_retired=with_retired)
        assert OLD[0] not in export.content.decode()
        assert NEW[0] in export.content.decode()
        assert f"{OLD[0]} of {REGISTRY} is left out: it was revoked" in export.notes


def test_a_key_that_one_issuer_revoked_is_not_exported_in_the_name_of_another() -> None:
    ours = keys_of(BOTH, custom={"kedge": {"v": 1, "revoked": [NEW[0]]}})
    theirs = keys_of(key_document(NEW), registry="other.example")
    export = export_keys([ours, theirs], Layout.COREPACK_JSON)
    assert [key.id for key in export.keys] == [OLD[0]]


def test_several_issuers_are_merged_and_each_key_says_where_it_is_from() -> None:
    issuers = [keys_of(key_document(NEW)), keys_of(key_document(OLD, NEW), registry="proxy.example/npm")]
    export = export_keys(issuers, Layout.COREPACK_JSON)
    assert [key.id for key in export.keys] == [NEW[0], OLD[0]]
    assert f"{NEW[0]} comes from registry.example/keys.json" in export.notes
    assert f"{OLD[0]} comes from proxy.example/npm/keys.json" in export.notes


def test_one_keyid_for_two_keys_of_two_issuers_is_refused() -> None:
    other = key_document((NEW[0], OLD[1], NEW[2]))
    with pytest.raises(InputError, match="name different keys"):
        export_keys([keys_of(BOTH), keys_of(other, registry="other.example")], Layout.COREPACK_JSON)


def test_a_key_for_attestations_only_is_not_exported() -> None:
    document = json.loads(BOTH)
    document["keys"][0]["keyUsage"] = "npm:attestations"
    export = export_keys([keys_of(json.dumps(document).encode())], Layout.COREPACK_JSON)
    assert [key.id for key in export.keys] == [NEW[0]]


def test_a_key_of_a_kind_that_the_tools_cannot_use_is_left_out_and_named() -> None:
    document = json.loads(BOTH)
    document["keys"][0]["publicKey"]["keyDetails"] = "PKIX_SOMETHING_NEW"
    export = export_keys([keys_of(json.dumps(document).encode())], Layout.NPM_ENDPOINT)
    assert [key.id for key in export.keys] == [NEW[0]]
    assert "npm, pnpm and Corepack cannot use PKIX_SOMETHING_NEW keys" in export.notes[0]


def test_no_key_that_is_left_is_refused_and_is_no_empty_list() -> None:
    with pytest.raises(VerificationError, match="no key is left to export") as caught:
        export_keys([keys_of(key_document(OLD))], Layout.COREPACK_JSON, with_retired=False)
    assert caught.value.refusal.reason is Reason.NO_KEYS


@given(keyid=st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=200))
def test_no_keyid_breaks_out_of_its_quotes(keyid: str) -> None:
    keys = keys_of(key_document((keyid, NEW[1], NEW[2])))
    exported = export_keys([keys], Layout.COREPACK_ENV)
    value = exported.value
    assert value is not None
    assert json.loads(value)["npm"][0]["keyid"] == keyid
    assert "'" not in value
    assert value.isascii()
    assert value.isprintable()
    assert shlex.split(exported.content.decode()) == ["export", f"COREPACK_INTEGRITY_KEYS={value}"]


def test_a_shell_reads_the_export_as_it_was_meant() -> None:
    keys = keys_of(key_document(("$(id)`id`'\"\\!", NEW[1], NEW[2])))
    export = export_keys([keys], Layout.COREPACK_ENV)
    script = f'{export.content.decode()}printf %s "$COREPACK_INTEGRITY_KEYS"'
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True)
    assert done.stdout == export.value

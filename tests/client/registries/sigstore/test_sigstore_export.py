"""Exports of a trusted root: what other tools read, byte for byte, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from kedge.errors import InputError, Reason, VerificationError
from kedge.registries.export import Exported, Source, find_exporter
from kedge.registries.keys import KeySet
from kedge.registries.sigstore.registry import Sigstore
from kedge.tuf.trust import Target


def source(keys: KeySet, vectors: Path) -> Source:
    def fetch(path: str) -> Target:
        data = (vectors / "sigstore" / path).read_bytes()
        return Target(path=path, data=data, sha256="", role="targets", custom=None)

    return Source(keys=keys, fetch=fetch)


def export(name: str, *sources: Source, with_retired: bool = True) -> Exported:
    return find_exporter(name).export(sources, with_retired=with_retired)


def test_trusted_root_json_is_exported_byte_for_byte(root_keys: KeySet, shared_vectors: Path) -> None:
    exported = export("sigstore-trusted-root", source(root_keys, shared_vectors))
    assert exported.content == (shared_vectors / "sigstore" / "trusted_root.json").read_bytes()
    assert exported.keys == root_keys.keys
    assert "as of 2026-08-22T00:00:00Z" in exported.notes[0]


def test_the_client_config_holds_the_same_documents_as_the_one_that_was_tried(
    root_keys: KeySet, shared_vectors: Path
) -> None:
    exported = export("sigstore-client-config", source(root_keys, shared_vectors))
    tried = json.loads((shared_vectors / "sigstore" / "client_trust_config.json").read_bytes())
    assert json.loads(exported.content) == tried


def test_jsonl_holds_a_root_a_line(root_keys: KeySet, shared_vectors: Path) -> None:
    one = source(root_keys, shared_vectors)
    lines = export("sigstore-jsonl", one, one).content.decode().splitlines()
    assert [json.loads(line) for line in lines] == [json.loads(root_keys.document)] * 2


def test_one_file_holds_one_root(root_keys: KeySet, shared_vectors: Path) -> None:
    one = source(root_keys, shared_vectors)
    with pytest.raises(InputError, match="holds one trusted root, not 2"):
        export("sigstore-trusted-root", one, one)


def test_what_has_ended_cannot_be_left_out(root_keys: KeySet, shared_vectors: Path) -> None:
    with pytest.raises(InputError, match="--without-retired"):
        export("sigstore-trusted-root", source(root_keys, shared_vectors), with_retired=False)


def test_another_registrys_keys_have_no_such_form(npm_keys: KeySet, shared_vectors: Path) -> None:
    with pytest.raises(InputError, match=r"registry\.npmjs\.org is no Sigstore instance"):
        export("sigstore-trusted-root", source(npm_keys, shared_vectors))


@pytest.mark.parametrize("name", ["sigstore-trusted-root", "sigstore-client-config", "sigstore-jsonl"])
def test_a_root_that_holds_a_revoked_key_is_not_exported(name: str, root_keys: KeySet, shared_vectors: Path) -> None:
    custom = {"kedge": {"v": 1, "revoked": [root_keys.keys[0].id]}}
    now = root_keys.reference_time
    keys = Sigstore().parse(root_keys.document, registry="sigstore", custom=custom, now=now)
    with pytest.raises(VerificationError) as caught:
        export(name, source(keys, shared_vectors))
    assert caught.value.refusal.reason is Reason.REVOKED_KEY
    unlisted = replace(keys, keys=keys.keys[1:])  # the control: once the entry has left the document
    assert export(name, source(unlisted, shared_vectors)).content

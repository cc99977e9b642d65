"""The catalogue's entries give the very bytes that their source published."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

import pytest

from kedge.documents import DocumentError
from kedge.errors import InputError
from kedge.registries.pgp.packets import dearmor
from kedge.registries.registry import Severity, find_registry
from kedge_repo.workspace.catalogue import CatalogueEntry, catalogue_entry, catalogue_names, known_path

CAUGHT = datetime(2026, 8, 22, tzinfo=UTC)  # certificates in the catalogue are judged as of then
SHIPPED = "registry.npmjs.org"


def shipped() -> Any:
    return json.loads((files("kedge_repo") / "_catalogue" / f"{SHIPPED}.json").read_bytes())


def test_npms_entry_gives_the_bytes_of_the_real_target() -> None:
    entry = catalogue_entry(SHIPPED)
    assert entry.target == "registry.npmjs.org/keys.json"
    assert len(entry.target_bytes) == 2121
    assert hashlib.sha256(entry.target_bytes).hexdigest() == entry.sources[0].sha256
    assert SHIPPED in catalogue_names()


def test_a_registry_that_is_not_there_is_named() -> None:
    with pytest.raises(InputError, match=r'the catalogue has no registry "nowhere"; it has .*registry\.npmjs\.org'):
        catalogue_entry("nowhere")


@pytest.mark.parametrize("registry", catalogue_names())
def test_each_entry_is_the_key_document_of_its_registry_as_clients_read_it(registry: str) -> None:
    entry, module = catalogue_entry(registry), find_registry(registry)
    assert (entry.registry, entry.target, entry.ecosystem) == (registry, module.target_path(registry), module.name)
    keys = module.parse(entry.target_bytes, registry=registry, custom=entry.custom, now=CAUGHT)
    assert keys.keys
    assert [finding for finding in module.lint(None, keys) if finding.severity is Severity.ERROR] == []


def test_the_id_by_which_clients_know_sigstore_has_the_same_bytes_where_they_look_for_them() -> None:
    short, entry, module = (
        catalogue_entry("sigstore"),
        catalogue_entry("sigstore/public-good"),
        find_registry("sigstore"),
    )
    assert (short.registry, short.target) == ("sigstore", module.target_path("sigstore"))
    assert short.beside == (("signing_config.v0.2.json", entry.beside[0][1]),)
    assert (short.target_bytes, short.custom, short.sources) == (entry.target_bytes, entry.custom, entry.sources)


TARGETS = [
    target
    for name in catalogue_names()
    for target in (catalogue_entry(name).target, *(path for path, _ in catalogue_entry(name).beside))
]
OURS = [
    "apt/acme/archive-keyring.gpg",
    "apt/acme/archive-keyring.asc",
    "go/sum.acme.example/vkey",
    "gradle/acme/verification-keyring.keys",
    "pgp/acme/keyring.gpg",
    "hex/acme/keys.json",
    "hex/acme/public_key.pem",
    "nuget/nuget.acme.example/v3/repository-signatures.json",
    "npm.acme.example/keys.json",
    "npm.acme.example/a/b/keys.json",
    "pub/pub.acme.example/source.json",
    "pub/pub.acme.example/packages/http.json",
    "sigstore/acme/trusted_root.json",
    "sigstore/acme/signing_config.v0.2.json",
    "tlog/policy",
]


@pytest.mark.parametrize("path", [*TARGETS, *OURS])
def test_a_path_that_an_ecosystem_reads_is_known(path: str) -> None:
    known = known_path(path)
    assert (known.is_read, known.nearest) == (True, None)


@pytest.mark.parametrize("path", TARGETS)
def test_a_slip_in_any_path_of_the_catalogue_leads_back_to_it(path: str) -> None:
    """Two letters are swapped at every third place, or one is left out, in the folder as in the file's name."""
    for at in range(len(path) % 3, len(path) - 1, 3):
        swapped = path[:at] + path[at + 1] + path[at] + path[at + 2 :]
        for slip in {swapped, path[:at] + path[at + 1 :]} - {path}:
            known = known_path(slip)
            if len(slip) == len(path):
                assert known.nearest == path, slip
            elif not known.is_read:
                assert known.nearest is not None, slip


@pytest.mark.parametrize(
    ("path", "nearest"),
    [
        ("apt/debain/archive-keyrnig.gpg", "apt/debian/archive-keyring.gpg"),
        ("apt/acme/archive-keyrnig.gpg", "apt/acme/archive-keyring.gpg"),
        ("atp/acme/archive-keyring.gpg", "apt/acme/archive-keyring.gpg"),
        ("hxe/acme/keys.json", "hex/acme/keys.json"),
        ("hex/acme/key.json", "hex/acme/keys.json"),
        ("npm.acme.example/key.json", "npm.acme.example/keys.json"),
        ("pub/pub.acme.example/sources.json", "pub/pub.acme.example/source.json"),
        ("tlog/polcy", "tlog/policy"),
        ("a.txt", None),
    ],
)
def test_a_path_that_no_ecosystem_reads_is_told_apart_and_the_nearest_named(path: str, nearest: str | None) -> None:
    known = known_path(path)
    assert (known.is_read, known.nearest) == (False, nearest)


def test_without_a_layout_the_document_is_compact() -> None:
    value = shipped()
    del value["layout"], value["sources"][0]["sha256"]
    entry = CatalogueEntry.from_bytes(json.dumps(value).encode())
    assert entry.target_bytes == json.dumps(value["document"], separators=(",", ":")).encode()
    assert entry.custom is None
    value["custom"] = {"kedge": {"v": 1}}
    assert CatalogueEntry.from_bytes(json.dumps(value).encode()).custom == {"kedge": {"v": 1}}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"format": "kedge.catalogue/2"}, "format: is"),
        ({"registry": ""}, "registry: must not be empty"),
        ({"target": "../keys.json"}, "target: the target path"),
        ({"layout": "pretty"}, 'layout: must be "compact" or "indent-4"'),
        ({"document": []}, "document: must be a table, not a list"),
        ({"document": {"keys": []}}, "document: does not give the bytes whose sha256 any of its sources names"),
        ({"custom": 1}, "custom: must be a table, not a number"),
        ({"sources": [{"what": "x", "date": "yesterday"}]}, "sources[0].date: must be a date"),
        ({"extra": 1}, "extra: is not a field"),
    ],
)
def test_a_malformed_entry_names_the_path(change: dict[str, object], problem: str) -> None:
    with pytest.raises(DocumentError) as caught:
        CatalogueEntry.from_bytes(json.dumps({**shipped(), **change}).encode())
    assert str(caught.value).startswith(problem)


@pytest.mark.parametrize(
    ("form", "expected"),
    [({"text": "sum.example+0\n"}, b"sum.example+0\n"), ({"base64": "mQAA/w=="}, b"\x99\x00\x00\xff")],
)
def test_a_document_that_is_no_json_is_carried_byte_for_byte(form: dict[str, str], expected: bytes) -> None:
    value = {name: item for name, item in shipped().items() if name not in ("document", "layout", "sources")}
    entry = CatalogueEntry.from_bytes(json.dumps({**value, **form, "sources": []}).encode())
    assert entry.target_bytes == expected


def test_a_document_in_two_forms_is_refused() -> None:
    with pytest.raises(DocumentError, match="must hold one of document, text and base64"):
        CatalogueEntry.from_bytes(json.dumps({**shipped(), "text": "x"}).encode())


@pytest.mark.parametrize(
    ("registry", "targets"),
    [
        ("apt/debian", ["apt/debian/archive-keyring.gpg", "apt/debian/archive-keyring.asc"]),
        ("hex/hexpm", ["hex/hexpm/keys.json", "hex/hexpm/public_key.pem"]),
    ],
)
def test_an_entry_is_read_by_its_module_and_what_stands_beside_it_is_the_same_keys(
    registry: str, targets: list[str]
) -> None:
    entry = catalogue_entry(registry)
    assert [entry.target, *(path for path, _ in entry.beside)] == targets
    module = find_registry(registry)
    keys = module.parse(entry.target_bytes, registry=registry, custom=entry.custom, now=CAUGHT)
    assert module.target_path(registry) == entry.target
    assert module.lint(None, keys) == ()
    ((_, beside),) = entry.beside
    if registry == "hex/hexpm":
        assert [key.pem for key in keys.keys] == [beside.decode()]
    else:
        assert dearmor(beside) == entry.target_bytes


@pytest.mark.parametrize("target", ["other/keys.txt", "registry.npmjs.org/keys.json", "registry.npmjs.org/../x"])
def test_what_stands_beside_a_document_stands_in_its_folder(target: str) -> None:
    value = {**shipped(), "beside": [{"target": target, "text": "x"}]}
    with pytest.raises(DocumentError, match=r"beside\[0\]\.target"):
        CatalogueEntry.from_bytes(json.dumps(value).encode())
    value["beside"][0]["target"] = "registry.npmjs.org/keys.txt"
    assert CatalogueEntry.from_bytes(json.dumps(value).encode()).beside == (("registry.npmjs.org/keys.txt", b"x"),)

"""The lint of npm's key documents: the mistakes of January 2025, and what the oldest consumers make of a document."""

from __future__ import annotations

import base64
import json
from copy import deepcopy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from kedge.registries.keys import KeySet
from kedge.registries.npm.registry import NPM
from kedge.registries.registry import Severity

REGISTRY = "registry.npmjs.org"
OLD = "SHA256:jl3bwswu80PjjokCgh0o2w5c2U4LhQAE57gj9cz1kzA"
NEW = "SHA256:DhQ8wR5APBvFHLF/+Tc+AYvPOdTpcIDqOhxsBHRwC7U"
ROTATION = datetime(2025, 1, 20, tzinfo=UTC)
LATER = datetime(2026, 8, 22, tzinfo=UTC)


@pytest.fixture
def both(repository: Path) -> dict[str, Any]:
    """npm's real document after the rotation: the old key with its end, and the new one."""
    document: dict[str, Any] = json.loads((repository / f"metadata/registries/{REGISTRY}.json").read_bytes())[
        "document"
    ]
    return deepcopy(document)


@pytest.fixture
def before(both: dict[str, Any]) -> dict[str, Any]:
    """The document of 2024: the old key, open at its end."""
    entries = [deepcopy(entry) for entry in both["keys"] if entry["keyId"] == OLD]
    for entry in entries:
        del entry["publicKey"]["validFor"]["end"]
    return {"keys": entries}


def read(document: dict[str, Any], now: datetime = LATER, revoked: tuple[str, ...] = ()) -> KeySet:
    custom = {"kedge": {"v": 1, "revoked": list(revoked)}} if revoked else None
    return NPM().parse(json.dumps(document).encode(), registry=REGISTRY, custom=custom, now=now)


def rules(old: KeySet | None, new: KeySet) -> list[str]:
    return [finding.rule.removeprefix("npm/") for finding in NPM().lint(old, new)]


def window(document: dict[str, Any], keyid: str) -> list[dict[str, str]]:
    return [entry["publicKey"]["validFor"] for entry in document["keys"] if entry["keyId"] == keyid]


def test_the_real_rotation_has_no_finding(both: dict[str, Any], before: dict[str, Any]) -> None:
    assert rules(None, read(both)) == []
    assert rules(read(before, ROTATION), read(both, ROTATION)) == []
    assert rules(read(both), read(both)) == []


def test_january_2025_the_old_key_dropped_is_an_error(both: dict[str, Any], before: dict[str, Any]) -> None:
    only_new = {"keys": [entry for entry in both["keys"] if entry["keyId"] == NEW]}
    findings = NPM().lint(read(before, ROTATION), read(only_new, ROTATION))
    assert [(finding.rule, finding.severity) for finding in findings] == [("npm/key-dropped", Severity.ERROR)] * 2
    assert OLD in findings[0].message
    assert findings[0].place == f"{REGISTRY}/keys.json: keys"


def test_january_2025_the_new_key_missing_is_an_error(both: dict[str, Any]) -> None:
    only_old = {"keys": [entry for entry in both["keys"] if entry["keyId"] == OLD]}
    assert (
        rules(read(only_old, datetime(2025, 1, 27, tzinfo=UTC)), read(only_old, datetime(2025, 1, 27, tzinfo=UTC)))
        == []
    )
    findings = NPM().lint(None, read(only_old, datetime(2025, 1, 30, tzinfo=UTC)))
    assert [(finding.rule, finding.severity) for finding in findings] == [("npm/no-active-key", Severity.ERROR)]


def test_a_stolen_key_may_go_even_if_it_was_the_last(before: dict[str, Any]) -> None:
    ended = deepcopy(before)
    for times in window(ended, OLD):
        times["end"] = "2025-01-20T00:00:00.000Z"
    findings = NPM().lint(read(before), read(ended, revoked=(OLD,)))
    assert [(finding.rule, finding.severity) for finding in findings] == [("npm/no-active-key", Severity.WARNING)]


def test_a_revoked_key_that_would_be_trusted_again_is_an_error(both: dict[str, Any]) -> None:
    assert rules(read(both, revoked=(OLD,)), read(both)) == ["key-unrevoked"]


def test_another_key_under_the_same_keyid_is_an_error(both: dict[str, Any]) -> None:
    changed = deepcopy(both)
    other = next(entry["publicKey"]["rawBytes"] for entry in both["keys"] if entry["keyId"] == OLD)
    for entry in changed["keys"]:
        if entry["keyId"] == NEW:
            entry["publicKey"]["rawBytes"] = other
    assert set(rules(read(both), read(changed))) == {"key-replaced", "keyid"}


def test_a_key_that_starts_later_or_ended_already_is_told(both: dict[str, Any], before: dict[str, Any]) -> None:
    later = deepcopy(both)
    for times in window(later, NEW):
        times["start"] = "2025-01-20T00:00:00.000Z"
    assert rules(read(both), read(later)) == ["start-later"] * 2
    assert rules(read(before), read(both)) == ["ended-in-the-past"] * 2
    control = deepcopy(both)
    for times in window(control, NEW):
        times["start"] = "2025-01-10T00:00:00.000Z"
    assert rules(read(both), read(control)) == []


@pytest.mark.parametrize(("start", "expected"), [("2025-01-29", ["windows-gap"] * 2), ("2025-01-28", [])])
def test_windows_must_overlap_at_a_rotation(both: dict[str, Any], start: str, expected: list[str]) -> None:
    for times in window(both, NEW):
        times["start"] = f"{start}T00:00:00.000Z"
    assert rules(None, read(both)) == expected


def test_a_keyid_that_is_not_its_keys_fingerprint_is_an_error_and_an_opaque_one_is_a_note(both: dict[str, Any]) -> None:
    for keyid, severity in (("SHA256:AAAA", Severity.ERROR), ("2025-key", Severity.NOTE)):
        changed = deepcopy(both)
        for entry in changed["keys"]:
            entry["keyId"] = keyid if entry["keyId"] == NEW else OLD
        findings = NPM().lint(None, read(changed))
        assert {(finding.rule, finding.severity) for finding in findings} == {("npm/keyid", severity)}
        assert NEW in findings[0].message


def test_what_the_oldest_consumers_cannot_read_is_told(both: dict[str, Any]) -> None:
    changed = deepcopy(both)
    del changed["keys"][2]["publicKey"]["validFor"]
    (finding,) = NPM().lint(None, read(changed))
    assert (finding.rule, finding.place) == ("npm/no-window", f"{REGISTRY}/keys.json: keys[2].publicKey")
    spki = Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    edwards = {"rawBytes": base64.b64encode(spki).decode(), "keyDetails": "PKIX_ED25519"}
    added = deepcopy(both)
    added["keys"].append(
        {
            "keyId": "ed",
            "keyUsage": "npm:signatures",
            "publicKey": {**edwards, "validFor": {"start": "2026-01-01T00:00:00Z"}},
        }
    )
    assert rules(None, read(added)) == ["unsupported-algorithm"]
    added["keys"] = [entry for entry in added["keys"] if entry["keyId"] != NEW]
    assert set(rules(None, read(added))) == {"windows-gap", "unsupported-algorithm", "no-readable-key"}


def test_an_end_that_npm_takes_from_another_usage_is_told(both: dict[str, Any]) -> None:
    both["keys"][1]["publicKey"]["validFor"]["end"] = "2026-01-29T00:00:00.000Z"
    assert rules(None, read(both)) == ["first-entry"]

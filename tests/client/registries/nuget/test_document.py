"""A feed's key document: every certificate ever used, what stands beside it, and the lint that keeps it so."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedge.documents import DocumentError
from kedge.errors import InputError, Reason, VerificationError
from kedge.registries.export import Source
from kedge.registries.keys import KeyFormat, KeySet, KeyStatus
from kedge.registries.nuget.export import nuget_config
from kedge.registries.nuget.registry import AUTHOR, REPOSITORY, TIMESTAMP, NuGet, read_feed
from kedge.registries.registry import NoKeysError, Registry, Severity
from kedge.tuf.trust import Target

NOW = datetime(2026, 8, 22, tzinfo=UTC)
FEED = "nuget/api.nuget.org"
INDEX = "https://api.nuget.org/v3/index.json"
FIRST, SECOND, THIRD, AUTHORS = "0e" * 32, "5a" * 32, "1f" * 32, "3f" * 32
OID = "2.16.840.1.101.3.4.2.1"


def entry(fingerprint: str, start: str, end: str, **more: Any) -> dict[str, Any]:
    return {"fingerprints": {OID: fingerprint}, "notBefore": start, "notAfter": end, "subject": "CN=x", **more}


OLD = entry(FIRST, "2018-04-10T00:00:00.0000000Z", "2021-04-14T12:00:00.0000000Z")
NEW = entry(SECOND, "2024-02-23T00:00:00.0000000Z", "2027-05-18T23:59:59.0000000Z")
CUSTOM = {
    "nuget": {
        "v": 1,
        "service_index": INDEX,
        "authors": [{"name": "Microsoft", "certificates": [AUTHORS.upper()]}],
        "timestamp_authorities": [THIRD],
    }
}


def document(*entries: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({"allRepositorySigned": True, "signingCertificates": list(entries), **more}).encode()


def parsed(data: bytes, custom: dict[str, Any] | None = None, *, now: datetime = NOW) -> KeySet:
    module: Registry = NuGet()
    return module.parse(data, registry=FEED, custom=custom, now=now)


def source(data: bytes, custom: dict[str, Any] | None = None) -> Source:
    keys = parsed(data, custom)

    def fetch(path: str) -> Target:
        return Target(path=path, data=data, sha256=keys.sha256, role="targets", custom=custom)

    return Source(keys=keys, fetch=fetch)


def test_the_resource_of_nuget_org_is_read_as_it_is(shared_vectors: Path) -> None:
    keys = parsed((shared_vectors / "nuget" / "repository-signatures-index.docs-sample.json").read_bytes())
    assert [(key.id[:8], key.status, key.usages) for key in keys.keys] == [
        ("0e5f38f5", KeyStatus.RETIRED, (REPOSITORY,)),
        ("5a2901d6", KeyStatus.RETIRED, (REPOSITORY,)),
        ("1f4b311d", KeyStatus.ACTIVE, (REPOSITORY,)),
    ]
    assert all(key.fingerprint == key.id and key.format is KeyFormat.CERTIFICATE_SHA256 for key in keys.keys)
    assert keys.keys[2].valid_until == datetime(2027, 5, 18, 23, 59, 59, tzinfo=UTC)


def test_what_the_resource_cannot_say_stands_beside_it() -> None:
    keys = parsed(document(NEW), CUSTOM)
    assert [(key.id, key.usages) for key in keys.keys] == [
        (SECOND, (REPOSITORY,)),
        (AUTHORS, (AUTHOR,)),
        (THIRD, (TIMESTAMP,)),
    ]
    feed = read_feed(FEED, CUSTOM)
    assert (feed.service_index, feed.authors) == (INDEX, {AUTHORS: "Microsoft"})


def test_a_revoked_certificate_is_revoked_however_it_is_written() -> None:
    keys = parsed(document(OLD, NEW), {"kedge": {"v": 1, "revoked": [SECOND.upper()]}})
    assert [key.status for key in keys.keys] == [KeyStatus.RETIRED, KeyStatus.REVOKED]


@pytest.mark.parametrize("registry", ["nuget", "nuget/", "nuget/a b", "nuget//x", "nuget/a/../b", "npm/a"])
def test_what_is_no_feeds_id_is_refused(registry: str) -> None:
    with pytest.raises(InputError, match="is not a NuGet feed's id"):
        NuGet().target_path(registry)


def test_one_host_may_have_several_feeds() -> None:
    path = NuGet().target_path("nuget/feeds.example:8443/team-1/all")
    assert path == "nuget/feeds.example:8443/team-1/all/repository-signatures.json"


@pytest.mark.parametrize(
    ("data", "custom", "problem"),
    [
        (b"[]", None, "must be a table, not a list"),
        (b"{}", None, "allRepositorySigned: is missing"),
        (document({**NEW, "fingerprints": {}}), None, "signingCertificates[0].fingerprints: must hold one by SHA-256"),
        (
            document({**NEW, "fingerprints": {"2.16.840.1.101.3.4.2.9": "00"}}),
            None,
            "signingCertificates[0].fingerprints: must hold one by SHA-256 (2.16.840.1.101.3.4.2.1); it holds 2.16.840",
        ),
        (document({**NEW, "fingerprints": {OID: "0"}}), None, 'signingCertificates[0].fingerprints."2.16.840.1.101'),
        (document({**NEW, "notAfter": "2020-01-01T00:00:00Z"}), None, "signingCertificates[0].notAfter: must be later"),
        (document({**NEW, "notAfter": "soon"}), None, "signingCertificates[0].notAfter: must be a time"),
        (document(NEW, {**OLD, "fingerprints": {OID: SECOND}}), None, "signingCertificates[1].fingerprints: 5a5a5a"),
        (document(*[NEW] * 1_001), None, "signingCertificates: holds 1001 entries, at most 1000 are read"),
        (b" " * 4_000_001, None, "is longer than 4000000 bytes"),
        (document(NEW), {"nuget": 1}, "custom.nuget: must be a table, not a number"),
        (document(NEW), {"nuget": {"v": 2}}, "custom.nuget.v: must be 1: a newer kedge is needed to read this"),
        (document(NEW), {"nuget": {"v": 1, "more": 1}}, "custom.nuget.more: is not a field of this document"),
        (
            document(NEW),
            {"nuget": {"v": 1, "service_index": "http://x"}},
            "custom.nuget.service_index: must be an https",
        ),
        (
            document(NEW),
            {"nuget": {"v": 1, "authors": [{"name": '"><x', "certificates": [FIRST]}]}},
            "custom.nuget.authors[0].name: must be a name without",
        ),
        (
            document(NEW),
            {"nuget": {"v": 1, "authors": [{"name": "a", "certificates": ["x"]}]}},
            "custom.nuget.authors[0].certificates[0]: must be 64 hexadecimal digits",
        ),
        (
            document(NEW),
            {"nuget": {"v": 1, "timestamp_authorities": ["x"]}},
            "custom.nuget.timestamp_authorities[0]: must be 64 hexadecimal digits",
        ),
    ],
)
def test_a_document_that_is_not_in_order_is_refused_by_path(data: bytes, custom: Any, problem: str) -> None:
    with pytest.raises(DocumentError) as caught:
        parsed(data, custom)
    assert str(caught.value).startswith(problem)


def test_no_certificates_at_all_is_an_error_of_its_own() -> None:
    with pytest.raises(NoKeysError):
        parsed(document())


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(0, 9) | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["allRepositorySigned", "signingCertificates", "fingerprints", OID, "notBefore", "notAfter", "x"]
                ),
                inner,
                max_size=5,
            )
        ),
        max_leaves=20,
    )
)
def test_whatever_stands_there_is_read_or_refused_by_name(value: Any) -> None:
    with pytest.raises(DocumentError):
        parsed(json.dumps(value).encode())


@pytest.mark.parametrize(
    ("custom", "found", "wrong"),
    [
        (CUSTOM, INDEX, False),
        (CUSTOM, "https://api.nuget.org/v3/other.json", True),
        (None, "https://api.nuget.org/v3/other.json", False),
        (None, "https://API.nuget.org/v3/other.json", False),
        (None, "http://api.nuget.org/v3/index.json", True),
        (None, "https://api.nuget.org.evil.example/v3/index.json", True),
        (None, "https://api.nuget.org@evil.example/", True),
    ],
)
def test_the_service_index_is_compared_with_what_is_signed_or_with_the_host(
    custom: dict[str, Any] | None, found: str, wrong: bool
) -> None:
    assert (read_feed(FEED, custom).check_service_index(found) is not None) is wrong


# lint


def rules(old: KeySet | None, new: KeySet) -> list[tuple[str, Severity]]:
    return [(finding.rule, finding.severity) for finding in NuGet().lint(old, new)]


def test_an_expired_certificate_that_is_dropped_is_stopped() -> None:
    before, after = parsed(document(OLD, NEW)), parsed(document(NEW))
    assert rules(before, after) == [("nuget/certificate-dropped", Severity.ERROR)]
    assert rules(before, parsed(document(NEW), {"kedge": {"v": 1, "revoked": [FIRST]}})) == []
    assert rules(after, before) == []


def test_the_rotation_before_may_2027_is_asked_for_in_time_and_rehearsed() -> None:
    late = datetime(2027, 2, 1, tzinfo=UTC)
    successor = entry("77" * 32, "2027-03-01T00:00:00Z", "2030-05-18T00:00:00Z")
    today = parsed(document(OLD, NEW), now=late)
    assert rules(None, today) == [("nuget/rotation-due", Severity.WARNING)]
    assert rules(None, parsed(document(OLD, NEW))) == []
    after = parsed(document(OLD, NEW, successor), now=late)
    assert rules(today, after) == []
    gone = parsed(document(OLD, NEW), now=datetime(2027, 6, 1, tzinfo=UTC))
    assert rules(None, gone) == [("nuget/no-active-certificate", Severity.ERROR)]


def test_a_repositorys_certificate_among_the_authors_is_a_misunderstanding() -> None:
    custom = {"nuget": {"v": 1, "authors": [{"name": "x", "certificates": [SECOND]}]}}
    assert rules(None, parsed(document(NEW), custom)) == [("nuget/repository-and-author", Severity.WARNING)]


# export


def test_the_export_places_each_fingerprint_where_nuget_looks_for_it() -> None:
    exported = nuget_config.export([source(document(OLD, NEW), CUSTOM)], with_retired=True)
    tree = ET.fromstring(exported.content)
    assert tree.find("config/add").attrib == {"key": "signatureValidationMode", "value": "require"}  # type: ignore[union-attr]
    (repository,) = tree.findall("trustedSigners/repository")
    assert repository.attrib == {"name": "api.nuget.org", "serviceIndex": INDEX}
    assert [each.attrib["fingerprint"] for each in repository] == [FIRST.upper(), SECOND.upper()]
    (author,) = tree.findall("trustedSigners/author")
    assert author.attrib == {"name": "Microsoft"}
    assert [each.attrib for each in author] == [
        {"fingerprint": AUTHORS.upper(), "hashAlgorithm": "SHA256", "allowUntrustedRoot": "false"}
    ]
    assert THIRD.upper().encode() not in exported.content


def test_the_export_of_the_real_resource_lists_what_the_sample_lists(shared_vectors: Path) -> None:
    data = (shared_vectors / "nuget" / "repository-signatures-index.docs-sample.json").read_bytes()
    sample = ET.fromstring((shared_vectors / "nuget" / "nuget.config.sample").read_bytes())
    ours = ET.fromstring(nuget_config.export([source(data)], with_retired=True).content)
    for path in ("config/add", "trustedSigners/repository/certificate"):
        assert [each.attrib for each in ours.findall(path)] == [each.attrib for each in sample.findall(path)]
    assert [each.get("serviceIndex") for each in ours.iter("repository")] == [INDEX]


def test_expired_certificates_stay_unless_they_are_asked_away_and_revoked_ones_never_do() -> None:
    custom = {"kedge": {"v": 1, "revoked": [SECOND]}}
    exported = nuget_config.export([source(document(OLD, NEW), custom)], with_retired=True)
    assert [key.id for key in exported.keys] == [FIRST]
    assert f"{SECOND} of {FEED} is left out: it was revoked" in exported.notes
    with pytest.raises(VerificationError, match="no certificate is left to export") as caught:
        nuget_config.export([source(document(OLD, NEW), custom)], with_retired=False)
    assert caught.value.refusal.reason is Reason.NO_KEYS

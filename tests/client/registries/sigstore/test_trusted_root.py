"""A Sigstore instance's trusted root as a key document: real, made here, and wrong."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from kedge.audit.evidence import Offline
from kedge.documents import DocumentError
from kedge.errors import ExpiredError, FetchError, InputError, StoreError
from kedge.registries.keys import KeySet, KeyStatus, TimeBasis
from kedge.registries.registry import NoKeysError, Registry, Severity, find_registry
from kedge.registries.sigstore.registry import CERTIFICATE_LOG, ISSUER, LOG, TIMESTAMPER, Sigstore
from kedge.transport.mirror import Transport
from support.world import World

NOW = datetime(2026, 8, 22, tzinfo=UTC)
REKOR = "wNI9atQGlz+VWfO6LRygH4QUfY/8W4RFwiT5i5WRgB0="
Edit = Callable[[Any], object]
Require = Callable[[object, str], None]


@pytest.fixture(scope="module")
def real(shared_vectors: Path) -> bytes:
    return (shared_vectors / "sigstore" / "trusted_root.json").read_bytes()


def parse(data: bytes, custom: Any = None) -> KeySet:
    return Sigstore().parse(data, registry="sigstore", custom=custom, now=NOW)


def edited(data: bytes, edit: Edit) -> bytes:
    document = copy.deepcopy(json.loads(data))
    edit(document)
    return json.dumps(document).encode()


def test_the_module_is_found_by_its_id_and_keeps_to_the_protocol() -> None:
    module: Registry = find_registry("sigstore")
    assert isinstance(module, Sigstore)
    assert isinstance(find_registry("sigstore/acme"), Sigstore)
    assert module.target_path("sigstore") == "trusted_root.json"
    assert module.target_path("sigstore/acme") == "sigstore/acme/trusted_root.json"


@pytest.mark.parametrize("name", ["sigstore/", "sigstore/../x", "sigstore/a/b", "Sigstore", "sigstore/a\n"])
def test_an_id_that_is_no_instance_is_the_users_fault(name: str) -> None:
    with pytest.raises(InputError):
        Sigstore().target_path(name)


def test_the_real_trusted_root_gives_its_logs_and_authorities(real: bytes) -> None:
    keys = parse(real)
    usages = [key.usages[0] for key in keys.keys]
    assert {name: usages.count(name) for name in usages} == {LOG: 2, CERTIFICATE_LOG: 2, ISSUER: 2, TIMESTAMPER: 1}
    assert keys.find(REKOR, LOG).status is KeyStatus.ACTIVE
    assert {key.status for key in keys.keys if ISSUER in key.usages} == {KeyStatus.RETIRED, KeyStatus.ACTIVE}
    assert {key.time_basis for key in keys.keys} == {TimeBasis.LOG_TIME}
    assert keys.document == real


def test_what_tuf_says_beside_it_is_revoked(real: bytes) -> None:
    keys = parse(real, {"kedge": {"v": 1, "revoked": [REKOR]}})
    assert keys.find(REKOR, LOG).status is KeyStatus.REVOKED


@pytest.mark.parametrize(
    ("edit", "place"),
    [
        (lambda d: d.pop("mediaType"), "mediaType: is missing"),
        (lambda d: d.update(mediaType="application/json"), "mediaType: must be"),
        (lambda d: d["tlogs"][0]["logId"].update(keyId="not base64"), "tlogs[0].logId.keyId: must be base64"),
        (lambda d: d["tlogs"][0]["logId"].update(keyId="wNI="[:3] + "J="), "tlogs[0].logId.keyId: must be base64"),
        (lambda d: d["tlogs"][0]["publicKey"].update(rawBytes="AAAA"), "tlogs[0].publicKey.rawBytes: must be"),
        (lambda d: d["ctlogs"][0]["publicKey"]["validFor"].update(end="x"), "ctlogs[0].publicKey.validFor.end"),
        (lambda d: d["certificateAuthorities"][0]["certChain"].update(certificates=[]), "must not be empty"),
        (
            lambda d: d["certificateAuthorities"][0]["certChain"]["certificates"][0].update(rawBytes="AAAA"),
            "certificateAuthorities[0].certChain.certificates[0].rawBytes: must be an X.509 certificate",
        ),
        (
            lambda d: d["certificateAuthorities"][0]["validFor"].update(end="2020-01-01T00:00:00Z"),
            "certificateAuthorities[0].validFor.end: must be later than start",
        ),
        (lambda d: d["tlogs"].append({**d["tlogs"][0], "logId": d["tlogs"][1]["logId"]}), "tlogs[2].logId: stands for"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(real: bytes, edit: Edit, place: str) -> None:
    with pytest.raises(DocumentError) as caught:
        parse(edited(real, edit))
    assert place in str(caught.value)


def test_a_root_without_a_log_names_no_key(real: bytes) -> None:
    with pytest.raises(NoKeysError):
        parse(edited(real, lambda d: d.update(tlogs=[])))


def test_a_key_of_an_unknown_algorithm_takes_no_other_away(real: bytes) -> None:
    keys = parse(edited(real, lambda d: d["tlogs"][1]["publicKey"].update(keyDetails="PKIX_ML_DSA_65")))
    assert len([key for key in keys.keys if LOG in key.usages]) == 2


def rules(old: bytes | None, new: bytes, custom: Any = None) -> dict[str, Severity]:
    found = Sigstore().lint(parse(old) if old is not None else None, parse(new, custom))
    assert all(finding.place.startswith("trusted_root.json: ") and finding.message for finding in found)
    return {finding.rule.removeprefix("sigstore/"): finding.severity for finding in found if finding.rule != NOT_READ}


NOT_READ = "sigstore/not-read"


def test_the_real_root_in_place_of_itself_has_nothing_against_it(real: bytes) -> None:
    assert rules(real, real) == {}


@pytest.mark.parametrize(
    ("edit", "rule", "severity"),
    [
        (lambda d: d["tlogs"].pop(0), "dropped", Severity.ERROR),
        (lambda d: d["certificateAuthorities"].pop(0), "dropped", Severity.ERROR),
        (lambda d: d.update(timestampAuthorities=[]), "dropped", Severity.ERROR),
        (lambda d: d.update(ctlogs=[]), "nothing-active", Severity.ERROR),
        (
            lambda d: d["ctlogs"][0]["publicKey"]["validFor"].update(end="2022-01-01T00:00:00Z"),
            "window-shortened",
            Severity.WARNING,
        ),
        (
            lambda d: d["tlogs"][0]["publicKey"].update(rawBytes=d["ctlogs"][0]["publicKey"]["rawBytes"]),
            "replaced",
            Severity.ERROR,
        ),
        (
            lambda d: d.update(mediaType="application/vnd.dev.sigstore.trustedroot.v0.2+json"),
            "media-type",
            Severity.ERROR,
        ),
    ],
)
def test_a_root_that_would_stop_somebody_is_found(real: bytes, edit: Edit, rule: str, severity: Severity) -> None:
    assert rules(real, edited(real, edit))[rule] is severity


def test_a_key_that_was_revoked_may_leave_the_root(real: bytes) -> None:
    without = edited(real, lambda d: d["tlogs"].pop(0))
    assert "dropped" not in rules(real, without, {"kedge": {"v": 1, "revoked": [REKOR]}})


def test_the_first_ed25519_log_is_warned_of_before_it_breaks_older_clients(real: bytes) -> None:
    before = edited(real, lambda d: d["tlogs"].pop(1))
    assert rules(before, real) == {"new-algorithm": Severity.WARNING, "several-logs": Severity.WARNING}


def test_the_sigstore_python_that_is_installed_reads_it_or_says_so(real: bytes, require: Require) -> None:
    require(find_spec("sigstore"), "sigstore-python is not installed: run make signers")
    assert Sigstore().lint(None, parse(real))[-1].rule != "sigstore/unreadable"
    broken = edited(real, lambda d: d["tlogs"][0].update(hashAlgorithm="SHA9"))
    assert "unreadable" in rules(real, broken)


class Served:
    """A repository that carries the real trusted root, and a client that keeps what it was served."""

    def __init__(self, folder: Path, root: bytes) -> None:
        self.world = World(folder)
        self.world.repo.add_target("trusted_root.json", root)
        self.world.repo.publish()

    def keys(self, transport: Transport | None = None) -> KeySet:
        return self.world.client(transport).registry_keys("sigstore")


def test_s2_a_stored_root_that_was_changed_is_fetched_again_or_refused(real: bytes, tmp_path: Path) -> None:
    """formats.md §12, s2: a cache is verified again each time that it is read."""
    served = Served(tmp_path, real)
    assert served.keys().document == real
    blobs = [path for path in (tmp_path / "blobs").rglob("*") if path.is_file() and path.read_bytes() == real]
    assert blobs
    for path in blobs:
        path.chmod(0o644)
        path.write_bytes(real.replace(b"rekor.sigstore.dev", b"rekor.sigstore.bad", 1))
    with pytest.raises((FetchError, StoreError)):
        served.keys(Offline())
    assert served.keys().document == real  # the control: with the repository there it is whole again


def test_s3_a_root_whose_trust_has_expired_is_not_given_offline(real: bytes, tmp_path: Path) -> None:
    """formats.md §12, s3: too old is a refusal of its own, with an exit status of its own."""
    served = Served(tmp_path, real)
    served.keys()
    assert served.keys(Offline()).document == real  # the control: until then what is stored answers
    served.world.clock.advance(timedelta(days=400))
    with pytest.raises(ExpiredError) as caught:
        served.keys(Offline())
    assert caught.value.exit_code == 4

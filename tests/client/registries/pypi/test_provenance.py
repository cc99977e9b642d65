"""PEP 740 provenance: a real one, those of an instance of our own, and what an index may serve instead."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from kedge.errors import FetchError
from kedge.registries import Allowances, parse_allowance
from kedge.registries.pypi.index import IndexFile
from kedge.registries.pypi.locked import LockedFile, Origin
from kedge.registries.pypi.verify import Outcome, Result, Sources, verify_files
from kedge.registries.sigstore.expectations import Expectations, Publisher, PypiRule
from kedge.registries.sigstore.registry import Sigstore
from kedge.registries.sigstore.verify import BundleVerifier
from support.attested import SLSA, RealAttestations, SigstoreInstance, statement

NOW = datetime(2026, 8, 22, tzinfo=UTC)
PUBLISH = "https://docs.pypi.org/attestations/publish/v1"
REAL = LockedFile(
    project="pypi-attestations",
    version="0.0.19",
    filename="pypi_attestations-0.0.19.tar.gz",
    sha256="9bb1add04b1b4e182be6b0b80931593f7a291eb49d69b4fd728a5d4cbcdc4bd3",
)
TRAIL_OF_BITS = Publisher(kind="GitHub", repository="trailofbits/pypi-attestations", workflow="release.yml")
SHA = "ab" * 32
FILE = LockedFile(project="sample", version="1.0", filename="sample-1.0.tar.gz", sha256=SHA)
OWN = Publisher(kind="GitHub", repository="o/r", workflow="release.yml")


class StubIndex:
    """An index in memory."""

    source = "https://index.example"

    def __init__(self, provenances: dict[str, bytes | FetchError], listed: tuple[IndexFile, ...] = ()) -> None:
        self.provenances = provenances
        self.listed = listed

    def find(self, project: str, sha256: str) -> str | None:
        assert project
        return next((file.filename for file in self.listed if file.sha256 == sha256), None)

    def provenance(self, project: str, version: str, filename: str) -> bytes | None:
        assert project
        assert version
        found = self.provenances.get(filename)
        if isinstance(found, FetchError):
            raise found
        return found


NOTHING_ALLOWED = Allowances(today=NOW.date())


def allow(*texts: str) -> Allowances:
    return Allowances(entries=tuple(parse_allowance(text) for text in texts), today=NOW.date())


def judge(
    served: bytes | FetchError | None,
    verifier: BundleVerifier,
    *rules: PypiRule,
    file: LockedFile = FILE,
    listed: tuple[IndexFile, ...] = (),
    more: Mapping[str, bytes] | None = None,
    allowances: Allowances = NOTHING_ALLOWED,
) -> Result:
    provenances: dict[str, bytes | FetchError] = {f"{name}.tar.gz": data for name, data in (more or {}).items()}
    if served is not None:
        provenances[file.filename or "sample-1.0.tar.gz"] = served
    index: Any = StubIndex(provenances, listed)
    (result,) = verify_files([file], Sources(index=index), Expectations(pypi=rules), verifier, allowances=allowances)
    return result


@pytest.fixture(scope="module")
def real_verifier(shared_vectors: Path) -> BundleVerifier:
    data = RealAttestations(shared_vectors).trusted_root
    return BundleVerifier(Sigstore().parse(data, registry="sigstore", custom=None, now=NOW))


@pytest.fixture(scope="module")
def real(shared_vectors: Path) -> bytes:
    return (shared_vectors / "pypi" / "pypi_attestations-0.0.19.tar.gz.provenance").read_bytes()


@pytest.fixture(scope="module")
def instance() -> SigstoreInstance:
    return SigstoreInstance()


@pytest.fixture(scope="module")
def verifier(instance: SigstoreInstance) -> BundleVerifier:
    return BundleVerifier(Sigstore().parse(instance.trusted_root(), registry="sigstore", custom=None, now=NOW))


def rule(publisher: Publisher | None = None, *, project: str = "sample", pinned: str | None = None) -> PypiRule:
    return PypiRule(project=project, publisher=publisher, pinned=pinned)


def attestation(bundle: dict[str, Any]) -> dict[str, Any]:
    """A bundle in PyPI's form."""
    material, envelope = bundle["verificationMaterial"], bundle["dsseEnvelope"]
    return {
        "version": 1,
        "verification_material": {
            "certificate": material["certificate"]["rawBytes"],
            "transparency_entries": material["tlogEntries"],
        },
        "envelope": {"statement": envelope["payload"], "signature": envelope["signatures"][0]["sig"]},
    }


def provenance(*bundles: dict[str, Any], repository: str = "o/r") -> bytes:
    publisher = {"kind": "GitHub", "repository": repository, "workflow": "release.yml", "environment": None}
    entry = {"publisher": publisher, "attestations": [attestation(bundle) for bundle in bundles]}
    return json.dumps({"version": 1, "attestation_bundles": [entry]}).encode()


def published(sha256: str = SHA, name: str = "sample-1.0.tar.gz", kind: str = PUBLISH) -> dict[str, Any]:
    return statement(name, kind, None, sha256=sha256)


def test_p1_the_real_provenance_is_verified_for_the_publisher_that_is_expected(
    real: bytes, real_verifier: BundleVerifier
) -> None:
    """formats.md §12, p1."""
    result = judge(real, real_verifier, rule(TRAIL_OF_BITS, project="pypi-attestations"), file=REAL)
    assert (result.checked.outcome, result.checked.detail) == (Outcome.VERIFIED, "")
    assert result.build is not None
    assert result.build.repository == "https://github.com/trailofbits/pypi-attestations"
    assert result.checked.facts["publisher"] == "GitHub trailofbits/pypi-attestations (release.yml)"


@pytest.mark.parametrize(
    "other",
    [
        Publisher(kind="GitHub", repository="trailofbits/other", workflow="release.yml"),
        Publisher(kind="GitHub", repository="trailofbits/pypi-attestations", workflow="evil.yml"),
        Publisher(kind="GitLab", repository="trailofbits/pypi-attestations", workflow="release.yml"),
        Publisher(kind="Google", email="keyholder@example.com"),
    ],
)
def test_p1_any_other_publisher_is_refused(real: bytes, real_verifier: BundleVerifier, other: Publisher) -> None:
    result = judge(real, real_verifier, rule(other, project="pypi-attestations"), file=REAL)
    assert result.checked.outcome is Outcome.WRONG_PUBLISHER
    assert result.checked.is_fault
    assert "was published by GitHub trailofbits/pypi-attestations (release.yml), expected" in result.checked.detail


def test_without_a_rule_the_certificate_is_shown_and_the_index_is_not_taken_for_it(
    real: bytes, real_verifier: BundleVerifier
) -> None:
    result = judge(real, real_verifier, file=REAL)
    assert result.checked.outcome is Outcome.NO_EXPECTATION
    assert "its certificate names GitHub trailofbits/pypi-attestations (release.yml)" in result.checked.detail


def texts(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], str]]:
    if isinstance(value, dict | list):
        for step, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from texts(item, (*path, step))
    elif isinstance(value, str):
        yield path, value


def test_each_text_of_a_real_provenance_altered_is_refused(real: bytes, real_verifier: BundleVerifier) -> None:
    document, count = json.loads(real), 0
    for path, text in texts(document):
        for altered in (text[:-1], text[: len(text) // 2] + "x" + text[len(text) // 2 + 1 :], text + "x"):
            changed = copy.deepcopy(document)
            inner = changed
            for step in path[:-1]:
                inner = inner[step]
            inner[path[-1]] = altered
            result = judge(
                json.dumps(changed).encode(), real_verifier, rule(TRAIL_OF_BITS, project="pypi-attestations"), file=REAL
            )
            if altered != text:
                count += 1
                assert result.checked.outcome is Outcome.REFUSED, (path, result.checked)
                assert result.checked.detail
    assert count > 30


def test_the_provenance_of_another_file_is_refused(real: bytes, real_verifier: BundleVerifier) -> None:
    other = LockedFile(project="pypi-attestations", filename="pypi_attestations-0.0.20.tar.gz", sha256=REAL.sha256)
    result = judge(real, real_verifier, rule(TRAIL_OF_BITS, project="pypi-attestations"), file=other)
    assert result.checked.detail.startswith("subject: is pypi_attestations-0.0.19.tar.gz, expected")
    other = LockedFile(project="pypi-attestations", filename=REAL.filename, sha256="00" * 32)
    result = judge(real, real_verifier, rule(TRAIL_OF_BITS, project="pypi-attestations"), file=other)
    assert result.checked.detail.startswith("subject's digest: is sha256 9bb1")


@pytest.mark.parametrize("name", ["sample-1.0.tar.gz", "Sample-1.0.tar.gz"])
def test_ones_own_publisher_is_verified(instance: SigstoreInstance, verifier: BundleVerifier, name: str) -> None:
    result = judge(provenance(instance.attest(published(name=name))), verifier, rule(OWN))
    assert result.checked.outcome is Outcome.VERIFIED, result.checked.detail


Make = Callable[[SigstoreInstance], bytes]


@pytest.mark.parametrize(
    ("make", "outcome", "detail"),
    [
        (
            lambda i: provenance(i.attest(published()), repository="someone/else"),
            Outcome.REFUSED,
            "identity: the index names the publisher GitHub someone/else (release.yml), and the certificate GitHub o/r",
        ),
        (
            lambda i: provenance(i.attest(published(), repository="https://github.com/evil/r"), repository="evil/r"),
            Outcome.WRONG_PUBLISHER,
            "was published by GitHub evil/r (release.yml), expected GitHub o/r (release.yml)",
        ),
        (
            lambda i: provenance(i.attest(published(), issuer="https://issuer.example")),
            Outcome.WRONG_PUBLISHER,
            "was published by nobody it can name",
        ),
        (
            lambda i: provenance(i.attest(published(kind="https://example.com/x"))),
            Outcome.REFUSED,
            "statement: is of the kind https://example.com/x",
        ),
        (
            lambda i: provenance(i.attest(published()), i.attest(published("11" * 32))),
            Outcome.REFUSED,
            "subject's digest: is sha256 1111",
        ),
        (lambda _: provenance(SigstoreInstance().attest(published())), Outcome.REFUSED, "signing certificate"),
        (lambda _: provenance(), Outcome.REFUSED, "its provenance cannot be read: attestation_bundles"),
        (lambda _: b'{"version": 2, "attestation_bundles": []}', Outcome.REFUSED, "its provenance cannot be read"),
        (lambda _: b"<html>", Outcome.REFUSED, "its provenance cannot be read"),
        (lambda _: b'{"version": 1, "attestation_bundles": [{}]}', Outcome.REFUSED, "its provenance cannot be read"),
    ],
)
def test_what_an_index_may_serve_instead_is_refused(
    instance: SigstoreInstance, verifier: BundleVerifier, make: Make, outcome: Outcome, detail: str
) -> None:
    result = judge(make(instance), verifier, rule(OWN))
    assert (result.checked.outcome, result.checked.detail[: len(detail)]) == (outcome, detail)
    assert result.build is None


def test_a_workflow_of_another_repository_is_not_the_publishers(
    instance: SigstoreInstance, verifier: BundleVerifier
) -> None:
    """A certificate whose workflow lies outside its source repository names no publisher of ours."""
    served = provenance(instance.attest(published(), workflow="../../evil/w/.github/workflows/release.yml"))
    assert judge(served, verifier, rule(OWN)).checked.outcome in (Outcome.WRONG_PUBLISHER, Outcome.REFUSED)


def test_what_somebody_else_says_beside_it_is_noted(instance: SigstoreInstance, verifier: BundleVerifier) -> None:
    document = json.loads(provenance(instance.attest(published())))
    other = instance.attest(published(kind=SLSA), repository="https://github.com/b/r")
    document["attestation_bundles"] += json.loads(provenance(other, repository="b/r"))["attestation_bundles"]
    result = judge(json.dumps(document).encode(), verifier, rule(OWN))
    assert result.checked.outcome is Outcome.VERIFIED
    assert result.checked.notes == ("beside it: an attestation by GitHub b/r (release.yml)",)


def test_a_pinned_earlier_release_says_who_must_publish(instance: SigstoreInstance, verifier: BundleVerifier) -> None:
    old = "cd" * 32
    listed = (IndexFile("sample-0.9.tar.gz", old),)
    earlier = provenance(instance.attest(published(old, "sample-0.9.tar.gz")))
    served = provenance(instance.attest(published()))
    more: dict[str, bytes] = {"sample-0.9": earlier}
    assert judge(served, verifier, rule(pinned=old), listed=listed, more=more).checked.outcome is Outcome.VERIFIED
    evil = provenance(instance.attest(published(), repository="https://github.com/evil/r"), repository="evil/r")
    result = judge(evil, verifier, rule(pinned=old), listed=listed, more=more)
    assert result.checked.outcome is Outcome.WRONG_PUBLISHER
    # The provenance of the pinned release is bound to the digest that the user pinned.
    more["sample-0.9"] = provenance(
        instance.attest(published("ee" * 32, "sample-0.9.tar.gz"), repository="https://github.com/evil/r"),
        repository="evil/r",
    )
    result = judge(evil, verifier, rule(pinned=old), listed=listed, more=more)
    assert result.checked.outcome is Outcome.NO_EXPECTATION
    assert "subject's digest" in result.checked.detail


@pytest.mark.parametrize(
    ("served", "file", "outcome"),
    [
        (None, FILE, Outcome.NO_PROVENANCE),
        (FetchError("https://index.example: answers 500"), FILE, Outcome.UNREACHABLE),
        (None, LockedFile(project="sample", version="1.0", sha256=SHA), Outcome.NOT_FOUND),
        (None, LockedFile(project="sample", unbound="is not bound"), Outcome.NOT_BOUND),
    ],
)
def test_what_cannot_be_judged_is_a_named_fault(
    verifier: BundleVerifier, served: bytes | FetchError | None, file: LockedFile, outcome: Outcome
) -> None:
    result = judge(served, verifier, rule(OWN), file=file)
    assert (result.checked.outcome, result.checked.is_fault) == (outcome, True)
    assert result.checked.detail


@pytest.mark.parametrize(
    "origin",
    [
        Origin("git", "https://github.com/corp/x"),
        Origin("remote", "https://x.example/sample-1.0.zip"),
        Origin("local", "../sample"),
        Origin("local", "dist/sample-1.0.tar.gz"),
    ],
)
def test_c14_what_comes_from_no_index_fails_unless_the_user_allows_it(verifier: BundleVerifier, origin: Origin) -> None:
    file = LockedFile(project="sample", unbound="comes from no index", origin=origin)
    result = judge(None, verifier, rule(OWN), file=file)
    assert (result.checked.outcome, result.checked.is_fault) == (Outcome.UNVOUCHED, True)
    assert f"--allow '{origin.kind}=" in result.checked.detail
    plain = origin.source.removeprefix("https://")
    allowed = judge(None, verifier, rule(OWN), file=file, allowances=allow(f"{origin.kind}={plain}"))
    assert (allowed.checked.outcome, allowed.checked.is_fault) == (Outcome.ALLOWED, False)
    other = judge(None, verifier, rule(OWN), file=file, allowances=allow(f"sdk={plain}", f"{origin.kind}=other"))
    assert other.checked.outcome is Outcome.UNVOUCHED


def test_a_folder_of_the_project_is_nobody_elses(verifier: BundleVerifier) -> None:
    file = LockedFile(project="own", unbound="comes from no index", origin=Origin("local", "packages/own"))
    result = judge(None, verifier, rule(OWN), file=file)
    assert (result.checked.outcome, result.checked.is_fault) == (Outcome.SKIPPED, False)


def test_a_digest_alone_needs_an_index_to_name_its_file(verifier: BundleVerifier, tmp_path: Path) -> None:
    file = LockedFile(project="sample", version="1.0", sha256=SHA)
    (result,) = verify_files(
        [file], Sources(folder=tmp_path), Expectations(pypi=(rule(OWN),)), verifier, allowances=NOTHING_ALLOWED
    )
    assert result.checked.outcome is Outcome.NOT_FOUND
    assert "no index was asked" in result.checked.detail


def test_a_file_of_another_project_under_a_locked_digest_is_refused(
    instance: SigstoreInstance, verifier: BundleVerifier
) -> None:
    listed = (IndexFile("evil-1.0.tar.gz", SHA),)
    file = LockedFile(project="sample", version="1.0", sha256=SHA)
    served = provenance(instance.attest(published(name="evil-1.0.tar.gz")))
    result = judge(None, verifier, rule(OWN), file=file, listed=listed, more={"evil-1.0": served})
    assert result.checked.outcome is Outcome.REFUSED


def test_an_email_of_google_is_a_publisher_too(instance: SigstoreInstance, verifier: BundleVerifier) -> None:
    bundle = instance.attest(published(), issuer="https://accounts.google.com")
    uri = "https://github.com/o/r/.github/workflows/release.yml@refs/tags/v1"
    document = json.loads(provenance(bundle))
    document["attestation_bundles"][0]["publisher"] = {"kind": "Google", "email": uri}
    result = judge(json.dumps(document).encode(), verifier, rule(Publisher(kind="Google", email=uri)))
    assert result.checked.outcome is Outcome.VERIFIED, result.checked.detail

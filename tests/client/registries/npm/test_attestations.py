"""Attestations of npm packages through a whole run: real ones, and what an honest or a lying registry may serve."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from kedge.client.anchor import Anchor
from kedge.client.client import TrustClient
from kedge.errors import InputError
from kedge.registries.npm.attestations import Attested, Attesting, read_claims
from kedge.registries.npm.attestor import Attestor
from kedge.registries.npm.config import Registries, Upstreams
from kedge.registries.npm.fetch import FetchLimits
from kedge.registries.npm.judge import Cause, Outcome, Policy, RetiredKeys, Verdict
from kedge.registries.npm.keyring import KeyRing
from kedge.registries.npm.locked import LockedPackage, parse_sri
from kedge.registries.npm.verify import Settings, verify_packages
from kedge.registries.sigstore.expectations import Expectations, NpmRule
from kedge.transport.mirror import Mirror
from support.attested import (
    SIGSTORE_1_0_0,
    RealAttestations,
    SigstoreInstance,
    provenance,
    publish_statement,
)
from support.clock import SettableClock
from support.packages import PackageRegistry, SigningKey, archive_of, integrity_of
from support.server import HostileServer, bytes_of, status
from support.simulator import RepositorySimulator

NOW = datetime(2026, 1, 1, tzinfo=UTC)
UPSTREAM, OTHER = "registry.example", "registry.npmjs.org"
LIMITS = FetchLimits(total_s=60, idle_s=60, attempts=1, max_bytes=1 << 20)
SOURCE = "https://github.com/o/r"


class World:
    """A repository with npm's keys and a trusted root, a registry, and runs over it."""

    def __init__(self, folder: Path, *, real: RealAttestations | None = None) -> None:
        self.folder = folder
        self.instance = SigstoreInstance()
        self.npm = PackageRegistry()
        self.key = SigningKey("SHA256:own", start="2020-01-01T00:00:00Z")
        self.repo = RepositorySimulator(now=NOW)
        self.root = real.trusted_root if real is not None else self.instance.trusted_root()
        self.publish(self.key)
        if real is not None:
            self.repo.add_target(f"{OTHER}/keys.json", real.npm_keys)
            self.write()

    def publish(self, *keys: SigningKey) -> None:
        """Publish these keys for packages and attestations."""
        entries = [key.entry(usage) for key in keys for usage in ("npm:signatures", "npm:attestations")]
        self.repo.add_target(f"{UPSTREAM}/keys.json", json.dumps({"keys": entries}).encode())
        self.repo.add_target("trusted_root.json", self.root)
        self.write()

    def write(self) -> None:
        self.repo.publish()
        self.repo.write(self.folder / "repo")

    def keyring(self) -> KeyRing:
        anchor = Anchor(
            name="test",
            initial_root=self.repo.initial_root,
            mirrors=(Mirror(url=str(self.folder / "repo")),),
            registries=(UPSTREAM, OTHER, "sigstore"),
        )

        def speaker(issuer: str) -> Anchor | None:
            return anchor if issuer in anchor.registries else None

        return KeyRing(speaker, lambda each: TrustClient(each, state=self.folder / "state", clock=SettableClock(NOW)))

    def run(
        self,
        *packages: LockedPackage,
        upstream: str = UPSTREAM,
        rules: tuple[NpmRule, ...] = (),
        everything: bool = True,
        policy: Policy | None = None,
        server: HostileServer | None = None,
        processes: int | None = None,
    ) -> tuple[Verdict, ...]:
        if server is None:
            with HostileServer(self.npm) as opened:
                return self.run(
                    *packages,
                    upstream=upstream,
                    rules=rules,
                    everything=everything,
                    policy=policy,
                    server=opened,
                    processes=processes,
                )
        with self.keyring() as keyring:
            attestor = Attestor.of(keyring, "sigstore", everything=everything, expectations=Expectations(npm=rules))
            settings = Settings(
                registries=Registries.of([], {}, registry=f"{server.url}/"),
                upstreams=Upstreams(claimed=lambda _: False, upstream=upstream),
                policy=policy or Policy(),
                limits=LIMITS,
                attestor=attestor,
                processes=processes,
            )
            return verify_packages(packages, keyring, settings)

    def one(self, package: LockedPackage, **options: Any) -> Attested:
        """The attestations of one package, which must be signed in order."""
        (verdict,) = self.run(package, **options)
        assert verdict.outcome is Outcome.VERIFIED, verdict.detail
        assert verdict.attested is not None
        assert verdict.is_fault(Policy()) is verdict.attested.is_fault(strict=False)
        return verdict.attested

    def add(self, name: str = "a", version: str = "1.0.0") -> str:
        """Publish a package, and give the SHA-512 of it in hexadecimal digits."""
        self.npm.publish(name, version, keys=[self.key])
        return digest_of(name, version)

    def built(self, sha512: str, name: str = "a", version: str = "1.0.0", **options: Any) -> dict[str, Any]:
        """A provenance; ``said`` are what the build says where it differs from its certificate."""
        said = {"repository": SOURCE, "commit": "0" * 40, **options.pop("said", {})}
        return self.instance.attest(provenance(name, version, sha512, **said), **options)

    def published(self, sha512: str, name: str = "a", version: str = "1.0.0", **options: Any) -> dict[str, Any]:
        """The registry's publish attestation."""
        said = publish_statement(name, version, sha512)
        return dict(self.instance.attest_by_key(said, self.key.keyid, self.key.private, **options))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def digest_of(name: str, version: str) -> str:
    return parse_sri(integrity_of(archive_of(name, version)))[0].value.hex()


def locked(name: str = "a", version: str = "1.0.0", integrity: str | None = None) -> LockedPackage:
    digests = parse_sri(integrity or integrity_of(archive_of(name, version)))
    return LockedPackage(name=name, version=version, digests=digests, where=(f"node_modules/{name}",))


@pytest.fixture
def real(shared_vectors: Path, tmp_path: Path) -> World:
    """npm's real keys, trusted root, signature and attestations of sigstore@1.0.0."""
    facts = RealAttestations(shared_vectors)
    world = World(tmp_path, real=facts)
    dist = world.npm.publish("sigstore", "1.0.0", published="2023-02-09T17:56:05.000Z")
    dist.update(integrity=SIGSTORE_1_0_0, signatures=[facts.signature()])
    dist["attestations"] = {"url": "https://x/-/npm/v1/attestations/sigstore@1.0.0", "provenance": {}}
    world.npm.documents["-/npm/v1/attestations/sigstore@1.0.0"] = facts.served()
    return world


SIGSTORE = locked("sigstore", "1.0.0", SIGSTORE_1_0_0)


def test_a_real_package_says_where_it_was_built_and_who_published_it(real: World) -> None:
    (verdict,) = real.run(SIGSTORE, upstream=OTHER)
    attested = verdict.attested
    assert attested is not None
    assert attested.status is Attesting.VERIFIED
    assert attested.build is not None
    assert attested.build.repository == "https://github.com/sigstore/sigstore-js"
    assert attested.build.commit == "06528997c3c8ab9f864fad9a3658446aca7fd86d"
    assert (attested.build.builder, attested.build.backed) == ("https://github.com/npm/cli@9.4.2", False)
    assert attested.published is not None
    assert attested.published.at == datetime(2023, 2, 9, 17, 56, 2, tzinfo=UTC)


@pytest.mark.parametrize("policy", [RetiredKeys.LOG_TIME, RetiredKeys.REGISTRY_TIME])
def test_n9_the_logs_time_verifies_what_npms_retired_key_signed(real: World, policy: RetiredKeys) -> None:
    """formats.md §12, n9, and §7.5 of the design: a time that somebody signed goes before a policy."""
    everything = policy is not RetiredKeys.LOG_TIME
    (verdict,) = real.run(SIGSTORE, upstream=OTHER, policy=Policy(retired_keys=policy), everything=everything)
    assert verdict.outcome is Outcome.VERIFIED
    assert verdict.notes == ("by a retired key, and published at 2023-02-09T17:56:02Z by the log's word",)


def test_n9_a_log_time_after_the_keys_end_is_outside_its_validity(real: World, shared_vectors: Path) -> None:
    document = json.loads(RealAttestations(shared_vectors).npm_keys)
    for entry in document["keys"]:
        if entry["keyUsage"] == "npm:signatures":
            entry["publicKey"]["validFor"] = {"end": "2023-01-01T00:00:00Z"}
    real.repo.add_target(f"{OTHER}/keys.json", json.dumps(document).encode())
    real.write()
    (verdict,) = real.run(SIGSTORE, upstream=OTHER, policy=Policy(retired_keys=RetiredKeys.LOG_TIME))
    assert verdict.outcome is Outcome.OUTSIDE_VALIDITY
    assert "was retired at 2023-01-01T00:00:00Z, and this was signed at 2023-02-09T17:56:02Z" in verdict.detail


def test_a_registrys_time_moves_nothing_that_a_log_dates(real: World) -> None:
    """C6 with a log: the mirror dates the release to after the key's end, and the log knows better."""
    real.npm.packuments["sigstore"]["time"]["1.0.0"] = "2026-01-01T00:00:00.000Z"
    (verdict,) = real.run(SIGSTORE, upstream=OTHER)
    assert verdict.outcome is Outcome.VERIFIED
    del real.npm.documents["-/npm/v1/attestations/sigstore@1.0.0"]  # the control: without a log its word counts
    (verdict,) = real.run(SIGSTORE, upstream=OTHER)
    assert verdict.outcome is Outcome.OUTSIDE_VALIDITY


def test_by_log_time_a_package_that_no_log_dates_is_outside_validity(real: World) -> None:
    del real.npm.documents["-/npm/v1/attestations/sigstore@1.0.0"]
    (verdict,) = real.run(SIGSTORE, upstream=OTHER, policy=Policy(retired_keys=RetiredKeys.LOG_TIME), everything=False)
    assert (verdict.outcome, verdict.cause) == (Outcome.OUTSIDE_VALIDITY, Cause.TIME_UNKNOWN)
    assert "no log says when this was published" in verdict.detail


def test_rejected_retired_keys_stay_rejected_whatever_a_log_says(real: World) -> None:
    (verdict,) = real.run(SIGSTORE, upstream=OTHER, policy=Policy(retired_keys=RetiredKeys.REJECT))
    assert verdict.outcome is Outcome.OUTSIDE_VALIDITY


def test_the_attestations_of_another_version_are_refused(real: World, shared_vectors: Path) -> None:
    served = RealAttestations(shared_vectors).served("0.4.0")
    real.npm.documents["-/npm/v1/attestations/sigstore@1.0.0"] = served
    (verdict,) = real.run(SIGSTORE, upstream=OTHER)
    assert verdict.attested is not None
    assert verdict.attested.status is Attesting.REFUSED
    assert verdict.attested.detail == "subject: is pkg:npm/sigstore@0.4.0, expected pkg:npm/sigstore@1.0.0"
    assert verdict.is_fault(Policy())


def test_a_package_of_ones_own_instance_is_verified(world: World) -> None:
    sha512 = world.add()
    world.npm.attest("a", "1.0.0", world.built(sha512), world.published(sha512))
    attested = world.one(locked())
    assert (attested.status, attested.detail) == (Attesting.VERIFIED, "")
    assert attested.build is not None
    assert attested.build.backed
    assert attested.published is not None


def test_another_process_judges_attestations_too(world: World) -> None:
    for number in range(8):
        sha512 = world.add(f"p{number}")
        world.npm.attest(f"p{number}", "1.0.0", world.built(sha512, name=f"p{number}"))
    found = world.run(*(locked(f"p{number}") for number in range(8)), processes=2)
    assert [each.attested and each.attested.status for each in found] == [Attesting.VERIFIED] * 8


def test_only_what_is_announced_is_asked_for(world: World) -> None:
    sha512 = world.add()
    world.add("b")
    world.npm.attest("a", "1.0.0", world.built(sha512))
    with HostileServer(world.npm) as server:
        found = world.run(locked(), locked("b"), server=server)
        assert sorted(server.paths) == ["-/npm/v1/attestations/a@1.0.0", "a", "b"]
    assert [each.attested and each.attested.status for each in found] == [Attesting.VERIFIED, Attesting.ABSENT]


Make = Callable[[World, str], list[dict[str, Any]]]


@pytest.mark.parametrize(
    ("make", "detail"),
    [
        (lambda w, _: [w.built("11" * 64)], "subject's digest: is sha512 1111"),
        (lambda w, d: [w.built(d, version="1.0.1")], "subject: is pkg:npm/a@1.0.1, expected pkg:npm/a@1.0.0"),
        (lambda w, d: [w.built(d, name="b")], "subject: is pkg:npm/b@1.0.0, expected pkg:npm/a@1.0.0"),
        (lambda w, _: [w.published("11" * 64)], "subject's digest: is sha512 1111"),
        (
            lambda w, d: [w.built(d, said={"repository": "https://github.com/evil/r"})],
            "source: the build names the repository https://github.com/evil/r, and its certificate",
        ),
        (lambda w, d: [w.built(d, said={"commit": "1" * 40})], "source: the build names the commit 1111"),
        (lambda w, d: [w.built(d, said={"runner": "self-hosted"})], "source: the build names the runner"),
        (
            lambda w, d: [w.built(d), w.built(d, commit="1" * 40, said={"commit": "1" * 40})],
            "source: two provenances disagree: https://github.com/o/r at 0000",
        ),
        (
            lambda _, d: [SigstoreInstance().attest(provenance("a", "1.0.0", d, repository=SOURCE, commit="0"))],
            "signing",
        ),
        (lambda w, d: [w.instance.attest(publish_statement("a", "1.0.0", d))], "signer's key: a publish attestation"),
        (
            lambda w, d: [
                w.instance.attest_by_key(
                    provenance("a", "1.0.0", d, repository=SOURCE, commit="0"), "SHA256:own", w.key.private
                )
            ],
            "signer's key: no certificate names the signer",
        ),
        (
            lambda w, d: [
                w.instance.attest_by_key(publish_statement("a", "1.0.0", d), "SHA256:x", SigningKey("x").private)
            ],
            "signer's key: registry.example: key SHA256:x is not among the 1 key",
        ),
        (
            lambda w, d: [
                w.instance.attest_by_key(publish_statement("a", "1.0.0", d), "SHA256:own", SigningKey("x").private)
            ],
            "signature: registry.example: key SHA256:own did not make this signature",
        ),
    ],
)
def test_attestations_that_lie_are_refused_and_say_what_is_wrong(world: World, make: Make, detail: str) -> None:
    sha512 = world.add()
    world.npm.attest("a", "1.0.0", *make(world, sha512))
    attested = world.one(locked())
    assert attested.status is Attesting.REFUSED
    assert attested.detail.startswith(detail)
    world.npm.attest("a", "1.0.0", world.built(sha512), world.published(sha512))  # the control
    assert world.one(locked()).status is Attesting.VERIFIED


def test_an_attestation_that_is_announced_as_another_kind_is_refused(world: World) -> None:
    sha512 = world.add()
    world.npm.attest("a", "1.0.0", world.built(sha512))
    path = "-/npm/v1/attestations/a@1.0.0"
    world.npm.documents[path] = world.npm.documents[path].replace(
        b"slsa.dev/provenance/v1", b"slsa.dev/provenance/v0.2", 1
    )
    attested = world.one(locked())
    assert (attested.status, attested.detail.partition(":")[0]) == (Attesting.REFUSED, "statement")


@pytest.mark.parametrize("body", [b"", b"[]", b"<html>", b'{"attestations": 1}', b'{"attestations": [{}]}', b"\xff"])
def test_an_answer_that_is_no_attestations_is_refused(world: World, body: bytes) -> None:
    world.npm.attest("a", "1.0.0", world.built(world.add()))
    world.npm.documents["-/npm/v1/attestations/a@1.0.0"] = body
    assert world.one(locked()).status is Attesting.REFUSED


def test_attestations_that_are_announced_and_cannot_be_had_are_a_fault(world: World) -> None:
    world.npm.attest("a", "1.0.0", world.built(world.add()))
    with HostileServer(world.npm) as server:
        server.misbehave("-/npm/v1/attestations/a@1.0.0", status(500))
        (verdict,) = world.run(locked(), server=server)
    assert verdict.attested is not None
    assert verdict.attested.status is Attesting.UNREACHABLE
    assert verdict.is_fault(Policy())


def test_attestations_that_are_announced_and_not_served_are_a_fault(world: World) -> None:
    """So does a mirror that passes packuments on and has no such endpoint."""
    world.npm.attest("a", "1.0.0", world.built(world.add()))
    del world.npm.documents["-/npm/v1/attestations/a@1.0.0"]
    attested = world.one(locked())
    assert attested.status is Attesting.UNREACHABLE
    assert attested.detail.startswith("the packument announces them, and they are not there")


def test_a_lockfile_without_sha512_meets_no_rule_that_asks_for_a_provenance(world: World) -> None:
    dist = world.npm.publish("a", "1.0.0", keys=[world.key])
    sha1 = "sha1-" + base64.b64encode(bytes.fromhex(dist["shasum"])).decode()
    del dist["integrity"]
    dist["signatures"] = [world.key.sign("a", "1.0.0", sha1)]
    package = locked(integrity=sha1)
    (verdict,) = world.run(package)
    assert (verdict.outcome, verdict.attested) == (Outcome.VERIFIED, None)
    assert world.one(package, rules=(NpmRule(package="a", required=True),)).status is Attesting.MISSING


def test_endless_attestations_are_bounded(world: World) -> None:
    world.npm.attest("a", "1.0.0", world.built(world.add()))
    with HostileServer(world.npm) as server:
        server.misbehave("-/npm/v1/attestations/a@1.0.0", bytes_of(b" " * (2 << 20)))
        (verdict,) = world.run(locked(), server=server)
    assert verdict.attested is not None
    assert verdict.attested.status is Attesting.UNREACHABLE


def test_a_release_line_that_lost_its_provenance_is_reported(world: World) -> None:
    for version in ("1.2.0", "1.10.0", "1.11.0", "2.0.0"):
        world.add("a", version)
    for version in ("1.2.0", "1.10.0"):
        world.npm.attest("a", version, world.built(digest_of("a", version), version=version))
    line, other = world.run(locked("a", "1.11.0"), locked("a", "2.0.0"))
    assert line.attested is not None
    assert (line.attested.status, line.attested.lost_since) == (Attesting.LOST, "1.10.0")
    assert not line.is_fault(Policy())
    assert line.is_fault(Policy(strict=True))
    assert other.attested is not None
    assert other.attested.status is Attesting.ABSENT


def test_a_mirror_that_hides_attestations_does_not_pass_where_a_provenance_is_required(world: World) -> None:
    sha512 = world.add()
    rule = NpmRule(package="*", required=True)
    assert world.one(locked(), rules=(rule,)).status is Attesting.MISSING
    world.npm.attest("a", "1.0.0", world.built(sha512), claimed=False)  # the control: asked for, though not announced
    assert world.one(locked(), rules=(rule,)).status is Attesting.VERIFIED


@pytest.mark.parametrize(
    ("rule", "status", "detail"),
    [
        (NpmRule(package="a", source_repository=SOURCE), Attesting.VERIFIED, ""),
        (NpmRule(package="*", source_repository="https://github.com/O/R.git"), Attesting.VERIFIED, ""),
        (NpmRule(package="a", source_repository="https://github.com/x/r"), Attesting.UNEXPECTED, "was built from"),
        (
            NpmRule(package="a", builder="https://github.com/actions/runner/github-hosted"),
            Attesting.VERIFIED,
            "",
        ),
        (
            NpmRule(package="a", builder="https://github.com/actions/runner/self-hosted"),
            Attesting.UNEXPECTED,
            "was built by https://github.com/actions/runner/github-hosted, expected",
        ),
        (NpmRule(package="@a/*", source_repository="https://github.com/x/r"), Attesting.VERIFIED, ""),
    ],
)
def test_what_is_expected_of_a_package_is_held_against_its_certificate(
    world: World, rule: NpmRule, status: Attesting, detail: str
) -> None:
    world.npm.attest("a", "1.0.0", world.built(world.add()))
    attested = world.one(locked(), rules=(rule,))
    assert attested.status is status
    assert attested.detail.startswith(detail)


ELSEWHERE = "https://ci.example"
RUNNER = "https://github.com/actions/runner/github-hosted"


@pytest.mark.parametrize(
    "rule",
    [
        NpmRule(package="a", source_repository=SOURCE),
        NpmRule(package="a", builder=RUNNER),
        NpmRule(package="a", source_repository=SOURCE, builder=RUNNER),
    ],
)
def test_c16_a_certificate_of_another_issuer_with_the_wanted_claims_is_unexpected(world: World, rule: NpmRule) -> None:
    sha512 = world.add()
    world.npm.attest("a", "1.0.0", world.built(sha512, issuer=ELSEWHERE))
    attested = world.one(locked(), rules=(rule,))
    assert attested.status is Attesting.UNEXPECTED
    assert attested.detail.startswith(f"{ELSEWHERE} vouches for the build, and is not trusted for https://github.com/")
    named = replace(rule, issuer=ELSEWHERE)
    assert world.one(locked(), rules=(named,)).status is Attesting.VERIFIED  # the user says who vouches
    world.npm.attest("a", "1.0.0", world.built(sha512))
    assert world.one(locked(), rules=(rule,)).status is Attesting.VERIFIED  # the control: GitHub's own issuer
    assert world.one(locked(), rules=(named,)).status is Attesting.UNEXPECTED


def test_c16_for_a_host_that_nobody_is_known_for_the_user_names_the_issuer(world: World) -> None:
    repository = "https://git.example/o/r"
    built = world.built(world.add(), said={"repository": repository}, repository=repository, issuer=ELSEWHERE)
    world.npm.attest("a", "1.0.0", built)
    rule = NpmRule(package="a", source_repository=repository)
    attested = world.one(locked(), rules=(rule,))
    assert attested.status is Attesting.UNEXPECTED
    assert "name its issuer in your rule" in attested.detail
    assert world.one(locked(), rules=(replace(rule, issuer=ELSEWHERE),)).status is Attesting.VERIFIED


def test_c16_the_issuer_of_a_host_is_of_that_host_alone() -> None:
    rule = NpmRule(package="a")
    assert rule.trusted_issuer("https://GitHub.com/o/r") == "https://token.actions.githubusercontent.com"
    assert rule.trusted_issuer("https://gitlab.com/o/r") == "https://gitlab.com"
    for url in ("https://github.com.evil.example/o/r", "https://github.com:x@evil.example/", "https://[", "builder"):
        assert rule.trusted_issuer(url) is None


def test_a_builder_that_only_the_build_names_is_not_taken(real: World) -> None:
    rule = NpmRule(package="sigstore", builder="https://github.com/npm/cli@9.4.2")
    (verdict,) = real.run(SIGSTORE, upstream=OTHER, rules=(rule,))
    assert verdict.attested is not None
    assert verdict.attested.status is Attesting.UNEXPECTED
    assert "is the build's own word" in verdict.attested.detail


def test_the_first_rule_that_fits_counts(world: World) -> None:
    world.npm.attest("a", "1.0.0", world.built(world.add()))
    rules = (NpmRule(package="a"), NpmRule(package="*", source_repository="https://github.com/x/r"))
    assert world.one(locked(), rules=rules).status is Attesting.VERIFIED


def test_a_package_that_is_not_verified_is_not_asked_about(world: World) -> None:
    sha512 = world.add()
    world.npm.attest("a", "1.0.0", world.built(sha512))
    world.npm.dist("a", "1.0.0")["signatures"] = []
    with HostileServer(world.npm) as server:
        (verdict,) = world.run(locked(), server=server)
        assert server.paths == ["a"]
    assert (verdict.outcome, verdict.attested) == (Outcome.UNSIGNED, None)


def test_a_root_that_knows_a_new_log_is_fetched_once_before_the_log_is_refused(world: World) -> None:
    newer = SigstoreInstance()
    sha512 = world.add()
    world.npm.attest("a", "1.0.0", newer.attest(provenance("a", "1.0.0", sha512, repository=SOURCE, commit="0" * 40)))
    assert world.one(locked()).status is Attesting.REFUSED
    world.root = newer.trusted_root()
    world.publish(world.key)
    assert world.one(locked()).status is Attesting.VERIFIED


def test_without_an_anchor_for_the_instance_nothing_is_judged(world: World) -> None:
    with world.keyring() as keyring, pytest.raises(InputError, match="no anchor speaks for sigstore/other"):
        Attestor.of(keyring, "sigstore/other", everything=True, expectations=Expectations())


@pytest.mark.parametrize("data", [b"", b"[]", b'{"versions": []}', b'{"versions": {"1.0.0": 1}}', b"[" * 100_000])
def test_a_packument_that_claims_nothing_readable_claims_nothing(data: bytes) -> None:
    assert read_claims(data).built == frozenset()


@pytest.mark.parametrize(
    ("version", "since"),
    [("0.2.9", None), ("0.1.9", "0.1.0"), ("1.0.0-rc.1", None), ("2.0.1", "2.0.0"), ("x", None), ("2.0.0", None)],
)
def test_a_release_line_is_a_major_version_or_a_minor_one_below_1(version: str, since: str | None) -> None:
    listed: dict[str, Any] = {
        name: {"dist": {"attestations": {"provenance": {}}}} for name in ("0.1.0", "2.0.0", "2.0.2")
    }
    claims = read_claims(json.dumps({"versions": listed}).encode())
    assert claims.lost_since(version) == since


def test_each_field_of_a_served_document_altered_is_refused(real: World, shared_vectors: Path) -> None:
    """The alterations of test_bundles.py again, a few of them through a whole run."""
    served = json.loads(RealAttestations(shared_vectors).served())
    for index, path in ((0, ("dsseEnvelope", "payload")), (1, ("dsseEnvelope", "payload"))):
        changed = json.loads(json.dumps(served))
        envelope = changed["attestations"][index]["bundle"][path[0]]
        payload = base64.b64decode(envelope[path[1]]).replace(b"1.0.0", b"9.9.9")
        envelope[path[1]] = base64.b64encode(payload).decode()
        real.npm.documents["-/npm/v1/attestations/sigstore@1.0.0"] = json.dumps(changed).encode()
        (verdict,) = real.run(SIGSTORE, upstream=OTHER)
        assert verdict.attested is not None
        assert verdict.attested.status is Attesting.REFUSED
        assert verdict.attested.detail.startswith("signature")

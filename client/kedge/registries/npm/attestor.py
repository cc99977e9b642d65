"""Asks for packages' attestations while a run goes on, and lets them speak: the step between a judgement and a verdict.

Which packages are asked about: those whose packument says that they have some, those that the user expects a provenance
of, and those signed by a retired key, since a log's time is the only time of publishing that somebody signed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from kedge.errors import FetchError, InputError
from kedge.registries import KeySet
from kedge.registries.npm.attestations import (
    Attested,
    Attesting,
    Claims,
    judge_attestations,
    read_claims,
    without_attestations,
)
from kedge.registries.npm.config import Source
from kedge.registries.npm.fetch import Asker, NotServedError
from kedge.registries.npm.judge import FAULTLESS, Outcome, Verdict
from kedge.registries.npm.keyring import KeyRing, NoKeys
from kedge.registries.npm.locked import Digest, parse_sri
from kedge.registries.npm.packument import Served
from kedge.registries.sigstore import BundleVerifier, Expectations

Rejudge = Callable[[Served], Verdict]
"""Judges a package again by what is served, with the log's time in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attestor:
    """What a run goes by: the Sigstore ``instance`` whose logs and builds are believed, and its ``verifier``.

    ``everything`` asks about every package, else only about those signed by a retired key.
    """

    instance: str
    verifier: BundleVerifier
    everything: bool
    expectations: Expectations

    @classmethod
    def of(cls, keyring: KeyRing, instance: str, *, everything: bool, expectations: Expectations) -> Attestor:
        """Take an instance's trusted root from the verified repository.

        Raises:
            InputError: no anchor speaks for the instance.
            KedgeError: as :meth:`KeyRing.get`.
        """
        issued = keyring.get(instance)
        if isinstance(issued, NoKeys):
            hint = "attestations need a trusted root: name an anchor's with --trusted-root"
            raise InputError(f"{instance}: {issued.detail}", hint=hint)
        verifier = BundleVerifier(issued.keys)
        return cls(instance=instance, verifier=verifier, everything=everything, expectations=expectations)

    def renewed(self, keyring: KeyRing) -> Attestor:
        """The same, by the trusted root that a renewed key ring has."""
        return Attestor.of(keyring, self.instance, everything=self.everything, expectations=self.expectations)

    def claims(self, packument: bytes) -> Claims:
        """What a packument claims, as far as it matters."""
        return read_claims(packument) if self.everything else Claims()

    def attest(
        self, verdict: Verdict, claims: Claims, source: Source, keys: Sequence[KeySet], asker: Asker, rejudge: Rejudge
    ) -> Verdict:
        """Ask for a package's attestations if they matter, and give the verdict with what they say."""
        digest, package = _bound(verdict), verdict.package
        rule = self.expectations.npm_rule(package.name)
        if digest is None and verdict.outcome in FAULTLESS and rule is not None and rule.asks:
            detail = "attestations are over sha512, which the lockfile does not hold"
            return verdict._replace(attested=Attested(status=Attesting.MISSING, detail=detail))
        if digest is None or not (self.everything or needs_log_time(verdict)):
            return verdict
        lost_since = claims.lost_since(package.version)
        expected = package.version in claims.attested or (rule is not None and rule.asks)
        if not expected and not needs_log_time(verdict):
            return verdict._replace(attested=without_attestations(rule, lost_since=lost_since))
        try:
            document = asker.attestations(source, package.name, package.version)
        except NotServedError as error:
            if package.version in claims.attested:
                detail = f"the packument announces them, and they are not there: {error.message}"
                return verdict._replace(attested=Attested(status=Attesting.UNREACHABLE, detail=detail))
            return verdict._replace(attested=without_attestations(rule, lost_since=lost_since))
        except FetchError as error:
            if not expected:
                return verdict._replace(notes=(*verdict.notes, f"its attestations cannot be had: {error.message}"))
            return verdict._replace(attested=Attested(status=Attesting.UNREACHABLE, detail=error.message))
        return self.judge(verdict, document, keys, rejudge, lost_since=lost_since)

    def again(self, verdict: Verdict, before: Attested, keys: Sequence[KeySet], rejudge: Rejudge) -> Verdict:
        """Give the verdict with what was served before, judged by other keys."""
        if before.document is None:
            return verdict._replace(attested=before)
        return self.judge(verdict, before.document, keys, rejudge, lost_since=before.lost_since)

    def judge(
        self,
        verdict: Verdict,
        document: bytes,
        keys: Sequence[KeySet],
        rejudge: Rejudge,
        *,
        lost_since: str | None = None,
    ) -> Verdict:
        """Give the verdict with what this document of attestations says."""
        digest, package = _bound(verdict), verdict.package
        if digest is None:
            return verdict
        rule = self.expectations.npm_rule(package.name)
        found = judge_attestations(package.name, package.version, digest, document, keys, self.verifier, rule)
        if found.build is None and found.status is Attesting.ABSENT and lost_since is not None:
            absent = without_attestations(rule, lost_since=lost_since, published=found.published, document=document)
            found = absent
        if found.published is not None and needs_log_time(verdict) and verdict.served is not None:
            verdict = rejudge(replace(verdict.served, logged=found.published.at))
        return verdict._replace(attested=found)


def needs_log_time(verdict: Verdict) -> bool:
    """Whether a time that a log signed would tell more about this package."""
    return verdict.outcome in (Outcome.OUTSIDE_VALIDITY, Outcome.VERIFIED_TIME_UNSIGNED)


def _bound(verdict: Verdict) -> Digest | None:
    """The SHA-512 digest that a verdict is about, where attestations could speak for it."""
    if verdict.digest is None or not (verdict.outcome in FAULTLESS or needs_log_time(verdict)):
        return None
    (digest,) = parse_sri(verdict.digest)
    return digest if digest.algorithm == "sha512" else None

"""``kedge verify npm``: hold what an npm registry or its mirror serves against keys that no mirror can replace."""

from __future__ import annotations

import os
from collections.abc import Sequence
from json import dumps
from pathlib import Path
from typing import Annotated

import typer

from kedge._cli.clients import open_client
from kedge._cli.mirrors import takes_mirrors
from kedge._cli.options import AnchorName, Json
from kedge._cli.outfile import replace_file
from kedge._cli.output import Screen, answer, answer_json, warn
from kedge._cli.progress import progress_bar
from kedge._cli.tables import trust_document
from kedge._cli.verify.npm_inputs import Given, find_speaker, read_given, read_mappings, read_registries
from kedge._cli.verify.npm_words import report_lines
from kedge._cli.verify.provenance_inputs import DEFAULT_ROOT, TrustedRoot, read_expectations, speaker
from kedge._cli.words import say_warnings
from kedge.errors import InputError
from kedge.folders import state_folder
from kedge.registries.npm.archives import Archives
from kedge.registries.npm.attest import Attestor
from kedge.registries.npm.document import NPM
from kedge.registries.npm.evidence import Evidence
from kedge.registries.npm.fetch import FetchLimits
from kedge.registries.npm.keyring import Issued, KeyRing
from kedge.registries.npm.mapping import Upstreams, check_rule
from kedge.registries.npm.npmrc import Registries
from kedge.registries.npm.proof import Proof
from kedge.registries.npm.report import Report
from kedge.registries.npm.sarif import sarif
from kedge.registries.npm.verdict import Policy, RetiredKeys, Verdict
from kedge.registries.npm.verify import JOBS, Settings
from kedge.registries.npm.verify import verify as verify_packages
from kedge.registries.sigstore.expectations import NpmRule
from kedge.store import Store

__all__ = ["npm"]


@takes_mirrors
def npm(
    path: Annotated[
        str,
        typer.Argument(metavar="PATH", help="A lockfile, or a folder with one; - reads lines: name version integrity."),
    ] = ".",
    registry: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Ask this registry or mirror, not those of .npmrc.", show_default=False),
    ] = None,
    upstream: Annotated[
        str | None,
        typer.Option(
            metavar="ID", help="Whose keys sign what a mirror serves, such as registry.npmjs.org.", show_default=False
        ),
    ] = None,
    also: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="Take this issuer's keys as well (repeat).", show_default=False),
    ] = None,
    anchor: AnchorName = None,
    retired_keys: Annotated[
        RetiredKeys, typer.Option(help="Whose word counts for when a retired key signed.", case_sensitive=True)
    ] = RetiredKeys.REGISTRY_TIME,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict", help="A time that nobody signed is a fault; so is a lost provenance.", show_default=False
        ),
    ] = False,
    attestations: Annotated[
        bool,
        typer.Option("--attestations", help="Ask for attestations: who published, where built.", show_default=False),
    ] = False,
    require_provenance: Annotated[
        bool, typer.Option("--require-provenance", help="A package without one is a fault.", show_default=False)
    ] = False,
    source_repository: Annotated[
        str | None, typer.Option(metavar="URL", help="Every package must be built from there.", show_default=False)
    ] = None,
    builder: Annotated[
        str | None, typer.Option(metavar="ID", help="Every package must be built by that.", show_default=False)
    ] = None,
    provenance_policy: Annotated[
        Path | None, typer.Option(metavar="FILE", help="What is expected of which package.", show_default=False)
    ] = None,
    trusted_root: TrustedRoot = DEFAULT_ROOT,
    tarballs: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Hold the archives in this folder against it too.", show_default=False),
    ] = None,
    skip: Annotated[
        list[str] | None,
        typer.Option(metavar="RULE", help="Leave out NAME, @scope or @scope/* (repeat).", show_default=False),
    ] = None,
    jobs: Annotated[int, typer.Option(metavar="N", min=1, max=64, help="Ask for so many at a time.")] = JOBS,
    timeout: Annotated[
        float, typer.Option(metavar="S", min=0.1, max=3600, help="Seconds for each packument, in all.")
    ] = 60.0,
    max_packument: Annotated[
        int, typer.Option(metavar="MIB", min=1, max=1024, help="The longest packument that is read.")
    ] = 64,
    sarif_file: Annotated[
        Path | None, typer.Option("--sarif", metavar="FILE", help="Write the faults as SARIF.", show_default=False)
    ] = None,
    evidence_file: Annotated[
        Path | None,
        typer.Option("--evidence", metavar="FILE", help="Write all that a second judge needs.", show_default=False),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="List every package.", show_default=False)] = False,
    json: Json = False,
) -> None:
    """Verify what a lockfile holds.

    Each package's signature is checked over the digest that is locked, with keys from the verified repository: never
    with keys that a mirror offers. Exit status 5: something is not verified.
    """
    given = read_given(path)
    registries = read_registries(given.folder, os.environ, registry)
    upstreams = _upstreams(upstream, also or [], skip or [], anchor)
    everyone = NpmRule(package="*", required=require_provenance, source_repository=source_repository, builder=builder)
    expectations = read_expectations(provenance_policy, everyone)
    asks = attestations or provenance_policy is not None or everyone.asks
    for text in registries.warnings:
        warn(text)
    with (
        KeyRing(lambda issuer: speaker(issuer, anchor, trusted_root), open_client) as keyring,
        progress_bar("verifying", len(given.lockfile.packages)) as progress,
    ):
        attestor = None
        if asks or retired_keys is RetiredKeys.LOG_TIME:
            attestor = Attestor.of(keyring, trusted_root, everything=asks, expectations=expectations)
        settings = Settings(
            registries=registries,
            upstreams=upstreams,
            policy=Policy(retired_keys=retired_keys, strict=strict),
            archives=Archives(tarballs) if tarballs is not None else None,
            attestor=attestor,
            limits=FetchLimits(total_s=timeout, idle_s=min(15.0, timeout), max_bytes=max_packument << 20),
            jobs=jobs,
            progress=progress,
        )
        verdicts = verify_packages(given.lockfile.packages, keyring, settings)
        report = _report(given, settings, keyring, verdicts, trusted_root)
    if evidence_file is not None:
        replace_file(evidence_file, _evidence(report, registries, upstreams, attestor).to_bytes())
    if sarif_file is not None:
        replace_file(sarif_file, dumps(sarif(report, given.text), indent=1).encode() + b"\n")
    _answer(report, everything=everything, json=json)


def _report(
    given: Given, settings: Settings, keyring: KeyRing, verdicts: tuple[Verdict, ...], trusted_root: str
) -> Report:
    """Put together what was found, by whose keys, and by which trusted root."""
    root = keyring.issued.get(trusted_root)
    return Report(
        lockfile=given.described,
        policy=settings.policy,
        verdicts=verdicts,
        issued={name: issued for name, issued in keyring.issued.items() if name != trusted_root},
        root=root if isinstance(root, Issued) else None,
        archives=settings.archives is not None,
        warnings=settings.registries.warnings,
    )


def _answer(report: Report, *, everything: bool, json: bool) -> None:
    say_warnings(report.trusts)
    if json:
        answer_json(report.to_table(trust_document(report.trusts)["anchors"]), compact=True)
    else:
        answer(report_lines(Screen.of_stdout(), report, everything=everything))
    if report.exit_code:
        raise typer.Exit(report.exit_code)


def _upstreams(upstream: str | None, also: Sequence[str], skip: Sequence[str], anchor: str | None) -> Upstreams:
    for issuer in (*([upstream] if upstream is not None else []), *also):
        NPM().target_path(issuer)
    return Upstreams(
        claimed=lambda issuer: find_speaker(issuer, anchor) is not None,
        mappings=read_mappings(),
        upstream=upstream,
        also=tuple(also),
        skip=tuple(check_rule(rule) for rule in skip),
    )


def _evidence(report: Report, registries: Registries, upstreams: Upstreams, attestor: Attestor | None) -> Evidence:
    """Take the signed metadata out of the state that was just used, and put all that was judged beside it."""
    by_anchor: dict[str, list[Issued]] = {}
    for issued in (*report.issued.values(), report.root):
        if isinstance(issued, Issued):
            by_anchor.setdefault(issued.anchor, []).append(issued)
    if not by_anchor:
        raise InputError("--evidence: there is none to write, since no keys were used")
    proofs = [
        Proof.from_store(
            Store(state_folder() / name),
            issuers=tuple(issued.keys.registry for issued in members),
            targets=tuple(issued.keys.target for issued in members),
            reference_time=members[0].trust.reference_time,
        )
        for name, members in by_anchor.items()
    ]
    sources = [registries.default, *registries.scopes.values()]
    return Evidence.of(
        report,
        proofs,
        {source.url: upstreams.issuers(source, is_default=source == registries.default) for source in sources},
        attestor,
    )

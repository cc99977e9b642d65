"""``kedge verify npm``: hold what an npm registry or its mirror serves against keys that no mirror can replace.

One table for people: where packages were built, who says so, and where a log has it.

On a line a package where the screen is wide enough, else a block a package: the values are names to be compared with
others, and a name that is cut off compares with anything.

What ``kedge verify npm`` reads from this machine: the lockfile, ``.npmrc`` files, ``npm.toml``.

What ``kedge verify`` says to people: a summary, the packages that need attention, and what the answer means.

What the verifiers of provenance share: the trusted root that they go by, and what the user expects of packages.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from json import dumps
from pathlib import Path
from typing import Annotated

import typer

from kedge._cli.options import Allow, AnchorName, Json, open_client, read_allow, takes_mirrors
from kedge._cli.output import (
    Screen,
    Tone,
    answer,
    answer_json,
    progress_bar,
    read_file,
    replace_file,
    say_warnings,
    trust_document,
    visible,
    warn,
)
from kedge.audit import Evidence, Proof
from kedge.client import Anchor, Store, anchor_for_registry, anchor_names, load_anchor
from kedge.documents import Fields, blame_user, load_json
from kedge.errors import InputError
from kedge.files import config_folder, state_folder
from kedge.registries import KeySet
from kedge.registries.npm import (
    FAULTLESS,
    JOBS,
    NAMES,
    NPM,
    Archives,
    Attesting,
    Attestor,
    FetchLimits,
    Input,
    Issued,
    KeyRing,
    Lockfile,
    LockfileKind,
    Mappings,
    Outcome,
    Policy,
    Registries,
    Report,
    RetiredKeys,
    Settings,
    Upstreams,
    Verdict,
    check_rule,
    parse_npmrc,
    read_lines,
    read_lockfile,
    sarif,
    verify_packages,
)
from kedge.registries.sigstore import Build, Expectations, LogPlace, NpmRule, Sigstore
from kedge.tuf import Trust

NOT_SAID = "-"
_HEADS = {
    "package": "package",
    "repository": "source repository",
    "commit": "commit",
    "workflow": "workflow",
    "builder": "builder",
    "says": "who says so",
    "entry": "log entry",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRow:
    """One package's line."""

    package: str
    repository: str
    commit: str
    workflow: str
    builder: str
    says: str
    entry: str


def row_of(package: str, build: Build | None, published: LogPlace | None) -> BuildRow:
    """Put what is known of a package into words; ``published`` is where a log has its registry's attestation."""
    registry = ["registry"] if published is not None else []
    place = build.place if build is not None else published
    entry = f"{_bare(place.log)} {place.index}" if place is not None else NOT_SAID
    if build is None:
        nothing = dict.fromkeys(("repository", "commit", "workflow", "builder"), NOT_SAID)
        return BuildRow(package=package, **nothing, says=", ".join(registry) or "nobody", entry=entry)
    own_word = "" if build.backed or build.builder is None else " (the build's own word)"
    return BuildRow(
        package=package,
        repository=_bare(build.repository or build.signer),
        commit=build.commit or NOT_SAID,
        workflow=_workflow(build),
        builder=f"{_bare(build.builder)}{own_word}" if build.builder else NOT_SAID,
        says=", ".join([*registry, f"build ({_bare(build.issuer)})"]),
        entry=entry,
    )


def build_lines(screen: Screen, rows: Sequence[BuildRow]) -> list[str]:
    """The table, or blocks where it is too wide for the screen."""
    if not rows:
        return []
    names = [field.name for field in fields(BuildRow)]
    table = [[_HEADS[name] for name in names], *([visible(getattr(row, name)) for name in names] for row in rows)]
    widths = [max(len(cells[column]) for cells in table) for column in range(len(names))]
    heading = ["", *screen.heading("where it was built")]
    if screen.columns is None or 2 + sum(widths) + 2 * (len(widths) - 1) <= screen.columns:
        lines = ["  ".join(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True)) for cells in table]
        return [*heading, *(f"  {line}".rstrip() for line in lines)]
    blocks: list[str] = []
    for row in rows:
        blocks += screen.rows([(_HEADS[name], getattr(row, name)) for name in names])
        blocks.append("")
    return [*heading, *blocks[:-1]]


def _workflow(build: Build) -> str:
    """The workflow, inside its repository (``.github/workflows/release.yml@refs/tags/v1``) where it is of that one."""
    if build.workflow is None:
        return NOT_SAID
    return _bare(build.workflow.removeprefix(f"{build.repository}/"))


def _bare(url: str) -> str:
    return url.removeprefix("https://")


MAX_LOCKFILE_BYTES = 256 << 20
MAX_SETTINGS_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """The lockfile that the user means: ``folder`` is where its project's ``.npmrc`` lies."""

    described: Input
    lockfile: Lockfile
    text: str
    folder: Path


def read_given(path: str, kind: LockfileKind | None = None) -> Given:
    """Read a lockfile, the one in a folder, or (``-``) lines from stdin.

    ``kind`` says which package manager reads a file of another name than the usual one.

    Raises:
        InputError: there is none, there are several to choose from, or it cannot be read.
    """
    if path == "-":
        data, name, folder = sys.stdin.buffer.read(MAX_LOCKFILE_BYTES + 1), "stdin", Path.cwd()
    else:
        file = _choose(Path(path))
        data, name, folder = read_file(file, MAX_LOCKFILE_BYTES), str(file), file.parent
    if len(data) > MAX_LOCKFILE_BYTES:
        raise InputError(f"{name}: is longer than {MAX_LOCKFILE_BYTES >> 20} MiB, which no lockfile is")
    with blame_user(name):
        lockfile = read_lines(data) if path == "-" else read_lockfile(data, _kind(Path(name), kind))
    if lockfile.kind.startswith("yarn.lock") and not lockfile.packages:
        _check_empty(folder / "package.json", name)
    described = Input(name=name, kind=lockfile.kind, sha256=hashlib.sha256(data).hexdigest())
    return Given(described=described, lockfile=lockfile, text=data.decode("utf-8-sig"), folder=folder)


def read_registries(folder: Path, environment: Mapping[str, str], registry: str | None) -> Registries:
    """Read the project's and the user's ``.npmrc``; ``registry`` replaces every registry that they name.

    Raises:
        InputError: one of them cannot be read, or names a registry that cannot be used.
    """
    named = next((value for name, value in environment.items() if name.lower() == "npm_config_userconfig"), None)
    users = Path(named) if named else Path.home() / ".npmrc"
    tables = []
    for file in dict.fromkeys((folder / ".npmrc", users)):
        if file.is_file():
            try:
                text = read_file(file, MAX_SETTINGS_BYTES).decode("utf-8-sig")
                tables.append(parse_npmrc(text, is_users=file == users))
            except UnicodeDecodeError as error:
                raise InputError(f"{file}: is not UTF-8 (byte {error.start})") from error
    with blame_user("the registries of .npmrc, the environment and the command line"):
        return Registries.of(tables, environment, registry=registry)


def read_mappings() -> Mappings:
    """Read ``npm.toml`` of the user's configuration; without it nothing is mapped.

    Raises:
        InputError: it cannot be read.
    """
    file = config_folder() / "npm.toml"
    if not file.is_file():
        return Mappings()
    with blame_user(str(file)):
        return Mappings.from_toml(read_file(file, MAX_SETTINGS_BYTES))


def find_speaker(issuer: str, name: str | None) -> Anchor | None:
    """Find the anchor that speaks for a registry: the one that is named, if it does, else the one that claims it.

    Raises:
        InputError: the id is none, there is no anchor of that name, or two claim the registry.
    """
    NPM().target_path(issuer)
    config = config_folder()
    if name is not None:
        anchor = load_anchor(name, config)
        return anchor if not anchor.registries or issuer in anchor.registries else None
    if any(issuer in load_anchor(each, config).registries for each in anchor_names(config)):
        return anchor_for_registry(issuer, config)
    return None


def _kind(file: Path, named: LockfileKind | None) -> LockfileKind:
    """How a file is read: as the package manager does that reads a file of this name."""
    kind = LockfileKind.of_name(file.name)
    if kind is None:
        if named is not None:
            return named
        raise InputError(
            f"{file}: no package manager reads a lockfile of this name",
            hint=f"expected is {', '.join(NAMES)}; else say which one reads it: --kind {' or '.join(LockfileKind)}",
        )
    if named not in (None, kind):
        raise InputError(f"{file}: is read by {kind.value}, whatever --kind says")
    if file.name == NAMES[1] and (file.parent / NAMES[0]).exists():
        raise InputError(f"{file}: npm reads {NAMES[0]} instead, which is in the same folder", hint="name that one")
    return kind


def _check_empty(manifest: Path, name: str) -> None:
    """Check that a project whose yarn.lock is empty has no dependencies: Yarn does not write them there."""
    if not manifest.is_file():
        return
    with blame_user(str(manifest)):
        fields = Fields(load_json(read_file(manifest, MAX_SETTINGS_BYTES)))
        groups = [each for each in ("dependencies", "devDependencies", "optionalDependencies") if each in fields]
        if any(fields.table(each).names() for each in groups):
            raise InputError(f"{name}: is empty, though package.json has dependencies", hint="run yarn install first")


def _choose(path: Path) -> Path:
    if not path.is_dir():
        return path
    found = [name for name in NAMES if (path / name).is_file()]
    if found[:2] == list(NAMES[:2]):
        del found[1]  # npm itself reads the shrinkwrap, and not the other
    if not found:
        listed = ", ".join(NAMES)
        hint = " (bun.lockb is binary: bun install --save-text-lockfile)" if (path / "bun.lockb").is_file() else ""
        raise InputError(
            f"{path}: there is no lockfile here", hint=f"expected is one of {listed}, or - for lines{hint}"
        )
    if len(found) > 1:
        raise InputError(f"{path}: there are several lockfiles: {', '.join(found)}", hint="name the one that you mean")
    return path / found[0]


Row = tuple[str, str] | tuple[str, str, Tone]

MAX_LISTED = 40
TONES = {Outcome.VERIFIED: Tone.GOOD, Outcome.VERIFIED_TIME_UNSIGNED: Tone.CAUTION, Outcome.SKIPPED: Tone.PLAIN}
ATTESTING_TONES = {Attesting.VERIFIED: Tone.GOOD, Attesting.ABSENT: Tone.PLAIN, Attesting.LOST: Tone.CAUTION}


def report_lines(screen: Screen, report: Report, *, everything: bool) -> list[str]:
    """The whole answer; ``everything`` lists each package, also those that are verified."""
    faults = report.faults
    tone = Tone.BAD if report.exit_code else Tone.GOOD
    lines = screen.heading(f"{report.lockfile.name}: {_result(report)}", tone)
    lines += screen.rows(_counts(report))
    if everything:
        lines += _packages(screen, "packages", report.verdicts, None)
    elif faults:
        lines += _packages(screen, "not verified", faults, MAX_LISTED)
    noted = [verdict for verdict in report.verdicts if verdict.outcome in FAULTLESS and _remarkable(verdict)]
    if noted and not everything:
        lines += _packages(screen, "verified, with a note", noted, MAX_LISTED)
    lines += _provenance(screen, report, everything=everything)
    lines += ["", *screen.heading("by whose keys"), *screen.rows(_issuers(report))]
    for text in report.remarks():
        lines += ["", *screen.heading(text, Tone.PLAIN)]
    return lines


def _provenance(screen: Screen, report: Report, *, everything: bool) -> list[str]:
    """How many packages have a provenance, which lost theirs, and the table of those that were verified."""
    found = [(verdict.package.spec, verdict.attested) for verdict in report.verdicts if verdict.attested is not None]
    if not found:
        return []
    counts = Counter(attested.status for _, attested in found)
    told: list[Row] = [
        (status.value, str(counts[status]), ATTESTING_TONES.get(status, Tone.BAD))
        for status in Attesting
        if counts[status]
    ]
    lines = ["", *screen.heading("provenance"), *screen.rows(told)]
    lost = [(spec, attested.detail) for spec, attested in found if attested.status is Attesting.LOST]
    lines += screen.rows(lost[:MAX_LISTED])
    rows = [
        row_of(spec, attested.build, attested.published.place if attested.published is not None else None)
        for spec, attested in found
        if attested.build is not None or attested.published is not None
    ]
    lines += build_lines(screen, rows if everything else rows[:MAX_LISTED])
    if not everything and len(rows) > MAX_LISTED:
        lines += screen.rows([("", f"and {len(rows) - MAX_LISTED} more: --all lists them, --json too")])
    return lines


def _result(report: Report) -> str:
    total = len(report.verdicts)
    if not total:
        return "empty, nothing to verify"
    verified = report.verified - (report.counts[Outcome.VERIFIED_TIME_UNSIGNED] if report.policy.strict else 0)
    return f"{verified} of {total} {'package' if total == 1 else 'packages'} verified"


def _counts(report: Report) -> list[Row]:
    rows: list[Row] = []
    for outcome, count in report.counts.items():
        if not count:
            continue
        found = [verdict for verdict in report.verdicts if verdict.outcome is outcome]
        issuers = Counter(verdict.issuer for verdict in found if verdict.issuer)
        causes = Counter(verdict.cause.value for verdict in found if verdict.cause)
        told = [f"{number} by {issuer}" for issuer, number in issuers.items()] if len(report.issued) > 1 else []
        if outcome is Outcome.SKIPPED:
            told = [f"{number} {cause}" for cause, number in causes.items()]
        tone = TONES.get(outcome, Tone.BAD)
        rows.append((outcome.value, f"{count} ({', '.join(told)})" if told else str(count), tone))
    return rows


def _packages(screen: Screen, title: str, verdicts: Sequence[Verdict], limit: int | None) -> list[str]:
    lines = ["", *screen.heading(title)]
    rows: list[Row] = []
    for verdict in verdicts[:limit]:
        also = "".join(f" and {outcome.value}" for outcome in verdict.also)
        detail = f": {verdict.detail}" if verdict.detail else ""
        what = f"{verdict.outcome.value}{also}{detail}"
        attested = verdict.attested
        if attested is not None and attested.detail:
            what += f"; provenance {attested.status.value}: {attested.detail}"
        if verdict.outcome in FAULTLESS and verdict.notes:
            what += f"; {'; '.join(verdict.notes)}"
        rows.append((verdict.package.spec, what))
    lines += screen.rows(rows)
    if limit is not None and len(verdicts) > limit:
        lines += screen.rows([("", f"and {len(verdicts) - limit} more: --all lists them, --json too")])
    return lines


def _remarkable(verdict: Verdict) -> bool:
    return any(note.startswith(("beside it", "the registry states", "installed as")) for note in verdict.notes)


def _issuers(report: Report) -> list[Row]:
    rows: list[Row] = []
    by_issuer = report.by_issuer()
    for name, issued in report.issued.items():
        if isinstance(issued, Issued):
            ids = len({key.id for key in issued.keys.keys})
            keys = f"{ids} {'key' if ids == 1 else 'keys'} of {issued.keys.target}, anchor {issued.anchor}"
            rows.append((name, f"{by_issuer[name]} verified; {keys}"))
        else:
            rows.append((name, f"no keys: {issued.detail}", Tone.BAD))
    if not rows:
        rows.append(("none", "no package needed any"))
    if report.root is not None:
        root = report.root.keys
        rows.append((root.registry, f"the trusted root {root.target}, anchor {report.root.anchor}"))
    asked = dict.fromkeys(verdict.source for verdict in report.verdicts if verdict.source)
    rows += [("asked" if not index else "", url) for index, url in enumerate(asked)]
    rows.append(("retired keys", report.policy.retired_keys.value + (", strict" if report.policy.strict else "")))
    return rows


DEFAULT_ROOT = "sigstore"
MAX_POLICY_BYTES = 1 << 20


def _check_instance(instance: str) -> str:
    Sigstore().target_path(instance)
    return instance


TrustedRoot = Annotated[
    str,
    typer.Option(
        "--trusted-root",
        metavar="ID",
        help="The Sigstore instance whose logs and builds are believed.",
        callback=_check_instance,
    ),
]


def read_expectations(file: Path | None, everyone: NpmRule | None = None) -> Expectations:
    """Read the user's file, if there is one; ``everyone`` is what the command line asks of every npm package.

    Raises:
        InputError: it cannot be read.
    """
    found = Expectations()
    if file is not None:
        data = read_file(file, MAX_POLICY_BYTES)
        with blame_user(str(file)):
            found = Expectations.from_toml(data)
    if everyone is None or not everyone.asks:
        return found
    return replace(found, npm=(*found.npm, everyone))


def speaker(issuer: str, anchor: str | None, instance: str) -> Anchor | None:
    """The anchor that speaks for an issuer; for the Sigstore instance, where the named one does not, whichever does.

    Raises:
        InputError: the id is none, there is no anchor of that name, or two claim the registry.
    """
    named = find_speaker(issuer, anchor)
    return named if named is not None or issuer != instance else find_speaker(issuer, None)


def trusted_root_keys(instance: str, anchor: str | None) -> tuple[KeySet, Trust]:
    """Refresh, and give the trusted root of a Sigstore instance with the trust that it stands on.

    Raises:
        InputError: no anchor speaks for the instance.
        KedgeError: trust, or the trusted root, cannot be had or is refused.
    """
    found = speaker(instance, anchor, instance)
    if found is None:
        raise InputError(f"{instance}: no anchor speaks for it", hint="kedge anchor list shows the anchors")
    with open_client(found) as client:
        return client.registry_keys(instance), client.trust


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
    fetch: Annotated[
        bool,
        typer.Option("--fetch", help="Download what is locked by SHA-1 only, and verify it.", show_default=False),
    ] = False,
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
    kind: Annotated[
        LockfileKind | None,
        typer.Option(help="Who reads a lockfile of another name.", show_default=False, case_sensitive=True),
    ] = None,
    allow: Allow = None,
    no_alias: Annotated[
        bool,
        typer.Option("--no-alias", help="A package under another one's name is a failure.", show_default=False),
    ] = False,
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
    given = read_given(path, kind)
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
            policy=Policy(retired_keys=retired_keys, strict=strict, allowances=read_allow(allow), aliases=not no_alias),
            archives=Archives(tarballs) if tarballs is not None else None,
            attestor=attestor,
            fetch=fetch,
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

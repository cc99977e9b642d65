"""Verifies what a lockfile holds: asks for every packument once, many at a time, and judges what comes.

The order is fixed: keys first, so that trust which is too old ends the run before anything is judged; then packuments,
each read, judged and dropped by the thread that asked for it; then, if a signature names an unknown key, one refresh of
the keys and a second look at what was served. Every package gets a verdict, whatever its registry does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from kedge.documents import DocumentError
from kedge.errors import FetchError
from kedge.registries import KeySet
from kedge.registries.npm.attestor import Attestor
from kedge.registries.npm.config import Registries, Source, Upstreams
from kedge.registries.npm.fetch import Asker, FetchLimits, NotServedError
from kedge.registries.npm.judge import (
    FAULTLESS,
    Cause,
    Outcome,
    Policy,
    Verdict,
    judge_alias,
    judge_package,
    judge_unsigned,
)
from kedge.registries.npm.keyring import Issued, KeyRing, NoKeys
from kedge.registries.npm.locked import Archives, Digest, LockedPackage, digest_of, digests, strongest
from kedge.registries.npm.packument import Served, WrongPackageError, glance, read
from kedge.registries.npm.pool import Work, ask_all

JOBS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What one run goes by.

    ``progress`` is called with the number of packages that were just judged. ``processes`` is for how many processes
    share the work; None for as many as are worth it. ``attestor`` asks for attestations; None: nobody does. ``fetch``
    downloads the archives that are locked by a digest which registries do not sign.
    """

    registries: Registries
    upstreams: Upstreams
    policy: Policy = field(default_factory=Policy)
    archives: Archives | None = None
    attestor: Attestor | None = None
    fetch: bool = False
    limits: FetchLimits = field(default_factory=FetchLimits)
    jobs: int = JOBS
    processes: int | None = None
    progress: Callable[[int], None] = lambda _count: None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    """All that is locked of one package of one registry: one packument answers it."""

    source: Source
    name: str
    packages: tuple[tuple[int, LockedPackage], ...]
    keys: tuple[KeySet, ...]


def verify_packages(packages: Sequence[LockedPackage], keyring: KeyRing, settings: Settings) -> tuple[Verdict, ...]:
    """Give the verdict on every package, in their order.

    Raises:
        ExpiredError: trust is older than the policy allows; nothing was judged.
        VerificationError: the repository's metadata or keys must not be trusted.
        FetchError: the repository cannot be reached, and nothing unexpired is stored.
        InputError: an issuer's id, a proxy or a file of certificate authorities cannot be used.
        StoreError: an archive on disk cannot be read.
    """
    verdicts: dict[int, Verdict] = {}
    tasks = list(_plan(packages, keyring, settings, verdicts))
    settings.progress(len(verdicts))
    contents = _run(tasks, settings, verdicts)
    if any(_is_by_unknown_key(verdict) for verdict in verdicts.values()) and keyring.renew():
        if settings.attestor is not None:
            settings = replace(settings, attestor=settings.attestor.renewed(keyring))
        _judge_again(tasks, keyring, settings, verdicts, contents)
    return tuple(judge_alias(verdicts[index], settings.policy) for index in range(len(packages)))


def _is_by_unknown_key(verdict: Verdict) -> bool:
    """Whether a key that is newer than this machine's could change the verdict: one of a registry, or one of a log."""
    refused = verdict.attested is not None and verdict.attested.unknown_key
    return refused or Outcome.UNKNOWN_KEY in (verdict.outcome, *verdict.also)


def _plan(
    packages: Sequence[LockedPackage], keyring: KeyRing, settings: Settings, verdicts: dict[int, Verdict]
) -> Iterator[_Task]:
    """Judge what needs no request, and put the rest together by registry and name."""
    groups: dict[tuple[str, str], tuple[Source, list[tuple[int, LockedPackage]]]] = {}
    for index, package in enumerate(packages):
        if package.skip is not None:
            verdicts[index] = judge_unsigned(package, settings.policy)
            continue
        source = settings.registries.of_package(package.name)
        rule = settings.upstreams.rule_for(package.name, source)
        if rule is not None:
            detail = f"left out by your rule {rule}"
            verdicts[index] = Verdict(package=package, outcome=Outcome.SKIPPED, cause=Cause.RULE, detail=detail)
            continue
        groups.setdefault((source.url, package.name), (source, []))[1].append((index, package))
    known: dict[str, tuple[KeySet, ...] | NoKeys] = {}
    for (url, name), (source, members) in groups.items():
        if url not in known:
            known[url] = _keys(source, keyring, settings)
        keys = known[url]
        if isinstance(keys, NoKeys):
            for index, package in members:
                detail = f"{keys.detail}; {url} is therefore not asked"
                verdicts[index] = Verdict(package=package, outcome=Outcome.NO_KEYS, detail=detail, source=url)
        else:
            yield _Task(source=source, name=name, packages=tuple(members), keys=keys)


def _keys(source: Source, keyring: KeyRing, settings: Settings) -> tuple[KeySet, ...] | NoKeys:
    """The keys that may have signed what a registry serves; if one issuer has none, that is the answer."""
    found: list[KeySet] = []
    is_default = source == settings.registries.default
    for issuer in settings.upstreams.issuers(source, is_default=is_default):
        issued = keyring.get(issuer)
        if isinstance(issued, Issued):
            found.append(issued.keys)
        else:
            return issued
    return tuple(found)


def _run(tasks: Sequence[_Task], settings: Settings, verdicts: dict[int, Verdict]) -> dict[int, Digest]:
    """Ask and judge in parallel; gives the digests of what lies on disk."""
    contents: dict[int, Digest] = {}

    def done(found: tuple[dict[int, Verdict], dict[int, Digest]]) -> None:
        verdicts.update(found[0])
        contents.update(found[1])
        settings.progress(len(found[0]))

    limits, jobs, processes = settings.limits, settings.jobs, settings.processes
    ask_all(tasks, _work_of(settings), done, limits=limits, jobs=jobs, processes=processes)
    return contents


def _work_of(settings: Settings) -> Work:
    # What a run is planned by, and what is told of it, concern this process alone.
    judging = replace(settings, progress=_tell_nobody, upstreams=Upstreams(claimed=_is_claimed_by_nobody))
    return partial(_work, judging)


def _work(settings: Settings, task: _Task, asker: Asker) -> tuple[dict[int, Verdict], dict[int, Digest]]:
    contents: dict[int, Digest] = {}
    verdicts = dict(_answer(task, asker, settings, contents))
    return verdicts, contents


def _tell_nobody(count: int) -> None:
    """Progress that nobody follows."""


def _is_claimed_by_nobody(issuer: str) -> bool:
    raise RuntimeError(f"{issuer}: whose keys count is decided before anything is asked for")


def _answer(
    task: _Task, asker: Asker, settings: Settings, contents: dict[int, Digest]
) -> Iterator[tuple[int, Verdict]]:
    """Judge all that one packument answers."""
    bound: list[tuple[int, LockedPackage]] = []
    for index, package in task.packages:
        verdict = _bind(package, index, settings, contents)
        if verdict is None and settings.fetch and index not in contents and _is_weak(package):
            verdict = _download(package, index, task.source, asker, contents)
        if verdict is None:
            bound.append((index, package))
        else:
            yield index, verdict
    if not bound:
        return
    try:
        data = asker.packument(task.source, task.name)
    except FetchError as error:
        for index, package in bound:
            yield index, _not_served(package, task.source, error)
        return
    packument = _Packument(task, data, {package.version for _, package in bound})
    claims = settings.attestor.claims(data) if settings.attestor is not None else None
    for index, package in bound:
        verdict, content = packument.judge(package, settings, contents.get(index)), contents.get(index)
        if settings.attestor is not None and claims is not None:
            again = partial(_judge, task, package, keys=task.keys, settings=settings, content=content)
            verdict = settings.attestor.attest(verdict, claims, task.source, task.keys, asker, again)
        yield index, verdict


def _bind(package: LockedPackage, index: int, settings: Settings, contents: dict[int, Digest]) -> Verdict | None:
    """Hold the archive on disk, if there is one, against the lockfile; a verdict only if they differ."""
    if settings.archives is None:
        return None
    wanted = strongest(package.digests)
    found: dict[str, Digest] = {}
    for path in settings.archives.find(package):
        found = digests(path, {"sha512", *(digest.algorithm for digest in wanted)})
        if all(found[digest.algorithm] == digest for digest in wanted):
            contents[index] = found["sha512"]
            return None
    if not found:
        return None
    differing = next(digest for digest in wanted if found[digest.algorithm] != digest)
    return Verdict(
        package=package,
        outcome=Outcome.DIGEST_MISMATCH,
        cause=Cause.BYTES_DIFFER,
        digest=differing.sri,
        detail=f"locked is {differing.sri}, the archive on disk is {found[differing.algorithm].sri}",
    )


def _not_served(package: LockedPackage, source: Source, error: FetchError) -> Verdict:
    outcome = Outcome.NOT_FOUND if isinstance(error, NotServedError) else Outcome.UNREACHABLE
    detail = f"{error.message} ({error.hint})" if error.hint else error.message
    return Verdict(package=package, outcome=outcome, detail=detail, source=source.url)


def _is_weak(package: LockedPackage) -> bool:
    """Whether a package is locked by one digest of an algorithm that registries do not sign, such as SHA-1."""
    wanted = strongest(package.digests)
    return len(wanted) == 1 and wanted[0].algorithm != "sha512" and package.unbound is None


def _download(
    package: LockedPackage, index: int, source: Source, asker: Asker, contents: dict[int, Digest]
) -> Verdict | None:
    """Download an archive and verify the locked digest over it; a verdict only if it is another, or not to be had."""
    (wanted,) = strongest(package.digests)
    try:
        data = asker.archive(source, package.name, package.version)
    except FetchError as error:
        return _not_served(package, source, error)
    if wanted.matches(data):
        contents[index] = digest_of(data)
        return None
    found = digest_of(data, wanted.algorithm)
    return Verdict(
        package=package,
        outcome=Outcome.DIGEST_MISMATCH,
        cause=Cause.BYTES_DIFFER,
        digest=wanted.sri,
        detail=f"locked is {wanted.sri}, the archive that the registry serves is {found.sri}",
        source=source.url,
    )


class _Packument:
    """A packument's bytes: looked at quickly first, and read as a whole if that does not verify a package."""

    def __init__(self, task: _Task, data: bytes, versions: set[str]) -> None:
        self._task = task
        self._data = data
        self._versions = versions
        self._whole: Mapping[str, Served | WrongPackageError | None] | DocumentError | None = None

    def judge(self, package: LockedPackage, settings: Settings, content: Digest | None) -> Verdict:
        served = glance(self._data, package.name, package.version)
        if served is not None:
            verdict = _judge(self._task, package, served, self._task.keys, settings, content)
            if verdict.outcome in FAULTLESS:
                return verdict
        whole = self._read()
        found = whole if isinstance(whole, DocumentError) else whole[package.version]
        if isinstance(found, Served):
            return _judge(self._task, package, found, self._task.keys, settings, content)
        address = self._task.source.address(self._task.name)
        fault = f"has no version {package.version}" if found is None else str(found)
        outcome, cause = Outcome.NOT_FOUND, None
        if isinstance(found, WrongPackageError):
            cause = Cause.WRONG_PACKAGE
        elif isinstance(found, DocumentError):
            outcome, cause = Outcome.UNREACHABLE, Cause.MALFORMED
        detail = f"{address}: {fault}"
        return Verdict(package=package, outcome=outcome, cause=cause, detail=detail, source=self._task.source.url)

    def _read(self) -> Mapping[str, Served | WrongPackageError | None] | DocumentError:
        if self._whole is None:
            try:
                self._whole = read(self._data, self._task.name, self._versions)
            except DocumentError as error:
                self._whole = error
        return self._whole


def _judge(
    task: _Task,
    package: LockedPackage,
    served: Served,
    keys: Sequence[KeySet],
    settings: Settings,
    content: Digest | None,
) -> Verdict:
    notes = (NO_ARCHIVE,) if settings.archives is not None and content is None else ()
    return judge_package(package, served, keys, settings.policy, content=content, source=task.source.url, notes=notes)


def _judge_again(
    tasks: Sequence[_Task],
    keyring: KeyRing,
    settings: Settings,
    verdicts: dict[int, Verdict],
    contents: Mapping[int, Digest],
) -> None:
    """Judge by the renewed keys what was served before."""
    for task in tasks:
        keys = _keys(task.source, keyring, settings)
        for index, package in task.packages:
            served = verdicts[index].served
            if served is None:
                continue
            if isinstance(keys, NoKeys):
                verdicts[index] = verdicts[index]._replace(outcome=Outcome.NO_KEYS, detail=keys.detail)
                continue
            again = partial(_judge, task, package, keys=keys, settings=settings, content=contents.get(index))
            before, verdict = verdicts[index].attested, again(replace(served, logged=None))
            if settings.attestor is not None and before is not None:
                verdict = settings.attestor.again(verdict, before, keys, again)
            verdicts[index] = verdict


NO_ARCHIVE = "its archive is not in the folder that --tarballs names"

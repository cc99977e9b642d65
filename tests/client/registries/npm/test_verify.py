"""A whole run: one request a package, keys first, renewed once, every package counted."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from kedge.client.anchor import Anchor
from kedge.client.client import TrustClient
from kedge.documents import DocumentError
from kedge.errors import ExpiredError, FetchError, InputError
from kedge.registries import Allowances, parse_allowance
from kedge.registries.npm.config import Mappings, Registries, Upstreams, check_rule, parse_npmrc
from kedge.registries.npm.fetch import FetchLimits
from kedge.registries.npm.judge import Cause, Outcome, Policy, Verdict
from kedge.registries.npm.keyring import Issued, KeyRing, NoKeys
from kedge.registries.npm.locked import Archives, LockedPackage, digest_of
from kedge.registries.npm.lockfiles import LockfileKind, read_lockfile
from kedge.registries.npm.verify import Settings, verify_packages
from kedge.transport.mirror import Mirror
from support import server as hostile
from support.clock import SettableClock
from support.packages import PackageRegistry, SigningKey, archive_of, key_document, lockfile
from support.server import Exchange, HostileServer
from support.simulator import RepositorySimulator

NOW = datetime(2026, 1, 1, tzinfo=UTC)
UPSTREAM = "registry.example"
LIMITS = FetchLimits(total_s=60, idle_s=5, attempts=2, max_bytes=1 << 20)


class Run:
    """A repository that carries keys, a clock, and a registry with packages."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = SettableClock(NOW)
        self.key = SigningKey("SHA256:own", start="2020-01-01T00:00:00Z")
        self.npm = PackageRegistry()
        self.repo = RepositorySimulator(now=NOW)
        self.options: dict[str, Any] = {}
        self.clients: list[TrustClient] = []
        self.publish_keys(self.key)

    def publish_keys(self, *keys: SigningKey, issuer: str = UPSTREAM) -> None:
        self.repo.add_target(f"{issuer}/keys.json", key_document(*keys))
        self.repo.publish()
        self.repo.write(self.folder / "repo")

    def speaker(self, issuer: str) -> Anchor | None:
        if issuer not in (UPSTREAM, "proxy.example", "empty.example"):
            return None
        mirrors = (Mirror(url=str(self.folder / "repo")),)
        return Anchor(name="test", initial_root=self.repo.initial_root, mirrors=mirrors, **self.options)

    def keyring(self) -> KeyRing:
        def opened(anchor: Anchor) -> TrustClient:
            self.clients.append(TrustClient(anchor, state=self.folder / "state", clock=self.clock))
            return self.clients[-1]

        return KeyRing(self.speaker, opened)

    def verify(
        self,
        server: HostileServer | None,
        *packages: LockedPackage,
        npmrc: str | None = None,
        upstreams: Upstreams | None = None,
        limits: FetchLimits = LIMITS,
        **settings: Any,
    ) -> tuple[Verdict, ...]:
        registry = f"{server.url}/" if server else "https://registry.invalid/"
        chosen = upstreams or Upstreams(claimed=lambda _: False, upstream=UPSTREAM)
        registries = Registries.of(
            [parse_npmrc(npmrc, is_users=True)] if npmrc else [], {}, registry=None if npmrc else registry
        )
        with self.keyring() as keyring:
            return verify_packages(
                packages, keyring, Settings(registries=registries, upstreams=chosen, limits=limits, **settings)
            )


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def packages(*specs: tuple[str, str]) -> tuple[LockedPackage, ...]:
    return read_lockfile(lockfile(*specs), LockfileKind.NPM).packages


def outcomes(verdicts: tuple[Verdict, ...]) -> list[Outcome]:
    return [verdict.outcome for verdict in verdicts]


def test_each_packument_is_asked_for_once_and_connections_are_kept(run: Run) -> None:
    specs = [(f"p{number}", version) for number in range(40) for version in ("1.0.0", "2.0.0")]
    for name, version in specs:
        run.npm.publish(name, version, keys=[run.key])
    locked = tuple(package for name, version in specs for package in packages((name, version)))
    seen: list[int] = []
    with HostileServer(run.npm) as server:
        verdicts = run.verify(server, *locked, jobs=4, progress=seen.append)
        assert outcomes(verdicts) == [Outcome.VERIFIED] * 80
        assert [verdict.package for verdict in verdicts] == list(locked)
        assert sorted(server.paths) == sorted({name for name, _ in specs})
        assert len({request.connection for request in server.requests}) <= 4
    assert sum(seen) == 80


def test_several_processes_give_the_verdicts_of_one(run: Run) -> None:
    specs = [(f"p{number}", "1.0.0") for number in range(60)]
    for number, (name, version) in enumerate(specs):
        if number % 5 != 0:
            run.npm.publish(name, version, keys=[run.key] if number % 3 else [])
    seen: list[int] = []
    with HostileServer(run.npm) as server:
        alone = run.verify(server, *packages(*specs), processes=1)
        shared = run.verify(server, *packages(*specs), processes=3, progress=seen.append)
    assert shared == alone
    assert set(outcomes(alone)) == {Outcome.VERIFIED, Outcome.UNSIGNED, Outcome.NOT_FOUND}
    assert sum(seen) == 60


def test_a_scopes_registry_is_asked_for_its_packages_and_judged_by_its_own_keys(run: Run) -> None:
    own = SigningKey("SHA256:proxy")
    run.publish_keys(own, issuer="proxy.example")
    run.npm.publish("a", "1.0.0", keys=[run.key])
    scoped = PackageRegistry()
    scoped.publish("@s/b", "1.0.0", keys=[own])
    locked = (*packages(("a", "1.0.0")), *packages(("@s/b", "1.0.0")))
    with HostileServer(run.npm) as first, HostileServer(scoped) as second:
        address = second.url.removeprefix("http://")
        mapped = Mappings.from_toml(
            f'format = "kedge.npm/1"\n[[registry]]\nurl = "{second.url}"\nupstream = "proxy.example"\n'.encode()
        )
        upstreams = Upstreams(claimed=lambda _: False, upstream=UPSTREAM, mappings=mapped)
        npmrc = f"registry={first.url}\n@s:registry={second.url}\n//{address}/:_authToken=t"
        verdicts = run.verify(None, *locked, npmrc=npmrc, upstreams=upstreams)
        assert [(verdict.outcome, verdict.issuer) for verdict in verdicts] == [
            (Outcome.VERIFIED, UPSTREAM),
            (Outcome.VERIFIED, "proxy.example"),
        ]
        assert "Authorization" not in first.requests[0].headers
        assert second.requests[0].headers["Authorization"] == "Bearer t"


def test_a_second_issuer_must_be_named(run: Run) -> None:
    own = SigningKey("SHA256:proxy")
    run.publish_keys(own, issuer="proxy.example")
    run.npm.publish("a", "1.0.0", keys=[own])
    with HostileServer(run.npm) as server:
        assert outcomes(run.verify(server, *packages(("a", "1.0.0")))) == [Outcome.UNKNOWN_KEY]
        both = Upstreams(claimed=lambda _: False, upstream=UPSTREAM, also=("proxy.example",))
        (verdict,) = run.verify(server, *packages(("a", "1.0.0")), upstreams=both)
        assert (verdict.outcome, verdict.issuer) == (Outcome.VERIFIED, "proxy.example")


def test_an_unknown_key_makes_one_refresh_before_it_is_refused(run: Run) -> None:
    run.options = {"refresh_after": timedelta(hours=1)}
    run.npm.publish("a", "1.0.0", keys=[run.key])
    new = SigningKey("SHA256:new")
    run.npm.publish("b", "1.0.0", keys=[new])
    run.npm.publish("c", "1.0.0", keys=[SigningKey("SHA256:nobodys")])
    locked = (*packages(("a", "1.0.0")), *packages(("b", "1.0.0")), *packages(("c", "1.0.0")))
    with HostileServer(run.npm) as server:
        assert outcomes(run.verify(server, *locked)) == [Outcome.VERIFIED, Outcome.UNKNOWN_KEY, Outcome.UNKNOWN_KEY]
        run.publish_keys(run.key, new)
        before = len(server.requests)
        verdicts = run.verify(server, *locked)
        assert outcomes(verdicts) == [Outcome.VERIFIED, Outcome.VERIFIED, Outcome.UNKNOWN_KEY]
        assert len(server.requests) == before + 3, "what was served is judged again, not asked for again"


def test_trust_that_is_too_old_ends_the_run_before_anything_is_asked(run: Run) -> None:
    run.npm.publish("a", "1.0.0", keys=[run.key])
    run.clock.advance(timedelta(days=30))
    with HostileServer(run.npm) as server:
        with pytest.raises(ExpiredError):
            run.verify(server, *packages(("a", "1.0.0")))
        assert server.requests == []


def test_a_repository_that_cannot_be_reached_ends_the_run(run: Run) -> None:
    (run.folder / "repo").rename(run.folder / "gone")
    with HostileServer(run.npm) as server, pytest.raises(FetchError):
        run.verify(server, *packages(("a", "1.0.0")))


@pytest.mark.parametrize("issuer", ["nobody.example", "empty.example"])
def test_without_keys_nothing_is_asked_and_everything_is_counted(run: Run, issuer: str) -> None:
    run.npm.publish("a", "1.0.0", keys=[run.key])
    with HostileServer(run.npm) as server:
        upstreams = Upstreams(claimed=lambda _: False, upstream=issuer)
        (verdict,) = run.verify(server, *packages(("a", "1.0.0")), upstreams=upstreams)
        assert verdict.outcome is Outcome.NO_KEYS
        assert issuer in verdict.detail
        assert server.requests == []


FAULTS: list[tuple[Callable[[Exchange], None], Outcome, str]] = [
    (hostile.status(404), Outcome.NOT_FOUND, "the registry answers 404"),
    (hostile.status(500), Outcome.UNREACHABLE, "the registry answers 500"),
    (hostile.status(429), Outcome.UNREACHABLE, "the registry answers 429"),
    (hostile.captive_portal(), Outcome.UNREACHABLE, "is a page of HTML"),
    (hostile.bytes_of(b"\xff\xff"), Outcome.UNREACHABLE, "is not UTF-8"),
    (hostile.bytes_of(b"[" * 200_000), Outcome.UNREACHABLE, "is nested too deep"),
    (hostile.bytes_of(b""), Outcome.UNREACHABLE, "is not JSON"),
    (hostile.endless_body(), Outcome.UNREACHABLE, "larger than 1 MiB"),
    (hostile.silence(), Outcome.UNREACHABLE, "does not answer for 5 seconds"),
    (hostile.redirect("https://elsewhere.invalid/"), Outcome.UNREACHABLE, "redirects to another origin"),
    (hostile.bytes_of(b'{"name": "other", "versions": {}}'), Outcome.NOT_FOUND, "asked for was bad"),
]


@pytest.mark.parametrize(("behaviour", "outcome", "text"), FAULTS, ids=[text for _, _, text in FAULTS])
def test_a_registry_that_fails_for_one_package_leaves_the_others_alone(
    run: Run, behaviour: Callable[[Exchange], None], outcome: Outcome, text: str
) -> None:
    run.npm.publish("good", "1.0.0", keys=[run.key])
    run.npm.publish("bad", "1.0.0", keys=[run.key])
    locked = (*packages(("bad", "1.0.0")), *packages(("good", "1.0.0")))
    with HostileServer(run.npm) as server:
        assert outcomes(run.verify(server, *locked)) == [Outcome.VERIFIED] * 2
        server.misbehave("bad", behaviour)
        bad, good = run.verify(server, *locked, limits=replace(LIMITS, attempts=1))
    assert (bad.outcome, good.outcome) == (outcome, Outcome.VERIFIED)
    assert text in bad.detail
    assert "\n" not in bad.detail


def test_a_packument_of_a_hundred_megabytes_is_an_outcome(run: Run) -> None:
    run.npm.publish("big", "1.0.0", keys=[run.key])
    body = run.npm.files["big"][:-1] + b', "readme": "' + b"x" * 100_000_000 + b'"}'
    with HostileServer({"big": body}) as server:
        (verdict,) = run.verify(server, *packages(("big", "1.0.0")))
        assert (verdict.outcome, "larger than" in verdict.detail) == (Outcome.UNREACHABLE, True)


def test_rules_skip_and_foreign_sources_are_failures_unless_the_user_allows_them(run: Run) -> None:
    data = json.dumps(
        {
            "lockfileVersion": 1,
            "dependencies": {
                "@own/a": {"version": "1.0.0"},
                "@own/b": {"version": "1.0.0"},
                "plain": {"version": "1.0.0"},
                "git": {"version": "git+https://example.com/x.git"},
                "far": {"version": "https://far.example/x.tgz"},
            },
        }
    ).encode()
    upstreams = Upstreams(claimed=lambda _: False, upstream=UPSTREAM, skip=("@own/*", "plain"))
    verdicts = run.verify(None, *read_lockfile(data, LockfileKind.NPM).packages, upstreams=upstreams)
    assert outcomes(verdicts) == [Outcome.SKIPPED] * 3 + [Outcome.NOT_IN_REGISTRY] * 2
    assert [verdict.cause for verdict in verdicts] == [Cause.RULE, Cause.RULE, Cause.RULE, Cause.GIT, Cause.REMOTE]
    entries = (parse_allowance("git=example.com/*"), parse_allowance("remote=elsewhere.example/*"))
    policy = Policy(allowances=Allowances(entries=entries, today=NOW.date()))
    locked = read_lockfile(data, LockfileKind.NPM).packages
    verdicts = run.verify(None, *locked, upstreams=upstreams, policy=policy)
    assert outcomes(verdicts)[3:] == [Outcome.SKIPPED, Outcome.NOT_IN_REGISTRY]
    assert [verdict.is_fault(policy) for verdict in verdicts] == [False] * 4 + [True]
    assert "--allow 'remote=far.example/x.tgz'" in verdicts[4].detail
    assert run.clients == [], "where nothing is to be verified no keys are asked for"


@pytest.mark.parametrize("name", ["a", "@s/a"])
def test_what_is_locked_by_sha1_is_bound_by_its_archive_where_that_is_fetched(run: Run, name: str) -> None:
    run.npm.publish(name, "1.0.0", keys=[run.key])
    archive, path = archive_of(name, "1.0.0"), f"{name}/-/a-1.0.0.tgz"
    package = LockedPackage(name=name, version="1.0.0", digests=(digest_of(archive, "sha1"),))
    run.npm.documents[path] = archive
    with HostileServer(run.npm) as server:
        (verdict,) = run.verify(server, package)
        assert (verdict.outcome, verdict.cause) == (Outcome.SKIPPED, Cause.NOT_BOUND)
        (verdict,) = run.verify(server, package, fetch=True)
        assert (verdict.outcome, verdict.content) == (Outcome.VERIFIED, digest_of(archive).sri)
    run.npm.documents[path] = b"evil"
    with HostileServer(run.npm) as server:
        (verdict,) = run.verify(server, package, fetch=True)
        assert (verdict.outcome, verdict.cause) == (Outcome.DIGEST_MISMATCH, Cause.BYTES_DIFFER)
        evil = replace(package, digests=(digest_of(b"evil", "sha1"),))
        (verdict,) = run.verify(server, evil, fetch=True)
        assert verdict.outcome is Outcome.DIGEST_MISMATCH, "the registry's key signed another content"
    del run.npm.documents[path]
    with HostileServer(run.npm) as server:
        (verdict,) = run.verify(server, package, fetch=True)
        assert verdict.outcome is Outcome.NOT_FOUND


def test_an_alias_is_told_and_a_failure_where_the_user_takes_none(run: Run) -> None:
    run.npm.publish("real", "1.0.0", keys=[run.key])
    (package,) = packages(("real", "1.0.0"))
    package = replace(package, aliases=("lodash",))
    with HostileServer(run.npm) as server:
        (verdict,) = run.verify(server, package)
        assert (verdict.outcome, verdict.notes) == (Outcome.VERIFIED, ("installed as lodash",))
        (verdict,) = run.verify(server, package, policy=Policy(aliases=False))
        assert (verdict.outcome, verdict.is_fault(Policy())) == (Outcome.ALIAS, True)


@pytest.mark.parametrize(
    ("claimed", "upstream", "mapped", "is_default", "expected"),
    [
        ((), None, None, True, "proxy.example/npm"),
        ((), "up.example", None, True, "up.example"),
        ((), "up.example", None, False, "up.example"),
        ((), "up.example", "map.example", True, "up.example"),
        ((), "up.example", "map.example", False, "map.example"),
        ((), None, "map.example", True, "map.example"),
        (("proxy.example/npm",), "up.example", None, True, "up.example"),
        (("proxy.example/npm",), "up.example", None, False, "proxy.example/npm"),
        (("proxy.example/npm",), None, "map.example", False, "map.example"),
    ],
)
def test_whose_keys_count_is_the_users_decision(
    claimed: tuple[str, ...], upstream: str | None, mapped: str | None, is_default: bool, expected: str
) -> None:
    text = 'format = "kedge.npm/1"\n'
    if mapped:
        text += f'[[registry]]\nurl = "https://Proxy.example/npm/"\nupstream = "{mapped}"\nalso = ["also.example"]\n'
    upstreams = Upstreams(
        claimed=lambda name: name in claimed, upstream=upstream, mappings=Mappings.from_toml(text.encode())
    )
    source = Registries.of([], {}, registry="https://proxy.example/npm").default
    first, *also = upstreams.issuers(source, is_default=is_default)
    assert first == expected
    assert also == (["also.example"] if mapped else [])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('format = "kedge.npm/2"', "a newer kedge is needed"),
        ("format = 1", "must be a text"),
        ("x", "is not TOML"),
        ('format = "kedge.npm/1"\n[[registry]]', "url: is missing"),
        ('format = "kedge.npm/1"\n[[registry]]\nurl = "r.example"', "must be a URL"),
        ('format = "kedge.npm/1"\n[[registry]]\nurl = "https://u:p@r.example/"', "no credentials"),
        ('format = "kedge.npm/1"\n[[registry]]\nurl = "https://r.example"\nupstream = "https://x"', "registry's id"),
        ('format = "kedge.npm/1"\n[[registry]]\nurl = "https://r.example"\nskip = ["@a/b/c"]', "a rule is"),
        ('format = "kedge.npm/1"\n[[registry]]\nurl = "https://r.example"\nmore = 1', "is not a field"),
        (
            'format = "kedge.npm/1"\n[[registry]]\nurl = "https://r.example"\n[[registry]]\nurl = "https://r.example/"',
            "stands there twice",
        ),
    ],
)
def test_a_mapping_that_is_not_right_is_refused(text: str, problem: str) -> None:
    with pytest.raises(DocumentError) as caught:
        Mappings.from_toml(text.encode())
    assert problem in str(caught.value)


@pytest.mark.parametrize("rule", ["", "@", "@a/", "a b", "a/b", "@a/b/c", "*"])
def test_a_rule_that_could_mean_more_than_it_says_is_refused(rule: str) -> None:
    with pytest.raises(InputError, match="a rule is a package's name"):
        check_rule(rule)


def test_archives_are_found_by_their_names_and_never_taken_for_another_scopes(tmp_path: Path) -> None:
    places = {
        "b-1.0.0.tgz": ("b", "1.0.0"),
        "s-b-1.0.0.tgz": ("@s/b", "1.0.0"),
        "mirror/@t-b-1.0.0.tgz": ("@t/b", "1.0.0"),
        "copy/@u/b/-/b-1.0.0.tgz": ("@u/b", "1.0.0"),
        "copy/c/-/c-1.0.0.tgz": ("c", "1.0.0"),
    }
    for place, spec in places.items():
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_bytes(archive_of(*spec))
    archives = Archives(tmp_path)
    for place, spec in places.items():
        assert archives.find(LockedPackage(name=spec[0], version=spec[1])) == [tmp_path / place]
    assert archives.find(LockedPackage(name="@v/b", version="1.0.0")) == []
    with pytest.raises(InputError, match="there is no such folder"):
        Archives(tmp_path / "nothing")


def test_an_archive_that_is_missing_is_noted_and_what_is_there_is_held_against_the_lockfile(
    run: Run, tmp_path: Path
) -> None:
    for name in ("a", "b", "c"):
        run.npm.publish(name, "1.0.0", keys=[run.key])
    folder = tmp_path / "archives"
    folder.mkdir()
    (folder / "a-1.0.0.tgz").write_bytes(archive_of("a", "1.0.0"))
    (folder / "c-1.0.0.tgz").write_bytes(b"evil")
    locked = tuple(package for name in ("a", "b", "c") for package in packages((name, "1.0.0")))
    with HostileServer(run.npm) as server:
        a, b, c = run.verify(server, *locked, archives=Archives(folder))
    assert (a.outcome, a.notes) == (Outcome.VERIFIED, ())
    assert (b.outcome, len(b.notes)) == (Outcome.VERIFIED, 1)
    assert (c.outcome, c.cause) == (Outcome.DIGEST_MISMATCH, Cause.BYTES_DIFFER)


def test_issuers_keys_are_got_once_and_say_what_they_stand_on(run: Run) -> None:
    with run.keyring() as keyring:
        issued = keyring.get(UPSTREAM)
        assert isinstance(issued, Issued)
        assert (issued.anchor, issued.keys.target) == ("test", f"{UPSTREAM}/keys.json")
        assert keyring.get(UPSTREAM) is issued
        assert isinstance(keyring.get("nobody.example"), NoKeys)
        assert not keyring.renew()
        assert len(run.clients) == 1

"""``kedge verify pub`` as a process: the lock file, a mirror that lies in each way, archives, and no network at all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from architecture import schemas
from cli.shell import Done, Shell
from kedge.registries.pub.listing import read_answer
from support.pub import PubRegistry, archive
from support.server import HostileServer
from support.simulator import RepositorySimulator

MIRROR = "https://mirror.example/pub"


@dataclass(kw_only=True)
class PubUser:
    """A user with an anchor that speaks for pub.dev, a project with a lock file, and a mirror."""

    shell: Shell
    repo: RepositorySimulator
    folder: Path
    server: HostileServer
    registry: PubRegistry
    shown: dict[str, bytes] = field(default_factory=dict)

    @property
    def project(self) -> Path:
        return self.folder.parent / "project"

    def sign(self) -> None:
        self.registry.sign(self.repo)
        self.repo.write(self.folder)

    def shows(self, registry: PubRegistry) -> None:
        """What the mirror answers from now on."""
        self.shown.clear()
        self.shown.update(registry.files)

    def lock(self, *specs: str, url: str | None = None, digests: dict[str, str | None] | None = None) -> None:
        (self.project / "pubspec.lock").write_text(self.registry.lock(*specs, url=url, digests=digests))

    def verify(self, *more: str | Path) -> Done:
        return self.shell.run("verify", "pub", self.project, *more, COLUMNS="200")

    def outcomes(self, *more: str | Path) -> tuple[int, dict[str, str]]:
        done = self.shell.run("verify", "pub", self.project, "--json", *more)
        found = json.loads(done.out)
        assert schemas.faults("checklist", found) == []
        return done.code, {item["name"]: item["outcome"] for item in found["items"]}

    def against_mirror(self) -> tuple[int, dict[str, str]]:
        return self.outcomes("--mirror", self.server.url)


@pytest.fixture
def user(tmp_path: Path, shell: Shell) -> Iterator[PubUser]:
    repo = RepositorySimulator(now=datetime(2098, 1, 1, tzinfo=UTC))
    registry = PubRegistry()
    registry.release("args", "1.0.0", "1.1.0", "1.2.0")
    registry.release("http", "0.13.0", "1.0.0")
    shown: dict[str, bytes] = {}
    with HostileServer(shown) as server:
        made = PubUser(shell=shell, repo=repo, folder=tmp_path / "repo", server=server, registry=registry, shown=shown)
        made.sign()
        made.shows(registry)
        (tmp_path / "root.json").write_bytes(repo.initial_root)
        added = ("--root", tmp_path / "root.json", "--mirror", made.folder, "--registry", "pub/pub.dev")
        assert shell.run("anchor", "add", "repo", *added).code == 0
        made.project.mkdir()
        made.lock("args 1.1.0", "http 1.0.0")
        yield made


def test_locked_digests_are_verified_and_the_answer_says_by_what(user: PubUser) -> None:
    done = user.verify()
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"{user.project}/pubspec.lock: 2 of 2 packages verified\n  verified  2\n")
    assert "  listings of  pub/pub.dev, which is https://pub.dev\n" in done.out
    assert user.against_mirror() == (0, {"args 1.1.0": "verified", "http 1.0.0": "verified"})


def test_a_digest_that_nobody_signed_for_is_named(user: PubUser) -> None:
    user.lock("args 1.1.0", "http 1.0.0", digests={"args 1.1.0": "0" * 64})
    assert user.outcomes() == (5, {"args 1.1.0": "digest-mismatch", "http 1.0.0": "verified"})


def test_versions_and_packages_that_nobody_listed_are_named(user: PubUser) -> None:
    user.lock("args 9.9.9", "evil 1.0.0")
    assert user.outcomes() == (5, {"args 9.9.9": "not-listed", "evil 1.0.0": "no-listing"})


def test_a_mirror_that_replaces_a_version_is_caught_though_the_lock_is_right(user: PubUser) -> None:
    lying = PubRegistry()
    lying.release("args", "1.0.0", "1.1.0", "1.2.0", archive_sha256="0" * 64)
    lying.release("http", "0.13.0", "1.0.0")
    user.shows(lying)
    assert user.against_mirror() == (5, {"args 1.1.0": "replaced", "http 1.0.0": "verified"})
    done = user.verify("--mirror", user.server.url)
    assert "the mirror shows other bytes than were signed for: 1.0.0, 1.1.0, 1.2.0" in done.out
    user.shows(user.registry)
    assert user.against_mirror()[0] == 0


def test_a_mirror_that_hides_or_replays_is_told_apart_from_one_that_invents(user: PubUser) -> None:
    hiding, old, inventing, stripped = PubRegistry(), PubRegistry(), PubRegistry(), PubRegistry()
    hiding.release("args", "1.0.0", "1.2.0")
    old.release("args", "1.0.0", "1.1.0")
    inventing.release("args", "1.0.0", "1.1.0", "1.2.0", "9.0.0")
    stripped.release("args", "1.0.0", "1.1.0", "1.2.0", archive_sha256=None)
    user.lock("args 1.1.0")
    for registry, outcome in (
        (hiding, "hidden"),
        (old, "replayed"),
        (inventing, "unlisted"),
        (stripped, "without-digest"),
    ):
        user.shows(registry)
        assert user.against_mirror() == (5, {"args 1.1.0": outcome})
    user.shown.clear()
    assert user.against_mirror() == (5, {"args 1.1.0": "hidden"})
    user.shown["api/packages/args"] = b"<html>"
    assert user.against_mirror() == (5, {"args 1.1.0": "malformed"})


def test_a_retraction_that_the_mirror_forgets_is_a_replay_and_one_that_it_shows_is_a_note(user: PubUser) -> None:
    before = PubRegistry()
    before.release("args", "1.0.0", "1.1.0", "1.2.0")
    user.registry.release("args", "1.1.0", retracted=True)
    user.sign()
    user.lock("args 1.1.0")
    assert user.outcomes() == (0, {"args 1.1.0": "retracted"})
    assert user.outcomes("--strict") == (5, {"args 1.1.0": "retracted"})
    user.shows(before)
    assert user.against_mirror() == (5, {"args 1.1.0": "replayed"})


def test_a_mirror_is_the_same_source_once_the_keyholders_list_it(user: PubUser) -> None:
    user.lock("args 1.1.0", url=MIRROR)
    assert user.outcomes() == (5, {"args 1.1.0": "other-source"})
    source = {"format": "kedge.pub-source/1", "url": "https://pub.dev", "mirrors": [MIRROR]}
    user.repo.add_target("pub/pub.dev/source.json", json.dumps(source).encode())
    user.sign()
    assert user.outcomes() == (0, {"args 1.1.0": "verified"})


def test_archives_on_disk_are_held_against_it_and_bind_what_an_old_lock_does_not(user: PubUser) -> None:
    folder = user.folder.parent / "archives"
    folder.mkdir()
    user.lock("args 1.1.0", "http 1.0.0", digests={"args 1.1.0": None})
    assert user.outcomes() == (5, {"args 1.1.0": "not-bound", "http 1.0.0": "verified"})
    (folder / "args-1.1.0.tar.gz").write_bytes(archive("args", "1.1.0"))
    (folder / "http-1.0.0.tar.gz").write_bytes(b"evil")
    assert user.outcomes("--archives", folder) == (5, {"args 1.1.0": "verified", "http 1.0.0": "bytes-differ"})


def test_offline_it_answers_from_what_was_verified_before_and_says_so(user: PubUser) -> None:
    user.server.misbehave("*", lambda exchange: exchange.hang_up())
    assert user.verify().code == 0
    user.folder.rename(user.folder.with_name("gone"))
    done = user.verify()
    assert (done.code, "not refreshed" in done.err) == (0, True)
    assert "2 of 2 packages verified" in done.out
    user.lock("args 1.1.0", digests={"args 1.1.0": "0" * 64})
    assert user.outcomes()[0] == 5


def test_what_is_from_elsewhere_is_skipped_and_what_was_asked_to_be_left_out_too(user: PubUser) -> None:
    text = user.registry.lock("args 1.1.0", "own 1.0.0")
    sdk = '  flutter:\n    dependency: "direct main"\n    description: flutter\n    source: sdk\n    version: "0.0.0"\n'
    (user.project / "pubspec.lock").write_text(text.replace("sdks:", f"{sdk}sdks:"))
    assert user.outcomes("--skip", "own") == (
        0,
        {"args 1.1.0": "verified", "own 1.0.0": "skipped", "flutter 0.0.0": "skipped"},
    )


def test_a_listing_about_another_package_under_a_right_name_is_refused(user: PubUser) -> None:
    data = read_answer(user.registry.answer("http"), "http").to_bytes()
    user.repo.add_target("pub/pub.dev/packages/args.json", data)
    user.repo.publish()
    user.repo.write(user.folder)
    done = user.verify()
    assert (done.code, done.out) == (3, "")
    assert "pub/pub.dev/packages/args.json: name: must be args, as its path says" in done.err


@pytest.mark.parametrize("kind", ["go", "nuget", "pub"])
def test_a_registry_of_another_kind_is_a_wrong_use(user: PubUser, kind: str) -> None:
    (user.project / "go.sum").write_text("")
    (user.project / "a.1.0.0.nupkg").write_text("")
    other = "pub/pub.dev" if kind != "pub" else "go/sum.example"
    done = user.shell.run("verify", kind, user.project, "--registry", other)
    assert (done.code, done.out) == (2, "")
    assert "'s id: expected " in done.err


def test_a_form_of_another_kind_is_a_wrong_use(user: PubUser) -> None:
    user.repo.add_target("pub/pub.dev/source.json", b'{"format":"kedge.pub-source/1","url":"https://pub.dev"}')
    user.sign()
    for form in ("gosumdb", "go-env", "nuget-config"):
        done = user.shell.run("keys", "export", form, "pub/pub.dev")
        assert (done.code, done.out, "'s id: expected " in done.err) == (2, "", True)


def test_a_wrong_lock_file_ends_in_one_line(user: PubUser) -> None:
    (user.project / "pubspec.lock").write_text("packages: [a]\n")
    done = user.verify()
    problem = "line 1: holds a value that is not in the form in which pub writes this file"
    assert (done.code, done.err) == (2, f"kedge: {user.project}/pubspec.lock: {problem}\n")

"""A pub registry's answers into signed listings: in hash bins or in an event, and never what breaks a release."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path

import pytest

from kedge.errors import InputError
from kedge.registries.pub.listing import read_listing
from kedge_repo._cli.app import run
from kedge_repo.bins.update import BinsUpdate
from kedge_repo.events.plan_roles import plan_delegation
from kedge_repo.events.pub import (
    Gathered,
    folder_answers,
    gather,
    has_bins,
    into_bins,
    into_event,
    read_names,
    web_answers,
)
from kedge_repo.publish.files import collect_files
from kedge_repo.publish.online import sign_online
from kedge_repo.publish.replay import READERS
from kedge_repo.workspace.policy import BinsPolicy, Content, DelegationPolicy
from repo_tools.ceremony import Ceremony
from support.pub import PubRegistry, sha256_of
from support.server import HostileServer

NOW = datetime.now(UTC).replace(microsecond=0)  # python-tuf reads too, and its clock cannot be set
REGISTRY, ROLE = "pub/pub.dev", "pub.dev"
DAY = timedelta(days=1)


def policy(*, bins: bool, content: Content = Content.WORKSPACE) -> DelegationPolicy:
    inside = BinsPolicy(
        name=ROLE,
        keyholders=("ci",),
        threshold=1,
        expiry=30 * DAY,
        signing=10 * DAY,
        bit_length=3,
        content=content,
    )
    return DelegationPolicy(
        name=ROLE,
        keyholders=("alice", "bob", "carol"),
        threshold=2,
        expiry=365 * DAY,
        signing=60 * DAY,
        paths=("pub/pub.dev/packages/*",),
        terminating=True,
        bins=inside if bins else None,
    )


class PubCeremony(Ceremony):
    """A repository that delegates pub.dev's listings to a role."""

    def delegated(self, wanted: DelegationPolicy) -> PubCeremony:
        self.ready()
        self.change(lambda view: plan_delegation(view, wanted))
        self.sign("alice", "bob")
        self.merge()
        return self

    def sync(self, registry: PubRegistry, folder: Path, *accepted: str) -> tuple[Gathered, BinsUpdate]:
        gathered = gather(self.workspace, REGISTRY, folder_answers(answers_in(registry, folder)), accepted=accepted)
        return gathered, into_bins(self.workspace, ROLE, gathered, [self.signers["ci"]], now=self.now)

    def signed(self, name: str) -> dict[str, str | None]:
        return dict(read_listing(self.workspace.target(f"{REGISTRY}/packages/{name}.json")).versions)


def answers_in(registry: PubRegistry, folder: Path) -> Path:
    for path, data in registry.files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return folder


@pytest.fixture
def registry() -> PubRegistry:
    made = PubRegistry()
    for number in range(30):
        made.release(f"package_{number}", "1.0.0", "1.1.0")
    return made


@pytest.fixture
def binned(tmp_path: Path) -> PubCeremony:
    return PubCeremony(tmp_path / "repo", now=NOW).delegated(policy(bins=True))


def test_a_whole_registry_goes_into_bins_that_both_readers_read(
    binned: PubCeremony, registry: PubRegistry, tmp_path: Path
) -> None:
    gathered, made = binned.sync(registry, tmp_path / "answers")
    assert (len(gathered.changed), gathered.refused, made.bins, made.targets) == (30, {}, 8, 30)
    sign_online(binned.workspace, [binned.signers["ci"]], now=NOW)
    files = collect_files(binned.workspace)
    everything = {**files.everything(), **dict(chain.from_iterable(files.contents({})))}
    for reader in READERS.values():
        reader(everything, files.roots[0], tuple(gathered.files), NOW)


def test_the_same_answers_twice_change_nothing_and_one_release_touches_one_bin(
    binned: PubCeremony, registry: PubRegistry, tmp_path: Path
) -> None:
    binned.sync(registry, tmp_path / "answers")
    gathered, made = binned.sync(registry, tmp_path / "answers")
    assert (len(gathered.changed), made.bins) == (0, 0)
    registry.release("package_7", "1.2.0")
    gathered, made = binned.sync(registry, tmp_path / "answers")
    assert (list(gathered.changed), made.bins, made.changed) == ([f"{REGISTRY}/packages/package_7.json"], 1, 1)


def test_a_run_that_was_cut_off_after_the_files_is_taken_up_by_the_next(
    binned: PubCeremony, registry: PubRegistry, tmp_path: Path
) -> None:
    answers = answers_in(registry, tmp_path / "answers")
    gathered = gather(binned.workspace, REGISTRY, folder_answers(answers))
    with binned.workspace.lock():
        binned.workspace.write_targets(gathered.changed)
    again, made = binned.sync(registry, answers)
    assert (len(again.changed), made.added) == (0, 30)


def test_a_version_that_changes_or_vanishes_keeps_its_listing_and_is_named(
    binned: PubCeremony, registry: PubRegistry, tmp_path: Path
) -> None:
    binned.sync(registry, tmp_path / "answers")
    registry.release("package_1", "1.0.0", archive_sha256="0" * 64)
    del registry.packages["package_2"]["1.1.0"]
    registry.release("package_3", "2.0.0", retracted=True)
    gathered, made = binned.sync(registry, tmp_path / "answers")
    assert gathered.refused == {
        "package_1": "the answer has other bytes for 1.0.0: kept as it was signed",
        "package_2": "the answer has no 1.1.0 any more: kept as it was signed",
    }
    assert made.changed == 1
    assert binned.signed("package_1")["1.0.0"] == sha256_of("package_1", "1.0.0")
    gathered, _ = binned.sync(registry, tmp_path / "answers", "package_1")
    assert list(gathered.refused) == ["package_2"]
    assert binned.signed("package_1")["1.0.0"] == "0" * 64


def test_an_answer_without_digests_is_signed_as_such_and_said(
    binned: PubCeremony, registry: PubRegistry, tmp_path: Path
) -> None:
    registry.release("bare", "1.0.0", archive_sha256=None)
    gathered, _ = binned.sync(registry, tmp_path / "answers")
    assert gathered.without_digest == ("bare",)
    assert binned.signed("bare") == {"1.0.0": None}


def test_an_answer_that_is_none_is_named_and_the_rest_is_taken(
    binned: PubCeremony, registry: PubRegistry, tmp_path: Path
) -> None:
    answers = answers_in(registry, tmp_path / "answers")
    (answers / "api" / "packages" / "package_4").write_bytes(b"<html>")
    gathered = gather(binned.workspace, REGISTRY, folder_answers(answers))
    assert gathered.refused == {"package_4": "the answer: is not JSON, or nested too deep"}
    assert len(gathered.files) == 29


def test_the_registry_itself_can_be_asked_by_name(binned: PubCeremony, registry: PubRegistry) -> None:
    names = read_names(b"package_1\n\npackage_2\ngone\n", file="names")
    with HostileServer(registry.files) as server:
        gathered = gather(binned.workspace, REGISTRY, web_answers(server.url, names))
        assert list(gathered.files) == [f"{REGISTRY}/packages/package_{number}.json" for number in (1, 2)]
        assert gathered.refused == {"gone": f"{server.url}: has no package gone"}


def test_names_that_are_none_are_refused_by_line() -> None:
    with pytest.raises(InputError, match="names: line 2: is no name of a package"):
        read_names(b"args\n../x\n", file="names")
    with pytest.raises(InputError, match="names: names no package"):
        read_names(b"\n", file="names")


def test_a_few_packages_go_into_an_event_of_the_roles_own_keyholders(registry: PubRegistry, tmp_path: Path) -> None:
    made = PubCeremony(tmp_path / "repo", now=NOW).delegated(policy(bins=False))
    assert has_bins(made.workspace, ROLE) is None
    gathered = gather(made.workspace, REGISTRY, folder_answers(answers_in(registry, tmp_path / "answers")))
    change = into_event(made.workspace, ROLE, gathered, now=NOW, event=None, reason="listings")
    assert change.changes == ("listings of pub.dev: 30 targets are added in pub.dev, 0 are replaced",)
    made.sign("alice", "bob")
    made.merge()
    assert made.signed("package_0")["1.1.0"] == sha256_of("package_0", "1.1.0")
    with pytest.raises(InputError, match=r"belongs to pub\.dev, not to targets"):
        into_event(made.workspace, "targets", gathered, now=NOW, event=None, reason=None)


def test_the_command_ends_with_5_where_something_was_not_taken(
    registry: PubRegistry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = PubCeremony(tmp_path / "repo").delegated(policy(bins=False))
    answers = answers_in(registry, tmp_path / "answers")
    (answers / "api" / "packages" / "package_4").write_bytes(b"<html>")
    where = ["--workspace", str(made.workspace.root)]
    assert run(["pub", "sync", ROLE, str(answers), *where, "--reason", "listings"]) == 5
    said = capsys.readouterr()
    assert "refused: package_4: the answer: is not JSON, or nested too deep" in said.err
    assert "29 listings, 29 of them new or changed" in said.err
    assert run(["pub", "sync", ROLE, "https://pub.example", *where]) == 2
    assert "which packages?" in capsys.readouterr().err
    assert run(["pub", "sync", ROLE, str(tmp_path / "nowhere"), *where]) == 2


def test_bins_whose_bytes_lie_elsewhere_cannot_be_synced(
    registry: PubRegistry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = PubCeremony(tmp_path / "repo").delegated(policy(bins=True, content=Content.ELSEWHERE))
    answers = answers_in(registry, tmp_path / "answers")
    assert run(["pub", "sync", ROLE, str(answers), "--workspace", str(made.workspace.root)]) == 2
    assert 'delegations.pub.dev.bins.content: is "elsewhere"' in capsys.readouterr().err

"""Recovery: who can still sign and what a thief can, the event that sets it right, and its rehearsal."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, Timestamp
from typer.testing import CliRunner

from kedge.client.anchor import Anchor
from kedge.client.client import TrustClient
from kedge.errors import ExitCode, InputError, Reason, VerificationError
from kedge.transport.mirror import Mirror
from kedge_repo._cli.app import app
from kedge_repo.audit.recover import Harm, Recovery, Verdict, plan_recovery, recovery_plan
from kedge_repo.audit.rehearse import Rehearsal, TargetCopy, push_ahead, rehearse_recovery
from kedge_repo.events.changes import change
from kedge_repo.events.open_event import signed_view
from kedge_repo.publish.online import sign_online
from kedge_repo.publish.publish import publish_workspace
from kedge_repo.workspace.public_key import to_pem
from repo_tools.ceremony import NPM, Ceremony, contents
from repo_tools.test_bins import Binned
from repo_tools.test_bins import target as bin_target


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Ceremony:
    """Root and targets 2 of alice, bob and carol; npm-team alone for npm's paths; ci online."""
    made = Ceremony(tmp_path_factory.mktemp("recover")).ready()
    publish_workspace(made.workspace, made.folder / "public", now=made.now)
    return made


@pytest.fixture
def ceremony(template: Ceremony, tmp_path: Path) -> Ceremony:
    shutil.copytree(template.folder, tmp_path / "copy")
    copy = Ceremony(tmp_path / "copy", template.now)
    copy.signers = dict(template.signers)
    return copy


def harm(*, lost: str = "", stolen: str = "") -> Harm:
    return Harm(lost=frozenset(lost.split()), stolen=frozenset(stolen.split()))


def fresh(*names: str) -> dict[str, CryptoSigner]:
    return {name: CryptoSigner.generate_ed25519() for name in names}


def plan_for(made: Ceremony, what: Harm, new: dict[str, CryptoSigner] | None = None) -> Recovery:
    keys = {name: signer.public_key for name, signer in (new or {}).items()}
    return plan_recovery(signed_view(made.workspace, made.now), what, keys)


def test_one_lost_root_key_of_three_is_taken_out_and_the_others_sign(template: Ceremony) -> None:
    found = plan_for(template, harm(lost="alice"))
    assert (found.verdict, found.dropped, found.wanted) == (Verdict.RECOVERABLE, ("alice",), ())
    # Alice had signed targets, which are left with bob's signature alone, so that they move as well.
    assert [(need.role, need.version, need.able) for need in found.needs] == [
        ("root", 2, ("bob", "carol")),
        ("root", 2, ("bob", "carol")),
        ("targets", 2, ("bob", "carol")),
    ]
    assert all(need.enough for need in found.needs)


def test_the_online_key_alone_needs_a_new_one_first(template: Ceremony) -> None:
    found = plan_for(template, harm(stolen="ci"))
    assert (found.verdict, found.wanted) == (Verdict.NEEDS_KEYS, ("ci",))
    assert found.steps[0].startswith("stop the job that signs online")
    assert found.steps[-1] == "make new keys (kedge-repo key new) and run this again with --new-key ci=ci-2.pub"
    then = plan_for(template, harm(stolen="ci"), fresh("ci"))
    assert (then.verdict, then.rotated) == (Verdict.RECOVERABLE, ("ci",))
    assert any("--at-least" in step for step in then.steps)
    roles = {role.role: role for role in then.roles}
    assert roles["timestamp"].thief_can
    assert roles["timestamp"].can_sign
    assert not roles["targets"].thieves


def test_alice_lost_and_the_online_key_stolen_is_one_event(template: Ceremony) -> None:
    found = plan_for(template, harm(lost="alice", stolen="ci"), fresh("ci"))
    assert (found.verdict, found.rotated, found.dropped) == (Verdict.RECOVERABLE, ("ci",), ("alice",))
    assert {need.role for need in found.needs} == {"root", "targets"}


def test_two_lost_root_keys_of_a_threshold_of_two_are_the_end_of_it(template: Ceremony) -> None:
    found = plan_for(template, harm(lost="alice bob"), fresh("alice", "bob"))
    assert (found.verdict, found.exit_code) == (Verdict.NEW_ANCHOR, ExitCode.FAULTS)
    assert found.steps[-1].startswith("begin a new repository")
    assert plan_for(template, harm(lost="alice"), fresh("alice")).verdict is Verdict.RECOVERABLE


def test_two_stolen_root_keys_are_a_race(template: Ceremony) -> None:
    found = plan_for(template, harm(stolen="alice bob"), fresh("alice", "bob"))
    assert (found.verdict, found.exit_code) == (Verdict.RACE, ExitCode.FAULTS)
    assert any(step.startswith("hurry: the thief can sign root version 2") for step in found.steps)
    assert plan_for(template, harm(stolen="alice"), fresh("alice")).verdict is Verdict.RECOVERABLE


def test_a_stolen_delegate_is_replaced_by_targets(template: Ceremony) -> None:
    found = plan_for(template, harm(lost="npm-team", stolen="npm-team"), fresh("npm-team"))
    assert found.verdict is Verdict.RECOVERABLE
    assert [(need.role, need.able) for need in found.needs] == [
        ("targets", ("alice", "bob", "carol")),
        (NPM, ("npm-team (new key)",)),
    ]
    assert found.steps[-1] == (
        f"look through what {NPM} signed since the theft: the thief alone could change the targets of its paths"
    )


def test_who_signs_hash_bins_can_change_what_is_in_them(tmp_path: Path) -> None:
    made = Binned(tmp_path).with_bins()
    made.update([bin_target(1)])
    made.online()
    found = plan_for(made, harm(stolen="ci"), fresh("ci"))
    (bins,) = [role for role in found.roles if role.bins]
    assert (bins.role, bins.thief_can, bins.power) == ("bins of packages", True, "change every target in them")
    assert found.steps[-1].startswith("look through what bins of packages signed since the theft")
    assert not plan_for(made, harm(stolen="alice")).roles[-1].thief_can


def test_d6_the_event_sets_it_right_for_clients_that_the_thief_pushed_ahead(ceremony: Ceremony) -> None:
    made, public = ceremony, ceremony.folder / "public"
    anchor = Anchor(
        name="test", initial_root=(public / "metadata/1.root.json").read_bytes(), mirrors=(Mirror(url=str(public)),)
    )
    honest = contents(public)

    def refreshed() -> tuple[int, int]:
        with TrustClient(anchor, state=made.folder / "client") as client:
            trust = client.refresh()
        return trust.root.version, trust.timestamp.version

    assert refreshed() == (1, 1)
    # The thief has the online key and the way into the destination (A5).
    push_ahead(public, {"timestamp": [made.signers["ci"]], "snapshot": [made.signers["ci"]]})
    assert refreshed() == (1, 1001)
    thiefs = (public / "metadata/timestamp.json").read_bytes()
    (public / "metadata/timestamp.json").write_bytes(honest["metadata/timestamp.json"])
    with pytest.raises(VerificationError, match="rollback") as refused:
        refreshed()
    assert refused.value.refusal.reason is Reason.ROLLBACK
    (public / "metadata/timestamp.json").write_bytes(thiefs)

    new, what = fresh("ci"), harm(lost="alice", stolen="ci")
    found = plan_for(made, what, new)
    keys = {name: signer.public_key for name, signer in new.items()}
    made.change(lambda view: recovery_plan(view, found.rotated, found.dropped, keys))
    made.sign("bob", "carol")
    made.merge()
    sign_online(made.workspace, [new["ci"], made.signers["ci"]], now=made.now)
    (published,) = publish_workspace(made.workspace, public, now=made.now)
    assert published.timestamp == 2
    assert refreshed() == (2, 2)
    # What the stolen key signs from now on is taken by nobody.
    push_ahead(public, {"timestamp": [made.signers["ci"]]})
    with pytest.raises(VerificationError, match="signed by 0 of the 1 key"):
        refreshed()


def test_names_that_the_thief_took_are_numbered_over(ceremony: Ceremony) -> None:
    made, public = ceremony, ceremony.folder / "public"
    (public / "metadata/2.snapshot.json").write_bytes(b"the thief's")
    new = fresh("ci")
    change(
        made.workspace,
        lambda view: recovery_plan(view, ("ci",), (), {"ci": new["ci"].public_key}),
        now=made.now,
        reason="stolen",
    )
    made.sign("alice", "bob")
    made.merge()
    sign_online(made.workspace, [new["ci"]], now=made.now)
    with pytest.raises(InputError, match=r"2\.snapshot\.json: holds other bytes"):
        publish_workspace(made.workspace, public, now=made.now)
    signed = sign_online(made.workspace, [new["ci"]], now=made.now, at_least=50)
    assert (signed.snapshot, signed.timestamp, signed.snapshot_is_new) == (50, 50, True)
    publish_workspace(made.workspace, public, now=made.now)
    timestamp: Metadata[Timestamp] = Metadata.from_file(str(public / "metadata/timestamp.json"))
    assert timestamp.signed.version == 50


def play(made: Ceremony, folder: Path, what: Harm) -> Rehearsal:
    workspace = made.workspace
    path = f"{NPM}/keys.json"
    targets = [TargetCopy(path=path, data=workspace.target(path), custom=None)]
    return rehearse_recovery(folder, workspace.policy_text(), targets, what, now=datetime.now(UTC))


def test_a_rehearsal_shows_what_both_clients_saw_at_each_step(template: Ceremony, tmp_path: Path) -> None:
    before = contents(template.folder)
    result = play(template, tmp_path / "stage", harm(lost="alice", stolen="ci"))
    assert result.as_expected, result
    assert [[(sight.accepted, sight.saw) for sight in act.sights] for act in result.acts[:2]] == [
        [(True, "root version 1, timestamp version 1")] * 2,
        [(True, "root version 1, timestamp version 1001")] * 2,
    ]
    refused, recovered, newcomers, again = result.acts[2:]
    assert [sight.accepted for sight in refused.sights] == [False, False]
    assert "rollback" in refused.sights[0].saw
    assert [sight.saw for sight in recovered.sights] == ["root version 2, timestamp version 2"] * 2
    assert [sight.saw for sight in newcomers.sights] == ["root version 2, timestamp version 2"] * 2
    assert [sight.accepted for sight in again.sights] == [False, False]
    assert [sight.client.partition(",")[0] for sight in again.sights] == ["kedge", "python-tuf"]
    assert contents(template.folder) == before


def test_a_rehearsal_of_the_worst_shows_the_worst(template: Ceremony, tmp_path: Path) -> None:
    race = play(template, tmp_path / "race", harm(stolen="alice bob"))
    assert race.as_expected, race
    whats = [act.what for act in race.acts]
    assert any(what.startswith("the thief signs a root alone") for what in whats)
    assert any(what.startswith("who saw the thief's root is lost") for what in whats)
    end = play(template, tmp_path / "end", harm(lost="alice bob"))
    assert end.as_expected, end
    assert end.acts[-1].what.startswith("the event cannot be merged: ")
    few = play(template, tmp_path / "few", harm(stolen="alice"))
    assert few.as_expected, few
    assert "forges a root with 1 of 2 keys" in few.acts[1].what
    assert [sight.accepted for sight in few.acts[1].sights] == [False, False]


def run(made: Ceremony, *arguments: object) -> Any:
    return CliRunner().invoke(app, ["recover", "-w", str(made.workspace.root), *map(str, arguments)])


def test_the_command_plans_opens_and_rehearses(ceremony: Ceremony, tmp_path: Path) -> None:
    new = fresh("ci")
    (tmp_path / "ci-2.pub").write_bytes(to_pem(new["ci"].public_key))
    line = ["--lost", "alice", "--stolen", "ci", "--new-key", f"ci={tmp_path / 'ci-2.pub'}"]
    before = contents(ceremony.workspace.root)
    text = run(ceremony, *line)
    assert text.exit_code == 0
    assert text.stdout.startswith("repository example: recovery, lost: alice; stolen: ci\nit can be set right, by the")
    assert contents(ceremony.workspace.root) == before
    opened = run(ceremony, *line, "--open", "--rehearse", "--json")
    assert opened.exit_code == 0
    answer = json.loads(opened.stdout)
    assert answer["format"] == "kedge.recovery/1"
    assert answer["rehearsal"]["as_expected"] is True
    assert answer["event"] in ceremony.workspace.events()
    # The emergency command works beside any open event, and each opens one of its own.
    again = run(ceremony, *line, "--open", "--json")
    assert again.exit_code == 0
    assert {answer["event"], json.loads(again.stdout)["event"]} == set(ceremony.workspace.events())
    assert len(ceremony.workspace.events()) == 2


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "nobody's key is lost or stolen"),
        (["--lost", "zoe"], 'there is no keyholder "zoe"'),
        (["--lost", "alice", "--new-key", "alice"], "--new-key: must be NAME=FILE"),
        (["--lost", "alice", "--new-key", "alice=nowhere.pub"], "there is no such public key"),
        (["--stolen", "ci", "--open"], "new keys are needed first, of ci"),
        (["--lost", "alice", "--lost", "bob", "--open"], "no event can do it"),
    ],
)
def test_bad_input_ends_in_one_line_and_opens_nothing(ceremony: Ceremony, arguments: list[str], text: str) -> None:
    before = contents(ceremony.workspace.root)
    done = run(ceremony, *arguments)
    assert isinstance(done.exception, InputError)
    assert text in str(done.exception)
    assert contents(ceremony.workspace.root) == before

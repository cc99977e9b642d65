"""What an anchor with ``transparency = require`` asks: every root, role and key document in a witnessed log."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner

from kedge.client.anchor import Transparency
from kedge.client.client import TrustClient
from kedge.client.keylog.entries import RoleLeaf
from kedge.errors import ExitCode, ExpiredError, FetchError, KedgeError, Reason, StoreError, VerificationError
from kedge.transport.mirror import Mirror
from kedge_repo.events.plan_keys import rotate_key
from kedge_repo.publish.folder import FolderDestination
from kedge_repo.publish.log_writer import LogBook, publish_log
from kedge_repo.publish.publish import publish_workspace
from repo_tools.ceremony import NPM, Ceremony, contents
from support.clock import SettableClock
from support.logged import ORIGIN, Logged, colluding, forged

OTHER_KEYS = json.dumps(
    {
        "keys": [
            {
                "keyId": "SHA256:another",
                "keyUsage": "npm:signatures",
                "publicKey": {
                    "rawBytes": "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=",
                    "keyDetails": "PKIX_ED25519",
                    "validFor": {"start": "2025-01-01T00:00:00Z"},
                },
            }
        ]
    }
).encode()


@pytest.fixture
def logged(tmp_path: Path) -> Logged:
    made = Logged(tmp_path)
    made.publish()
    return made


def refused(run: Callable[[], object], reason: Reason, *texts: str) -> VerificationError:
    with pytest.raises(VerificationError) as caught:
        run()
    assert caught.value.exit_code in (ExitCode.REFUSED, ExitCode.EXPIRED)
    assert caught.value.refusal.reason is reason, caught.value
    for text in texts:
        assert text in str(caught.value)
    return caught.value


def state_of(logged: Logged, name: str = "state") -> dict[str, bytes]:
    """What the client holds by name: the records, not blobs that none of them names."""
    return {name: data for name, data in contents(logged.folder / name).items() if "/" not in name}


def entries_of(logged: Logged) -> tuple[bytes, ...]:
    return logged.writer()._read_book().entries


def test_a_logged_repository_is_read_and_the_log_is_named(logged: Logged) -> None:
    client = logged.client()
    keys = client.registry_keys(NPM)
    assert len(keys.keys) == 4
    log = client.trust.log
    assert log is not None
    assert (log.origin, log.time) == (ORIGIN, logged.clock.moment.replace(microsecond=0))
    assert client.trust.warnings == ()
    assert logged.client().registry_keys(NPM) == keys


def test_a_role_that_was_kept_out_of_the_log_is_refused_and_not_kept(logged: Logged) -> None:
    logged.client().registry_keys(NPM)
    before = state_of(logged)
    logged.set_keys(OTHER_KEYS)
    logged.publish(with_log=False)
    refused(
        lambda: logged.client().registry_keys(NPM), Reason.NOT_LOGGED, f"{NPM} version 2 is not in the log {ORIGIN}"
    )
    # The refresh itself was in order, for its roots and its targets role are logged: only the role was not kept.
    record = json.loads((logged.folder / "state" / "state.json").read_bytes())
    assert record["roles"][NPM] == json.loads(before["state.json"])["roles"][NPM]
    logged.publish()
    assert [key.id for key in logged.client().registry_keys(NPM).keys] == ["SHA256:another"]


def test_a_root_that_was_kept_out_of_the_log_is_refused_and_not_kept(logged: Logged) -> None:
    logged.client().refresh()
    before = state_of(logged)
    new = CryptoSigner.generate_ed25519()
    logged.ceremony.change(lambda view: rotate_key(view, "alice", new.public_key))
    logged.ceremony.sign("bob", "carol")
    logged.ceremony.merge()
    logged.ceremony.signers["alice"] = new
    logged.publish(with_log=False)
    refused(lambda: logged.client().refresh(), Reason.NOT_LOGGED, "root version 2 is not in the log")
    assert state_of(logged) == before
    logged.publish()
    assert logged.client().refresh().root.version == 2


def test_a_key_document_without_its_events_in_the_log_is_refused(logged: Logged) -> None:
    # The log and every witness collude: the role stands in the log, the new key does not.
    logged.client().registry_keys(NPM)
    logged.set_keys(OTHER_KEYS)
    logged.publish(with_log=False)
    data = (logged.public / "metadata" / f"2.{NPM}.json").read_bytes()
    role = RoleLeaf.of(NPM, 2, data).to_bytes()
    forged(logged, (*entries_of(logged), role), logged.public, colluding(logged))
    refused(lambda: logged.client().registry_keys(NPM), Reason.NOT_LOGGED, f"the key document {NPM}/keys.json")
    assert json.loads((logged.folder / "state" / "state.json").read_bytes())["roles"][NPM] is not None


def test_without_a_log_require_refuses_warn_warns_and_off_is_silent(tmp_path: Path) -> None:
    ceremony = Ceremony(tmp_path).ready()
    made = Logged.__new__(Logged)
    made.folder, made.ceremony = tmp_path, ceremony
    made.clock = SettableClock(ceremony.now)
    publish_workspace(ceremony.workspace, made.public, now=ceremony.now, readers={})
    refused(lambda: made.client().refresh(), Reason.NOT_LOGGED, "the repository names no log")
    assert not (tmp_path / "state" / "state.json").exists()
    assert any("names no log" in text for text in made.client(mode=Transparency.WARN).refresh().warnings)
    assert made.client("off", Transparency.OFF).refresh().warnings == ()


def test_warn_says_what_is_not_logged_and_answers(logged: Logged) -> None:
    logged.client().refresh()
    logged.set_keys(OTHER_KEYS)
    logged.publish(with_log=False)
    client = logged.client(mode=Transparency.WARN)
    assert [key.id for key in client.registry_keys(NPM).keys] == ["SHA256:another"]


def test_a_checkpoint_that_goes_back_is_refused_and_both_are_kept(logged: Logged) -> None:
    shutil.copytree(logged.public / "tlog", logged.folder / "old")
    logged.client().refresh()
    logged.set_keys(OTHER_KEYS)
    logged.publish()
    logged.client().refresh()
    newer = (logged.public / "tlog" / "checkpoint").read_bytes()
    shutil.rmtree(logged.public / "tlog")
    shutil.copytree(logged.folder / "old", logged.public / "tlog")
    error = refused(lambda: logged.client().refresh(), Reason.ROLLBACK, f"rollback of the log {ORIGIN}")
    evidence = {path.read_bytes() for path in (logged.folder / "state" / "evidence").iterdir()}
    assert evidence == {newer, (logged.public / "tlog" / "checkpoint").read_bytes()} == set(error.refusal.exhibits)
    logged.publish()
    logged.client().refresh()


@pytest.mark.parametrize("more", [0, 1, 5])
def test_a_log_that_forks_is_refused_also_where_every_witness_colludes(logged: Logged, more: int) -> None:
    logged.client().refresh()
    before = state_of(logged)
    entries = entries_of(logged)
    other = tuple(RoleLeaf.of("hidden", number, b"").to_bytes() for number in range(1, more + 1))
    changed = (*entries[:-1], RoleLeaf.of("hidden", 9, b"").to_bytes(), *other)
    shutil.copytree(logged.public, logged.folder / "other")
    forged(logged, changed, logged.folder / "other", colluding(logged))
    error = refused(
        lambda: logged.client(mirror=logged.folder / "other").refresh(), Reason.FORK, f"fork of the log {ORIGIN}"
    )
    assert len(error.refusal.exhibits) == 2
    assert len(list((logged.folder / "state" / "evidence").glob("*.checkpoint"))) == 2
    assert state_of(logged) == before
    logged.client().refresh()


def test_two_clients_that_were_shown_two_logs_find_out_when_one_sees_what_the_other_saw(logged: Logged) -> None:
    entries = entries_of(logged)
    shutil.copytree(logged.public, logged.folder / "other")
    forged(
        logged,
        (*entries, RoleLeaf.of("for-b-only", 1, b"").to_bytes()),
        logged.folder / "other",
        colluding(logged),
    )
    logged.set_keys(OTHER_KEYS)
    logged.publish()
    a, b = logged.client("a"), logged.client("b", mirror=logged.folder / "other")
    a.refresh()
    b.refresh()  # neither sees anything wrong by itself
    refused(lambda: logged.client("a", mirror=logged.folder / "other").refresh(), Reason.ROLLBACK)
    refused(lambda: logged.client("b").refresh(), Reason.FORK)


def test_the_witnesses_time_is_a_floor_for_a_clock_that_is_behind(logged: Logged) -> None:
    early = logged.clock.moment
    logged.tomorrow(days=20)
    # A mirror holds the timestamp back; the log's checkpoint of today is public, and witnessed today.
    workspace = logged.ceremony.workspace
    places = [FolderDestination(folder=logged.public)]
    publish_log(workspace, logged.writer(), places, now=logged.clock.moment, post=logged.witnesses)
    logged.clock.moment = early
    client = logged.client()
    with pytest.raises(ExpiredError, match="timestamp version 1 expired"):
        client.refresh()
    assert not (logged.folder / "state" / "state.json").exists()
    # Control: a log that nobody asks does not move the time; and what is signed afterwards passes.
    logged.client("off", Transparency.OFF).refresh()
    logged.clock.moment = early + timedelta(days=20)
    logged.publish()
    logged.clock.moment = early
    trust = logged.client().refresh()
    assert trust.reference_time == (early + timedelta(days=20)).replace(microsecond=0)


def test_a_quorum_that_signs_with_a_far_future_cannot_lock_a_client_out(logged: Logged) -> None:
    future = logged.clock.moment + timedelta(days=3650)
    forged_witnesses = colluding(logged)
    forged_witnesses._now = lambda: future
    forged(logged, entries_of(logged), logged.public, forged_witnesses)
    with pytest.raises(ExpiredError):
        logged.client().refresh()
    logged.publish()
    assert logged.client().refresh().reference_time <= logged.clock.moment


def test_an_answer_from_state_needs_no_network_and_no_log_that_can_be_asked(logged: Logged) -> None:
    keys = logged.client().registry_keys(NPM)
    offline = logged.client(mirror=logged.folder / "nowhere")
    offline.status()
    assert offline.registry_keys(NPM) == keys


def test_what_is_stored_of_the_log_is_checked_again(logged: Logged) -> None:
    logged.client().refresh()
    file = logged.folder / "state" / "log.json"
    whole = json.loads(file.read_bytes())

    def with_change(**changes: Any) -> TrustClient:
        file.write_text(json.dumps({**whole, **changes}))
        return logged.client()

    with_change().status()
    (path,) = whole["tiles"]
    spoilt = "A" + whole["tiles"][path][1:] if whole["tiles"][path][0] != "A" else "B" + whole["tiles"][path][1:]
    for changes in ({"tiles": {path: spoilt}}, {"checkpoint": whole["checkpoint"].replace("keys\n", "keys\n1")}):
        with pytest.raises(VerificationError):
            with_change(**changes).status()
        logged.client().refresh()  # the mirror has what is right
    with pytest.raises(StoreError, match=r"tile/0/000\.p/9: is not stored"):
        with_change(tiles={}).status()
    file.unlink()
    with pytest.raises(StoreError, match="nothing of the log is stored"):
        logged.client().status()


def test_a_stranger_s_log_policy_counts_only_where_the_old_log_tells_of_it(logged: Logged) -> None:
    logged.client().refresh()
    # Whoever steals the targets keys brings a log and witnesses of their own, and tells the old ones nothing.
    stranger = Logged(logged.folder / "stranger")
    own = stranger.witnesses.policy(stranger.writer().key.to_text())
    logged.set_policy(own)
    logged.publish(with_log=False)
    refused(lambda: logged.client().refresh(), Reason.NOT_LOGGED, "targets version 3 is not in the log")
    # Control: a change that the old log tells of is followed.
    logged.set_policy(logged.witnesses.policy(logged.writer().key.to_text(), quorum=3))
    logged.publish()
    logged.client().refresh()
    held = json.loads((logged.folder / "state" / "log.json").read_bytes())["policy"]
    assert "group all 3" in held


def test_a_policy_that_the_user_pins_goes_before_the_repository_s(logged: Logged) -> None:
    pinned = logged.witnesses.policy(logged.writer().key.to_text(), quorum=3).decode()
    logged.client(log_policy=pinned).refresh()
    logged.witnesses.instead["west"] = lambda body: logged.witnesses.honest("north", body)
    logged.publish()
    refused(lambda: logged.client(log_policy=pinned).refresh(), Reason.SIGNATURES, "asks for 3 of north, south, west")
    logged.client("other").refresh()


def test_a_mirror_without_the_log_leaves_the_client_with_what_it_holds(logged: Logged) -> None:
    shutil.copytree(logged.public, logged.folder / "bare", ignore=shutil.ignore_patterns("tlog"))
    with pytest.raises(FetchError, match="tlog"):
        logged.client(mirror=logged.folder / "bare").refresh()
    assert not (logged.folder / "state" / "state.json").exists()
    logged.client().refresh()
    trust = logged.client(mirror=logged.folder / "bare").refresh()
    assert not trust.refreshed


def test_a_log_of_several_tiles_is_followed_by_hints_and_a_few_tiles(tmp_path: Path) -> None:
    logged = Logged(tmp_path)
    padding = tuple(RoleLeaf.of("padding", number, b"").to_bytes() for number in range(1, 700))
    workspace = logged.ceremony.workspace
    for path, data in LogBook(padding).files().items():
        (workspace.root / "tlog" / path).parent.mkdir(parents=True, exist_ok=True)
        (workspace.root / "tlog" / path).write_bytes(data)
    logged.publish()
    keys = logged.client().registry_keys(NPM)
    held = json.loads((logged.folder / "state" / "log.json").read_bytes())
    assert sorted(path.split("/")[1] for path in held["tiles"]) == ["0", "1"]
    assert min(held["leaves"].values()) == 699
    logged.set_keys(OTHER_KEYS)
    logged.tomorrow()
    logged.publish()
    assert logged.client().registry_keys(NPM) != keys
    shutil.rmtree(logged.public / "tlog" / "proofs")
    logged.client().registry_keys(NPM)  # what was found once needs no hint
    refused(lambda: logged.client("fresh").refresh(), Reason.NOT_LOGGED)


def test_every_error_of_the_log_is_one_line(logged: Logged) -> None:
    (logged.public / "tlog" / "checkpoint").write_bytes(b"<html>\n\n<body>\n")
    with pytest.raises(KedgeError) as caught:
        logged.client().refresh()
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == ExitCode.REFUSED


def test_of_several_mirrors_one_that_spoils_the_tile_or_lags_is_passed_over(logged: Logged) -> None:
    spoilt, late = logged.folder / "spoilt", logged.folder / "late"
    shutil.copytree(logged.public, late)
    logged.set_keys(OTHER_KEYS)
    logged.publish()
    shutil.copytree(logged.public, spoilt)
    tile = spoilt / "tlog" / "tile" / "0" / "000.p" / str(len(entries_of(logged)))
    tile.write_bytes(bytes(len(tile.read_bytes())))
    mirrors = tuple(Mirror(url=str(each)) for each in (spoilt, late, logged.public))
    anchor = replace(logged.client().anchor, mirrors=mirrors)
    with TrustClient(anchor, state=logged.folder / "several", clock=logged.clock) as client:
        assert [key.id for key in client.registry_keys(NPM).keys] == ["SHA256:another"]
        assert client.trust.log is not None
        assert client.trust.log.size == len(entries_of(logged))


def test_two_mirrors_with_two_logs_of_one_size_are_a_contradiction(logged: Logged) -> None:
    other = logged.folder / "other"
    shutil.copytree(logged.public, other)
    entries = entries_of(logged)
    forged(logged, (*entries[:-1], RoleLeaf.of("hidden", 1, b"").to_bytes()), other, colluding(logged))
    anchor = replace(logged.client().anchor, mirrors=tuple(Mirror(url=str(each)) for each in (logged.public, other)))
    with TrustClient(anchor, state=logged.folder / "several", clock=logged.clock) as client:
        refused(client.refresh, Reason.CONFLICT, "serve two different versions")
    assert len(list((logged.folder / "several" / "evidence").iterdir())) == 2


def test_what_a_killed_writer_left_of_the_log_is_cleared_away(logged: Logged) -> None:
    logged.client().refresh()
    left = logged.folder / "state" / ".log.json.abcdefgh"
    left.write_bytes(b"half")
    logged.set_keys(OTHER_KEYS)
    logged.tomorrow()
    logged.publish()
    logged.client().registry_keys(NPM)
    assert not left.exists()

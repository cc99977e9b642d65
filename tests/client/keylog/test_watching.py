"""The whole log, and watching it: nothing is left out, and what is new or wrong is seen."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from architecture import schemas
from kedge.audit.monitor import Expectation, News, Sight, WholeLog, exit_code, read_whole_log, watch
from kedge.client.anchor import Anchor
from kedge.client.keylog.entries import KeyLeaf, RoleLeaf
from kedge.errors import ExitCode, VerificationError
from kedge.transport.mirror import Mirror
from repo_tools.ceremony import NPM
from support.logged import Logged, colluding, forged

OTHER_KEYS = (
    b'{"keys":[{"keyId":"k","keyUsage":"npm:signatures","publicKey":{"rawBytes":"eA==","keyDetails":"FUTURE"}}]}'
)
REAL = ("SHA256:jl3bwswu80PjjokCgh0o2w5c2U4LhQAE57gj9cz1kzA", "SHA256:DhQ8wR5APBvFHLF/+Tc+AYvPOdTpcIDqOhxsBHRwC7U")


@pytest.fixture
def logged(tmp_path: Path) -> Logged:
    made = Logged(tmp_path)
    made.publish()
    return made


def anchor(logged: Logged, *mirrors: Path) -> Anchor:
    mirrored = tuple(Mirror(url=str(each)) for each in mirrors or (logged.public,))
    return replace(logged.client().anchor, mirrors=mirrored)


def whole(logged: Logged) -> WholeLog:
    return read_whole_log(anchor(logged), state=logged.folder / "reader", clock=logged.clock)


def look(logged: Logged, *mirrors: Path, expected: Expectation | None = None, days: int = 7) -> list[News]:
    found = list(
        watch(
            anchor(logged, *mirrors),
            logged.folder / "monitor",
            clock=logged.clock,
            expected=expected,
            max_age=timedelta(days=days),
        )
    )
    for each in found:
        assert schemas.faults("monitor", each.to_table(logged.clock.moment)) == []
    return found


def sights(news: list[News]) -> Counter[str]:
    return Counter(each.sight.value for each in news)


def test_every_key_ever_allowed_is_told_also_one_that_was_there_for_a_day(logged: Logged) -> None:
    first = (logged.ceremony.workspace.root / "targets" / NPM / "keys.json").read_bytes()
    logged.set_keys(OTHER_KEYS)
    logged.publish()
    logged.set_keys(first)
    logged.publish()
    log = whole(logged)
    told = [
        (entry.leaf.key.id, entry.leaf.event.value)
        for entry in log.history.events(NPM)
        if isinstance(entry.leaf, KeyLeaf)
    ]
    assert ("k", "added") in told
    assert ("k", "removed") in told
    assert {state.id for state in log.history.keys[NPM].values()} == set(REAL)


def spoil(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.replace(b"added", b"adde!", 1),
        lambda data: data[: len(data) // 2],
        lambda data: data[:-1] + b"!",
    ],
    ids=["changed", "cut off", "one byte"],
)
def test_entries_that_a_mirror_changes_or_leaves_out_do_not_make_the_root_hash(
    logged: Logged, change: Callable[[bytes], bytes]
) -> None:
    whole(logged)
    (bundle,) = (path for path in (logged.public / "tlog" / "tile" / "entries").rglob("*") if path.is_file())
    spoil(bundle, change)
    with pytest.raises(VerificationError):
        whole(logged)


def test_the_first_look_tells_everything_and_the_next_only_what_is_new(logged: Logged) -> None:
    assert sights(look(logged)) == {"root": 1, "role": 3, "key": 4, "current": 1}
    again = look(logged)
    assert sights(again) == {"current": 1}
    assert exit_code(again) == ExitCode.DONE
    logged.set_keys(OTHER_KEYS)
    logged.publish()
    news = look(logged)
    assert sights(news) == {"role": 1, "key": 5, "current": 1}
    assert f"{NPM}: key k added" in [each.text for each in news]


def test_what_its_owner_does_not_expect_is_said_at_every_look(logged: Logged) -> None:
    everything = Expectation(keys={NPM: frozenset(REAL)}, roles=frozenset({"targets", NPM}))
    assert exit_code(look(logged, expected=everything)) == ExitCode.DONE
    logged.set_keys(OTHER_KEYS)
    logged.publish()
    for _ in range(2):
        news = look(logged, expected=everything)
        assert sights(news)["unexpected-key"] == 1
        assert sights(news)["missing-key"] == 2
        assert exit_code(news) == ExitCode.FAULTS
    fewer = replace(everything, roles=frozenset({"targets"}))
    assert sights(look(logged, expected=fewer))["unexpected-role"] == 2


def test_two_mirrors_whose_logs_cannot_both_be_true_are_a_fork(logged: Logged) -> None:
    other = logged.folder / "other"
    shutil.copytree(logged.public, other)
    assert exit_code(look(logged, logged.public, other)) == ExitCode.DONE
    entries = logged.writer()._read_book().entries
    forged(logged, (*entries, RoleLeaf.of("hidden", 1, b"").to_bytes()), other, colluding(logged))
    logged.set_keys(OTHER_KEYS)
    logged.publish()
    news = look(logged, logged.public, other)
    (fork,) = [each for each in news if each.sight is Sight.FORK]
    assert "cannot both be true" in fork.text
    assert len(fork.detail["checkpoints"]) == 2
    assert exit_code(news) == ExitCode.REFUSED


def test_a_log_that_changed_what_was_seen_is_a_fork_also_without_a_client_s_state(logged: Logged) -> None:
    look(logged)
    for state in (logged.folder / "monitor").iterdir():
        if state.is_dir():
            shutil.rmtree(state)
    entries = logged.writer()._read_book().entries
    forged(logged, (RoleLeaf.of("hidden", 1, b"").to_bytes(), *entries), logged.public, colluding(logged))
    news = look(logged)
    assert sights(news)["fork"] == 1
    assert exit_code(news) == ExitCode.REFUSED


def test_a_mirror_that_rolls_its_log_back_is_a_fork_and_one_that_is_away_is_unreachable(logged: Logged) -> None:
    old = logged.folder / "old"
    shutil.copytree(logged.public / "tlog", old)
    logged.set_keys(OTHER_KEYS)
    logged.publish()
    look(logged)
    shutil.rmtree(logged.public / "tlog")
    shutil.copytree(old, logged.public / "tlog")
    news = look(logged, logged.public, logged.folder / "nowhere")
    assert sights(news) == {"fork": 1, "unreachable": 1}
    assert exit_code(news) == ExitCode.REFUSED
    assert exit_code(look(logged, logged.folder / "nowhere")) == ExitCode.COULD_NOT


def test_a_log_that_no_quorum_has_signed_for_long_is_stale(logged: Logged) -> None:
    look(logged)
    logged.tomorrow(days=3)
    news = look(logged, days=2)
    assert sights(news) == {"stale": 1, "current": 1}
    assert exit_code(news) == ExitCode.EXPIRED
    logged.publish()
    assert exit_code(look(logged, days=2)) == ExitCode.DONE


def test_a_log_that_contradicts_itself_is_said(logged: Logged) -> None:
    entries = tuple(entry for entry in logged.writer()._read_book().entries if b'"event":"added"' not in entry)
    forged(logged, entries, logged.public, colluding(logged))
    news = look(logged)
    assert sights(news)["contradiction"] == 1
    assert "holds keys of which no event tells" in json.dumps([each.text for each in news])
    assert exit_code(news) == ExitCode.FAULTS

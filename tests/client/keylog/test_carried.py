"""The log across an air gap and in a mirror's copy: what is carried is enough for the same client, and no less."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from kedge.audit.evidence import Proof, ProofTransport
from kedge.client.anchor import Anchor, Transparency
from kedge.client.client import TrustClient
from kedge.client.keylog.entries import RoleLeaf
from kedge.client.store import Store
from kedge.documents import Fields
from kedge.errors import FetchError, Reason, VerificationError
from kedge.mirror.bundle import make_bundle, read_receiver, take_in
from kedge.mirror.folder import MirrorFolder
from kedge.mirror.sync import Layout, Options, copy_repository
from kedge.transport.open import open_mirror
from kedge_repo.publish.log_writer import LogBook
from repo_tools.ceremony import NPM
from support.logged import Logged, colluding, forged

OTHER_KEYS = (
    b'{"keys":[{"keyId":"k","keyUsage":"npm:signatures","publicKey":{"rawBytes":"eA==","keyDetails":"FUTURE"}}]}'
)
TARGETS = (f"{NPM}/keys.json", "tlog/policy")


@pytest.fixture
def logged(tmp_path: Path) -> Logged:
    made = Logged(tmp_path)
    made.publish()
    return made


def bundle(logged: Logged, name: str = "b.kedge", sender: str = "sender", **options: Any) -> Path:
    """What a client outside trusts now, in a file."""
    file = logged.folder / name
    since = options.pop("since", None)
    receiver = read_receiver(since, Store(logged.folder / sender)) if since is not None else None
    with logged.client(sender, **options) as client:
        file.write_bytes(make_bundle(client, TARGETS, receiver=receiver))
    return file


def anchor(logged: Logged, mode: Transparency = Transparency.REQUIRE) -> Anchor:
    return replace(logged.client().anchor, mirrors=(), transparency=mode)


def taken(logged: Logged, *files: Path, state: str = "receiver") -> Any:
    return take_in(files, anchor(logged), keep=True, state=logged.folder / state, clock=logged.clock)


def offline_keys(logged: Logged, state: str = "receiver") -> list[str]:
    with logged.client(state, mirror=logged.folder / "nowhere") as client:
        return [key.id for key in client.registry_keys(NPM).keys]


def test_a_bundle_carries_what_its_receiver_needs_to_require_the_log(logged: Logged) -> None:
    taken_in = taken(logged, bundle(logged))
    assert sorted(taken_in.extra) == ["tlog/checkpoint", "tlog/tile/0/000.p/9"]
    assert taken_in.trust.log.size == 9
    assert len(offline_keys(logged)) == 4
    logged.set_keys(OTHER_KEYS)
    logged.tomorrow()
    logged.publish()
    news = bundle(logged, "news.kedge", since=logged.folder / "receiver")
    assert taken(logged, news).trust.log.size > 9
    assert offline_keys(logged) == ["k"]


def test_a_bundle_without_the_log_is_not_taken_where_it_is_required(logged: Logged) -> None:
    bare = bundle(logged, mode=Transparency.OFF)
    with pytest.raises(VerificationError, match="tlog/checkpoint"):
        taken(logged, bare)
    assert not (logged.folder / "receiver" / "state.json").exists()
    take_in([bare], anchor(logged, Transparency.OFF), keep=True, state=logged.folder / "off", clock=logged.clock)


def test_a_log_forked_towards_two_clients_is_caught_when_they_exchange_bundles(logged: Logged) -> None:
    other = logged.folder / "other"
    shutil.copytree(logged.public, other)
    entries = logged.writer()._read_book().entries
    forged(logged, (*entries[:-1], RoleLeaf.of("for-b", 1, b"").to_bytes(), entries[-1]), other, colluding(logged))
    from_a, from_b = bundle(logged, "a.kedge", "a"), bundle(logged, "b.kedge", "b", mirror=other)
    for file, state in ((from_b, "a"), (from_a, "b")):
        with pytest.raises(VerificationError) as caught:
            taken(logged, file, state=state)
        assert caught.value.exit_code == 3
        assert caught.value.refusal.reason in (Reason.FORK, Reason.ROLLBACK)
        assert len(list((logged.folder / state / "evidence").glob("*.checkpoint"))) == 2
    taken(logged, from_a, state="a")  # one's own is no contradiction


def test_a_bundle_of_a_log_of_several_tiles_proves_growth_and_leaves(tmp_path: Path) -> None:
    logged = Logged(tmp_path)
    workspace = logged.ceremony.workspace
    padding = tuple(RoleLeaf.of("padding", number, b"").to_bytes() for number in range(1, 600))
    for path, data in LogBook(padding).files().items():
        (workspace.root / "tlog" / path).parent.mkdir(parents=True, exist_ok=True)
        (workspace.root / "tlog" / path).write_bytes(data)
    logged.publish()
    taken(logged, bundle(logged))
    assert len(offline_keys(logged)) == 4
    logged.set_keys(OTHER_KEYS)
    logged.tomorrow()
    logged.publish()
    taken(logged, bundle(logged, "news.kedge"))
    assert offline_keys(logged) == ["k"]


def test_a_verified_copy_of_a_repository_carries_its_log(logged: Logged) -> None:
    copy = logged.folder / "copy"

    def copied() -> None:
        with logged.client("mirror") as client:
            source = open_mirror(client.anchor.mirrors[0])
            options = Options(layout=Layout(metadata="metadata", targets="targets"), keep=timedelta(0))
            copy_repository(client, [source], MirrorFolder(copy), options, now=logged.clock.moment)

    copied()
    assert logged.client("reader", mirror=copy).registry_keys(NPM).keys
    logged.set_keys(OTHER_KEYS)
    logged.tomorrow()
    logged.publish()
    for _ in range(2):
        copied()
    reader = logged.client("reader", mirror=copy)
    assert [key.id for key in reader.registry_keys(NPM).keys] == ["k"]
    served = {path.relative_to(copy / "tlog").as_posix() for path in (copy / "tlog").rglob("*") if path.is_file()}
    public = {path.relative_to(logged.public).as_posix() for path in logged.public.rglob("*") if path.is_file()}
    assert {f"tlog/{path}" for path in served} <= public


@pytest.mark.parametrize("padding", [0, 600])
def test_an_evidence_file_s_proof_carries_the_log_for_whoever_requires_it(tmp_path: Path, padding: int) -> None:
    logged = Logged(tmp_path)
    entries = tuple(RoleLeaf.of("padding", number, b"").to_bytes() for number in range(1, padding + 1))
    for path, data in LogBook(entries).files().items():
        file = logged.ceremony.workspace.root / "tlog" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    logged.publish()
    now = logged.clock.moment
    with logged.client("prover") as client:
        keys = client.registry_keys(NPM)
    store, targets = Store(logged.folder / "prover"), (f"{NPM}/keys.json",)
    proof = Proof.from_store(store, issuers=(NPM,), targets=targets, reference_time=now)
    proof = Proof.from_fields(Fields(json.loads(json.dumps(proof.to_table()))))

    def judged(proof: Proof) -> list[str]:
        transport = ProofTransport(proof)
        state = logged.folder / "judge"
        with TrustClient(anchor(logged), state=state, transport=transport, clock=logged.clock, as_of=now) as client:
            return [key.id for key in client.registry_keys(NPM).keys]

    assert judged(proof) == [key.id for key in keys.keys]
    with pytest.raises(FetchError, match="tlog/checkpoint"):
        judged(replace(proof, log={}))

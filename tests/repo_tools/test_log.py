"""Writing the log and asking witnesses: the order of what is written, and every way in which a witness can fail."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import metamorphic_log
import pytest
from securesystemslib.signer import CryptoSigner
from witness_log import WitnessService

from kedge.client.keylog.entries import KeyLeaf, RoleLeaf, RootLeaf, parse_leaf, replay
from kedge.errors import ExitCode, InputError, KedgeError, ThresholdError, VerificationError
from kedge.tlog.checkpoint import Checkpoint, LogProof, write_body
from kedge.tlog.note import Note, NoteSignature, VerifierKey
from kedge.tlog.policy import LogPolicy, Witness
from kedge_repo.publish.folder import FolderDestination
from kedge_repo.publish.log_writer import LogBook, LogWriter, publish_log, verifier_key
from kedge_repo.publish.publish import publish_workspace
from kedge_repo.publish.witness import Answer, HttpPost, Question, ask_witnesses
from repo_tools.ceremony import NPM, contents
from support.logged import NAMES, ORIGIN, Logged, Witnesses
from support.witness import serving

OTHER_KEYS = (
    b'{"keys":[{"keyId":"k","keyUsage":"npm:signatures","publicKey":{"rawBytes":"eA==","keyDetails":"FUTURE"}}]}'
)


@pytest.fixture
def logged(tmp_path: Path) -> Logged:
    return Logged(tmp_path)


def test_the_log_tells_of_every_root_role_and_key_event(logged: Logged) -> None:
    logged.publish()
    logged.set_keys(OTHER_KEYS)
    logged.tomorrow()
    logged.publish()
    history = replay(logged.writer()._read_book().entries)
    assert history.faults == []
    leaves = [entry.leaf for entry in history.entries]
    assert [leaf.version for leaf in leaves if isinstance(leaf, RootLeaf)] == [1]
    roles = [(leaf.role, leaf.version) for leaf in leaves if isinstance(leaf, RoleLeaf)]
    assert roles == [("targets", 1), ("targets", 2), (NPM, 1), (NPM, 2)]
    events = [(leaf.event.value, leaf.key.id[:10]) for leaf in leaves if isinstance(leaf, KeyLeaf)]
    assert events[:4] == [("added", keyid) for keyid in ("SHA256:jl3", "SHA256:jl3", "SHA256:DhQ", "SHA256:DhQ")]
    assert sorted(events[4:]) == sorted([("added", "k"), *(("removed", keyid) for _, keyid in events[:4])])
    kept = {parse_leaf(entry).to_bytes() for entry in logged.writer()._read_book().entries}
    assert len(kept) == len(leaves)


def test_publishing_again_adds_no_entry_and_only_renews_the_witnesses_time(logged: Logged) -> None:
    logged.publish()
    size, before = logged.writer()._read_book().size, contents(logged.public / "tlog")
    logged.tomorrow()
    logged.publish()
    after = contents(logged.public / "tlog")
    assert logged.writer()._read_book().size == size
    renewed = {path for path in after if after[path] != before.get(path)}
    assert "checkpoint" in renewed
    assert all(path == "checkpoint" or path.endswith(".tlog-proof") for path in renewed)


def test_tiles_and_entries_are_public_before_a_witness_is_asked_and_the_rest_only_after(logged: Logged) -> None:
    logged.publish()
    before = contents(logged.public)
    logged.set_keys(OTHER_KEYS)
    seen: list[dict[str, bytes]] = []

    def look(body: bytes) -> Answer:
        seen.append(dict(contents(logged.public)))
        return logged.witnesses.honest("north", body)

    logged.witnesses.instead["north"] = look
    logged.publish()
    new = {path for path in seen[0] if seen[0][path] != before.get(path)}
    assert new
    assert all(path.startswith("tlog/tile/") for path in new)
    assert (logged.public / "tlog" / "checkpoint").read_bytes() != before["tlog/checkpoint"]


def test_others_verify_the_checkpoint_the_proofs_and_the_growth(logged: Logged) -> None:
    logged.publish()
    older = (logged.public / "tlog" / "checkpoint").read_bytes()
    logged.set_keys(OTHER_KEYS)
    logged.publish()
    newer = (logged.public / "tlog" / "checkpoint").read_bytes()
    vkeys = [logged.writer().key.to_text()]  # it reads no cosignatures; those are a foreign program's own work here
    head = metamorphic_log.checkpoint_verify(newer.decode(), vkeys)
    assert (head.origin, head.size) == (ORIGIN, Checkpoint.from_bytes(newer).size)
    book = logged.writer()._read_book()
    proof = book.tree.consistency(Checkpoint.from_bytes(older).size)
    metamorphic_log.checkpoint_verify_consistency(older.decode(), newer.decode(), vkeys, proof)
    files = sorted((logged.public / "tlog" / "proofs").glob("*.tlog-proof"))
    assert len(files) == book.size - sum(b'"t":"key",' in entry for entry in book.entries)
    for file in files:
        read = LogProof.from_bytes(file.read_bytes())
        leaf = bytes.fromhex(file.name.partition(".")[0])
        note = read.checkpoint.decode()
        metamorphic_log.checkpoint_verify_inclusion(note, vkeys, read.index, leaf, list(read.hashes))


def down(body: bytes) -> Answer:  # noqa: ARG001 the signature of an answer
    return Answer(0, b"cannot be reached")


def status(code: int, text: str = "") -> Callable[[bytes], Answer]:
    return lambda body: Answer(code, text.encode())  # noqa: ARG005 as above


FAULTS: dict[str, tuple[Callable[[bytes], Answer], str]] = {
    "down": (down, "cannot be reached"),
    "slow": (status(0, "did not answer in time"), "did not answer in time"),
    "busy": (status(503), "answers with status 503"),
    "forked": (status(422), r"does not continue what it has seen of it \(422\)"),
    "ahead": (status(409, "1000\n"), "has seen size 1000 of this log"),
    "confused": (status(409, "many\n"), r"has seen another size of the log \(409\), and not which"),
    "contradicting itself": (status(409, "1\n"), r"keeps saying that it has seen another size of the log \(409\): 1"),
    "a stranger": (status(404), r"does not know this log \(404\)"),
    "offended": (status(403), r"does not accept the log's signature \(403\)"),
    "silent": (status(200), "answers with what does not count"),
    "babbling": (status(200, "\N{EM DASH} witness.example/north AAAA\n"), "answers with what does not count"),
    "redirecting": (status(302), "answers with status 302"),
}


def question(signer: CryptoSigner, now: datetime) -> Question:
    book, key = LogBook((b"one", b"two")), verifier_key(ORIGIN, signer.public_key)
    text = write_body(ORIGIN, 2, book.tree.root())
    line = NoteSignature(name=ORIGIN, key_id=key.id, signature=bytes.fromhex(signer.sign(text.encode()).signature))
    return Question(note=Note(text=text, signatures=(line,)), size=2, consistency=book.tree.consistency, now=now)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_witness_that_fails_is_named_with_what_it_did_and_the_others_count(fault: str) -> None:
    signer, now = CryptoSigner.generate_ed25519(), datetime(2026, 8, 22, tzinfo=UTC)
    witnesses = Witnesses(lambda: now)
    vkey = verifier_key(ORIGIN, signer.public_key).to_text()
    witnesses.trust(ORIGIN, vkey)
    policy = LogPolicy.from_bytes(witnesses.policy(vkey))
    witnesses.instead["north"], words = FAULTS[fault]
    listed = policy.witnesses.values()
    asked = ask_witnesses(listed, question(signer, now), seen={}, post=witnesses, pause_s=0)
    assert [line.name for line in asked.signatures] == ["witness.example/south", "witness.example/west"]
    (found,) = asked.faults
    assert found.witness == "north"
    assert re.search(words, found.problem)
    assert found.grave == (fault in ("forked", "ahead"))
    witnesses.instead.clear()
    assert ask_witnesses(listed, question(signer, now), seen={}, post=witnesses, pause_s=0).faults == ()


def test_a_quorum_that_is_missed_leaves_clients_where_they_were(logged: Logged) -> None:
    logged.witnesses.instead["north"] = down
    log = logged.publish()
    assert log is not None
    assert [each.witness for each in log.faults] == ["north"]
    logged.client().refresh()
    before = contents(logged.public)
    logged.set_keys(OTHER_KEYS)
    logged.witnesses.instead["south"] = status(422)
    with pytest.raises(ThresholdError, match=r"witness north: cannot be reached; witness south: .* \(422\)") as caught:
        logged.publish()
    assert caught.value.exit_code == ExitCode.MORE_SIGNATURES
    assert "of the witnesses, west signed it; its log's policy asks for 2 of north, south, west" in str(caught.value)
    after = contents(logged.public)
    new = {path for path in after if after[path] != before.get(path)}
    assert all(path.startswith("tlog/tile/") and path not in before for path in new)
    assert len(logged.client().registry_keys(NPM).keys) == 4
    logged.witnesses.instead.clear()  # they are back: the same publication comes to its end
    logged.publish()
    assert [key.id for key in logged.client().registry_keys(NPM).keys] == ["k"]


def test_a_cosignature_with_another_time_than_now_does_not_count(logged: Logged) -> None:
    for days in (-1, 1):
        late = logged.clock.moment + timedelta(days=days)
        logged.witnesses.instead["north"] = partial(logged.witnesses.honest, "north", now=late)
        log = logged.publish()
        assert log is not None
        assert "signs with a time that is not now" in log.faults[0].problem


def test_a_witness_that_has_seen_less_or_more_than_we_remember_is_asked_from_there(logged: Logged) -> None:
    logged.publish()
    logged.witnesses.instead["west"] = down
    logged.set_keys(OTHER_KEYS)
    logged.publish()
    logged.witnesses.instead.clear()
    logged.witnesses.asked.clear()
    (logged.ceremony.workspace.root / "tlog" / "checkpoint").unlink()  # what each saw is forgotten here
    log = logged.publish()
    assert log is not None
    assert log.faults == ()
    assert sorted(logged.witnesses.asked) == sorted(NAMES * 2)


def test_a_publication_that_is_cut_off_before_the_witnesses_goes_on_with_the_same_log(logged: Logged) -> None:
    logged.publish()
    logged.set_keys(OTHER_KEYS)

    def cut_off(body: bytes) -> Answer:  # noqa: ARG001 as above
        raise KeyboardInterrupt

    logged.witnesses.instead["north"] = cut_off
    with pytest.raises(KeyboardInterrupt):
        logged.publish()
    entries = logged.writer()._read_book().entries
    logged.witnesses.instead.clear()
    logged.publish()
    assert logged.writer()._read_book().entries == entries


def test_a_log_that_goes_back_everywhere_is_refused_by_its_witnesses(logged: Logged) -> None:
    logged.publish()
    folders = [logged.ceremony.workspace.root / "tlog", logged.public / "tlog"]
    backups = [contents(folder) for folder in folders]
    logged.set_keys(OTHER_KEYS)
    logged.publish()
    for folder, backup in zip(folders, backups, strict=True):
        shutil.rmtree(folder)
        for path, data in backup.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)
    logged.set_keys(OTHER_KEYS.replace(b'"k"', b'"other"'))
    logged.tomorrow()
    with pytest.raises(ThresholdError, match=r"has seen size|does not continue what it has seen of it \(422\)"):
        logged.publish()


def test_a_workspace_without_the_log_goes_on_with_what_is_published(logged: Logged) -> None:
    logged.publish()
    before = logged.writer()._read_book().entries
    shutil.rmtree(logged.ceremony.workspace.root / "tlog")  # a job that starts from git
    logged.set_keys(OTHER_KEYS)
    log = logged.publish()
    assert log is not None
    assert log.faults == ()
    entries = logged.writer()._read_book().entries
    assert entries[: len(before)] == before
    assert replay(entries).faults == []
    assert [key.id for key in logged.client().registry_keys(NPM).keys] == ["k"]


def test_a_published_log_that_is_not_whole_or_another_one_is_not_taken_up(logged: Logged) -> None:
    logged.publish()
    (bundle,) = (path for path in (logged.public / "tlog" / "tile" / "entries").rglob("9") if path.is_file())
    whole = bundle.read_bytes()
    shutil.rmtree(logged.ceremony.workspace.root / "tlog")
    for spoilt, words in (
        (whole.replace(b"added", b"adde!", 1), "is not the continuation"),
        (whole[:-1], "breaks off"),
    ):
        bundle.write_bytes(spoilt)
        with pytest.raises(KedgeError, match=words):
            logged.publish()
    bundle.unlink()
    with pytest.raises(InputError, match="is not there, and its checkpoint names it"):
        logged.publish()
    bundle.write_bytes(whole)
    logged.publish()
    other = Logged(logged.folder / "other", log_signer=logged.log_signer)
    other.log_signer = CryptoSigner.generate_ed25519()
    other.set_policy(other.witnesses.policy(other.writer().key.to_text()))
    with pytest.raises(VerificationError, match="is not signed by"):
        other.writer().take_up(lambda path: (logged.public / path).read_bytes(), "there")


def test_another_log_takes_the_place_of_one_once_the_policy_lists_both(logged: Logged) -> None:
    logged.publish()
    logged.client().registry_keys(NPM)
    new = CryptoSigner.generate_ed25519()
    origin = "example.com/keys-2"
    vkey = verifier_key(origin, new.public_key).to_text()
    both = logged.witnesses.policy(logged.writer().key.to_text())
    logged.set_policy(f"log {vkey}\n".encode() + both)
    logged.publish()
    logged.client().registry_keys(NPM)
    for name in NAMES:
        logged.witnesses.services[name].add_log(origin, vkey)
    writer = LogWriter(logged.ceremony.workspace, origin, new)
    logged.set_keys(OTHER_KEYS)
    logged.ceremony.online()
    places = [FolderDestination(folder=logged.public)]
    publish_log(logged.ceremony.workspace, writer, places, now=logged.clock.moment, post=logged.witnesses, pause_s=0)
    publish_workspace(logged.ceremony.workspace, logged.public, now=logged.clock.moment, readers={})
    client = logged.client()
    assert [key.id for key in client.registry_keys(NPM).keys] == ["k"]
    assert client.trust.log is not None
    assert client.trust.log.origin == origin


def test_a_log_that_contradicts_itself_or_is_damaged_is_not_continued(logged: Logged) -> None:
    logged.publish()
    root = logged.ceremony.workspace.root / "tlog"
    (bundle,) = (root / "tile" / "entries").rglob("9")
    whole = bundle.read_bytes()
    for spoilt, words in ((whole[:-1], "breaks off"), (whole[:2] + b"[" + whole[3:], "entry 0")):
        bundle.write_bytes(spoilt)
        with pytest.raises(InputError, match=words):
            logged.publish()
    bundle.write_bytes(whole)
    (root / "tile" / "0" / "000.p" / "9").write_bytes(b"x" * 288)
    with pytest.raises(InputError, match="holds other bytes than the log's entries make"):
        logged.publish()


def test_a_log_needs_a_policy_that_lists_its_key_and_an_ed25519_key(logged: Logged) -> None:
    with pytest.raises(InputError, match="must be an Ed25519 key"):
        verifier_key(ORIGIN, CryptoSigner.generate_ecdsa().public_key)
    other = verifier_key(ORIGIN, CryptoSigner.generate_ed25519().public_key)
    logged.set_policy(logged.witnesses.policy(other.to_text()))
    with pytest.raises(InputError, match="does not list this log's key"):
        logged.publish()
    logged.set_policy(b"quorum none\n")
    with pytest.raises(InputError, match=r"targets/tlog/policy: must name at least one log"):
        logged.publish()


def test_while_the_policy_changes_both_quorums_must_sign(logged: Logged) -> None:
    logged.publish()
    key = logged.writer().key.to_text()
    logged.set_policy(logged.witnesses.policy(key, quorum=1, names=("north",)))
    logged.witnesses.instead["south"] = logged.witnesses.instead["west"] = down
    with pytest.raises(ThresholdError, match="2 of north, south, west"):
        logged.publish()
    logged.witnesses.instead.clear()
    logged.publish()
    logged.witnesses.asked.clear()
    logged.publish()
    assert logged.witnesses.asked == ["north"]


def test_a_key_document_that_comes_back_after_another_one_is_told_of_again(logged: Logged) -> None:
    first = (logged.ceremony.workspace.root / "targets" / NPM / "keys.json").read_bytes()
    logged.publish()
    for document in (OTHER_KEYS, first, OTHER_KEYS):
        logged.set_keys(document)
        logged.publish()
    history = replay(logged.writer()._read_book().entries)
    assert history.faults == []
    assert len(history.documents[NPM]) == 4
    assert [key.id for key in logged.client().registry_keys(NPM).keys] == ["k"]


def test_a_real_witness_is_asked_over_http() -> None:
    signer, now = CryptoSigner.generate_ed25519(), datetime(2026, 8, 22, tzinfo=UTC)
    service = WitnessService.new("witness.example/http", bytes(32))
    service.add_log(ORIGIN, verifier_key(ORIGIN, signer.public_key).to_text())
    moment = int(now.timestamp())

    def answer(body: bytes) -> tuple[int, bytes]:
        code, text = service.handle_add_checkpoint(body.decode(), moment)
        return code, text.encode()

    with serving(answer) as url:
        witness = Witness(name="w", key=VerifierKey.from_text(service.vkey()), url=url)
        asked = ask_witnesses([witness], question(signer, now), seen={}, post=HttpPost())
    assert asked.faults == ()
    assert [line.name for line in asked.signatures] == ["witness.example/http"]


def dawdle(body: bytes) -> tuple[int, bytes]:  # noqa: ARG001 the signature of an answer
    time.sleep(5)
    return 200, b""


@pytest.mark.parametrize(
    ("answer", "words", "timeout_s"),
    [
        (lambda body: (200, b"x" * 70_000), "answers with more than 65536 bytes", 60),  # noqa: ARG005
        (dawdle, "did not answer in time", 0.2),
        (lambda body: (308, b""), "answers with status 308", 60),  # noqa: ARG005
    ],
)
def test_an_answer_over_http_is_bounded(
    answer: Callable[[bytes], tuple[int, bytes]], words: str, timeout_s: float
) -> None:
    signer, now = CryptoSigner.generate_ed25519(), datetime(2026, 8, 22, tzinfo=UTC)
    key = VerifierKey.from_text(WitnessService.new("witness.example/http", bytes(32)).vkey())
    with serving(answer) as url:
        witness = Witness(name="w", key=key, url=url)
        asked = ask_witnesses([witness], question(signer, now), seen={}, post=HttpPost(timeout_s=timeout_s), pause_s=0)
    assert [words in fault.problem for fault in asked.faults] == [True]
    gone = ask_witnesses([witness], question(signer, now), seen={}, post=HttpPost(), pause_s=0)
    assert "cannot be reached" in gone.faults[0].problem

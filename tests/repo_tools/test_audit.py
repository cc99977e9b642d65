"""The audit: real history, honest repositories, each fault by its name; whatever it meets, it goes on to the end."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.formats import encode_canonical
from securesystemslib.signer import CryptoSigner

from interop.ceremony import NPM, Maintained
from kedge.documents import parse_time
from kedge.errors import ExitCode, InputError
from kedge_repo.audit.examine import audit
from kedge_repo.audit.findings import Audit, Rule
from kedge_repo.audit.source import open_source
from kedge_repo.events.plan import add_target
from kedge_repo.events.plan_keys import rotate_key
from kedge_repo.publish.publish import publish_workspace
from kedge_repo.workspace.policy import Content
from repo_tools.ceremony import Ceremony, contents
from repo_tools.test_bins import NOW, Binned, packages
from repo_tools.test_bins import target as bin_target
from support.server import HostileServer, captive_portal, slow_body, status

Found = list[tuple[str, str]]


def examine(place: Path | str, at: Any, **options: Any) -> Audit:
    source = open_source(str(place), timeout_s=options.pop("timeout_s", 60))
    try:
        return audit(source, now=at, **options)
    finally:
        source.transport.close()


def found(result: Audit) -> Found:
    return [(finding.rule.value, finding.file) for finding in result.findings]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Ceremony:
    made = Ceremony(tmp_path_factory.mktemp("template")).ready()
    publish_workspace(made.workspace, made.folder / "public", now=made.now)
    return made


@pytest.fixture(scope="module")
def old_template(tmp_path_factory: pytest.TempPathFactory, template: Ceremony) -> Ceremony:
    return grown(copied(template, tmp_path_factory.mktemp("old")))


def copied(made: Ceremony, folder: Path) -> Ceremony:
    shutil.copytree(made.folder, folder, dirs_exist_ok=True)
    copy = Ceremony(folder, made.now)
    copy.signers = dict(made.signers)
    return copy


@pytest.fixture
def ceremony(template: Ceremony, tmp_path: Path) -> Ceremony:
    """A repository that has just begun, published to ``public``."""
    return copied(template, tmp_path / "young")


@pytest.fixture
def old(old_template: Ceremony, tmp_path: Path) -> Ceremony:
    """One with a history."""
    return copied(old_template, tmp_path / "old")


def grown(made: Ceremony) -> Ceremony:
    """A history: carol has another key, so that root and targets move, and npm's paths hold one target more."""
    made.signers["carol-2"] = CryptoSigner.generate_ed25519()
    made.change(lambda view: rotate_key(view, "carol", made.signers["carol-2"].public_key))
    made.sign("alice", "bob")
    made.merge()
    made.change(lambda view: add_target(view, f"{NPM}/more.json", b"{}"))
    made.sign("npm-team")
    made.merge()
    made.online()
    publish_workspace(made.workspace, made.folder / "public", now=made.now)
    return made


def rewrite(path: Path, change: Callable[[dict[str, Any]], object], *signers: CryptoSigner) -> None:
    """Change what a metadata file says, and sign it again with ``signers`` if there are any."""
    value = json.loads(path.read_bytes())
    change(value)
    if signers:
        payload = str(encode_canonical(value["signed"])).encode()
        value["signatures"] = [
            {"keyid": signer.public_key.keyid, "sig": signer.sign(payload).signature} for signer in signers
        ]
    path.write_text(json.dumps(value))


def test_sigstores_history_holds_what_is_known_of_it_and_nothing_else(shared_vectors: Path) -> None:
    repository = shared_vectors / "sigstore-repo"
    result = examine(repository, parse_time((repository / "REFERENCE_TIME").read_text().strip()))
    assert [entry for entry in found(result) if entry[1] != "root.json"] == [
        ("unreadable", "1.root.json"),
        ("signatures", "2.root.json"),
        ("signatures", "3.root.json"),
        ("signatures", "3.root.json"),
        ("signatures", "4.root.json"),
        ("signatures", "4.root.json"),
        ("signatures", "5.root.json"),
        ("keyid", "11.root.json"),
        ("empty-signature", "12.root.json"),
        ("empty-signature", "12.root.json"),
        ("empty-signature", "13.root.json"),
        ("empty-signature", "14.root.json"),
    ]
    assert result.floors == {"kedge": 5, "python-tuf": 5}
    below = [finding.file for finding in result.findings if finding.below_floor]
    assert below == [f"{version}.root.json" for version in (1, 2, 3, 3, 4, 4, 5)]
    assert result.exit_code == ExitCode.FAULTS
    later = examine(repository, parse_time("2026-11-25T00:00:00Z"))
    assert later.exit_code == ExitCode.EXPIRED
    assert [entry for entry in found(later) if entry not in found(result)] == [
        ("expired", "15.root.json"),
        ("expired", "timestamp.json"),
        ("expired", "8.registry.npmjs.org.json"),
    ]
    assert later.floors == result.floors


def test_sigstores_floor_is_a_break_for_who_promised_an_older_root(shared_vectors: Path) -> None:
    repository = shared_vectors / "sigstore-repo"
    now = parse_time((repository / "REFERENCE_TIME").read_text().strip())
    assert examine(repository, now, floor=5).exit_code == ExitCode.FAULTS
    assert examine(repository, now, floor=4).exit_code == ExitCode.REFUSED


def test_an_honest_repository_has_no_finding_in_workspace_folder_and_url(ceremony: Ceremony, old: Ceremony) -> None:
    for made in (ceremony, old):
        public = made.folder / "public"
        for place in (made.workspace.root, public):
            result = examine(place, made.now)
            assert (found(result), result.exit_code) == ([], ExitCode.DONE)
        with HostileServer(public) as server:
            result = examine(server.url, made.now)
            assert (found(result), result.exit_code) == ([], ExitCode.DONE)


def test_the_history_says_who_allowed_what(old: Ceremony) -> None:
    result = examine(old.folder / "public", old.now)
    assert result.roots == 2
    assert result.floors == {"kedge": 1, "python-tuf": 1}
    assert [(fact.role, fact.version, fact.under) for fact in result.history] == [
        ("root", 1, "root version 1"),
        ("root", 2, "root version 2"),
        ("snapshot", 1, "root version 1"),
        ("snapshot", 2, "root version 1"),
        ("targets", 1, "root version 1"),
        (NPM, 1, "targets version 1"),
        (NPM, 2, "targets version 1"),
        ("timestamp", 2, "root version 1"),
    ]


def test_an_audit_writes_nothing(ceremony: Ceremony) -> None:
    before = contents(ceremony.folder)
    examine(ceremony.workspace.root, ceremony.now)
    examine(ceremony.folder / "public", ceremony.now)
    assert contents(ceremony.folder) == before


Spoil = Callable[[Path, Ceremony], object]


def drop(*names: str) -> Spoil:
    def spoil(public: Path, _: Ceremony) -> None:
        for name in names:
            (public / name).unlink()

    return spoil


def put(name: str, data: bytes) -> Spoil:
    return lambda public, _: (public / name).write_bytes(data)


def edit(name: str, change: Callable[[dict[str, Any]], object], *signers: str) -> Spoil:
    return lambda public, made: rewrite(public / name, change, *(made.signers[who] for who in signers))


def empty_signature(value: dict[str, Any]) -> None:
    value["signatures"].append({"keyid": "a" * 64, "sig": ""})


def stray_signature(value: dict[str, Any]) -> None:
    value["signatures"].append({"keyid": "a" * 64, "sig": "00"})


def target_of(public: Path) -> Path:
    (path,) = (public / "targets" / NPM).glob("*.keys.json")
    return path


@pytest.mark.parametrize(
    ("spoil", "expected", "code"),
    [
        (drop("metadata/1.root.json"), ("missing", "1.root.json"), 5),
        (put("metadata/2.root.json", b"\x00"), ("unreadable", "2.root.json"), 3),
        (put("metadata/2.root.json", b"{" * 100_000), ("unreadable", "2.root.json"), 3),
        (edit("metadata/2.root.json", lambda value: value["signatures"].pop()), ("signatures", "2.root.json"), 3),
        (edit("metadata/2.root.json", empty_signature), ("empty-signature", "2.root.json"), 5),
        (edit("metadata/2.root.json", stray_signature), ("stray-signature", "2.root.json"), 5),
        (edit("metadata/1.targets.json", lambda value: value["signatures"].pop()), ("signatures", "1.targets.json"), 3),
        (edit("metadata/1.targets.json", stray_signature), ("content", "1.targets.json"), 3),
        (put("metadata/1.targets.json", b"[]"), ("unreadable", "1.targets.json"), 3),
        (drop("metadata/2.snapshot.json"), ("missing", "2.snapshot.json"), 3),
        (drop(f"metadata/2.{NPM}.json"), ("missing", f"2.{NPM}.json"), 3),
        (drop("metadata/timestamp.json"), ("missing", "timestamp.json"), 3),
        (put("metadata/timestamp.json", b"<html>"), ("unreadable", "timestamp.json"), 3),
        (lambda public, _: target_of(public).unlink(), ("missing", "targets/"), 3),
        (lambda public, _: target_of(public).write_bytes(b"x"), ("content", "targets/"), 3),
        (put("metadata/9.snapshot.json", b"{}"), ("unreachable", "9.snapshot.json"), 3),
        (put("metadata/notes.txt", b"hello"), ("unreachable", "notes.txt"), 5),
        (put("targets/old.json", b"hello"), ("unreachable", "targets/old.json"), 5),
        (
            edit(
                "metadata/1.snapshot.json", lambda value: value["signed"]["meta"][f"{NPM}.json"].update(version=7), "ci"
            ),
            ("rollback", "2.snapshot.json"),
            3,
        ),
        (
            edit("metadata/2.snapshot.json", lambda value: value["signed"]["meta"].pop(f"{NPM}.json"), "ci"),
            ("rollback", "2.snapshot.json"),
            3,
        ),
        (
            edit(f"metadata/1.{NPM}.json", lambda value: value["signed"].update(version=1), "alice"),
            ("signatures", f"1.{NPM}.json"),
            3,
        ),
        (
            edit("metadata/2.root.json", lambda value: value["signed"].update(version=3), "alice", "bob"),
            ("wrong-version", "2.root.json"),
            3,
        ),
    ],
)
def test_a_fault_is_found_by_its_name_with_its_file(
    old: Ceremony, spoil: Spoil, expected: tuple[str, str], code: int
) -> None:
    public = old.folder / "public"
    spoil(public, old)
    result = examine(public, old.now)
    assert any(rule == expected[0] and file.startswith(expected[1]) for rule, file in found(result)), found(result)
    assert result.exit_code == code


def swap(value: dict[str, Any]) -> None:
    """Put another key under the keyid of the online key."""
    keys, online = value["signed"]["keys"], value["signed"]["roles"]["timestamp"]["keyids"]
    keys[online[0]] = CryptoSigner.generate_ed25519().public_key.to_dict()


def put_online_key_into_root(value: dict[str, Any]) -> None:
    roles = value["signed"]["roles"]
    roles["root"]["keyids"] += roles["timestamp"]["keyids"]


@pytest.mark.parametrize(
    ("change", "rule"), [(swap, "material-changed"), (put_online_key_into_root, "online-key-in-root")]
)
def test_an_audit_judges_keys_by_the_rules_of_signing(
    old: Ceremony, change: Callable[[dict[str, Any]], object], rule: str
) -> None:
    before = [name for name, _ in found(examine(old.folder / "public", old.now))]
    assert rule not in before
    rewrite(old.folder / "public/metadata/2.root.json", change, old.signers["alice"], old.signers["bob"])
    assert (rule, "2.root.json") in found(examine(old.folder / "public", old.now))


def test_each_clients_floor_is_measured_on_that_client(old: Ceremony) -> None:
    """python-tuf counts one key under two keyids twice, and gets through where kedge does not."""
    alice, bob = (old.signers[name] for name in ("alice", "bob"))
    again = "ff" * 32
    path = old.folder / "public" / "metadata" / "2.root.json"

    def list_twice(value: dict[str, Any]) -> None:
        signed = value["signed"]
        signed["keys"][again] = signed["keys"][alice.public_key.keyid]
        signed["roles"]["root"]["keyids"] = [alice.public_key.keyid, again]

    def sign_twice(value: dict[str, Any]) -> None:
        own = next(each for each in value["signatures"] if each["keyid"] == alice.public_key.keyid)
        value["signatures"].append({"keyid": again, "sig": own["sig"]})

    rewrite(path, list_twice, alice, bob)
    rewrite(path, sign_twice)
    result = examine(old.folder / "public", old.now)
    assert result.floors == {"kedge": None, "python-tuf": 1}
    said = [finding.message for finding in result.findings if finding.rule.value == "bootstrap-floor"]
    assert said == ["kedge gets through from no root at all"]
    assert result.exit_code == ExitCode.REFUSED


def test_a_root_that_is_gone_is_a_break_for_who_promised_it(old: Ceremony) -> None:
    drop("metadata/1.root.json")(old.folder / "public", old)
    result = examine(old.folder / "public", old.now, floor=1)
    assert found(result)[0] == ("missing", "1.root.json")
    assert result.exit_code == ExitCode.REFUSED
    assert result.floors == {"kedge": 2, "python-tuf": 2}


def test_every_fault_is_told_and_not_the_first_alone(old: Ceremony) -> None:
    public = old.folder / "public"
    for spoil in (
        edit("metadata/1.root.json", empty_signature),
        put("metadata/2.root.json", b"{}"),
        put("metadata/1.snapshot.json", b"nothing"),
        put("metadata/1.targets.json", b"nothing"),
        put("metadata/junk", b""),
        put("targets/junk", b""),
    ):
        spoil(public, old)
    rules = found(examine(public, old.now))
    files = {"1.root.json", "2.root.json", "1.snapshot.json", "1.targets.json", "junk", "targets/junk"}
    assert {file for _, file in rules} >= files


def test_keys_that_had_been_replaced_are_told_from_those_of_the_time(ceremony: Ceremony) -> None:
    made = ceremony
    made.signers["npm-2"] = CryptoSigner.generate_ed25519()
    made.change(lambda view: rotate_key(view, "npm-team", made.signers["npm-2"].public_key))
    made.sign("alice", "bob", "npm-2")
    made.merge()
    made.online()
    root = made.workspace.root / "metadata"
    assert found(examine(made.workspace.root, made.now)) == []
    for name in ("a", "b"):
        made.change(partial(add_target, path=f"{NPM}/{name}.json", data=b"{}"))
        made.sign("npm-2")
        made.merge()
    for version in (3, 4):  # one in the middle, and the one of today
        file = root / f"{version}.{NPM}.json"
        rewrite(file, lambda _: None, made.signers["npm-team"])
        result = examine(made.workspace.root, made.now)
        (odd,) = result.findings
        assert (odd.rule, odd.file) == (Rule.SIGNATURES, file.name)
        assert "only targets version 1 allowed them, and had been replaced" in odd.message
        assert result.exit_code == ExitCode.REFUSED
        rewrite(file, lambda _: None, made.signers["npm-2"])


def test_a_workspace_answers_for_its_policy_and_its_open_events(ceremony: Ceremony) -> None:
    made = ceremony
    made.change(lambda view: add_target(view, f"{NPM}/more.json", b"{}"))
    assert found(examine(made.workspace.root, made.now)) == []
    (event,) = (made.workspace.root / "events").glob("*/event.json")
    event.write_text("{}")
    assert found(examine(made.workspace.root, made.now)) == [("event", f"events/{event.parent.name}/event.json")]
    (made.workspace.root / "keys" / "alice.pub").unlink()
    assert found(examine(made.workspace.root, made.now))[-1] == ("policy", "kedge-repo.toml")


def test_what_has_expired_is_exit_4_and_a_break_goes_before_it(ceremony: Ceremony) -> None:
    public = ceremony.folder / "public"
    later = ceremony.now + timedelta(days=8)
    result = examine(public, later)
    assert (found(result), result.exit_code) == ([("expired", "timestamp.json")], ExitCode.EXPIRED)
    drop("metadata/1.snapshot.json")(public, ceremony)
    assert examine(public, later).exit_code == ExitCode.REFUSED


@pytest.mark.parametrize("behaviour", [captive_portal(), status(500), slow_body(1)])
@pytest.mark.parametrize("path", ["timestamp.json", "1.snapshot.json"])
def test_a_hostile_server_cannot_make_it_crash_or_hang(ceremony: Ceremony, path: str, behaviour: Any) -> None:
    with HostileServer(ceremony.folder / "public") as server:
        server.misbehave(f"metadata/{path}", behaviour)
        result = examine(server.url, ceremony.now, timeout_s=0.5)
    assert result.findings
    assert result.exit_code in {ExitCode.REFUSED, ExitCode.COULD_NOT}


def test_a_network_that_fails_says_nothing_about_the_repository(ceremony: Ceremony) -> None:
    with HostileServer(ceremony.folder / "public") as server:
        url = server.url
        server.misbehave("metadata/1.root.json", status(500))
        half = examine(url, ceremony.now)
    assert ("unread", "1.root.json") in found(half)
    assert not any(rule == "bootstrap-floor" for rule, _ in found(half))
    gone = examine(url, ceremony.now)
    assert {rule for rule, _ in found(gone)} <= {"unread", "limit"}
    assert gone.exit_code == ExitCode.COULD_NOT


def test_pipes_links_and_circles_in_a_folder_cannot_make_it_hang(ceremony: Ceremony) -> None:
    public = ceremony.folder / "public"
    os.mkfifo(public / "metadata" / "2.root.json")
    (public / "metadata" / "3.root.json").symlink_to("/dev/zero")
    (public / "targets" / "circle").symlink_to(public / "targets")
    (public / "targets" / "away").symlink_to("/etc/hostname")
    result = examine(public, ceremony.now)
    rules = found(result)
    assert ("unread", "2.root.json") in rules
    assert ("unread", "3.root.json") in rules
    assert ("unreachable", "targets/away") in rules


def test_a_target_path_that_leads_elsewhere_is_not_followed(ceremony: Ceremony) -> None:
    public = ceremony.folder / "public"

    def lie(value: dict[str, Any]) -> None:
        value["signed"]["targets"]["../../../secret"] = {"length": 6, "hashes": {"sha256": "0" * 64}}

    (ceremony.folder / f"{'0' * 64}.secret").write_bytes(b"secret")
    edit(f"metadata/1.{NPM}.json", lie, "npm-team")(public, ceremony)
    result = examine(public, ceremony.now)
    (odd,) = [finding for finding in result.findings if finding.file.startswith("targets/..")]
    assert odd.rule == Rule.CONTENT
    assert "is not a path below" in odd.message


def test_a_folder_that_is_not_there_is_the_users_fault(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such folder"):
        open_source(str(tmp_path))


def test_the_foreign_maintained_repository_is_clean_too(tmp_path: Path, ceremony: Ceremony) -> None:
    made = Maintained(tmp_path / "other", now=ceremony.now)
    made.rotate("carol", "alice")
    made.replace_target(f"{NPM}/more.json", b"{}")
    assert found(examine(made.public, ceremony.now)) == []


def binned(folder: Path, content: Content) -> Binned:
    """A repository with eight bins, published twice; the bytes of its targets lie in the workspace, or elsewhere."""
    made = Binned(folder, now=NOW)
    made.ready()
    policy = packages()
    assert policy.bins is not None
    made.delegated(replace(policy, bins=replace(policy.bins, content=content)))
    for text in ("", "other"):
        items = [bin_target(number, text) for number in range(12)]
        if content is Content.WORKSPACE:
            for number, item in enumerate(items):
                made.workspace.write_target(item.path, (text or f"content {number}").encode())
        made.update(items)
        made.online()
        publish_workspace(made.workspace, folder / "public", now=NOW)
    return made


@pytest.mark.parametrize("content", list(Content))
def test_hash_bins_are_audited_one_by_one(tmp_path: Path, content: Content) -> None:
    made = binned(tmp_path, content)
    public = tmp_path / "public"
    for place in (made.workspace.root, public):
        result = examine(place, NOW)
        assert (found(result), result.exit_code) == ([], ExitCode.DONE)
    with HostileServer(public) as server:
        assert found(examine(server.url, NOW)) == []
    later = examine(public, NOW + timedelta(days=200))
    (expired,) = [file for rule, file in found(later) if rule == "expired" and ".packages-" in file]
    assert (public / "metadata" / expired).is_file()
    signed = sorted((public / "metadata").glob("2.packages-?.json"))
    rewrite(signed[0], lambda value: value["signatures"].clear())
    signed[1].unlink()
    signed[2].write_bytes(b"{")
    result = examine(public, NOW)
    assert found(result)[:3] == [
        ("signatures", signed[0].name),
        ("missing", signed[1].name),
        ("unreadable", signed[2].name),
    ]
    assert result.exit_code == ExitCode.REFUSED


def test_a_target_of_a_bin_that_is_changed_or_gone_is_told(tmp_path: Path) -> None:
    binned(tmp_path, Content.WORKSPACE)
    public = tmp_path / "public"
    one, two = [path for path in sorted((public / "targets/packages").iterdir()) if path.read_bytes() == b"other"][:2]
    one.write_bytes(b"OTHER")
    two.unlink()
    rules = found(examine(public, NOW))
    assert ("content", f"targets/packages/{one.name}") in rules
    assert ("missing", f"targets/packages/{two.name}") in rules


@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_done_to_its_files_an_audit_comes_to_its_end(
    shared_vectors: Path, tmp_path: Path, seed: int
) -> None:
    """Bytes, numbers and texts of a real repository at random: a result each time, and never anything raised."""
    source, chance = shared_vectors / "sigstore-repo", random.Random(seed)
    shutil.copytree(source, tmp_path / "copy")
    files = sorted(path for path in (tmp_path / "copy").rglob("*") if path.is_file())
    for path in chance.sample(files, 6):
        data = bytearray(path.read_bytes())
        match chance.randrange(4):
            case 0:
                data[chance.randrange(len(data))] = chance.randrange(256)
            case 1:
                del data[chance.randrange(len(data)) :]
            case 2:
                numbers = list(re.finditer(rb"\d+", bytes(data)))
                if numbers:
                    number = chance.choice(numbers)
                    data[number.start() : number.end()] = str(chance.choice([0, -1, 10**14, 10**20])).encode()
            case _:
                words = list(re.finditer(rb'"[a-z_.-]+"', bytes(data)))
                if words:
                    word = chance.choice(words)
                    data[word.start() : word.end()] = chance.choice([b'"root"', b'""', b"null", b"[]", b'"../x"'])
        path.write_bytes(data)
    result = examine(tmp_path / "copy", parse_time("2026-08-21T19:25:56Z"))
    assert result.findings

"""Hex packages judged: signature, repository, name, what was seen before, the lock file and the tarball."""

from __future__ import annotations

import gzip
import json
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from kedge.documents import DocumentError
from kedge.errors import InputError, StoreError, VerificationError
from kedge.registries.allowances import Allowances, parse_allowance
from kedge.registries.export import Exported, Source
from kedge.registries.hex.export import mix, pem, rebar3
from kedge.registries.hex.mixlock import Locked
from kedge.registries.hex.registry import Hex, fingerprint
from kedge.registries.hex.resource import Package
from kedge.registries.hex.verify import Policy, Settings, Tarball, check_resource, remembered, verify_packages
from kedge.registries.keys import KeySet, KeyStatus
from kedge.registries.last_seen import Memory
from kedge.registries.registry import Severity
from kedge.registries.report import Checked
from kedge.registries.served import Served
from support.hexrepo import (
    HexRelease,
    HexRepository,
    field,
    fingerprint_of,
    key_entry,
    package,
    sign,
    signed,
    tarball,
)

NOW = datetime(2026, 8, 22, tzinfo=UTC)
NOTHING_ALLOWED = Allowances(today=NOW.date())
HEXPM = "SHA256:O1LOYhHFW4kcrblKAxROaDEzLD8bn1seWbe5tq8TRsk"
FIRST = HexRelease.of("1.0.0", tarball("first"))
RETIRED = HexRelease.of("1.0.0", tarball("first"), retired=(2, "stolen"))
SECOND = HexRelease.of("1.1.0", tarball("second"))


def keys_of(
    *entries: dict[str, Any], revoked: Sequence[str] = (), repository: str = "hexpm", now: datetime = NOW
) -> KeySet:
    document = {"format": "kedge.hex-keys/1", "repository": repository, "keys": list(entries)}
    custom = {"kedge": {"v": 1, "revoked": list(revoked)}}
    return Hex().parse(json.dumps(document).encode(), registry=f"hex/{repository}", custom=custom, now=now)


OURS = key_entry("ours", "2016-01-01T00:00:00Z")


def hexpms(shared_vectors: Path) -> KeySet:
    text = (shared_vectors / "hex/public_key").read_text()
    return keys_of({"id": HEXPM, "pem": text, "active_from": "2016-01-01T00:00:00Z"})


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A mirror in a folder, and a machine with a memory."""

    served: HexRepository
    state: Path
    keys: KeySet

    def verify(self, *locked: Locked, **more: Any) -> tuple[Checked, ...]:
        settings = Settings(
            keys=more.pop("keys", self.keys),
            open_served=lambda: Served(str(self.served.folder)),
            memory=Memory("hex", state=self.state),
            allowances=more.pop("allowances", NOTHING_ALLOWED),
            **more,
        )
        return verify_packages(locked, settings)

    def one(self, locked: Locked, **more: Any) -> tuple[str, str]:
        (checked,) = self.verify(locked, **more)
        assert checked.is_fault is (checked.outcome.value not in ("verified", "skipped", "allowed"))
        return checked.outcome.value, checked.detail


@pytest.fixture
def world(tmp_path: Path) -> World:
    served = HexRepository(folder=tmp_path / "served")
    served.serve("one", signed(package("one", [FIRST, SECOND])))
    return World(served=served, state=tmp_path / "state", keys=keys_of(OURS))


def locked(release: HexRelease = FIRST, name: str = "one", repository: str = "hexpm") -> Locked:
    return Locked(
        app=name,
        kind="hex",
        name=name,
        version=release.version,
        repository=repository,
        inner=release.inner.hex(),
        outer=release.outer.hex() if release.outer else None,
    )


def test_h1_hexpms_own_package_is_verified_by_hexpms_key(world: World, shared_vectors: Path) -> None:
    world.served.serve("exfmt", (shared_vectors / "hex/package_exfmt").read_bytes())
    (checked,) = world.verify(
        Locked(app="exfmt", kind="hex", name="exfmt", repository="hexpm"), keys=hexpms(shared_vectors)
    )
    assert (checked.outcome.value, checked.detail) == ("verified", "10 releases")
    assert checked.facts["key"] == HEXPM


def test_h2_an_answer_for_another_package_or_repository_is_named(world: World, shared_vectors: Path) -> None:
    real = (shared_vectors / "hex/package_exfmt").read_bytes()
    world.served.serve("plug", real)
    world.served.serve("exfmt", real, organisation="acme")
    plug, acme = world.verify(
        Locked(app="plug", kind="hex", name="plug", repository="hexpm"),
        Locked(app="exfmt", kind="hex", name="exfmt", repository="hexpm:acme"),
        keys=hexpms(shared_vectors),
    )
    assert plug.outcome.value == "wrong-name"
    assert "is signed for the package exfmt" in plug.detail
    assert acme.outcome.value == "wrong-repository"
    assert "is signed for the repository hexpm, and acme was asked" in acme.detail


def test_an_organisations_package_is_asked_for_where_organisations_are(world: World) -> None:
    world.served.serve("one", signed(package("one", [FIRST], repository="acme")), organisation="acme")
    assert world.one(locked(repository="hexpm:acme"))[0] == "verified"


def test_a_changed_payload_is_a_bad_signature(world: World) -> None:
    payload = package("one", [FIRST])
    forged = gzip.compress(field(1, package("one", [SECOND])) + field(2, sign(payload, "ours")))
    world.served.serve("one", forged)
    assert world.one(locked()) == ("bad-signature", "the key of hex/hexpm/keys.json did not make this signature")


@pytest.mark.parametrize(
    ("data", "outcome"),
    [
        (b"<html>", "malformed"),
        (signed(package("one", [FIRST]), "stranger"), "bad-signature"),
        (signed(b"\xff"), "malformed"),
    ],
    ids=["a page", "a stranger's", "no package"],
)
def test_what_is_served_instead_has_its_name(world: World, data: bytes, outcome: str) -> None:
    world.served.serve("one", data)
    assert world.one(locked())[0] == outcome


def test_what_is_not_served_has_its_name(world: World) -> None:
    world.served.serve("two", gzip.compress(field(1, package("two", [FIRST]))))
    (world.served.folder / "packages" / "three").mkdir()
    assert world.one(locked(name="two")) == (
        "unsigned",
        "Signed.signature: is missing: somebody on the way left it out",
    )
    assert world.one(locked(name="three"))[0] == "unreachable"
    assert world.one(locked(name="four"))[0] == "not-found"


def test_during_a_rotation_both_keys_count_and_afterwards_the_new_one_does() -> None:
    old = key_entry("ours", "2016-01-01T00:00:00Z", "2026-09-15T00:00:00Z")
    new = key_entry("next", "2026-09-01T00:00:00Z")
    by_new = signed(package("one", [FIRST]), "next")

    def told(moment: datetime, data: bytes) -> str:
        return check_resource(data, keys_of(old, new, now=moment)).outcome.value

    by_old = signed(package("one", [FIRST]))
    for moment, expected in (
        (datetime(2026, 8, 20, tzinfo=UTC), ("verified", "outside-validity")),
        (datetime(2026, 9, 9, tzinfo=UTC), ("verified", "verified")),
        (datetime(2026, 9, 16, tzinfo=UTC), ("outside-validity", "verified")),
    ):
        assert (told(moment, by_old), told(moment, by_new)) == expected


def test_a_revoked_key_verifies_nothing_and_is_named(world: World) -> None:
    keys = keys_of(OURS, key_entry("next", "2026-01-01T00:00:00Z"), revoked=[fingerprint_of("ours")])
    outcome, detail = world.one(locked(), keys=keys)
    assert outcome == "revoked-key"
    assert fingerprint_of("ours") in detail


def test_the_lock_files_digests_are_held_against_the_signed_ones(world: World) -> None:
    assert world.one(locked())[0] == "verified"
    mixed = Locked(
        app="one", kind="hex", name="one", version="1.0.0", repository="hexpm", inner=FIRST.inner.hex(), outer="0" * 64
    )
    assert world.one(mixed) == (
        "digest-mismatch",
        f"locked is the outer checksum {'0' * 64}, and signed is {FIRST.outer.hex() if FIRST.outer else ''}",
    )
    assert world.one(locked(HexRelease.of("9.9.9", tarball("x"))))[0] == "not-listed"
    bare = Locked(app="one", kind="hex", name="one", version="1.0.0", repository="hexpm")
    assert world.one(bare)[0] == "not-bound"


def test_the_tarball_on_disk_is_held_against_it_too(world: World, tmp_path: Path) -> None:
    file = tmp_path / "one-1.0.0.tar"
    file.write_bytes(tarball("first"))
    bare = Locked(app="one", kind="hex", name="one", version="1.0.0", repository="hexpm")
    assert world.one(bare, tarballs=tmp_path)[0] == "verified", "the tarball says which content is meant"
    file.write_bytes(tarball("evil"))
    outcome, detail = world.one(locked(), tarballs=tmp_path)
    assert outcome == "digest-mismatch"
    assert "one-1.0.0.tar has the outer checksum" in detail
    file.write_bytes(b"")
    assert world.one(locked(), tarballs=tmp_path)[0] == "malformed"
    file.unlink()
    (checked,) = world.verify(locked(), tarballs=tmp_path)
    assert checked.outcome.value == "verified"
    assert "there is no" in checked.notes[0]
    file.mkdir()
    with pytest.raises(InputError, match="cannot be read"):
        world.verify(locked(), tarballs=tmp_path)


@pytest.mark.parametrize(
    ("elsewhere", "allowed"),
    [
        (Locked(app="g", kind="git", source="https://github.com/corp/g.git"), "git=github.com/corp/*"),
        (Locked(app="l", kind="path", source="../l"), "local=../l"),
        (Locked(app="u", kind="svn", source="svn://x.example/u"), "unknown=x.example/u"),
        (locked(repository="private"), "registry=hex/private"),
    ],
)
def test_c14_what_these_keys_cannot_vouch_for_fails_unless_the_user_allows_it(
    world: World, elsewhere: Locked, allowed: str
) -> None:
    (found,) = world.verify(elsewhere)
    assert found.is_fault
    assert found.outcome.value == ("no-keys" if elsewhere.kind == "hex" else "unvouched")
    assert f"{allowed.partition('=')[0]}=" in found.detail
    allowances = Allowances(entries=(parse_allowance(allowed),), today=NOW.date())
    (found,) = world.verify(elsewhere, allowances=allowances)
    assert (found.outcome.value, found.is_fault) == ("allowed", False)
    (found,) = world.verify(elsewhere, allowances=replace(allowances, entries=(parse_allowance("sdk=*"),)))
    assert found.is_fault


def test_a_folder_of_the_project_is_its_own(world: World) -> None:
    (found,) = world.verify(Locked(app="l", kind="path", source="apps/l"))
    assert (found.outcome.value, found.is_fault) == ("skipped", False)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.GNUTYPE_SPARSE, tarfile.GNUTYPE_LONGNAME, tarfile.DIRTYPE])
def test_c19_a_tarball_of_other_than_plain_files_is_refused(kind: bytes) -> None:
    data = bytearray(tarball("content"))
    assert Tarball.from_bytes(bytes(data)).inner
    data[156:157] = kind
    data[148:156] = b"%06o\0 " % (sum(data[:148]) + 8 * 0x20 + sum(data[156:512]))
    with pytest.raises(DocumentError, match="is no plain file"):
        Tarball.from_bytes(bytes(data))


@pytest.mark.parametrize(
    ("replayed", "said"),
    [
        ([RETIRED], "1.1.0: seen before, and no longer listed"),
        ([RETIRED, HexRelease.of("1.1.0", tarball("other"))], "1.1.0: listed with another content than before"),
        ([FIRST, SECOND], "1.0.0: was retired, and is not any more"),
    ],
)
def test_an_older_answer_is_rolled_back_though_it_is_signed(
    world: World, replayed: list[HexRelease], said: str
) -> None:
    newest = [RETIRED, SECOND]
    old = signed(package("one", replayed))
    world.served.serve("one", old)
    bare = Locked(app="one", kind="hex", name="one", repository="hexpm")
    assert world.one(bare)[0] == "verified", "the control: it is right while nothing newer was seen"
    (world.state / ".memory").rename(world.state / "forgotten")
    world.served.serve("one", signed(package("one", newest)))
    assert world.one(bare)[0] == "verified"
    world.served.serve("one", old)
    assert world.one(bare) == ("rolled-back", said)
    assert world.one(bare)[0] == "rolled-back", "asking twice changes nothing"
    (accepted,) = world.verify(bare, policy=Policy(accept_older=True))
    assert accepted.outcome.value == "verified"
    assert accepted.notes == (f"{said}, which you accept",)
    assert world.one(bare)[0] == "verified"


def test_what_another_process_saw_meanwhile_is_not_forgotten() -> None:
    older, newer = (Package.from_payload(package("one", releases)) for releases in ([FIRST], [RETIRED, SECOND]))
    seen = remembered(newer, None)
    assert remembered(older, seen) == seen
    assert remembered(newer, remembered(older, None)) == seen


def test_a_disk_that_refuses_to_remember_is_said_and_a_damaged_memory_ends_the_run(world: World) -> None:
    world.state.write_bytes(b"")
    (checked,) = world.verify(locked())
    assert checked.outcome.value == "verified"
    assert "could not be remembered" in checked.notes[0]
    world.state.unlink()
    world.verify(locked())
    (record,) = (world.state / ".memory").glob("*.json")
    record.write_bytes(record.read_bytes().replace(b'"retired": false', b'"retired": 0'))
    with pytest.raises(StoreError, match="damaged"):
        world.verify(locked())


def test_many_packages_are_asked_at_once_and_told_in_their_order(world: World) -> None:
    names = [f"p{number}" for number in range(30)]
    for name in names:
        world.served.serve(name, signed(package(name, [FIRST])))
    found = world.verify(*(locked(name=name) for name in names))
    assert [checked.name for checked in found] == [f"{name} 1.0.0" for name in names]
    assert {checked.outcome.value for checked in found} == {"verified"}


# The key document.


def test_the_key_document_is_read() -> None:
    keys = keys_of(key_entry("old", "2016-01-01T00:00:00Z", "2026-08-01T00:00:00Z"), OURS)
    assert [key.status for key in keys.keys] == [KeyStatus.RETIRED, KeyStatus.ACTIVE]
    assert keys.target == "hex/hexpm/keys.json"
    for wrong in ("hex", "hex/", "hex/a/b", "hex/A", "hex/../x", "npm"):
        with pytest.raises(InputError, match="is not a registry's id"):
            Hex().target_path(wrong)
    with pytest.raises(InputError) as caught:
        Hex().target_path("hex/hexpm:acme")
    assert "an organisation of hexpm has hexpm's key" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"active_until": "2015-01-01T00:00:00Z"}, r"keys\[0\]\.active_until: must be later than active_from"),
        ({"pem": "x"}, r"keys\[0\]\.pem: must be one PUBLIC KEY in PEM"),
        ({"pem": OURS["pem"] * 2}, r"keys\[0\]\.pem: must be one PUBLIC KEY in PEM"),
        (
            {"pem": key_entry("small", "2016-01-01T00:00:00Z", bits=1024)["pem"]},
            "an RSA public key of at least 2048 bits",
        ),
        ({"extra": 1}, "is not a field"),
    ],
)
def test_a_key_document_that_is_none_names_the_path(change: dict[str, Any], problem: str) -> None:
    with pytest.raises(DocumentError, match=problem):
        keys_of({**OURS, **change})


def test_a_document_that_stands_in_another_repositorys_place_is_refused() -> None:
    data = keys_of(OURS).document
    with pytest.raises(DocumentError, match="repository: must be acme, as the target's path says"):
        Hex().parse(data, registry="hex/acme", custom=None, now=NOW)


def rules(old: KeySet | None, new: KeySet) -> dict[str, Severity]:
    return {item.rule: item.severity for item in Hex().lint(old, new) if item.rule != "hex/other-id"}


def test_lint_names_what_breaks_installed_machines(shared_vectors: Path) -> None:
    old = keys_of(OURS)
    assert rules(None, old) == {}
    good = keys_of({**OURS, "active_until": "2026-12-08T00:00:00Z"}, key_entry("next", "2026-12-01T00:00:00Z"))
    assert rules(old, good) == {}
    for entries, expected in (
        ([key_entry("next", "2026-12-01T00:00:00Z")], {"hex/no-active-key": "error", "hex/key-dropped": "error"}),
        ([OURS, key_entry("next", "2026-08-25T00:00:00Z")], {"hex/sudden": "warning"}),
        ([OURS, key_entry("next", "2016-01-01T00:00:00Z")], {"hex/two-begin": "error", "hex/sudden": "warning"}),
        (
            [{**OURS, "active_until": "2026-11-01T00:00:00Z"}, key_entry("next", "2026-12-01T00:00:00Z")],
            {"hex/gap": "error"},
        ),
        (
            [{**OURS, "active_until": "2026-12-02T00:00:00Z"}, key_entry("next", "2026-12-01T00:00:00Z")],
            {"hex/short-overlap": "warning"},
        ),
    ):
        assert {rule: severity.value for rule, severity in rules(old, keys_of(*entries)).items()} == expected
    assert Hex().lint(None, hexpms(shared_vectors)) == ()
    assert [item.rule for item in Hex().lint(None, old)] == ["hex/other-id"]


# What other tools are told.


def exported(form: Any, keys: KeySet, **settings: str) -> Exported:
    def fetch(path: str) -> Any:
        raise AssertionError(f"no export asks for {path}")

    form = form.adjusted(settings) if settings else form
    result: Exported = form.export([Source(keys=keys, fetch=fetch)], with_retired=True)
    return result


def test_the_one_key_that_signs_now_is_exported_and_the_clock_decides_which() -> None:
    old = key_entry("ours", "2016-01-01T00:00:00Z", "2026-12-08T00:00:00Z")
    new = key_entry("next", "2026-12-01T00:00:00Z")
    before = exported(pem, keys_of(old, new))
    assert before.content.decode() == old["pem"]
    assert before.notes[1] == "SHA256:next takes over at 2026-12-01T00:00:00Z: export again then"
    for moment in (datetime(2026, 12, 2, tzinfo=UTC), datetime(2027, 12, 2, tzinfo=UTC)):
        after = exported(pem, keys_of(old, new, now=moment))
        assert after.content.decode() == new["pem"]
        assert [key.id for key in after.left_out] == ["SHA256:ours"]
    stolen = keys_of(old, new, revoked=["SHA256:next"], now=datetime(2026, 12, 2, tzinfo=UTC))
    assert exported(pem, stolen).content.decode() == old["pem"]
    with pytest.raises(VerificationError, match="no key's time is now"):
        exported(pem, keys_of(old, revoked=["SHA256:ours"]))


def test_the_forms_are_what_mix_and_rebar3_take(shared_vectors: Path) -> None:
    keys = hexpms(shared_vectors)
    text = (shared_vectors / "hex/public_key").read_text()
    assert exported(pem, keys).content.decode().split() == text.split()
    assert fingerprint(keys.keys[0]) == HEXPM
    assert exported(mix, keys).content.decode() == (
        "kedge keys export hex-pem hex/hexpm --output hexpm.pem\nmix hex.repo set hexpm --public-key hexpm.pem\n"
    )
    added = exported(mix, keys_of(OURS, repository="acme"), pem="/etc/a b.pem", url="https://hex.example/")
    assert added.content.decode().splitlines()[1] == (
        "mix hex.repo add acme https://hex.example/ --public-key '/etc/a b.pem'"
    )
    term = exported(rebar3, keys).content.decode()
    assert term.startswith(
        '{hex, [{repos, [#{name => <<"hexpm">>,\n  repo_public_key => <<"-----BEGIN PUBLIC KEY-----\\nMII'
    )
    assert term.endswith('-----END PUBLIC KEY-----\\n">>}]}]}.\n')
    with pytest.raises(InputError, match="there is no such setting"):
        exported(mix, keys, file="x")

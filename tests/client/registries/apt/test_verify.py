"""The chain Release → Packages → .deb, with real signatures: what holds is verified, and each lie has its name."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from conftest import Require
from kedge.errors import InputError, StoreError
from kedge.registries.apt.registry import APT
from kedge.registries.apt.release import Index, Release, SignedRelease
from kedge.registries.apt.verify import (
    Outcome,
    Policy,
    Verified,
    check_indexes,
    check_packages,
    fetch_indexes,
    remembered,
    verify_release,
    verify_served,
)
from kedge.registries.keys import KeySet
from kedge.registries.last_seen import Memory
from kedge.registries.pgp.verify import find_checker
from kedge.registries.report import Checked
from kedge.registries.served import Served
from support.aptrepo import AptRepository, release_text
from support.gnupg import GnuPG, gnupg, need_gnupg

NOW = datetime(2026, 11, 25, tzinfo=UTC)
DAY = timedelta(days=1)
INDEX = "main/binary-amd64/Packages"


@pytest.fixture(scope="module")
def gpg(require: Require) -> Iterator[GnuPG]:
    need_gnupg(require)
    with gnupg() as home:
        yield home


@pytest.fixture
def repo(gpg: GnuPG, tmp_path: Path) -> AptRepository:
    repo = AptRepository(folder=tmp_path / "repo", gpg=gpg, architecture="amd64")
    repo.build("one", "1.0")
    repo.publish("ours", date=NOW - DAY)
    return repo


class Verifier:
    """Verifies with what one machine remembers."""

    def __init__(self, keys: KeySet, state: Path) -> None:
        self.keys = keys
        self.memory = Memory("apt", state=state)

    def __call__(self, signed: SignedRelease, policy: Policy | None = None, *, now: datetime = NOW) -> Verified:
        return verify_release(signed, self.keys, find_checker(), policy or Policy(), self.memory, now=now)

    def folder(self, repo: AptRepository, policy: Policy | None = None, *, now: datetime = NOW) -> Verified:
        with Served(str(repo.suite)) as served:
            return verify_served(served, None, lambda signed: self(signed, policy, now=now))


@pytest.fixture
def verify(gpg: GnuPG, tmp_path: Path) -> Verifier:
    keys = APT().parse(gpg.public("ours"), registry="apt/example", custom=None, now=NOW)
    return Verifier(keys, tmp_path / "state")


def debian(shared_vectors: Path, state: Path) -> Verifier:
    keyring = (shared_vectors / "apt/debian-archive-bookworm-automatic.gpg").read_bytes()
    return Verifier(APT().parse(keyring, registry="apt/debian", custom=None, now=NOW), state)


def in_release(data: bytes) -> SignedRelease:
    return SignedRelease(name="InRelease", data=data, signature=None)


def outcome(verified: Verified) -> tuple[Outcome, str]:
    assert isinstance(verified.check.outcome, Outcome)
    assert verified.check.is_fault is (verified.check.outcome is not Outcome.VERIFIED)
    return verified.check.outcome, verified.check.detail


def test_a1_debians_release_is_verified_with_one_of_its_three_keys(shared_vectors: Path, tmp_path: Path) -> None:
    verified = debian(shared_vectors, tmp_path)(in_release((shared_vectors / "apt/bookworm.InRelease").read_bytes()))
    assert outcome(verified)[0] is Outcome.VERIFIED
    assert verified.check.facts["key"] == "B8B80B5B623EAB6AD8775C45B7C5D7D6350947F8"
    assert len(verified.check.notes) == 2


def test_a2_one_changed_byte_is_a_bad_signature(shared_vectors: Path, tmp_path: Path) -> None:
    data = (shared_vectors / "apt/bookworm.InRelease").read_bytes().replace(b"Label: Debian", b"Label: Debiam")
    verified = debian(shared_vectors, tmp_path)(in_release(data))
    assert outcome(verified)[0] is Outcome.BAD_SIGNATURE
    assert verified.release is None


def test_a3_without_valid_until_the_date_may_be_so_old_and_no_older(shared_vectors: Path, tmp_path: Path) -> None:
    signed = in_release((shared_vectors / "apt/bookworm.InRelease").read_bytes())
    date = datetime(2026, 7, 11, 10, 16, 37, tzinfo=UTC)
    policy = Policy(max_age=timedelta(days=30))
    verify = debian(shared_vectors, tmp_path)
    assert outcome(verify(signed, policy, now=date + 29 * DAY))[0] is Outcome.VERIFIED
    stale, detail = outcome(verify(signed, policy, now=date + 60 * DAY))
    assert stale is Outcome.STALE
    assert "60 days ago" in detail
    assert "30 days are allowed" in detail


def test_the_whole_chain_of_debian_holds_where_its_package_is_at_hand(shared_vectors: Path) -> None:
    # The package itself is no vector; its stanza and the digest that an index must find are.
    stanza = (shared_vectors / "apt/Packages.stanza.task-dutch-kde-desktop.txt").read_bytes()
    found = Index(INDEX, stanza).by_digest(
        {"SHA256": "487b3551e54d0eb362b4ecbb09cf97e3855e395ccc46a895cb5d357915b413a6"}
    )
    assert found is not None
    assert (found.package, found.size) == ("task-dutch-kde-desktop", 880)


def test_valid_until_counts_where_it_is_there(repo: AptRepository, verify: Verifier) -> None:
    repo.publish("ours", date=NOW - DAY, Valid_Until="Thu, 26 Nov 2026 00:00:00 UTC")
    assert outcome(verify.folder(repo, Policy(max_age=timedelta())))[0] is Outcome.VERIFIED
    assert outcome(verify.folder(repo, now=NOW + 2 * DAY))[0] is Outcome.EXPIRED


def test_a_release_from_the_future_is_not_valid_yet_and_not_remembered(repo: AptRepository, verify: Verifier) -> None:
    repo.publish("ours", date=NOW + DAY)
    assert outcome(verify.folder(repo))[0] is Outcome.NOT_YET_VALID
    repo.publish("ours", date=NOW)
    assert outcome(verify.folder(repo))[0] is Outcome.VERIFIED


def test_a_replayed_release_is_rolled_back_and_the_memory_stays(repo: AptRepository, verify: Verifier) -> None:
    old = (repo.suite / "InRelease").read_bytes()
    assert outcome(verify.folder(repo))[0] is Outcome.VERIFIED, "the control: it is right while nothing newer was seen"
    repo.publish("ours", date=NOW)
    assert outcome(verify.folder(repo))[0] is Outcome.VERIFIED
    (repo.suite / "InRelease").write_bytes(old)
    replayed, detail = outcome(verify.folder(repo))
    assert replayed is Outcome.ROLLED_BACK
    assert "2026-11-24T00:00:00Z, and one of 2026-11-25T00:00:00Z was seen before" in detail
    assert outcome(verify.folder(repo))[0] is Outcome.ROLLED_BACK, "asking twice changes nothing"
    accepted = verify.folder(repo, Policy(accept_older=True))
    assert outcome(accepted)[0] is Outcome.VERIFIED
    assert "which you accept" in accepted.check.notes[0]
    assert outcome(verify.folder(repo))[0] is Outcome.VERIFIED, "what was accepted is what is remembered"


def test_a_stale_release_is_remembered_too_and_one_that_nobody_signed_is_not(
    repo: AptRepository, verify: Verifier
) -> None:
    early = (repo.suite / "InRelease").read_bytes()
    repo.publish("stranger", date=NOW)
    assert outcome(verify.folder(repo))[0] is Outcome.UNKNOWN_KEY
    (repo.suite / "InRelease").write_bytes(early)
    assert outcome(verify.folder(repo))[0] is Outcome.VERIFIED
    repo.publish("ours", date=NOW)
    assert outcome(verify.folder(repo, Policy(max_age=timedelta()), now=NOW + DAY))[0] is Outcome.STALE
    (repo.suite / "InRelease").write_bytes(early)
    assert outcome(verify.folder(repo))[0] is Outcome.ROLLED_BACK


def test_other_suites_and_other_registries_have_memories_of_their_own(repo: AptRepository, verify: Verifier) -> None:
    repo.publish("ours", date=NOW)
    verify.folder(repo)
    repo.publish("ours", date=NOW - DAY, codename="other")
    assert outcome(verify.folder(repo))[0] is Outcome.VERIFIED
    repo.publish("ours", date=NOW - DAY, suite="oldstable")  # the same codename: the suite moves on, the memory stays
    assert outcome(verify.folder(repo))[0] is Outcome.ROLLED_BACK


def test_a_disk_that_refuses_to_remember_is_said_and_a_damaged_memory_ends_the_run(
    repo: AptRepository, verify: Verifier, tmp_path: Path
) -> None:
    (tmp_path / "state").write_bytes(b"")  # a file where the folder should be
    verified = verify.folder(repo)
    assert outcome(verified)[0] is Outcome.VERIFIED
    assert "could not be remembered" in verified.check.notes[0]
    (tmp_path / "state").unlink()
    verify.folder(repo)
    for record in (tmp_path / "state" / ".memory").glob("*.json"):
        kept = record.read_bytes()
        record.write_bytes(kept.replace(b'"date"', b'"data"'))
        with pytest.raises(StoreError, match=r"damaged: seen\.date: is missing"):
            verify.folder(repo)
        record.write_bytes(kept)


def test_another_suite_than_the_one_that_is_meant_is_named(repo: AptRepository, verify: Verifier) -> None:
    assert outcome(verify.folder(repo, Policy(suite="example")))[0] is Outcome.VERIFIED
    assert outcome(verify.folder(repo, Policy(suite="stable")))[0] is Outcome.VERIFIED
    wrong, detail = outcome(verify.folder(repo, Policy(suite="trixie")))
    assert wrong is Outcome.WRONG_SUITE
    assert detail.startswith("trixie was asked for, and this is stable and example; by key ")


def test_release_with_its_signature_beside_it_is_as_good(repo: AptRepository, verify: Verifier) -> None:
    repo.split(["ours"])
    assert outcome(verify.folder(repo))[0] is Outcome.VERIFIED
    (repo.suite / "Release").write_bytes((repo.suite / "Release").read_bytes() + b"X: y\n")
    assert outcome(verify.folder(repo))[0] is Outcome.BAD_SIGNATURE
    for absent in (b"", None):
        (repo.suite / "Release.gpg").unlink()
        if absent is not None:
            (repo.suite / "Release.gpg").write_bytes(absent)
        assert outcome(verify.folder(repo))[0] is Outcome.UNSIGNED
    (repo.suite / "Release").unlink()
    with pytest.raises(InputError, match="there is no InRelease or Release"):
        verify.folder(repo)


@pytest.mark.parametrize("name", ["InRelease", "Release.gpg"])
def test_an_endless_release_is_too_long_before_it_is_read(repo: AptRepository, verify: Verifier, name: str) -> None:
    if name == "Release.gpg":
        repo.split(["ours"])
    assert outcome(verify.folder(repo))[0] is Outcome.VERIFIED
    with (repo.suite / name).open("ab") as file:
        file.truncate((64 << 20) + 1)
    assert outcome(verify.folder(repo))[0] is Outcome.TOO_LONG


def test_text_around_the_signed_text_is_refused_and_never_parsed(repo: AptRepository, verify: Verifier) -> None:
    signed = (repo.suite / "InRelease").read_bytes()
    evil = release_text({INDEX: b"evil"}, date=NOW)
    for spoilt in (evil + signed, signed + evil, signed + signed, signed.replace(b"Hash:", b"Suite:")):
        assert outcome(verify(in_release(spoilt)))[0] is Outcome.MALFORMED
    assert outcome(verify(in_release(signed)))[0] is Outcome.VERIFIED
    page = verify(in_release(b"<html>sign in</html>\n"))
    assert outcome(page)[0] is Outcome.MALFORMED


def test_a_well_signed_release_that_is_none_is_malformed(verify: Verifier, gpg: GnuPG) -> None:
    told = verify(in_release(gpg.clear_sign(b"Suite: stable\n", "ours")))
    assert outcome(told) == (
        Outcome.MALFORMED,
        "Date: is missing: a Release without a date cannot be told from an old one",
    )


def chain(repo: AptRepository, verified: Verified, debs: list[Path], **which: list[str]) -> list[Checked]:
    assert verified.release is not None
    with Served(str(repo.suite)) as served:
        wanted = {"components": [], "architectures": ["amd64"], **which}
        found = list(fetch_indexes(served, verified.release, **wanted))
    indexes, told = check_indexes(verified.release, [each for each in found if not isinstance(each, Checked)])
    return [*(each for each in found if isinstance(each, Checked)), *told, *check_packages(indexes, debs)]


def outcomes(checks: list[Checked]) -> list[str]:
    return [check.outcome.value for check in checks]


@pytest.mark.parametrize("form", ["", ".gz", ".xz"])
def test_a_package_is_verified_over_each_form_of_the_index(repo: AptRepository, verify: Verifier, form: str) -> None:
    for other in {"", ".gz", ".xz"} - {form}:
        (repo.suite / f"{INDEX}{other}").unlink()
    deb = next(iter(repo.packages.values()))
    checks = chain(repo, verify.folder(repo), [deb])
    assert outcomes(checks) == ["verified", "verified"]
    assert checks[0].detail == f"is {INDEX}{form} of the Release"
    assert checks[1].detail == "is one 1.0 all"


def test_each_lie_below_the_release_has_its_name(repo: AptRepository, verify: Verifier, tmp_path: Path) -> None:
    deb = next(iter(repo.packages.values()))
    other = repo.build("two", "1:3")  # in the pool, and in no index
    changed = tmp_path / "one_9%3a1.0_all.deb"
    changed.write_bytes(deb.read_bytes() + b"!")
    verified = verify.folder(repo)
    checks = chain(repo, verified, [deb, other, changed])
    assert outcomes(checks) == ["verified", "verified", "not-listed", "digest-mismatch"]
    assert "one 1.0 is listed with SHA256" in checks[3].detail
    packed = repo.suite / f"{INDEX}.xz"
    good = packed.read_bytes()
    packed.write_bytes(good[:-1] + b"!")
    assert outcomes(chain(repo, verified, [deb])) == ["digest-mismatch", "unchecked"]
    packed.write_bytes(good + b"!")
    assert outcomes(chain(repo, verified, [deb])) == ["digest-mismatch", "unchecked"]
    for form in ("", ".gz", ".xz"):
        (repo.suite / f"{INDEX}{form}").unlink()
    assert outcomes(chain(repo, verified, [deb])) == ["missing", "unchecked"]
    assert outcomes(chain(repo, verified, [deb], architectures=["s390x"])) == ["not-listed", "unchecked"]


def test_an_index_is_had_by_its_digest_where_the_archive_says_so(repo: AptRepository, verify: Verifier) -> None:
    repo.publish("ours", date=NOW - DAY, Acquire_By_Hash="yes")
    folder = repo.suite / "main/binary-amd64"
    (folder / "by-hash/SHA256").mkdir(parents=True)
    digest = hashlib.sha256((folder / "Packages.xz").read_bytes()).hexdigest()
    (folder / "Packages.xz").rename(folder / "by-hash/SHA256" / digest)
    (folder / "Packages.xz").write_bytes(b"of the next update, which is under way")
    deb = next(iter(repo.packages.values()))
    assert outcomes(chain(repo, verify.folder(repo), [deb])) == ["verified", "verified"]
    (folder / "by-hash/SHA256" / digest).unlink()
    assert outcomes(chain(repo, verify.folder(repo), [deb])) == ["digest-mismatch", "unchecked"]


def test_a_size_that_is_not_the_listed_one_is_a_mismatch_too(repo: AptRepository, verify: Verifier, gpg: GnuPG) -> None:
    deb = next(iter(repo.packages.values()))
    plain = repo.indexes()[INDEX]
    size = f"Size: {deb.stat().st_size}\n".encode()
    for index, lie, expected in (
        (plain, (b" %d " % len(plain), b" 7 "), ["digest-mismatch", "unchecked"]),
        (plain.replace(size, b"Size: 7\n"), (b"", b""), ["verified", "digest-mismatch"]),
    ):
        text = release_text({INDEX: index}, date=NOW).replace(*lie)
        repo.serve(b"", gpg.clear_sign(text, "ours"))
        indexes, told = check_indexes(verify.folder(repo).release, [("Packages", index)])
        assert outcomes([*told, *check_packages(indexes, [deb])]) == expected


def test_what_another_process_saw_meanwhile_is_not_forgotten() -> None:
    early, late = (Release.from_text(release_text({}, date=date)) for date in (NOW - DAY, NOW))
    seen = remembered(late, "b" * 64, None)
    assert remembered(early, "a" * 64, seen) == seen
    assert remembered(late, "b" * 64, remembered(early, "a" * 64, None)) == seen


def test_only_an_index_is_one_whatever_else_the_release_lists(
    repo: AptRepository, verify: Verifier, gpg: GnuPG
) -> None:
    evil = b"Package: x\n"
    repo.serve(b"", gpg.clear_sign(release_text({"main/i18n/Translation-en": evil}, date=NOW), "ours"))
    _, told = check_indexes(verify.folder(repo).release, [("Translation-en", evil)])
    assert outcomes(told) == ["digest-mismatch"]


def test_nothing_is_right_below_a_release_that_is_not(repo: AptRepository, tmp_path: Path) -> None:
    indexes, told = check_indexes(None, [("Packages", b"")])
    assert outcomes(told) == ["unchecked"]
    assert outcomes(check_packages(indexes, [next(iter(repo.packages.values()))])) == ["unchecked"]
    with pytest.raises(InputError, match="cannot be read"):
        check_packages([Index(INDEX, b"")], [tmp_path / "no.deb"])


def test_an_index_that_was_signed_for_and_is_a_bomb_is_named(repo: AptRepository, verify: Verifier, gpg: GnuPG) -> None:
    broken = gzip.compress(b"x" * 100)[:-4]
    repo.serve(b"", gpg.clear_sign(release_text({f"{INDEX}.gz": broken}, date=NOW), "ours"))
    verified = verify.folder(repo)
    indexes, told = check_indexes(verified.release, [("Packages.gz", broken)])
    assert indexes == []
    assert outcomes(told) == ["malformed"]

"""``kedge verify nuget`` as a process, through the rotation of a feed's certificate that is due before 2027-05-18."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from architecture import schemas
from cli.shell import Done, Shell
from support.nuget import SERVICE_INDEX, Party, new_party, sign_package, unsigned
from support.simulator import RepositorySimulator

FEED = "nuget/nuget.example"
# The repository's signatures in these tests expire in 2098, and so do the certificates that are still in use.
FAR = datetime(2097, 1, 1, tzinfo=UTC)
PAST = datetime(2020, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class NuGetUser:
    """A user with an anchor that speaks for a feed, and a folder of packages."""

    shell: Shell
    repo: RepositorySimulator
    folder: Path

    @property
    def packages(self) -> Path:
        return self.folder.parent / "packages"

    def feed_signs_with(self, *parties: Party, **custom: Any) -> None:
        """The keyholders sign for a list of certificates."""
        entries = [
            {
                "fingerprints": {"2.16.840.1.101.3.4.2.1": party.fingerprint},
                "notBefore": party.certificate.not_valid_before_utc.strftime("%Y-%m-%dT%H:%M:%SZ"),
                "notAfter": party.certificate.not_valid_after_utc.strftime("%Y-%m-%dT%H:%M:%SZ"),
            }
            for party in parties
        ]
        data = json.dumps({"allRepositorySigned": True, "signingCertificates": entries}).encode()
        beside = {"nuget": {"v": 1, "service_index": SERVICE_INDEX, **custom}}
        self.repo.add_target(f"{FEED}/repository-signatures.json", data, custom=beside)
        self.repo.publish()
        self.repo.write(self.folder)

    def has(self, name: str, repository: Party, **signing: Any) -> Path:
        """Put a package that was signed by an author and a repository into the folder."""
        self.packages.mkdir(exist_ok=True)
        path = self.packages / f"{name}.1.0.0.nupkg"
        path.write_bytes(sign_package(unsigned(name, "1.0.0"), new_party("author"), repository, **signing))
        return path

    def verify(self, *more: str | Path, **environment: str) -> Done:
        return self.shell.run("verify", "nuget", *(more or (self.packages,)), "--registry", FEED, **environment)


@pytest.fixture
def user(tmp_path: Path, shell: Shell) -> NuGetUser:
    repo = RepositorySimulator(now=datetime(2098, 1, 1, tzinfo=UTC))
    made = NuGetUser(shell=shell, repo=repo, folder=tmp_path / "repo")
    repo.publish()
    repo.write(made.folder)
    (tmp_path / "root.json").write_bytes(repo.initial_root)
    added = ("--root", tmp_path / "root.json", "--mirror", made.folder, "--registry", FEED)
    assert shell.run("anchor", "add", "repo", *added).code == 0
    return made


def test_a_rotation_of_the_feeds_certificate_needs_one_signature_of_the_keyholders_and_no_release(
    user: NuGetUser,
) -> None:
    old = new_party("first certificate", end=PAST + timedelta(days=365), start=PAST - timedelta(days=365))
    present = new_party("second certificate", end=FAR)
    coming = new_party("third certificate", end=FAR)
    stamps = new_party("stamps", stamps=True, start=PAST - timedelta(days=900), end=FAR)
    user.has("Old", old, stamped_by=stamps, at=PAST)
    user.has("Present", present)
    user.feed_signs_with(old, present, timestamp_authorities=[stamps.fingerprint])
    done = user.verify(COLUMNS="200")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"{user.packages}: 2 of 2 packages verified\n  verified  2\n")
    before = ET.fromstring(user.shell.run("keys", "export", "nuget-config", FEED).out)

    # The feed begins to sign with its next certificate: everybody whose list is older is stopped.
    user.has("Coming", coming)
    stopped = user.verify(COLUMNS="200")
    assert (stopped.code, "unknown-key  1" in stopped.out) == (5, True)
    # The keyholders sign it in, as they did weeks before in earnest; the same client goes on.
    user.feed_signs_with(old, present, coming, timestamp_authorities=[stamps.fingerprint])
    assert user.verify().code == 0
    after = ET.fromstring(user.shell.run("keys", "export", "nuget-config", FEED).out)
    listed = [{each.attrib["fingerprint"] for each in tree.iter("certificate")} for tree in (before, after)]
    assert listed[1] - listed[0] == {coming.fingerprint.upper()}
    # Who takes an expired certificate out breaks what it signed: the mistake that lint stops.
    user.feed_signs_with(present, coming, timestamp_authorities=[stamps.fingerprint])
    broken = user.verify(COLUMNS="200")
    assert (broken.code, "Old.1.0.0.nupkg" in broken.out) == (5, True)


def test_a_time_that_nobody_vouches_for_is_said_and_with_strict_a_fault(user: NuGetUser) -> None:
    old = new_party("first certificate", end=PAST + timedelta(days=365), start=PAST - timedelta(days=365))
    stamps = new_party("stamps", stamps=True, start=PAST - timedelta(days=900), end=FAR)
    path = user.has("Old", old, stamped_by=stamps, at=PAST)
    user.feed_signs_with(old)
    done = user.verify(path)
    assert (done.code, "verified-time-unverified  1" in done.out) == (0, True)
    assert "1 package is signed with a certificate that has expired." in done.out
    assert user.verify(path, "--strict").code == 5


def test_the_answer_as_json_fits_its_schema(user: NuGetUser) -> None:
    present = new_party("second certificate", end=FAR)
    user.has("Present", present)
    (user.packages / "broken.1.0.0.nupkg").write_bytes(b"nonsense")
    user.feed_signs_with(present)
    done = user.verify(user.packages, "--json")
    found = json.loads(done.out)
    assert schemas.faults("checklist", found) == []
    assert (done.code, found["counts"]) == (5, {"verified": 1, "malformed": 1})
    (good,) = [item for item in found["items"] if not item["fault"]]
    assert good["facts"] == {
        "identity": "Present 1.0.0",
        "certificate": present.fingerprint,
        "placement": "repository",
        "counter_signature": True,
        "service_index": SERVICE_INDEX,
        "owners": ["alice", "bob"],
        "time": None,
    }


def test_nothing_to_verify_is_a_wrong_use_and_no_success(user: NuGetUser) -> None:
    user.feed_signs_with(new_party("second certificate", end=FAR))
    user.packages.mkdir()
    done = user.verify()
    assert (done.code, done.out) == (2, "")
    assert done.err == f"kedge: {user.packages}: there is no package (*.nupkg) in this folder\n"

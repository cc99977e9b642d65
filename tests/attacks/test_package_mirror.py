"""C: the package mirror lies. Each row through the command's process, against a registry on the loopback.

The keys come from a repository in a folder; the user's lockfile was made honestly, unless a row says otherwise. Each
row has its control: the same command without the lie exits 0.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cli.shell import Done, Shell
from support.packages import PackageRegistry, SigningKey, archive_of, integrity_of, key_document, lockfile, shasum_of
from support.server import HostileServer, Serves
from support.simulator import RepositorySimulator

UPSTREAM = "registry.example"
OLD, NEW = ("lodash", "4.17.20"), ("left-pad", "1.3.0")
EVIL = b"another archive altogether"


@dataclass
class Mirrored:
    """A user, the repository that carries the upstream's keys, and what the mirror holds."""

    shell: Shell
    repo: RepositorySimulator
    folder: Path
    mirror: PackageRegistry
    old: SigningKey
    new: SigningKey
    url: str = ""
    requests: tuple[str, ...] = ()

    def publish_keys(self, *keys: SigningKey, custom: dict[str, Any] | None = None) -> None:
        self.repo.add_target(f"{UPSTREAM}/keys.json", key_document(*keys), custom=custom)
        self.repo.publish()
        self.repo.write(self.folder)

    def verify(self, *options: str | Path, lock: bytes | None = None, serves: Serves | None = None) -> Done:
        """Run ``kedge verify npm`` on the lockfile, against the mirror as it is now."""
        path = self.shell.folder / "package-lock.json"
        path.write_bytes(lock if lock is not None else lockfile(OLD, NEW))
        with HostileServer(serves or self.mirror) as server:
            done = self.shell.run("verify", "npm", path, "--registry", server.url, "--upstream", UPSTREAM, *options)
            self.requests = tuple(server.paths)
        return done

    def outcomes(self, *options: str | Path, lock: bytes | None = None, exits: int = 5) -> dict[str, Any]:
        """The packages of ``--json``, by name."""
        done = self.verify("--json", *options, lock=lock)
        assert done.code == exits, done.out + done.err
        return {package["name"]: package for package in json.loads(done.out)["packages"]}

    def assert_control(self, *options: str | Path) -> None:
        """Without the lie everything is verified."""
        done = self.verify(*options)
        assert done.code == 0, done.out + done.err


@pytest.fixture
def mirrored(tmp_path: Path) -> Iterator[Mirrored]:
    folder = tmp_path / "user"
    folder.mkdir()
    old = SigningKey("SHA256:old", start="1999-01-01T00:00:00.000Z", end="2025-01-29T00:00:00.000Z")
    new = SigningKey("SHA256:new", start="2025-01-13T00:00:00.000Z")
    mirror = PackageRegistry()
    mirror.publish(*OLD, keys=[old], published="2020-08-13T16:53:54.152Z")
    mirror.publish(*NEW, keys=[new])
    repo = RepositorySimulator(now=datetime(2098, 1, 1, tzinfo=UTC))
    world = Mirrored(shell=Shell(folder=folder), repo=repo, folder=tmp_path / "repo", mirror=mirror, old=old, new=new)
    world.publish_keys(old, new)
    (tmp_path / "root.json").write_bytes(repo.initial_root)
    added = world.shell.run(
        *("anchor", "add", "repo", "--root", tmp_path / "root.json"),
        *("--mirror", world.folder, "--registry", UPSTREAM),
    )
    assert added.code == 0, added.err
    yield world
    assert not [path for path in world.requests if "/-/npm/v1/keys" in f"/{path}"], "the mirror's keys were asked for"


def forge(mirror: PackageRegistry, package: tuple[str, str], *keys: SigningKey) -> None:
    """Let the mirror serve an archive of its own, signed by these keys."""
    name, version = package
    integrity = integrity_of(EVIL)
    mirror.dist(name, version).update(
        integrity=integrity,
        shasum=shasum_of(EVIL),
        signatures=[key.sign(name, version, integrity) for key in keys],
    )


class WithKeysEndpoint:
    """A mirror that also serves keys of its own."""

    def __init__(self, mirror: PackageRegistry, key: SigningKey) -> None:
        self._mirror = mirror
        self._keys = {"keys": [{"keyid": key.keyid, "key": key.material, "expires": None, "scheme": "ecdsa"}]}

    @property
    def files(self) -> dict[str, bytes]:
        return {**self._mirror.files, "-/npm/v1/keys": json.dumps(self._keys).encode()}


def test_c1_a_mirror_with_its_own_archive_key_and_keys_endpoint_is_found_out(mirrored: Mirrored) -> None:
    mirrored.assert_control()
    own = SigningKey("SHA256:mirror")
    forge(mirrored.mirror, NEW, own)
    done = mirrored.verify("--json", serves=WithKeysEndpoint(mirrored.mirror, own))
    assert done.code == 5
    found = {package["name"]: package for package in json.loads(done.out)["packages"]}
    assert found["left-pad"]["outcome"] == "digest-mismatch"
    assert found["left-pad"]["also"] == ["unknown-key"]
    assert found["lodash"]["outcome"] == "verified-time-unsigned"
    text = mirrored.verify(serves=WithKeysEndpoint(mirrored.mirror, own)).out
    assert "digest-mismatch and unknown-key" in text
    assert integrity_of(EVIL) in text


def test_c1_the_mirrors_own_keys_are_never_asked_for(mirrored: Mirrored) -> None:
    own = SigningKey("SHA256:mirror")
    forge(mirrored.mirror, NEW, own)
    mirrored.verify(serves=WithKeysEndpoint(mirrored.mirror, own))
    assert sorted(mirrored.requests) == ["left-pad", "lodash"]


def test_c1_a_digest_that_the_registry_did_sign_is_a_mismatch_all_the_same(mirrored: Mirrored) -> None:
    forge(mirrored.mirror, NEW, mirrored.new)
    found = mirrored.outcomes()["left-pad"]
    assert (found["outcome"], found["also"]) == ("digest-mismatch", [])
    assert "the lockfile was changed" in found["detail"]


def test_c2_a_lockfile_that_was_made_through_the_mirror_does_not_help_it(mirrored: Mirrored) -> None:
    mirrored.assert_control()
    forge(mirrored.mirror, NEW, SigningKey("SHA256:mirror"))
    lock = lockfile(OLD, NEW, **{"left-pad": integrity_of(EVIL)})
    assert mirrored.outcomes(lock=lock)["left-pad"]["outcome"] == "unknown-key"


def test_c2_nor_does_a_key_that_bears_the_right_name(mirrored: Mirrored) -> None:
    forge(mirrored.mirror, NEW, SigningKey(mirrored.new.keyid))
    lock = lockfile(OLD, NEW, **{"left-pad": integrity_of(EVIL)})
    assert mirrored.outcomes(lock=lock)["left-pad"]["outcome"] == "bad-signature"


@pytest.mark.parametrize("stripped", [None, [], {}, "", [{}], [{"keyid": "SHA256:new"}], [1, None]])
def test_c3_stripped_signatures_are_unsigned(mirrored: Mirrored, stripped: Any) -> None:
    mirrored.assert_control()
    dist = mirrored.mirror.dist(*NEW)
    if stripped is None:
        del dist["signatures"]
    else:
        dist["signatures"] = stripped
    assert mirrored.outcomes()["left-pad"]["outcome"] == "unsigned"


def test_c3_the_report_says_that_this_registry_has_keys(mirrored: Mirrored) -> None:
    mirrored.mirror.dist(*NEW)["signatures"] = []
    done = mirrored.verify()
    assert done.code == 5
    assert "no signature is served, and registry.example has keys that sign packages" in done.out


def test_c4_a_mirror_that_strips_everything_is_no_reason_to_be_content(mirrored: Mirrored) -> None:
    mirrored.assert_control()
    for package in (OLD, NEW):
        del mirrored.mirror.dist(*package)["signatures"]
    found = mirrored.outcomes()
    assert {package["outcome"] for package in found.values()} == {"unsigned"}
    assert "0 of 2 packages verified" in mirrored.verify().out


def test_c5_a_junk_signature_beside_the_right_one_is_noted_and_harmless(mirrored: Mirrored) -> None:
    mirrored.assert_control()
    signatures = mirrored.mirror.dist(*NEW)["signatures"]
    signatures.insert(0, {"keyid": "SHA256:junk", "sig": "AAAA"})
    found = mirrored.outcomes(exits=0)["left-pad"]
    assert found["outcome"] == "verified"
    assert found["keyid"] == "SHA256:new"
    assert [note for note in found["notes"] if "SHA256:junk" in note]
    assert "SHA256:junk: unknown-key" in mirrored.verify().out


def test_c6_a_retired_key_is_taken_by_the_registrys_word_and_the_report_says_so(mirrored: Mirrored) -> None:
    done = mirrored.verify()
    assert done.code == 0
    assert "verified-time-unsigned  1" in done.out
    assert "nobody signs that time" in done.out
    assert mirrored.verify("--strict").code == 5


@pytest.mark.parametrize(
    ("stated", "policy"),
    [
        ("2025-03-01T00:00:00.000Z", "registry-time"),  # the mirror's own time of fetching
        (None, "registry-time"),
        ("yesterday", "registry-time"),
        ("1998-12-31T00:00:00.000Z", "registry-time"),
        ("2020-08-13T16:53:54.152Z", "reject"),
    ],
)
def test_c6_without_a_time_at_which_it_was_valid_a_retired_key_verifies_nothing(
    mirrored: Mirrored, stated: str | None, policy: str
) -> None:
    mirrored.assert_control()
    times = mirrored.mirror.packuments["lodash"]["time"]
    if stated is None:
        del mirrored.mirror.packuments["lodash"]["time"]
    else:
        times["4.17.20"] = stated
    found = mirrored.outcomes("--retired-keys", policy)
    assert found["lodash"]["outcome"] == "outside-validity"
    assert found["left-pad"]["outcome"] == "verified"


def test_c6_an_active_key_needs_no_word_about_the_time(mirrored: Mirrored) -> None:
    mirrored.mirror.packuments["left-pad"]["time"] = {"1.3.0": "2001-01-01T00:00:00.000Z"}
    found = mirrored.outcomes(exits=0)["left-pad"]
    assert found["outcome"] == "verified"
    assert "before this key was valid" in found["notes"][0]


def test_c7_an_answer_for_another_package_is_refused(mirrored: Mirrored) -> None:
    mirrored.assert_control()
    mirrored.mirror.packuments["left-pad"] = mirrored.mirror.packuments["lodash"]
    found = mirrored.outcomes()["left-pad"]
    assert (found["outcome"], found["cause"]) == ("not-found", "wrong-package")
    assert "is 'lodash', asked for was left-pad" in found["detail"]


@pytest.mark.parametrize(("field", "value"), [("version", "9.9.9"), ("name", "left-pad2")])
def test_c7_a_version_that_says_that_it_is_another_is_refused(mirrored: Mirrored, field: str, value: str) -> None:
    mirrored.mirror.packuments["left-pad"]["versions"]["1.3.0"][field] = value
    found = mirrored.outcomes()["left-pad"]
    assert (found["outcome"], found["cause"]) == ("not-found", "wrong-package")


def test_c7_another_versions_right_signature_is_no_signature_of_this_one(mirrored: Mirrored) -> None:
    mirrored.mirror.publish("left-pad", "1.2.0", keys=[mirrored.new])
    mirrored.mirror.dist(*NEW)["signatures"] = mirrored.mirror.dist("left-pad", "1.2.0")["signatures"]
    assert mirrored.outcomes()["left-pad"]["outcome"] == "bad-signature"


def test_c8_what_an_old_packument_hides_cannot_be_seen_and_the_report_says_so(mirrored: Mirrored) -> None:
    mirrored.mirror.publish("left-pad", "1.3.1", keys=[mirrored.new])
    mirrored.assert_control()
    del mirrored.mirror.packuments["left-pad"]["versions"]["1.3.1"]
    done = mirrored.verify()
    assert done.code == 0
    assert "Not checked: whether newer or other versions exist that the registry does not show" in done.out


def test_c8_a_hidden_version_that_is_locked_is_not_found(mirrored: Mirrored) -> None:
    del mirrored.mirror.packuments["left-pad"]["versions"]["1.3.0"]
    assert mirrored.outcomes()["left-pad"]["outcome"] == "not-found"


@pytest.mark.parametrize("layout", ["{name}-{version}.tgz", "{name}/-/{name}-{version}.tgz", "_cacache"])
def test_c9_an_archive_on_disk_that_is_not_the_locked_one_is_found(mirrored: Mirrored, layout: str) -> None:
    folder = mirrored.shell.folder / "archives"
    name, version = NEW
    data = archive_of(name, version)
    if layout == "_cacache":
        import hashlib

        digits = hashlib.sha512(data).hexdigest()
        path = folder / "_cacache/content-v2/sha512" / digits[:2] / digits[2:4] / digits[4:]
    else:
        path = folder / layout.format(name=name, version=version)
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    mirrored.assert_control("--tarballs", folder)
    path.write_bytes(EVIL)
    found = mirrored.outcomes("--tarballs", folder)["left-pad"]
    assert (found["outcome"], found["cause"]) == ("digest-mismatch", "bytes-differ")


def test_c10_a_registry_without_known_keys_is_no_keys_and_is_not_asked(mirrored: Mirrored) -> None:
    mirrored.assert_control()
    done = mirrored.verify("--json", "--upstream", "other.example")
    assert done.code == 5
    assert {package["outcome"] for package in json.loads(done.out)["packages"]} == {"no-keys"}
    assert mirrored.requests == ()
    text = mirrored.verify("--upstream", "other.example").out
    assert "no anchor speaks for other.example" in text
    assert "say which: --upstream" in text


def test_c10_a_key_document_without_keys_is_no_keys(mirrored: Mirrored) -> None:
    mirrored.publish_keys()
    assert {package["outcome"] for package in mirrored.outcomes().values()} == {"no-keys"}


@pytest.mark.parametrize("package", [OLD, NEW])
def test_c11_a_revoked_key_verifies_nothing_old_or_new(mirrored: Mirrored, package: tuple[str, str]) -> None:
    mirrored.assert_control()
    key = mirrored.old if package == OLD else mirrored.new
    mirrored.publish_keys(mirrored.old, mirrored.new, custom={"kedge": {"v": 1, "revoked": [key.keyid]}})
    found = mirrored.outcomes()
    assert found[package[0]]["outcome"] == "revoked-key"
    assert [name for name, each in found.items() if each["fault"]] == [package[0]]


def test_c11_also_where_its_entry_has_left_the_key_document(mirrored: Mirrored) -> None:
    mirrored.publish_keys(mirrored.new, custom={"kedge": {"v": 1, "revoked": [mirrored.old.keyid]}})
    assert mirrored.outcomes()["lodash"]["outcome"] == "revoked-key"


def test_c12_trust_that_is_too_old_ends_the_run_before_anything_is_judged(mirrored: Mirrored) -> None:
    mirrored.assert_control()
    mirrored.repo.now = datetime(2024, 1, 1, tzinfo=UTC)
    with mirrored.repo.edit("timestamp"):
        pass
    mirrored.repo.write(mirrored.folder)
    done = mirrored.verify()
    assert (done.code, done.out) == (4, "")
    assert "expired" in done.err
    assert mirrored.requests == ()

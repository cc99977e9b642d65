"""Hash bins: many targets, of which a change touches its bins, snapshot and timestamp."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tracemalloc
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import DelegatedRole, Delegations, Targets

from kedge.errors import ExpiredError, InputError, ThresholdError, VerificationError
from kedge_repo.bins.lines import BinTarget, folder_targets, in_batches, read_lines
from kedge_repo.bins.store import BinStore, bit_length_for
from kedge_repo.bins.update import BinsUpdate, belonging, bin_number, keep_bins, require_bins, update_bins
from kedge_repo.events.plan import add_target
from kedge_repo.events.plan_keys import rotate_key
from kedge_repo.events.plan_roles import plan_delegation, plan_renewal
from kedge_repo.publish.files import collect_files
from kedge_repo.publish.online import Online, sign_online
from kedge_repo.publish.publish import publish_workspace
from kedge_repo.publish.replay import READERS
from kedge_repo.workspace.policy import BinsPolicy, Content, DelegationPolicy
from repo_tools.ceremony import Ceremony, contents

NOW = datetime.now(UTC).replace(microsecond=0)  # python-tuf reads too, and its clock cannot be set
LATER = NOW + timedelta(days=1)


def packages(bit_length: int = 3, *, holders: tuple[str, ...] = ("ci",)) -> DelegationPolicy:
    days = timedelta(days=1)
    bins = BinsPolicy(
        name="packages",
        keyholders=holders,
        threshold=1,
        expiry=182 * days,
        signing=31 * days,
        bit_length=bit_length,
        content=Content.ELSEWHERE,
    )
    return DelegationPolicy(
        name="packages",
        keyholders=("alice", "bob", "carol"),
        threshold=2,
        expiry=365 * days,
        signing=60 * days,
        paths=("packages/*",),
        terminating=True,
        bins=bins,
    )


class Binned(Ceremony):
    """A repository whose targets delegate ``packages/*`` to hash bins that ci signs."""

    def with_bins(self, bit_length: int = 3) -> Binned:
        self.ready()
        return self.delegated(packages(bit_length))

    def delegated(self, policy: DelegationPolicy) -> Binned:
        self.change(lambda view: plan_delegation(view, policy))
        self.sign("alice", "bob")
        self.merge()
        return self

    def update(
        self, targets: Iterable[BinTarget] = (), *, removed: Iterable[str] = (), replace: bool = False
    ) -> BinsUpdate:
        return update_bins(
            self.workspace,
            "packages",
            in_batches(targets),
            [self.signers["ci"]],
            now=self.now,
            removed=removed,
            replace=replace,
        )

    @property
    def store(self) -> BinStore:
        return BinStore(workspace=self.workspace, role="packages")

    def held(self) -> dict[str, dict[str, object]]:
        """Every target in the bins, as their metadata says it."""
        index = self.store.index()
        assert index is not None
        found: dict[str, dict[str, object]] = {}
        for number in range(1 << index.bit_length):
            found |= json.loads(self.store.data(index.file(number)))["signed"]["targets"]
        return found


def target(number: int, text: str = "") -> BinTarget:
    data = (text or f"content {number}").encode()
    return BinTarget(path=f"packages/p{number}.tgz", length=len(data), sha256=hashlib.sha256(data).hexdigest())


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Binned:
    return Binned(tmp_path_factory.mktemp("founded"), now=NOW).with_bins()


@pytest.fixture
def binned(tmp_path: Path, founded: Binned) -> Binned:
    return copied(founded, tmp_path)


def copied(founded: Binned, folder: Path) -> Binned:
    """The same repository with the same keys in a folder of its own."""
    shutil.copytree(founded.folder, folder, dirs_exist_ok=True)
    found = Binned(folder, now=NOW)
    found.signers = dict(founded.signers)
    return found


def test_every_target_is_found_through_its_bin_by_both_readers(binned: Binned) -> None:
    made = binned.update(target(n) for n in range(50))
    assert (made.bins, made.added, made.targets) == (8, 50, 50)
    binned.online()
    files = collect_files(binned.workspace)
    for reader in (READERS["kedge"], READERS["python-tuf"]):
        data = {
            f"targets/packages/{target(n).sha256}.p{n}.tgz": f"content {n}".encode() for n in range(50)
        }  # where the registry keeps them
        reader(
            {**files.everything(), **data}, files.roots[0], tuple(target(n).path for n in range(50)), datetime.now(UTC)
        )
        with pytest.raises(VerificationError, match="p50"):
            reader(files.everything(), files.roots[0], (target(50).path,), datetime.now(UTC))


def test_a_change_touches_its_bin_snapshot_and_timestamp_and_nothing_else(binned: Binned) -> None:
    binned.update(target(n) for n in range(50))
    binned.online()
    publish_workspace(binned.workspace, now=NOW)
    before = contents(binned.workspace.root.parent / "public")
    made = binned.update([target(7, "another content")])
    assert (made.bins, made.added, made.changed, made.targets) == (1, 0, 1, 50)
    binned.online()
    publish_workspace(binned.workspace, now=NOW)
    after = contents(binned.workspace.root.parent / "public")
    touched = sorted(name for name, data in after.items() if before.get(name) != data)
    number = bin_number(b"packages/p7.tgz", 3)
    assert touched == [f"metadata/2.packages-{number}.json", "metadata/3.snapshot.json", "metadata/timestamp.json"]


def test_the_same_targets_again_change_nothing(binned: Binned) -> None:
    binned.update(target(n) for n in range(50))
    before = contents(binned.workspace.root)
    binned.now = LATER
    made = binned.update(target(n) for n in range(50))
    assert made == BinsUpdate(bins=0, added=0, changed=0, removed=0, targets=50)
    assert contents(binned.workspace.root) == before


def test_targets_are_removed_by_path_or_by_replacing_them_all(binned: Binned) -> None:
    binned.update(target(n) for n in range(50))
    made = binned.update(removed=[target(3).path, target(99).path])
    assert (made.bins, made.removed, made.targets) == (1, 1, 49)
    made = binned.update([target(1), target(2, "new"), target(60)], replace=True)
    assert (made.added, made.changed, made.removed, made.targets) == (1, 1, 47, 3)
    assert set(binned.held()) == {target(n).path for n in (1, 2, 60)}


def test_many_more_lines_than_the_buffer_holds_come_to_the_same_bins(founded: Binned, tmp_path: Path) -> None:
    one, other = (copied(founded, tmp_path / name) for name in ("one", "other"))
    signers = [other.signers["ci"]]
    one.update(target(n) for n in range(500))
    lines = b"".join(target(n).line() + b"\n" for n in reversed(range(500)))
    batches = list(read_lines(io.BytesIO(lines), file="lines"))
    small = [batch[start : start + 50] for batch in batches for start in range(0, len(batch), 50)]
    made = update_bins(other.workspace, "packages", small, signers, now=NOW, buffered_lines=100)
    assert made.targets == 500
    assert one.held() == other.held()
    left = [entry.name for entry in other.store.folder.iterdir() if not entry.name.endswith(".json")]
    assert left == []


def test_memory_does_not_grow_with_the_lines(binned: Binned) -> None:

    def peak(count: int) -> int:
        targets = (target(n) for n in range(count))
        tracemalloc.start()
        update_bins(
            binned.workspace,
            "packages",
            ([(t.line(), t.path.encode())] for t in targets),
            [binned.signers["ci"]],
            now=NOW,
            buffered_lines=500,
        )
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    small, large = peak(2_000), peak(8_000)
    assert large < small * 1.5


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"packages/a 1", 'line 2: must be PATH LENGTH SHA256, not "packages/a 1"'),
        (b"packages/a 01 " + b"0" * 64, "line 2: must be PATH LENGTH SHA256"),
        (b"packages/a 1 " + b"A" * 64, "line 2: must be PATH LENGTH SHA256"),
        (b"packages/a 1 " + b"0" * 64 + b"\r", "line 2: must be PATH LENGTH SHA256"),
        (b"packages/../a 1 " + b"0" * 64, "line 2: the target path .* must be relative"),
        (b"/packages/a 1 " + b"0" * 64, "line 2: the target path .* must be relative"),
        (b"packages/a%41 1 " + b"0" * 64, "line 2: the target path .* holds a character"),
        (b"packages/\xff 1 " + b"0" * 64, "line 2: the target path is not UTF-8"),
        (b"packages/" + b"x" * 181 + b" 1 " + b"0" * 64, "line 2: the target path"),
        (b"", "line 2: must be PATH LENGTH SHA256"),
        (b"packages/a 1 " + b"0" * 64 + b' {"b":1, "a":2}', "line 2: custom: must be canonical JSON"),
        (b"packages/a 1 " + b"0" * 64 + b' {"a":1.5}', "line 2: holds the fraction"),
        (
            b"elsewhere/a 1 " + b"0" * 64,
            "target elsewhere/a: targets version 2 leads no client for it to packages",
        ),
        (b"packages/a/b 1 " + b"0" * 64, "target packages/a/b: targets version 2 leads no client"),
        (target(1, "other").line(), "target packages/p1.tgz: stands among these targets twice, with other content"),
    ],
)
def test_bad_lines_end_in_one_line_and_nothing_counts(binned: Binned, line: bytes, problem: str) -> None:
    binned.update([target(5)])
    index, held = binned.store.index(), binned.held()
    stream = io.BytesIO(target(1).line() + b"\n" + line + b"\n" + target(2).line())
    with pytest.raises(InputError, match=problem) as caught:
        update_bins(binned.workspace, "packages", read_lines(stream, file="lines"), [binned.signers["ci"]], now=NOW)
    assert "\n" not in caught.value.message
    assert (binned.store.index(), binned.held()) == (index, held)


def test_a_last_line_without_an_end_and_paths_beyond_ascii_are_read(binned: Binned) -> None:
    odd = BinTarget(path="packages/größe", length=3, sha256="0" * 64, custom={"b": [1, "ü"], "a": {}})
    stream = io.BytesIO(target(1).line() + b"\n" + odd.line())
    update_bins(binned.workspace, "packages", read_lines(stream, file="lines"), [binned.signers["ci"]], now=NOW)
    binned.online()
    files = collect_files(binned.workspace)
    targets = {
        **files.everything(),
        f"targets/packages/{target(1).sha256}.p1.tgz": b"content 1",
    }
    READERS["python-tuf"](targets, files.roots[0], (target(1).path,), datetime.now(UTC))
    assert binned.held()["packages/größe"]["custom"] == {"a": {}, "b": [1, "ü"]}
    assert binned.update([odd]).bins == 0


def test_a_bin_is_the_canonical_form_throughout(binned: Binned) -> None:
    binned.update([*(target(n) for n in range(20)), BinTarget(path="packages/a!", length=0, sha256="1" * 64)])
    binned.update([BinTarget(path="packages/a", length=0, sha256="1" * 64)])
    index = binned.store.index()
    assert index is not None
    for number in range(8):
        data = binned.store.data(index.file(number))
        assert json.dumps(json.loads(data), sort_keys=True, separators=(",", ":")).encode() == data


def test_a_crash_between_writing_and_committing_counts_nothing(binned: Binned) -> None:
    binned.update([target(1)])
    index = binned.store.index()
    assert index is not None
    number = bin_number(target(2).path.encode(), 3)
    left_over = f"{index.versions[number] + 1}.packages-{number}.json"
    (binned.store.folder / left_over).write_bytes(b'{"half":')
    binned.online()
    assert f"metadata/{left_over}" not in collect_files(binned.workspace).everything()
    assert binned.update([target(2)]).bins == 1
    binned.online()
    assert set(binned.held()) == {target(1).path, target(2).path}


def test_a_changed_bin_on_the_disk_is_never_signed_again(binned: Binned) -> None:
    binned.update([target(1)])
    index = binned.store.index()
    assert index is not None
    number = bin_number(target(1).path.encode(), 3)
    path = binned.store.folder / index.file(number)
    good = path.read_bytes()
    path.write_bytes(good.replace(target(1).sha256.encode(), b"0" * 64))
    with pytest.raises(VerificationError, match=rf"packages-{number}.json: signed by 0 of the 1 keys"):
        binned.update([BinTarget(path=target(1).path, length=1, sha256="2" * 64)])
    path.write_bytes(good)
    assert binned.update([BinTarget(path=target(1).path, length=1, sha256="2" * 64)]).changed == 1


def test_the_wrong_key_signs_no_bins(binned: Binned) -> None:
    before = contents(binned.workspace.root)
    with pytest.raises(ThresholdError, match="bins of packages: packages version 1 asks for 1 of the keys") as caught:
        update_bins(binned.workspace, "packages", in_batches([target(1)]), [binned.signers["alice"]], now=NOW)
    assert caught.value.exit_code == 6
    assert contents(binned.workspace.root) == before


def test_before_the_first_target_online_signs_empty_bins(binned: Binned) -> None:
    made = binned.online()
    assert (made.bins, made.snapshot_is_new) == (8, True)
    files = collect_files(binned.workspace)
    with pytest.raises(VerificationError, match="p1"):
        READERS["python-tuf"](files.everything(), files.roots[0], (target(1).path,), datetime.now(UTC))


def test_a_rotated_key_signs_every_bin_again_with_the_snapshot_that_names_it(binned: Binned) -> None:
    binned.update(target(n) for n in range(20))
    binned.online()
    publish_workspace(binned.workspace, now=NOW)
    new = CryptoSigner.generate_ed25519()
    binned.change(lambda view: rotate_key(view, "ci", new.public_key))
    binned.sign("alice", "bob")
    binned.merge()
    with pytest.raises(ThresholdError, match="bins of packages: packages version 2 asks for"):
        binned.online()
    old, binned.signers["ci"] = binned.signers["ci"], new
    made = sign_online(binned.workspace, [old, new], now=NOW)
    assert made.bins == 8
    assert len(binned.held()) == 20
    publish_workspace(binned.workspace, now=NOW)
    assert binned.online().bins == 0


def test_a_key_that_goes_costs_only_the_bins_that_it_signed(tmp_path: Path) -> None:
    binned = Binned(tmp_path, now=NOW)
    binned.ready()
    binned.delegated(packages(holders=("ci", "npm-team")))
    update_bins(binned.workspace, "packages", in_batches([target(1)]), [binned.signers["npm-team"]], now=NOW)
    binned.update(target(n) for n in (2, 3))
    by_ci = {bin_number(target(n).path.encode(), 3) for n in (2, 3)}
    binned.delegated(packages())
    made = binned.online()
    assert made.bins == 8 - len(by_ci)
    assert set(binned.held()) == {target(n).path for n in (1, 2, 3)}


@pytest.mark.parametrize("bit_length", [4, 5])
def test_another_number_of_bins_keeps_every_target_and_every_listed_role(binned: Binned, bit_length: int) -> None:
    binned.update(target(n) for n in range(40))
    binned.online()
    publish_workspace(binned.workspace, now=NOW)
    held = binned.held()
    binned.delegated(packages(bit_length))
    assert binned.online().bins == 1 << bit_length
    assert binned.held() == held
    publish_workspace(binned.workspace, now=NOW)
    snapshot = binned.workspace.signed().snapshot
    assert snapshot is not None
    listed = {name for name in snapshot.signed.meta if name.startswith("packages-")}
    assert len(listed) == (16 if bit_length == 4 else 32 + 8)  # one digit still, or two: the old names stay listed
    assert binned.update([target(41)]).bins == 1


def test_bins_are_signed_again_before_they_expire(binned: Binned) -> None:
    binned.update([target(1)])
    binned.online()
    binned.now = NOW + timedelta(days=140)
    assert binned.update([target(2)]).bins == 1
    binned.now = NOW + timedelta(days=150)
    renewed = online_over_all(binned)
    assert (renewed.bins, renewed.bins_due) == (0, 0)
    binned.now = NOW + timedelta(days=152)
    assert online_over_all(binned).bins == 7
    assert len(binned.held()) == 2


def test_bins_that_are_due_wait_for_their_key_and_expired_ones_are_said(binned: Binned) -> None:
    binned.update([target(1)])
    delegation, _ = require_bins(binned.workspace, "packages")
    alice = [binned.signers["alice"]]
    assert keep_bins(binned.store, delegation, alice, now=NOW + timedelta(days=150)).due == 0
    assert keep_bins(binned.store, delegation, alice, now=NOW + timedelta(days=152)).due == 8
    with pytest.raises(
        ExpiredError, match=r"bins of packages: 8 have expired, 1\.packages-0\.json among them"
    ) as caught:
        keep_bins(binned.store, delegation, alice, now=NOW + timedelta(days=182))
    assert caught.value.exit_code == 4


def test_a_target_of_a_bin_is_not_changed_by_a_signing_event(binned: Binned) -> None:
    with pytest.raises(InputError, match="belongs to the bins of packages") as caught:
        binned.change(lambda view: add_target(view, "packages/p1.tgz", b"x"))
    assert caught.value.hint == "use kedge-repo bins add packages"


def test_a_role_that_lists_targets_cannot_have_bins(tmp_path: Path) -> None:
    ceremony = Binned(tmp_path, now=NOW)
    ceremony.ready()
    ceremony.delegated(replace(packages(), bins=None))
    ceremony.change(lambda view: add_target(view, "packages/a", b"x"))
    ceremony.sign("alice", "bob")
    ceremony.merge()
    with pytest.raises(InputError, match="packages: lists 1 targets itself, which bins cannot stand beside"):
        ceremony.change(lambda view: plan_delegation(view, packages()))


def test_a_folder_is_hashed_by_several_threads(tmp_path: Path) -> None:
    for number in range(30):
        path = tmp_path / f"d{number % 3}" / f"f{number}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x" * number)
    (tmp_path / ".hidden").write_bytes(b"")
    (tmp_path / "link").symlink_to(tmp_path / "d0" / "f0")
    found = {item.path: item for item in folder_targets(tmp_path, prefix="packages/", threads=4)}
    assert len(found) == 30
    assert found["packages/d1/f7"].sha256 == hashlib.sha256(b"x" * 7).hexdigest()
    assert found["packages/d1/f7"].length == 7
    with pytest.raises(InputError, match="cannot be read: no such file"):
        list(folder_targets(tmp_path / "missing"))


@pytest.mark.parametrize(
    ("targets", "bits"), [(0, 1), (300, 1), (301, 2), (1_000_000, 13), (2_273_539, 14), (10_000_000, 14)]
)
def test_the_number_of_bins_follows_from_the_size(targets: int, bits: int) -> None:
    assert bit_length_for(targets) == bits


def online_over_all(binned: Binned) -> Online:
    """Sign online, with what expires earlier than bins renewed before, so that only the bins are asked about."""
    binned.change(lambda view: plan_renewal(view, ["registry.npmjs.org"]))
    binned.sign("npm-team")
    binned.merge()
    return binned.online()


@pytest.mark.parametrize(
    ("path", "belongs"),
    [
        ("a/x", True),
        ("a/b/c.tgz", True),
        ("a/b/c.json", False),
        ("b/x", False),
        ("first/x", False),
        ("q1", True),
        ("q", False),
    ],
)
@pytest.mark.parametrize("odd", [False, True])
def test_what_belongs_to_a_role_is_what_a_client_asks_it_for(path: str, belongs: bool, odd: bool) -> None:
    first = DelegatedRole("first", [], 1, True, paths=["first/*", "a/b/*.json"])
    own = ["a/*", "a/*/*", "first/*", "q?"] if odd else ["a/*", "a/*/*", "first/*", "q1"]
    second = DelegatedRole("second", [], 1, True, paths=own)
    roles = {"first": first, "second": second}
    targets = Targets(version=1, expires=NOW, delegations=Delegations(keys={}, roles=roles))
    assert (next(iter(targets.delegations.get_roles_for_target(path)), ("",))[0] == "second") == belongs  # type: ignore[union-attr]
    for others in ([], ["a/1", "a/2/3"]):
        batch = [(b"line", other.encode()) for other in [*others, path, *others]]
        if belongs:
            assert list(belonging([batch], targets, "second")) == [batch]
        else:
            with pytest.raises(InputError, match=f"target {path}: targets version 1 leads no client for it to second"):
                list(belonging([batch], targets, "second"))

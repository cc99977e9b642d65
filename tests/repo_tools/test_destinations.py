"""Destinations: a folder, and object stores that really run; what holds for one holds for all.

The stores are versitygw (S3) and Azurite (Azure Blob Storage); Google Cloud Storage has no server that runs here.
"""

from __future__ import annotations

import importlib.util
import shutil
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner

from conftest import Require
from interop.readers import PythonTuf, TufJs
from kedge.client.anchor import Anchor
from kedge.client.client import TrustClient
from kedge.errors import InputError, KedgeError, StoreError
from kedge.transport.mirror import Mirror
from kedge_repo.bins.lines import BinTarget, in_batches
from kedge_repo.bins.update import bin_number, update_bins
from kedge_repo.events.plan import add_target
from kedge_repo.events.plan_keys import rotate_key
from kedge_repo.events.plan_roles import plan_delegation
from kedge_repo.publish.destination import TIMESTAMP_PATH, Destination, Held, Overlay
from kedge_repo.publish.files import collect_files
from kedge_repo.publish.folder import FolderDestination
from kedge_repo.publish.object_store import ObjectStoreDestination
from kedge_repo.publish.online import sign_online
from kedge_repo.publish.publish import Published, publish_to, write_to
from kedge_repo.publish.replay import READERS
from kedge_repo.workspace.metadata import digest
from kedge_repo.workspace.policy import BinsPolicy, Content, DelegationPolicy
from repo_tools.ceremony import NPM, Ceremony
from support import stores
from support.stores import Store

NOW = datetime.now(UTC).replace(microsecond=0)
KEYS = f"{NPM}/keys.json"
CONTENT = {f"packages/p{number}": f"content {number}".encode() for number in range(12)}
STORES = Path(__file__).resolve().parents[2] / ".stores"


@pytest.fixture(scope="module")
def running() -> Iterator[ExitStack]:
    """What keeps stores running until the module's tests are done."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture(scope="module")
def started(running: ExitStack, require: Require, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Store]:
    """``started(name)`` starts a store once."""
    found: dict[str, Store] = {}

    def start(name: str) -> Store:
        if name not in found:
            programs = {"s3": STORES / "versitygw", "azure": STORES / "node_modules/azurite/dist/src/blob/main.js"}
            require(programs[name].is_file(), f"{programs[name].name} is not there: run make stores")
            make = {"s3": stores.versitygw, "azure": stores.azurite}[name]
            found[name] = running.enter_context(make(programs[name], tmp_path_factory.mktemp(name)))
        return found[name]

    return start


NewPlace = Callable[[], Destination]


@pytest.fixture(params=["folder", "s3", "azure"])
def new_place(
    request: pytest.FixtureRequest,
    started: Callable[[str], Store],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    require: Require,
) -> NewPlace:
    """``new_place()`` opens one empty place, each time afresh, as another publisher would."""
    if request.param == "folder":
        return lambda: FolderDestination(folder=tmp_path / "out")
    require(importlib.util.find_spec("obstore"), "obstore is not installed: run make stores")
    store = started(request.param)
    for name, value in {**stores.S3_ENVIRONMENT, **stores.AZURE_ENVIRONMENT}.items():
        monkeypatch.setenv(name, value)
    url = f"{store.url}/{tmp_path.name}"
    return lambda: ObjectStoreDestination(url, options=store.options)


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Ceremony:
    """A repository with npm's keys, and a dozen targets in hash bins whose bytes the workspace publishes."""
    ceremony = Ceremony(tmp_path_factory.mktemp("founded"), now=NOW).ready()
    day = timedelta(days=1)
    expiry, signing = 182 * day, 31 * day
    bins = BinsPolicy(
        name="packages",
        keyholders=("ci",),
        threshold=1,
        expiry=expiry,
        signing=signing,
        bit_length=2,
        content=Content.WORKSPACE,
    )
    policy = DelegationPolicy(
        name="packages",
        keyholders=("alice", "bob"),
        threshold=2,
        paths=("packages/*",),
        terminating=True,
        bins=bins,
        expiry=expiry,
        signing=signing,
    )
    ceremony.change(lambda view: plan_delegation(view, policy))
    ceremony.sign("alice", "bob")
    ceremony.merge()
    put(ceremony, CONTENT)
    ceremony.online()
    return ceremony


@pytest.fixture
def ready(founded: Ceremony, tmp_path: Path) -> Ceremony:
    return twin(founded, tmp_path / "mine")


def twin(ceremony: Ceremony, folder: Path) -> Ceremony:
    """Another machine with the same workspace and the same keys."""
    shutil.copytree(ceremony.folder, folder)
    found = Ceremony(folder, now=ceremony.now)
    found.signers = dict(ceremony.signers)
    return found


def put(ceremony: Ceremony, content: dict[str, bytes]) -> None:
    for path, data in content.items():
        ceremony.workspace.write_target(path, data)
    targets = (BinTarget(path=path, length=len(data), sha256=digest(data)) for path, data in content.items())
    update_bins(ceremony.workspace, "packages", in_batches(targets), [ceremony.signers["ci"]], now=ceremony.now)


def moved_on(ceremony: Ceremony) -> Ceremony:
    """npm's keys changed, a root rotated, and one target in a bin changed."""
    new = CryptoSigner.generate_ed25519()
    ceremony.change(lambda view: rotate_key(view, "carol", new.public_key))
    ceremony.change(lambda view: add_target(view, KEYS, b'{"keys":[]}'))
    ceremony.sign("alice", "bob", "npm-team")
    ceremony.merge()
    ceremony.signers["carol"] = new
    put(ceremony, {"packages/p1": b"changed"})
    ceremony.online()
    return ceremony


def online_key_changed(ceremony: Ceremony) -> Ceremony:
    """The online key, which signs the bins too, was rotated; the old one has signed as well."""
    old, new = ceremony.signers["ci"], CryptoSigner.generate_ed25519()
    ceremony.change(lambda view: rotate_key(view, "ci", new.public_key))
    ceremony.sign("alice", "bob")
    ceremony.merge()
    ceremony.signers["ci"] = new
    sign_online(ceremony.workspace, [old, new], now=ceremony.now)
    return ceremony


def publish(ceremony: Ceremony, place: Destination, *, dry_run: bool = False) -> Published:
    (done,) = publish_to(ceremony.workspace, [place], now=ceremony.now, dry_run=dry_run)
    return done


def everything_at(place: Destination) -> dict[str, bytes]:
    """All files of a place."""
    paths = [
        *place.paths("metadata"),
        *(path for folder in (NPM, "packages") for path in place.paths(f"targets/{folder}")),
    ]
    return {path: held.data for path in paths if (held := place.read(path)) is not None}


def test_what_was_published_is_read_whole_and_once(ready: Ceremony, new_place: NewPlace) -> None:
    done = publish(ready, new_place())
    assert done.written[-1] == TIMESTAMP_PATH
    files = everything_at(new_place())
    assert set(files) == set(done.written)
    for read in READERS.values():
        read(files, files["metadata/1.root.json"], (KEYS, *CONTENT), NOW)
    assert publish(ready, new_place()).written == ()


def test_a_change_writes_what_changed_and_nothing_else(ready: Ceremony, new_place: NewPlace) -> None:
    publish(ready, new_place())
    put(ready, {"packages/p1": b"changed"})
    ready.online()
    planned = publish(ready, new_place(), dry_run=True).written
    assert planned[0] == f"targets/packages/{digest(b'changed')}.p1"
    number = bin_number(b"packages/p1", 2)
    names = [f"2.packages-{number}.json", "3.snapshot.json", "timestamp.json"]
    assert [path.rpartition("/")[2] for path in planned[1:]] == names
    assert new_place().read(planned[0]) is None
    assert publish(ready, new_place()).written == planned


def test_of_two_publishers_exactly_one_wins(ready: Ceremony, new_place: NewPlace, tmp_path: Path) -> None:
    publish(ready, new_place())
    other = twin(ready, tmp_path / "other")
    ready.online()
    sign_online(other.workspace, [other.signers["ci"]], now=NOW + timedelta(minutes=1))
    start = threading.Barrier(2)
    ends: list[KedgeError | Published] = []

    def run(ceremony: Ceremony) -> None:
        files = collect_files(ceremony.workspace)
        start.wait(10)
        try:
            ends.append(write_to(new_place(), files, now=NOW))
        except KedgeError as error:
            ends.append(error)

    threads = [threading.Thread(target=run, args=(ceremony,)) for ceremony in (ready, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    (lost,) = [end for end in ends if isinstance(end, InputError)]
    (won,) = [end for end in ends if isinstance(end, Published)]
    assert "somebody else has published" in lost.message
    assert lost.hint is not None
    assert "publish again" in lost.hint
    files = everything_at(new_place())
    assert won.written == (TIMESTAMP_PATH,)
    for read in READERS.values():
        read(files, files["metadata/1.root.json"], (KEYS, *CONTENT), NOW)


class KilledError(BaseException):
    """The publisher's end, as a kill is: nothing catches it."""


@dataclass
class Fragile:
    """A destination whose publisher is killed once it has written ``left`` files that were not there before."""

    inner: Destination
    left: int

    @property
    def name(self) -> str:
        return self.inner.name

    def place(self, path: str) -> str:
        return self.inner.place(path)

    def exclusive(self) -> AbstractContextManager[None]:
        return self.inner.exclusive()

    def read(self, path: str) -> Held | None:
        return self.inner.read(path)

    def create(self, path: str, data: bytes) -> bool:
        return self.inner.read(path) is None and self._alive() and self.inner.create(path, data)

    def replace(self, path: str, data: bytes, former: Held | None) -> bool:
        return self._alive() and self.inner.replace(path, data, former)

    def paths(self, folder: str) -> Iterator[str]:
        return self.inner.paths(folder)

    def remove(self, paths: Iterable[str]) -> None:
        self.inner.remove(paths)

    def _alive(self) -> bool:
        self.left -= 1
        if self.left < 0:
            raise KilledError
        return True


@pytest.mark.parametrize("change", [moved_on, online_key_changed])
def test_a_publisher_that_is_killed_between_any_two_writes_leaves_a_whole_state(
    ready: Ceremony, new_place: NewPlace, change: Callable[[Ceremony], Ceremony]
) -> None:
    publish(ready, new_place())
    known = collect_files(ready.workspace).roots
    files = collect_files(change(ready).workspace)
    planned = publish(ready, new_place(), dry_run=True).written
    for path in planned[:-1]:
        with pytest.raises(KilledError):
            write_to(Fragile(new_place(), left=1), files, now=NOW)
        state = everything_at(new_place())
        assert path in state
        for root in known:
            for read in READERS.values():
                read(state, root, (KEYS, *CONTENT), NOW)
    assert write_to(Fragile(new_place(), left=1), files, now=NOW).written == planned[-1:]
    assert publish(ready, new_place()).written == ()


def test_a_place_that_somebody_else_wrote_to_is_left_alone(ready: Ceremony, new_place: NewPlace) -> None:
    publish(ready, new_place())
    place = new_place()
    held = place.read(TIMESTAMP_PATH)
    assert held is not None
    assert place.replace(TIMESTAMP_PATH, b"not ours", held)
    ready.online()
    before = everything_at(new_place())
    with pytest.raises(InputError, match=r"metadata/timestamp\.json: .*JSON") as caught:
        publish(ready, new_place())
    assert caught.value.hint == "what is there is no timestamp: look who wrote it"
    assert everything_at(new_place()) == before


def test_files_are_served_with_their_type_and_how_long_they_last(
    ready: Ceremony, started: Callable[[str], Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = started("azure")
    for name, value in stores.AZURE_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    publish(ready, ObjectStoreDestination(f"{store.url}/{tmp_path.name}", options=store.options))
    base = f"{store.options['endpoint']}/container/kedge/{tmp_path.name}"
    for path, lasts in ((TIMESTAMP_PATH, "no-cache"), ("metadata/1.root.json", "public, max-age=31536000, immutable")):
        with urllib.request.urlopen(f"{base}/{path}", timeout=10) as answer:
            assert answer.headers["Content-Type"] == "application/json"
            assert answer.headers["Cache-Control"] == lasts
    read_over_http(ready, base, tmp_path)


def test_what_an_s3_store_holds_is_read_through_nginx(
    ready: Ceremony, started: Callable[[str], Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, require: Require
) -> None:
    require(shutil.which("nginx") or Path("/usr/sbin/nginx").exists(), "nginx is not installed")
    store = started("s3")
    for name, value in stores.S3_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    publish(ready, ObjectStoreDestination(f"{store.url}/{tmp_path.name}", options=store.options))
    with stores.nginx(store.folder / tmp_path.name, tmp_path / "nginx") as url:
        read_over_http(ready, url, tmp_path)
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"{url}/metadata/2.root.json", timeout=10)
        assert (caught.value.code, caught.value.headers["Cache-Control"]) == (404, "no-store")
        caught.value.close()


def test_tuf_js_reads_what_a_store_serves(
    ready: Ceremony, started: Callable[[str], Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, peers: Path
) -> None:
    store = started("azure")
    for name, value in stores.AZURE_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    publish(ready, ObjectStoreDestination(f"{store.url}/{tmp_path.name}", options=store.options))
    base = f"{store.options['endpoint']}/container/kedge/{tmp_path.name}"
    found = TufJs(tmp_path / "tuf-js", collect_files(ready.workspace).roots[0], peers).read(base, [KEYS, *CONTENT])
    assert {path: found.targets[path] for path in CONTENT} == CONTENT


def read_over_http(ready: Ceremony, url: str, folder: Path) -> None:
    """kedge and python-tuf read from ``url``, from the first root to a target of each kind."""
    root = collect_files(ready.workspace).roots[0]
    anchor = Anchor(name="example", initial_root=root, mirrors=(Mirror(url=url),))
    with TrustClient(anchor, state=folder / "state") as client:
        assert client.refresh().timestamp.version == collect_files(ready.workspace).timestamp_version
        for path in ("packages/p1", "packages/p7"):
            assert client.target(path).data == CONTENT[path]
    found = PythonTuf(folder / "python-tuf", root).read(url, [KEYS, *CONTENT])
    assert {path: found.targets[path] for path in CONTENT} == CONTENT


@pytest.mark.parametrize(
    ("without", "problem"),
    [
        ("If-None-Match", "the store puts a file where one is already, although told not to"),
        ("If-Match", "the store does not compare before it swaps"),
    ],
)
def test_a_store_without_conditional_writes_is_refused_before_anything_is_written(
    ready: Ceremony, monkeypatch: pytest.MonkeyPatch, require: Require, without: str, problem: str
) -> None:
    require(importlib.util.find_spec("obstore"), "obstore is not installed: run make stores")
    for name, value in stores.S3_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    with stores.careless_s3(without) as (endpoint, objects):
        place = ObjectStoreDestination("s3://bucket/kedge", options={"endpoint": endpoint, "region": "us-east-1"})
        with pytest.raises(InputError, match=problem) as caught:
            publish(ready, place)
    assert caught.value.hint is not None
    assert "use a store that has them" in caught.value.hint
    assert objects == {}


@pytest.mark.parametrize(
    ("url", "environment", "problem", "code"),
    [
        ("s3://missing/x", {}, "s3://missing/x: there is no such bucket", 1),
        ("s3://bucket/x", {"AWS_SECRET_ACCESS_KEY": "wrong"}, "the store refuses access", 1),
        ("s3://bucket/x", {"endpoint": "http://127.0.0.1:9"}, "s3://bucket/x/metadata/", 1),
    ],
)
def test_a_store_that_cannot_be_used_is_one_line(
    ready: Ceremony,
    started: Callable[[str], Store],
    monkeypatch: pytest.MonkeyPatch,
    url: str,
    environment: dict[str, str],
    problem: str,
    code: int,
) -> None:
    store = started("s3")
    for name, value in {**stores.S3_ENVIRONMENT, **environment}.items():
        monkeypatch.setenv(name, value)
    options = {**store.options, **({"endpoint": environment["endpoint"]} if "endpoint" in environment else {})}
    with pytest.raises(StoreError, match=problem) as caught:
        publish(ready, ObjectStoreDestination(url, options=options, retry_timeout=timedelta(seconds=1)))
    assert caught.value.exit_code == code
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 500
    assert stores.S3_ENVIRONMENT["AWS_SECRET_ACCESS_KEY"] not in caught.value.message


def test_a_url_that_is_none_is_said(require: Require) -> None:
    require(importlib.util.find_spec("obstore"), "obstore is not installed: run make stores")
    for url, options in (("s3://", {}), ("s3://bucket", {"colour": "red"}), ("ftp://x", {})):
        with pytest.raises(InputError, match="is no destination"):
            ObjectStoreDestination(url, options=options)


def test_without_credentials_it_says_so_and_not_what_the_library_tried(require: Require) -> None:
    require(importlib.util.find_spec("obstore"), "obstore is not installed: run make stores")
    place = ObjectStoreDestination("s3://bucket/x", options={"region": "eu-central-1"})
    tried = place._errors.GenericError("Error performing PUT http://169.254.169.254/latest/api/token in 7ms")
    with pytest.raises(StoreError, match="s3://bucket/x: there are no credentials") as caught, place._blame("a"):
        raise tried
    assert "169.254" not in caught.value.message


def test_an_overlay_shows_what_is_above_first(tmp_path: Path) -> None:
    place = FolderDestination(folder=tmp_path)
    place.create("metadata/a.json", b"below")
    place.create("metadata/b.json", b"below")
    files = Overlay(place, {"metadata/a.json": b"above"})
    assert dict(files) == {"metadata/a.json": b"above", "metadata/b.json": b"below"}
    assert files.get("metadata/c.json") is None

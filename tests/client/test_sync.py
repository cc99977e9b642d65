"""``kedge mirror sync`` as a library: a whole copy, which is consistent for whoever reads it at whatever moment."""

from __future__ import annotations

import http.client
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from threading import Event, Lock, Thread

import pytest

from kedge.client.client import TrustClient
from kedge.errors import FetchError, InputError, KedgeError, StoreError, VerificationError
from kedge.mirror.folder import RECORD, MirrorFolder, MirrorRecord
from kedge.mirror.serve import LoopbackServer
from kedge.mirror.sync import Copied, Layout, Options, copy_repository
from kedge.transport.mirror import Mirror
from kedge.transport.open import open_mirror
from kedge.tuf.walk import every_role, every_target
from support.server import Exchange, HostileServer, bytes_of, hang_up, slow_headers, status
from support.world import KEYS, World


class Copying:
    """A repository, a server that may misbehave in front of its targets, and a copy in ``folder``."""

    def __init__(self, path: Path, world: World, server: HostileServer) -> None:
        self.path = path
        self.world = world
        self.repo = world.repo
        self.server = server
        self.folder = MirrorFolder(path / "copy")
        self._clients = 0

    def sync(self, *, folder: MirrorFolder | None = None, **options: object) -> Copied:
        chosen = Options(**{"layout": Layout(), "jobs": 4, **options})  # type: ignore[arg-type] # any of its fields
        with self.world.client() as client, closing(open_mirror(Mirror(url=self.server.url))) as source:
            return copy_repository(client, [source], folder or self.folder, chosen, now=self.world.clock.now())

    def files(self) -> dict[str, bytes]:
        return {path: (self.folder.root / path).read_bytes() for path in self.folder.files()}

    def read(self, *, state: str | None = None, path: str = KEYS) -> bytes:
        """What a client gets from the copy: a new one, unless it has a state already."""
        self._clients += 1
        transport = open_mirror(Mirror(url=str(self.folder.root)))
        folder = self.path / (state or f"client {self._clients}")
        with TrustClient(
            self.world.anchor(), state=folder, transport=transport, clock=self.world.clock, require_refresh=True
        ) as client:
            return client.target(path).data


@pytest.fixture
def copying(tmp_path: Path) -> Iterator[Copying]:
    world = World(tmp_path / "state")
    with HostileServer(world.repo) as server:
        yield Copying(tmp_path, world, server)


def test_a_copy_holds_all_roots_all_metadata_and_all_targets(copying: Copying) -> None:
    repo = copying.repo
    repo.rotate("root", keys=3, threshold=2)
    repo.add_target("deep/er/file.bin", bytes(300_000))
    repo.publish()
    copied = copying.sync()
    newest = {repo.path_of(role) for role in ("timestamp", "snapshot", "targets", "registry.example")}
    kept_too = f"metadata/{repo.timestamp.version}.timestamp.json"
    roots = {"metadata/1.root.json", "metadata/2.root.json"}
    targets = {path for path in repo.files if path.startswith("targets/")}
    found = copying.files()
    assert set(found) == {*newest, *roots, *targets, kept_too}
    assert found.pop(kept_too) == repo.files["metadata/timestamp.json"]
    assert all(repo.files[path] == data for path, data in found.items())
    assert (copied.targets, copied.fetched.files, copied.fetched.bytes) == (2, 2, 300_008)
    assert copying.read(path="deep/er/file.bin") == bytes(300_000)


def test_what_is_there_is_not_fetched_again(copying: Copying) -> None:
    copying.sync()
    copying.server.requests.clear()
    assert copying.sync().fetched.files == 0
    assert copying.server.paths == []
    copying.repo.add_target("new.json", b"new")
    copying.world.tomorrow(hours=1)
    assert copying.sync().fetched.files == 1
    assert copying.read(path="new.json") == b"new"


class Meeting:
    """Requests that are answered once two of them are under way at once, or after half a minute without."""

    def __init__(self) -> None:
        self.happened = Event()
        self._lock = Lock()
        self._under_way = 0

    def answer(self, exchange: Exchange) -> None:
        with self._lock:
            self._under_way += 1
            if self._under_way > 1:
                self.happened.set()
        self.happened.wait(30)
        with self._lock:
            self._under_way -= 1
        exchange.send_honestly()


def test_roles_that_are_not_held_are_asked_for_ahead_of_their_turn(copying: Copying) -> None:
    copying.repo.delegate_bins(bit_length=4)
    for number in range(40):
        copying.repo.add_target(f"{number}.json", b"1", role=copying.repo.bin_of(f"{number}.json"))
    copying.repo.publish()
    transport = open_mirror(Mirror(url=copying.server.url))
    meeting = Meeting()
    for digit in range(16):
        copying.server.misbehave(f"metadata/1.bins-{digit:x}.json", meeting.answer)
    with copying.world.client(transport) as client:
        assert len(list(every_target(client.follow(every_role)))) == 40
    assert meeting.happened.is_set(), "sixteen answers are not waited for one by one"
    copying.server.requests.clear()
    with copying.world.client(transport) as client:
        client.follow(every_role)
    assert not [path for path in copying.server.paths if "bins" in path], "what is held is not asked for"


def test_only_the_targets_that_are_wanted_are_copied(copying: Copying) -> None:
    copying.repo.add_target("other.json", b"1")
    copying.repo.publish()
    copying.sync(wanted=lambda listed: listed.role == "registry.example")
    assert copying.read() == b"the keys"
    assert not [path for path in copying.files() if path.endswith("other.json")]


def test_a_run_that_was_cut_off_is_taken_up_and_leaves_the_former_copy_whole(copying: Copying) -> None:
    copying.sync()
    for number in range(12):
        copying.repo.add_target(f"{number}.json", b"%d" % number)
    copying.world.tomorrow(hours=1)
    last = copying.repo.path_of_target("11.json", b"11")
    copying.server.misbehave(last, status(404))
    with pytest.raises(FetchError, match=r"11\.json: is not there"):
        copying.sync()
    assert copying.read() == b"the keys"
    (copying.folder.root / "targets" / ".kedge-partial-abc").write_bytes(b"half of it")
    there = len([path for path in copying.files() if path.startswith("targets/") and "partial" not in path])
    assert there > 1
    copying.server.behave()
    assert copying.sync().fetched.files == 13 - there
    assert not [path for path in copying.files() if "partial" in path]
    assert copying.read(path="11.json") == b"11"


def test_a_body_that_breaks_off_is_fetched_again_from_its_beginning(copying: Copying) -> None:
    path = copying.repo.path_of_target(KEYS, b"the keys")
    copying.server.misbehave(path, hang_up(), once=True)
    copying.sync()
    assert copying.read() == b"the keys"


@pytest.mark.parametrize("content", [b"The keys", b"the key", b"the keys and more"])
def test_a_target_that_was_not_signed_never_gets_its_name(copying: Copying, content: bytes) -> None:
    path = copying.repo.path_of_target(KEYS, b"the keys")
    copying.server.misbehave(path, bytes_of(content))
    with pytest.raises(VerificationError, match=r"served by http://"):
        copying.sync()
    assert not [found for found in copying.files() if found.startswith(("targets/", "metadata/timestamp"))]
    copying.server.behave()
    copying.sync()
    assert copying.read() == b"the keys"


def test_what_was_there_when_a_run_was_cut_off_is_read_again(copying: Copying) -> None:
    copying.sync()
    copying.repo.add_target("new.json", b"1")
    copying.world.tomorrow(hours=1)
    copying.server.misbehave(copying.repo.path_of_target("new.json", b"1"), status(404))
    with pytest.raises(FetchError):
        copying.sync()
    # The power failed: what had its name already never reached the disk.
    (path,) = (copying.folder.root / "targets" / "registry.example").iterdir()
    path.write_bytes(bytes(path.stat().st_size))
    copying.server.behave()
    assert copying.sync().fetched.files == 2
    assert copying.read() == b"the keys"
    assert copying.sync().fetched.files == 0


def test_the_next_mirror_stands_in_for_one_that_lies(copying: Copying) -> None:
    path = copying.repo.path_of_target(KEYS, b"the keys")
    copying.server.misbehave(path, bytes_of(b"The keys"))
    with (
        HostileServer(copying.repo) as honest,
        closing(open_mirror(Mirror(url=copying.server.url))) as first,
        closing(open_mirror(Mirror(url=honest.url))) as second,
        copying.world.client() as client,
    ):
        copy_repository(
            client, [first, second], copying.folder, Options(layout=Layout()), now=copying.world.clock.now()
        )
    assert copying.read() == b"the keys"


def test_a_damaged_target_is_found_and_fetched_anew_where_that_is_asked_for(copying: Copying) -> None:
    copying.sync()
    (path,) = (copying.folder.root / "targets" / "registry.example").iterdir()
    path.write_bytes(b"THE KEYS")
    assert copying.sync().fetched.files == 0
    assert copying.sync(rehash=True).fetched.files == 1
    assert copying.read() == b"the keys"


class Watched(MirrorFolder):
    """A copy that lets somebody read it after each file that appears."""

    def __init__(self, root: Path, look: Callable[[], object]) -> None:
        super().__init__(root)
        self._look = look
        self.looks = 0

    def write(self, path: str, data: bytes) -> bool:
        written = super().write(path, data)
        self._look()
        self.looks += 1
        return written


def rotate_an_online_key(copying: Copying) -> None:
    copying.repo.rotate("timestamp")


def rotate_the_snapshots_key(copying: Copying) -> None:
    copying.repo.rotate("snapshot")


def rotate_the_targets_key(copying: Copying) -> None:
    copying.repo.rotate("targets")


def rotate_the_root(copying: Copying) -> None:
    copying.repo.rotate("root", keys=3, threshold=2)


def change_a_target(copying: Copying) -> None:
    copying.repo.add_target(KEYS, b"other keys", role="registry.example")


@pytest.mark.parametrize(
    "change",
    [change_a_target, rotate_the_root, rotate_an_online_key, rotate_the_snapshots_key, rotate_the_targets_key],
)
def test_whoever_reads_at_whatever_moment_finds_one_whole_repository(
    copying: Copying, change: Callable[[Copying], None]
) -> None:
    copying.sync()
    copying.read(state="old client")
    change(copying)
    copying.world.tomorrow(hours=1)
    seen = set()

    def look() -> None:
        seen.add(copying.read())
        seen.add(copying.read(state="old client"))

    copying.sync(folder=Watched(copying.folder.root, look))
    look()
    assert seen <= {b"the keys", b"other keys"}
    assert copying.read() == (b"other keys" if change is change_a_target else b"the keys")


def test_names_that_change_their_content_are_exchanged_as_a_whole(copying: Copying) -> None:
    with copying.repo.edit("root") as root:
        root.consistent_snapshot = False
    for role in ("targets", "registry.example"):
        with copying.repo.edit(role):
            pass
    copying.repo.add_target(KEYS, b"the keys", role="registry.example")
    copying.world.tomorrow(hours=1)
    copying.sync()
    inode = copying.folder.root.stat().st_ino
    copying.repo.add_target(KEYS, b"new keys", role="registry.example")
    copying.world.tomorrow(hours=1)
    copying.sync()
    assert copying.read() == b"new keys"
    assert copying.folder.root.stat().st_ino != inode
    assert [path.name for path in copying.path.iterdir() if path.name.startswith(".copy")] == []


def test_what_left_the_copy_stays_for_ever_or_for_as_long_as_the_user_says(copying: Copying) -> None:
    copying.sync()
    old = copying.repo.path_of_target(KEYS, b"the keys")
    copying.repo.add_target(KEYS, b"other keys", role="registry.example")
    copying.world.tomorrow(hours=1)
    assert copying.sync().cleared == ()
    assert old in copying.files()
    copying.world.tomorrow()
    assert copying.sync(keep=timedelta(days=2)).cleared == ()
    copying.world.tomorrow(days=2)
    cleared = copying.sync(keep=timedelta(days=2)).cleared
    assert old in cleared
    assert "metadata/2.snapshot.json" in cleared
    assert copying.read() == b"other keys"
    assert "metadata/1.root.json" in copying.files()


def test_what_leaves_the_copy_stays_for_one_run_at_least(copying: Copying) -> None:
    copying.sync()
    copying.world.tomorrow(hours=1)
    assert copying.sync(keep=timedelta(0)).cleared == ()
    assert copying.sync(keep=timedelta(0)).cleared != ()


def test_roots_before_the_anchors_are_copied_where_they_lead_to_it(copying: Copying) -> None:
    for _ in range(3):
        copying.repo.rotate("root", keys=3, threshold=2)
    copying.world.repo.initial_root = copying.repo.files["metadata/3.root.json"]
    assert copying.sync().first_root == 1
    (copying.folder.root / "metadata/1.root.json").unlink()
    copying.server.misbehave("metadata/1.root.json", bytes_of(copying.repo.files["metadata/2.root.json"]))
    assert copying.sync().first_root == 2


def test_a_folder_that_holds_something_else_is_left_alone(copying: Copying) -> None:
    copying.folder.root.mkdir()
    (copying.folder.root / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="holds files already"):
        copying.sync()
    assert sorted(path.name for path in copying.folder.root.iterdir()) == [".kedge-mirror.lock", "thesis.txt"]


def test_a_copy_of_another_repository_is_left_alone(copying: Copying, tmp_path: Path) -> None:
    copying.sync()
    before = copying.files()
    world = World(tmp_path / "other state")
    with HostileServer(world.repo) as server:
        other = Copying(tmp_path / "other", world, server)
        with pytest.raises(InputError, match="is a copy of another repository"):
            other.sync(folder=copying.folder)
    assert copying.files() == before


def test_a_copy_whose_record_is_damaged_is_left_alone(copying: Copying) -> None:
    copying.sync()
    (copying.folder.root / RECORD).write_text("{}")
    with pytest.raises(InputError, match=r"\.kedge-mirror\.json: format: is missing"):
        copying.sync()


def test_two_runs_on_one_folder_do_not_meet(copying: Copying) -> None:
    with copying.folder.writing(), pytest.raises(StoreError, match="is held by another process"):  # noqa: SIM117
        with copying.folder.writing(timeout_s=0.1):
            pass


def test_a_disk_that_refuses_is_said_and_the_copy_stays_whole(copying: Copying) -> None:
    copying.sync()
    copying.repo.add_target("blocked/file.json", b"1")
    copying.world.tomorrow(hours=1)
    (copying.folder.root / "targets" / "blocked").write_text("a file where a folder must be")
    with pytest.raises(StoreError, match=r"cannot be written: file exists"):
        copying.sync()
    assert copying.read() == b"the keys"


def test_a_record_says_since_when_files_are_out_of_date(copying: Copying) -> None:
    copying.sync()
    copying.world.tomorrow(hours=1)
    copying.sync()
    record = MirrorRecord.from_bytes((copying.folder.root / RECORD).read_bytes())
    assert record.superseded["metadata/2.snapshot.json"] == copying.world.clock.now()


def test_a_copy_is_served_on_the_loopback_with_404_for_what_is_missing_and_only_that(copying: Copying) -> None:
    copying.sync()
    with LoopbackServer(copying.folder.root) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            answers = {
                path: ask(server, path)
                for path in (
                    "/metadata/timestamp.json",
                    "/metadata/9.root.json",
                    "/metadata",
                    "/",
                    f"/{RECORD}",
                    "/../state/state.json",
                    "/metadata/%2e%2e/%2e%2e/state/state.json",
                    "/metadata/..%2f..%2fstate%2fstate.json",
                    "//etc/passwd",
                    "/metadata/%00",
                )
            }
            assert ask(server, "/metadata/timestamp.json", "HEAD") == (200, b"")
            with TrustClient(
                copying.world.anchor(),
                state=copying.path / "over http",
                transport=open_mirror(Mirror(url=server.url)),
                clock=copying.world.clock,
            ) as client:
                assert client.target(KEYS).data == b"the keys"
            with pytest.raises(StoreError, match="cannot be listened on"):
                LoopbackServer(copying.folder.root, server.server_port)
        finally:
            server.shutdown()
    assert answers.pop("/metadata/timestamp.json") == (200, copying.repo.files["metadata/timestamp.json"])
    assert set(answers.values()) == {(404, b"")}


def ask(server: LoopbackServer, path: str, method: str = "GET") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    with closing(connection):
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.read()


def test_a_link_in_a_copy_is_not_followed(copying: Copying, tmp_path: Path) -> None:
    copying.sync()
    (tmp_path / "secret").write_text("secret")
    (copying.folder.root / "link").symlink_to(tmp_path / "secret")
    with LoopbackServer(copying.folder.root) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        assert ask(server, "/link") == (404, b"")
        server.shutdown()


def test_a_source_that_sends_its_headers_without_end_ends_the_run(copying: Copying) -> None:
    copying.server.misbehave(copying.repo.path_of_target(KEYS, b"the keys"), slow_headers(5))
    with pytest.raises(KedgeError, match="no complete answer within"):
        copying.sync(file_s=0.3)
    copying.server.behave()
    copying.sync()
    assert copying.read() == b"the keys"

"""``kedge verify go`` as a process: its answer, its exit status, and its memory from one run to the next."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from architecture import schemas
from cli.shell import Done, Shell
from support.server import HostileServer
from support.simulator import RepositorySimulator
from support.sumdb import GoWorld, LogKey, new_key

NAME = "sum.example"
KEY = new_key(NAME, bytes(32))


@dataclass(frozen=True, slots=True, kw_only=True)
class GoUser:
    """A user with an anchor that speaks for a checksum database, and a project with a go.sum."""

    shell: Shell
    repo: RepositorySimulator
    folder: Path
    world: GoWorld
    server: HostileServer

    def publish(self, *keys: LogKey) -> None:
        document = "".join(f"{key.vkey} {self.server.url}/sumdb\n" for key in keys)
        self.repo.add_target(f"go/{NAME}/vkey", document.encode())
        self.repo.publish()
        self.repo.write(self.folder)

    def verify(self, *more: str, **environment: str) -> Done:
        return self.shell.run("verify", "go", self.project, "--registry", f"go/{NAME}", *more, **environment)

    @property
    def project(self) -> Path:
        return self.folder.parent / "project"


@pytest.fixture
def user(tmp_path: Path, shell: Shell) -> Iterator[GoUser]:
    world = GoWorld(NAME, [KEY])
    world.fill(300)
    world.add("example.com/a", "v1.0.0", {"a.go": b"package a\n"})
    world.record("example.com/later", "v1.0.0", ["example.com/later v1.0.0 h1:x"])
    world.publish()
    with HostileServer(world.files) as server:
        repo = RepositorySimulator(now=datetime(2098, 1, 1, tzinfo=UTC))
        made = GoUser(shell=shell, repo=repo, folder=tmp_path / "repo", world=world, server=server)
        made.publish(KEY)
        (tmp_path / "root.json").write_bytes(repo.initial_root)
        shell.names["<url>"] = server.url
        added = ("--root", tmp_path / "root.json", "--mirror", made.folder, "--registry", f"go/{NAME}")
        assert shell.run("anchor", "add", "repo", *added).code == 0
        made.project.mkdir()
        (made.project / "go.sum").write_text("".join(f"{line}\n" for line in world.sums[:2]))
        yield made


def test_lines_are_verified_and_the_answer_says_by_what(user: GoUser) -> None:
    done = user.verify(COLUMNS="200")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"{user.project}/go.sum: 2 of 2 lines verified\n  verified  2\n")
    assert f"  signed by    {KEY.id}\n" in done.out
    assert "  seen before  nothing: this is the first tree head here\n" in done.out
    again = user.verify(COLUMNS="200")
    assert "  seen before  302 records, root hash" in again.out


def test_the_answer_as_json_fits_its_schema_whatever_it_says(user: GoUser) -> None:
    user.shell.names.clear()
    good = json.loads(user.verify("--json").out)
    assert schemas.faults("checklist", good) == []
    assert (good["verified_count"], good["exit_code"], good["kind"]) == (2, 0, "go")
    (user.project / "go.sum").write_text("example.com/b v1.0.0 h1:x\n" + f"{user.world.sums[0]}\n")
    done = user.verify("--json")
    bad = json.loads(done.out)
    assert schemas.faults("checklist", bad) == []
    assert (done.code, bad["counts"]) == (5, {"verified": 1, "not-found": 1})


def test_a_mirror_that_goes_back_is_noticed_by_the_next_run_and_the_heads_are_kept(user: GoUser) -> None:
    assert user.verify().code == 0
    user.world.cut(301)
    user.world.publish()
    done = user.verify()
    assert (done.code, done.out) == (3, "")
    assert "rollback of the checksum database to 301 records; 302 were seen before" in done.err
    kept = list((user.shell.state / "repo" / "evidence").iterdir())
    assert len(kept) == 2
    assert all(path.read_bytes().startswith(b"go.sum database tree\n") for path in kept)
    assert all(str(path) in done.err for path in kept)
    user.world.record("example.com/other", "v1.0.0", ["example.com/other v1.0.0 h1:x"])
    user.world.publish()
    forked = user.verify()
    assert (forked.code, "the checksum database tells two stories" in forked.err) == (3, True)


def test_a_key_that_the_keyholders_did_not_sign_for_is_refused_whatever_the_mirror_says(user: GoUser) -> None:
    user.world.keys = [new_key(NAME)]
    user.world.publish()
    done = user.verify()
    assert (done.code, "is not signed by sum.example" in done.err) == (3, True)
    user.world.keys = [KEY]
    user.world.publish()
    assert user.verify().code == 0


def test_private_modules_are_left_out_as_the_go_command_leaves_them_out(user: GoUser) -> None:
    with (user.project / "go.sum").open("a") as sums:
        sums.write("git.corp.example/x v1.0.0 h1:abc\n")
    assert user.verify().code == 5
    done = user.verify(GOPRIVATE="git.corp.example/*")
    assert (done.code, "skipped   1" in done.out, "left out by  GOPRIVATE" in done.out) == (0, True, True)
    assert "git.corp.example" not in "".join(user.server.paths[-3:])


def test_wrong_files_end_in_one_line(user: GoUser) -> None:
    (user.project / "go.sum").write_text("nonsense\n")
    done = user.verify()
    assert (done.code, done.err) == (
        2,
        f"kedge: {user.project}/go.sum: line 1: must be a module's path, its version and a hash such as h1:base64\n",
    )
    (user.project / "go.sum").unlink()
    assert user.verify().code == 2
    (user.project / "go.sum").write_text("")
    done = user.verify()
    assert (done.code, done.out.splitlines()[0]) == (0, f"{user.project}/go.sum: no lines, nothing to verify")

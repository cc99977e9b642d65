"""The log through the commands: `kedge-repo log` and `publish` with HTTP witnesses, `kedge history` and `monitor`."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
from witness_log import WitnessService

from architecture import schemas
from cli.shell import Shell
from kedge_repo.events.plan import add_target
from kedge_repo.signing.signers.keyfile import Algorithm, KeyProtection, new_key
from repo_tools.ceremony import NPM, Ceremony
from support.witness import serving

ORIGIN = "example.com/keys"
OTHER_KEYS = (
    b'{"keys":[{"keyId":"k","keyUsage":"npm:signatures","publicKey":{"rawBytes":"eA==","keyDetails":"FUTURE"}}]}'
)


class Site:
    """A repository whose policy names a log, two witnesses over HTTP, and a user's machine."""

    def __init__(self, folder: Path, serve: Callable[[Callable[[bytes], tuple[int, bytes]]], str]) -> None:
        self.folder = folder
        self.ceremony = Ceremony(folder).ready()
        self.down: set[str] = set()
        self.witnesses = {
            name: WitnessService.new(f"witness.example/{name}", bytes([number]) * 32)
            for number, name in enumerate(("north", "south"), start=1)
        }
        self.urls = {name: serve(partial(self._answer, name)) for name in self.witnesses}
        (folder / "user").mkdir()
        self.user = Shell(folder=folder / "user")
        self._add_log()

    def repo(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-W", "error", "-m", "kedge_repo", *arguments]
        done = subprocess.run(command, cwd=self.ceremony.workspace.root, capture_output=True, text=True, timeout=60)
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def change(self, path: str, data: bytes, *names: str) -> None:
        self.ceremony.change(lambda view: add_target(view, path, data))
        self.ceremony.sign(*names)
        self.ceremony.merge()
        self.ceremony.online()

    def _answer(self, name: str, body: bytes) -> tuple[int, bytes]:
        if name in self.down:
            return 422, b""
        code, text = self.witnesses[name].handle_add_checkpoint(body.decode(), int(time.time()))
        return code, text.encode()

    def _add_log(self) -> None:
        workspace = self.ceremony.workspace
        protection = KeyProtection.UNENCRYPTED_KEY_FILE_ALLOWED
        public = new_key(self.folder / "log.pem", Algorithm.ED25519, None, protection=protection)
        (workspace.root / "keys" / "log.pub").write_bytes(public.read_bytes())
        holder = '[keyholders.log]\npublic = "keys/log.pub"\nlocation = "file:../log.pem"\n'
        wish = f'\n[log]\norigin = "{ORIGIN}"\nkeyholder = "log"\n'
        workspace.write_policy(workspace.policy_text().replace("[roles.root]", f"{holder}\n[roles.root]", 1) + wish)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(tmp_path, lambda answer: stack.enter_context(serving(answer)))


def test_a_log_is_begun_witnessed_required_read_and_watched(site: Site) -> None:
    key = site.repo("log", "key").stdout.strip()
    for service in site.witnesses.values():
        service.add_log(ORIGIN, key)
    witnesses = [f"{name} {service.vkey()} {site.urls[name]}" for name, service in site.witnesses.items()]
    options = [option for text in witnesses for option in ("--witness", text)]
    made = site.repo("log", "policy", *options, "--quorum", "2")
    assert made.returncode == 0, made.stderr
    site.change("tlog/policy", made.stdout.encode(), "alice", "bob")

    published = site.repo("publish", "--allow-unencrypted-key-file")
    assert published.returncode == 0, published.stderr
    assert f"the log {ORIGIN} is witnessed at size 9" in published.stderr

    user, public = site.user, site.folder / "public"
    root = public / "metadata" / "1.root.json"
    added = user.run("anchor", "add", "example", "--root", root, "--mirror", public, "--transparency", "require")
    assert added.code == 0, added.err
    shown = user.run("keys", "show", NPM, "--anchor", "example")
    assert shown.code == 0, shown.err
    assert f"{ORIGIN}, 9 entries, witnessed" in user.run("status", "--anchor", "example").out

    told = user.run("history", "--from-log", "--registry", NPM, "--anchor", "example", "--json")
    assert told.code == 0, told.err
    document = json.loads(told.out)
    assert schemas.faults("log-history", document) == []
    assert [event["event"] for event in document["events"]] == ["added"] * 4
    assert f"{ORIGIN}: all 9 entries" in user.run("history", "--from-log", "--anchor", "example").out

    watched = user.run("monitor", "--anchor", "example")
    assert watched.code == 0, watched.err
    lines = [json.loads(line) for line in watched.out.splitlines()]
    assert [schemas.faults("monitor", line) for line in lines] == [[]] * len(lines)
    expected = site.folder / "expect.toml"
    expected.write_text(f'format = "kedge.expect/1"\n[registries."{NPM}"]\nkeys = ["SHA256:only-this"]\n')
    unexpected = user.run("monitor", "--anchor", "example", "--expect", expected)
    assert unexpected.code == 5
    assert {json.loads(line)["sight"] for line in unexpected.out.splitlines()} == {
        "current",
        "unexpected-key",
        "missing-key",
    }

    site.down.add("south")
    site.change(f"{NPM}/keys.json", OTHER_KEYS, "npm-team")
    missed = site.repo("publish", "--allow-unencrypted-key-file", "--accept-lint-errors")
    assert missed.returncode == 6
    assert "of the witnesses, north signed it" in missed.stderr
    assert "witness south: says that the log does not continue" in missed.stderr
    assert "SHA256:DhQ8" in user.run("keys", "show", NPM, "--anchor", "example").out
    site.down.clear()
    assert site.repo("publish", "--allow-unencrypted-key-file", "--accept-lint-errors").returncode == 0
    assert "SHA256:DhQ8" not in user.run("keys", "show", NPM, "--anchor", "example").out


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nonsense", "is not TOML"),
        ('format = "kedge.expect/2"\n', "this kedge reads version 1 only"),
        ('format = "kedge.expect/1"\nkeys = []\n', "keys: is not a field"),
    ],
)
def test_a_file_of_expectations_that_cannot_be_read_is_one_line(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "expect.toml").write_text(text)
    done = Shell(folder=tmp_path).run("monitor", "--expect", tmp_path / "expect.toml")
    assert done.code == 2
    assert words in done.err
    assert done.out == ""

"""The command line as processes: exit code, stdout and stderr, and nothing written on bad input."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from kedge.errors import extra_hint
from repo_tools.ceremony import NPM, contents
from repo_tools.machine import Machine, Result, unwrapped

PEOPLE = ("alice", "bob", "carol", "npm-team", "ci")


@dataclass(frozen=True)
class Shell:
    """Runs ``kedge-repo`` in a folder; secrets go through a pipe on descriptor 0."""

    folder: Path

    def run(self, line: str, *, secret: str = "") -> Result:
        return Machine(self.folder).run(*line.split(), secret=secret)

    def ok(self, line: str, *, secret: str = "") -> Result:
        result = self.run(line, secret=secret)
        assert result.code == 0, result.err
        return result


INIT = (
    "init ws --name example --keyholder alice=alice.pem.pub --keyholder bob=bob.pem.pub "
    "--keyholder carol=carol.pem.pub --root-threshold 2 --targets-threshold 2 "
    "--online ci=ci.pem.pub --location ci=file:../ci.pem "
    f"--delegate-key npm-team=npm-team.pem.pub --delegate {NPM}=npm-team --registry {NPM} --publish-to ../public"
)


NEW = INIT.replace("init ws", "init new")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everyone's keys are there, and the first ceremony is open."""
    folder = tmp_path_factory.mktemp("template") / "shell"
    folder.mkdir()
    shell = Shell(folder)
    for name in PEOPLE:
        kind = " --algorithm ecdsa-p256" if name == "bob" else ""
        assert shell.ok(f"key new {name}.pem --passphrase-fd 0{kind}", secret=f"{name}\n").out == f"{name}.pem.pub\n"
    assert shell.ok(INIT).out == "ws\n"
    return folder


@pytest.fixture
def shell(template: Path, tmp_path: Path) -> Shell:
    shutil.copytree(template, tmp_path / "shell")
    return Shell(tmp_path / "shell")


def test_a_whole_ceremony_a_change_and_a_rotation(shell: Shell) -> None:
    exported = shell.ok("event export -w ws --out r.json")
    assert exported.out == "r.json\n"
    code = exported.err.strip().removeprefix("request code: ")
    assert re.fullmatch(r"([0-9A-HJKMNP-TV-Z]{4}-){6}[0-9A-HJKMNP-TV-Z]{4}", code)

    for name in ("alice", "bob"):
        line = f"sign r.json --first-ceremony --key file:{name}.pem --passphrase-fd 0 --yes --out {name}.json"
        signed = shell.ok(line, secret=name)
        assert signed.out == f"{name}.json\n"
        assert f"request code: {code}" in signed.err.splitlines()
        imported = shell.ok(f"event import -w ws {name}.json")
        assert imported.out == f"root: signed by {name}\ntargets: signed by {name}\n"

    refused = shell.run("event merge -w ws")
    assert (refused.code, refused.out) == (6, "")
    assert refused.err == (
        f"kedge-repo: event first-ceremony: more signatures are needed: {NPM} version 1 has 0 of 1 that "
        "targets version 1 asks for, missing: npm-team\n"
        "hint: hand the missing keyholders the request that kedge-repo event export writes\n"
    )
    last = shell.ok("sign -w ws --key file:npm-team.pem --passphrase-fd 0 --yes", secret="npm-team")
    assert last.out == f"{NPM}: signed by npm-team\n"
    assert "has all its signatures: merge it" in last.err
    assert shell.ok("event merge -w ws").out == f"root version 1\ntargets version 1\n{NPM} version 1\n"
    online = shell.ok("online -w ws --passphrase-fd 0", secret="ci")
    assert online.out.startswith("snapshot version 1 (new)\ntimestamp version 1, valid until ")
    published = shell.ok("publish -w ws")
    assert published.out.endswith("/public/metadata/timestamp.json\n")
    assert (shell.folder / "public/metadata/1.root.json").exists()

    document = json.loads((shell.folder / f"ws/targets/{NPM}/keys.json").read_bytes())
    (shell.folder / "new.json").write_text(json.dumps({"keys": document["keys"][2:]}))
    added = shell.ok(f"target add {NPM}/keys.json new.json -w ws --reason rehearsal")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d-npm-keys\n", added.out)
    shell.ok("key new carol-2.pem --passphrase-fd 0", secret="carol-2")
    rotated = shell.ok("key rotate carol carol-2.pem.pub -w ws")
    assert rotated.out == added.out
    stopped = shell.run("event export -w ws --out r2.json")
    assert (stopped.code, stopped.out) == (5, "")
    assert "is no longer there for npm:signatures" in stopped.err
    assert not (shell.folder / "r2.json").exists()
    shell.ok("event export -w ws --out r2.json --accept-lint-errors")
    for name in ("alice", "carol-2", "carol", "npm-team"):
        given = f"--root public/metadata/1.root.json --key file:{name}.pem --passphrase-fd 0 --accept-lint-errors"
        line = f"sign r2.json {given} --yes -o {name}.json"
        said = unwrapped(shell.ok(line, secret=name).err)
        assert "replaces target registry.npmjs.org/keys.json: " in said
        assert "removes key SHA256:jl3bwswu80PjjokCgh0o2w5c2U4LhQAE57gj9cz1kzA for npm:signatures" in said
    shell.ok("event import -w ws alice.json carol-2.json carol.json npm-team.json")
    shell.ok("event merge -w ws")
    shell.ok("online -w ws --passphrase-fd 0", secret="ci")
    assert shell.run("publish -w ws").code == 5
    assert not (shell.folder / "public/metadata/2.root.json").exists()
    assert "from every root" in shell.ok("publish -w ws --accept-lint-errors").err
    status = json.loads(shell.ok("status -w ws --json").out)
    assert {role["role"]: role["version"] for role in status["roles"]} == {
        "root": 2,
        "targets": 1,
        NPM: 2,
        "snapshot": 2,
        "timestamp": 2,
    }
    assert status["events"] == []


def test_the_status_of_an_event_as_text_and_json(shell: Shell) -> None:
    shell.ok("sign -w ws --key file:carol.pem --passphrase-fd 0 --yes", secret="carol")
    text = shell.ok("event status -w ws").out
    assert (
        "root version 1\n  1 of 2 that root version 1 asks for\n    signed:  carol\n    missing: alice, bob\n" in text
    )
    value = json.loads(shell.ok("event status -w ws --json").out)
    assert value["format"] == "kedge.event-status/1"
    assert value["due"] is False
    assert value["roles"][0]["groups"] == [
        {
            "asked_by": "root version 1",
            "threshold": 2,
            "have": ["carol"],
            "missing": ["alice", "bob"],
            "need": 1,
        }
    ]


def test_keys_are_listed_with_their_roles(shell: Shell) -> None:
    lines = shell.ok("key list -w ws").out.splitlines()
    assert [line.split()[0] for line in lines] == list(PEOPLE)
    assert re.fullmatch(r"bob +ECDSA P-256 +[0-9a-f]{16} +root, targets", lines[1])
    value = json.loads(shell.ok("key list -w ws --json").out)
    assert value["format"] == "kedge.key-list/1"
    assert [key["location"] for key in value["keys"]] == [None, None, None, None, "file:../ci.pem"]


def test_what_a_terminal_would_act_on_is_escaped(shell: Shell) -> None:
    path = shell.folder / "ws/events/first-ceremony/event.json"
    path.write_text(path.read_text().replace('"first ceremony"', '"done \\u001b[2J\\nall signatures are here"'))
    assert "reason: done \\x1b[2J\\nall signatures are here\n" in shell.ok("event status -w ws").out
    assert shell.run("status -w no\x1b[2Jwhere").err.startswith("kedge-repo: no\\x1b[2Jwhere/kedge-repo.toml: ")


def test_the_event_is_shown_before_it_is_thrown_away(shell: Shell) -> None:
    shell.ok("sign -w ws --key file:alice.pem --passphrase-fd 0 --yes", secret="alice")
    kept = shell.run("event cancel -w ws")
    assert (kept.code, kept.err) == (
        2,
        "kedge-repo: event first-ceremony: would be lost, with 2 signatures\nhint: say so with --yes\n",
    )
    assert shell.ok("event cancel -w ws --yes").out == "first-ceremony\n"
    assert shell.run("event status -w ws").err.startswith("kedge-repo: no signing event is open\n")


BAD = [
    ("status", 2, "neither this folder nor one above it holds a kedge-repo.toml"),
    ("status -w nowhere", 2, "nowhere/kedge-repo.toml: there is no such file, expected a policy (kedge.policy/1)"),
    ("target add a.txt nowhere -w ws", 2, "nowhere: there is no such target"),
    ("target add ../a alice.pem.pub -w ws", 2, 'the target path "../a" must be relative'),
    ("target add a.txt bad.json --custom bad.json -w ws", 2, "bad.json: is not JSON"),
    ("target remove a.txt -w ws", 2, "target a.txt: targets version 1 has no such target"),
    ("key rotate alice bad.json -w ws", 2, "bad.json: must be a public key in PEM"),
    ("key rotate alice alice.pem -w ws", 2, "alice.pem: holds a private key, expected a public key in PEM"),
    ("key new alice.pem --passphrase-fd 0", 2, "alice.pem: is there already"),
    ("event import bad.json -w ws", 2, "bad.json: is not JSON"),
    ("event import -w ws", 2, "name responses, or one signature with --raw FILE --role ROLE --keyid ID"),
    ("event import --raw bad.json -w ws", 2, "--raw FILE goes with --role and --keyid"),
    ("event import --raw bad.json --role root --keyid 00 -w ws", 2, "bad.json: the key 00 has no say in root"),
    ("event new autumn --reason x -w ws", 2, "metadata/1.root.json: is missing"),
    ("event review --sample bad.json -w ws", 2, "bad.json: is not a packument"),
    ("key add -w ws", 2, "key add: name the keyholder, or with --registry the file of the key"),
    ("key add dave -w ws", 2, 'there is no keyholder "dave"'),
    ("key add dave alice.pem.pub --from 2026-01-01 -w ws", 2, "key: --from does not go without --registry"),
    (f"key add alice.pem.pub --registry {NPM} --role root -w ws", 2, "key: --role does not go with --registry"),
    (f"key add alice.pem.pub --registry {NPM} --from soon -w ws", 2, "--from soon: must be a time such as 2025-01-27"),
    (f"key revoke SHA256:x --registry {NPM} -w ws", 2, 'has no key "SHA256:x"; it has SHA256:jl3b'),
    ("key revoke ci -w ws", 2, "without ci, snapshot would have 0 keyholders and a threshold of 1"),
    ("key public nowhere:x", 2, "nowhere:x: is not a key location that this kedge-repo opens"),
    ("role set root -w ws", 2, "role set: say what: --threshold, --expiry-days or --signing-days"),
    ("role set root --threshold 4 -w ws", 2, "roles.root.threshold: must be at most 3"),
    ("renew snapshot -w ws", 2, "snapshot: is signed by online keys"),
    ("delegate hex.example -w ws", 2, "delegate hex.example: say who signs it, with --keyholder NAME"),
    ("delegate hex.example --keyholder dave -w ws", 2, '"dave" is not described under keyholders'),
    ("event import list.json -w ws", 2, "list.json: must be a table, not a list"),
    ("event status --event other -w ws", 2, 'there is no open event "other"'),
    ("sign bad.json --first-ceremony --key file:alice.pem --yes", 2, "bad.json: is not JSON"),
    ("sign bad.json --key file:alice.pem --yes", 2, "a request needs a root that you trust: --root FILE"),
    ("sign -w ws --key file:nowhere.pem --yes", 2, "nowhere.pem: there is no such key file"),
    ("sign -w ws --key file:alice.pem --passphrase-fd 0 --yes", 2, "alice.pem: the passphrase is wrong"),
    ("sign -w ws --key file:ci.pem --passphrase-fd 0", 2, "there is no terminal to ask on"),
    ("sign -w ws --yes", 2, "say which key with --key URI, or --as NAME"),
    ("online -w ws --passphrase-fd 0", 2, "ci.pem: the passphrase is wrong"),
    ("publish -w ws", 2, "metadata/timestamp.json: is missing"),
    (INIT, 2, "ws/kedge-repo.toml: is there already"),
    (
        INIT.replace("ws", "new").replace("alice=alice.pem.pub", "alice=nowhere"),
        2,
        "nowhere: there is no such public key",
    ),
    (INIT.replace("ws", "new").replace("alice=alice.pem.pub", "alice"), 2, "--keyholder alice: must be NAME=FILE.pub"),
    (INIT.replace("ws", "new").replace("-threshold 2", "-threshold 9"), 2, "roles.root.threshold: must be at most 3"),
    (f"{INIT.replace('ws', 'new')} --registry nowhere", 2, 'the catalogue has no registry "nowhere"'),
]


@pytest.mark.parametrize(("line", "code", "problem"), BAD, ids=[f"{bad[0][:30]}: {bad[2][:40]}" for bad in BAD])
def test_bad_input_is_one_line_and_writes_nothing(shell: Shell, line: str, code: int, problem: str) -> None:
    (shell.folder / "bad.json").write_text("{")
    (shell.folder / "list.json").write_text("[]")
    before = contents(shell.folder)
    result = shell.run(line, secret="wrong\n")
    assert (result.code, result.out) == (code, "")
    said = [text for text in result.err.splitlines() if text.startswith("kedge-repo: ")]
    assert len(said) == 1
    assert problem in said[0]
    assert contents(shell.folder) == before


def test_a_target_path_that_no_ecosystem_reads_is_added_with_a_warning_that_names_the_nearest(shell: Shell) -> None:
    (shell.folder / "new").write_bytes(b"bytes")
    odd = shell.ok("target add apt/debain/archive-keyrnig.gpg new -w ws").err
    assert "warning: target apt/debain/archive-keyrnig.gpg: no ecosystem that kedge knows reads this path\n" in odd
    assert "hint: the nearest that one reads is apt/debian/archive-keyring.gpg\n" in odd
    slip = shell.ok("target add apt/debain/archive-keyring.gpg new -w ws").err
    assert "the catalogue has apt/debian/archive-keyring.gpg; make sure" in slip
    assert "warning" not in slip
    right = shell.ok("target add apt/debian/archive-keyring.gpg new -w ws").err
    assert not re.search(r"(?m)^(warning|note|hint): ", right), right
    assert "nearest" not in shell.ok("target add a.txt new -w ws").err


def test_a_request_for_another_repository_is_refused_with_exit_3(shell: Shell) -> None:
    shell.ok("event export -w ws --out r.json")
    shell.ok(INIT.replace("init ws", "init other"))
    for name in ("alice", "bob", "npm-team"):
        shell.ok(f"sign -w other --key file:{name}.pem --passphrase-fd 0 --yes", secret=name)
    shell.ok("event merge -w other")
    line = "sign r.json --root other/metadata/1.root.json --key file:alice.pem --passphrase-fd 0 --yes -o out.json"
    result = shell.run(line, secret="alice")
    assert (result.code, result.out) == (3, "")
    assert "r.json: is based on root version 0, older than version 1 in other/metadata/1.root.json" in result.err
    assert not (shell.folder / "out.json").exists()


def test_interrupted_while_it_waits_for_a_passphrase_it_leaves_nothing(shell: Shell) -> None:
    shell.ok("event export -w ws --out r.json")
    before = contents(shell.folder)
    command = "sign r.json --first-ceremony --key file:alice.pem --passphrase-fd 0 --yes -o out.json"
    process = subprocess.Popen(
        [sys.executable, "-m", "kedge_repo", *command.split()],
        cwd=shell.folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("request code"):
            break
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, "")
    assert contents(shell.folder) == before


def test_help_says_what_there_is(shell: Shell) -> None:
    top = shell.ok("")
    assert top.out == shell.ok("-h").out
    for verb in ("init", "status", "sign", "online", "publish", "target", "key", "event"):
        assert f"\n  {verb} " in top.out
        assert shell.ok(f"{verb} -h").out.startswith("Usage: kedge-repo")
    assert shell.ok("--version").out.startswith("kedge-repo 0.")
    wrong = shell.run("nothing")
    assert (wrong.code, wrong.out) == (2, "")


def test_without_the_extra_it_says_how_to_get_it(tmp_path: Path) -> None:
    code = "import sys; sys.modules['typer'] = None; from kedge_repo.__main__ import main; sys.exit(main())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"kedge-repo: the command line is not installed\nhint: {extra_hint('cli')}\n"


@pytest.mark.parametrize(("secret", "warned"), [("short", True), ("elevenchars", True), ("twelve chars", False)])
def test_a_short_passphrase_is_warned_of(shell: Shell, secret: str, warned: bool) -> None:
    said = shell.ok("key new short.pem --passphrase-fd 0", secret=f"{secret}\n").err
    assert ("fewer than 12 characters" in said) is warned

"""A ceremony and a rotation by people who share nothing but the files that they hand over.

Root and targets are 2 of 3: alice has a key file, bob a token, carol an SSH agent. npm's team signs with openssl, on a
machine without kedge. Each has a folder of their own; what python-tuf reads at the end is what they signed.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata, Root, Targets
from tuf.ngclient import Updater
from tuf.ngclient.config import UpdaterConfig

from conftest import Require
from kedge_repo.publish.replay import MemoryFetcher
from repo_tools.ceremony import NPM, contents
from repo_tools.conftest import PIN, SshAgent, Token
from repo_tools.machine import Machine, unwrapped

OPENSSL_ED25519 = "openssl pkeyutl -sign -rawin -inkey npm-team.pem -in {payload} -out npm-team.sig"
OPENSSL_ECDSA = "openssl dgst -sha256 -sign npm-team-2.pem -out npm-team-2.sig {payload}"


@pytest.fixture
def people(tmp_path: Path, token: Token, ssh_agent: SshAgent, require: Require) -> dict[str, Machine]:
    require(shutil.which("openssl"), "openssl is not installed")
    env = {
        "bob": {"SOFTHSM2_CONF": str(token.configuration)},
        "carol": ssh_agent.env,
    }
    away = {"SSH_AUTH_SOCK": "", "SOFTHSM2_CONF": "/nowhere"}
    names = ("maintainers", "alice", "bob", "carol", "npm-team")
    for name in names:
        (tmp_path / name).mkdir()
    return {name: Machine(tmp_path / name, {**away, **env.get(name, {})}) for name in names}


def hand(file: str, giver: Machine, *takers: Machine) -> None:
    for taker in takers:
        shutil.copy(giver.folder / file, taker.folder / file)


def test_two_of_three_with_a_file_a_token_and_an_agent_and_one_openssl(
    people: dict[str, Machine], token: Token, ssh_agent: SshAgent
) -> None:
    maintainers, alice, bob, carol, npm = (
        people[name] for name in ("maintainers", "alice", "bob", "carol", "npm-team")
    )

    # Keys: everybody makes one where it stays, and hands over the public half.
    alice.ok("key", "new", "alice.pem", "--passphrase-fd", 0, secret="alice's\n")
    shutil.copy(alice.folder / "alice.pem.pub", maintainers.folder / "alice.pub")
    pem = bob.ok("key", "public", token.uri("p256"), "--passphrase-fd", 0, secret=token.pin).out
    (maintainers.folder / "bob.pub").write_text(pem)
    shutil.copy(ssh_agent.add("carol"), maintainers.folder / "carol.pub")
    made = npm.shell(
        "openssl genpkey -algorithm ed25519 -out npm-team.pem; openssl pkey -in npm-team.pem -pubout -out npm-team.pub"
    )
    assert made.code == 0, made.err
    hand("npm-team.pub", npm, maintainers)
    maintainers.ok("key", "new", "ci.pem", "--passphrase-fd", 0, secret="ci\n")

    # The ceremony.
    holders = [f"--keyholder={name}={name}.pub" for name in ("alice", "bob", "carol")]
    maintainers.ok(
        "init", "ws", "--name", "example", *holders, "--root-threshold", 2, "--targets-threshold", 2,
        "--online", "ci=ci.pem.pub", "--location", "ci=file:../ci.pem", "--delegate-key", "npm-team=npm-team.pub",
        "--delegate", f"{NPM}=npm-team", "--registry", NPM, "--publish-to", "../public",
    )  # fmt: skip
    maintainers.ok("event", "export", "-w", "ws", "-o", "one.json")
    hand("one.json", maintainers, alice, bob, npm)
    signed = ("sign", "one.json", "--first-ceremony", "--passphrase-fd", 0, "--yes", "-o", "answer.json", "--key")
    said = [
        alice.ok(*signed, "file:alice.pem", secret="alice's\n"),
        bob.ok(*signed, token.uri("p256"), secret=token.pin),
    ]
    codes = {re.search(r"request code: (\S+)", result.err)[1] for result in said}  # type: ignore[index] # it is there
    assert len(codes) == 1
    for name in ("alice", "bob"):
        shutil.copy(people[name].folder / "answer.json", maintainers.folder / f"{name}.json")
    imported = maintainers.ok("event", "import", "-w", "ws", "alice.json", "bob.json")
    assert (
        imported.out == "root: signed by alice\ntargets: signed by alice\nroot: signed by bob\ntargets: signed by bob\n"
    )

    # npm's team looks at the request and signs its bytes with openssl alone.
    written = npm.ok("sign", "one.json", "--first-ceremony", "--payload-out", "bytes")
    assert f"bytes/1.{NPM}.payload" in written.out.splitlines()
    assert codes == {re.search(r"request code: (\S+)", written.err)[1]}  # type: ignore[index] # it is there
    signing = npm.shell(OPENSSL_ED25519.format(payload=f"bytes/1.{NPM}.payload"))
    assert signing.code == 0, signing.err
    hand("npm-team.sig", npm, maintainers)
    mark = npm.shell("openssl pkey -pubin -in npm-team.pub -outform DER | openssl dgst -sha256 -r").out.split()[0]
    raw = maintainers.ok("event", "import", "-w", "ws", "--raw", "npm-team.sig", "--role", NPM, "--keyid", mark)
    assert raw.out == f"{NPM}: signed by npm-team\n"
    assert "has all its signatures: merge it" in raw.err
    maintainers.ok("event", "merge", "-w", "ws")
    maintainers.ok("online", "-w", "ws", "--passphrase-fd", 0, secret="ci")
    maintainers.ok("publish", "-w", "ws")
    shutil.copy(maintainers.folder / "public/metadata/1.root.json", alice.folder / "my-root.json")
    shutil.copy(maintainers.folder / "public/metadata/1.root.json", carol.folder / "my-root.json")

    # The rotation: bob's token has a new key, npm's team as well (ECDSA now), and npm's keys change too.
    pem = bob.ok("key", "public", token.uri("p256-new"), "--passphrase-fd", 0, secret=token.pin).out
    (maintainers.folder / "bob-2.pub").write_text(pem)
    made = npm.shell(
        "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out npm-team-2.pem;"
        "openssl pkey -in npm-team-2.pem -pubout -out npm-team-2.pub"
    )
    assert made.code == 0, made.err
    hand("npm-team-2.pub", npm, maintainers)
    event = maintainers.ok("event", "new", "autumn", "-w", "ws", "--reason", "bob's new token").out
    assert event == "autumn\n"
    assert maintainers.ok("key", "rotate", "bob", "bob-2.pub", "-w", "ws").out == event
    maintainers.ok("key", "rotate", "npm-team", "npm-team-2.pub", "-w", "ws")
    old = "SHA256:jl3bwswu80PjjokCgh0o2w5c2U4LhQAE57gj9cz1kzA"
    maintainers.ok("key", "revoke", old, "--registry", NPM, "-w", "ws")
    maintainers.ok("event", "export", "-w", "ws", "-o", "two.json")
    hand("two.json", maintainers, alice, carol, npm)
    again = ("sign", "two.json", "--root", "my-root.json", "--yes", "-o", "answer-2.json")
    shown = unwrapped(alice.ok(*again, "--key", "file:alice.pem", "--passphrase-fd", 0, secret="alice's\n").err)
    assert f"revokes key {old}: nothing that it ever signed is accepted any more" in shown
    assert "after this, any 2 of alice:" in shown
    assert carol.ok(*again, "--key", "ssh-agent:carol").out == "answer-2.json\n"
    for name in ("alice", "carol"):
        shutil.copy(people[name].folder / "answer-2.json", maintainers.folder / f"{name}-2.json")
    maintainers.ok("event", "import", "-w", "ws", "alice-2.json", "carol-2.json")
    shutil.copy(maintainers.folder / "public/metadata/1.root.json", npm.folder / "my-root.json")
    npm.ok("sign", "two.json", "--root", "my-root.json", "--payload-out", "bytes")
    signing = npm.shell(OPENSSL_ECDSA.format(payload=f"bytes/2.{NPM}.payload"))
    assert signing.code == 0, signing.err
    hand("npm-team-2.sig", npm, maintainers)
    keys = json.loads(maintainers.ok("event", "review", "-w", "ws", "--json").out)["keys"]
    keyid = next(key["keyid"] for key in keys if key["name"] == "npm-team")
    maintainers.ok("event", "import", "-w", "ws", "--raw", "npm-team-2.sig", "--role", NPM, "--keyid", keyid)
    assert maintainers.ok("event", "merge", "-w", "ws").out == f"root version 2\ntargets version 2\n{NPM} version 2\n"
    maintainers.ok("online", "-w", "ws", "--passphrase-fd", 0, secret="ci")
    maintainers.ok("publish", "-w", "ws")

    read_by_python_tuf(maintainers.folder / "public", alice.folder / "my-root.json", maintainers.folder / "client")
    for machine in people.values():
        assert not any(PIN.encode() in data or b"alice's" in data for data in contents(machine.folder).values())


def read_by_python_tuf(public: Path, root: Path, folder: Path) -> None:
    """Walk from the root that alice has had since the ceremony to npm's keys of today."""
    (folder / "downloads").mkdir(parents=True)
    updater = Updater(
        str(folder),
        "memory://published/metadata/",
        str(folder / "downloads"),
        "memory://published/targets/",
        fetcher=MemoryFetcher(contents(public)),
        bootstrap=root.read_bytes(),
        config=UpdaterConfig(),
    )
    updater.refresh()
    info = updater.get_targetinfo(f"{NPM}/keys.json")
    assert info is not None
    document = json.loads(Path(updater.download_target(info)).read_bytes())
    assert {key["keyId"] for key in document["keys"]} == {"SHA256:DhQ8wR5APBvFHLF/+Tc+AYvPOdTpcIDqOhxsBHRwC7U"}
    assert info.custom == {"kedge": {"v": 1, "revoked": ["SHA256:jl3bwswu80PjjokCgh0o2w5c2U4LhQAE57gj9cz1kzA"]}}
    current: Metadata[Root] = Metadata.from_bytes((public / "metadata/2.root.json").read_bytes())
    assert {key.scheme for key in current.signed.keys.values()} == {"ed25519", "ecdsa-sha2-nistp256"}
    assert len(current.signatures) == 2
    delegated: Metadata[Targets] = Metadata.from_bytes((public / f"metadata/2.{NPM}.json").read_bytes())
    assert [len(signature.signature) > 128 for signature in delegated.signatures.values()] == [True]

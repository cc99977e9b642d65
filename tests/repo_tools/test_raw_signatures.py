"""Signatures that openssl or the tool of an HSM made over the bytes that were written out, with the docs' own lines."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey, MLDSA65PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from securesystemslib.signer import CryptoSigner

from conftest import REPOSITORY, Require
from kedge.errors import InputError, VerificationError
from kedge_repo.events.changes import change
from kedge_repo.events.plan import add_target
from kedge_repo.events.plan_keys import rotate_key
from kedge_repo.events.plan_roles import plan_role
from kedge_repo.events.signatures import RawSignature, event_status, import_raw, own_request
from kedge_repo.workspace.public_key import (
    algorithm,
    fingerprint,
    parse_public_key,
    ssh_fingerprint_of,
    to_pem,
)
from repo_tools.ceremony import NPM, Ceremony, contents
from repo_tools.machine import Machine

HOW_TO = (REPOSITORY / "docs/how-to/sign-offline.md").read_text()


def knows_ml_dsa() -> bool:
    """Whether the openssl here is 3.5 or later."""
    if shutil.which("openssl") is None:
        return False
    said = subprocess.run(["openssl", "version"], capture_output=True, text=True, check=True).stdout
    version = re.match(r"OpenSSL (\d+)\.(\d+)", said)
    return version is not None and (int(version[1]), int(version[2])) >= (3, 5)


def documented(begin: str) -> str:
    """The one line of the how-to that begins so, with its file names."""
    (line,) = re.findall(rf"^({re.escape(begin)}.*?)(?:  +#.*)?$", HOW_TO, re.MULTILINE)
    return str(line)


@pytest.fixture
def openssl(require: Require, tmp_path: Path) -> Machine:
    require(shutil.which("openssl"), "openssl is not installed")
    (tmp_path / "machine/bytes").mkdir(parents=True)
    return Machine(tmp_path / "machine")


@pytest.fixture
def ready(tmp_path: Path) -> Ceremony:
    return Ceremony(tmp_path / "maintainers").ready()


def raw(data: bytes, key: str, role: str = "root") -> RawSignature:
    return RawSignature(file="alice.sig", data=data, role=role, key=key)


def give_alice(ready: Ceremony, machine: Machine, public: Path) -> str:
    """Rotate alice's key to ``public`` and write root's payload where the how-to reads it; gives the fingerprint."""
    key = parse_public_key(public.read_bytes())
    ready.change(lambda view: rotate_key(view, "alice", key))
    payload = next(item for item in own_request(ready.workspace).request.payloads if item.role == "root")
    (machine.folder / "bytes/2.root.payload").write_bytes(payload.data)
    return fingerprint(key)


def signed_by(ready: Ceremony) -> tuple[str, ...]:
    return event_status(ready.workspace).roles[0].groups[1].have


PKEYUTL = "openssl pkeyutl -sign -rawin -inkey alice.pem -in "
LINES: list[tuple[str, tuple[str, ...]]] = [
    ("-algorithm ed25519", (f"{PKEYUTL}bytes/2.root.payload",)),
    ("-algorithm EC -pkeyopt ec_paramgen_curve:P-256", ("openssl dgst -sha256 -sign alice.pem",)),
]
if knows_ml_dsa():
    LINES += [(f"-algorithm ML-DSA-{size}", ("{ printf 'tuf", f"{PKEYUTL}message")) for size in (44, 65)]


@pytest.mark.parametrize(("options", "lines"), LINES)
def test_the_documented_openssl_lines_sign(
    ready: Ceremony, openssl: Machine, options: str, lines: tuple[str, ...]
) -> None:
    made = openssl.shell(f"openssl genpkey {options} -out alice.pem; openssl pkey -in alice.pem -pubout -out alice.pub")
    assert made.code == 0, made.err
    mark = give_alice(ready, openssl, openssl.folder / "alice.pub")
    for line in lines:
        assert openssl.shell(documented(line)).code == 0
    data = (openssl.folder / "alice.sig").read_bytes()
    assert import_raw(ready.workspace, raw(data, mark)).added == (("root", "alice"),)
    assert signed_by(ready) == ("alice",)


@pytest.mark.parametrize("kind", [MLDSA44PrivateKey, MLDSA65PrivateKey])
def test_the_documented_bytes_are_what_ml_dsa_signs(
    ready: Ceremony, openssl: Machine, kind: type[MLDSA44PrivateKey | MLDSA65PrivateKey]
) -> None:
    private = kind.generate()
    signer = CryptoSigner(private)
    (openssl.folder / "alice.pub").write_bytes(to_pem(signer.public_key))
    mark = give_alice(ready, openssl, openssl.folder / "alice.pub")
    assert algorithm(signer.public_key) == kind.__name__.replace("MLDSA", "ML-DSA-").removesuffix("PrivateKey")
    assert ssh_fingerprint_of(signer.public_key) is None
    assert openssl.shell(documented("{ printf 'tuf")).code == 0
    message = (openssl.folder / "message").read_bytes()
    assert len(message) == 68
    assert message.startswith(b"tuf\x01")
    assert import_raw(ready.workspace, raw(private.sign(message), mark)).added == (("root", "alice"),)
    ready.signers["alice-2"] = signer
    ready.sign("bob")
    ready.sign("alice")
    ready.sign("alice-2")
    ready.merge()
    ready.online()


def test_a_pair_of_numbers_is_an_ecdsa_signature_as_well(ready: Ceremony) -> None:
    ready.change(lambda view: add_target(view, "a.txt", b"a"))
    payload = own_request(ready.workspace).request.payloads[0]
    bob = ready.signers["bob"]
    r, s = decode_dss_signature(bytes.fromhex(bob.sign(payload.data).signature))
    pair = r.to_bytes(32, "big") + s.to_bytes(32, "big")
    mark = ssh_fingerprint_of(bob.public_key)
    assert mark is not None
    assert import_raw(ready.workspace, raw(pair, mark, "targets")).added == (("targets", "bob"),)


def test_of_two_roots_a_bare_signature_goes_to_the_one_that_it_signs(ready: Ceremony) -> None:
    ready.change(lambda view: rotate_key(view, "carol", CryptoSigner.generate_ed25519().public_key))
    change(ready.workspace, lambda view: plan_role(view, "root", threshold=3), now=ready.now, on_top=True)
    alice = ready.signers["alice"]
    for payload in own_request(ready.workspace).request.payloads[:2]:
        data = bytes.fromhex(alice.sign(payload.data).signature)
        assert import_raw(ready.workspace, raw(data, alice.public_key.keyid)).added == (("root", "alice"),)
    have = [group.have for role in event_status(ready.workspace).roles for group in role.groups]
    assert have == [("alice",)] * 4


def test_a_bare_signature_that_is_not_right_is_refused(ready: Ceremony) -> None:
    ready.change(lambda view: add_target(view, f"{NPM}/keys.json", b'{"keys":[]}'))
    payload = own_request(ready.workspace).request.payloads[0]
    npm, alice = ready.signers["npm-team"], ready.signers["alice"]
    good, mark = bytes.fromhex(npm.sign(payload.data).signature), fingerprint(npm.public_key)
    before = contents(ready.workspace.root)
    for bad in (
        raw(bytes.fromhex(npm.sign(b"other").signature), mark, NPM),
        raw(b"", mark, NPM),
        raw(good[:-1], mark, NPM),
    ):
        with pytest.raises(VerificationError, match=r"alice\.sig: signature of registry") as caught:
            import_raw(ready.workspace, bad)
        assert caught.value.exit_code == 3
    with pytest.raises(InputError, match="does not change root; it changes registry"):
        import_raw(ready.workspace, raw(good, mark))
    with pytest.raises(InputError, match="has no say in registry"):
        import_raw(ready.workspace, raw(good, fingerprint(alice.public_key), NPM))
    assert contents(ready.workspace.root) == before

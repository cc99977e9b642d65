"""What a page finds on the machine that it is typed on: named in the page as ``<!-- world: NAME -->``."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from securesystemslib.signer import CryptoSigner
from witness_log import WitnessService

from interop.npm_world import Issuer, Package, key_document, packument
from interop.npm_world.project import write_project
from kedge.client.anchor import Anchor, add_anchor
from kedge.transport.mirror import Mirror
from kedge_repo.events.changes import merge_event
from kedge_repo.events.init import Charter, Delegate, found_repository
from kedge_repo.events.signatures import sign_event
from kedge_repo.publish.online import sign_online
from kedge_repo.publish.publish import publish_workspace
from kedge_repo.signing.signers.keyfile import Algorithm, new_key
from kedge_repo.signing.signers.location import open_signer
from kedge_repo.workspace.catalogue import catalogue_entry, catalogue_names
from kedge_repo.workspace.public_key import to_pem
from support.aptrepo import AptRepository
from support.attested import SigstoreInstance, index_of, provenance, publish_statement
from support.gnupg import gnupg
from support.hexrepo import HexRelease, HexRepository, key_entry, package, signed, tarball
from support.packages import PackageRegistry, SigningKey, archive_of, lockfile
from support.pub import PubRegistry
from support.server import HostileServer
from support.simulator import RepositorySimulator
from support.stores import S3_ENVIRONMENT, VERSITYGW, versitygw
from support.tokens import running_agent, softhsm_module
from support.witness import serving

__all__ = ["world_of"]

NPM = "registry.npmjs.org"

World = Callable[[Path, Mapping[str, str]], AbstractContextManager[Mapping[str, str]]]


def world_of(text: str, folder: Path, environment: Mapping[str, str]) -> AbstractContextManager[Mapping[str, str]]:
    """Make the world that a page asks for; what it gives are names of the page and what stands for them here."""
    match = re.search(r"^<!-- world: (\S+) -->$", text, re.MULTILINE)
    return WORLDS[match[1]](folder, environment) if match else nullcontext({})


@contextmanager
def _mirror(folder: Path, environment: Mapping[str, str]) -> Iterator[Mapping[str, str]]:
    """A project with one package, its mirror on the loopback, and an anchor that speaks for npm's registry."""
    npm = Issuer()
    repo = RepositorySimulator(now=datetime(2098, 1, 1, tzinfo=UTC))  # what it signs outlasts every test
    repo.add_target(f"{NPM}/keys.json", key_document(npm))
    repo.publish()
    repo.write(folder.parent / "repository")
    mirror = Mirror(url=str(folder.parent / "repository"))
    anchor = Anchor(name="example", initial_root=repo.initial_root, mirrors=(mirror,), registries=(NPM,))
    add_anchor(anchor, Path(environment["KEDGE_CONFIG_DIR"]))
    files: dict[str, bytes] = {}
    with HostileServer(files) as server:
        package = Package.made("left-pad", "1.3.0", npm)
        files.update(packument(server.url, [package]))
        write_project(folder, {package.name: (package.version, package.integrity)}, registry=server.url)
        yield {"https://npm.corp.example": server.url}


@contextmanager
def _apt(folder: Path, environment: Mapping[str, str]) -> Iterator[Mapping[str, str]]:
    """An archive in a folder, its keyring in a repository, and a command that puts an older state in its place."""
    with gnupg() as gpg:
        archive = AptRepository(folder=folder / "archive", gpg=gpg, architecture="all")
        now = datetime.now(UTC)
        archive.publish("old", date=now - timedelta(days=3))
        older = (archive.suite / "InRelease").read_bytes()
        archive.publish("old", date=now - timedelta(days=1))
        (folder / "keyrings").mkdir()
        _speak_for("apt/example", "archive-keyring.gpg", gpg.public("old"), folder, environment)
        (folder.parent / "older").write_bytes(older)
        replay = f"cp {folder.parent / 'older'} {archive.suite / 'InRelease'}"
        yield {"serve-older-state": replay}


@contextmanager
def _hex(folder: Path, environment: Mapping[str, str]) -> Iterator[Mapping[str, str]]:
    """A project with a mix.lock, a mirror in a folder, and a command that puts an older answer in place."""
    first, second = (HexRelease.of(version, tarball(version)) for version in ("1.0.0", "1.1.0"))
    mirror, older = HexRepository(folder=folder / "mirror"), HexRepository(folder=folder.parent / "older")
    mirror.serve("one", signed(package("one", [first, second], repository="example")))
    older.serve("one", signed(package("one", [first], repository="example")))
    outer = (first.outer or b"").hex()
    line = f'"one": {{:hex, :one, "1.0.0", "{first.inner.hex()}", [:mix], [], "example", "{outer}"}},'
    (folder / "mix.lock").write_text(f"%{{\n  {line}\n}}\n")
    keys = [key_entry("ours", "2016-01-01T00:00:00Z")]
    document = {"format": "kedge.hex-keys/1", "repository": "example", "keys": keys}
    _speak_for("hex/example", "keys.json", json.dumps(document).encode(), folder, environment)
    yield {"serve-older-state": f"cp {older.folder}/packages/one {mirror.folder}/packages/one"}


PASSPHRASE = b"correct horse battery staple"
HAND_IN = """
[delegations."registry.npmjs.org".hand_in]
max_bytes = 100000
max_targets = 4
key_documents_only = true
sub_delegations = false
"""


@contextmanager
def _maintained(folder: Path, environment: Mapping[str, str]) -> Iterator[Mapping[str, str]]:
    """A workspace with npm's keys, published; npm-team, ana and ben may each sign for npm, and carol for nobody yet."""
    del environment
    now = datetime.now(UTC)
    publics = {
        name: new_key(folder / f"{name}.pem", Algorithm.ED25519, PASSPHRASE).read_bytes()
        for name in ("alice", "npm-team", "ana", "ben", "ci", "ci-2", "steward")
    }
    charter = Charter(
        name="example",
        keyholders={"alice": publics["alice"], "bob": to_pem(CryptoSigner.generate_ed25519().public_key)},
        online={"ci": publics["ci"]},
        root_threshold=1,
        targets_threshold=1,
        delegate_keys={name: publics[name] for name in ("npm-team", "ana", "ben")},
        delegates=(Delegate(role=NPM, keyholders=("npm-team", "ana", "ben")),),
        registries=(catalogue_entry(NPM),),
        locations={"ci": "file:ci.pem"},
        destination="public",
    )
    workspace, _ = found_repository(folder, charter, now=now)
    policy = folder / "kedge-repo.toml"
    policy.write_text(policy.read_text().replace("\n[[destination]]", f"{HAND_IN}\n[[destination]]"))
    for name in ("alice", "npm-team"):
        sign_event(workspace, open_signer(f"file:{folder / name}.pem", lambda _: PASSPHRASE))
    merge_event(workspace)
    sign_online(workspace, [open_signer(f"file:{folder / 'ci.pem'}", lambda _: PASSPHRASE)], now=now)
    publish_workspace(workspace, now=now)
    (folder / "root.json").write_bytes((folder / "public/metadata/1.root.json").read_bytes())
    document = json.loads(workspace.target(f"{NPM}/keys.json"))
    (folder / "keys.json").write_text(json.dumps(document, indent=2))
    (folder.parent / "live.json").write_bytes((folder / "keys.json").read_bytes())
    yield {
        "https://keys.example.org": str(folder / "public"),
        "https://registry.npmjs.org/-/npm/v1/keys": str(folder.parent / "live.json"),
    }


def _speak_for(registry: str, file: str, data: bytes, folder: Path, environment: Mapping[str, str]) -> None:
    """Publish a key document, and add an anchor that speaks for its registry."""
    repo = RepositorySimulator(now=datetime(2098, 1, 1, tzinfo=UTC))
    repo.add_target(f"{registry}/{file}", data)
    repo.publish()
    repo.write(folder.parent / "repository")
    mirror = Mirror(url=str(folder.parent / "repository"))
    anchor = Anchor(name="example", initial_root=repo.initial_root, mirrors=(mirror,), registries=(registry,))
    add_anchor(anchor, Path(environment["KEDGE_CONFIG_DIR"]))


@contextmanager
def _provenance(folder: Path, environment: Mapping[str, str]) -> Iterator[Mapping[str, str]]:
    """A registry and an index that attest where things were built, and an anchor that carries the trusted root."""
    key, instance, npm = SigningKey("SHA256:example"), SigstoreInstance(), PackageRegistry()
    entries = [key.entry(usage) for usage in ("npm:signatures", "npm:attestations")]
    repo = RepositorySimulator(now=datetime(2098, 1, 1, tzinfo=UTC))
    repo.add_target(f"{NPM}/keys.json", json.dumps({"keys": entries}).encode())
    repo.add_target("trusted_root.json", instance.trusted_root())
    repo.add_target("signing_config.v0.2.json", b"{}")
    repo.publish()
    repo.write(folder.parent / "repository")
    mirror = Mirror(url=str(folder.parent / "repository"))
    anchor = Anchor(name="example", initial_root=repo.initial_root, mirrors=(mirror,), registries=(NPM, "sigstore"))
    add_anchor(anchor, Path(environment["KEDGE_CONFIG_DIR"]))
    (folder / "package-lock.json").write_bytes(lockfile(("left-pad", "1.3.0")))
    sha512 = hashlib.sha512(archive_of("left-pad", "1.3.0")).hexdigest()
    source, commit = "https://github.com/left/pad", "c0ffee" * 6 + "0000"
    npm.publish("left-pad", "1.3.0", keys=[key])
    built = provenance("left-pad", "1.3.0", sha512, repository=source, commit=commit)
    said = publish_statement("left-pad", "1.3.0", sha512)
    signed = instance.attest_by_key(said, key.keyid, key.private)
    npm.attest("left-pad", "1.3.0", instance.attest(built, repository=source, commit=commit), signed)
    sha256 = hashlib.sha256(b"an sdist").hexdigest()
    (folder / "requirements.txt").write_text(f"sample==1.0 --hash=sha256:{sha256}\n")
    with HostileServer(npm) as registry, HostileServer(index_of("sample", "1.0", sha256, instance)) as index:
        (folder / ".npmrc").write_text(f"registry={registry.url}/\n")
        (Path(environment["KEDGE_CONFIG_DIR"]) / "npm.toml").write_text(
            f'format = "kedge.npm/1"\n[[registry]]\nurl = "{registry.url}/"\nupstream = "{NPM}"\n'
        )
        yield {"https://pypi.example": index.url}


@contextmanager
def _catalogue(folder: Path, environment: Mapping[str, str]) -> Iterator[Mapping[str, str]]:
    """An anchor that speaks for every registry of the catalogue, with the real keys that ship."""
    entries = [catalogue_entry(name) for name in catalogue_names()]
    repo = RepositorySimulator(now=datetime(2098, 1, 1, tzinfo=UTC))
    for entry in entries:
        repo.add_target(entry.target, entry.target_bytes, custom=entry.custom)
    repo.publish()
    repo.write(folder.parent / "repository")
    mirror = Mirror(url=str(folder.parent / "repository"))
    registries = tuple(entry.registry for entry in entries)
    anchor = Anchor(name="example", initial_root=repo.initial_root, mirrors=(mirror,), registries=registries)
    add_anchor(anchor, Path(environment["KEDGE_CONFIG_DIR"]))
    yield {}


@contextmanager
def _pub(folder: Path, environment: Mapping[str, str]) -> Iterator[Mapping[str, str]]:
    """A workspace, a registry's answers, a project, and a mirror that lies about one version."""
    del environment
    publics = {
        name: new_key(folder / f"{name}.pem", Algorithm.ED25519, PASSPHRASE).read_bytes() for name in ("alice", "ci")
    }
    charter = Charter(
        name="example",
        keyholders={"alice": publics["alice"]},
        online={"ci": publics["ci"]},
        root_threshold=1,
        targets_threshold=1,
        locations={"ci": "file:ci.pem"},
        destination="public",
    )
    workspace, _ = found_repository(folder, charter, now=datetime.now(UTC))
    sign_event(workspace, open_signer(f"file:{folder / 'alice.pem'}", lambda _: PASSPHRASE))
    merge_event(workspace)
    (folder / "root.json").write_bytes((folder / "metadata/1.root.json").read_bytes())
    registry, lying = PubRegistry(), PubRegistry()
    for made in (registry, lying):
        made.release("args", "2.4.2", "2.5.0")
        made.release("http", "1.2.0")
    lying.release("args", "2.5.0", archive_sha256="0" * 64)
    for path, data in registry.files.items():
        (folder / "answers" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "answers" / path).write_bytes(data)
    (folder / "pubspec.lock").write_text(registry.lock("args 2.5.0", "http 1.2.0"))
    with HostileServer(lying.files) as server:
        yield {"https://keys.example.org": str(folder / "public"), "https://mirror.example.org": server.url}


@contextmanager
def _fewer_targets(folder: Path, environment: Mapping[str, str]) -> Iterator[Mapping[str, str]]:  # noqa: ARG001 as all
    """A thousand targets stand for a million: the same commands, and some seconds less."""
    yield {"--bins-for 1000000": "--bins-for 1000"}


@contextmanager
def _witnesses(folder: Path, environment: Mapping[str, str]) -> Iterator[Mapping[str, str]]:
    """Three witnesses over HTTP; each learns of the log from the file ``log.vkey`` that the reader gives them."""
    del environment

    def answer(service: WitnessService, body: bytes) -> tuple[int, bytes]:
        service.add_log("example.com/keys", (folder / "log.vkey").read_text().strip())
        code, text = service.handle_add_checkpoint(body.decode(), int(time.time()))
        return code, text.encode()

    with ExitStack() as stack:
        names = {}
        for number, name in enumerate(("north", "south", "west"), start=1):
            service = WitnessService.new(f"{name}.example/witness", bytes([number]) * 32)
            names[f"https://{name}.example"] = stack.enter_context(serving(partial(answer, service)))
            names[f"${name.upper()}_VKEY"] = service.vkey()
        yield {**names, "https://keys.example": str(folder / "public")}


@contextmanager
def _tokens(folder: Path, environment: Mapping[str, str]) -> Iterator[Mapping[str, str]]:
    """A keyholder's OpenSSH key, an agent that does not hold it yet, and SoftHSM's module where this machine has it."""
    del folder
    key = Path(environment["HOME"]) / ".ssh" / "id_ed25519"
    key.parent.mkdir(mode=0o700)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "alice@desk", "-f", key], check=True)
    listed = subprocess.run(["ssh-keygen", "-l", "-f", key], check=True, capture_output=True, text=True).stdout
    with tempfile.TemporaryDirectory() as short, running_agent(Path(short) / "agent"):  # sockets need short paths
        yield {
            "/usr/lib/softhsm/libsofthsm2.so": softhsm_module() or "",
            "SHA256:jl3bwswu80PjjokCgh0o2w5c2U4LhQAE57gj9cz1kzA": listed.split()[1],
            "socket-of-the-agent": f"{short}/agent",
        }


@contextmanager
def _s3(folder: Path, environment: Mapping[str, str]) -> Iterator[Mapping[str, str]]:
    """An S3 store on the loopback, and a web server in front of what it holds."""
    del environment
    held = folder.parent / "store" / "bucket" / "prefix"
    with versitygw(VERSITYGW, folder.parent / "store") as store, HostileServer(held) as server:
        secrets = {f"{name}=…": f"{name}={value}" for name, value in S3_ENVIRONMENT.items()}
        yield {
            **secrets,
            "https://s3.example.org": store.options["endpoint"],
            "eu-central-1": store.options["region"],
            "https://tuf.example.org": server.url,
        }


WORLDS: Mapping[str, World] = {
    "fewer-targets": _fewer_targets,
    "catalogue": _catalogue,
    "apt": _apt,
    "hex": _hex,
    "maintained": _maintained,
    "mirror": _mirror,
    "provenance": _provenance,
    "pub": _pub,
    "s3": _s3,
    "witnesses": _witnesses,
    "tokens": _tokens,
}

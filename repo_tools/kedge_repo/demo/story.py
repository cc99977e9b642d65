"""The story of the demo, in four acts. Every line promises something, does it, and compares.

1. A ceremony: root and targets by two of three, npm's keys in the hands of npm's own keyholders.
2. A client that knows the initial root and nothing else verifies npm's real signature.
3. January 2025: a key set without the new key fails on it; the threshold signs the new key in; the same client, as it
   was installed, verifies.
4. Mirrors that lie. Each lie is refused, and each has its control: the lie ends, and the same client succeeds.

A loopback web server over a published folder, which can be told to lie.

A lie is a function from a path and its honest bytes to what is served instead. While there is none, it is an ordinary
static server.

npm's real signature of pnpm@10.1.0: the first release that every Corepack in the world refused.

On 2025-01-27 npm began to sign with a new key. Corepack had the old one compiled in, and failed with "Cannot find
matching keyid". The signature is public and stands in the reports of that day.

Source: nodejs/corepack#612 and pnpm/pnpm#9014; the integrity is the registry's.

The people of the demo: keyholders with key files of their own, and the maintainer who runs the workspace.

Each keyholder signs in a step of their own: one at the workspace, the others on machines of their own, from the request
file alone. The passphrases are made up on the spot and forgotten.

What the demo has to say, as values: acts, their lines, and whether each line came out as promised.
"""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlsplit

from securesystemslib.signer import Signer
from tuf.api.metadata import Metadata, Root

from kedge.client import Anchor, TrustClient
from kedge.errors import ExitCode, KedgeError, Reason, VerificationError
from kedge.registries import Evidence
from kedge.registries.npm import verify_signature
from kedge.transport import Mirror
from kedge.tuf import describe_age
from kedge_repo.events import (
    Charter,
    Delegate,
    add_target,
    change,
    export_request,
    found_repository,
    import_responses,
    merge_event,
    sign_event,
)
from kedge_repo.publish import READERS, Reader, publish_workspace, read_with_kedge, sign_online
from kedge_repo.signing import (
    Algorithm,
    FirstCeremony,
    Request,
    Response,
    TrustedRoot,
    new_key,
    open_signer,
    sign_request,
    verify_request,
)
from kedge_repo.workspace import CatalogueEntry, Workspace, catalogue_entry

Lie = Callable[[str, bytes | None], bytes | None]
"""Asked with a path and what stands there (None: nothing); gives what is served (None: 404)."""


class LoopbackMirror:
    """Serves ``folder`` on 127.0.0.1, on a port that the system chooses."""

    def __init__(self, folder: Path) -> None:
        """Begin to serve when entered as a context."""
        self._folder = folder
        self._lie: Lie | None = None
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        """The repository's address."""
        return f"http://127.0.0.1:{self._server.server_port}"

    @contextmanager
    def lying(self, lie: Lie) -> Iterator[None]:
        """Tell ``lie`` for as long as the context lasts."""
        self._lie = lie
        try:
            yield
        finally:
            self._lie = None

    def honest(self, path: str) -> bytes | None:
        """The published bytes at ``path``."""
        file = self._folder / path
        return file.read_bytes() if file.is_file() and file.resolve().is_relative_to(self._folder.resolve()) else None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def serve(self, path: str) -> bytes | None:
        """What a request for ``path`` gets: the published bytes, or the lie of the moment."""
        data = self.honest(path)
        return data if self._lie is None else self._lie(path, data)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        mirror = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                data = mirror.serve(unquote(urlsplit(self.path).path).lstrip("/"))
                with suppress(ConnectionError):  # a client that has its answer hangs up on what it asked ahead
                    self.send_response(404 if data is None else 200)
                    self.send_header("Content-Length", str(len(data or b"")))
                    self.end_headers()
                    self.wfile.write(data or b"")

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 the name in the standard library
                pass

        return Handler


REGISTRY = "registry.npmjs.org"

NAME = "pnpm"
VERSION = "10.1.0"
INTEGRITY = "sha512-yJhHsGZ92rUDlru9AIoqQ887WB79Wc9dmqiSPqH7S4EGwEHVQNCKywlQN1lNc+vFHh7InuQMiLMLimbA+uCsGw=="
OLD_KEYID = "SHA256:jl3bwswu80PjjokCgh0o2w5c2U4LhQAE57gj9cz1kzA"
NEW_KEYID = "SHA256:DhQ8wR5APBvFHLF/+Tc+AYvPOdTpcIDqOhxsBHRwC7U"
KEYID = NEW_KEYID
SIGNATURE = "MEUCIQDlkgmNyZjT7KUY8AO6jH7Gs3fyiXG8nbTnuLbd8fOS2AIgXyJ6SaYhumMFzUYQAZPJGhsnlaD5N0X2MZsbG+eS/Xo="


ROOT_HOLDERS = ("alice", "bob", "carol")
NPM_HOLDERS = ("npm-ana", "npm-ben")
ONLINE = "ci"


@dataclass(frozen=True, slots=True)
class Keyholder:
    """Somebody with an encrypted key file in a folder of their own."""

    name: str
    key: Path
    passphrase: bytes

    @property
    def public(self) -> bytes:
        """The public key, PEM: the only thing that is handed over."""
        return self.key.with_name(f"{self.key.name}.pub").read_bytes()

    def signer(self) -> Signer:
        """Open the key file."""
        return open_signer(f"file:{self.key}", lambda _what: self.passphrase)

    def answer(self, request: bytes, trusted_root: bytes | None) -> tuple[str, bytes]:
        """Sign a request file on a machine of one's own; gives the request code that was read, and the response file.

        Raises:
            VerificationError: the request does not follow from the root that this keyholder trusts.
        """
        first = FirstCeremony.NOTHING_IS_SIGNED_YET
        start = first if trusted_root is None else TrustedRoot(data=trusted_root, file="own root")
        verified = verify_request(Request.from_bytes(request), start)
        return verified.code, sign_request(verified, self.signer()).to_bytes()


def make_keys(folder: Path) -> dict[str, Keyholder]:
    """Make everybody's key: Ed25519, and ECDSA P-256 for bob and npm-ben."""
    people: dict[str, Keyholder] = {}
    for name in (*ROOT_HOLDERS, *NPM_HOLDERS, ONLINE):
        key, passphrase = folder / name / "key.pem", secrets.token_bytes(18).hex().encode()
        key.parent.mkdir(parents=True)
        algorithm = Algorithm.ECDSA_P256 if name in ("bob", "npm-ben") else Algorithm.ED25519
        new_key(key, algorithm, passphrase)
        people[name] = Keyholder(name, key, passphrase)
    return people


class Maintainers:
    """The workspace, and whoever signs for it."""

    def __init__(self, people: Mapping[str, Keyholder], folder: Path, published: Path) -> None:
        """Work in ``folder`` and publish to ``published``."""
        self.people = people
        self.published = published
        self._folder = folder
        self._workspace = Workspace(root=folder)

    def found(self, entry: CatalogueEntry, *, now: datetime) -> None:
        """Begin the repository: root and targets 2 of 3, npm's paths in the hands of npm's own keyholders."""
        charter = Charter(
            name="demo",
            keyholders={name: self.people[name].public for name in ROOT_HOLDERS},
            online={ONLINE: self.people[ONLINE].public},
            root_threshold=2,
            targets_threshold=2,
            delegate_keys={name: self.people[name].public for name in NPM_HOLDERS},
            delegates=(Delegate(role=REGISTRY, keyholders=NPM_HOLDERS, threshold=2),),
            registries=(entry,),
        )
        self._workspace, _ = found_repository(self._folder, charter, now=now)

    def change_keys(self, document: bytes, reason: str, *, now: datetime) -> None:
        """Open a signing event that replaces npm's key document."""
        path = f"{REGISTRY}/keys.json"
        change(self._workspace, lambda view: add_target(view, path, document), now=now, reason=reason)

    def sign_here(self, name: str) -> None:
        """Have a keyholder sign at the workspace."""
        sign_event(self._workspace, self.people[name].signer())

    def sign_elsewhere(self, name: str, trusted_root: bytes | None) -> str:
        """Have a keyholder sign from the request file alone; gives the request code that this keyholder reads aloud."""
        request = self.request()
        code, response = self.people[name].answer(request, trusted_root)
        import_responses(self._workspace, [(f"{name}.response.json", Response.from_bytes(response))])
        return code

    def request(self) -> bytes:
        """The request file of the open event."""
        return export_request(self._workspace).to_bytes()

    def merge(self) -> None:
        """Take the open event into the signed metadata.

        Raises:
            ThresholdError: signatures are missing.
        """
        merge_event(self._workspace)

    def publish(self, *, now: datetime, readers: Mapping[str, Reader] = READERS) -> int:
        """Sign snapshot and timestamp, and publish once ``readers`` accept it; gives the timestamp's version."""
        online = sign_online(self._workspace, [self.people[ONLINE].signer()], now=now)
        publish_workspace(self._workspace, self.published, now=now, readers=readers)
        return online.timestamp


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One promise, whether it was kept, and what a user would have read."""

    promise: str
    kept: bool
    said: tuple[str, ...] = ()


@dataclass(slots=True)
class Act:
    """A part of the story."""

    title: str
    lines: list[Line] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Report:
    """The whole story."""

    acts: tuple[Act, ...]
    repository: str | None

    @property
    def kept(self) -> bool:
        """Whether every line came out as promised, and there was one."""
        return all(line.kept for line in self.lines()) and any(True for _ in self.lines())

    def lines(self) -> Iterator[Line]:
        """Every line of every act."""
        for act in self.acts:
            yield from act.lines

    def to_table(self) -> dict[str, Any]:
        """The ``kedge.demo/1`` object of ``--json``."""
        return {
            "format": "kedge.demo/1",
            "kept": self.kept,
            "acts": [
                {
                    "title": act.title,
                    "lines": [
                        {"promise": line.promise, "kept": line.kept, "said": list(line.said)} for line in act.lines
                    ],
                }
                for act in self.acts
            ],
            "repository": self.repository,
        }


def as_user_sees(program: str, error: KedgeError) -> tuple[str, ...]:
    """An error as the command prints it, with its exit code."""
    hint = (f"hint: {error.hint}",) if error.hint else ()
    return (f"{program}: {error.message}", *hint, f"exit code {int(error.exit_code)}")


RELEASE = f"{NAME}@{VERSION}"


def tell(
    folder: Path, *, now: datetime, keep: bool = False, watch: Callable[[Act, Line], None] | None = None
) -> Report:
    """Play the story in ``folder``, from ``now`` on; ``watch`` sees each line as it happens.

    Raises:
        KedgeError: something that is no part of the story failed.
    """
    published = folder / "repository"
    published.mkdir(parents=True)
    with LoopbackMirror(published) as mirror:
        story = _Story(folder, published, mirror, now, watch or (lambda _act, _line: None))
        story.ceremony()
        story.client()
        story.rotation()
        story.hostile_mirrors()
    return Report(tuple(story.acts), str(published) if keep else None)


@dataclass
class _Present:
    """The demo's clock: it moves when the story says so."""

    moment: datetime
    moved: bool = False

    def now(self) -> datetime:
        return self.moment

    def advance(self, by: timedelta) -> None:
        self.moment += by
        self.moved = True


class _Story:
    def __init__(
        self, folder: Path, published: Path, mirror: LoopbackMirror, now: datetime, watch: Callable[[Act, Line], None]
    ) -> None:
        self.acts: list[Act] = []
        self._folder = folder
        self._mirror = mirror
        self._clock = _Present(now)
        self._watch = watch
        self._people: dict[str, Keyholder] = {}
        self._entry: CatalogueEntry = catalogue_entry(REGISTRY)
        self._maintainers = Maintainers(self._people, folder / "workspace", published)

    # Act 1

    def ceremony(self) -> None:
        self._begin("A ceremony: two of three keyholders, each on their own machine")
        self._people.update(make_keys(self._folder / "keyholders"))
        encrypted = all(b"ENCRYPTED" in person.key.read_bytes() for person in self._people.values())
        self._say("alice, bob, carol and npm's keyholders make a key each, in encrypted files", encrypted)
        self._maintainers.found(self._entry, now=self._now)
        self._maintainers.sign_here("alice")
        self._refused(
            "alice alone cannot begin the repository",
            self._maintainers.merge,
            ExitCode.MORE_SIGNATURES,
            program="kedge-repo",
        )
        codes = {name: self._maintainers.sign_elsewhere(name, None) for name in ("bob", "npm-ana", "npm-ben")}
        same = len(set(codes.values())) == 1
        said = f"request code {codes['bob']}"
        self._say("bob and npm's keyholders sign from the request file alone, and read the same code aloud", same, said)
        self._maintainers.merge()
        self._publish()
        root: Metadata[Root] = Metadata.from_bytes(self._initial_root)
        asked = {name: (role.threshold, len(role.keyids)) for name, role in root.signed.roles.items()}
        self._say(
            "the event merges, snapshot and timestamp are signed online, the repository is published",
            asked["root"] == asked["targets"] == (2, 3) and self._mirror.honest("metadata/timestamp.json") is not None,
            f"root version {root.signed.version} asks for 2 of 3 keys for root and targets",
        )

    # Act 2

    def client(self) -> None:
        self._begin("A client that knows the initial root, and nothing else")
        with self._client() as client:
            keys = client.registry_keys(REGISTRY).keys
        found = {key.id for key in keys}
        said = [f"{key.id} {key.status} for {', '.join(key.usages)}" for key in keys]
        self._say("it gets npm's keys from the catalogue", {OLD_KEYID, NEW_KEYID} == found, *said)
        self._verifies(f"npm's real signature of {RELEASE} verifies")
        self._refused(
            "the same signature over another digest does not",
            lambda: self._verify(integrity=INTEGRITY.replace("yJhH", "yJhI")),
            ExitCode.REFUSED,
            Reason.BAD_SIGNATURE,
        )

    # Act 3

    def rotation(self) -> None:
        self._begin("January 2025 again: the registry changes its key")
        self._publish_keys(_without(self._entry, NEW_KEYID), "the key set that every Corepack had on 2025-01-27")
        self._refused(
            f"with the key set of that day, {RELEASE} fails, as it did all over the world",
            self._verify,
            ExitCode.REFUSED,
            Reason.UNKNOWN_KEY,
        )
        self._maintainers.change_keys(self._entry.target_bytes, "npm signs with a new key from today", now=self._now)
        self._maintainers.sign_here("npm-ana")
        self._refused(
            "one of npm's keyholders alone cannot bring a new key in",
            self._maintainers.merge,
            ExitCode.MORE_SIGNATURES,
            program="kedge-repo",
        )
        self._maintainers.sign_elsewhere("npm-ben", self._initial_root)
        self._maintainers.merge()
        self._publish()
        self._verifies("the threshold signs it in: the same client, as it was installed, picks the key up")

    # Act 4

    def hostile_mirrors(self) -> None:
        self._begin("Mirrors that lie, each refused, each with its control")
        self._rollback()
        self._freeze()
        self._changed_target()
        self._mixed_snapshots()
        self._stolen_root_key()

    def _rollback(self) -> None:
        old = self._mirror.honest("metadata/timestamp.json")
        self._publish()
        self._client().refresh()
        with self._mirror.lying(lambda path, data: old if path.endswith("/timestamp.json") else data):
            self._refused("rollback: the timestamp of yesterday", self._refresh, ExitCode.REFUSED, Reason.ROLLBACK)
        self._succeeds()

    def _freeze(self) -> None:
        past = self._now
        self._clock.advance(timedelta(days=8))
        later = describe_age(self._now - past)
        self._refused(
            f"freeze: {later} later, still the last good state", self._refresh, ExitCode.EXPIRED, Reason.EXPIRED
        )
        self._publish()
        self._succeeds("control: the maintainers' timestamp of today is let through, and the same client succeeds")

    def _changed_target(self) -> None:
        forged = self._entry.target_bytes.replace(b"rawBytes", b"rawbytes")
        with self._mirror.lying(lambda path, data: forged if path.endswith(".keys.json") else data):
            self._refused(
                "changed target: other keys under the right name, to a machine that comes new",
                lambda: self._verify(machine="new machine"),
                ExitCode.REFUSED,
                Reason.CONTENT,
            )
        self._succeeds(machine="new machine")

    def _mixed_snapshots(self) -> None:
        version = max(int(path.name.split(".")[0]) for path in self._published_files("*.snapshot.json"))
        old = self._mirror.honest(f"metadata/{version}.snapshot.json")
        self._publish_keys(self._entry.target_bytes + b"\n", "the same keys, laid out with a newline")
        new = f"metadata/{version + 1}.snapshot.json"
        with self._mirror.lying(lambda path, data: old if path == new else data):
            self._refused(
                "mixed snapshots: today's timestamp, yesterday's snapshot",
                self._refresh,
                ExitCode.REFUSED,
                Reason.CONTENT,
            )
        self._succeeds()

    def _stolen_root_key(self) -> None:
        forged = _takeover(self._initial_root, self._people["alice"], self._people["npm-ana"])
        with self._mirror.lying(lambda path, data: forged if path == "metadata/2.root.json" else data):
            self._refused(
                "a new root, signed with alice's stolen key alone", self._refresh, ExitCode.REFUSED, Reason.SIGNATURES
            )
        self._succeeds()
        self._verifies(f"after all of this, {RELEASE} still verifies")

    # What the acts are made of

    @property
    def _now(self) -> datetime:
        return self._clock.now()

    @property
    def _initial_root(self) -> bytes:
        return (self._folder / "repository/metadata/1.root.json").read_bytes()

    def _client(self, machine: str = "client") -> TrustClient:
        anchor = Anchor(
            name="demo",
            initial_root=self._initial_root,
            mirrors=(Mirror(url=self._mirror.url),),
            registries=(REGISTRY,),
        )
        return TrustClient(anchor, state=self._folder / machine, clock=self._clock)

    def _refresh(self) -> None:
        with self._client() as client:
            client.refresh()

    def _verify(self, *, integrity: str = INTEGRITY, machine: str = "client") -> Evidence:
        with self._client(machine) as client:
            keys = client.registry_keys(REGISTRY)
        name, version = NAME, VERSION
        return verify_signature(keys, name, version, integrity, keyid=KEYID, signature=SIGNATURE)

    def _publish(self) -> None:
        """Publish by the story's clock. Where that is ahead, kedge reads alone: python-tuf cannot follow."""
        readers = {"kedge": read_with_kedge} if self._clock.moved else READERS
        self._maintainers.publish(now=self._now, readers=readers)

    def _publish_keys(self, document: bytes, reason: str) -> None:
        self._maintainers.change_keys(document, reason, now=self._now)
        self._maintainers.sign_here("npm-ana")
        self._maintainers.sign_elsewhere("npm-ben", self._initial_root)
        self._maintainers.merge()
        self._publish()

    def _published_files(self, pattern: str) -> Iterator[Path]:
        return (self._folder / "repository/metadata").glob(pattern)

    def _begin(self, title: str) -> None:
        self.acts.append(Act(title))

    def _say(self, promise: str, kept: bool, *said: str) -> None:
        line = Line(promise=promise, kept=kept, said=said)
        self.acts[-1].lines.append(line)
        self._watch(self.acts[-1], line)

    def _verifies(self, promise: str) -> None:
        try:
            evidence = self._verify()
        except KedgeError as error:
            self._say(promise, False, *as_user_sees("kedge", error))
        else:
            self._say(promise, evidence.key.id == KEYID, f"{RELEASE} verified by {evidence.key.id}")

    def _succeeds(
        self, promise: str = "control: the lie ends, and the same client succeeds", machine: str = "client"
    ) -> None:
        try:
            with self._client(machine) as client:
                trust = client.refresh()
            self._verify(machine=machine)
        except KedgeError as error:
            self._say(promise, False, *as_user_sees("kedge", error))
        else:
            self._say(promise, trust.refreshed and not trust.warnings, *trust.warnings)

    def _refused(
        self,
        promise: str,
        act: Callable[[], object],
        code: ExitCode,
        reason: Reason | None = None,
        program: str = "kedge",
    ) -> None:
        try:
            act()
        except KedgeError as error:
            found = error.refusal.reason if isinstance(error, VerificationError) else None
            self._say(promise, error.exit_code is code and found is reason, *as_user_sees(program, error))
        else:
            self._say(promise, False, "it was accepted")


def _without(entry: CatalogueEntry, keyid: str) -> bytes:
    document = json.loads(entry.target_bytes)
    document["keys"] = [key for key in document["keys"] if key["keyId"] != keyid]
    return json.dumps(document, indent=1).encode()


def _takeover(root: bytes, thief: Keyholder, accomplice: Keyholder) -> bytes:
    """A next root that hands everything to an accomplice, signed with one stolen key and the accomplice's own."""
    metadata: Metadata[Root] = Metadata.from_bytes(root)
    metadata.signed.version += 1
    key = accomplice.signer().public_key
    for role in ("root", "targets", "snapshot", "timestamp"):
        metadata.signed.add_key(key, role)
    metadata.sign(thief.signer())
    metadata.sign(accomplice.signer(), append=True)
    return metadata.to_bytes()

"""A repository with a log, made by the tools themselves, with real witnesses: those of the Rust package witness-log.

:class:`Logged` publishes into a folder and hands out clients. Each witness is a ``WitnessService`` behind the function
that would send it HTTP; ``down``, ``lying`` and the like replace its answers.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from securesystemslib.signer import CryptoSigner
from witness_log import WitnessService

from kedge.client.anchor import Anchor, Transparency
from kedge.client.client import TrustClient
from kedge.tlog.checkpoint import write_body
from kedge.tlog.note import Note, NoteSignature
from kedge.transport.mirror import Mirror
from kedge_repo.events.plan import add_target
from kedge_repo.publish.folder import FolderDestination
from kedge_repo.publish.log_writer import LogBook, LogFiles, LogWriter, publish_log
from kedge_repo.publish.publish import publish_workspace
from kedge_repo.publish.witness import Answer
from repo_tools.ceremony import NPM, Ceremony
from support.clock import SettableClock

__all__ = ["NAMES", "ORIGIN", "Logged", "Witnesses", "colluding", "forged"]

ORIGIN = "example.com/keys"
NAMES = ("north", "south", "west")


class Witnesses:
    """Three witnesses; a test may put another answer in one's place."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self.services = {
            name: WitnessService.new(f"witness.example/{name}", bytes([number]) * 32)
            for number, name in enumerate(NAMES, start=1)
        }
        self.instead: dict[str, Callable[[bytes], Answer]] = {}
        self.asked: list[str] = []

    def trust(self, origin: str, vkey: str) -> None:
        for service in self.services.values():
            service.add_log(origin, vkey)

    def policy(self, log: str, *, quorum: int = 2, names: tuple[str, ...] = NAMES) -> bytes:
        lines = [f"log {log}"]
        lines += [f"witness {name} {self.services[name].vkey()} https://{name}.example" for name in names]
        lines += [f"group all {quorum} {' '.join(names)}", "quorum all"]
        return "".join(f"{line}\n" for line in lines).encode()

    def __call__(self, url: str, body: bytes) -> Answer:
        name = url.removeprefix("https://").partition(".")[0]
        self.asked.append(name)
        assert url.endswith("/add-checkpoint")
        if name in self.instead:
            return self.instead[name](body)
        return self.honest(name, body)

    def honest(self, name: str, body: bytes, *, now: datetime | None = None) -> Answer:
        moment = int((now or self._now()).timestamp())
        status, text = self.services[name].handle_add_checkpoint(body.decode(), moment)
        return Answer(status, text.encode())


@dataclass
class Logged:
    """A published repository whose log three witnesses watch; two of them are the quorum."""

    folder: Path
    quorum: int = 2
    ceremony: Ceremony = field(init=False)
    clock: SettableClock = field(init=False)
    log_signer: CryptoSigner = field(default_factory=CryptoSigner.generate_ed25519)

    def __post_init__(self) -> None:
        self.ceremony = Ceremony(self.folder)
        self.clock = SettableClock(self.ceremony.now)
        self.witnesses = Witnesses(lambda: self.clock.moment)
        self.ceremony.found().sign("alice", "bob", "npm-team")
        self.ceremony.merge()
        writer = self.writer()
        self.witnesses.trust(ORIGIN, writer.key.to_text())
        self.set_policy(self.witnesses.policy(writer.key.to_text(), quorum=self.quorum))

    @property
    def public(self) -> Path:
        return self.folder / "public"

    def writer(self) -> LogWriter:
        return LogWriter(self.ceremony.workspace, ORIGIN, self.log_signer)

    def set_policy(self, data: bytes) -> None:
        self.change(lambda view: add_target(view, "tlog/policy", data), "alice", "bob")

    def set_keys(self, data: bytes) -> None:
        self.change(lambda view: add_target(view, f"{NPM}/keys.json", data), "npm-team")

    def change(self, wish: Any, *names: str) -> None:
        self.ceremony.change(wish)
        self.ceremony.sign(*names)
        self.ceremony.merge()

    def publish(self, *, with_log: bool = True) -> LogFiles | None:
        """Sign online, publish the log with its witnesses, then the metadata."""
        self.ceremony.now = self.clock.moment
        self.ceremony.online()
        log = None
        if with_log:
            workspace = self.ceremony.workspace
            now, places = self.clock.moment, [FolderDestination(folder=self.public)]
            log = publish_log(workspace, self.writer(), places, now=now, post=self.witnesses, pause_s=0)
        publish_workspace(self.ceremony.workspace, self.public, now=self.clock.moment, readers={})
        return log

    def tomorrow(self, days: float = 1) -> None:
        self.clock.advance(timedelta(days=days))

    def client(self, state: str = "state", mode: Transparency = Transparency.REQUIRE, **options: Any) -> TrustClient:
        mirror = options.pop("mirror", self.public)
        policy = options.pop("log_policy", None)
        anchor = Anchor(
            name="example",
            initial_root=(self.public / "metadata" / "1.root.json").read_bytes(),
            mirrors=(Mirror(url=str(mirror)),),
            transparency=mode,
            log_policy=policy,
        )
        return TrustClient(anchor, state=self.folder / state, clock=self.clock, **options)


def forged(logged: Logged, entries: tuple[bytes, ...], folder: Path, witnesses: Witnesses | None = None) -> None:
    """Put another log of the same name into ``folder``, signed by the log's key and by these witnesses."""
    book, key = LogBook(entries), logged.writer().key
    body = write_body(ORIGIN, book.size, book.tree.root())
    signature = bytes.fromhex(logged.log_signer.sign(body.encode()).signature)
    note = Note(text=body, signatures=(NoteSignature(name=ORIGIN, key_id=key.id, signature=signature),))
    lines: list[NoteSignature] = []
    for name in NAMES if witnesses is not None else ():
        assert witnesses is not None
        answer = witnesses.honest(name, f"old 0\n\n{note.to_bytes().decode()}".encode())
        assert answer.status == 200, answer
        lines.append(NoteSignature.from_text(answer.body.decode().removesuffix("\n")))
    shutil.rmtree(folder / "tlog")
    files = {**book.files(), "checkpoint": Note(text=body, signatures=(*note.signatures, *lines)).to_bytes()}
    for path, data in files.items():
        (folder / "tlog" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "tlog" / path).write_bytes(data)


def colluding(logged: Logged) -> Witnesses:
    """Witnesses with the same keys that have forgotten what they saw: a quorum that was stolen whole."""
    witnesses = Witnesses(lambda: logged.clock.moment)
    witnesses.trust(ORIGIN, logged.writer().key.to_text())
    return witnesses

"""The story of the demo, in four acts. Every line promises something, does it, and compares.

1. A ceremony: root and targets by two of three, npm's keys in the hands of npm's own keyholders.
2. A client that knows the initial root and nothing else verifies npm's real signature.
3. January 2025: a key set without the new key fails on it; the threshold signs the new key in; the same client, as it
   was installed, verifies.
4. Mirrors that lie. Each lie is refused, and each has its control: the lie ends, and the same client succeeds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from tuf.api.metadata import Metadata, Root

from kedge import Anchor, Evidence, Mirror, TrustClient
from kedge.checks import describe_age
from kedge.errors import ExitCode, KedgeError, Reason, VerificationError
from kedge.registries.npm import verify_signature
from kedge_repo.catalogue import CatalogueEntry, catalogue_entry
from kedge_repo.demo import facts
from kedge_repo.demo.cast import Keyholder, Maintainers, make_keys
from kedge_repo.demo.mirror import LoopbackMirror
from kedge_repo.demo.report import Act, Line, Report, as_user_sees
from kedge_repo.publish.replay import READERS, read_with_kedge

__all__ = ["tell"]

RELEASE = f"{facts.NAME}@{facts.VERSION}"


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
        self._entry: CatalogueEntry = catalogue_entry(facts.REGISTRY)
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
            keys = client.registry_keys(facts.REGISTRY).keys
        found = {key.id for key in keys}
        said = [f"{key.id} {key.status} for {', '.join(key.usages)}" for key in keys]
        self._say("it gets npm's keys from the catalogue", {facts.OLD_KEYID, facts.NEW_KEYID} == found, *said)
        self._verifies(f"npm's real signature of {RELEASE} verifies")
        self._refused(
            "the same signature over another digest does not",
            lambda: self._verify(integrity=facts.INTEGRITY.replace("yJhH", "yJhI")),
            ExitCode.REFUSED,
            Reason.BAD_SIGNATURE,
        )

    # Act 3

    def rotation(self) -> None:
        self._begin("January 2025 again: the registry changes its key")
        self._publish_keys(_without(self._entry, facts.NEW_KEYID), "the key set that every Corepack had on 2025-01-27")
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
            registries=(facts.REGISTRY,),
        )
        return TrustClient(anchor, state=self._folder / machine, clock=self._clock)

    def _refresh(self) -> None:
        with self._client() as client:
            client.refresh()

    def _verify(self, *, integrity: str = facts.INTEGRITY, machine: str = "client") -> Evidence:
        with self._client(machine) as client:
            keys = client.registry_keys(facts.REGISTRY)
        name, version = facts.NAME, facts.VERSION
        return verify_signature(keys, name, version, integrity, keyid=facts.KEYID, signature=facts.SIGNATURE)

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
            self._say(promise, evidence.key.id == facts.KEYID, f"{RELEASE} verified by {evidence.key.id}")

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

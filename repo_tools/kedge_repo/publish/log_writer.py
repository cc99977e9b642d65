"""Writes a repository's log: in the workspace first, then to where it is published, and asks the witnesses in between.

::

    <workspace>/tlog/
      tile/…  tile/entries/…     the log itself (C2SP tlog-tiles); only grows
      checkpoint                 the newest one that the quorum signed
      policy                     the log policy that clients had with it
      proofs/<leaf>.tlog-proof   for each leaf that clients will ask for

The order of a publication is: tiles and entries where everybody can read them, then the checkpoint is signed, then the
witnesses sign it, and only when the quorum did are checkpoint and proofs written, and after them TUF's timestamp. So
what clients are led to is always in a log that witnesses have seen, and where they have not, clients stay where they
were.

Invariants:

- Entries are durable in the workspace before a checkpoint over them is signed: two checkpoints never contradict each
  other, also where a run is cut off in between.
- While the policy changes, a checkpoint needs the quorum of the old policy *and* of the new one.

The log of a repository as a value: what stands in it, what is missing in it, and its files.

Every root, every version of a targets role and every key event gets a leaf. The leaves are made of the signed files
alone, so that a client makes the same ones from what it holds.

Invariants:

- A log only grows. What is appended is appended in one order: roots, then each role's versions from the oldest on, and
  behind a version the key events and the key documents that it brings.
- A log that contradicts itself is not continued.

Publishing a repository's log, before anything that it must vouch for.

Tiles and entries are written to every destination first, where witnesses and monitors can read them; then the
checkpoint is signed and the witnesses are asked; only with their quorum are checkpoint and proofs written. The metadata
follows (:mod:`kedge_repo.publish.publish`), the timestamp last: so a client is never led to something that is not in a
witnessed log, and where the quorum is missed, clients stay where they were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property, partial

from securesystemslib.signer import Key, Signer
from tuf.api.metadata import TargetFile, Targets

from kedge.client import EventKind, RoleLeaf, RootLeaf, document_leaf, key_events, replay
from kedge.documents import DocumentError, blame_served, blame_user
from kedge.errors import InputError, ThresholdError, VerificationError
from kedge.tlog import (
    POLICY_TARGET,
    TILE_WIDTH,
    Checkpoint,
    LogPolicy,
    LogProof,
    Note,
    NoteSignature,
    SignatureKind,
    Tile,
    TileTree,
    VerifierKey,
    Witnessed,
    build_tiles,
    check_checkpoint,
    join_entries,
    leaf_hashes,
    proof_path,
    split_entries,
    tiles_of,
    verify,
    write_body,
)
from kedge.tuf import parse, sha256_hex
from kedge_repo.publish.destination import CHECKPOINT_PATH, BehindError, Destination
from kedge_repo.publish.files import collect_files
from kedge_repo.publish.witness import PAUSE_S, Post, Question, WitnessFault, ask_witnesses
from kedge_repo.workspace import (
    KeyDocument,
    SignedMetadata,
    Workspace,
    create_file,
    find_key_document,
    read_file,
    replace_file,
)

ReadTarget = Callable[[str, TargetFile], bytes | None]
"""``read(path, target)``: the bytes that a role lists, or None where that version of them is not kept any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleVersion:
    """One signed version of a targets role: its file, and the targets that it lists."""

    role: str
    version: int
    data: bytes
    targets: Sequence[tuple[str, TargetFile]]


@dataclass(frozen=True)
class LogBook:
    """The entries of a log, in order."""

    entries: tuple[bytes, ...] = ()

    @property
    def size(self) -> int:
        """How many there are."""
        return len(self.entries)

    @cached_property
    def hashes(self) -> tuple[bytes, ...]:
        """The hash of each leaf."""
        return tuple(leaf_hashes(self.entries))

    @cached_property
    def tree(self) -> TileTree:
        """The tree over them."""
        tiles = dict(build_tiles(self.hashes))
        return TileTree(self.size, lambda tile: tiles[tile])

    def with_entries(self, more: Iterable[bytes]) -> LogBook:
        """The log with ``more`` behind what it holds."""
        return LogBook((*self.entries, *more))

    def files(self, *, since: int = 0) -> dict[str, bytes]:
        """The tiles and entry bundles, by path below the log; without those that were full at size ``since``."""
        found = {tile.path: data for tile, data in build_tiles(self.hashes, since=since)}
        for tile in tiles_of(self.size, since=since):
            if tile.level == 0:
                found[tile.entries_path] = join_entries(self._covered(tile))
        return found

    def proofs(self, leaves: Iterable[bytes], checkpoint: bytes) -> dict[str, bytes]:
        """The proof of each of these entries in one file, by path below the log."""
        places = {entry: index for index, entry in enumerate(self.entries)}
        found: dict[str, bytes] = {}
        for entry in leaves:
            index = places[entry]
            proof = LogProof(index=index, hashes=tuple(self.tree.inclusion(index)), checkpoint=checkpoint)
            found[proof_path(self.hashes[index])] = proof.to_bytes()
        return found

    def _covered(self, tile: Tile) -> Sequence[bytes]:
        return self.entries[tile.index * TILE_WIDTH : tile.index * TILE_WIDTH + tile.width]


def missing_entries(
    book: LogBook, roots: Iterable[tuple[int, bytes]], roles: Iterable[RoleVersion], read: ReadTarget, *, now: datetime
) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """Give the entries that are to be appended, and all entries that clients will ask for.

    ``roots`` are versions with their files from the first on, ``roles`` every kept version of every targets role.

    Raises:
        InputError: the log contradicts itself, or a key document cannot be read.
    """
    writing = _Writing(book, read, now)
    for version, data in roots:
        writing.need(RootLeaf.of(version, data).to_bytes())
    ordered = sorted(roles, key=lambda each: (each.role != "targets", each.role, each.version))
    newest = {each.role: each.version for each in ordered}
    for role in ordered:
        leaf, is_newest = RoleLeaf.of(role.role, role.version, role.data), newest[role.role] == role.version
        is_news = writing.need(leaf.to_bytes(), lasting=is_newest)
        for path, target in sorted(role.targets, key=lambda each: each[0]):
            document = find_key_document(path)
            if document is not None and (is_news or is_newest):
                writing.document(document, target, is_news=is_news, lasting=is_newest)
    return tuple(writing.new), tuple(writing.needed)


class _Writing:
    """What is appended, and in which state each registry's keys are by then."""

    def __init__(self, book: LogBook, read: ReadTarget, now: datetime) -> None:
        history = replay(book.entries)
        if history.faults:
            fault = history.faults[0]
            raise InputError(f"tlog: entry {fault.index}: {fault.problem}", hint="this log cannot be continued")
        self.new: list[bytes] = []
        self.needed: dict[bytes, None] = {}
        self._logged = set(book.entries)
        self._keys = history.keys
        self._latest = {registry: leaves[-1] for registry, leaves in history.documents.items()}
        self._read = read
        self._now = now

    def need(self, entry: bytes, *, lasting: bool = True) -> bool:
        """Append an entry where it is missing, and say whether it was; ``lasting``: clients will ask for it again."""
        is_new = entry not in self._logged
        if is_new:
            self._append(entry)
        if lasting or is_new:
            self.needed[entry] = None
        return is_new

    def document(self, document: KeyDocument, target: TargetFile, *, is_news: bool, lasting: bool) -> None:
        """Append what a key document brings; a document that comes back after another one is news again."""
        data = self._read(document.path, target)
        if data is None:
            return
        try:
            keys = document.read(data, target.custom, now=self._now)
        except DocumentError as error:
            raise InputError(f"targets/{document.path}: {error}") from error
        leaf = document_leaf(keys)
        entry = leaf.to_bytes()
        if (is_news and self._latest.get(leaf.registry) != leaf) or entry not in self._logged:
            states = self._keys.setdefault(leaf.registry, {})
            for event in key_events(states, keys):
                self._append(event.to_bytes())
                if event.event is EventKind.REMOVED:
                    del states[event.key.name]
                else:
                    states[event.key.name] = event.key
            self._append(entry)
            self._latest[leaf.registry] = leaf
            lasting = True
        if lasting:
            self.needed[entry] = None

    def _append(self, entry: bytes) -> None:
        self._logged.add(entry)
        self.new.append(entry)


FOLDER = "tlog"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFiles:
    """What is published of a log, by path below the repository. ``grown`` never changes; the rest is replaced.

    ``faults`` are the witnesses that did not sign although the quorum did, ``size`` is how many entries there are.
    """

    grown: Mapping[str, bytes] = field(default_factory=dict)
    checkpoint: bytes | None = None
    proofs: Mapping[str, bytes] = field(default_factory=dict)
    faults: tuple[WitnessFault, ...] = ()
    size: int = 0


def verifier_key(origin: str, key: Key) -> VerifierKey:
    """The key of the log ``origin`` as witnesses and clients write it.

    Raises:
        InputError: it is no Ed25519 key, which is what witnesses accept of a log.
    """
    if key.scheme != "ed25519":
        raise InputError(f"log: its key must be an Ed25519 key, which witnesses accept, not {key.scheme}")
    return VerifierKey(name=origin, kind=SignatureKind.ED25519, public=bytes.fromhex(str(key.keyval["public"])))


class LogWriter:
    """The log of one workspace; the workspace's lock must be held for whatever writes."""

    def __init__(self, workspace: Workspace, origin: str, signer: Signer) -> None:
        """Write the log ``origin`` with ``signer``.

        Raises:
            InputError: the key is not one that a log can have.
        """
        self._workspace = workspace
        self._folder = workspace.root / FOLDER
        self._signer = signer
        self.key = verifier_key(origin, signer.public_key)
        self._book = LogBook()
        self._needed: tuple[bytes, ...] = ()

    def take_up(self, read: Callable[[str], bytes | None], where: str) -> None:
        """Go on with the log that is published at ``where``, if this workspace has less of it (a job's, from git).

        Raises:
            InputError: what is published is not all of the log that its checkpoint is of, or another log.
            VerificationError: its checkpoint is not this log's.
            StoreError: the disk refused.
        """
        data = read(f"{FOLDER}/checkpoint")
        if data is None:
            return
        with blame_served(f"{where}: {FOLDER}/checkpoint"):
            published = Checkpoint.from_bytes(data)
        if published.origin != self.key.name:
            return  # the log that this one takes the place of
        own = [key for policy in self._policies() for key in policy.logs if key.name == published.origin]
        verify(published.note, own, file=f"{where}: {FOLDER}/checkpoint")
        held = self._read_book()
        if published.size <= held.size:
            return
        book = LogBook(tuple(_published_entries(published.size, read, where)))
        if book.tree.root() != published.root or book.entries[: held.size] != held.entries:
            problem = "is not the continuation of the log in this workspace"
            raise InputError(f"{where}: {FOLDER}: {problem}", hint="two logs of one name: find out why")
        self._write(book)
        replace_file(self._folder / "checkpoint", data)

    def grow(self, *, now: datetime) -> LogFiles:
        """Append what is missing, durably, and give the files of the log that never change.

        Raises:
            InputError: the log in the workspace is damaged or contradicts itself, or a key document cannot be read.
            StoreError: the disk refused.
        """
        book = self._read_book()
        signed = self._workspace.signed()
        roots = [(root.signed.version, root.data) for root in signed.roots]
        new, self._needed = missing_entries(book, roots, self._roles(signed), self._target, now=now)
        self._book = book.with_entries(new)
        files = self._write(self._book)
        return LogFiles(grown={f"{FOLDER}/{path}": data for path, data in files.items()}, size=self._book.size)

    def witness(self, grown: LogFiles, *, now: datetime, post: Post, pause_s: float = PAUSE_S) -> LogFiles:
        """Sign a checkpoint, have the witnesses sign it, and give it with the proofs that clients will ask for.

        Raises:
            InputError: the repository lists no log policy, or none of this log.
            ThresholdError: too few witnesses signed; nothing was replaced.
            StoreError: the disk refused.
        """
        policies = self._policies()
        body = write_body(self.key.name, self._book.size, self._book.tree.root())
        note = Note(text=body, signatures=(self._sign(body),))
        witnesses = {each.key: each for policy in policies for each in policy.witnesses.values()}
        question = Question(note=note, size=self._book.size, consistency=self._book.tree.consistency, now=now)
        asked = ask_witnesses(witnesses.values(), question, seen=self._seen(), post=post, pause_s=pause_s)
        data = replace(note, signatures=(*note.signatures, *asked.signatures)).to_bytes()
        for policy in policies:
            _require_quorum(data, policy, asked.faults)
        proofs = self._book.proofs(self._needed, data)
        for path, proof in proofs.items():
            replace_file(self._folder / path, proof)
        replace_file(self._folder / "policy", policies[-1].data)
        replace_file(self._folder / "checkpoint", data)
        named = {f"{FOLDER}/{path}": proof for path, proof in proofs.items()}
        return replace(grown, checkpoint=data, proofs=named, faults=asked.faults)

    def _write(self, book: LogBook) -> dict[str, bytes]:
        # Entries last: they say how large the log is. Tiles that a run before was cut off from are made again.
        files = book.files()
        for path in sorted(files, key=lambda each: each.startswith("tile/entries/")):
            self._create(path, files[path])
        return files

    def _sign(self, body: str) -> NoteSignature:
        signature = bytes.fromhex(self._signer.sign(body.encode()).signature)
        return NoteSignature(name=self.key.name, key_id=self.key.id, signature=signature)

    def _policies(self) -> tuple[LogPolicy, ...]:
        """The policy that clients had with the last checkpoint, where it is another one, and the one they will have."""
        signed = self._workspace.signed()
        if signed.targets is None or POLICY_TARGET not in signed.targets.signed.targets:
            raise InputError(
                f"targets/{POLICY_TARGET}: is not among the targets of the top-level role",
                hint="write it with kedge-repo log policy, then: kedge-repo target add",
            )
        found = [self._workspace.target(POLICY_TARGET)]
        if (self._folder / "policy").exists():
            found.insert(0, read_file(self._folder / "policy"))
        policies: list[LogPolicy] = []
        for data in dict.fromkeys(found):
            with blame_user(f"targets/{POLICY_TARGET}"):
                policies.append(LogPolicy.from_bytes(data))
        if not any(key == self.key for key in policies[-1].logs):
            raise InputError(f"targets/{POLICY_TARGET}: does not list this log's key {self.key.to_text()}")
        # A policy of another log asks nothing of this one.
        return tuple(each for each in policies if any(key == self.key for key in each.logs))

    def _seen(self) -> dict[bytes, int]:
        try:
            note = Note.from_bytes(read_file(self._folder / "checkpoint"))
        except (InputError, DocumentError):
            return {}  # a witness says itself what it has seen; this only saves a question
        size = int(note.text.split("\n")[1])
        return {signature.key_id: size for signature in note.signatures}

    def _roles(self, signed: SignedMetadata) -> list[RoleVersion]:
        found: list[RoleVersion] = []
        for role in (Targets.type, *signed.delegated):
            for version, path in sorted(self._workspace.history(role).items()):
                data = read_file(path, what="metadata file")
                try:
                    listed = parse(data, Targets, file=path.name).signed.targets
                except VerificationError as error:
                    raise InputError(error.message) from error
                found.append(RoleVersion(role=role, version=version, data=data, targets=tuple(listed.items())))
        return found

    def _target(self, path: str, target: TargetFile) -> bytes | None:
        if not (self._workspace.root / "targets" / path).is_file():
            return None
        data = self._workspace.target(path)
        return data if target.hashes.get("sha256") == sha256_hex(data) else None

    def _read_book(self) -> LogBook:
        entries: list[bytes] = []
        index = 0
        while (bundle := self._bundle(index)) is not None:
            entries += bundle
            if len(bundle) < TILE_WIDTH:
                break
            index += 1
        return LogBook(tuple(entries))

    def _bundle(self, index: int) -> list[bytes] | None:
        full = self._folder / Tile(0, index).entries_path
        partial = full.with_name(f"{full.name}.p")
        if full.is_file():
            width, path = TILE_WIDTH, full
        elif partial.is_dir() and (widths := [int(each.name) for each in partial.iterdir() if each.name.isdecimal()]):
            width = max(widths)
            path = partial / str(width)
        else:
            return None
        with blame_user(str(path)):
            entries = split_entries(read_file(path, what="part of the log"))
            if len(entries) != width:
                raise DocumentError("", f"must hold {width} entries, not {len(entries)}")
        return entries

    def _create(self, path: str, data: bytes) -> None:
        place = self._folder / path
        try:
            create_file(place, data)
        except FileExistsError as error:
            if read_file(place) != data:
                raise InputError(f"{place}: holds other bytes than the log's entries make") from error


def _published_entries(size: int, read: Callable[[str], bytes | None], where: str) -> Iterator[bytes]:
    for index in range(-(-size // TILE_WIDTH)):
        tile = Tile(0, index, min(TILE_WIDTH, size - index * TILE_WIDTH))
        data = read(f"{FOLDER}/{tile.entries_path}")
        if data is None:
            raise InputError(f"{where}: {FOLDER}/{tile.entries_path}: is not there, and its checkpoint names it")
        with blame_served(f"{where}: {FOLDER}/{tile.entries_path}"):
            yield from split_entries(data)


def _require_quorum(data: bytes, policy: LogPolicy, faults: tuple[WitnessFault, ...]) -> Witnessed:
    try:
        return check_checkpoint(data, policy)
    except VerificationError as error:
        missing = "; ".join(map(str, faults)) or "no witness of the policy has a URL"
        raise ThresholdError(
            f"{error.message}: {missing}",
            hint="nothing was published that clients would follow: they stay on the old state; run publish again",
        ) from error


def publish_log(
    workspace: Workspace,
    writer: LogWriter,
    places: Sequence[Destination],
    *,
    now: datetime,
    post: Post,
    pause_s: float = PAUSE_S,
) -> LogFiles:
    """Bring the log up to date with the workspace's signed metadata, witnessed, at each of ``places``.

    ``pause_s`` is for how long a witness that did not answer is left alone before it is asked again.

    Raises:
        InputError: there is nothing to publish, the log cannot be continued, or a destination holds another log.
        VerificationError: the signed metadata does not verify.
        ThresholdError: too few witnesses signed; no checkpoint was written, and clients stay on the old state.
        StoreError: a destination cannot be reached, locked or written.
    """
    collect_files(workspace)  # what does not verify must not be logged: a log forgets nothing
    with workspace.lock():
        for place in places:
            writer.take_up(partial(_read, place), place.name)
        grown = writer.grow(now=now)
        for place in places:
            with place.exclusive():
                _write_grown(place, grown)
        log = writer.witness(grown, now=now, post=post, pause_s=pause_s)
    for place in places:
        with place.exclusive():
            _write_renewed(place, log)
    return log


def _read(place: Destination, path: str) -> bytes | None:
    held = place.read(path)
    return held.data if held is not None else None


def _write_grown(place: Destination, log: LogFiles) -> None:
    for path, data in log.grown.items():
        if not place.create(path, data) and (held := place.read(path)) is not None and held.data != data:
            problem = "holds other bytes than this workspace's log"
            raise InputError(f"{place.place(path)}: {problem}", hint="two logs of one name: find out why")


def _write_renewed(place: Destination, log: LogFiles) -> None:
    for path, data in {CHECKPOINT_PATH: log.checkpoint or b"", **log.proofs}.items():
        held = place.read(path)
        if (held is None or held.data != data) and not place.replace(path, data, held):
            raise BehindError(place.place(path), "has changed meanwhile")

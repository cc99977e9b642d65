"""What an anchor asks of the log: that everything an answer stands on was shown to everybody, and witnesses saw it.

The mode stands on the anchor: ``off``, ``warn`` (faults of the log become warnings), ``require`` (they are refusals).

Whose log counts is said by its policy: the anchor's own where the user pinned one, else the target ``tlog/policy`` of
the repository. The policy that is held stays in force until the log *under it* holds the targets role that names
another one: whoever steals the targets keys cannot bring a log of their own without telling the old witnesses.

Invariants:

- Nothing is kept of a refresh that the log does not vouch for (``require``): neither files nor floors.
- The last checkpoint that was seen is a floor. It only rises, and what contradicts it is kept as evidence.
- What is stored is checked again each time, from the signatures on; without the network as well.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from tuf.api.metadata import Targets

from kedge.client.anchor import Anchor, Transparency
from kedge.client.keylog.entries import RoleLeaf, RootLeaf, document_leaf
from kedge.client.keylog.follow import CHECKPOINT, Head, View, Wanted, fetch_entries, follow, prove, recall
from kedge.client.store import LOG, Store
from kedge.documents import DocumentError, blame_served, blame_user
from kedge.errors import FetchError, Reason, Refusal, StoreError, VerificationError
from kedge.files import blaming, locked, make_folder, read_if_there, write_file
from kedge.tlog import POLICY_TARGET, TILE_WIDTH, LogPolicy, Witnessed
from kedge.transport import Deadline, Transport
from kedge.tuf import Fetch, Found, LogState, Missing, TrustedState, Workflow, raise_time, sha256_hex
from kedge.tuf import download as fetch_target

if TYPE_CHECKING:
    from kedge.registries import KeySet


R = TypeVar("R")
Ask: TypeAlias = Callable[[Fetch], bytes | Missing]
Download: TypeAlias = Callable[[Workflow[bytes]], bytes]

MAX_FILE_BYTES = 64_000_000
LOCK_TIMEOUT_S = 10.0


class KeyLog:
    """One anchor's log, opened for one use by one thread."""

    def __init__(self, anchor: Anchor, store: Store, *, keep: bool, as_of: bool = False) -> None:
        """Open what was seen of the log; nothing is written where ``keep`` is false, unless :meth:`keep_all` says so.

        ``as_of``: the answer is for another time than now, so the witnesses' time counts nothing.

        Raises:
            InputError: the policy that the anchor pins cannot be read.
        """
        self.mode = anchor.transparency
        self.warnings: list[str] = []
        self._store = store
        self._keep = keep
        self._as_of = as_of
        self._file = store.folder / LOG
        self._pinned: LogPolicy | None = None
        self._held: View | None = None
        self._head: Head | None = None
        self._transport: Transport | None = None
        if self.mode is Transparency.OFF:
            return
        if anchor.log_policy is not None:
            with blame_user(f"the log policy of anchor {anchor.name}"):
                self._pinned = LogPolicy.from_bytes(anchor.log_policy.encode())
        self._held = _read(self._file)

    @property
    def ahead(self) -> tuple[Fetch, ...]:
        """What a refresh will ask for, to be asked together with the rest."""
        return () if self.mode is Transparency.OFF else (CHECKPOINT,)

    @property
    def withholds(self) -> bool:
        """Whether nothing may be kept before the log has vouched for it."""
        return self.mode is Transparency.REQUIRE

    @property
    def time(self) -> datetime | None:
        """The time that the quorum of witnesses vouches for."""
        return self._head.witnessed.time if self._head is not None else None

    @property
    def state(self) -> LogState | None:
        """How far the log was followed."""
        if self._head is None:
            return None
        witnessed = self._head.witnessed
        return LogState(origin=witnessed.origin, size=witnessed.size, time=witnessed.time)

    def follow(self, state: TrustedState, transport: Transport, deadline: Deadline, download: Download) -> TrustedState:
        """Follow the log to its newest checkpoint, and check that it holds every root and role of ``state``.

        The state comes back with a time floor that is not below what the quorum of witnesses vouches for, and not above
        the expiry of its timestamp: what is signed afterwards still passes.

        Raises:
            VerificationError: it does not, or the log itself must not be trusted.
            FetchError: the log cannot be had.
        """
        self._transport = transport
        with self._judging(transport):
            self._follow(state, partial(_ask, transport, deadline), download)
        self.commit()
        return state if self.time is None or self._as_of else raise_time(state, self.time)

    def recall(self, state: TrustedState) -> None:
        """Check the same by what is stored, without the network.

        Raises:
            StoreError: too little of the log is stored.
            VerificationError: the stored log does not hold something that ``state`` stands on.
        """
        with self._judging():
            if self._held is None:
                raise StoreError(f"{self._file}: nothing of the log is stored", hint="run a refresh")
            policy = self._policy_of(self._held)
            self._head = _run(prove(recall(self._held, policy), _leaves(state)), _not_stored)

    def prove_state(self, state: TrustedState, transport: Transport, deadline: Deadline) -> None:
        """Check that the log holds every root and role of a state that has come further since.

        Raises:
            VerificationError: it does not.
            FetchError: what proves it cannot be had.
        """
        with self._judging(transport):
            if self._head is not None:
                self._head = _run(prove(self._head, _leaves(state)), partial(_ask, transport, deadline))

    def prove_keys(self, keys: KeySet, transport: Transport, deadline: Deadline) -> None:
        """Check that the log holds a key document, and so every event that led to its keys.

        Raises:
            VerificationError: it does not.
            FetchError: what proves it cannot be had.
        """
        with self._judging(transport):
            if self._head is not None:
                leaf = Wanted(document_leaf(keys).to_bytes(), f"the key document {keys.target} ({keys.sha256[:16]}…)")
                self._head = _run(prove(self._head, [leaf]), partial(_ask, transport, deadline))

    def read_all(self, transport: Transport, deadline: Deadline) -> tuple[Witnessed, list[bytes]]:
        """Get every entry of the log at the checkpoint that was followed to; they make its root hash.

        Raises:
            VerificationError: they do not, so something was left out or changed.
            FetchError: they cannot be had, or no log was followed.
        """
        return self._read_all(partial(_ask, transport, deadline))

    def carried(self, *, timeout_s: float = 60.0) -> dict[str, bytes]:
        """The files of the log that another client needs to follow it to here, by path below the log.

        That is the checkpoint and one tile, while the log fits into one; else every tile, and where each leaf stands.

        Raises:
            KedgeError: as :meth:`read_all`, where the log is larger.
        """
        if self._head is None:
            return {}
        view = self._head.view
        if self._head.size <= TILE_WIDTH:
            return {**view.tiles, "checkpoint": view.checkpoint}
        return {path: data for path, data in self.copied(timeout_s=timeout_s).items() if "/entries/" not in path}

    def copied(self, *, timeout_s: float = 60.0) -> dict[str, bytes]:
        """All files of the log, by path below it, the checkpoint last: what a copy of the repository serves.

        Tiles are made anew from the entries, which make the root hash; a proof is made for each leaf that was proven.

        Raises:
            KedgeError: as :meth:`read_all`.
        """
        if self._head is None or self._transport is None:
            return {}
        from kedge.client.keylog.follow import log_files  # only who makes a copy

        view = self._head.view
        _, entries = self._read_all(partial(_ask, self._transport, Deadline(timeout_s)))
        return log_files(entries, view.checkpoint, view.leaves.values())

    def _read_all(self, ask: Ask) -> tuple[Witnessed, list[bytes]]:
        if self._head is None:
            raise FetchError("no log was followed", hint="run a refresh while the repository can be reached")
        from kedge.client.keylog.entries import check_complete  # a client that follows a log replays nothing

        witnessed = self._head.witnessed
        entries = _run(fetch_entries(witnessed.size), ask)
        check_complete(entries, witnessed)
        return witnessed, entries

    def commit(self) -> None:
        """Write down how far the log was followed; that it failed is said among the warnings."""
        if not self._keep:
            return
        try:
            self.keep_all()
        except StoreError as error:
            self._warn(f"what was seen of the log could not be stored: {error.message}")

    def keep_all(self) -> None:
        """Write down how far the log was followed.

        Raises:
            StoreError: the disk refuses.
        """
        if self._head is None or self._head.view == self._held:
            return
        with blaming(self._store.folder):
            make_folder(self._store.folder)
            with locked(self._store.folder / "lock", timeout_s=LOCK_TIMEOUT_S):
                if not self._is_behind(_read(self._file)):
                    write_file(self._file, self._head.view.to_bytes())
        self._held = self._head.view

    def _follow(self, state: TrustedState, ask: Ask, download: Download) -> None:
        listed = state.targets.signed.targets.get(POLICY_TARGET) if state.targets is not None else None
        held = self._recalled()
        if held is None and self._pinned is None:
            if listed is None:
                raise _no_log()
            policy = _parse_policy(download(fetch_target(Found(Targets.type, listed, state))))
        else:
            policy = self._pinned or self._policy_of(self._held)
        self._head = self._advance(held, policy, state, ask)
        if self._pinned is None and listed is not None and listed.hashes.get("sha256") != sha256_hex(policy.data):
            # The log of the old policy holds this targets role, as was just checked: so the new policy may follow.
            self._head = self._adopt(
                self._head, _parse_policy(download(fetch_target(Found(Targets.type, listed, state)))), state, ask
            )

    def _advance(self, held: Head | None, policy: LogPolicy, state: TrustedState, ask: Ask) -> Head:
        head = _run(follow(held, policy), ask)
        try:
            return _run(prove(head, _leaves(state)), ask)
        except VerificationError as error:
            if error.refusal.reason not in (Reason.NOT_LOGGED, Reason.UNPROVEN):
                raise
        # The checkpoint may have been asked ahead, before a publication that the metadata is of, and what is held of
        # the tree may be damaged: once more, in order, and from the repository.
        head = _run(follow(held.alone() if held is not None else None, policy, again=True), ask)
        return _run(prove(head, _leaves(state)), ask)

    def _adopt(self, head: Head, policy: LogPolicy, state: TrustedState, ask: Ask) -> Head:
        if any(key.name == head.witnessed.origin for key in policy.logs):
            return recall(head.view, policy)
        return self._advance(None, policy, state, ask)

    def _recalled(self) -> Head | None:
        if self._held is None:
            return None
        try:
            return recall(self._held, self._policy_of(self._held))
        except VerificationError:
            return None  # damaged on this machine, or seen under another policy than the one that the user pins now

    def _policy_of(self, held: View | None) -> LogPolicy:
        if self._pinned is not None:
            return self._pinned
        return _parse_policy(held.policy if held is not None else b"")

    def _is_behind(self, stored: View | None) -> bool:
        """Whether another process has followed the same log further meanwhile."""
        if stored is None or self._head is None:
            return False
        try:
            theirs = recall(stored, self._policy_of(stored))
        except VerificationError:
            return False
        return theirs.witnessed.origin == self._head.witnessed.origin and theirs.size > self._head.size

    @contextmanager
    def _judging(self, transport: Transport | None = None) -> Iterator[None]:
        if self.mode is Transparency.OFF:
            return
        try:
            yield
        except VerificationError as error:
            for data in error.refusal.exhibits:
                self._keep_exhibit(data)
            if self.mode is Transparency.REQUIRE:
                raise error.served_by(transport.source if transport is not None else "the stored state") from error
            self._warn(f"the log does not vouch for this: {error.message}")
        except (FetchError, StoreError) as error:
            if self.mode is Transparency.REQUIRE:
                raise
            self._warn(f"the log could not be asked: {error.message}")

    def _keep_exhibit(self, data: bytes) -> None:
        try:
            self._store.keep_exhibit(data, suffix="checkpoint")
        except StoreError as error:
            self._warn(f"the evidence could not be stored: {error.message}")

    def _warn(self, text: str) -> None:
        if text not in self.warnings:
            self.warnings.append(text)


def stored_log_files(store: Store) -> dict[str, bytes]:
    """What a client has kept of the log, as the files that another one asks for, by path below the log."""
    view = _read(store.folder / LOG)
    if view is None:
        return {}
    from kedge.client.keylog.follow import proof_files  # only who makes a copy

    return {**proof_files(view), **view.tiles, "checkpoint": view.checkpoint}


def _leaves(state: TrustedState) -> Iterable[Wanted]:
    for root in state.roots:
        version = root.version
        yield Wanted(RootLeaf.of(version, root.data).to_bytes(), f"root version {version}")
    for name, role in state.roles.items():
        version = role.signed.version
        yield Wanted(RoleLeaf.of(name, version, role.data).to_bytes(), f"{name} version {version}")


def _run(steps: Generator[Fetch, bytes | Missing, R], ask: Ask) -> R:
    try:
        request = next(steps)
        while True:
            request = steps.send(ask(request))
    except StopIteration as end:
        result: R = end.value
        return result


def _ask(transport: Transport, deadline: Deadline, request: Fetch) -> bytes | Missing:
    return transport.get(request, deadline)


def _not_stored(request: Fetch) -> Missing:
    raise StoreError(f"tlog/{request.path}: is not stored", hint="run a refresh while the repository can be reached")


def _parse_policy(data: bytes) -> LogPolicy:
    with blame_served(POLICY_TARGET):
        return LogPolicy.from_bytes(data)


def _read(file: Path) -> View | None:
    """What was seen of the log; None where nothing was.

    Raises:
        StoreError: something was, and it cannot be read: a log that was changed since could not be told.
    """
    try:
        data = read_if_there(file, MAX_FILE_BYTES)
        return View.from_bytes(data) if data is not None else None
    except OSError as error:
        cause: Exception = error
        what = (error.strerror or str(error)).lower()
    except DocumentError as error:
        cause, what = error, str(error)
    hint = "let this user read it, or restore it from a backup; to follow the log anew, as if never seen, remove it"
    raise StoreError(f"{file}: cannot be read: {what}", hint=hint) from cause


def _no_log() -> VerificationError:
    refusal = Refusal(reason=Reason.NOT_LOGGED, file=POLICY_TARGET, expected="a log policy", found="none")
    return VerificationError(
        f"the repository names no log: {POLICY_TARGET} is not among its targets",
        refusal=refusal,
        hint="the anchor asks for one: its maintainers must start a log, or the anchor must pin a log policy",
    )

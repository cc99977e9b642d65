"""TrustClient: a trust anchor, a store, a transport and a clock make verified keys.

- It answers from one complete set of metadata at its floors, or it raises; it never returns less.
- Each file that passed is kept and raises its floor, even where a later one is refused; nothing of a refused file is.
- Where the network fails, an answer from state is given if all of it is unexpired, and it says so
  (``Trust.refreshed`` is false); a refusal to trust never falls back to anything.
- ``as_of`` judges by another time than now. Such an answer is marked, and nothing of it is kept.
- A client may live for months. An answer older than the anchor's ``refresh_after`` (:data:`REFRESH_AFTER`, where the
  anchor says nothing) is refreshed before it is given again; where that fails for want of a network, every
  :data:`RETRY_AFTER`. Expiry is judged at each answer.

Any number of threads may share a client. Who asks for what is verified and stored waits for nobody; what needs the
network is done one after the other. A client may be used on both sides of a fork. Any number of processes may share a
state folder. :meth:`TrustClient.refresh` shows the order of the steps; the checks are in :mod:`kedge.tuf`.

::

    with TrustClient("sigstore") as client:
        keys = client.registry_keys("registry.npmjs.org")
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, NoReturn, Self, TypeVar
from weakref import WeakSet

from kedge import tuf
from kedge.client.anchor import Anchor, Transparency, load_anchor
from kedge.client.session import Session, clock_warning, gate
from kedge.client.settings import Clock, SystemClock
from kedge.client.store import Store
from kedge.errors import ExpiredError, FetchError, InputError, Reason, StoreError, VerificationError
from kedge.files import config_folder, state_folder
from kedge.transport import Deadline, Transport, open_mirrors
from kedge.tuf import (
    Fetch,
    Found,
    Freshness,
    Limits,
    Phase,
    Target,
    Trust,
    TrustedState,
    Workflow,
    age_of,
    issued_at,
    key_warnings,
    no_network,
    role_states,
    run,
    sha256_hex,
)

if TYPE_CHECKING:
    from kedge.client.keylog.require import KeyLog
    from kedge.client.lockfile import Lock, LockedAnchor
    from kedge.registries import KeySet


R = TypeVar("R")

REFRESH_AFTER: Final = timedelta(hours=1)
"""How long a client that lives answers without a request, where the anchor's ``refresh_after`` says nothing."""
RETRY_AFTER: Final = timedelta(minutes=1)
"""How long it answers from state before it asks again, where the repository could not be reached."""
_LOOK_UPS_A_COMMIT = 64
_NOT_OF_THE_REPOSITORY: Final = (Reason.PORTAL, Reason.REDIRECT)
"""What a captive portal answers, in the repository's place: a page, or the way to one. It says no more than silence."""


class TrustClient:
    """Gets a registry's keys, or any target, from the repository that an anchor leads to."""

    def __init__(
        self,
        anchor: Anchor | str,
        *,
        state: Path | None = None,
        transport: Transport | None = None,
        clock: Clock | None = None,
        as_of: datetime | None = None,
        limits: Limits | None = None,
        timeout_s: float = 60.0,
        require_refresh: bool = False,
        lock: Lock | None = None,
        hold_back: bool = False,
    ) -> None:
        """Start from an anchor, or from the name of one that ships or was added.

        ``state`` is the folder of this anchor's state (default: one of its own in the user's state folder).
        ``timeout_s`` bounds each refresh and each look-up as a whole; ``require_refresh`` refuses an answer from state
        where the repository cannot be reached. ``lock`` refuses what is below its floors, for this run.
        With ``hold_back`` nothing is kept until :meth:`keep` is called.

        Raises:
            InputError: the anchor is not there or not right, or its mirror's address cannot be used.
        """
        self.anchor = load_anchor(anchor, config_folder()) if isinstance(anchor, str) else anchor
        self.key_log: KeyLog | None = None
        self._turn = threading.RLock()
        self._store = Store(state if state is not None else state_folder() / self.anchor.name)
        self._transport = self._given_transport = transport
        self._parents_transports: list[Transport] = []
        self._clock = clock if clock is not None else SystemClock()
        self._as_of = as_of
        self._limits = limits or Limits()
        self._timeout_s = timeout_s
        self._require_refresh = require_refresh
        self._lock = lock
        self._hold_back = hold_back
        self._answering: Answering | None = None  # replaced as a whole, so that it may be read without the turn
        self._looked_up = 0
        self._waiting = False
        _clients.add(self)

    def refresh(self) -> Trust:
        """Bring the trusted metadata up to date, and say how far trust reaches.

        Raises:
            VerificationError: something served must not be trusted.
            ExpiredError: something has expired beyond what the policy allows.
            FetchError: the repository cannot be reached, and what is stored is not whole and unexpired.
            InputError: the mirror's address cannot be used.
        """
        with self._turn, self._renewing():
            session, freshness, deadline = self._open(), self._freshness(), Deadline(self._timeout_s)
            # The first requests do not depend on what the stored files say: they run while those are verified.
            first = tuf.opening(session.held_root_version, self._limits, cold=session.is_cold)
            ahead = (*first, *self.key_log.ahead) if self.key_log is not None else first
            self._reach().begin(ahead if self._limits.root_window else (), deadline)
            state = self._restored(session)
            steps = tuf.refresh(
                state,
                freshness,
                recorded=session.recorded,
                limits=self._limits,
                gate=gate(session, self._lock),
            )
            try:
                state = self._run(steps, session, deadline)
                if self.key_log is not None:
                    download = partial(self._run, session=session, deadline=deadline)
                    state = self.key_log.follow(state, self._reach(), deadline, download)
            except FetchError as error:
                return self._fall_back(error)
            except VerificationError as error:
                if error.refusal.reason not in _NOT_OF_THE_REPOSITORY:
                    raise
                return self._fall_back(error)
            freshness = freshness.above(state.floors)
            tuf.require_fresh(state, freshness)
            # By this machine's clock alone: what a lock says is never written down.
            state = tuf.raise_time(state, self._clock.now()) if self._as_of is None else state
            session.settle(fetched=self._clock.now(), source=self._reach().source)
            session.commit(state)
            return self._answer(session, state, freshness, refreshed=True).trust

    def status(self) -> Trust:
        """Say how far trust reaches, from what is stored, without the network.

        Raises:
            StoreError: nothing whole is stored.
            ExpiredError: what is stored has expired beyond what the policy allows.
            VerificationError: what is stored belongs to another initial root.
        """
        with self._turn, self._renewing():
            session, freshness = self._open(), self._freshness()
            state = self._restored(session)
            check = gate(session, self._lock)
            check(Phase.ROOT, state)
            state = tuf.settle_floors(state, session.recorded)
            session.settle()
            tuf.require_complete(state)
            check(Phase.TIMESTAMP, state)
            check(Phase.SNAPSHOT, state)
            freshness = freshness.above(state.floors)
            tuf.require_fresh(state, freshness)
            if self.key_log is not None:
                self.key_log.recall(state)
            return self._answer(session, state, freshness, refreshed=False).trust

    def registry_keys(self, registry: str) -> KeySet:
        """Give a registry's keys, after a refresh where this client has not made one yet.

        Raises:
            InputError: the anchor does not speak for this registry.
            VerificationError: the key document is refused, malformed or empty.
            ExpiredError: something has expired beyond what the policy allows.
            FetchError: it cannot be had.
        """
        if self.anchor.registries and registry not in self.anchor.registries:
            listed = ", ".join(self.anchor.registries)
            raise InputError(f"the anchor {self.anchor.name} does not speak for {registry}, but for {listed}")
        from kedge.registries import find_registry, read_served_keys  # only who asks for keys needs them

        module = find_registry(registry)

        def read(target: Target, trust: Trust) -> KeySet:
            now = trust.reference_time
            try:
                return read_served_keys(module, target.data, registry=registry, custom=target.custom, now=now)
            except VerificationError as error:
                raise error.served_by(trust.source or "the stored state") from error

        held = self._find_held(module.target_path(registry))
        if held is not None:
            return read(*held)
        with self._turn:
            keys = read(*self._find(module.target_path(registry)))
            self._prove_keys(keys)
            self._keep_found()
            return keys

    def target(self, path: str) -> Target:
        """Give a target file, after a refresh where this client has not made one yet.

        Raises:
            VerificationError: nobody who may speak for the path lists it, or it is not what they list.
            ExpiredError: something has expired beyond what the policy allows.
            FetchError: it cannot be had.
        """
        held = self._find_held(path)
        if held is not None:
            return held[0]
        with self._turn:
            target, _ = self._find(path)
            self._keep_found()
            return target

    @property
    def trust(self) -> Trust:
        """How far trust reaches now: by the last refresh or status while that is young enough, else by a refresh.

        Raises:
            KedgeError: as :meth:`refresh` does.
        """
        now = self._answering
        judged = self._judged_now(now) if now is not None else None
        if judged is not None:
            return judged.trust
        with self._turn:
            return self._ready().trust

    def lock(self) -> LockedAnchor:
        """Refresh, and say how far trust has come, for a ``kedge.lock``.

        Raises:
            KedgeError: as :meth:`refresh` does; an answer from state is no reason to lock.
        """
        if self._as_of is not None:
            raise InputError("a lock is made of the present: as_of cannot be locked")
        from kedge.client.lockfile import LockedAnchor

        with self._turn:
            if not self.refresh().refreshed:
                raise FetchError("the repository could not be reached, so there is nothing new to lock")
            return LockedAnchor.of(self._ready().state)

    @property
    def verified(self) -> TrustedState:
        """All the metadata that answers stand on, with every role that a target was looked up in.

        Raises:
            KedgeError: as :meth:`refresh` does.
        """
        with self._turn:
            return self._ready().state

    def follow(
        self, steps: Callable[[TrustedState, Freshness], Workflow[TrustedState]], *, timeout_s: float | None = None
    ) -> TrustedState:
        """Run more of a workflow from what is verified, such as ``tuf.every_role``, and keep what passes.

        ``timeout_s`` bounds it as a whole (default: as everything).

        Raises:
            KedgeError: as :meth:`target` does.
        """
        with self._turn:
            now = self._ready()
            deadline = Deadline(timeout_s or self._timeout_s)
            now.session.write_together()
            with self._withholding():
                state = self._run(steps(now.state, now.freshness), now.session, deadline)
                if self.key_log is not None:
                    self.key_log.prove_state(state, self._reach(), deadline)
            self._answering = replace(now, state=state)
            self._keep_found()
            return state

    def keep(self) -> None:
        """Keep what a client that holds back has verified: all of it, or nothing.

        Raises:
            StoreError: the disk refuses; what was stored before stays.
        """
        with self._turn:
            if self._as_of is not None:
                raise InputError("nothing is kept of an answer as of another time than now")
            now = self._ready()
            if self.key_log is not None:
                self.key_log.keep_all()
            now.session.keep_all(now.state)

    def close(self) -> None:
        """Keep what look-ups have brought, and close the connections."""
        with self._turn:
            if self._waiting and self._answering is not None:
                self._answering.session.commit(self._answering.state)
            self._waiting = False
            if self._transport is not None:
                self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ready(self) -> Answering:
        """What answers come from: the last refresh while it is young and unexpired, else a new one.

        Raises:
            KedgeError: as :meth:`refresh` does.
        """
        if self._answering is not None:
            self._answering = self._judged_now(self._answering)
        if self._answering is None and self.anchor.refresh_after and self._as_of is None and not self._require_refresh:
            with suppress(StoreError, VerificationError):
                self.status()
            # The state was brought up to date by somebody: it answers as long as if it had been this client.
            if self._answering is not None and self._is_due(self._answering):
                self._answering = None
        if self._answering is None:
            self.refresh()
        if self._answering is None:
            raise RuntimeError("a refresh leaves something to answer from, or raises")
        return self._answering

    def _judged_now(self, answering: Answering) -> Answering | None:
        """The same by the time that it is now; None where it is too old by the policy, or something has expired."""
        if self._is_due(answering):
            return None
        freshness = self._freshness().above(answering.state.floors)
        try:
            tuf.require_fresh(answering.state, freshness)
            return self._say(replace(answering, freshness=freshness))
        except ExpiredError:
            return None

    def _is_due(self, answering: Answering) -> bool:
        if self._hold_back:
            return False  # it is for one use, and what it verified is kept as one
        if answering.asked is None:
            return True
        # Two clocks: one that was set back makes nothing young, and one that stands still does not either. An answer
        # from the future is no answer that is young.
        age = self._clock.now() - answering.asked
        lived = timedelta(seconds=time.monotonic() - answering.since_s)
        return not timedelta(0) <= age < answering.lasts or lived >= answering.lasts

    @property
    def _interval(self) -> timedelta:
        return self.anchor.refresh_after or REFRESH_AFTER

    def _find_held(self, path: str) -> tuple[Target, Trust] | None:
        """Give a target file from what is verified and stored, or None. It waits for no other thread.

        Where a log must vouch, it is asked first: then everybody waits for their turn.
        """
        before = self._answering
        now = self._judged_now(before) if before is not None else None
        if now is None or self.key_log is not None or self._hold_back:
            return None
        try:
            find = tuf.find(now.state, path, now.freshness, limits=self._limits)
            found = run(find, _ask_nobody, recall=now.session.recall)
            data = run(tuf.download(found), _ask_nobody, recall=now.session.recall)
            now = self._with_role(now, found)
        except (_NotHeldError, ExpiredError, VerificationError):
            return None  # who has the turn asks for it, or says what is wrong
        if self._turn.acquire(blocking=False):
            try:
                if self._answering is before:
                    self._answering = now
            finally:
                self._turn.release()
        return _target(found, data), now.trust

    def _find(self, path: str) -> tuple[Target, Trust]:
        """Give a target file. Where a log must vouch first, what was needed is not kept before :meth:`_keep_found`.

        Raises:
            VerificationError: nobody who may speak for the path lists it, or it is not what they list.
            ExpiredError: something has expired beyond what the policy allows.
            FetchError: it cannot be had.
        """
        now = self._ready()
        deadline = Deadline(self._timeout_s)
        with self._withholding():
            found = self._run(tuf.find(now.state, path, now.freshness, limits=self._limits), now.session, deadline)
            if self.key_log is not None:
                self.key_log.prove_state(found.state, self._reach(), deadline)
            data = self._run(tuf.download(found), now.session, deadline)
        self._answering = now = self._with_role(now, found)
        return _target(found, data), now.trust

    def _with_role(self, now: Answering, found: Found) -> Answering:
        """The same, with the roles that a target was looked up in: trust is valid no longer than the one that lists it.

        Raises:
            ExpiredError: it is past the anchor's red line.
        """
        expires = found.state.roles[found.role].signed.expires
        return self._say(replace(now, state=found.state, valid_until=min(now.valid_until, expires)))

    def _prove_keys(self, keys: KeySet) -> None:
        """Have the log vouch for a key document, where the anchor asks for one.

        Raises:
            VerificationError: it does not.
            FetchError: the log cannot be had.
        """
        with self._withholding():
            if self.key_log is not None:
                self.key_log.prove_keys(keys, self._reach(), Deadline(self._timeout_s))

    def _keep_found(self) -> None:
        """Write down what look-ups have brought, at once or with the next ones."""
        if self.key_log is not None:
            self.key_log.commit()
        if self._answering is None or not self._answering.session.has_news:
            return
        # Among thousands of hash bins writing down costs more than a look-up: then it is done for many at once.
        self._looked_up += 1
        may_wait = self._looked_up % _LOOK_UPS_A_COMMIT != 1
        self._waiting = may_wait and self._answering.session.may_wait(self._answering.state)
        if not self._waiting:
            self._answering.session.commit(self._answering.state)

    @contextmanager
    def _withholding(self) -> Iterator[None]:
        # What the log does not vouch for must not be kept with a later answer either.
        try:
            yield
        except BaseException:
            if self.key_log is not None and self.key_log.withholds:
                self._answering = None
            raise

    @contextmanager
    def _renewing(self) -> Iterator[None]:
        # The former answer is there for other threads until there is a new one; a refusal leaves none.
        try:
            yield
        except BaseException:
            self._answering = None
            raise

    def _open(self) -> Session:
        keep = self._as_of is None and not self._hold_back
        self.key_log = None
        if self.anchor.transparency is not Transparency.OFF:
            from kedge.client.keylog.require import KeyLog  # only who asks for a log pays for it

            self.key_log = KeyLog(self.anchor, self._store, keep=keep, as_of=self._as_of is not None)
        withhold = self.key_log is not None and self.key_log.withholds
        return Session(self.anchor, self._store, keep=keep, withhold=withhold)

    def _freshness(self) -> Freshness:
        if self._as_of is not None:
            return Freshness(reference_time=self._as_of, max_staleness=self.anchor.max_staleness, as_of=True)
        locked = self._lock.time(self.anchor.name) if self._lock is not None else None
        now = self._clock.now()
        return Freshness(reference_time=max(now, locked or now), max_staleness=self.anchor.max_staleness)

    def _restored(self, session: Session) -> TrustedState:
        # What is held is a starting point whatever its age: whether it may answer is judged afterwards.
        any_age = Freshness(reference_time=self._clock.now(), max_staleness=timedelta.max)
        return run(tuf.restore(session.initial, any_age), no_network, recall=session.recall, accept=session.accept)

    def _reach(self) -> Transport:
        if self._transport is None:
            self._transport = open_mirrors(self.anchor.mirrors, held=self._store.blob)
        return self._transport

    def _run(self, steps: Workflow[R], session: Session, deadline: Deadline) -> R:
        try:
            return run(
                steps,
                lambda request: self._reach().get(request, deadline),
                recall=session.recall,
                accept=session.accept,
            )
        except VerificationError as error:
            session.commit_reached()
            session.keep_exhibits(error.refusal)
            if error.refusal.reason in (Reason.ANCHOR, Reason.CONFLICT):
                raise  # names the places itself
            if self._transport is None:
                raise
            raise error.served_by(self._transport.source) from error
        except BaseException:
            session.commit_reached()
            raise

    def _fall_back(self, error: FetchError | VerificationError) -> Trust:
        try:
            self.status()
        except ExpiredError as expired:
            # Both hold, and the first is the one that says why nothing is answered: it is too old to go on with.
            text = f"{expired.message}; it could not be refreshed: {error.message}"
            raise ExpiredError(text, refusal=expired.refusal, hint=error.hint or expired.hint) from error
        except (StoreError, VerificationError):
            # What could not be fetched is what went wrong; that nothing is stored to fall back on follows from it.
            raise error from None
        if self._require_refresh:
            raise error
        if self._answering is None:
            raise RuntimeError("a status leaves something to answer from, or raises")
        self._answering = self._say(
            replace(
                self._answering,
                said=(*self._answering.said, f"not refreshed: {error.message}"),
                asked=self._clock.now(),
                since_s=time.monotonic(),
                lasts=min(self._interval, RETRY_AFTER),
            )
        )
        return self._answering.trust

    def _answer(self, session: Session, state: TrustedState, freshness: Freshness, *, refreshed: bool) -> Answering:
        roles, now = role_states(state), self._clock.now()
        asked = now if refreshed else session.fetched
        young_for = now - asked if asked is not None else timedelta(0)
        self._answering = self._say(
            Answering(
                session=session,
                state=state,
                freshness=freshness,
                valid_until=min(role.expires for role in roles.values()),
                refreshed=refreshed,
                said=self._transport.notices if refreshed and self._transport is not None else (),
                asked=asked,
                since_s=time.monotonic() - young_for.total_seconds(),
                lasts=self._interval,
            )
        )
        return self._answering

    def _say(self, answering: Answering) -> Answering:
        """The same with what is to be said of it at its reference time.

        Raises:
            ExpiredError: it is past the anchor's red line.
        """
        session, state, freshness = answering.session, answering.state, answering.freshness
        roles, now = role_states(state), freshness.reference_time
        # What this machine saw says nothing of another time than now.
        seen = None if freshness.as_of else session.seen
        age = age_of(self.anchor.age_limits, state, seen=seen, valid_until=answering.valid_until, now=now)
        behind = clock_warning(freshness, self._clock.now(), self._lock, self.anchor.name, _issued(state))
        log_warnings = self.key_log.warnings if self.key_log is not None else ()
        said = (*answering.said, *log_warnings)
        warnings = (*session.warnings, *age.warnings, *behind, *key_warnings(state), *said)
        trust = Trust(
            anchor=self.anchor.name,
            root=roles["root"],
            timestamp=roles["timestamp"],
            snapshot=roles["snapshot"],
            targets=roles["targets"],
            valid_until=answering.valid_until,
            reference_time=now,
            fetched=session.fetched,
            source=session.source,
            refreshed=answering.refreshed,
            stored=session.could_store,
            stale=answering.valid_until <= now,
            age=age,
            as_of=now if freshness.as_of else None,
            warnings=tuple(dict.fromkeys(warnings)),
            log=self.key_log.state if self.key_log is not None else None,
        )
        return replace(answering, trust=trust)

    def _start_anew_after_fork(self) -> None:
        """Be usable in a process that was just forked: other threads are gone, and connections are the parent's."""
        if not self._turn.acquire(blocking=False):
            # The thread that had it is not here, and what it was at will never be done.
            self._answering = None
            self.key_log = None
            self._store = Store(self._store.folder)
        self._turn = threading.RLock()
        if self._transport is not self._given_transport and self._transport is not None:
            # Kept, and never used: closing what the parent uses as well could cut its connections off.
            self._parents_transports.append(self._transport)
            self._transport = self._given_transport


@dataclass(frozen=True, slots=True, kw_only=True)
class Answering:
    """What answers come from after a refresh or a status.

    It was ``asked`` for by this machine's clock (None: nobody knows when), ``since_s`` by the monotonic one, and
    answers for as long as it ``lasts``. ``said`` is what is to be said of where it came from.
    """

    session: Session
    state: TrustedState
    freshness: Freshness
    valid_until: datetime
    refreshed: bool
    said: tuple[str, ...]
    asked: datetime | None
    since_s: float
    lasts: timedelta
    trust: Trust = field(default=None)  # type: ignore[assignment] # TrustClient._say gives it at once


class _NotHeldError(Exception):
    """Something is needed that is not stored."""


def _ask_nobody(request: Fetch) -> NoReturn:
    raise _NotHeldError(request.path)


def _issued(state: TrustedState) -> datetime | None:
    return issued_at(state.timestamp) if state.timestamp is not None else None


def _target(found: Found, data: bytes) -> Target:
    custom = found.target.custom
    return Target(
        path=found.target.path,
        data=data,
        sha256=sha256_hex(data),
        role=found.role,
        custom=custom if isinstance(custom, Mapping) else None,
    )


_clients: WeakSet[TrustClient] = WeakSet()


def _start_anew_after_fork() -> None:
    for client in list(_clients):
        client._start_anew_after_fork()  # noqa: SLF001 of this module


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew_after_fork)

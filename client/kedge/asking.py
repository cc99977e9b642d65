"""One anchor's answers: refreshes, look-ups, and what is kept of them. :class:`kedge.TrustClient` shares it out.

It drives :mod:`kedge.workflow` between a session and a transport, and remembers what answers come from until it is
asked to refresh again, or until that is no longer fresh.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from kedge import checks, workflow
from kedge.anchor import Anchor, Transparency
from kedge.answers import judged_again, trust_of
from kedge.checks import Freshness
from kedge.clock import Clock
from kedge.drive import no_network, run
from kedge.errors import ExpiredError, FetchError, InputError, Reason, StoreError, VerificationError
from kedge.session import Session, clock_warning, gate
from kedge.state import TrustedState, sha256_hex
from kedge.steps import Limits, Phase
from kedge.store import Store
from kedge.transport import Deadline, Transport, open_mirrors
from kedge.trust import Target, Trust
from kedge.workflow import Workflow

if TYPE_CHECKING:
    from kedge.keys import KeySet
    from kedge.lockfile import Lock
    from kedge.transparency import KeyLog

__all__ = ["Answering", "Asking"]

R = TypeVar("R")

_LOOK_UPS_A_COMMIT = 64


@dataclass(frozen=True, slots=True)
class Answering:
    """What answers come from after a refresh or a status."""

    session: Session
    state: TrustedState
    freshness: Freshness
    trust: Trust


class Asking:
    """One anchor, asked by one thread at a time."""

    def __init__(
        self,
        anchor: Anchor,
        store: Store,
        *,
        transport: Transport | None,
        clock: Clock,
        as_of: datetime | None,
        limits: Limits,
        timeout_s: float,
        require_refresh: bool,
        lock: Lock | None,
        hold_back: bool,
    ) -> None:
        """Ask for ``anchor``, with what ``store`` holds; the rest is as :class:`kedge.TrustClient` takes it."""
        self.anchor = anchor
        self.key_log: KeyLog | None = None
        self.timeout_s = timeout_s
        self._store = store
        self._transport = transport
        self._clock = clock
        self._as_of = as_of
        self._limits = limits
        self._require_refresh = require_refresh
        self._lock = lock
        self._hold_back = hold_back
        self._answering: Answering | None = None
        self._looked_up = 0
        self._waiting = False

    def refresh(self) -> Trust:
        """Bring the trusted metadata up to date, and say how far trust reaches.

        Raises:
            VerificationError: something served must not be trusted.
            ExpiredError: something has expired beyond what the policy allows.
            FetchError: the repository cannot be reached, and what is stored is not whole and unexpired.
            InputError: the mirror's address cannot be used.
        """
        session, freshness, deadline = self._open(), self._freshness(), Deadline(self.timeout_s)
        # The first questions do not depend on what the stored files say: they are under way while those are verified.
        first = workflow.opening(session.held_root_version, self._limits, cold=session.is_cold)
        ahead = (*first, *self.key_log.ahead) if self.key_log is not None else first
        self._reach().begin(ahead if self._limits.root_window else (), deadline)
        state = self._restored(session)
        steps = workflow.refresh(
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
        freshness = freshness.above(state.floors)
        checks.require_fresh(state, freshness)
        # By this machine's clock alone: what a lock says is never written down.
        state = checks.raise_time(state, self._clock.now()) if self._as_of is None else state
        session.settle(fetched=self._clock.now(), source=self._reach().source)
        session.commit(state)
        return self._answer(session, state, freshness, refreshed=True)

    def status(self) -> Trust:
        """Say how far trust reaches, from what is stored, without the network.

        Raises:
            StoreError: nothing whole is stored.
            ExpiredError: what is stored has expired beyond what the policy allows.
            VerificationError: what is stored belongs to another initial root.
        """
        session, freshness = self._open(), self._freshness()
        state = self._restored(session)
        check = gate(session, self._lock)
        check(Phase.ROOT, state)
        state = checks.settle_floors(state, session.recorded)
        session.settle()
        checks.require_complete(state)
        check(Phase.TIMESTAMP, state)
        check(Phase.SNAPSHOT, state)
        freshness = freshness.above(state.floors)
        checks.require_fresh(state, freshness)
        if self.key_log is not None:
            self.key_log.recall(state)
        return self._answer(session, state, freshness, refreshed=False)

    def follow(
        self, steps: Callable[[TrustedState, Freshness], Workflow[TrustedState]], *, timeout_s: float | None = None
    ) -> TrustedState:
        """Run more of a workflow from what is verified, such as :func:`kedge.census.every_role`, and keep what passes.

        ``timeout_s`` bounds it as a whole (default: as everything).

        Raises:
            KedgeError: as :meth:`find` does.
        """
        now = self.ready()
        deadline = Deadline(timeout_s or self.timeout_s)
        now.session.write_together()
        with self._withholding():
            state = self._run(steps(now.state, now.freshness), now.session, deadline)
            if self.key_log is not None:
                self.key_log.prove_state(state, self._reach(), deadline)
        self._answering = replace(now, state=state)
        self.keep_found()
        return state

    def keep(self) -> None:
        """Keep what a client that holds back has verified: all of it, or nothing.

        Raises:
            StoreError: the disk refuses; what was stored before stays.
        """
        if self._as_of is not None:
            raise InputError("nothing is kept of an answer as of another time than now")
        now = self.ready()
        if self.key_log is not None:
            self.key_log.keep_all()
        now.session.keep_all(now.state)

    def close(self) -> None:
        """Keep what look-ups have brought, and close the connections."""
        if self._waiting and self._answering is not None:
            self._answering.session.commit(self._answering.state)
        self._waiting = False
        if self._transport is not None:
            self._transport.close()

    def ready(self) -> Answering:
        """What answers come from: the last refresh while it is fresh, else a new one.

        Raises:
            KedgeError: as :meth:`refresh` does.
        """
        if self._answering is not None and not self._is_still_fresh(self._answering):
            self._answering = None
        may_be_young = self.anchor.refresh_after and self._as_of is None and not self._require_refresh
        if self._answering is None and may_be_young:
            with suppress(StoreError, VerificationError):
                self._use_recent(self.status())
        if self._answering is None:
            self.refresh()
        if self._answering is None:
            raise RuntimeError("a refresh leaves something to answer from, or raises")
        return self._answering

    def _is_still_fresh(self, answering: Answering) -> bool:
        # A client may live long: what was fresh when it was fetched is judged by the clock again.
        freshness = self._freshness().above(answering.state.floors)
        try:
            checks.require_fresh(answering.state, freshness)
            trust = self._judged_again(answering, answering.state, freshness, answering.trust.valid_until)
        except ExpiredError:
            return False
        self._answering = replace(answering, freshness=freshness, trust=trust)
        return True

    def _use_recent(self, stored: Trust) -> None:
        # An answer from the future is no answer that is young: the clock was set back since.
        age = self._clock.now() - stored.fetched if stored.fetched is not None else None
        if age is None or not timedelta(0) <= age < self.anchor.refresh_after:
            self._answering = None

    def find(self, path: str) -> Target:
        """Give a target file. Where a log must vouch first, what was needed is not kept before :meth:`keep_found`.

        Raises:
            VerificationError: nobody who may speak for the path lists it, or it is not what they list.
            ExpiredError: something has expired beyond what the policy allows.
            FetchError: it cannot be had.
        """
        now = self.ready()
        deadline = Deadline(self.timeout_s)
        with self._withholding():
            found = self._run(workflow.find(now.state, path, now.freshness, limits=self._limits), now.session, deadline)
            if self.key_log is not None:
                self.key_log.prove_state(found.state, self._reach(), deadline)
            data = self._run(workflow.download(found), now.session, deadline)
        expires = found.state.roles[found.role].signed.expires
        trust = self._judged_again(now, found.state, now.freshness, min(now.trust.valid_until, expires))
        self._answering = replace(now, state=found.state, trust=trust)
        if self.key_log is None:
            self.keep_found()
        custom = found.target.custom
        return Target(
            path=path,
            data=data,
            sha256=sha256_hex(data),
            role=found.role,
            custom=custom if isinstance(custom, Mapping) else None,
        )

    def prove_keys(self, keys: KeySet) -> None:
        """Have the log vouch for a key document, where the anchor asks for one.

        Raises:
            VerificationError: it does not.
            FetchError: the log cannot be had.
        """
        with self._withholding():
            if self.key_log is not None:
                self.key_log.prove_keys(keys, self._reach(), Deadline(self.timeout_s))

    def keep_found(self) -> None:
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

    def _open(self) -> Session:
        self._answering = None
        keep = self._as_of is None and not self._hold_back
        self.key_log = None
        if self.anchor.transparency is not Transparency.OFF:
            from kedge.transparency import KeyLog  # only who asks for a log pays for it

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
        return run(workflow.restore(session.initial, any_age), no_network, recall=session.recall, accept=session.accept)

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

    def _fall_back(self, error: FetchError) -> Trust:
        if self._require_refresh:
            raise error
        try:
            trust = self.status()
        except ExpiredError as expired:
            # Both hold, and the first is the one that says why nothing is answered: it is too old to go on with.
            text = f"{expired.message}; it could not be refreshed: {error.message}"
            raise ExpiredError(text, refusal=expired.refusal, hint=error.hint or expired.hint) from error
        except (StoreError, VerificationError):
            # What could not be fetched is what went wrong; that nothing is stored to fall back on follows from it.
            raise error from None
        return self._amend(trust, f"not refreshed: {error.message}")

    def _answer(self, session: Session, state: TrustedState, freshness: Freshness, *, refreshed: bool) -> Trust:
        log_warnings = self.key_log.warnings if self.key_log is not None else ()
        behind = clock_warning(freshness, self._clock.now(), self._lock, self.anchor.name)
        notices = self._transport.notices if refreshed and self._transport is not None else ()
        trust = trust_of(
            self.anchor,
            session,
            state,
            freshness,
            refreshed=refreshed,
            warnings=(*behind, *notices, *log_warnings),
            log=self.key_log.state if self.key_log is not None else None,
        )
        self._answering = Answering(session, state, freshness, trust)
        return trust

    def _judged_again(self, now: Answering, state: TrustedState, freshness: Freshness, valid_until: datetime) -> Trust:
        return judged_again(now.trust, self.anchor, now.session, state, freshness, valid_until=valid_until)

    def _amend(self, trust: Trust, warning: str) -> Trust:
        if self._answering is None:
            raise RuntimeError("there is no answer to amend")
        self._answering = replace(self._answering, trust=replace(trust, warnings=(*trust.warnings, warning)))
        return self._answering.trust

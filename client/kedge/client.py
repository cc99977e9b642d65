"""TrustClient: an anchor, a store, a transport and a clock make keys. The API; the work is :mod:`kedge.asking`'s.

What it promises:

- It answers from one whole set that stands at its floors, or it raises; it never returns less.
- Each file that passed is kept and raises its floor, even where a later one is refused; nothing of a refused file is.
- Where the network fails, an answer from state is given if all of it is unexpired, and it says so
  (``Trust.refreshed`` is false); a refusal to trust never falls back to anything.
- ``as_of`` judges by another time than now. Such an answer is marked, and nothing of it is kept.

Any number of threads may share a client: they are answered one after the other. Any number of processes may share a
state folder.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from kedge import anchor as anchors
from kedge.anchor import Anchor
from kedge.asking import Asking
from kedge.checks import Freshness
from kedge.clock import Clock, SystemClock
from kedge.errors import FetchError, InputError, VerificationError
from kedge.folders import config_folder, state_folder
from kedge.state import TrustedState
from kedge.steps import Limits
from kedge.store import Store
from kedge.transport import Transport
from kedge.trust import Target, Trust
from kedge.workflow import Workflow

if TYPE_CHECKING:
    from kedge.keys import KeySet
    from kedge.lockfile import Lock, LockedAnchor
    from kedge.transparency import KeyLog

__all__ = ["TrustClient"]


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
        self.anchor = anchors.load(anchor, config_folder()) if isinstance(anchor, str) else anchor
        self._turn = threading.RLock()
        self._as_of = as_of
        self._asking = Asking(
            self.anchor,
            Store(state if state is not None else state_folder() / self.anchor.name),
            transport=transport,
            clock=clock if clock is not None else SystemClock(),
            as_of=as_of,
            limits=limits or Limits(),
            timeout_s=timeout_s,
            require_refresh=require_refresh,
            lock=lock,
            hold_back=hold_back,
        )

    def refresh(self) -> Trust:
        """Bring the trusted metadata up to date, and say how far trust reaches.

        Raises:
            VerificationError: something served must not be trusted.
            ExpiredError: something has expired beyond what the policy allows.
            FetchError: the repository cannot be reached, and what is stored is not whole and unexpired.
            InputError: the mirror's address cannot be used.
        """
        with self._turn:
            return self._asking.refresh()

    def status(self) -> Trust:
        """Say how far trust reaches, from what is stored, without the network.

        Raises:
            StoreError: nothing whole is stored.
            ExpiredError: what is stored has expired beyond what the policy allows.
            VerificationError: what is stored belongs to another initial root.
        """
        with self._turn:
            return self._asking.status()

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
        from kedge.registry import find_registry, read_served_keys  # only who asks for keys needs them

        module = find_registry(registry)
        with self._turn:
            target = self._asking.find(module.target_path(registry))
            trust = self._asking.ready().trust
            try:
                keys = read_served_keys(
                    module, target.data, registry=registry, custom=target.custom, now=trust.reference_time
                )
            except VerificationError as error:
                raise error.served_by(trust.source or "the stored state") from error
            self._asking.prove_keys(keys)
            self._asking.keep_found()
            return keys

    def target(self, path: str) -> Target:
        """Give a target file, after a refresh where this client has not made one yet.

        Raises:
            VerificationError: nobody who may speak for the path lists it, or it is not what they list.
            ExpiredError: something has expired beyond what the policy allows.
            FetchError: it cannot be had.
        """
        with self._turn:
            target = self._asking.find(path)
            self._asking.keep_found()
            return target

    @property
    def trust(self) -> Trust:
        """How far trust reaches: by the last refresh or status, else by a refresh now.

        Raises:
            KedgeError: as :meth:`refresh` does.
        """
        with self._turn:
            return self._asking.ready().trust

    def lock(self) -> LockedAnchor:
        """Refresh, and say how far trust has come, for a ``kedge.lock``.

        Raises:
            KedgeError: as :meth:`refresh` does; an answer from state is no reason to lock.
        """
        if self._as_of is not None:
            raise InputError("a lock is made of the present: as_of cannot be locked")
        from kedge.lockfile import LockedAnchor

        with self._turn:
            if not self._asking.refresh().refreshed:
                raise FetchError("the repository could not be reached, so there is nothing new to lock")
            return LockedAnchor.of(self._asking.ready().state)

    @property
    def verified(self) -> TrustedState:
        """All the metadata that answers stand on, with every role that a target was looked up in.

        Raises:
            KedgeError: as :meth:`refresh` does.
        """
        with self._turn:
            return self._asking.ready().state

    @property
    def key_log(self) -> KeyLog | None:
        """What the log said in the last refresh or status; None where the anchor asks for none."""
        return self._asking.key_log

    def follow(
        self, steps: Callable[[TrustedState, Freshness], Workflow[TrustedState]], *, timeout_s: float | None = None
    ) -> TrustedState:
        """Run more of a workflow from what is verified, such as :func:`kedge.census.every_role`, and keep what passes.

        ``timeout_s`` bounds it as a whole (default: as everything).

        Raises:
            KedgeError: as :meth:`target` does.
        """
        with self._turn:
            return self._asking.follow(steps, timeout_s=timeout_s)

    def keep(self) -> None:
        """Keep what a client that holds back has verified: all of it, or nothing.

        Raises:
            StoreError: the disk refuses; what was stored before stays.
            InputError: it answers as of another time than now.
        """
        with self._turn:
            self._asking.keep()

    def close(self) -> None:
        """Keep what look-ups have brought, and close the connections."""
        with self._turn:
            self._asking.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

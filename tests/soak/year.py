"""A simulated year in the life of one client: rotations, clock faults, forks and outages, and not one wrong answer.

What is right is known beforehand, since the repository is simulated: the keys that it last published, or those before
them where the new ones are younger than the policy allows an answer to be; in an outage what was known before, while it
is valid, or an error. An answer never goes back behind an earlier one. Everything is drawn from one seed.

``make soak`` plays a whole year (``DAYS=30`` for less, ``SEED=7`` for another one); ``make test`` a few weeks.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from kedge.client.client import REFRESH_AFTER, RETRY_AFTER, TrustClient
from kedge.errors import ExpiredError, FetchError, KedgeError, StoreError
from support.world import KEYS, World

__all__ = ["Tally", "play"]

TICK = timedelta(minutes=30)
LIFETIME = timedelta(days=2)


@dataclass
class Tally:
    """What was seen."""

    seen: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"  {count:6} {what}" for what, count in sorted(self.seen.items())]
        return "\n".join([*lines, f"  {len(self.wrong):6} wrong answers", *self.wrong])


@dataclass
class Year:
    """The world of one client; ``true_now`` is the repository's time, whatever the client's clock says."""

    world: World
    random: Random
    tally: Tally
    true_now: datetime
    away_until: datetime | None = None
    off_by: timedelta = timedelta(0)
    published: list[tuple[datetime, bytes]] = field(default_factory=list)
    given: int = 0
    """Which of what was published the client's last answer was."""

    def is_away(self) -> bool:
        return self.away_until is not None and self.true_now < self.away_until

    def publish(self, why: str) -> None:
        """Sign everything anew, with other keys for the registry."""
        data = f"{why} at {self.true_now}".encode()
        self.world.repo.now = self.true_now
        self.world.repo.add_target(KEYS, data, role="registry.example")
        self.world.repo.publish()
        with self.world.repo.edit("root"):
            pass
        self.published.append((self.true_now, data))

    def happen(self) -> None:
        """Let time pass, and one thing or another happen."""
        self.true_now += TICK
        random = self.random
        if self.true_now - self.published[-1][0] >= LIFETIME / 2:
            self.publish("weekday")
            self.tally.seen["published"] += 1
        chance = random.random()
        if chance < 0.02:
            role = random.choice(["root", "timestamp", "snapshot", "targets"])
            self.world.repo.now = self.true_now
            self.world.repo.rotate(role)
            self.publish(f"rotation of {role}")
            self.tally.seen[f"rotation of {role}"] += 1
        elif chance < 0.03:
            self.publish("revocation")
            self.tally.seen["revocation"] += 1
        elif chance < 0.04 and not self.is_away():
            self.away_until = self.true_now + timedelta(hours=random.choice([1, 5, 30, 72]))
            self.tally.seen["outage"] += 1
        elif chance < 0.05:
            # Never ahead for longer than what is signed: then an error is right, and nothing is learnt.
            self.off_by = timedelta(hours=random.choice([0, 0, -24 * 400, -5, -1, 1, 20]))
            self.tally.seen["clock fault" if self.off_by else "clock set right"] += 1
        self.world.clock.moment = self.true_now + self.off_by

    def judge(self, client: TrustClient, who: str) -> None:
        """Ask, and judge the answer."""
        known = [data for _, data in self.published]
        oldest = len(known) - 1
        while oldest > 0 and self.true_now - self.published[oldest][0] < REFRESH_AFTER + RETRY_AFTER:
            oldest -= 1
        try:
            data = client.target(KEYS).data
            trust = client.trust
        except ExpiredError:
            # Right in a long outage, or where the clock is ahead of all that is signed.
            self._tell(f"{who}: expired", right=self.is_away() or bool(self.off_by))
        except (FetchError, StoreError) as error:
            self._tell(f"{who}: could not", right=self.is_away(), why=str(error))
        except KedgeError as error:
            self._tell(f"{who}: refused", right=False, why=str(error))
        else:
            index = known.index(data)
            # In an outage what was known answers while it is valid, and says that it was not refreshed.
            may_be_late = self.is_away() and trust.valid_until > trust.reference_time
            right = index >= self.given and (index >= oldest or may_be_late)
            self.given = index
            late = f"{len(known) - 1 - index} behind, {self.given} was given before"
            self._tell(f"{who}: answered" + ("" if trust.refreshed else ", from state"), right=right, why=late)

    def _tell(self, what: str, *, right: bool, why: str = "") -> None:
        self.tally.seen[what] += 1
        if not right:
            self.tally.wrong.append(f"{self.true_now}: {what} {why} (clock off by {self.off_by})")


def play(days: int, *, seed: int = 1, folder: Path, **options: Any) -> Tally:
    """Play so many days; ``options`` are for the anchor."""
    world, tally = World(folder / "state"), Tally()
    world.options = options
    world.repo.lifetimes |= {"timestamp": LIFETIME, "snapshot": timedelta(days=14), "targets": timedelta(days=180)}
    year = Year(world, Random(seed), tally, world.clock.moment)

    def answer(path: str) -> None:
        if year.is_away():
            raise FetchError(f"{path}: cannot connect")

    world.mirror.before = answer
    year.publish("beginning")
    client = world.client()
    for tick in range(int(timedelta(days=days) / TICK)):
        year.happen()
        year.judge(client, "client")
        if tick % 480 == 240 and hasattr(os, "fork"):
            _fork(year, client)
        if tick % 1000 == 999:
            client.close()
            client = world.client()
            tally.seen["restart"] += 1
    return tally


def _fork(year: Year, client: TrustClient) -> None:
    """Ask in a forked process as well, and judge there."""
    year.tally.seen["fork"] += 1
    before = len(year.tally.wrong)
    child = os.fork()
    if child == 0:
        year.judge(client, "child")
        os._exit(0 if len(year.tally.wrong) == before else 3)
    _, status = os.waitpid(child, 0)
    if status:
        year.tally.wrong.append(f"{year.true_now}: a forked child ended with {status}")


def main() -> int:
    """Play a year, and print what was seen."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tally = play(options.days, seed=options.seed, folder=Path(folder))
    sys.stdout.write(f"{options.days} days, seed {options.seed}:\n{tally}\n")
    return 1 if tally.wrong else 0


if __name__ == "__main__":
    sys.exit(main())

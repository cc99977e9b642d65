"""The rows: each attack and each fault that a test here is named after, and the table of how their tests ended.

``test_a2_…`` belongs to row A2, ``test_a_…`` to the group A as a whole, through the command's process. A test may put a
figure into its row: ``record_property("figure", "0 of 400")``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

__all__ = ["ROWS", "Table", "row_of"]

ROWS = {
    "A1": "wrong bytes under a target's right name",
    "A2": "rollback: of the timestamp, the snapshot, a role inside it",
    "A3": "freeze: the last good metadata for ever",
    "A4": "mix and match of two snapshots",
    "A5": "fast-forward by a stolen online key, and recovery",
    "A6": "a root below the old or the new threshold",
    "A7": "a threshold of zero, one key twice",
    "A8": "a revoked key behind more roots than the limit",
    "A9": "a role that speaks outside its paths, or is no longer delegated to",
    "A10": "the clock set back",
    "A11": "an empty state and an old mirror, with a lock",
    "A12": "a tampered state, offline too",
    "A13": "bodies and headers without end",
    "A14": "a byte a second, or silence",
    "A15": "a Retry-After without end",
    "A16": "redirects to another origin",
    "A17": "paths and role names that lead elsewhere",
    "A18": "documents that two readers read differently",
    "A19": "mirrors that lag or lie beside one that does not",
    "A20": "answers that do not mean: no newer root",
    "A21": "a stolen TLS certificate",
    "A22": "links planted in the state folder",
    "A23": "a clock far ahead, once",
    "A24": "a planted lock",
    "A25": "a root published during a refresh",
    "A26": "two mirrors that contradict each other",
    "A27": "keys of unknown types, in root or in a delegation",
    "A28": "metadata made to cost",
    "A29": "a key revoked while a client lives",
    "A": "group A, through the command's process",
    "B1": "eight processes, fifty refreshes each, on one state",
    "B2": "killed at each system call that changes the state, and at random",
    "B3": "a full disk, at every write",
    "B4": "a state that may not be written",
    "B5": "damaged files, and a mirror rolled back at the same time",
    "B6": "readers and writers beside a refresh that waits",
    "B7": "cryptography too old for a scheme",
    "B8": "no connection, no name, no TLS, no proxy, half an answer",
    "B9": "a fork after use, and while another thread is inside",
    "B10": "a state that is there and cannot be read",
    "B11": "no HOME and no passwd entry, odd addresses, a CA file that is none",
    "B": "group B, through the command's process",
    "C1": "a mirror with an archive, a digest and a key of its own",
    "C2": "a lockfile that was made through such a mirror",
    "C3": "signatures stripped",
    "C4": "signatures and the keys endpoint stripped",
    "C5": "a junk signature beside the right one",
    "C6": "the time of publishing rewritten",
    "C7": "another package or version than asked for",
    "C8": "an old packument",
    "C9": "an archive on disk that the lockfile does not mean",
    "C10": "a registry whose keys nobody keeps",
    "C11": "a revoked key",
    "C12": "trust older than the policy allows",
    "C17": "a project's .npmrc that wants the environment's secrets",
    "C19": "files made to cost",
    "D1": "a request that does not follow from the root that the keyholder knows",
    "D2": "two keyholders who are shown different requests",
    "D3": "a key document that breaks its clients",
    "D4": "a signature by the wrong key, over other bytes, twice, or empty",
    "D5": "publishing cut off, and two publishers at once",
    "D6": "root keys lost, the online key stolen",
    "D7": "metadata about to expire",
    "D8": "a private key where others can read it",
    "D9": "a delegate who hands in what the policy does not allow",
    "D10": "key material swapped under unchanged keyids",
    "D11": "members of a payload that no sentence knows",
    "D12": "a module path, URL or command in a file that others may write",
    "D13": "a stale event blocks nothing but itself",
    "D14": "a publication that clients who hold the present one would refuse",
    "G1": "a bundle cut off, padded, compressed again, or made to burst",
    "G2": "a delta without its baseline",
    "G3": "a bundle for another anchor",
    "G4": "a bundle that expired on the way",
    "G5": "a bundle older than the last",
    "G6": "every single bit of a bundle flipped",
    "G7": "a bundle that says of itself what is not so",
    "G8": "a disk that refuses while a bundle is taken in",
    "G": "group G, through the command's process",
}


def row_of(test: str) -> str | None:
    """The row that a test's name or id belongs to."""
    match = re.search(r"\btest_([a-z]\d*)_", test)
    row = match[1].upper() if match else ""
    return row if row in ROWS else None


@dataclass
class Table:
    """Collects the reports of a run."""

    outcomes: dict[str, Counter[str]] = field(default_factory=dict)
    figures: dict[str, list[str]] = field(default_factory=dict)

    def add(self, report: pytest.TestReport) -> None:
        """Take note of one phase of one test."""
        row = row_of(report.nodeid)
        if row is None or (report.when != "call" and report.passed):
            return
        self.outcomes.setdefault(row, Counter())[report.outcome] += 1
        self.figures.setdefault(row, []).extend(
            str(value) for name, value in report.user_properties if name == "figure"
        )

    def lines(self) -> Iterator[str]:
        """One line a row, in order: its id, whether all passed, how many tests, what it is, and its figures."""
        for row in (row for row in ROWS if row in self.outcomes):
            counts = self.outcomes[row]
            verdict = "FAIL" if counts["failed"] else "pass" if counts["passed"] else "skip"
            told = ", ".join(f"{counts[name]} {name}" for name in ("passed", "failed", "skipped") if counts[name])
            figures = "".join(f"; {figure}" for figure in self.figures[row])
            yield f"{row:4} {verdict}  {told:22} {ROWS[row]}{figures}"

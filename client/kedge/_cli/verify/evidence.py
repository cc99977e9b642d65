"""``kedge verify evidence``: judge again what another run judged, offline, from this machine's own anchor."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from kedge._cli.options import AnchorName, Json
from kedge._cli.output import Screen, Tone, answer, answer_json, read_file, report, visible
from kedge._cli.verify.npm import speaker
from kedge.audit import Evidence, Offline, Proof, ProofTransport
from kedge.client import Anchor, TrustClient
from kedge.documents import blame_user, format_time
from kedge.errors import (
    ExitCode,
    ExpiredError,
    FetchError,
    InputError,
    KedgeError,
    Reason,
    StoreError,
    VerificationError,
)
from kedge.registries import KeySet
from kedge.registries.npm import FAULTLESS, Attestor, NoKeys, Outcome, Verdict
from kedge.registries.sigstore import BundleVerifier

MAX_BYTES = 1 << 30
MAX_LISTED = 40

Keys = Mapping[str, KeySet | NoKeys]


def evidence(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What --evidence wrote.")],
    anchor: AnchorName = None,
    json: Json = False,
) -> None:
    """Judge an evidence file again, offline.

    Twice: as of the time that it claims, by the signed metadata in it; and as of today, by what this machine trusts.
    The anchor is yours, and never the file's. Exit status 5: a package is not verified, or was recorded otherwise.
    """
    with blame_user(str(file)):
        found = Evidence.from_bytes(read_file(file, MAX_BYTES))
    claimed = _judge(found, _keys_claimed(found, anchor))
    today: tuple[Verdict, ...] | None = None
    fault: KedgeError | None = None
    try:
        today = _judge(found, _keys_today(found, anchor))
    except (ExpiredError, FetchError, StoreError) as error:
        fault = error
    second = _Second(found, claimed, today, fault)
    if json:
        answer_json(second.to_table())
    else:
        answer(second.lines(Screen.of_stdout()))
    if fault is not None:
        report(fault)
    if second.exit_code:
        raise typer.Exit(second.exit_code)


class _Second:
    """What came out when it was judged again."""

    def __init__(
        self,
        found: Evidence,
        claimed: tuple[Verdict, ...],
        today: tuple[Verdict, ...] | None,
        fault: KedgeError | None,
    ) -> None:
        self._found = found
        self._claimed = claimed
        self._today = today
        self._fault = fault
        self._differing = [
            (verdict, exhibit.verdict)
            for verdict, exhibit in zip(claimed, found.exhibits, strict=True)
            if _found(verdict) != _found(exhibit.verdict)
        ]

    @property
    def exit_code(self) -> ExitCode:
        """Faults of either judgement, or a record that says something else; else why today could not be judged."""
        for verdicts in (self._claimed, *((self._today,) if self._today is not None else ())):
            none = not any(verdict.outcome in FAULTLESS for verdict in verdicts)
            if any(verdict.is_fault(self._found.policy) for verdict in verdicts) or none:
                return ExitCode.FAULTS if not isinstance(self._fault, ExpiredError) else ExitCode.EXPIRED
        if self._differing:
            return ExitCode.FAULTS
        return self._fault.exit_code if self._fault is not None else ExitCode.DONE

    def to_table(self) -> dict[str, Any]:
        today = self._today or (None,) * len(self._claimed)
        return {
            "format": "kedge.verify-evidence/1",
            "lockfile": {
                "name": self._found.lockfile.name,
                "kind": self._found.lockfile.kind,
                "sha256": self._found.lockfile.sha256,
            },
            "claimed_at": format_time(self._found.claimed_at),
            "exit_code": int(self.exit_code),
            "claimed": _counts(self._claimed),
            "today": _counts(self._today) if self._today is not None else None,
            "today_fault": self._fault.message if self._fault is not None else None,
            "differing_count": len(self._differing),
            "packages": [
                {
                    "name": verdict.package.name,
                    "version": verdict.package.version or None,
                    "recorded": exhibit.verdict.outcome.value,
                    "claimed": verdict.outcome.value,
                    "today": now.outcome.value if now is not None else None,
                    "attestations": _status(verdict),
                    "attestations_today": _status(now),
                    "detail": (now if now is not None and now.detail else verdict).detail or None,
                }
                for exhibit, verdict, now in zip(self._found.exhibits, self._claimed, today, strict=True)
            ],
        }

    def lines(self, screen: Screen) -> list[str]:
        moment = format_time(self._found.claimed_at)
        lines = screen.heading(f"{self._found.lockfile.name} ({self._found.lockfile.kind})")
        lines += screen.rows([("sha256", self._found.lockfile.sha256)])
        lines += self._part(screen, f"as claimed at {moment}", self._claimed)
        if self._today is not None:
            lines += self._part(screen, "today", self._today)
        else:
            lines += ["", *screen.heading("today: not judged, see the error", Tone.BAD)]
        if self._differing:
            lines += ["", *screen.heading("the file records something else", Tone.BAD)]
            lines += screen.rows(
                [
                    (verdict.package.spec, f"recorded {_found(recorded)}, judged {_found(verdict)}")
                    for verdict, recorded in self._differing[:MAX_LISTED]
                ]
            )
        text = (
            "The time is the file's own claim. The file cannot show that nothing was left out of it: hold the number "
            "of packages and the lockfile's sha256 against the lockfile."
        )
        return [*lines, "", *screen.heading(text, Tone.PLAIN)]

    def _part(self, screen: Screen, title: str, verdicts: tuple[Verdict, ...]) -> list[str]:
        counts = [(name, str(count)) for name, count in _counts(verdicts).items() if count]
        lines = ["", *screen.heading(title), *screen.rows(counts or [("packages", "none")])]
        faults = [verdict for verdict in verdicts if verdict.is_fault(self._found.policy)]
        lines += screen.rows(
            [
                (verdict.package.spec, f"{verdict.outcome.value}: {visible(verdict.detail)}")
                for verdict in faults[:MAX_LISTED]
            ]
        )
        more = len(faults) - MAX_LISTED
        return [*lines, *(screen.rows([("", f"and {more} more: --json lists them")]) if more > 0 else [])]


def _status(verdict: Verdict | None) -> str | None:
    return verdict.attested.status.value if verdict is not None and verdict.attested is not None else None


def _found(verdict: Verdict) -> str:
    """What a verdict comes to, with what its attestations came to where there are any."""
    if verdict.attested is None:
        return verdict.outcome.value
    return f"{verdict.outcome.value}, provenance {verdict.attested.status.value}"


def _judge(found: Evidence, keys: Keys) -> tuple[Verdict, ...]:
    attestor = _attestor(found, keys)
    return tuple(exhibit.judge(keys, found.policy, attestor) for exhibit in found.exhibits)


def _attestor(found: Evidence, keys: Keys) -> Attestor | None:
    """Judges attestations by these keys' trusted root.

    Raises:
        InputError: the file holds attestations, and there is no trusted root to judge them by.
    """
    if found.attestations is None:
        return None
    root = keys[found.attestations.instance]
    if isinstance(root, NoKeys):
        raise InputError(f"the attestations in this file cannot be judged: {root.detail}")
    return found.attestations.attestor(BundleVerifier(root))


def _keys_claimed(found: Evidence, name: str | None) -> Keys:
    """The keys as of the claimed time, out of the file's own signed metadata, from this machine's anchor on."""
    proofs = {issuer: proof for proof in found.proofs for issuer in proof.issuers}
    return {
        issuer: _from_proof(issuer, proofs.get(issuer), _speaker(found, issuer, name)) for issuer in _issuers(found)
    }


def _speaker(found: Evidence, issuer: str, name: str | None) -> Anchor | None:
    return speaker(issuer, name, found.attestations.instance if found.attestations is not None else "")


def _from_proof(issuer: str, proof: Proof | None, anchor: Anchor | None) -> KeySet | NoKeys:
    if anchor is None:
        return NoKeys(issuer=issuer, detail=f"no anchor of this machine speaks for {issuer}")
    if proof is None:
        return NoKeys(issuer=issuer, detail=f"the file holds no signed metadata for {issuer}")
    with tempfile.TemporaryDirectory(prefix="kedge-evidence-") as folder:
        client = TrustClient(
            anchor, state=Path(folder) / "state", transport=ProofTransport(proof), as_of=proof.reference_time
        )
        return _keys(client, issuer)


def _keys_today(found: Evidence, name: str | None) -> Keys:
    """The keys that this machine trusts today, out of its own state."""
    keys: dict[str, KeySet | NoKeys] = {}
    for issuer in _issuers(found):
        anchor = _speaker(found, issuer, name)
        if anchor is None:
            keys[issuer] = NoKeys(issuer=issuer, detail=f"no anchor of this machine speaks for {issuer}")
            continue
        client = TrustClient(anchor, transport=Offline())
        client.status()
        keys[issuer] = _keys(client, issuer)
    return keys


def _keys(client: TrustClient, issuer: str) -> KeySet | NoKeys:
    try:
        return client.registry_keys(issuer)
    except VerificationError as error:
        if error.refusal.reason not in (Reason.NOT_FOUND, Reason.NO_KEYS):
            raise
        return NoKeys(issuer=issuer, detail=error.message)


def _issuers(found: Evidence) -> list[str]:
    root = (found.attestations.instance,) if found.attestations is not None else ()
    return list(dict.fromkeys([*(issuer for exhibit in found.exhibits for issuer in exhibit.issuers), *root]))


def _counts(verdicts: tuple[Verdict, ...]) -> dict[str, int]:
    counted = Counter(verdict.outcome for verdict in verdicts)
    return {outcome.value: counted[outcome] for outcome in Outcome}

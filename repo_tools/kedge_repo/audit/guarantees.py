"""How many post-quantum and how many classical signatures a threshold guarantees, and a way to guarantee more.

A threshold counts keys and not their kinds: of 3 classical and 2 post-quantum keys with a threshold of 3, the classical
ones suffice, and whoever breaks them (with a quantum computer) needs no other. Guaranteed are only as many post-quantum
signatures as the threshold has beyond all classical keys, and the other way round:

    guaranteed of one kind = threshold - keys of the other kind

3 + 3 keys at 5 guarantee 2 and 2, and survive one lost key. That is true of every client that verifies both kinds; no
field is added to TUF. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from securesystemslib.signer import Key
from tuf.api.metadata import Root, Targets

from kedge.registries import Finding, Severity
from kedge_repo.workspace import Policy, RolePolicy, SignedMetadata, fingerprint

RULES: Mapping[str, str] = {
    "policy/guarantee": "What a role's threshold guarantees.",
    "policy/below-minimum": "A threshold guarantees fewer signatures of a kind than the policy states.",
    "policy/unguaranteed": "A role has post-quantum keys, and its classical keys alone reach the threshold.",
}
_POST_QUANTUM = ("ml-dsa", "slh-dsa")


@dataclass(frozen=True, slots=True, kw_only=True)
class Guarantee:
    """A role's keys by kind, and its threshold."""

    classical: int
    post_quantum: int
    threshold: int

    @classmethod
    def of(cls, keys: Iterable[Key], threshold: int) -> Guarantee:
        """Count keys; one under two keyids is one."""
        kinds = {fingerprint(key): is_post_quantum(key) for key in keys}
        post_quantum = sum(kinds.values())
        return cls(classical=len(kinds) - post_quantum, post_quantum=post_quantum, threshold=threshold)

    @property
    def of_post_quantum(self) -> int:
        """How many of the signatures that are needed must be post-quantum ones."""
        return max(0, self.threshold - self.classical)

    @property
    def of_classical(self) -> int:
        """How many of them must be classical ones."""
        return max(0, self.threshold - self.post_quantum)

    @property
    def spare(self) -> int:
        """How many keys may be lost before nobody can sign any more."""
        return self.classical + self.post_quantum - self.threshold

    def describe(self) -> str:
        """All of it in words."""
        keys = f"{self.classical} classical and {self.post_quantum} post-quantum keys at {self.threshold}"
        lost = "no lost key" if self.spare <= 0 else f"{self.spare} lost key{'s' if self.spare > 1 else ''}"
        return f"{keys} guarantee {self.of_classical} and {self.of_post_quantum}, and survive {lost}"


def is_post_quantum(key: Key) -> bool:
    """Whether a quantum computer cannot make this key's signatures."""
    return key.keytype.startswith(_POST_QUANTUM) or key.scheme.startswith(_POST_QUANTUM)


def lint_policy(policy: Policy, keys: Mapping[str, Key]) -> tuple[Finding, ...]:
    """What each role's threshold would guarantee; ``keys`` are the keyholders' public keys, by name."""
    findings: list[Finding] = []
    for role in (*policy.roles.values(), *policy.delegations.values()):
        guarantee = Guarantee.of((keys[name] for name in role.keyholders), role.threshold)
        findings += _judge(role, guarantee, f"kedge-repo.toml: {_table(policy, role)}")
    return tuple(findings)


def lint_signed(policy: Policy, signed: SignedMetadata) -> tuple[Finding, ...]:
    """Where the signed metadata guarantees less than the policy states: what must not be published."""
    findings: list[Finding] = []
    for role, delegator in _delegators(policy, signed):
        listed = delegator.get_delegated_role(role.name)
        guarantee = Guarantee.of((delegator.get_key(keyid) for keyid in listed.keyids), listed.threshold)
        place = f"{delegator.version}.{delegator.type}.json: {role.name}"
        findings += (finding for finding in _judge(role, guarantee, place) if finding.severity is Severity.ERROR)
    return tuple(findings)


def propose(guarantee: Guarantee, *, minimum: int = 2, lost: int = 1) -> Guarantee:
    """The fewest keys, and their threshold, that guarantee ``minimum`` signatures of either kind and survive ``lost``.

    No key that is there is taken away.
    """
    classical = max(guarantee.classical, minimum + lost)
    post_quantum = max(guarantee.post_quantum, minimum + lost)
    threshold = max(classical, post_quantum) + minimum
    return Guarantee(classical=classical, post_quantum=post_quantum, threshold=threshold)


def _judge(role: RolePolicy, guarantee: Guarantee, place: str) -> Iterator[Finding]:
    yield Finding(rule="policy/guarantee", severity=Severity.NOTE, place=place, message=guarantee.describe())
    for kind, found, minimum in (
        ("post-quantum", guarantee.of_post_quantum, role.min_post_quantum),
        ("classical", guarantee.of_classical, role.min_classical),
    ):
        if found < minimum:
            text = f"guarantees {found} {kind} signatures, and the policy states {minimum}"
            hint = "kedge-repo lint policy --propose says how to get there"
            rule = "policy/below-minimum"
            yield Finding(rule=rule, severity=Severity.ERROR, place=place, message=text, hint=hint)
    if guarantee.post_quantum and not guarantee.of_post_quantum:
        text = f"its classical keys alone reach the threshold of {guarantee.threshold}: no post-quantum key is needed"
        yield Finding(rule="policy/unguaranteed", severity=Severity.WARNING, place=place, message=text)


def _table(policy: Policy, role: RolePolicy) -> str:
    return f"roles.{role.name}" if role.name in policy.roles else f'delegations."{role.name}"'


def _delegators(policy: Policy, signed: SignedMetadata) -> Iterator[tuple[RolePolicy, Root | Targets]]:
    if signed.root is None:
        return
    for role in policy.roles.values():
        yield role, signed.root.signed
    targets = signed.targets.signed if signed.targets is not None else None
    for name, delegated in policy.delegations.items():
        if targets is not None and targets.delegations is not None and name in (targets.delegations.roles or {}):
            yield delegated, targets

"""What a threshold of mixed keys guarantees, that less is not published, and that the proposed way works."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner, SSlibKey
from tuf.api.metadata import Metadata, Root

from kedge.errors import ThresholdError, VerificationError
from kedge.registries.registry import Severity
from kedge.tuf.metadata import parse, require_threshold
from kedge_repo._cli.app import run
from kedge_repo.audit.guarantees import Guarantee, is_post_quantum, lint_policy, lint_signed, propose
from kedge_repo.events.plan_keys import add_key
from kedge_repo.events.plan_roles import plan_role
from kedge_repo.publish.publish import publish_workspace
from repo_tools.ceremony import Ceremony

CLASSICAL = [CryptoSigner.generate_ed25519(), CryptoSigner.generate_ecdsa(), CryptoSigner.generate_ed25519()]
POST_QUANTUM = [CryptoSigner.generate_mldsa() for _ in range(3)]


def guarantee(classical: int, post_quantum: int, threshold: int) -> Guarantee:
    return Guarantee(classical=classical, post_quantum=post_quantum, threshold=threshold)


@pytest.mark.parametrize(
    ("keys", "of_classical", "of_post_quantum", "spare"),
    [((3, 2, 3), 1, 0, 2), ((3, 3, 5), 2, 2, 1), ((5, 5, 7), 2, 2, 3), ((3, 0, 2), 2, 0, 1), ((0, 2, 2), 0, 2, 0)],
)
def test_a_threshold_guarantees_what_it_has_beyond_the_keys_of_the_other_kind(
    keys: tuple[int, int, int], of_classical: int, of_post_quantum: int, spare: int
) -> None:
    found = guarantee(*keys)
    assert (found.of_classical, found.of_post_quantum, found.spare) == (of_classical, of_post_quantum, spare)


def test_what_is_guaranteed_is_what_real_signatures_need() -> None:
    # Every set of signers of 3 + 3 at 5: it passes where it is large enough, and then 2 of each kind are among it.
    keys = [signer.public_key for signer in (*CLASSICAL, *POST_QUANTUM)]
    assert [is_post_quantum(key) for key in keys] == [False] * 3 + [True] * 3
    found = Guarantee.of(keys, 5)
    assert found == guarantee(3, 3, 5)
    root = Root(consistent_snapshot=True)
    for key in keys:
        root.add_key(key, "root")
    root.roles["root"].threshold = 5
    metadata = Metadata(root)
    for signer in (*CLASSICAL, *POST_QUANTUM):
        metadata.sign(signer, append=True)
    whole = parse(metadata.to_bytes(), Root, file="1.root.json")
    least = [6, 6]
    for count in range(7):
        for chosen in itertools.combinations(keys, count):
            names = {key.keyid for key in chosen}
            signed = replace(whole, signatures={k: v for k, v in whole.signatures.items() if k in names})
            try:
                require_threshold(root, "root", signed)
            except VerificationError:
                continue
            kinds = [is_post_quantum(key) for key in chosen]
            least = [min(least[0], kinds.count(False)), min(least[1], kinds.count(True))]
    assert least == [found.of_classical, found.of_post_quantum]


def test_one_key_under_two_keyids_counts_once() -> None:
    key = CLASSICAL[0].public_key
    again = SSlibKey("f" * 64, key.keytype, key.scheme, key.keyval)
    assert Guarantee.of([key, again], 1) == guarantee(1, 0, 1)


@pytest.mark.parametrize("minimum", [1, 2, 3])
@pytest.mark.parametrize("lost", [0, 1, 2])
@pytest.mark.parametrize("now", [(3, 0, 2), (1, 0, 1), (5, 1, 3), (3, 3, 4), (0, 4, 2)])
def test_what_is_proposed_guarantees_it_with_the_fewest_keys(
    now: tuple[int, int, int], lost: int, minimum: int
) -> None:
    then = propose(guarantee(*now), minimum=minimum, lost=lost)
    assert then.of_classical >= minimum
    assert then.of_post_quantum >= minimum
    assert then.spare >= lost
    fewer = [
        guarantee(classical, post_quantum, threshold)
        for classical in range(now[0], then.classical + 1)
        for post_quantum in range(now[1], then.post_quantum + 1)
        for threshold in range(1, classical + post_quantum + 1)
        if classical + post_quantum < then.classical + then.post_quantum
    ]
    assert not [g for g in fewer if g.of_classical >= minimum and g.of_post_quantum >= minimum and g.spare >= lost]


def test_the_proposal_for_two_of_three_classical_keys_is_three_and_three_at_five() -> None:
    assert propose(guarantee(3, 0, 2)) == guarantee(3, 3, 5)


def migrated(folder: Path) -> Ceremony:
    """Three ML-DSA keyholders join root, which three classical ones held 2 of 3; then the threshold goes to 5."""
    ceremony = Ceremony(folder).ready()
    for number in range(1, 4):
        name = f"pq-{number}"
        ceremony.signers[name] = CryptoSigner.generate_mldsa()
        key = ceremony.signers[name].public_key
        ceremony.change(partial(add_key, keyholder=name, new=key, roles=("root",)))
    ceremony.sign("alice", "bob")
    ceremony.merge()
    ceremony.change(lambda view: plan_role(view, "root", threshold=5))
    return ceremony


def test_a_repository_comes_from_classical_keys_to_both_kinds_and_python_tuf_follows(tmp_path: Path) -> None:
    ceremony = migrated(tmp_path)
    ceremony.sign("alice", "bob", "pq-1", "pq-2")
    with pytest.raises(ThresholdError, match="has 4 of 5"):
        ceremony.merge()
    ceremony.sign("pq-3")
    ceremony.merge()
    ceremony.online()
    # From every root on, by kedge and by python-tuf's Updater.
    (done,) = publish_workspace(ceremony.workspace, tmp_path / "out", now=ceremony.now)
    assert done.replayed == 2 * 3
    policy = ceremony.workspace.policy()
    findings = lint_policy(policy, ceremony.workspace.keys(policy))
    (root,) = [finding for finding in findings if finding.place == "kedge-repo.toml: roles.root"]
    assert root.message == "3 classical and 3 post-quantum keys at 5 guarantee 2 and 2, and survive 1 lost key"
    assert root.severity is Severity.NOTE


def test_less_than_the_policy_states_is_an_error_in_the_plan_and_in_what_is_signed(tmp_path: Path) -> None:
    ceremony = migrated(tmp_path)
    text = ceremony.workspace.policy_text()
    stated = text.replace("[roles.root]\n", "[roles.root]\nmin_post_quantum = 2\nmin_classical = 2\n", 1)
    assert stated != text
    ceremony.workspace.write_policy(stated)
    policy, keys = ceremony.workspace.policy(), ceremony.workspace.keys(ceremony.workspace.policy())
    texts = {(finding.severity, finding.rule) for finding in lint_policy(policy, keys)}
    assert (Severity.ERROR, "policy/below-minimum") in texts
    assert (Severity.WARNING, "policy/unguaranteed") in texts
    errors = lint_signed(policy, ceremony.workspace.signed())
    assert [finding.message for finding in errors] == [
        "guarantees 0 post-quantum signatures, and the policy states 2",
        "guarantees 0 classical signatures, and the policy states 2",
    ]
    ceremony.workspace.write_policy(text)
    ceremony.sign("alice", "bob", "carol", "pq-1", "pq-2")
    ceremony.merge()
    ceremony.workspace.write_policy(
        ceremony.workspace.policy_text().replace("[roles.root]\n", "[roles.root]\nmin_post_quantum = 2\n", 1)
    )
    assert lint_signed(ceremony.workspace.policy(), ceremony.workspace.signed()) == ()


def test_the_command_refuses_to_publish_below_the_minimum_and_proposes_a_way(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ceremony = Ceremony(tmp_path).ready()
    root, text = str(ceremony.workspace.root), ceremony.workspace.policy_text()
    ceremony.workspace.write_policy(text.replace("[roles.root]\n", "[roles.root]\nmin_post_quantum = 2\n", 1))
    assert run(["publish", str(tmp_path / "out"), "-w", root]) == 5
    assert "guarantees 0 post-quantum signatures, and the policy states 2" in capsys.readouterr().err
    assert not (tmp_path / "out" / "metadata").exists()
    assert run(["lint", "policy", "--propose", "-w", root]) == 5
    told = capsys.readouterr()
    assert "3 classical and 3 post-quantum keys at 5 guarantee 2 and 2, and survive 1 lost key" in told.err
    assert "[policy/below-minimum]" in told.out
    ceremony.workspace.write_policy(text)
    assert run(["lint", "policy", "-w", root]) == 0
    assert run(["publish", str(tmp_path / "out"), "-w", root]) == 0

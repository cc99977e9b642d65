"""Every fault of a policy is one line with the path to it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from kedge.documents import DocumentError
from kedge_repo.workspace.policy import Policy

GOOD = """
format = "kedge.policy/1"
name = "example"

[keyholders.alice]
public = "keys/alice.pub"
location = "file:~/alice.pem"
[keyholders.bob]
public = "keys/bob.pub"
[keyholders.ci]
public = "keys/ci.pub"

[roles.root]
keyholders = ["alice", "bob"]
threshold = 2
expiry_days = 365
signing_days = 60
[roles.targets]
keyholders = ["alice", "bob"]
threshold = 1
expiry_days = 365
signing_days = 60
[roles.snapshot]
keyholders = ["ci"]
threshold = 1
expiry_days = 30
signing_days = 5
[roles.timestamp]
keyholders = ["ci"]
threshold = 1
expiry_days = 7
signing_days = 3

[delegations."registry.npmjs.org"]
paths = ["registry.npmjs.org/*"]
keyholders = ["bob"]
threshold = 1
expiry_days = 182
signing_days = 31
terminating = true

[[destination]]
folder = "public"
"""


def test_a_whole_policy_is_read_into_values() -> None:
    policy = Policy.from_text(GOOD)
    assert policy.keyholders["alice"].location == "file:~/alice.pem"
    assert policy.roles["root"].keyholders == ("alice", "bob")
    assert policy.roles["timestamp"].expiry == timedelta(days=7)
    assert policy.delegations["registry.npmjs.org"].terminating
    assert policy.role("registry.npmjs.org") is policy.delegations["registry.npmjs.org"]
    assert policy.role("nobody") is None
    assert [destination.folder for destination in policy.destinations] == ["public"]


FAULTS = [
    ("threshold = 2", "threshold = 3", "roles.root.threshold: must be at most 2, the number of its keyholders, not 3"),
    ("threshold = 2", "threshold = 0", "roles.root.threshold: must be at least 1, not 0"),
    ("threshold = 2", 'threshold = "2"', "roles.root.threshold: must be a whole number, not a text"),
    ("threshold = 2", "threshold = true", "roles.root.threshold: must be a whole number, not a boolean"),
    ("threshold = 2\n", "", "roles.root.threshold: is missing"),
    ("threshold = 2", "treshold = 2\nthreshold = 2", "roles.root.treshold: is not a field of this document"),
    ('["alice", "bob"]', '["alice", "dave"]', 'roles.root.keyholders[1]: "dave" is not described under keyholders'),
    ('["alice", "bob"]', '["alice", "alice"]', 'roles.root.keyholders[1]: "alice" stands here twice'),
    ('["alice", "bob"]', "[]", "roles.root.keyholders: must name at least one keyholder"),
    ("signing_days = 60", "signing_days = 365", "roles.root.signing_days: must be less than the 365 of expiry_days"),
    ("expiry_days = 365", "expiry_days = 99999", "roles.root.expiry_days: must be at most 3660, not 99999"),
    ("[roles.timestamp]", "[roles.time]", "roles.timestamp: is missing"),
    ('"keys/alice.pub"', '"../alice.pub"', "keyholders.alice.public: must be a path inside the workspace"),
    ('"keys/alice.pub"', '"/alice.pub"', "keyholders.alice.public: must be a path inside the workspace"),
    ('"file:~/alice.pem"', '"alice.pem"', 'keyholders.alice.location: must be a URI, not "alice.pem"'),
    ("[keyholders.alice]", '[keyholders."al ice"]', 'keyholders."al ice": must be a name of letters'),
    ('delegations."registry.npmjs.org"', "delegations.root", "delegations.root: is a top-level role"),
    ("terminating = true", "terminating = 1", "terminating: must be true or false, not a number"),
    ('["registry.npmjs.org/*"]', "[]", 'delegations."registry.npmjs.org".paths: must name at least one path pattern'),
    ('["registry.npmjs.org/*"]', '["/x"]', 'delegations."registry.npmjs.org".paths[0]: must not start with "/"'),
    ('folder = "public"', 'folder = ""', "destination[0].folder: must not be empty"),
    ("kedge.policy/1", "kedge.policy/2", 'format: is "kedge.policy/2"; this kedge reads version kedge.policy/1 only'),
    ("kedge.policy/1", "kedge.anchor/1", 'format: must be "kedge.policy/1", not "kedge.anchor/1"'),
    ('name = "example"', "name = example", "is not TOML"),
    ('name = "example"', 'name = "a b"', "name: must be letters"),
]


@pytest.mark.parametrize(("old", "new", "problem"), FAULTS, ids=[fault[2][:60] for fault in FAULTS])
def test_a_fault_names_its_path(old: str, new: str, problem: str) -> None:
    assert old in GOOD
    with pytest.raises(DocumentError) as caught:
        Policy.from_text(GOOD.replace(old, new, 1))
    assert problem.partition(";")[0] in str(caught.value)
    assert "\n" not in str(caught.value)

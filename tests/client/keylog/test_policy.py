"""Log policies, and which checkpoints count by them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from kedge.documents import DocumentError
from kedge.errors import VerificationError
from kedge.tlog.note import SignatureKind, Signed, VerifierKey
from kedge.tlog.policy import LogPolicy

NOW = datetime(2026, 8, 22, tzinfo=UTC)


def key(name: str, number: int, kind: SignatureKind = SignatureKind.ED25519_COSIGNATURE) -> VerifierKey:
    return VerifierKey(name=name, kind=kind, public=bytes([number]) * 32)


LOG = key("log.example", 0, SignatureKind.ED25519)
X = [key(f"x.example/{number}", number) for number in range(1, 4)]
Y = [key(f"y.example/{number}", number) for number in range(4, 7)]

# The example of C2SP tlog-policy, with keys.
TEXT = "\n".join(
    [
        f"log {LOG.to_text()} https://log.example/",
        "  # a comment",
        "",
        *(f"witness X{number}\t{each.to_text()} https://x.example" for number, each in enumerate(X, 1)),
        "group X-witnesses 2 X1 X2 X3",
        *(f"witness Y{number} {each.to_text()}" for number, each in enumerate(Y, 1)),
        "group Y-witnesses any Y1 Y2 Y3",
        "group X-and-Y all X-witnesses Y-witnesses",
        "quorum X-and-Y",
        "",
    ]
)


def signed(*keys: VerifierKey, minutes: int = 0) -> list[Signed]:
    """Each key signed a minute after the one before it."""
    return [Signed(key=each, time=NOW + timedelta(minutes=minutes + at)) for at, each in enumerate(keys)]


def test_the_example_of_the_specification_is_read() -> None:
    policy = LogPolicy.from_bytes(TEXT.encode())
    assert policy.logs == (LOG,)
    assert [witness.url for witness in policy.witnesses.values()][2:4] == ["https://x.example", None]
    assert policy.keys == (LOG, *X, *Y)
    assert policy.describe_quorum() == "2 of X-witnesses, Y-witnesses"
    assert LogPolicy.from_bytes(f"log {LOG.to_text()}\nquorum none\n".encode()).quorum_time([], file="f") is None


def test_a_quorum_of_groups_needs_each_of_them() -> None:
    policy = LogPolicy.from_bytes(TEXT.encode())
    for right in ([X[0], X[2], Y[1]], [*X, *Y]):
        policy.quorum_time(signed(*right), file="f")
    for wrong in ([X[0], Y[0]], [*X], [*Y], [X[0], X[0], Y[0]], [LOG, X[0], Y[0]]):
        with pytest.raises(VerificationError, match="its log's policy asks for 2 of X-witnesses, Y-witnesses"):
            policy.quorum_time(signed(*wrong), file="f")


def test_no_minority_moves_the_time_of_a_quorum_forward() -> None:
    policy = LogPolicy.from_bytes(TEXT.encode())
    honest = signed(X[0], X[1], Y[0])
    assert (
        policy.quorum_time(honest, file="f") == NOW
    )  # the second latest of X, and the latest of Y, and of both the earlier
    liar = [*honest, *signed(X[2], minutes=10_000)]
    assert policy.quorum_time(liar, file="f") == NOW + timedelta(minutes=1)
    both = [*honest, *signed(Y[1], minutes=10_000)]
    assert policy.quorum_time(both, file="f") == NOW


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (("quorum X-and-Y", ""), "must have one quorum line"),
        (("quorum X-and-Y", "quorum X-and-Y\nquorum none"), "must be the one line"),
        (("quorum X-and-Y", "quorum nobody"), "nobody is no witness or group"),
        (("group X-witnesses 2", "group X-witnesses 4"), "must ask for all, any, or 1 to 3 members, not 4"),
        (("group X-witnesses 2", "group X-witnesses 02"), "not 02"),
        (("X1 X2 X3", "X1 X2 X1"), "X1 is a member already"),
        (("all X-witnesses Y-witnesses", "all X-witnesses Y1"), "Y1 is a member already"),
        (("group Y-witnesses", "group X1"), "the name X1 is taken"),
        (("group Y-witnesses", "group none"), "the name none is taken"),
        ((X[1].to_text(), X[0].to_text()), "this key stands here twice"),
        ((X[1].to_text(), LOG.to_text()), "a witness signs with keys of type 04, 06, not 01"),
        ((LOG.to_text(), X[0].to_text()), "a log signs with keys of type 01, 06, not 04"),
        (("log ", "logs "), "must begin with log, witness, group or quorum"),
        (("  # a comment", "a \x00"), "control character"),
        (("any Y1 Y2 Y3", ""), "must be: group NAME"),
    ],
)
def test_what_is_no_policy_is_refused_with_the_line(change: tuple[str, str], problem: str) -> None:
    with pytest.raises(DocumentError, match=problem):
        LogPolicy.from_bytes(TEXT.replace(*change, 1).encode())

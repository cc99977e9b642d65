"""The shared dataclass: everything that the standard one promises, as far as this package uses it."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError, field, replace
from typing import Any

import pytest

import kedge.values


@kedge.values.dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """A value."""

    name: str
    count: int = 3
    parts: list[str] = field(default_factory=list)
    secret: str = field(default="s", repr=False, compare=False)

    @property
    def doubled(self) -> int:
        return 2 * self.count


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Standard:
    """A value."""

    name: str
    count: int = 3
    parts: list[str] = field(default_factory=list)
    secret: str = field(default="s", repr=False, compare=False)


@kedge.values.dataclass(frozen=True, slots=True)
class Placed:
    """A value that is made by position."""

    name: str
    count: int = 3


def test_it_is_made_shown_and_compared_as_the_standard_one_is() -> None:
    settings: list[dict[str, Any]] = [{"name": "a"}, {"name": "b", "count": 4, "parts": ["x"], "secret": "t"}]
    for given in settings:
        ours, theirs = Shared(**given), Standard(**given)
        assert repr(ours) == repr(theirs).replace("Standard", "Shared")
        assert dataclasses.asdict(ours) == dataclasses.asdict(theirs)
        assert [each.name for each in dataclasses.fields(ours)] == [each.name for each in dataclasses.fields(theirs)]
    assert Shared(name="a") == Shared(name="a", secret="other")
    assert Shared(name="a") != Shared(name="a", count=4)
    others: list[object] = [Standard(name="a"), ("a", 3, [])]
    assert Shared(name="a") not in others
    assert Placed("a", 4) == Placed("a", count=4) == replace(Placed("a"), count=4)


def test_each_value_has_a_default_of_its_own() -> None:
    first, second = Shared(name="a"), Shared(name="b")
    first.parts.append("x")
    assert second.parts == []


def test_it_is_hashed_by_what_is_compared() -> None:
    assert len({Placed("a"), Placed("a", 3), Placed("b")}) == 2
    with pytest.raises(TypeError, match="unhashable"):
        hash(Shared(name="a"))


@pytest.mark.parametrize(
    "make",
    [
        Shared,
        lambda: Shared(name="a", other=1),  # type: ignore[call-arg] # what is tested
        lambda: Shared("a"),  # type: ignore[call-arg] # what is tested
        lambda: Placed("a", 1, 2),  # type: ignore[call-arg] # what is tested
        lambda: Placed("a", name="b"),  # type: ignore[misc] # what is tested
        lambda: replace(Shared(name="a"), other=1),  # type: ignore[call-arg] # what is tested
    ],
)
def test_a_field_that_is_missing_unknown_or_given_twice_is_refused(make: Callable[[], Any]) -> None:
    with pytest.raises(TypeError):
        make()


def test_it_cannot_be_changed() -> None:
    value = Placed("a")
    with pytest.raises(FrozenInstanceError, match="name"):
        value.name = "b"  # type: ignore[misc] # what is tested
    with pytest.raises(FrozenInstanceError, match="count"):
        del value.count
    with pytest.raises(FrozenInstanceError, match="other"):
        value.other = 1  # type: ignore[attr-defined] # what is tested
    assert not hasattr(value, "__dict__")


def test_it_can_be_copied_pickled_replaced_and_matched() -> None:
    value = Shared(name="a", parts=["x"])
    assert pickle.loads(pickle.dumps(value)) == copy.deepcopy(value) == value
    assert replace(value, count=9).doubled == 18
    match Placed("a", 4):
        case Placed(name, count):
            assert (name, count) == ("a", 4)


def test_help_shows_its_fields() -> None:
    assert list(inspect.signature(Shared).parameters) == list(inspect.signature(Standard).parameters)
    assert inspect.signature(Placed).parameters["count"].default is not inspect.Parameter.empty


def test_what_it_does_not_know_is_refused_when_the_class_is_made() -> None:
    with pytest.raises(TypeError):
        kedge.values.dataclass(frozen=False, slots=True)
    with pytest.raises(TypeError):
        kedge.values.dataclass(frozen=True, slots=True, order=True)

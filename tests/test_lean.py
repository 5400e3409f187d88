"""Dataclasses of prunecli.lean are those of the standard library: the same comparison, hash and text."""

import copy
import dataclasses
import pickle
from collections.abc import Callable
from dataclasses import field
from typing import Any, cast

import pytest

from prunecli import lean

Maker = Callable[..., Any]

_VALUES = [(1, "a", ()), (1, "a", (2,)), (1, "b", ()), (2, "a", ())]


def _three(dataclass: Maker, **options: bool) -> Any:
    @dataclass(**options)
    class Thing:
        number: int
        text: str = field(compare=False)
        rest: Any = field(default=(), hash=False, repr=False)

    return Thing


def _odd(dataclass: Maker, **options: bool) -> Any:
    @dataclass(**options)
    class Thing:
        number: int
        text: str
        rest: Any

        def __eq__(self, other: object) -> bool:
            return True

        def __hash__(self) -> int:
            return 7

        def __repr__(self) -> str:
            return "odd"

    return Thing


def _traits(cls: Any) -> tuple[object, ...]:
    things = [cls(*values) for values in _VALUES]
    hashes = [hash(each) for each in things] if cls.__hash__ else []
    equal = [[one == other for other in things] for one in things]
    same_hash = [[one == other for other in hashes] for one in hashes]
    names = [each.name for each in dataclasses.fields(cls)], cls.__match_args__, getattr(cls, "__slots__", None)
    own = [repr(each).rpartition("Thing")[2] for each in things] if cls.__eq__ is not object.__eq__ else None
    return equal, same_hash, names, own, things[0] == 1, dataclasses.astuple(dataclasses.replace(things[0], number=5))


@pytest.mark.parametrize("make", [_three, _odd])
@pytest.mark.parametrize(
    "options",
    [{}, {"slots": True}, {"frozen": True}, {"frozen": True, "slots": True}, {"slots": True, "eq": False}],
    ids=str,
)
def test_they_compare_hash_and_print_alike(make: Maker, options: dict[str, bool]) -> None:
    assert _traits(make(lean.dataclass, **options)) == _traits(make(dataclasses.dataclass, **options))


@lean.dataclass(frozen=True, slots=True)
class _Loop:
    items: list[Any]


@lean.dataclass(frozen=True, slots=True)
class _Other:
    items: list[Any]


def test_copies_are_equal_and_other_classes_are_not() -> None:
    thing, other = _Loop([1]), cast(Any, _Other([1]))
    assert copy.deepcopy(thing) == pickle.loads(pickle.dumps(thing)) == thing
    assert thing != other
    thing.items.append(thing)
    assert repr(thing) == "_Loop(items=[1, ...])"

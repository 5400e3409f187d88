"""Accumulators by name act as one: what was added comes out by name, and adds up wherever it is merged."""

import json
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from prunecli.core.accumulate import Accumulators


@dataclass
class Sum:
    total: int = 0

    def add(self, found: int) -> None:
        self.total += found

    def drain(self) -> int | None:
        drained, self.total = self.total, 0
        return drained or None

    def merge(self, drained: int) -> None:
        self.total += drained


@dataclass
class Pair:
    """Two sums, and both of them by name."""

    own: dict[str, Sum] = field(default_factory=lambda: {"a": Sum(), "b": Sum()})

    @property
    def joined(self) -> Accumulators:
        return Accumulators({"pair": Accumulators(self.own), "alone": Sum()})


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 9), st.integers(0, 2), st.booleans())))
def test_what_several_find_adds_up_wherever_it_is_merged(steps: list[tuple[str, int, int, bool]]) -> None:
    pairs = [Pair() for _ in range(3)]
    joined = [pair.joined for pair in pairs]
    for name, value, at, handed_over in steps:
        joined[at].add([("pair", [(name, value)])])
        if handed_over:
            joined[0].merge(json.loads(json.dumps(joined[at].drain())))
    for each in joined[1:]:
        joined[0].merge(each.drain() or {})
        assert each.drain() is None
    expected = {name: sum(value for at, value, *_ in steps if at == name) for name in "ab"}
    assert {name: each.total for name, each in pairs[0].own.items()} == expected


def test_only_what_was_added_comes_out_and_once() -> None:
    both = Accumulators({"a": Sum(), "b": Sum()})
    assert both.drain() is None
    both.add([("b", 2)])
    assert both.drain() == {"b": 2}
    assert both.drain() is None

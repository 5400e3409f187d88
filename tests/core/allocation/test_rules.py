"""Rules of allocation against tables of numbers, an exact reference, and the numbers of the authors' own code."""

import math
from functools import cache
from pathlib import Path

import pytest
from allocation_reference import REFERENCE, largest_remainders, rigl_counts
from hypothesis import given
from hypothesis import strategies as st
from network_shapes import NETWORKS, layers_of

from prunecli.core.allocation import RULES, Layer, allocate, find_rule
from prunecli.core.allocation.solvers import SOLVERS
from prunecli.errors import UsageError

_SOLVED = [rule for rule in RULES if rule != "global"]
_AMOUNTS = (0.5, 0.8, 0.9, 0.95, 0.99)
_CELLS = [(network, rule, amount) for network in NETWORKS for rule in _SOLVED for amount in _AMOUNTS]


@cache
def _table() -> dict[tuple[str, str, str, float], list[int]]:
    """The rows of the file, all as numbers of kept elements."""
    table: dict[tuple[str, str, str, float], list[int]] = {}
    for line in Path(__file__).with_name("golden_counts.txt").read_text(encoding="ascii").splitlines():
        if not line.startswith("#"):
            who, network, rule, amount, *runs = line.split()
            parts = [run.partition("*") for run in runs]
            row = [int(number) for number, _, times in parts for _ in range(int(times or 1))]
            ours = row if who == "ours" else table["ours", network, rule, float(amount)]
            row = row if who == "ours" else [mine + other for mine, other in zip(ours, row, strict=True)]
            table[who, network, rule, float(amount)] = row
    return table


def _kept(rule: str, layers: list[Layer], pruned: int) -> list[int]:
    counts = allocate(rule, layers, pruned)
    assert list(counts) == [layer.key for layer in layers]
    return [layer.left - counts[layer.key] for layer in layers]


def _pruned(layers: list[Layer], amount: float) -> int:
    return round(amount * sum(layer.left for layer in layers))


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("rule", _SOLVED)
def test_numbers_are_those_of_the_table_and_of_the_exact_reference(network: str, rule: str) -> None:
    layers = layers_of(network)
    total = sum(layer.left for layer in layers)
    for amount in _AMOUNTS:
        golden, pruned = _table().get(("ours", network, rule, amount)), _pruned(layers, amount)
        exact = REFERENCE[rule](layers, total - pruned)
        if golden is None or exact is None:
            assert golden is exact is None
            with pytest.raises(UsageError):
                allocate(rule, layers, pruned)
            continue
        assert _kept(rule, layers, pruned) == golden
        assert sum(golden) == total - pruned
        assert golden == largest_remainders(exact, total - pruned, [layer.key for layer in layers])
        assert all(abs(count - share) < 1 for count, share in zip(golden, exact, strict=True))


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("rule", ["er", "erk"])
def test_the_reference_with_the_flooring_of_rigl_and_jaxpruner_returns_their_numbers(network: str, rule: str) -> None:
    layers = layers_of(network)
    for amount in _AMOUNTS:
        assert rigl_counts(layers, amount, kernel=rule == "erk") == _table()["rigl", network, rule, amount]


def test_numbers_are_those_of_the_authors_code_to_within_an_element_for_each_layer() -> None:
    compared = [key for key in _table() if key[0] == "code"]
    assert len(compared) == 117
    for who, network, rule, amount in compared:
        ours, theirs = (_table()[each, network, rule, amount] for each in ("ours", who))
        assert all(abs(mine - other) <= len(ours) for mine, other in zip(ours, theirs, strict=True))


def test_what_no_ratio_reaches_is_refused_with_the_range() -> None:
    assert len(_CELLS) - sum(who == "ours" for who, *_ in _table()) == 35
    layers = layers_of("resnet50")
    with pytest.raises(UsageError) as refused:
        allocate("erk+", layers, _pruned(layers, 0.95))
    assert str(refused.value) == (
        "erk+ cannot prune 24,227,766 (95.00%) of 25,502,912 elements: fc.weight, the last linear layer, stays dense, "
        "so it can prune from 0 (0.00%) to 23,454,912 (91.97%)"
    )
    assert sum(allocate("erk+", layers, 23_454_912).values()) == 23_454_912
    with pytest.raises(UsageError, match=r"to 23,454,912 \("):
        allocate("erk+", layers, 23_454_913)


@pytest.mark.parametrize(
    ("rule", "network", "message"),
    [
        ("smart", "mlp", "can prune only 186,340 (70.00%)"),
        ("smart-vgg", "resnet20", "every linear layer keeps 30%, so it can prune from 448 (0.17%) to 268,144 (99.93%)"),
        ("uniform+", "resnet20", "can prune from 0 (0.00%) to 267,776 (99.79%)"),
        ("uniform+", "mlp", "uniform+ needs a convolution (3 to 5 dimensions)"),
    ],
)
def test_the_range_is_part_of_the_message(rule: str, network: str, message: str) -> None:
    layers = layers_of(network)
    with pytest.raises(UsageError) as refused:
        allocate(rule, layers, sum(layer.left for layer in layers))
    assert message in str(refused.value)


def test_linear_layers_keep_three_tenths_and_the_excess_passes_them_by() -> None:
    shapes = {"a": (2, 2, 1), "fc": (10, 10), "b": (1, 1, 3), "c": (5, 2, 1)}
    layers = [Layer(name, name, shape, math.prod(shape)) for name, shape in shapes.items()]
    # Weights 4·20, 3·6, 10·2 of 8 elements: 5.4, 1.2, 1.4; the first keeps 4, and the others receive 1.4.
    assert _kept("smart", layers, 117 - 38) == [4, 30, 3, 1]
    # All that can be kept: a, b and c are full.
    assert _kept("smart", layers, 70) == [4, 30, 3, 10]
    with pytest.raises(UsageError, match=r"v \(7\) is neither"):
        allocate("smart", [*layers, Layer("v", "v", (7,), 7)], 70)


def test_three_tenths_may_be_rounded_either_way_and_are_limited_by_what_is_left() -> None:
    layer = Layer("fc", "fc", (3, 5), 15)
    assert [_kept("smart", [layer], pruned) for pruned in (10, 11)] == [[5], [4]]
    with pytest.raises(UsageError, match=r"from 10 \(66.67%\) to 11 \(73.33%\)"):
        allocate("smart", [layer], 12)
    later = Layer("fc", "fc", (3, 5), 2)
    assert _kept("smart", [later], 0) == [2]
    with pytest.raises(UsageError, match=r"only 0 \(0.00%\)"):
        allocate("smart", [later], 1)


def test_the_excess_that_later_layers_have_no_room_for_goes_to_earlier_ones() -> None:
    sizes = [(1000, 1000), (100, 100), (100, 1)]  # one element of the last is left, as in a later round
    layers = [Layer(name, name, (size, 1, 1), left) for name, (size, left) in zip("abc", sizes, strict=True)]
    # Weights 12, 6 and 2 times the sizes, of 600 elements: 562.5, 28.125 and 9.375, of which 8.375 go to b.
    assert _kept("smart", layers, 1101 - 600) == [563, 36, 1]
    # Of 1099: a fills; b is given what a has no room for, then what c has no room for.
    assert _kept("smart", layers, 2) == [1000, 98, 1]


def test_the_order_of_layers_matters_to_ordered_rules_only() -> None:
    layers = [*layers_of("resnet20"), Layer("head", "head", (64, 640), 40960)]
    for rule in _SOLVED:
        counts, others = (allocate(rule, each, _pruned(layers, 0.8)) for each in (layers, layers[::-1]))
        assert (counts != others) is RULES[rule].ordered, rule


def test_every_rule_but_the_global_one_is_solved_here_and_an_unknown_one_is_refused() -> None:
    assert list(SOLVERS) == _SOLVED
    with pytest.raises(UsageError, match=r"known are uniform, global, er, erk, erk\+"):
        find_rule("ERK")


_SHAPES = st.lists(st.lists(st.integers(1, 7), min_size=0, max_size=5).map(tuple), min_size=1, max_size=8)


@given(st.data(), _SHAPES, st.sampled_from(_SOLVED))
def test_the_total_is_exact_and_each_layer_within_an_element_of_the_rule(
    data: st.DataObject, shapes: list[tuple[int, ...]], rule: str
) -> None:
    rounds = data.draw(st.booleans())
    lefts = [data.draw(st.integers(0, math.prod(shape))) if rounds else math.prod(shape) for shape in shapes]
    layers = [Layer(f"{at}", f"{at}", shape, left) for at, (shape, left) in enumerate(zip(shapes, lefts, strict=True))]
    kept = data.draw(st.integers(0, sum(lefts)))
    try:
        counts = _kept(rule, layers, sum(lefts) - kept)
    except UsageError:
        assert rule in {"erk+", "uniform+", "smart", "smart-vgg"}
        assert REFERENCE[rule](layers, kept) is None
        return
    assert sum(counts) == kept
    assert all(0 <= count <= left for count, left in zip(counts, lefts, strict=True))
    exact = REFERENCE[rule](layers, kept)
    # Fixed tenths may leave the total up to one element outside of what the reference can divide.
    assert exact is None or all(abs(count - share) < 1 for count, share in zip(counts, exact, strict=True))


def test_totals_and_numbers_of_layers_may_be_huge() -> None:
    layers = [Layer(f"{at}", f"{at}", (2**20, 2**20 + at, 3, 3), 9 * 2**20 * (2**20 + at)) for at in range(50)]
    total = sum(layer.left for layer in layers)
    for rule in ("uniform", "er", "erk", "balanced", "pyramidal", "igq"):
        for pruned in (0, 1, total // 3, total - 1, total):
            assert sum(allocate(rule, layers, pruned).values()) == pruned

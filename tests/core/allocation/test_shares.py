"""Shares: in proportion, nothing above its capacity, and rounded to the exact total."""

from fractions import Fraction

import allocation_reference
from hypothesis import given
from hypothesis import strategies as st

from prunecli.core.allocation.shares import Shares, in_proportion


@given(st.data(), st.lists(st.tuples(st.integers(0, 40), st.integers(0, 30)), min_size=1, max_size=12))
def test_all_that_exceed_become_full_and_the_rest_is_solved_again(
    data: st.DataObject, layers: list[tuple[int, int]]
) -> None:
    weights, capacities = [weight for weight, _ in layers], [capacity for _, capacity in layers]
    total = data.draw(st.integers(0, sum(capacity for weight, capacity in layers if weight)))
    shares = in_proportion(total, weights, capacities)
    exact = [Fraction(numerator, shares.denominator) for numerator in shares.numerators]
    assert exact == allocation_reference.filled(Fraction(total), weights, capacities)
    names = [str(index) for index in range(len(layers))]
    assert shares.rounded_to(total, names) == allocation_reference.largest_remainders(exact, total, names)


def test_the_largest_remainders_are_rounded_up_and_of_equal_ones_those_with_smaller_names() -> None:
    shares = Shares([25, 15, 35, 28], 10)  # 2.5, 1.5, 3.5, 2.8
    assert shares.rounded_to(10, ["b", "a", "B", "c"]) == [2, 1, 4, 3]
    assert shares.rounded_to(11, ["b", "a", "B", "c"]) == [2, 2, 4, 3]


def test_layers_that_fill_one_after_another_are_found_in_one_pass() -> None:
    count = 20_000  # quadratic time would be minutes
    shares = in_proportion(count**2 // 4, [1] * count, range(count))
    assert shares.numerators[1] == shares.denominator
    assert sum(shares.numerators) == count**2 // 4 * shares.denominator

"""Shares: exact totals, at most one element from the real number, nothing above its capacity."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from prunecli.core.allocation.shares import Shares, in_proportion


def filled_step_by_step(total: int, weights: list[int], capacities: list[int]) -> list[Fraction]:
    """The definition: all layers that would exceed their capacity are filled together, and the rest is solved again."""
    full: set[int] = set()
    while True:
        free = [index for index, weight in enumerate(weights) if weight and index not in full]
        rest = total - sum(capacities[index] for index in full)
        unit = Fraction(rest, sum(weights[index] for index in free)) if free else Fraction(0)
        over = {index for index in free if weights[index] * unit > capacities[index]}
        if not over:
            return [
                Fraction(capacities[index]) if index in full else weight * unit for index, weight in enumerate(weights)
            ]
        full |= over


@given(st.data(), st.lists(st.tuples(st.integers(0, 40), st.integers(0, 30)), min_size=1, max_size=12))
def test_all_that_exceed_become_full_and_the_rest_is_solved_again(
    data: st.DataObject, layers: list[tuple[int, int]]
) -> None:
    weights, capacities = [weight for weight, _ in layers], [capacity for _, capacity in layers]
    reachable = sum(capacity for weight, capacity in layers if weight)
    total = data.draw(st.integers(0, reachable))
    shares = in_proportion(total, weights, capacities)
    exact = [Fraction(numerator, shares.denominator) for numerator in shares.numerators]
    assert exact == filled_step_by_step(total, weights, capacities)
    counts = shares.rounded_to(total, [str(index) for index in range(len(layers))])
    assert sum(counts) == total
    assert all(abs(count - share) < 1 for count, share in zip(counts, exact, strict=True))
    assert all(0 <= count <= capacity for count, capacity in zip(counts, capacities, strict=True))


def test_the_largest_remainders_are_rounded_up_and_of_equal_ones_those_with_smaller_names() -> None:
    shares = Shares([25, 15, 35, 28], 10)  # 2.5, 1.5, 3.5, 2.8
    assert shares.rounded_to(10, ["b", "a", "B", "c"]) == [2, 1, 4, 3]
    assert shares.rounded_to(11, ["b", "a", "B", "c"]) == [2, 2, 4, 3]

"""What the numbers mean, held against what they would come to."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_zoo import parameter, pictured, report, structure_of

from prunecli.core.structure.counter import StructureCounter
from prunecli.core.structure.model import Pattern
from prunecli.reporting.summary import facts, storage
from prunecli.surgery.report.model import ParameterReport


def remarks_on(parameters: list[ParameterReport]) -> dict[str, str]:
    return {fact.topic: fact.text for fact in facts(report(parameters))}


@given(st.integers(0, 200), st.floats(0, 1), st.sampled_from(["float64", "float32", "float16", "int8"]))
def test_a_bitmask_takes_what_numpy_needs_for_one(elements: int, share: float, dtype: str) -> None:
    values = np.ones(elements, dtype)
    values[: int(share * elements)] = 0
    sizes = storage([parameter("w", (elements,), int((values == 0).sum()), dtype)])
    assert sizes.dense == values.nbytes
    assert sizes.bitmask == np.packbits(values != 0).nbytes + values[values != 0].nbytes


@pytest.mark.parametrize(("zeros", "smaller"), [(0, False), (32, False), (33, True), (1024, True)])
def test_a_bitmask_is_called_smaller_exactly_where_it_is(zeros: int, smaller: bool) -> None:
    text = remarks_on([parameter("w", (32, 32), zeros)])["storage"]
    assert text.endswith("%)" if smaller else "is smaller only above 3.1% zeros")


def matrix(kept: np.ndarray) -> ParameterReport:
    return parameter("w", kept.shape, int((~kept).sum()), structure=structure_of(kept))


def test_random_zeros_leave_nothing_empty() -> None:
    found = remarks_on([pictured(parameter("w", (64, 64), 2048))])
    assert found["rows, columns"].startswith("none is all zeros")
    assert found["16x16 blocks"].startswith("none is all zeros")
    assert "hardware needs 100%" in found["2:4"]


def test_empty_rows_are_noted_with_the_elements_that_they_hold() -> None:
    kept = np.ones((32, 48), bool)
    kept[:8] = False
    kept[:, 5] = False
    found = remarks_on([matrix(kept)])
    assert "8 of 32 rows and 1 of 48 columns are all zeros" in found["rows, columns"]
    assert f"{(~kept).sum() / kept.size:.2%}" in found["rows, columns"]


def test_what_is_too_little_is_called_so() -> None:
    kept = np.ones((1600, 160), bool)
    kept[3] = False
    kept[:16, :16] = False
    kept[::2, ::8] = False
    found = remarks_on([matrix(kept)])
    assert "too few to matter" in found["rows, columns"]
    assert "1 of 1,000 are all zeros" in found["16x16 blocks"]
    assert "too few to matter" in found["16x16 blocks"]


def test_two_in_four_is_remarked_only_where_all_groups_have_it() -> None:
    halved = np.tile([True, False, True, False], (8, 4))
    almost = halved.copy()
    almost[0, 1] = True
    assert remarks_on([matrix(halved)])["2:4"] == (
        "all groups of four along dimension 1 have two zeros, as 2:4 hardware needs"
    )
    both = remarks_on([matrix(halved), matrix(almost)])["2:4"]
    assert "hardware needs 100%, reached by 1 of 2 matrices" in both
    assert "98.4%" in both
    assert "2:4" not in remarks_on([matrix(np.ones((4, 6), bool))])


def looked_at(shape: tuple[int, ...], zero: np.ndarray) -> ParameterReport:
    tally = StructureCounter(shape)
    tally.add(tally.look(0, zero.reshape(-1)))
    return parameter("w", shape, int(zero.sum()), structure=tally.result())


def test_what_hardware_wants_is_noted_of_the_inputs_alone() -> None:
    """A convolution along its channels; a stack of matrices, of which nobody knows the inputs, is not called right."""
    zero = np.zeros((8, 16, 3, 3), bool)
    zero[:, ::2] = True
    wanted = "all groups of four along dimension 1 have two zeros, as 2:4 hardware needs"
    assert remarks_on([looked_at(zero.shape, zero)])["2:4"] == wanted
    flat = np.argsort(np.random.default_rng(0).random((zero.size // 4, 4)), axis=1) < 2
    text = remarks_on([looked_at(zero.shape, flat)])["2:4"]
    assert text.endswith("% of the groups of four along dimension 1 have two zeros; 2:4 hardware needs 100%")
    stack = np.zeros((2, 12, 64), bool)
    stack[..., ::2] = True
    assert remarks_on([looked_at(stack.shape, stack)])["2:4"] == (
        "all groups of four along dimension 2 have two zeros; whether hardware sums over it is not known"
    )
    both = remarks_on([looked_at(zero.shape, zero), looked_at(stack.shape, stack)])["2:4"]
    assert both.startswith("all groups of four along dimensions 1 and 2 have two zeros; whether")


@pytest.mark.parametrize(("zeros", "remarks"), [(10, 1), (11, 4)])
def test_a_dense_model_has_no_remarks_on_kernels(zeros: int, remarks: int) -> None:
    kept = np.ones((32, 32), bool)
    kept.reshape(-1)[:zeros] = False
    assert len(remarks_on([matrix(kept)])) == remarks


def test_vectors_say_nothing_about_rows() -> None:
    assert set(remarks_on([pictured(parameter("b", (64,), 64))])) == {"storage"}


def test_what_was_not_looked_at_is_not_noted() -> None:
    assert set(remarks_on([parameter("w")])) == {"storage"}
    assert remarks_on([]) == {}


def test_patterns_are_counted_among_matrices_with_zeros_and_the_commonest_come_first() -> None:
    found = {
        "a": ("2:4 1",),
        "b": ("1:4 0", "2:4 1"),
        "c": ("1:4 0",),
        "d": ("1:2 0",),
        "e": ("4:8 1", "2:4 1"),
        "f": (),
    }
    rows = [
        parameter(name, (8, 4), 16, patterns=tuple(Pattern(each.split()[0], int(each[-1])) for each in patterns))
        for name, patterns in found.items()
    ]
    dense = [parameter("dense", (8, 4), 0), parameter("vector", (8,), 4)]
    assert remarks_on(rows + dense)["N:M"] == (
        "2:4 along dimension 1 in 3 of 6 matrices with zeros; 1:4 along dimension 0 in 2; "
        "1:2 along dimension 0 in 1; 1 more"
    )
    assert "N:M" not in remarks_on(dense)

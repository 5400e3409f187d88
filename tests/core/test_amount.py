"""Amounts: what is read, what is refused, and how many elements a fraction stands for."""

import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.utils import prune

from prunecli.core.amount import check_amount, parse_amount, to_count
from prunecli.errors import UsageError
from prunecli.terms import Interface, render


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("0", 0),
        ("1", 1),
        ("1000", 1000),
        ("+5", 5),
        ("007", 7),
        ("-0", 0),
        (" 12 ", 12),
        ("\uff11", 1),  # a full-width digit is a digit
        ("123456789012345678901234567890", 123456789012345678901234567890),
        ("0.0", 0.0),
        ("0.5", 0.5),
        (".5", 0.5),
        ("5e-1", 0.5),
        ("1.0", 1.0),
        ("1e0", 1.0),
        ("1e-999", 0.0),
        ("0%", 0.0),
        ("50%", 0.5),
        ("12.5%", 0.125),
        ("5e1%", 0.5),
        ("50 %", 0.5),
        ("100%", 1.0),
    ],
)
def test_amounts_are_read(text: str, amount: float) -> None:
    read = parse_amount(text)
    assert read == amount
    assert type(read) is type(amount)  # 1 is one element, 1.0 all of them


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "abc",
        "%",
        "%50",
        "50%%",
        "half",
        "1,5",
        "- 5",
        "+-5",
        "--5",
        "0x10",
        "1/2",
        "True",
        "None",
        "²",
        "1 000",
    ],
)
def test_what_is_no_number_is_refused_by_name(text: str) -> None:
    with pytest.raises(UsageError, match=r"is not a number; write 0\.5, 50% or a count like 1000") as caught:
        parse_amount(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["1.5", "-0.1", "1e3", "1e999", "-1e999", "nan", "-nan", "inf", "150%", "-5%", "nan%", "inf%", "1000.0"],
)
def test_fractions_out_of_range_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"is not a (fraction|percentage) from 0"):
        parse_amount(text)


@pytest.mark.parametrize("text", ["-1", "-1000", "-\uff11"])
def test_negative_counts_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"is negative; give a count from 0 on, or a fraction like 0\.5"):
        parse_amount(text)


def test_a_number_too_long_to_read_is_refused_in_a_short_line() -> None:
    with pytest.raises(UsageError) as caught:
        parse_amount("9" * 5000)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("text", ["0_1", "1_000", "1_0%"])
def test_underscores_are_no_part_of_an_amount(text: str) -> None:
    with pytest.raises(UsageError, match="is not a number"):
        parse_amount(text)


def test_a_huge_negative_count_is_refused() -> None:
    with pytest.raises(UsageError, match="negative"):
        check_amount(-(10**5000))


@given(st.text())
def test_any_text_is_an_amount_or_refused(text: str) -> None:
    try:
        amount = parse_amount(text)
    except UsageError:
        return
    assert amount == check_amount(amount)


@given(st.integers(min_value=0, max_value=10**30))
def test_a_written_count_is_read_back(count: int) -> None:
    assert parse_amount(str(count)) == count


@given(st.floats(min_value=0, max_value=1))
def test_a_written_fraction_is_read_back(fraction: float) -> None:
    assert parse_amount(repr(fraction)) == fraction


@pytest.mark.parametrize(
    ("amount", "plain"),
    [
        (0, 0),
        (1, 1),
        (1.0, 1.0),
        (10**30, 10**30),
        (np.int64(3), 3),
        (np.uint8(200), 200),
        (np.float64(0.25), 0.25),
        (np.float32(0.5), 0.5),
        (Fraction(1, 4), 0.25),
    ],
)
def test_amounts_become_plain_numbers(amount: object, plain: float) -> None:
    checked = check_amount(amount)
    assert checked == plain
    assert type(checked) is type(plain)


@pytest.mark.parametrize("amount", [True, False, np.True_, "0.5", None, [1], 0.5 + 0j, Decimal("0.5"), b"1"])
def test_what_is_no_real_number_is_a_type_error(amount: object) -> None:
    with pytest.raises(TypeError, match=f"not {type(amount).__name__} "):
        check_amount(amount)


@pytest.mark.parametrize(
    "amount",
    [-1, np.int8(-3), -(10**30), -0.5, 1.5, math.nextafter(1, 2), math.nan, math.inf, -math.inf, Fraction(3, 2)],
)
def test_amounts_out_of_range_are_refused(amount: object) -> None:
    with pytest.raises(UsageError):
        check_amount(amount)


def test_a_bad_amount_is_a_value_error_as_in_torch() -> None:
    with pytest.raises(ValueError, match="negative"):
        prune.RandomUnstructured(-1)
    with pytest.raises(ValueError, match="negative"):
        check_amount(-1)


@pytest.mark.parametrize(
    ("amount", "candidates", "count"),
    [(0.5, 0, 0), (0.5, 1, 0), (0.5, 3, 2), (0.5, 5, 2), (0.5, 7, 4), (0.25, 2, 0), (0.25, 6, 2), (1.0, 7, 7)],
)
def test_halves_are_rounded_to_even(amount: float, candidates: int, count: int) -> None:
    assert to_count(amount, candidates, "layer.weight") == count


@given(st.floats(min_value=0, max_value=1), st.integers(min_value=0, max_value=2**40))
def test_fractions_count_as_in_torch(amount: float, candidates: int) -> None:
    count = to_count(amount, candidates, "layer.weight")
    assert count == prune._compute_nparams_toprune(amount, candidates)  # type: ignore[no-untyped-call]
    assert 0 <= count <= candidates


@pytest.mark.parametrize("amount", [0, 1, 10])
def test_a_count_is_itself(amount: int) -> None:
    assert to_count(amount, 10, "layer.weight") == amount


def test_a_count_larger_than_what_is_left_names_the_parameter() -> None:
    with pytest.raises(UsageError, match=r"cannot prune 11 elements of layer\.weight: 10 are left unpruned"):
        to_count(11, 10, "layer.weight")


@pytest.mark.parametrize(
    ("amount", "interface", "end"),
    [
        (90, Interface.COMMAND_LINE, "; for 90 % write 90%"),
        (7, Interface.FILES, "; for 7 % write 0.07"),
        (100, Interface.MODULES, "; for 100 % write 1.0"),
        (1101, Interface.FILES, ""),
    ],
)
def test_a_count_that_may_be_a_percentage(amount: int, interface: Interface, end: str) -> None:
    with pytest.raises(UsageError) as caught:
        to_count(amount, 5, "w")
    message = f"cannot prune {amount:,} elements of w: 5 are left unpruned{end}"
    assert render(caught.value.args[0], interface) == message

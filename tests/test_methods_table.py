"""docs/methods.md: its tables of the digits network are those of examples/methods_on_digits.py."""

from statistics import fmean
from typing import Any

import pytest
from doc_pages import ROOT

from prunecli.core.allocation import RULES
from prunecli.core.methods import METHODS

ROWS = {
    cells[0]: cells[1:]
    for line in (ROOT / "docs" / "methods.md").read_text(encoding="utf-8").splitlines()
    if len(cells := [cell.strip() for cell in line.split("|")[1:-1]]) in (4, 10)
}
MIDDLE = 0.7
"""The amount that is measured again; within what rounding on another machine may change."""


@pytest.fixture(scope="module")
def example() -> Any:
    """The script, imported late: it brings scikit-learn."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "examples")
        import methods_on_digits
    return methods_on_digits


@pytest.fixture(scope="module")
def digits(example: Any) -> Any:
    return example.Digits()


def test_every_method_and_every_rule_has_its_row(example: Any) -> None:
    named = " ".join(example.METHODS)
    assert all(name.replace("_", "-") in named for name in METHODS if name not in ("random_unstructured", "masks"))
    assert set(ROWS) >= set(example.METHODS) | {f"`{rule}`" for rule in RULES}


def test_the_table_of_methods_is_so(example: Any, digits: Any) -> None:
    certain = [name for name in example.METHODS if any(each in name for each in ("l1", "lamp", "ln", "--scores"))]
    assert len(certain) > 12
    for name in certain:
        column = 0 if "2:4" in name else 1
        found = digits.accuracies(example.METHODS[name], example.AMOUNTS[column])
        assert found == [pytest.approx(float(ROWS[name][column]), abs=2)], name


def test_the_table_of_allocations_is_so(example: Any, digits: Any) -> None:
    for rule in RULES:
        found = digits.accuracies(example.whole(method="l1", allocation=rule), MIDDLE)
        assert found == [pytest.approx(float(ROWS[f"`{rule}`"][4]), abs=2)], rule


def test_what_a_rule_cannot_reach_has_no_number(example: Any, digits: Any) -> None:
    assert not digits.accuracies(example.whole(method="l1", allocation="smart"), 0.9)
    assert ROWS["`smart`"][5] == example.ABSENT


def test_chance_is_averaged(example: Any, digits: Any) -> None:
    found = digits.accuracies(example.whole(allocation="er"), MIDDLE)
    assert len(set(found)) > 1
    assert fmean(found) == pytest.approx(float(ROWS["`er`"][1]), abs=1)

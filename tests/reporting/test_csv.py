"""CSV: ordinary names come back as they are, and no cell is a formula."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_zoo import NASTY, nasty, parameter, report, transformer

from prunecli.reporting.csv import COLUMNS, as_csv, safe_cell
from prunecli.surgery.report.model import Report


def read(made: Report) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(as_csv(made), newline="")))


def test_each_parameter_is_a_row_with_its_figures() -> None:
    made = transformer(2)
    rows = read(made)
    assert [row["name"] for row in rows] == [each.name for each in made.parameters]
    assert list(rows[0]) == list(COLUMNS)
    for row, each in zip(rows, made.parameters, strict=True):
        assert (int(row["elements"]), int(row["zeros"]), float(row["sparsity"])) == (
            each.elements,
            each.zeros,
            each.sparsity,
        )
        assert each.structure
        assert int(row["empty_rows"]) == each.structure.empty_rows
        assert row["halved_fours"] == (
            "" if each.structure.groups_of_4 is None else str(each.structure.groups_of_4_with_2_zeros)
        )


@given(st.lists(st.from_regex(r"[A-Za-z_][A-Za-z0-9_.\-/ \",;{}|]*", fullmatch=True), unique=True))
def test_ordinary_names_come_back_exactly(names: list[str]) -> None:
    assert [row["name"] for row in read(report([parameter(name) for name in names]))] == names


@pytest.mark.parametrize("name", NASTY, ids=range(len(NASTY)))
def test_no_cell_is_a_formula(name: str) -> None:
    cell = safe_cell(name)
    assert not cell.strip().startswith(("=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff0b", "\uff0d", "\uff20"))
    assert cell.isprintable()


def test_a_row_is_a_line_whatever_the_names_and_no_separator_is_seen() -> None:
    text = as_csv(nasty())
    assert text.count("\n") == len(NASTY) + 1
    assert "\r" not in text
    # All text is quoted: where the semicolon separates cells, a name with one still is a single cell.
    assert '"quo""te,comma;semi.weight"' in text


def test_what_is_not_known_is_an_empty_cell() -> None:
    (row,) = read(report([parameter("w", zeros=None)]))
    assert (row["zeros"], row["sparsity"], row["empty_rows"], row["crc32"]) == ("", "", "", "")

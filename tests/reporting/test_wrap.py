"""Sentences on a terminal: lines break between words, and what is to be copied stays whole."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunecli.reporting.numbers import cells
from prunecli.reporting.wrap import wrap

COPIED = [
    "`prunecli params model.pt | grep fc`",
    "prunecli apply --help",
    "prunecli remove masked.pt -o baked.pt",
    "-p '*.weight' --min-dim 2",
    "-a 90%",
    "--key ''",
    "'a name with spaces'",
    "/data/models/2026-11-29/model.safetensors",
]


@pytest.mark.parametrize("copied", COPIED)
@pytest.mark.parametrize("before", range(0, 60, 3))
def test_what_is_to_be_copied_is_on_one_line(copied: str, before: int) -> None:
    text = f"{'ab ' * (before // 3)}give {copied}; it is one of the words that a line may end with"
    lines = wrap(text, 60, "  ")
    assert sum(copied in line for line in lines) == 1
    assert " ".join(line.strip() for line in lines) == text


@given(st.text(alphabet="ab'`-(); é漢", max_size=80), st.integers(20, 60))
def test_no_word_is_lost_or_broken_and_lines_fit(text: str, width: int) -> None:
    lines = wrap(text, width, "  ")
    assert " ".join(lines).split() == text.split()
    assert all(cells(line) <= width or len(line.split()) <= 1 for line in lines)
    assert all(line.startswith("  ") for line in lines[1:])

"""Gates: what fails them is what numpy says, for all parameters and by pattern."""

from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from surgery_zoo import count, save

from prunecli.errors import ThresholdError, UsageError
from prunecli.surgery.report.gates import check_gates, parse_gate
from prunecli.surgery.report.model import Report

ZEROS = {"module.a.weight": 10, "module.a.bias": 40, "module.b.weight": 100}
"""Zeros of tensors of 100 elements each."""


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    tensors = {name: (torch.arange(100) >= zeros).float() for name, zeros in ZEROS.items()}
    return count(save(tensors, tmp_path_factory.mktemp("gates") / "m.pt"))


def outcome(report: Report, kind: Literal["under", "over"], text: str) -> str | None:
    try:
        check_gates(report, [parse_gate(kind, text)])
    except ThresholdError as error:
        return str(error)
    return None


PATTERNS = {
    "": list(ZEROS),
    "*.weight": ["module.a.weight", "module.b.weight"],
    "a.bias": ["module.a.bias"],
    "module.b.*": ["module.b.weight"],
    r"re:a\.(weight|bias)": ["module.a.weight", "module.a.bias"],
}


@settings(deadline=None)
@given(bound=st.integers(0, 1000), pattern=st.sampled_from(sorted(PATTERNS)), percent=st.booleans())
def test_a_gate_fails_exactly_beyond_its_bound(report: Report, bound: int, pattern: str, percent: bool) -> None:
    chosen = PATTERNS[pattern]
    sparsity = sum(ZEROS[name] for name in chosen) / (100 * len(chosen))
    text = f"{pattern}{'=' * bool(pattern)}{f'{bound / 10}%' if percent else bound / 1000}"
    limit = bound / 10 / 100 if percent else bound / 1000
    assert (outcome(report, "under", text) is not None) == (sparsity < limit)
    assert (outcome(report, "over", text) is not None) == (sparsity > limit)


def test_the_message_contains_figures_and_how_many_fail(report: Report) -> None:
    gates = [parse_gate("under", "*.bias=0.5"), parse_gate("over", "0.9"), parse_gate("over", "*.weight=50%")]
    with pytest.raises(ThresholdError) as caught:
        check_gates(report, gates)
    assert str(caught.value) == ("the sparsity of *.bias is 40.00% (40 of 100), below --fail-under 0.5 (and 1 more)")

    with pytest.raises(ThresholdError, match=r"is 55\.00% \(110 of 200\), above --fail-over 7%$"):
        check_gates(report, [parse_gate("over", "*.weight=7%")])


@pytest.mark.parametrize("text", ["", "x", "nan", "2", "1.5", "-0.1", "=0.5", "*.weight=", "*.weight=2", "101%"])
def test_what_is_no_bound_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"^--fail-over"):
        parse_gate("over", text)


def test_an_equals_sign_in_a_pattern_is_its_own() -> None:
    assert parse_gate("under", "re:(?=a).*=1") == parse_gate("under", "re:(?=a).*=1.0")
    assert parse_gate("under", "re:(?=a).*=1").pattern == "re:(?=a).*"


def test_a_pattern_that_matches_nothing_is_an_error(report: Report) -> None:
    with pytest.raises(UsageError, match="--fail-under nothing matches no parameter"):
        check_gates(report, [parse_gate("under", "nothing=0.5")])

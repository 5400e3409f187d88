"""1,400 inputs of those that `fuzz_campaign.py` makes without end; `python tests/trust` tries 9,000 others."""

import sys
from collections import Counter
from pathlib import Path

import pytest
from fuzz_campaign import ENOUGH, figures, fuzz
from fuzz_seeds import NAMES, files

from prunecli.formats.base import ReadOptions
from prunecli.formats.detect import open_checkpoint

COUNTS = {"pickle": 600, "file": 400, "metadata": 100, "index": 100, "masks": 100, "packed": 100}
SEED = 20240607
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="in-memory files and memory limits are Linux's")


@pytest.mark.parametrize("name", NAMES)
def test_the_seeds_are_sound(name: str, tmp_path: Path) -> None:
    path = tmp_path / "seed"
    path.write_bytes(files()[name].whole)
    with open_checkpoint(path, ReadOptions(foreign=True)) as checkpoint:
        assert len(checkpoint.tensors) > 0


@pytest.mark.parametrize(("kind", "count"), COUNTS.items())
def test_no_input_breaks_a_law(kind: str, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    outcomes = fuzz(kind, SEED, range(count), tmp_path / "failures")
    assert outcomes["failed"] == 0, "the inputs are above; fuzz_campaign.py replays them"
    assert outcomes.total() == count
    assert list(tmp_path.iterdir()) == []  # nothing was run that leaves a file
    _assert_both_ways(outcomes, 0.3 if kind == "pickle" else 0.08)
    assert kind != "file" or outcomes["equal"] > 0.01 * count, "few are compared with the libraries"


def _assert_both_ways(outcomes: Counter[str], share: float) -> None:
    """Many inputs are taken, many are refused, and by several kinds of errors: the fuzzer is no dull one."""
    assert outcomes["accepted"] + outcomes["equal"] > share * outcomes.total()
    assert outcomes["DamagedError"] > 0.1 * outcomes.total()
    assert outcomes["UnsupportedError"] > 0.003 * outcomes.total()


def test_figures_are_missed_where_a_law_is_broken_or_too_few_were_tried() -> None:
    good = {"file": Counter(accepted=ENOUGH, equal=1)}
    assert [each[3] for each in figures(good)] == [True]
    assert [each[3] for each in figures({"file": Counter(accepted=ENOUGH, failed=1)})] == [False]
    assert [each[3] for each in figures({"file": Counter(accepted=9)})] == [False]

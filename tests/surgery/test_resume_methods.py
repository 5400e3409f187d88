"""Runs of each method that are interrupted and resumed: the same bytes, and nothing is resumed with other settings."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import spread_fixtures
import torch
from folder_zoo import make_folder
from spread_zoo import contents, reported

from prunecli import files
from prunecli.errors import OutputError, UsageError
from prunecli.formats.io.sinks import FileSink
from prunecli.surgery.report.model import Report

failing = pytest.fixture(spread_fixtures.failing)

Settings = Mapping[str, Any]

L1 = {"amount": 0.5, "method": "l1"}
NORMS = {"amount": 0.5, "method": "ln", "norm": 1, "dim": 0}
SCORES = {"amount": 0.5, "scores": "scores"}
METHODS: dict[str, tuple[Settings, Settings]] = {
    "rows": ({"amount": 0.5, "per_row": True}, {"per_row": False}),
    "l1": (L1, {"method": None}),
    "l1 together": (L1 | {"global_": True}, {"global_": False}),
    "l1 by a rule": (L1 | {"allocation": "erk"}, {"amount": 0.25}),
    "l1 by rows": (L1 | {"per_row": True}, {"method": None}),
    "lamp": ({"amount": 0.5, "method": "lamp"}, {"method": "l1", "global_": True}),
    "scores": (SCORES, {"scores": "others"}),
    "abs scores": (SCORES | {"abs_scores": True}, {"abs_scores": False}),
    "slices": ({"amount": 3, "method": "random-structured", "dim": 1}, {"dim": -2}),
    "norm": (NORMS, {"norm": 2}),
    "dimension": (NORMS, {"dim": 1}),
    "2:4": ({"n_of_m": "2:4"}, {"method": "l1"}),
    "2:4 of l1": ({"n_of_m": "2:4", "method": "l1"}, {"n_of_m": "4:8"}),
    "2:4 of scores": ({"n_of_m": "2:4", "scores": "scores"}, {"dim": 0}),
    "blocks": ({"amount": 0.5, "block": "8x8"}, {"block": "8x16"}),
    "blocks of l1": ({"amount": 0.5, "block": "8x8", "method": "l1"}, {"block": "4x8"}),
    "recipe": ({"recipe": "mixed.toml"}, {"recipe": "others.toml"}),
}
"""The settings of a run, and those that another run has instead."""

RECIPE = """
method = "l1"
[[group]]
params = "[ab].weight"
n_of_m = "2:4"
[[group]]
params = "[cd].weight"
method = "ln"
norm = 1
dim = 0
amount = "25%"
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of four shards, with two folders of scores."""
    monkeypatch.chdir(tmp_path)
    generator = torch.Generator().manual_seed(1)
    for folder in ("model", "scores", "others"):
        shards = [{f"{name}.weight": torch.randint(-9, 9, (32, 64), generator=generator) / 8} for name in "abcd"]
        make_folder(tmp_path / folder, shards)
    Path("mixed.toml").write_text(RECIPE)
    Path("others.toml").write_text(RECIPE.replace("norm = 1", 'norm = "inf"'))


def apply(output: str, settings: Settings, *, resume: bool = True) -> Report:
    selected: Settings = {} if "recipe" in settings else {"params": "*.weight"}
    return files.apply("model", **selected, **settings, seed=7, output=output, resume=resume, jobs=1)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(("settings", "changes"), METHODS.values(), ids=METHODS)
def test_an_interrupted_run_goes_on_and_one_with_other_settings_does_not(
    settings: Settings, changes: Settings, failing: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It fails at the first, the middle and the last of the writes."""
    writes = []
    write = FileSink.write

    def counted(sink: FileSink, data: memoryview, offset: int) -> None:
        writes.append(len(data) > 4096)
        write(sink, data, offset)

    with monkeypatch.context() as patch:
        patch.setattr(FileSink, "write", counted)
        expected = apply("expected", settings, resume=False)
    count = sum(writes)
    assert count >= 4
    for number in (0, count // 2, count - 1):
        failing(number)
        with pytest.raises(OutputError):
            apply("out", settings)
        failing(-1)
        if number == count - 1:
            with pytest.raises(UsageError, match="the unfinished out was made "):
                apply("out", {**settings, **changes})
        found = apply("out", settings)
        assert contents(Path("out")) == contents(Path("expected"))
        assert reported(found) == reported(expected)
        Path("out").rename(f"out{number}")
        Path("out.report.json").unlink()

"""Reports on N:M patterns: of what the tool itself prunes, in every container, whoever counts, and in every form."""

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dcp_tools
import pytest
import torch
from rank_threads import by_ranks
from structure_zoo import patterns_of
from surgery_zoo import load, save
from torch import Tensor

from prunecli import files
from prunecli.core import kernel
from prunecli.formats.opening import open_any
from prunecli.reporting.csv import as_csv
from prunecli.reporting.html import as_html
from prunecli.reporting.markdown import as_markdown
from prunecli.reporting.summary import facts
from prunecli.surgery.report.codec import parse_report, render_json
from prunecli.surgery.report.measure import measure
from prunecli.surgery.report.model import Report
from prunecli.surgery.run import units
from prunecli.surgery.run.options import Run

SHAPES = {"wide": (48, 96), "half": (80, 64), "conv": (32, 16, 3, 3), "video": (16, 32, 1, 2, 2), "norm": (64,)}
MATRICES = ["wide", "half"]
REQUESTS: dict[str, dict[str, Any]] = {
    "2:4": {"n_of_m": "2:4", "method": "l1"},
    "1:8": {"n_of_m": "1:8", "seed": 3},
    "1:2 along 0": {"n_of_m": "1:2", "dim": 0, "seed": 3},
    "4:16 along 0": {"n_of_m": "4:16", "dim": 0, "method": "l1"},
    "random": {"amount": 0.5, "seed": 3},
    "columns": {"amount": 0.75, "dim": 1, "method": "random-structured", "seed": 3},
}


def tensors() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(4)
    values = {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}
    return values | {"half": values["half"].bfloat16()}


def look(path: Path, run: Run | None = None) -> Report:
    with open_any(path) as opened:
        return measure(opened, None, run or Run(2), structure=True)


def patterns(report: Report) -> dict[str, list[str]]:
    return {each.name: list(map(str, each.patterns)) for each in report.parameters}


def expected(values: Mapping[str, Tensor]) -> dict[str, list[str]]:
    return {name: list(map(str, patterns_of((each == 0).numpy()))) for name, each in values.items()}


@pytest.mark.parametrize(("suffix", "compiled"), [(".pt", True), (".safetensors", False)])
@pytest.mark.parametrize("name", REQUESTS)
def test_what_the_tool_prunes_is_reported(
    name: str, suffix: str, compiled: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not compiled:
        monkeypatch.setattr(kernel, "_library", lambda: None)
    values, chosen = tensors(), ["wide", "half", "conv", "video"]
    if suffix == ".pt":
        values |= {
            "wide": values["wide"].t().contiguous().t(),
            "conv": values["conv"].to(memory_format=torch.channels_last),
        }
    path = save(values, tmp_path / f"model{suffix}")
    baked, masked = tmp_path / f"baked{suffix}", tmp_path / f"masked{suffix}"
    files.apply(path, output=baked, params=chosen, bake=True, **REQUESTS[name])
    written = files.apply(path, output=masked, params=chosen, **REQUESTS[name])
    found = patterns(look(baked))
    assert found == patterns(look(masked)) == expected(load(baked))
    assert set(map(len, patterns(written).values())) == {0}
    requested = REQUESTS[name].get("n_of_m")
    along = f"{requested} along dimension {REQUESTS[name].get('dim', 1)}"
    assert found == {key: [along] if requested and key in chosen else [] for key in values}


def pruned(path: Path) -> tuple[Path, dict[str, Tensor]]:
    save(tensors(), path.with_name("model.safetensors"))
    files.apply(path.with_name("model.safetensors"), output=path, params=MATRICES, n_of_m="2:4", bake=True, seed=1)
    return path, load(path)


def test_it_is_the_same_by_ranks_and_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "_SMALLEST", 1 << 10)
    path, values = pruned(tmp_path / "pruned.safetensors")
    wanted = {name: ["2:4 along dimension 1"] if name in MATRICES else [] for name in values}
    for count in (2, 5):
        report, *_ = by_ranks(count, lambda ranks: look(path, Run(2, ranks=ranks)))
        assert isinstance(report, Report)
        assert patterns(report) == wanted
    cuts = {"wide": ((5, 30), (33, 64)), "half": ((7,), ()), "conv": ((9,), (6,), (), ())}
    dcp_tools.save(values, tmp_path / "folder", cuts, files=2)
    assert patterns(look(tmp_path / "folder")) == wanted


def test_every_form_shows_it_and_json_is_read_again(tmp_path: Path) -> None:
    path, _ = pruned(tmp_path / "pruned.safetensors")
    report = look(path)
    text = "2:4 along dimension 1 in 2 of 2 matrices with zeros"
    assert {each.topic: each.text for each in facts(report)}["N:M"] == text
    assert text in as_markdown(report)
    assert text in as_html(report)
    rows = {row["name"]: row for row in csv.DictReader(io.StringIO(as_csv(report)))}
    assert (rows["wide"]["patterns"], rows["conv"]["patterns"]) == ("2:4 along dimension 1", "")
    raw = render_json(report)
    assert patterns(parse_report(raw, "r.json")) == patterns(report)
    written = {row.pop("name"): row for row in json.loads(raw)["parameters"]}
    assert written["wide"]["patterns"] == [{"n_of_m": "2:4", "dim": 1}]
    assert "patterns" not in written["conv"]

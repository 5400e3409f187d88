"""Reports on whether the smallest were pruned: after every method, in every container, whoever counts."""

import json
from pathlib import Path
from typing import Any

import dcp_tools
import pytest
import torch
from rank_threads import by_ranks
from surgery_zoo import load, save
from torch import Tensor

from prunecli import files
from prunecli.formats.opening import open_any
from prunecli.reporting.html import as_html
from prunecli.reporting.markdown import as_markdown
from prunecli.reporting.summary import facts
from prunecli.surgery.report.codec import parse_report, render_json
from prunecli.surgery.report.measure import measure
from prunecli.surgery.report.model import Report
from prunecli.surgery.run import units
from prunecli.surgery.run.options import Run

# The smallest of each four leave a gap, too, although larger ones were dropped elsewhere.
METHODS: dict[str, tuple[dict[str, Any], bool, bool]] = {
    "l1": ({"amount": 0.4, "method": "l1"}, True, True),
    "l1 together": ({"amount": 0.4, "method": "l1", "global_": True}, True, True),
    "random": ({"amount": 0.4, "seed": 3}, False, False),
    "scores": ({"amount": 0.4, "scores": "scores.pt"}, False, False),
    "2:4": ({"n_of_m": "2:4", "method": "l1"}, False, True),
}


def tensors(seed: int = 0) -> dict[str, Tensor]:
    """Matrices, one of half precision with many equal values, one transposed."""
    generator = torch.Generator().manual_seed(seed)
    wide = torch.randn(64, 120, generator=generator)
    return {"a": wide, "b": torch.randn(96, 80, generator=generator).bfloat16(), "c": wide.flip(0).t() * 2}


def look(path: Path, run: Run | None = None) -> Report:
    with open_any(path) as opened:
        return measure(opened, None, run or Run(2), structure=True)


def magnitudes(report: Report) -> dict[str, tuple[bool | None, float | None]]:
    return {each.name: (each.smallest_pruned, each.smallest_left) for each in report.parameters}


def remark(report: Report) -> str:
    return {each.topic: each.text for each in facts(report)}.get("magnitudes", "")


def least(tensor: Tensor) -> float:
    return float(tensor[tensor != 0].abs().double().min())


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("name", METHODS)
def test_masks_and_zeros_after_each_method(
    name: str, suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options, smallest, gap = METHODS[name]
    save(tensors(9), tmp_path / "scores.pt")
    values = {key: each.contiguous() if suffix == ".safetensors" else each for key, each in tensors().items()}
    path = save(values, tmp_path / f"model{suffix}")
    written = files.apply(path, output=f"masked{suffix}", params=["*"], **options)
    assert set(magnitudes(written).values()) == {(None, None)}
    masked, baked = look(tmp_path / f"masked{suffix}"), tmp_path / f"baked{suffix}"
    assert magnitudes(masked) == dict.fromkeys(values, (smallest, None))
    assert remark(masked) == f"masks drop the smallest values in {'3' if smallest else 'none'} of 3 parameters"
    files.apply(path, output=baked, params=["*"], bake=True, **options)
    found, left = look(baked), {key: least(each) for key, each in load(baked).items()}
    assert magnitudes(found) == {key: (None, each if gap else None) for key, each in left.items()}
    lowest = f"no value below {min(left.values()):.3g} is left in 3 of 3 parameters with zeros"
    assert remark(found) == (lowest if gap else "")
    assert magnitudes(look(path)) == dict.fromkeys(values, (None, None))


def masked(path: Path) -> tuple[Path, float]:
    """A checkpoint with a mask of chance, one of the smallest, zeros of chance and of the smallest; the gap."""
    values = {f"{name}_orig": torch.randn(200, 300) for name in ("chance", "smallest")}
    values |= {name: torch.randn(200, 300) for name in ("zeros", "gap")}
    values |= {"chance_mask": (torch.rand(200, 300) < 0.5).float()}
    values |= {"smallest_mask": (values["smallest_orig"].abs() > 0.4).float()}
    values["zeros"][torch.rand(200, 300) < 0.5] = 0
    values["gap"][values["gap"].abs() < 0.3] = 0
    return save(values, path), least(values["gap"])


def test_each_is_reported_in_every_form_and_read_again(tmp_path: Path) -> None:
    path, gap = masked(tmp_path / "model.pt")
    report = look(path)
    expected = {"chance": (False, None), "smallest": (True, None), "zeros": (None, None), "gap": (None, gap)}
    assert magnitudes(report) == expected
    text = (
        "masks drop the smallest values in 1 of 2 parameters; "
        f"no value below {gap:.3g} is left in 1 of 2 parameters with zeros and no mask"
    )
    assert remark(report) == text
    assert text in as_markdown(report)
    assert text in as_html(report)
    raw = render_json(report)
    assert magnitudes(parse_report(raw, "r.json")) == expected
    rows = {row.pop("name"): row for row in json.loads(raw)["parameters"]}
    assert rows["chance"]["smallest_pruned"] is False
    assert not {"smallest_pruned", "smallest_left"} & rows["zeros"].keys()


@pytest.mark.parametrize("ranks", [2, 5])
def test_ranks_find_what_one_process_finds(ranks: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "_SMALLEST", 1 << 14)
    path, _ = masked(tmp_path / "model.safetensors")
    report, *_ = by_ranks(ranks, lambda ranks: look(path, Run(2, ranks=ranks)))
    assert isinstance(report, Report)
    assert magnitudes(report) == magnitudes(look(path, Run(1)))


def test_parts_of_tensors_are_counted_together(tmp_path: Path) -> None:
    values = {name: torch.randn(41, 36) for name in ("chance", "gap")}
    values["chance"][torch.rand(41, 36) < 0.5] = 0
    values["gap"][values["gap"].abs() < 0.3] = 0
    cuts = {f"model.{name}": ((4, 5), (3, 9)) for name in values}
    dcp_tools.save({"model": values}, tmp_path / "folder", cuts, files=2)
    assert magnitudes(look(tmp_path / "folder")) == {"chance": (None, None), "gap": (None, least(values["gap"]))}

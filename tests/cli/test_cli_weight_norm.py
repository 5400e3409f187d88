"""Rows of weight-norm directions that become all zero: said after the pass, and true of the module in torch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

Cli = Callable[..., Any]
NOTE = "prunecli: note: "
pytestmark = pytest.mark.usefixtures("folder")


def notes(text: str) -> list[str]:
    return [line for line in text.splitlines() if "weight-norm" in line]


def module(dim: int | None, *, old: bool) -> nn.Module:
    torch.manual_seed(0)
    layer: nn.Module = nn.Conv1d(6, 4, 3)
    if old:
        with pytest.warns(FutureWarning):
            made: nn.Module = nn.utils.weight_norm(layer, dim=dim)  # type: ignore[arg-type]
    else:
        made = parametrizations.weight_norm(layer, dim=dim)  # type: ignore[arg-type]
    return made


def forward(layer: nn.Module, path: str) -> torch.Tensor:
    layer.load_state_dict(torch.load(path, weights_only=True))
    made: torch.Tensor = layer(torch.ones(1, 6, 8))
    return made


@pytest.mark.parametrize("old", [True, False])
@pytest.mark.parametrize(("dim", "amount", "rows"), [(0, "1.0", 4), (2, "1.0", 3), (None, "1.0", 1), (0, "0.5", 0)])
def test_the_note_counts_the_rows_that_make_nan(cli: Cli, old: bool, dim: int | None, amount: str, rows: int) -> None:
    layer = module(dim, old=old)
    torch.save(layer.state_dict(), "m.pt")
    (direction,) = [name for name in layer.state_dict() if name.endswith(("weight_v", "original1"))]
    outcome = cli(
        "apply", "m.pt", "-p", direction, "-a", amount, "--seed", "1", "--remove", "--report", "-", "-o", "o.pt"
    )
    assert outcome.code == 0
    (row,) = [each for each in outcome.json["parameters"] if each["name"] == direction]
    assert row.get("zero_norms", 0) == rows
    assert bool(forward(layer, "o.pt").isnan().any()) == bool(rows)
    if not rows:
        assert notes(outcome.err) == []
        return
    what = "1 weight-norm row is" if rows == 1 else f"{rows} weight-norm rows are"
    text = f"{what} all zero, so the first forward divides 0 by 0 and makes NaN: in {direction}"
    assert notes(outcome.err) == [f"{NOTE}{text}; prune fewer of their elements, or leave them out with -x"]
    assert " ".join(cli("report", "o.pt", "--format", "table").out.split()).count(text) == 1


def test_one_row_of_several_by_a_mask(cli: Cli) -> None:
    layer = module(0, old=False)
    state = layer.state_dict()
    state["parametrizations.weight.original1"][2] = 0
    torch.save(state, "m.pt")
    outcome = cli("apply", "m.pt", "-p", "*", "-a", "1", "--seed", "1", "--report", "-", "-o", "o.pt")
    rows = {row["name"]: row.get("zero_norms") for row in outcome.json["parameters"]}
    assert rows["parametrizations.weight.original1"] == 1
    assert "1 weight-norm row is all zero" in notes(outcome.err)[0]


def test_a_column_major_direction(cli: Cli) -> None:
    weight = torch.ones(5, 4)
    weight[3] = 0
    torch.save({"weight_v": weight.t().contiguous().t(), "weight_g": torch.ones(5, 1)}, "m.pt")
    outcome = cli("report", "m.pt", "--format", "json")
    assert [row.get("zero_norms") for row in outcome.json["parameters"] if row["name"] == "weight_v"] == [1]


def test_a_vector_v_without_a_magnitude_is_no_direction(cli: Cli) -> None:
    torch.save({"q_v": torch.zeros(4, 4), "k_v": torch.zeros(4, 4), "k_g": torch.ones(3)}, "m.pt")
    outcome = cli("report", "m.pt", "--format", "json")
    assert [row.get("zero_norms") for row in outcome.json["parameters"]] == [None] * len(outcome.json["parameters"])
    assert Path("m.pt").is_file()

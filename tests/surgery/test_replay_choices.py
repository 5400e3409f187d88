"""Records of the smallest elements and blocks in reports: other values, and choices that no run makes, are refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from surgery_zoo import save

from prunecli import files
from prunecli.errors import DamagedError, PrunecliError, ThresholdError


@pytest.fixture
def smallest(tmp_path: Path) -> dict[str, Any]:
    """A report of elements that were the smallest, some of those that are equal, and of the smallest blocks."""
    values = torch.tensor([[0.0, 1.0, 1.0, 1.0], [2.0, 2.0, 3.0, 4.0]])
    source = save({"a.weight": values, "b.weight": values.clone()}, tmp_path / "in.pt")
    recipe = 'method = "l1"\n[[group]]\nparams = "a.weight"\namount = 3\n'
    (tmp_path / "r.toml").write_text(f'seed = 7\n{recipe}[[group]]\nparams = "b.weight"\namount = 1\nblock = "2x2"\n')
    files.apply(source, recipe=tmp_path / "r.toml", output=tmp_path / "one.pt")
    found: dict[str, Any] = json.loads((tmp_path / "one.pt.report.json").read_text())
    assert found["parameters"][0]["choice"] == {"threshold": 0x3F800000, "equal": 2, "tied": 3, "before": [0]}
    return found


@pytest.mark.parametrize("values", [torch.ones(2, 4), torch.arange(8.0).view(2, 4)], ids=["more equal", "fewer equal"])
def test_the_smallest_of_other_values_are_not_replayed(
    values: torch.Tensor, smallest: dict[str, Any], tmp_path: Path
) -> None:
    source = save({"a.weight": values, "b.weight": values}, tmp_path / "other.pt")
    with pytest.raises(PrunecliError, match=r"a\.weight"):
        files.apply(source, from_report=tmp_path / "one.pt.report.json", output=tmp_path / "two.pt")
    assert not (tmp_path / "two.pt").exists()


WRONG = [
    (0, "threshold", -1),
    (0, "threshold", 1 << 31),
    (0, "threshold", 1e300),
    (0, "equal", "2"),
    (0, "equal", 4),
    (0, "tied", 1 << 64),
    (0, "before", [1 << 70]),
    (0, "before", [-1]),
    (0, "before", 0),
    (0, "keys", "bool"),
    (1, "units", "ff00"),
    (1, "units", "c0"),
    (1, "units", None),
]


@pytest.mark.parametrize(("row", "field", "value"), WRONG)
def test_a_choice_that_no_run_makes_is_refused(
    row: int, field: str, value: object, smallest: dict[str, Any], tmp_path: Path
) -> None:
    smallest["parameters"][row]["choice"][field] = value
    (tmp_path / "h.json").write_text(json.dumps(smallest))
    with pytest.raises(DamagedError, match="is not one that"):
        files.apply(tmp_path / "in.pt", from_report=tmp_path / "h.json", output=tmp_path / "two.pt")


@pytest.mark.parametrize(
    "change", [{"choice": {"slices": 0}}, {"choice": {"slices": 1}}, {"candidates": None}], ids=str
)
def test_a_number_without_slices_is_not_replayed_slice_by_slice(change: dict[str, Any], tmp_path: Path) -> None:
    """Nor is a row that prunes without anything to choose from."""
    source = save({"temperature": torch.tensor(1.5)}, tmp_path / "in.pt")
    files.apply(source, params="temperature", amount=1, output=tmp_path / "one.pt", seed=7)
    report = json.loads((tmp_path / "one.pt.report.json").read_text())
    report["parameters"][0] |= change
    (tmp_path / "h.json").write_text(json.dumps(report))
    with pytest.raises(DamagedError):
        files.apply(source, from_report=tmp_path / "h.json", output=tmp_path / "two.pt")


OTHER = [("threshold", 0x40000000, 5), ("equal", 1, 2), ("tied", 4, 2)]


@pytest.mark.parametrize("bake", [False, True])
@pytest.mark.parametrize(("field", "value", "dropped"), OTHER)
def test_without_digests_a_choice_must_prune_the_recorded_number(
    field: str, value: object, dropped: int, bake: bool, smallest: dict[str, Any], tmp_path: Path
) -> None:
    given: dict[str, Any] = {"from_report": tmp_path / "h.json", "bake": bake, "output": tmp_path / "two.pt"}
    for each in smallest["parameters"]:
        each["mask_sha256"] = None
    (tmp_path / "h.json").write_text(json.dumps(smallest))
    replayed = files.apply(tmp_path / "in.pt", **given)
    assert [each.pruned_now for each in replayed.parameters] == [3, 4]
    smallest["parameters"][0]["choice"][field] = value
    (tmp_path / "h.json").write_text(json.dumps(smallest))
    before = (tmp_path / "two.pt").read_bytes()
    with pytest.raises(ThresholdError, match=rf"3 pruned elements of a\.weight, and its choice prunes {dropped} here"):
        files.apply(tmp_path / "in.pt", **given, force=True)
    assert (tmp_path / "two.pt").read_bytes() == before

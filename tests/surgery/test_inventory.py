"""Every tensor of a file once, with its role; names and patterns select whatever has them."""

from pathlib import Path

import pytest
import torch
from torch import nn

from prunecli.errors import UsageError
from prunecli.formats.base import ReadOptions
from prunecli.formats.detect import open_checkpoint
from prunecli.surgery.names.inventory import InventoryEntry, inventory, matching
from prunecli.surgery.names.select import Selection
from prunecli.surgery.roles.table import Role

STATE = {
    "module.fc.weight_orig": torch.ones(4, 4),
    "module.fc.weight_mask": torch.ones(4, 4, dtype=torch.bool),
    "module.fc.bias": torch.ones(4),
    "bn.running_mean": torch.ones(4),
    "ids": torch.arange(4),
    "esc\x1b": torch.ones(2),
    "wide": torch.ones(1).expand(8),
}


@pytest.fixture
def entries(tmp_path: Path) -> list[InventoryEntry]:
    torch.save({"model": STATE, "generator": {"w": torch.ones(8, 4)}, "seen": torch.arange(3)}, tmp_path / "m.pt")
    with open_checkpoint(tmp_path / "m.pt") as checkpoint:
        return inventory(checkpoint)


def names(entries: list[InventoryEntry], *patterns: str, **options: object) -> list[str]:
    return [entry.name for entry in matching(entries, Selection(patterns, **options))]  # type: ignore[arg-type]


def test_all_tensors_are_there_in_the_order_of_the_file(entries: list[InventoryEntry]) -> None:
    assert [(entry.name, entry.state) for entry in entries] == [
        ("module.fc.weight_orig", "masked"),
        ("module.fc.weight_mask", "mask"),
        ("module.fc.bias", "dense"),
        ("bn.running_mean", "statistic"),
        ("ids", "integer tensor"),
        ("esc\x1b", "dense"),
        ("wide", "not prunable"),
        ("generator.w", "other network"),
        ("seen", "integer tensor"),
    ]
    assert [entry.tensor.shape for entry in entries[:2]] == [(4, 4), (4, 4)]


def test_a_parameter_is_its_weight_and_its_mask(entries: list[InventoryEntry]) -> None:
    both = ["module.fc.weight_orig", "module.fc.weight_mask"]
    assert names(entries, "module.fc.weight") == both
    assert names(entries, "fc.weight_mask") == both[1:]
    assert names(entries, "*.weight") == both
    assert names(entries, "fc.*", excludes=("*_mask",)) == [both[0], "module.fc.bias"]


class Caching(nn.Module):
    """It has a parameter, a buffer that is not saved, and a tensor in an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))
        self.register_buffer("unsaved", torch.ones(2), persistent=False)
        self.context = torch.zeros(0)


def test_plain_attributes_of_a_module_are_not_another_network(tmp_path: Path) -> None:
    torch.save(Caching(), tmp_path / "m.pt")
    with open_checkpoint(tmp_path / "m.pt", ReadOptions(foreign=True)) as checkpoint:
        roles = {entry.name: entry.role for entry in inventory(checkpoint)}
    assert roles == {"weight": Role.PARAMETER, "unsaved": Role.STATISTIC, "context": Role.STATISTIC}


def test_patterns_match_whatever_the_role(entries: list[InventoryEntry]) -> None:
    assert names(entries, "*running*", "g*", "re:w.*e") == ["bn.running_mean", "wide", "generator.w"]
    assert names(entries, "*", min_dim=2) == ["module.fc.weight_orig", "module.fc.weight_mask", "generator.w"]
    assert names(entries, "bn.running_mean", min_dim=2) == ["bn.running_mean"]
    assert names(entries, "esc\\x1b") == ["esc\x1b"]


@pytest.mark.parametrize(
    ("patterns", "excludes", "message"),
    [
        (("fc.wieght",), (), r"-p fc\.wieght matches nothing; did you mean fc\.weight"),
        (("wide",), ("w*",), "selects nothing"),
    ],
)
def test_what_matches_nothing_is_refused(
    entries: list[InventoryEntry], patterns: tuple[str, ...], excludes: tuple[str, ...], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        matching(entries, Selection(patterns, excludes))


def test_of_forty_thousand_names_each_is_found_at_once(entries: list[InventoryEntry]) -> None:
    many = [
        InventoryEntry(f"layer.{at}", entries[0].tensor, entries[0].role, "dense", f"layer.{at}")
        for at in range(40_000)
    ]
    assert len(matching(many, Selection([entry.name for entry in many], ["layer.7"]))) == 39_999

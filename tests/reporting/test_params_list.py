"""The list of `params`: no name is cut, layers fold on a terminal, and the JSON is what its schema says."""

import json
import re
from pathlib import Path

import jsonschema
import pytest
import torch
from safetensors.torch import save_file

from prunecli import files
from prunecli.cli.app import run
from prunecli.reporting.inventory import inventory_as_lines, inventory_as_table
from prunecli.reporting.numbers import cells
from prunecli.reporting.terminal import PAGE, Screen
from prunecli.surgery.names.inventory import InventoryEntry
from prunecli.surgery.report.schema import params_schema

LONG = "encoder.layer.{}.attention.output.LayerNorm.weight"


@pytest.fixture
def entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[InventoryEntry]:
    monkeypatch.chdir(tmp_path)
    tensors = {LONG.format(layer): torch.ones(4) for layer in range(30)}
    tensors[LONG.format(7)] = torch.ones(5)
    save_file({**tensors, "head.weight_orig": torch.ones(2, 4), "head.weight_mask": torch.ones(2, 4)}, "m.safetensors")
    return files.params("m.safetensors")


@pytest.mark.parametrize("folded", [True, False])
@pytest.mark.parametrize("width", [30, 60, 80, 120])
def test_a_terminal_shows_every_name_whole(entries: list[InventoryEntry], width: int, folded: bool) -> None:
    lines = inventory_as_table("parameter", entries, Screen(width, 24, live=True), folded=folded)
    names = [LONG.format("{0..6,8..29}") + " ×29", LONG.format(7)] if folded else [each.name for each in entries[1:]]
    for name in [*names, "head.weight"]:
        line = next(line for line in lines if line.startswith(name))
        assert cells(line) <= max(width, cells(name))
    assert (lines[-1] == "folded: 31 parameters in 3 rows; --no-fold lists each") == folded


def test_state_type_and_shape_go_before_a_name_does(entries: list[InventoryEntry]) -> None:
    heads = [inventory_as_table("parameter", entries, Screen(width, 9, live=True))[0] for width in (99, 80, 72, 60)]
    columns = ["parameter", "type", "shape", "state"]
    assert [re.split(r"\s+", head) for head in heads] == [
        columns,
        ["parameter", "shape", "state"],  # the type is the same everywhere, so that it goes first
        ["parameter", "shape"],
        ["parameter"],
    ]


def test_what_fits_is_not_folded(entries: list[InventoryEntry]) -> None:
    screen = Screen(80, 40, live=True)
    assert inventory_as_table("parameter", entries, screen) == inventory_as_table(
        "parameter", entries, screen, folded=False
    )
    assert len(inventory_as_table("parameter", entries, PAGE)) == 1 + len(entries)
    assert list(inventory_as_lines(entries))[-1] == "head.weight\tfloat32\t2x4\tmasked"


@pytest.mark.parametrize("options", [[], ["--all"], ["-p", "head.*"]])
def test_the_json_is_what_its_schema_says(
    entries: list[InventoryEntry], capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    assert run(["params", "m.safetensors", "--format", "json", *options]) == 0
    found = json.loads(capsys.readouterr().out)
    jsonschema.Draft202012Validator(json.loads(params_schema())).validate(found)
    assert len(found["tensors"]) == (1 if "-p" in options else 32 if options else 31)
    assert next(each for each in found["tensors"] if "head" in each["name"]) == {
        "name": "head.weight_mask" if options == ["--all"] else "head.weight",
        "parameter": "head.weight",
        "shape": [2, 4],
        "dtype": "float32",
        "elements": 8,
        "bytes": 32,
        "role": "mask" if options == ["--all"] else "parameter",
        "state": "mask" if options == ["--all"] else "masked",
    }


def test_the_json_of_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_file({}, tmp_path / "empty.safetensors")
    assert run(["params", str(tmp_path / "empty.safetensors"), "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["tensors"] == []


def test_the_schema_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["params", "--schema"]) == 0
    assert capsys.readouterr().out == params_schema()

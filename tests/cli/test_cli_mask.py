"""`prunecli mask`: what is printed where, pipes, and refusals."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, load_file

Cli = Callable[..., Any]
Refusal = Callable[..., str]


@pytest.fixture
def masked(folder: Path, cli: Cli) -> Path:
    """The example with masks, and their file."""
    assert cli("apply", "model.pt", "-p", "fc*.weight", "-a", "0.5", "-o", "masked.pt", "--no-report", "-q").code == 0
    assert cli("mask", "extract", "masked.pt", "-o", "masks.safetensors", "-q").code == 0
    return folder


@pytest.mark.usefixtures("masked")
def test_the_path_is_data_and_what_was_written_is_a_sentence(cli: Cli) -> None:
    outcome = cli("mask", "invert", "masks.safetensors")
    assert (outcome.code, outcome.out) == (0, "masks.inverted.safetensors\n")
    masks = load_file("masks.inverted.safetensors")
    elements, kept = sum(each.numel() for each in masks.values()), sum(int(each.sum()) for each in masks.values())
    assert f": 2 masks, {kept:,} of {elements:,} elements kept (50.00%)\n" in outcome.err
    quiet = cli("mask", "extract", "masked.pt", "-p", "fc1.weight", "--bits", "-q")
    assert (quiet.out, quiet.err) == ("masked.masks.safetensors\n", "")


@pytest.mark.usefixtures("masked")
def test_masks_go_through_pipes(cli: Cli) -> None:
    piped = cli("mask", "extract", "-", "-o", "-", stdin=Path("masked.pt"))
    assert piped.code == 0
    assert piped.raw == Path("masks.safetensors").read_bytes()
    assert piped.err.startswith("wrote standard output (")
    both = cli("mask", "combine", "--xor", "-", "masks.safetensors", "-o", "-", stdin=Path("masks.safetensors"))
    assert not any(each.any() for each in load(both.raw).values())


@pytest.mark.usefixtures("masked")
def test_refusals_are_one_line(refused: Refusal) -> None:
    assert "give one of them" in refused(2, "mask", "combine", "masks.safetensors", "masked.pt")
    assert "give one of them" in refused(2, "mask", "combine", "masks.safetensors", "masked.pt", "--and", "--or")
    assert "both come from standard input" in refused(2, "mask", "combine", "--and", "-", "-", "-o", "x")
    assert "need a name" in refused(2, "mask", "invert", "-")
    assert "has no masks" in refused(2, "mask", "extract", "model.pt", "-o", "x")
    assert "with -p" in refused(2, "mask", "extract", "model.pt", "--from-zeros", "-o", "x")
    assert "exists" in refused(6, "mask", "extract", "masked.pt", "-o", "masks.safetensors")
    assert "is the input itself" in refused(6, "mask", "invert", "masks.safetensors", "-o", "masks.safetensors")
    assert refused(3, "mask", "invert", "none.pt")
    torch.save({"w": torch.tensor([True]), "v": torch.tensor([2])}, "two.pt")
    assert "other than 0 and 1, at [0]" in refused(4, "mask", "invert", "two.pt")


@pytest.mark.usefixtures("masked")
def test_the_input_can_be_replaced(cli: Cli) -> None:
    before = load_file("masks.safetensors")
    assert cli("mask", "invert", "masks.safetensors", "-o", "masks.safetensors", "--force").code == 0
    assert all(torch.equal(each, ~before[name]) for name, each in load_file("masks.safetensors").items())


@pytest.mark.usefixtures("masked")
def test_an_overlap_in_each_format(cli: Cli) -> None:
    cli("apply", "model.pt", "-p", "fc*.weight", "-a", "0.5", "--seed", "7", "-o", "other.pt", "--no-report", "-q")
    lines = cli("mask", "overlap", "masks.safetensors", "other.pt")
    assert (lines.code, lines.err) == (0, "")
    head, *rows, sums = [line.split("\t") for line in lines.out.splitlines()]
    assert head[:3] == ["parameter", "both", "only A"]
    assert [row[0] for row in rows] == ["fc1.weight", "fc2.weight"]
    assert sums[0] == "all 2 parameters"
    found = cli("mask", "overlap", "masks.safetensors", "other.pt", "--format", "json").json
    assert found["schema"] == "prunecli.overlap/1"
    assert [str(each["kept_by_both"]) for each in found["parameters"]] == [row[1] for row in rows]
    totals = found["totals"]
    assert str(totals["kept_by_both"]) == sums[1]
    assert totals["kept_by_both"] + totals["hamming"] + totals["kept_by_neither"] == totals["elements"]
    assert totals["expected_by_both"] == totals["elements"] / 4
    assert f"{totals['z_score']:.2f}" == sums[-1]
    written = cli("mask", "overlap", "masks.safetensors", "other.pt", "-o", "o.html")
    assert written.out == "o.html\n"
    assert f'<td class="number">{totals["kept_by_both"]:,}</td>' in Path("o.html").read_text()
    assert "<script" not in Path("o.html").read_text()
    markdown = cli("mask", "overlap", "masks.safetensors", "other.pt", "--format", "markdown").out
    assert f"| **all 2 parameters** | {totals['kept_by_both']:,} |" in markdown
    csv = cli("mask", "overlap", "masks.safetensors", "other.pt", "--format", "csv").out
    assert [line.count(",") for line in csv.splitlines()] == [12] * 3
    table = cli("mask", "overlap", "masks.safetensors", "other.pt", "-o", "o.txt", "-q")
    assert (table.out, table.err) == ("", "")
    assert Path("o.txt").read_text().startswith("A: masks.safetensors\nB: other.pt\n\nparameter")
    piped = cli("mask", "overlap", "masks.safetensors", "other.pt", "--format", "table")
    assert piped.out == Path("o.txt").read_text()


@pytest.mark.usefixtures("masked")
def test_the_same_masks_overlap_fully_and_no_masks_have_no_shares(cli: Cli) -> None:
    same = cli("mask", "overlap", "-", "masks.safetensors", "-p", "fc2.weight", stdin=Path("masks.safetensors"))
    sums = same.out.splitlines()[-1].split("\t")
    assert sums[1:] == [
        "320",
        "0",
        "0",
        "320",
        "640",
        "100.00%",
        "0",
        "160.0",
        "25.28",
    ]
    torch.save({"w": torch.zeros(3, 3)}, "none.pt")
    none = cli("mask", "overlap", "none.pt", "none.pt", "--format", "json").json["totals"]
    assert (none["iou"], none["z_score"]) == (None, None)


@pytest.mark.usefixtures("masked")
def test_refusals_of_an_overlap(refused: Refusal) -> None:
    torch.save({"fc1.weight": torch.ones(2, 2)}, "small.pt")
    assert "only masks.safetensors has masks of fc2.weight" in refused(
        2, "mask", "overlap", "masks.safetensors", "small.pt"
    )
    assert "have shapes [64, 512] in masks.safetensors and [2, 2] in small.pt" in refused(
        2, "mask", "overlap", "masks.safetensors", "small.pt", "-p", "fc1.weight"
    )
    assert "suffix of no report format" in refused(2, "mask", "overlap", "masked.pt", "masked.pt", "-o", "o.pt")
    assert "model.pt has no masks" in refused(2, "mask", "overlap", "masked.pt", "model.pt")

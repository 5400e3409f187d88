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

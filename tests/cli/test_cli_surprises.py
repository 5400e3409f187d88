"""What would cost a day if nobody said it: notes on likely slips, and suffixes that would lie."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from prunecli import PrunecliError, files

Cli = Callable[..., Any]
Refusal = Callable[..., str]
NOTE = "prunecli: note: "
pytestmark = pytest.mark.usefixtures("folder")
MATRICES = ("-p", "*.weight", "--min-dim", "2")
ZEROS = ("-a", "0.5", "--remove", "--dry-run")


def notes(text: str) -> list[str]:
    return [line.removeprefix(NOTE) for line in text.splitlines() if line.startswith(NOTE)]


@pytest.mark.parametrize(
    ("source", "output", "better"),
    [
        ("model.pt", "d.safetensors", "d.pt"),
        ("model.pt", "d.pt.SafeTensors", "d.pt"),
        ("model.pth", "d.safetensors", "d.pth"),
        ("checkpoint", "d.safetensors", "d.pt"),
        ("model.safetensors", "a/out.pt", "out.safetensors"),
        ("model.safetensors", "out.pth.tar", "out.safetensors"),
        ("model.safetensors", "memory://a/out.bin", "out.safetensors"),
    ],
)
def test_a_suffix_of_another_format_is_refused(refused: Refusal, source: str, output: str, better: str) -> None:
    if source.startswith("model.pth") or source == "checkpoint":
        Path("model.pt").rename(source)
    line = refused(2, "apply", source, "-p", "fc1.weight", "-a", "0.5", "-o", output)
    assert line.startswith(f"cannot write {output}: the input is a ")
    assert line.endswith(f"nothing is converted here; name the output {better} with -o")


def test_a_folder_with_the_suffix_of_a_file_is_refused(cli: Cli, refused: Refusal) -> None:
    Path("shards").mkdir()
    Path("model.safetensors").rename("shards/model.safetensors")
    line = refused(2, "apply", "shards", "-p", "fc1.weight", "-a", "0.5", "-o", "out.pt")
    assert line == "cannot write out.pt: the input is a folder, and so is its output; name it out with -o"
    Path("shards").rename("shards.bin")
    assert cli("apply", "shards.bin", "-p", "fc1.weight", "-a", "0.5", "-o", "out.bin", "-q").code == 0


def test_a_suffix_that_is_not_wrong_is_accepted(cli: Cli) -> None:
    save_file({"w": torch.ones(4, 4)}, "wrong.bin")  # as its suffix does not say; the output is named alike
    for source, output in (("model.pt", "a.model"), ("model.safetensors", "b"), ("wrong.bin", "c.bin")):
        assert cli("apply", source, "-p", "*", "-a", "0.5", "-o", output, "-q").code == 0
    assert cli("apply", "wrong.bin", "-p", "*", "-a", "0.5", "-q").out == "wrong.pruned.bin\n"


def test_a_suffix_of_another_format_is_refused_by_remove_and_in_python(cli: Cli, refused: Refusal) -> None:
    assert cli("apply", "model.pt", "-p", "fc1.weight", "-a", "0.5", "-o", "masked.pt").code == 0
    assert "name the output x.pt with -o" in refused(2, "remove", "masked.pt", "-o", "x.safetensors")
    assert "x.pt with -o" in refused(
        2, "apply", "-", "-p", "*", "-a", "1.0", "-o", "x.safetensors", stdin=Path("model.pt")
    )
    with pytest.raises(PrunecliError, match=r"name the output x\.pt with output"):
        files.remove("masked.pt", output="x.safetensors")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["-a", "90"], "-a 90 is 90 elements of each parameter; for 90 % write -a 90%"),
        (["-a", "1"], "-a 1 is 1 element of each parameter; for all of them write -a 1.0, for 1 % -a 1%"),
        (["-a", "50", "--global"], "-a 50 is 50 elements of all selected parameters together; for 50 % write -a 50%"),
        (["-a", "101"], None),
        (["-a", "90%"], None),
        (["-a", "1.0"], None),
    ],
)
def test_a_small_count_may_be_meant_as_a_percentage(cli: Cli, options: list[str], text: str | None) -> None:
    found = notes(cli("apply", "model.pt", "-p", "fc1.weight", *options, "--remove", "--dry-run").err)
    assert found == ([] if text is None else [text])


def test_slips_in_a_recipe(cli: Cli) -> None:
    Path("r.toml").write_text('remove = true\n[[group]]\nparams = "fc*"\namount = 10\n')
    outcome = cli("apply", "model.pt", "--recipe", "r.toml", "-o", "a.pt")
    first, second = notes(outcome.err)[:2]
    assert first == 'amount = 10 is 10 elements of each parameter; for 10 % write amount = "10%"'
    assert second.startswith("the patterns take 2 tensors of one dimension (norms, biases): fc1.bias, fc2.bias; ")
    assert second.endswith("; min_dim = 2 leaves them out")
    assert notes(cli("apply", "model.pt", "--from-report", "a.pt.report.json", "--dry-run").err) == []


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["-p", "*"], "conv1.bias, bn1.weight and "),
        (["-p", "fc1.*"], "1 tensor of one dimension (norms, biases): fc1.bias; --min-dim 2 leaves them out"),
        (["-p", "fc1.*", "-p", "fc1.bias"], None),
        (["-p", "*.bias"], None),
        ([*MATRICES], None),
    ],
)
def test_a_pattern_that_takes_norms_and_biases_among_others(cli: Cli, options: list[str], named: str | None) -> None:
    found = [each for each in notes(cli("apply", "model.pt", *options, *ZEROS).err) if not each.startswith("left out")]
    assert len(found) == (named is not None)
    assert named is None or named in found[0]


def test_matrices_that_a_pattern_for_weights_leaves_dense(cli: Cli) -> None:
    layer = nn.TransformerEncoderLayer(4, 2, 8)
    extra = {"cls_token": torch.ones(1, 1, 4), "pos_embed": torch.ones(1, 9, 4)}
    save_file({**layer.state_dict(), **nn.LSTM(2, 2).state_dict(), **extra}, "t.safetensors")

    def dense(*options: str) -> list[str]:
        return [each for each in notes(cli("apply", "t.safetensors", *options, *ZEROS).err) if "left dense" in each]

    recommended = "-p '*' --min-dim 2 takes"
    three = f"3 matrices are left dense: self_attn.in_proj_weight, weight_hh_l0 and 1 more; {recommended} them"
    assert dense(*MATRICES) == [three]
    one = f"1 matrix is left dense: self_attn.in_proj_weight; {recommended} it"
    assert dense(*MATRICES, "-x", "weight_?h_l0") == [one]
    assert dense(*MATRICES, "-p", "weight_?h_l0", "-x", "*in_proj*") == []
    assert dense("-p", "linear*.weight", "--min-dim", "2") == []
    assert dense("-p", "*", "--min-dim", "2") == []


def test_what_is_recommended_when_nothing_is_selected(refused: Refusal) -> None:
    advice = "nothing is selected; give {} for all matrices named weight"
    assert refused(2, "apply", "model.pt", "-a", "0.5").startswith(advice.format("-p '*.weight' --min-dim 2"))
    with pytest.raises(PrunecliError) as caught:
        files.apply("model.pt", amount=0.5)
    assert str(caught.value).startswith(advice.format("params='*.weight', min_dim=2"))


@pytest.mark.parametrize("way", [["--remove"], []])
def test_zeros_of_an_earlier_run_are_noticed(cli: Cli, way: list[str]) -> None:
    save_file({"w": torch.ones(64, 64)}, "one.safetensors")
    assert cli("apply", "one.safetensors", "-p", "w", "-a", "0.5", "--remove").code == 0
    line = ("apply", "one.pruned.safetensors", "-p", "w", "-a", "0.5", "--seed", "2", *way)
    outcome = cli(*line, "--report", "-", "-o", "two.safetensors")
    again = 4096 - outcome.json["totals"]["zeros"]
    assert notes(outcome.err)[0] == (
        f"{again:,} of the 2,048 pruned elements were zero already; if an earlier run pruned them, "
        "--zeros-are-pruned counts them as pruned"
    )
    assert 900 < again < 1150
    assert "zero already" not in cli(*line, "--zeros-are-pruned", "-o", "three.safetensors").err
    assert "zero already" not in cli("apply", "one.safetensors", "-p", "w", "-a", "0.5", "-o", "four").err


def test_a_masking_run_ends_with_what_masks_mean(cli: Cli) -> None:
    outcome = cli("apply", "model.pt", *MATRICES, "-a", "0.5", "-o", "my masks.pt")
    assert outcome.err.splitlines()[-2] == (
        f"{NOTE}the output has masks (+38.2 kB), for prunecli.load_masked; plain modules and from_pretrained need "
        "zeros: --bake, or prunecli remove 'my masks.pt'"
    )
    again = cli("apply", "my masks.pt", *MATRICES, "-a", "0.5", "--mask-dtype", "same", "-o", "b.pt")
    assert "the output has masks, for" in again.err
    same = cli("apply", "model.pt", *MATRICES, "-a", "0.5", "--mask-dtype", "same", "-o", "-").err
    assert "the output has masks (+153 kB)" in same
    assert "the output will have masks (" in cli("apply", "model.pt", *MATRICES, "-a", "0.5", "--dry-run").err
    statistic = cli("apply", "model.pt", "-p", "bn1.running_mean", "-a", "0.5", "-o", "statistic.pt").err
    assert "the output has masks (+16 B), also of statistics, which no module loads with masks; zeros" in statistic
    assert "need zeros: --bake\n" in same
    assert "has masks" not in cli("remove", "b.pt").err + cli("apply", "model.pt", *MATRICES, *ZEROS).err

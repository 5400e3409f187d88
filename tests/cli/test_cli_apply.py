"""Every option of `apply` does what its help says."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from prunecli import RandomUnstructured

Cli = Callable[..., Any]
FC1 = 64 * 512
pytestmark = pytest.mark.usefixtures("folder")


def load(path: str) -> dict[str, Tensor]:
    content = torch.load(path, weights_only=True)
    state: dict[str, Tensor] = content.get("state_dict", content)
    return state


def zeros(path: str, name: str) -> int:
    return int((load(path)[name] == 0).sum())


def same(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(one, other)


@pytest.mark.parametrize(
    ("amount", "count"),
    [
        ("0.5", FC1 // 2),
        ("5e-1", FC1 // 2),
        ("50%", FC1 // 2),
        ("12.5 %", FC1 // 8),
        ("1000", 1000),
        ("1", 1),
        ("1.0", FC1),
        ("100%", FC1),
        ("0", 0),
        ("0.0", 0),
        (str(FC1), FC1),
    ],
)
@pytest.mark.parametrize("form", [["--remove"], []], ids=["bake", "mask"])
def test_amounts(cli: Cli, amount: str, count: int, form: list[str]) -> None:
    outcome = cli("apply", "model.pt", "-p", "fc1.weight", "-a", amount, *form)
    assert outcome.code == 0, outcome.err
    pruned = zeros("model.pruned.pt", "fc1.weight" if form else "fc1.weight_mask")
    assert pruned == count
    reported = json.loads(Path("model.pruned.pt.report.json").read_text())["totals"]["pruned_now"]
    assert reported == count


def test_one_element_is_noted_naming_the_whole(cli: Cli) -> None:
    outcome = cli("apply", "model.pt", "-p", "fc1.weight", "-a", "1")
    notes = [line for line in outcome.err.splitlines() if line.startswith("prunecli: note: ")]
    (note,) = [line for line in notes if "1 element of each" in line]
    assert "1.0" in note
    assert "1 element of each" not in cli("apply", "model.pt", "-p", "fc1.weight", "-a", "1.0", "--force").err
    assert cli("apply", "model.pt", "-p", "fc1.weight", "-a", "1", "--force", "-q").err == ""


def test_masks_keep_the_weights_and_everything_else(cli: Cli) -> None:
    assert cli("apply", "model.pt", "-p", "fc1.weight", "-a", "0.5", "--seed", 3).code == 0
    old, new = load("model.pt"), load("model.pruned.pt")
    assert set(new) == set(old) - {"fc1.weight"} | {"fc1.weight_orig", "fc1.weight_mask"}
    assert new["fc1.weight_mask"].dtype == torch.bool
    assert all(same(old[name.removesuffix("_orig")], tensor) for name, tensor in new.items() if "_mask" not in name)


def test_remove_writes_zeros_only_where_the_mask_of_that_seed_has_them(cli: Cli) -> None:
    assert cli("apply", "model.pt", "-p", "fc1.weight", "-a", "0.5", "--seed", 3).code == 0
    assert cli("apply", "model.pt", "-p", "fc1.weight", "-a", "0.5", "--seed", 3, "--remove", "-o", "b.pt").code == 0
    old, mask, baked = load("model.pt"), load("model.pruned.pt")["fc1.weight_mask"], load("b.pt")
    assert set(baked) == set(old)
    assert same(baked["fc1.weight"], torch.where(mask, old["fc1.weight"], 0.0))
    assert all(same(old[name], tensor) for name, tensor in baked.items() if name != "fc1.weight")


@pytest.mark.parametrize("source", ["model.pt", "model.safetensors"])
def test_the_mask_is_that_of_the_library(cli: Cli, source: str) -> None:
    outcome = cli("apply", source, "-p", "fc1.weight", "-a", "0.3", "--seed", 11, "--report", "-")
    weight = load("model.pt")["fc1.weight"]
    mask = RandomUnstructured(0.3, seed=11, key="fc1.weight").compute_mask(weight, torch.ones_like(weight))
    (reported,) = [each for each in outcome.json["parameters"] if each["name"] == "fc1.weight"]
    assert reported["zeros"] == int((mask == 0).sum())
    if source == "model.pt":
        assert torch.equal(load("model.pruned.pt")["fc1.weight_mask"], mask.bool())


def test_mask_dtype(cli: Cli) -> None:
    for choice, dtype in (("bool", torch.bool), ("same", torch.float32)):
        assert cli("apply", "model.pt", "-p", "fc1.weight", "-a", "0.5", "--mask-dtype", choice, "--force").code == 0
        mask = load("model.pruned.pt")["fc1.weight_mask"]
        assert mask.dtype == dtype
        assert set(mask.flatten().tolist()) == {0, 1}


def test_global_draws_one_amount_over_all(cli: Cli) -> None:
    line = ["apply", "model.pt", "-p", "fc*.weight", "-a", "1000", "--seed", 5, "--report", "-", "--force"]
    together = cli(*line, "--global").json
    assert [group["global"] for group in together["groups"]] == [True]
    assert together["totals"]["pruned_now"] == 1000
    shares = {each["name"]: each["pruned_now"] for each in together["parameters"] if each["pruned_now"]}
    assert set(shares) == {"fc1.weight", "fc2.weight"}
    assert shares["fc1.weight"] > shares["fc2.weight"]
    # 1000 are more than fc2.weight has, so without --global the same line is refused.
    assert cli(*line).code == 2


def test_a_drawn_seed_is_shown_and_replays(cli: Cli) -> None:
    first = cli("apply", "model.pt", "-p", "fc1.weight", "-a", "0.5", "-o", "first.pt")
    found = re.search(r"^seed (\d+)$", first.err, re.MULTILINE)
    assert found
    assert json.loads(Path("first.pt.report.json").read_text())["seed"] == int(found[1])
    again = cli("apply", "model.pt", "-p", "fc1.weight", "-a", "0.5", "-o", "again.pt", "--seed", found[1])
    assert again.code == 0
    mask = load("first.pt")["fc1.weight_mask"]
    assert torch.equal(mask, load("again.pt")["fc1.weight_mask"])
    assert cli("apply", "model.pt", "-p", "fc1.weight", "-a", "0.5", "-o", "other.pt").code == 0
    assert not torch.equal(mask, load("other.pt")["fc1.weight_mask"])


@pytest.mark.parametrize("jobs", [1, 2, 5])
def test_threads_do_not_change_the_output(cli: Cli, jobs: int) -> None:
    line = ["apply", "model.pt", "-p", "*.weight", "-a", "0.5", "--seed", 1]
    assert cli(*line, "-o", "a.pt").code == 0
    assert cli(*line, "-o", "b.pt", "-j", jobs).code == 0
    assert Path("a.pt").read_bytes() == Path("b.pt").read_bytes()


def masked(path: str) -> set[str]:
    return {name.removesuffix("_mask") for name in load(path) if name.endswith("_mask")}


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (["-p", "fc?.weight"], {"fc1.weight", "fc2.weight"}),
        (["-p", "fc1.weight", "-p", "conv1.bias"], {"fc1.weight", "conv1.bias"}),
        (["-p", "module.fc1.weight"], {"fc1.weight"}),
        (["-p", "_orig_mod.fc1.weight"], {"fc1.weight"}),
        (["-p", r"re:(fc|conv)\d\.weight"], {"fc1.weight", "fc2.weight", "conv1.weight", "conv2.weight"}),
        (["-p", "*.weight", "--min-dim", "2"], {"fc1.weight", "fc2.weight", "conv1.weight", "conv2.weight"}),
        (["-p", "*.weight", "-x", "bn*", "-x", "conv2.weight"], {"fc1.weight", "fc2.weight", "conv1.weight"}),
        (["--param", "bn1.*"], {"bn1.weight", "bn1.bias"}),
        (["-p", "bn1.running_mean"], {"bn1.running_mean"}),
        (["-p", "bn1.bias", "--min-dim", "2"], {"bn1.bias"}),
    ],
)
def test_selection(cli: Cli, options: list[str], names: set[str]) -> None:
    assert cli("apply", "model.pt", *options, "-a", "0.5").code == 0
    assert masked("model.pruned.pt") == names


def test_a_regular_expression_matches_in_full(cli: Cli) -> None:
    assert cli("apply", "model.pt", "-p", "re:fc1", "-a", "0.5").code == 2


def test_zeros_are_pruned(cli: Cli) -> None:
    bake = ["apply", "-p", "fc1.weight", "-a", "0.5", "--remove", "--seed", 1]
    assert cli(*bake, "model.pt", "-o", "one.pt").code == 0
    assert cli(*bake, "one.pt", "-o", "two.pt", "--zeros-are-pruned").code == 0
    assert cli(*bake, "one.pt", "-o", "naive.pt").code == 0
    assert zeros("two.pt", "fc1.weight") == FC1 * 3 // 4
    # The same seed over the same candidates: without the option the second round draws the first one's elements.
    assert zeros("naive.pt", "fc1.weight") == FC1 // 2


def test_a_second_round_prunes_among_what_is_left(cli: Cli) -> None:
    assert cli("apply", "model.pt", "-p", "fc1.weight", "-a", "0.5", "-o", "one.pt").code == 0
    assert cli("apply", "one.pt", "-p", "fc1.weight", "-a", "0.5", "-o", "two.pt").code == 0
    one, two = load("one.pt")["fc1.weight_mask"], load("two.pt")["fc1.weight_mask"]
    assert int((~two).sum()) == FC1 * 3 // 4
    assert not (two & ~one).any()


def test_key_chooses_the_state_dict(cli: Cli) -> None:
    torch.save({"student": {"w": torch.ones(8)}, "teacher": {"w": torch.ones(8)}, "step": 3}, "pair.pt")
    line = ["apply", "pair.pt", "-p", "w", "-a", "0.5", "--remove"]
    assert cli(*line, "--key", "teacher").code == 0
    pruned = torch.load("pair.pruned.pt", weights_only=True)
    assert int((pruned["teacher"]["w"] == 0).sum()) == 4
    assert int((pruned["student"]["w"] == 0).sum()) == 0
    assert pruned["step"] == 3


def test_ties(cli: Cli) -> None:
    shared = torch.ones(4, 4)
    torch.save({"embed.weight": shared, "head.weight": shared}, "tied.pt")
    line = ["apply", "tied.pt", "-a", "0.5", "--force", "--report", "-"]
    refusal = cli(*line, "-p", "embed.weight")
    assert refusal.code == 2
    assert "head.weight" in refusal.err
    assert "--untie" in refusal.err
    assert cli(*line, "-p", "embed.weight", "--untie").code == 0
    assert masked("tied.pruned.pt") == {"embed.weight"}
    both = cli(*line, "-p", "*.weight", "--remove")
    assert {each["name"]: each["tied_to"] for each in both.json["parameters"]} == {
        "embed.weight": ["head.weight"],
        "head.weight": ["embed.weight"],
    }
    assert both.json["totals"]["pruned_now"] == 8
    assert zeros("tied.pruned.pt", "head.weight") == 8
    assert cli(*line, "-p", "embed.weight", "--untie", "--remove").code == 2


@pytest.mark.parametrize("seed", [["--seed", "4"], []])
def test_dry_run_prints_the_plan_and_writes_nothing(cli: Cli, folder: Path, seed: list[str]) -> None:
    before = sorted(folder.iterdir())
    outcome = cli("apply", "model.pt", "-p", "fc*.weight", "-a", "0.25", "--dry-run", *seed)
    assert outcome.code == 0
    assert sorted(folder.iterdir()) == before
    assert re.search(r"^fc1\.weight +32,768 +32,768 +8,192$", outcome.err, re.MULTILINE)
    assert re.search(r"^fc2\.weight +640 +640 +160$", outcome.err, re.MULTILINE)
    assert "bn1" not in outcome.err
    last = outcome.err.splitlines()[-1]
    found = re.fullmatch(r"would write model\.pruned\.pt, seed (\d+); nothing is written", last)
    assert found
    assert not seed or found[1] == "4"


def test_refuses_to_print_the_recipe_of_a_run(refused: Callable[..., str]) -> None:
    assert "--dry-run" in refused(2, "apply", "model.pt", "-p", "*", "-a", "0.5", "--print-recipe")


def test_dry_run_prints_the_output_in_one_line(cli: Cli) -> None:
    folder = Path("a" * 150, "b" * 100)
    folder.mkdir(parents=True)
    outcome = cli("apply", "model.pt", "-p", "fc1.weight", "-a", "0.5", "--dry-run", "-o", folder / "out.pt")
    assert outcome.err.splitlines()[-1].startswith(f"would write {'a' * 50}")
    assert f"{'b' * 50}/out.pt, seed " in outcome.err.splitlines()[-1]
    assert outcome.err.splitlines()[-1].endswith("; nothing is written")


def test_dry_run_finds_what_the_run_would_refuse(cli: Cli) -> None:
    assert cli("apply", "model.pt", "-p", "fc2.weight", "-a", "641", "--dry-run").code == 2


def test_dry_run_prints_the_plan_and_that_the_output_is_in_the_way(cli: Cli) -> None:
    Path("model.pruned.pt").write_text("old")
    outcome = cli("apply", "model.pt", "-p", "fc2.weight", "-a", "0.5", "--dry-run")
    assert outcome.code == 6
    assert re.search(r"^fc2\.weight +640 +640 +320$", outcome.err, re.MULTILINE)
    assert "model.pruned.pt exists" in outcome.err


@pytest.mark.parametrize("command", ["params", "report"])
def test_min_dim_shows_what_apply_would_take(cli: Cli, command: str) -> None:
    shown = cli(command, "model.pt", "-p", "*.weight", "--min-dim", "2").out
    assert "fc1.weight" in shown
    assert "bn1.weight" not in shown


def test_force_replaces_and_spares_the_rest(cli: Cli) -> None:
    Path("out.pt").write_text("old")
    line = ["apply", "model.pt", "-p", "fc1.weight", "-a", "0.5", "-o", "out.pt"]
    assert cli(*line).code == 6
    assert Path("out.pt").read_text() == "old"
    assert cli(*line, "--force").code == 0
    assert masked("out.pt") == {"fc1.weight"}


def test_force_over_the_input_itself(cli: Cli) -> None:
    line = ["apply", "model.pt", "-p", "fc1.weight", "-a", "0.5", "--remove", "-o", "model.pt"]
    refusal = cli(*line)
    assert refusal.code == 6
    assert "the input itself" in refusal.err
    assert cli(*line, "--force").code == 0
    assert zeros("model.pt", "fc1.weight") == FC1 // 2


def test_quiet_says_nothing_but_the_path(cli: Cli) -> None:
    outcome = cli("apply", "model.pt", "-p", "fc1.weight", "-a", "0.5", "-q")
    assert (outcome.code, outcome.out, outcome.err) == (0, "model.pruned.pt\n", "")

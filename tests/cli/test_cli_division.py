"""How much is pruned where: rules that divide one total, amounts of single parameters, files, and what contradicts."""

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import Cli, Refusal

from prunecli.cli.division_options import Rule
from prunecli.core.allocation import RULES
from prunecli.surgery.report.codec import SCHEMA, SCHEMA_2

pytestmark = pytest.mark.usefixtures("folder")

SIZES = {"conv1.weight": 144, "conv2.weight": 4608, "fc1.weight": 32768, "fc2.weight": 640}
MATRICES = ["-p", "*", "--min-dim", 2, "--seed", 5]
TOTAL = round(0.9 * sum(SIZES.values()))


def counts(report: Any) -> dict[str, int]:
    return {each["name"]: each["pruned_now"] for each in report["parameters"] if each["name"] in SIZES}


def pruned(cli: Cli, *arguments: object) -> dict[str, int]:
    outcome = cli("apply", "model.pt", *MATRICES, *arguments, "--report", "-", "--force")
    assert outcome.code == 0, outcome.err
    return counts(outcome.json)


def test_the_option_knows_all_rules() -> None:
    assert [rule.value for rule in Rule] == list(RULES)


@pytest.mark.parametrize("rule", ["uniform", "global", "er", "erk"])
def test_the_total_is_exact(cli: Cli, rule: str) -> None:
    found = pruned(cli, "-a", "0.9", "--allocation", rule)
    assert sum(found.values()) == TOTAL
    assert all(0 <= found[name] <= SIZES[name] for name in SIZES)


def test_erk_is_what_it_is_by_hand(cli: Cli) -> None:
    """Of 3,816 kept elements, each layer has a share by the sum of its dims: 23, 54, 576 and 74 of 727."""
    kept = {"conv1.weight": 121, "conv2.weight": 284, "fc1.weight": 3023, "fc2.weight": 388}  # 120.7 283.4 3023.4 388.4
    assert pruned(cli, "-a", "0.9", "--allocation", "erk") == {name: SIZES[name] - kept[name] for name in kept}


@pytest.mark.parametrize("rule", [["--allocation", "erk"], ["--global"]])
def test_amounts_of_single_layers_are_part_of_the_total(cli: Cli, rule: list[str]) -> None:
    found = pruned(cli, "-a", "0.5", *rule, "-a", "conv1.weight=0", "-a", "fc2*=100")
    assert (found["conv1.weight"], found["fc2.weight"]) == (0, 100)
    assert sum(found.values()) == round(0.5 * sum(SIZES.values()))


def test_without_a_rule_other_layers_have_the_amount_for_all(cli: Cli) -> None:
    found = pruned(cli, "-a", "0.5", "-a", "conv*=0.25", "-a", "conv2.weight=1", "-a", "conv?.weight=0")
    assert found == {"conv1.weight": 0, "conv2.weight": 1, "fc1.weight": 16384, "fc2.weight": 320}


def test_the_global_allocation_is_the_option_of_before_to_the_byte(cli: Cli) -> None:
    line = ["apply", "model.pt", *MATRICES, "-a", "0.9"]
    assert cli(*line, "--global", "-o", "one.pt").code == 0
    assert cli(*line, "--allocation", "global", "-o", "two.pt").code == 0
    assert Path("one.pt").read_bytes() == Path("two.pt").read_bytes()
    one, two = (json.loads(Path(f"{name}.pt.report.json").read_text()) for name in ("one", "two"))
    assert {**one, "output": None} == {**two, "output": None}
    assert one["schema"] == SCHEMA


def test_a_divided_prune_has_a_report_and_a_recipe_that_do_the_same(cli: Cli) -> None:
    line = ["apply", "model.pt", *MATRICES, "-a", "0.9", "-a", "fc2.weight=0", "-a", "conv1*=7", "--allocation", "erk"]
    Path("r.toml").write_text(cli(*line, "--dry-run").out)
    assert cli(*line, "-o", "one.pt").code == 0
    assert cli("apply", "model.pt", "--recipe", "r.toml", "-o", "two.pt").code == 0
    assert cli("apply", "model.pt", "--from-report", "one.pt.report.json", "-o", "three.pt").code == 0
    assert cli("verify", "one.pt").code == 0
    one, two, three = (json.loads(Path(f"{name}.pt.report.json").read_text()) for name in ("one", "two", "three"))
    assert one["schema"] == SCHEMA_2
    assert one["groups"][0]["amounts"] == {"fc2.weight": 0, "conv1*": 7}
    assert one["groups"][0]["allocation"] == "erk"
    assert {**one, "output": None} == {**two, "output": None} == {**three, "output": None}
    assert Path("one.pt").read_bytes() == Path("two.pt").read_bytes() == Path("three.pt").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-a", "0.5", "-a", "0.6"], "-a is given twice (0.5, 0.6)"),
        (["-a", "=0.5"], "-a =0.5 has no pattern"),
        (["-a", "fc1.weight=1.5"], "amount 1.5 is not a fraction from 0.0 to 1.0"),
        (["-a", "fc1.weight=-3", "-a", "0.5"], "amount -3 is negative"),
        (["-a", "fc1.weight=0.5"], "-a has no amount for conv1.weight, which is selected"),
        (["-a", "0.5", "-a", "fc9*=0"], "-a fc9* = 0 matches none of the selected parameters"),
        (["-a", "0.5", "-a", "fc1.bias=0"], "-a fc1.bias = 0 matches none of the selected parameters"),
        (["-a", "0.5", "-a", "fc2.weight=700"], "cannot prune 700 elements of fc2.weight: 640 are left"),
        (["-a", "fc1.weight=0.5", "--allocation", "erk"], "--allocation divides a total"),
        (["-a", "fc1.weight=0.5", "--global"], "--global divides a total"),
        (["-a", "0.5", "--allocation", "erk", "--global"], "--global and --allocation erk"),
        (["-a", "0.5", "--order", "model.pt"], "--order is the order of layers for --allocation"),
        (["--recipe", "r.toml", "-a", "fc1.weight=0"], "--recipe and -a both say"),
        (["--from-report", "r.json", "--allocation", "erk"], "--from-report and --allocation both say"),
        (
            ["-a", "0.9", "--global", "-a", "fc1.weight=0"],
            "34,344 elements cannot be reached: 1 of 4 layers have amounts of their own, so between 0 and 5,392",
        ),
        (["-a", "0.5", "--allocation", "none"], "none"),
    ],
)
def test_divisions_that_contradict_themselves(refused: Refusal, arguments: list[str], words: str) -> None:
    assert words in refused(2, "apply", "model.pt", *MATRICES, *arguments)

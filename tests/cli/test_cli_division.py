"""How much is pruned where: rules that divide one total, amounts of single parameters, files, and what contradicts."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Cli, Refusal
from safetensors.torch import save_file

from prunecli import files
from prunecli.cli.division_options import RuleName
from prunecli.core.allocation import RULES
from prunecli.errors import OutputError, UsageError
from prunecli.surgery import rewrite
from prunecli.surgery.names.select import Selection
from prunecli.surgery.plan.recipe_text import render_recipe
from prunecli.surgery.plan.request import PruneGroup, PruneRequest, request_as_dict
from prunecli.surgery.report.document import SCHEMA, SCHEMA_2
from prunecli.surgery.report.model import Report

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
    assert [rule.value for rule in RuleName] == list(RULES)


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
    "text",
    [
        '{"conv*": 0.25, "fc1.weight": 100, "fc2.weight": "50%", "fc*": 0}',
        "'conv*' = 0.25\n'fc*' = 0\nfc1.weight = 100\n[fc2]\nweight = '50%'\n",
    ],
    ids=["JSON", "TOML"],
)
def test_a_file_has_the_ratio_of_each_layer(cli: Cli, text: str) -> None:
    Path("ratios").write_text(text, "utf-8-sig")  # as editors on Windows write it
    found = pruned(cli, "--ratios", "ratios")
    assert found == {"conv1.weight": 36, "conv2.weight": 1152, "fc1.weight": 100, "fc2.weight": 320}


@pytest.mark.parametrize(
    ("code", "text", "words"),
    [
        (2, '{"fc*": 1.5, "conv*": 0}', "ratios: fc*: amount 1.5 is not a fraction from 0.0 to 1.0"),
        (2, '{"fc*": -0.5, "conv*": 0}', "ratios: fc*: amount -0.5 is not a fraction"),
        (2, '{"fc*": null}', "ratios: fc*: no amount"),
        (2, '{"fc*": 0.5, "conv1.weight": 0.5}', "ratios has no amount for conv2.weight"),
        (2, '{"*": 0.5, "fc9.weight": 0.25}', "ratios fc9.weight = 0.25 matches none of the selected parameters"),
        (2, '{"*": 0.5, "fc2.weight": 641}', "cannot prune 641 elements of fc2.weight: 640 are left"),
        (2, "{}", "ratios contains no amounts"),
        (2, "half", "ratios is neither JSON nor TOML"),
        (2, '{\n"fc*": 0.5,\n}', "ratios:3: not JSON: Expecting property name"),
        (2, '{"fc*": ' + "[" * 100_000, "ratios is not JSON that can be read"),
        (2, '{"fc*": 0.5, "fc*": 0.6}', "ratios has fc* twice"),
        (2, '{"re:(": 0.5}', "re:( is not a regular expression"),
        (2, f"x = 0x{'f' * 40}", "ratios: x: amount is larger than any number of elements"),
        (2, f"x = {'9' * 5000}", "ratios is neither JSON nor TOML: Exceeds the limit"),
        (2, f"{'a.' * 300}b = 0.5", "is nested too deeply for a name"),
        (2, '{"a":' * 300 + "0.5" + "}" * 300, "is nested too deeply for a name"),
        (2, '{"": 0.5, "*": 0.1}', "ratios '' = 0.5 matches none"),
    ],
)
def test_a_file_that_cannot_be_met(refused: Refusal, code: int, text: str, words: str) -> None:
    Path("ratios").write_text(text)
    line = refused(code, "apply", "model.pt", *MATRICES, "--ratios", "ratios")
    assert words in line
    assert "ratios: ratios" not in line


def test_like_has_the_counts_of_a_mask_of_zeros_and_of_a_report(cli: Cli) -> None:
    made = ["apply", "model.pt", "-p", "conv*.weight", "-p", "fc*", "-a", "0.9", "-a", "fc2*=0.3", "--seed", 1]
    assert cli(*made, "-o", "masked.pt").code == 0
    assert cli("apply", "masked.pt", "-p", "conv1.weight", "-a", "4", "--seed", 2, "-o", "again.pt").code == 0
    assert cli("apply", "again.pt", "-p", "fc1.bias", "-a", "0", "--bake", "-o", "baked.pt").code == 0
    for bits in ([], ["--bits"]):
        assert cli("mask", "extract", "again.pt", "-o", f"masks{len(bits)}.safetensors", *bits).code == 0
    expected = {"conv1.weight": 134, "conv2.weight": 4147, "fc1.weight": 29491, "fc2.weight": 192}
    for like in ("again.pt", "baked.pt", "masks0.safetensors", "masks1.safetensors", "again.pt.report.json"):
        assert pruned(cli, "--like", like) == expected, like
    first = cli("apply", "model.pt", *MATRICES, "--like", "again.pt", "-o", "drawn.pt")
    assert first.err.count("again.pt has 61 zeros in parameters that are not selected: fc1.bias and 1 more") == 1
    again = cli("apply", "model.safetensors", *MATRICES, "--like", "again.pt.report.json", "-o", "drawn.safetensors")
    assert again.code == 0
    kept = [json.loads(Path(f"{name}.report.json").read_text()) for name in ("drawn.pt", "drawn.safetensors")]
    masks = [{each["name"]: each["mask_sha256"] for each in report["parameters"]} for report in kept]
    assert masks[0] == masks[1]


def test_like_refuses_to_draw_the_masks_that_it_counts(cli: Cli, refused: Refusal) -> None:
    made = ["apply", "model.pt", "-p", "conv*.weight", "-p", "fc*.weight", "-a", "0.9", "-a", "conv*=0"]
    assert cli(*made, "--seed", 5, "-o", "masked.pt").code == 0
    assert cli("remove", "masked.pt", "-o", "baked.pt").code == 0
    words = "the new masks are those that --like counts, fc1.weight first: both are from seed 5"
    for like in ("masked.pt", "baked.pt", "masked.pt.report.json"):
        assert words in refused(2, "apply", "model.pt", *MATRICES, "--like", like, "-o", "x.pt")
    assert words in refused(2, "apply", "model.pt", *MATRICES, "--like", "masked.pt", "--bake", "-o", "x.pt")
    assert words in refused(2, "apply", "model.pt", *MATRICES, "--like", "masked.pt", "--dry-run")
    assert words in refused(2, "apply", "model.pt", *MATRICES, "--like", "masked.pt", "-o", "-")  # with no output
    assert cli("apply", "model.pt", *MATRICES[:-1], 6, "--like", "masked.pt", "-o", "x.pt").code == 0
    assert cli("apply", "model.pt", "-p", "conv*.weight", "--seed", 5, "--like", "masked.pt", "-o", "y.pt").code == 0


def test_like_refuses_the_seed_of_zeros_beside_zeros_of_the_model(cli: Cli, refused: Refusal) -> None:
    weight = torch.arange(1.0, 10_001).reshape(100, 100)
    weight[:, 7] = 0
    torch.save({"w": weight}, "zeros.pt")
    assert cli("apply", "zeros.pt", "-p", "w", "-a", "0.8", "--seed", 5, "--bake", "-o", "baked.pt").code == 0
    like = ["apply", "zeros.pt", "-p", "w", "--like", "baked.pt", "-o", "drawn.pt", "--seed"]
    assert "standard deviations more often than chance: both are probably from seed 5" in refused(2, *like, 5)
    assert cli(*like, 6).code == 0


def test_a_report_of_like_replays_and_names_no_secrets(cli: Cli) -> None:
    assert cli("apply", "model.pt", "-p", "fc*.weight", "-a", "0.9", "--seed", 1, "-o", "masked.pt").code == 0
    assert cli("apply", "model.pt", "-p", "fc*.weight", "--like", "masked.pt", "--seed", 2, "-o", "one.pt").code == 0
    Path("masked.pt").unlink()
    assert cli("apply", "model.pt", "--from-report", "one.pt.report.json", "-o", "two.pt").code == 0
    assert Path("one.pt").read_bytes() == Path("two.pt").read_bytes()
    assert json.loads(Path("one.pt.report.json").read_text())["groups"][0]["like"] == "masked.pt"
    secret = PruneGroup(Selection(("*",)), None, like="https://user:secret@host/masked.pt?sig=abc")
    shown = render_recipe(PruneRequest((secret,))) + str(request_as_dict(PruneRequest((secret,))))
    assert "secret" not in shown
    assert "abc" not in shown


def test_like_does_not_need_the_same_shapes(cli: Cli) -> None:
    save_file({"fc1.weight": torch.tensor([0.0, 1.0, -0.0])}, "small.safetensors")
    outcome = cli("apply", "model.pt", "-p", "fc1.weight", "--like", "small.safetensors", "--report", "-")
    assert counts(outcome.json)["fc1.weight"] == 2


def test_what_cannot_be_counted(refused: Refusal, cli: Cli) -> None:
    assert cli("apply", "model.pt", "-p", "fc1.weight", "-a", "0.5", "-o", "half.pt").code == 0
    assert cli("apply", "model.pt", "-p", "fc1.weight", "-a", "0.6", "-o", "more.pt").code == 0
    like = ["apply", "half.pt", "-p", "fc1.weight", "--like"]
    assert "--like more.pt prunes 19,661 elements of fc1.weight: 16,384 are left" in refused(2, *like, "more.pt")
    save_file({"fc.weight": torch.zeros(3)}, "other.safetensors")
    words = "--like other.safetensors does not contain fc1.weight, which is selected"
    assert words in refused(2, *like, "other.safetensors")
    assert "cannot open none.pt" in refused(3, *like, "none.pt")
    assert "--like needs the path or URL" in refused(2, *like, "-")
    assert "--like needs the path or URL" in refused(2, *like, "")
    half = {"fc1.weight_orig": torch.ones(4), "fc1.weight_mask": torch.tensor([1, 0.5, 0, 1])}
    torch.save(half, "soft.pt")
    assert "the mask of fc1.weight has a value other than 0 and 1, at [1]" in refused(4, *like, "soft.pt")
    Path("cut.safetensors").write_bytes(Path("other.safetensors").read_bytes()[:-3])
    assert "cut.safetensors" in refused(4, *like, "cut.safetensors")


def test_an_order_file_is_what_the_pickle_has(cli: Cli, refused: Refusal) -> None:
    line = [*MATRICES, "-a", "0.9", "--allocation", "pyramidal", "--report", "-"]
    expected = cli("apply", "model.pt", *line).json
    words = "--allocation pyramidal needs the model's order of layers, and model.safetensors (safetensors) sorts its"
    assert words in refused(2, "apply", "model.safetensors", *line[:-2])
    Path("order").write_bytes(cli("params", "model.pt").raw)
    found = cli("apply", "model.safetensors", *line, "--order", "order").json
    assert counts(found) == counts(expected)
    assert found["groups"] == expected["groups"]
    assert found["groups"][0]["order"] == list(SIZES)
    dry = cli("apply", "model.safetensors", *line[:-2], "--order", "order", "--dry-run")
    assert "order of layers: conv1.weight, conv2.weight, fc1.weight, fc2.weight" in dry.err
    Path("r.toml").write_text(dry.out)
    assert counts(cli("apply", "model.safetensors", "--recipe", "r.toml", "--report", "-", "--force").json) == counts(
        found
    )
    Path("order").write_text("fc1.weight\nconv1.weight\nconv2.weight\n")
    words = "--order does not name fc2.weight, which is selected"
    assert words in refused(2, "apply", "model.safetensors", *line[:-2], "--order", "order")
    Path("order").write_text("\n")
    assert "order contains no names" in refused(2, "apply", "model.safetensors", *line[:-2], "--order", "order")


def test_an_unfinished_run_with_another_rule_is_another_job(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    line = ["apply", "model.pt", *MATRICES, "-a", "0.9", "-o", "out.pt", "--resume"]
    with monkeypatch.context() as patch:
        patch.setattr(rewrite, "check_unchanged", unwilling)
        assert cli(*line, "--allocation", "erk").code == 6
    outcome = cli(*line, "--allocation", "balanced")
    assert outcome.code == 2
    assert "was made with other options" in outcome.err
    assert cli(*line, "--allocation", "erk").code == 0


def unwilling(checkpoint: object) -> None:
    raise OutputError("no")


def test_a_stamp_has_the_rule(cli: Cli) -> None:
    assert cli("apply", "model.safetensors", *MATRICES, "-a", "0.9", "--allocation", "er", "--stamp").code == 0
    [stamp] = cli("report", "model.pruned.safetensors", "--format", "json").json["stamps"]
    assert stamp["groups"][0]["allocation"] == "er"


def test_the_functions_take_the_same(cli: Cli) -> None:
    expected = pruned(cli, "-a", "0.9", "-a", "fc2.weight=0", "--allocation", "erk")
    matrices: dict[str, Any] = {"params": "*", "min_dim": 2, "seed": 5, "force": True}
    report = files.apply("model.pt", **matrices, amount=[0.9, "fc2.weight=0"], allocation="erk")
    assert {name: each for name, each in pruned_of(report).items() if name in SIZES} == expected
    report = files.apply("model.pt", **{**matrices, "seed": 6}, like="model.pruned.pt", output="other.pt")
    assert {name: each for name, each in pruned_of(report).items() if name in SIZES} == expected
    with pytest.raises(UsageError, match=r"^amount and like both say how much is pruned"):
        files.apply("model.pt", **matrices, amount=0.5, like="other.pt")
    with pytest.raises(TypeError):
        files.apply("model.pt", **matrices, amount=[None])  # type: ignore[list-item]


def pruned_of(report: Report) -> dict[str, int]:
    return {each.name: each.pruned_now for each in report.parameters}


def test_a_count_that_may_be_a_percentage_is_noted(cli: Cli) -> None:
    outcome = cli("apply", "model.pt", *MATRICES, "-a", "0.5", "-a", "fc1.weight=90", "--dry-run")
    assert (
        "fc1.weight = 90 is 90 elements of each parameter that it matches; for 90 % write fc1.weight = 90%"
        in outcome.err
    )
    outcome = cli("apply", "model.pt", *MATRICES, "-a", "9", "--per-row", "--dry-run")
    assert "-a 9 is 9 elements of every row of each parameter; for 9 %" in outcome.err
    outcome = cli("apply", "model.pt", *MATRICES, "-a", "90", "--allocation", "erk", "--dry-run")
    assert "-a 90 is 90 elements of all selected parameters together" in outcome.err


@pytest.mark.parametrize("amount", ["1.5", "-1", ""])
def test_an_amount_of_a_pattern_is_refused_with_the_pattern(refused: Refusal, amount: str) -> None:
    line = refused(2, "apply", "model.pt", *MATRICES, "-a", "0.5", "-a", f"fc*={amount}")
    assert line.startswith("fc*: amount ")


def test_a_recipe_names_its_line_once(refused: Refusal) -> None:
    Path("r.toml").write_text("[[group]]\nparams = '*.weight'\namount = 0.5\n[group.amounts]\n'fc9*' = 0\n")
    line = refused(2, "apply", "model.pt", "--recipe", "r.toml")
    assert line.startswith("r.toml:1: amounts fc9* = 0 matches none of the selected parameters")


def test_an_order_for_the_global_rule_changes_nothing(cli: Cli) -> None:
    Path("order").write_text("fc1.weight")
    report = cli(
        "apply", "model.pt", *MATRICES, "-a", "0.5", "--allocation", "global", "--order", "order", "--report", "-"
    )
    assert report.json["schema"] == SCHEMA


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
        (["-a", "0.5", "--like", "model.safetensors"], "-a and --like both say how much is pruned"),
        (["-a", "fc1*=0.5", "--ratios", "r.json"], "-a and --ratios both say how much is pruned"),
        (["--like", "x.pt", "--ratios", "r.json"], "--ratios and --like both say how much is pruned"),
        (["--like", "x.pt", "--allocation", "erk"], "--allocation divides a total"),
    ],
)
def test_divisions_that_contradict_themselves(refused: Refusal, arguments: list[str], words: str) -> None:
    assert words in refused(2, "apply", "model.pt", *MATRICES, *arguments)

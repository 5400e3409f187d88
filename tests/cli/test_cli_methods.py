"""How methods are requested: options, recipes, Python, and what is refused in one line."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
from conftest import Cli, Refusal
from safetensors.torch import load_file, save_file

from prunecli import files, prune_module
from prunecli.cli.method_options import MethodName
from prunecli.core.methods import known_methods
from prunecli.errors import OutputError, UsageError
from prunecli.surgery import rewrite
from prunecli.surgery.report.schema import report_schema

pytestmark = pytest.mark.usefixtures("folder")

APPLY = ["apply", "model.pt", "-p", "fc1.weight"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--method", "l3", "-a", "0.5"], "l3"),
        (["--dim", "0", "-a", "0.5"], "--dim is for --n-of-m, --method random-structured and --method ln; add one of"),
        (["--norm", "2", "--dim", "0", "-a", "0.5"], "--norm is for --method ln; add that, or leave --norm out"),
        (["--abs-scores", "-a", "0.5"], "--abs-scores is about --scores; add that, or leave --abs-scores out"),
        (["--n-of-m", "2:4", "--abs-scores"], "--abs-scores is about --scores; add that, or leave --abs-scores out"),
        (["--n-of-m", "2:4", "--block", "2x2"], "--n-of-m does not take --block; leave one of them out"),
        (["--n-of-m", "2:4", "--norm", "2", "--method", "l1"], "--n-of-m does not take --norm; leave one of them out"),
        (["--block", "2x2", "--dim", "0", "-a", "1"], "--block does not take --dim; leave one of them out"),
        (["--scores", "model.pt", "--dim", "0", "-a", "1"], "--scores does not take --dim; leave one of them out"),
        (["--scores", "model.pt", "--method", "l1", "--n-of-m", "2:4"], "--method l1 does not take --scores"),
        (["--method", "scores", "-a", "1"], "--method scores needs --scores, with a score for each element"),
        (["--n-of-m", "4:2"], "--n-of-m 4:2 keeps 4 of every 2 elements; N is from 1 to M - 1"),
        (["--n-of-m", "0:4"], "--n-of-m 0:4 keeps 0 of every 4"),
        (["--n-of-m", "2"], "--n-of-m 2 is not two numbers; write 2:4"),
        (["--n-of-m", "2:4:8"], "--n-of-m 2:4:8 is not two numbers"),
        (["--n-of-m", "-2:4"], "--n-of-m -2:4 is not two numbers"),
        (["--n-of-m", "2:99999999999"], "is not two numbers"),
        (["--n-of-m", "2:9999999999"], "larger than any tensor"),
        (["--block", "16", "-a", "0.5"], "--block 16 is not two numbers; write 16x16"),
        (["--block", "0x4", "-a", "0.5"], "--block 0x4 has no elements"),
        (
            ["--method", "ln", "--norm", "nuc", "--dim", "0", "-a", "1"],
            "--norm nuc is not a norm that is computed here",
        ),
        (["--method", "ln", "--norm", "0.5", "--dim", "0", "-a", "1"], "known are 1, 2, inf"),
        (["--dim", "99", "--n-of-m", "2:4"], "--dim 99 is not a dimension"),
        (["--n-of-m", "2:48"], "--n-of-m 2:48: dimension 1 of fc1.weight has the size 512, which 48 does not divide"),
        (["--n-of-m", "2:4", "--dim", "2"], "--dim 2: fc1.weight has the shape [64, 512]"),
        (
            ["--n-of-m", "2:4", "-p", "fc1.bias"],
            "--n-of-m 2:4: fc1.bias has 1 dimension; say along which one",
        ),
        (["--method", "ln", "--norm", "2", "--dim", "-3", "-a", "1"], "--dim -3: fc1.weight has the shape [64, 512]"),
        (["--method", "ln", "--norm", "2", "-a", "1"], "--method ln needs --dim"),
        (["--method", "ln", "--dim", "1", "-a", "1"], "--method ln needs --norm: 1, 2 or inf"),
        (
            ["--method", "random-structured", "--dim", "0", "-a", "65"],
            "65 slices along dimension 0 of fc1.weight: 64",
        ),
        (["--block", "32x64", "-a", "17"], "cannot prune 17 blocks of 32x64 of fc1.weight: 16 are left unpruned"),
        (
            ["--block", "4x4", "-a", "1", "-p", "conv2.weight"],
            "conv2.weight is [32, 16, 3, 3], and only matrices",
        ),
        (["--method", "random", "--masks", "m.safetensors"], "--masks and --method both say what is pruned"),
        (["--n-of-m", "2:4", "--masks", "m.safetensors"], "--masks and --n-of-m both say what is pruned"),
    ],
)
def test_wrong_settings_are_refused_in_one_line(refused: Refusal, options: list[str], words: str) -> None:
    assert words in refused(2, *APPLY, *options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--recipe", "r.toml", "--method", "random"], "--recipe and --method both say what is pruned"),
        (["--recipe", "r.toml", "--n-of-m", "2:4"], "--recipe and --n-of-m both say what is pruned"),
        (["--from-report", "r.json", "--method", "random"], "--from-report and --method both say what is pruned"),
    ],
)
def test_a_recipe_and_a_report_have_their_own_method(refused: Refusal, options: list[str], words: str) -> None:
    Path("r.toml").write_text('[[group]]\nparams = "fc1.weight"\namount = 0.5\n')
    assert words in refused(2, "apply", "model.pt", *options)


def test_only_the_scores_of_a_report_can_be_named_again(cli: Cli, refused: Refusal) -> None:
    assert cli(*APPLY, "-a", "0.5", "-o", "out.pt").code == 0
    line = refused(2, "apply", "model.pt", "--from-report", "out.pt.report.json", "--scores", "s.pt", "-o", "two.pt")
    assert "the report's masks were not chosen by scores; leave --scores out" in line


@pytest.mark.parametrize(
    ("lines", "line", "words"),
    [
        (['method = "l3"'], 1, "method is not one of random, l1"),
        (['method = "masks"'], 1, "method is not one of random, l1"),
        (["[[group]]", 'params = "*"', "amount = 1", 'method = "l3"'], 4, "method is not one of random"),
        (
            ["[[group]]", 'params = "*"', "amount = 1", "dim = 0"],
            1,
            ": dim is for n_of_m, method random-structured and",
        ),
        (["[[group]]", 'params = "*"', "amount = 1", "abs_scores = true"], 1, "leave abs_scores = true out"),
        (["[[group]]", 'params = "*"', 'n_of_m = "2:4"', 'block = "2x2"'], 1, ": n_of_m does not take block; leave"),
        (["[[group]]", 'params = "*"', 'n_of_m = "4:2"'], 1, ": n_of_m 4:2 keeps 4 of every 2"),
        (["[[group]]", 'params = "*"', "n_of_m = 3"], 1, ": n_of_m 3 is not two numbers"),
        (["[[group]]", 'params = "*"', 'dim = "0"'], 1, ": dim 0 is not a dimension"),
        (["[[group]]", 'params = "*"', "scores = 3"], 3, "scores is not the path or URL"),
        (
            ["", "[[group]]", 'params = "fc1.weight"', "amount = 1", 'method = "random-structured"', "dim = 7"],
            2,
            ": dim 7: fc1.weight has the shape",
        ),
    ],
)
def test_a_recipe_is_refused_at_its_line(refused: Refusal, lines: list[str], line: int, words: str) -> None:
    Path("r.toml").write_text("\n".join(lines))
    assert f"r.toml:{line}: " in (text := refused(2, "apply", "model.pt", "--recipe", "r.toml"))
    assert words in text


GROUPS = """
seed = 3
[[group]]
params = "fc1.weight"
n_of_m = "2:4"

[[group]]
params = "conv2.weight"
amount = 0.25
method = "ln"
norm = "inf"
dim = 0

[[group]]
params = "fc2.weight"
amount = 12
method = "random-structured"
dim = -1

[[group]]
params = "conv1.weight"
amount = 0.5
"""


def test_groups_have_different_methods(cli: Cli) -> None:
    Path("r.toml").write_text(GROUPS)
    printed = cli("apply", "model.pt", "--recipe", "r.toml", "--dry-run")
    assert "2:4 along dimension 1: fc1.weight" in printed.err
    Path("again.toml").write_text(printed.out)
    assert cli("apply", "model.pt", "--recipe", "r.toml", "-o", "one.pt").code == 0
    assert cli("apply", "model.pt", "--recipe", "again.toml", "-o", "two.pt").code == 0
    assert cli("apply", "model.pt", "--from-report", "one.pt.report.json", "-o", "three.pt").code == 0
    assert cli("verify", "three.pt").code == 0
    assert Path("one.pt").read_bytes() == Path("two.pt").read_bytes() == Path("three.pt").read_bytes()
    one, two, three = (json.loads(Path(f"{name}.pt.report.json").read_text()) for name in ("one", "two", "three"))
    assert {**one, "output": None} == {**two, "output": None} == {**three, "output": None}
    jsonschema.validate(one, json.loads(report_schema()))
    assert (one["schema"], one["method"]) == ("prunecli.report/2", "several")
    settings = ("method", "n_of_m", "norm", "dim")
    assert [{key: each[key] for key in settings if key in each} for each in one["groups"]] == [
        {"method": "random_unstructured", "n_of_m": "2:4"},
        {"method": "ln", "norm": "inf", "dim": 0},
        {"method": "random_structured", "dim": -1},
        {"method": "random_unstructured"},
    ]
    rows = {
        each["name"]: (each.get("group", 0), each["pruned_now"]) for each in one["parameters"] if each["pruned_now"]
    }
    assert rows == {
        "conv1.weight": (3, 72),
        "conv2.weight": (1, 1152),
        "fc1.weight": (0, 16384),
        "fc2.weight": (2, 120),
    }


def test_each_group_prunes_as_it_would_alone(cli: Cli) -> None:
    Path("r.toml").write_text(GROUPS)
    assert cli("apply", "model.pt", "--recipe", "r.toml", "--bake", "-o", "one.pt").code == 0
    lines = [
        ["-p", "fc1.weight", "--n-of-m", "2:4"],
        ["-p", "conv2.weight", "-a", "0.25", "--method", "ln", "--norm", "inf", "--dim", "0"],
        ["-p", "fc2.weight", "-a", "12", "--method", "random-structured", "--dim", "-1"],
        ["-p", "conv1.weight", "-a", "0.5"],
    ]
    source = "model.pt"
    for number, line in enumerate(lines):
        assert cli("apply", source, *line, "--seed", "3", "--bake", "-o", f"{number}.pt").code == 0
        source = f"{number}.pt"
    assert Path("one.pt").read_bytes() == Path(source).read_bytes()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"group": 4}, "the report's group of fc1.weight is not one of its 4 groups"),
        ({"group": 1}, "the report's choice for fc1.weight is not one that ln makes"),
    ],
)
def test_a_report_with_wrong_groups_is_refused(cli: Cli, refused: Refusal, change: dict[str, int], words: str) -> None:
    Path("r.toml").write_text(GROUPS)
    assert cli("apply", "model.pt", "--recipe", "r.toml", "-o", "one.pt").code == 0
    report = json.loads(Path("one.pt.report.json").read_text())
    report["parameters"] = [each | (change if each["name"] == "fc1.weight" else {}) for each in report["parameters"]]
    Path("r.json").write_text(json.dumps(report))
    assert words in refused(4, "apply", "model.pt", "--from-report", "r.json", "-o", "two.pt")


def test_a_report_of_a_later_method_is_refused(cli: Cli, refused: Refusal) -> None:
    Path("r.toml").write_text(GROUPS)
    assert cli("apply", "model.pt", "--recipe", "r.toml", "-o", "one.pt").code == 0
    text = Path("one.pt.report.json").read_text().replace('"method": "ln"', '"method": "l7"')
    Path("r.json").write_text(text)
    assert "of the method l7" in refused(4, "apply", "model.pt", "--from-report", "r.json", "-o", "two.pt")
    Path("r.json").write_text(text.replace('"l7"', '"ln"').replace('"norm"', '"another"'))
    line = refused(4, "apply", "model.pt", "--from-report", "r.json", "-o", "two.pt")
    assert "groups[1]: --method ln needs --norm: 1, 2 or inf" in line


COUNTS = "the amount is a number of whole slices or blocks of each parameter"
LAMP = ["--method", "lamp", "-a", "0.5"]
SLICES = ["--method", "ln", "--norm", "1", "--dim", "0"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--n-of-m", "2:4", "-a", "0.5"], "N:M says itself how much is pruned of every group; leave -a out"),
        (["--n-of-m", "2:4", "-a", "fc1*=0.5"], "leave -a out"),
        (["--n-of-m", "2:4", "--ratios", "r"], "leave --ratios out"),
        (["--n-of-m", "2:4", "--like", "model.pt"], "leave --like out"),
        (["--n-of-m", "2:4", "--per-row"], "leave --per-row out"),
        ([*LAMP, "--allocation", "erk"], "the scores divide the total themselves; leave --allocation out"),
        ([*LAMP, "--per-row"], "the scores divide the total themselves; leave --per-row out"),
        ([*LAMP, "--per-slice"], "leave --per-slice out"),
        (["--method", "lamp", "--like", "model.pt"], "the scores divide the total themselves; leave --like out"),
        (["--method", "l1", "-a", "2", "--global", "--per-slice"], "all slices together are the whole parameters"),
        (
            ["--method", "l1", "-a", "2", "--allocation", "global", "--per-slice"],
            "all slices together are the whole parameters; leave --per-slice out",
        ),
        (["--method", "l1", "-a", "32769"], "32,768 are left"),
        ([*LAMP, "--dim", "0"], "--method lamp does not take --dim"),
        ([*LAMP, "--n-of-m", "2:4"], "--method lamp does not take --n-of-m"),
        (["--method", "l1", "--norm", "2", "-a", "2"], "--method l1 does not take --norm"),
        ([*SLICES], "the amount is missing"),
        ([*SLICES, "-a", "2", "--global"], f"{COUNTS}; leave --global out"),
        ([*SLICES, "-a", "2", "--allocation", "erk"], f"{COUNTS}; leave --allocation out"),
        ([*SLICES, "--like", "model.pt"], f"{COUNTS}; leave --like out"),
        ([*SLICES, "-a", "2", "--per-row"], f"{COUNTS}; leave --per-row out"),
        (["--block", "4x4", "-a", "2", "--per-slice"], f"{COUNTS}; leave --per-slice out"),
        ([*SLICES, "-a", "65"], "cannot prune 65 slices"),
        (["--block", "16x16", "-a", "129"], "cannot prune 129 blocks"),
        (["--method", "ln", "--norm", "1", "-a", "2"], "--method ln needs --dim"),
        (["--method", "ln", "--dim", "0", "-a", "2"], "--method ln needs --norm: 1, 2 or inf"),
        (["--method", "random-structured", "-a", "2"], "--method random-structured needs --dim"),
        (["--method", "random-structured", "--dim", "2", "-a", "2"], "fc1.weight"),
        (["--n-of-m", "3:5"], "--n-of-m 3:5: dimension 1 of fc1.weight has the size 512, which 5 does not divide"),
        (["--n-of-m", "2:4", "--dim", "2"], "fc1.weight"),
    ],
)
def test_what_a_method_cannot_do_is_refused_in_one_line(refused: Refusal, options: list[str], words: str) -> None:
    Path("r").write_text('{"fc1.weight": 0.5}')
    assert words in refused(2, *APPLY, *options)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ('n_of_m = "2:4"\ndim = 2', "dim 2: fc1.weight has the shape [64, 512]"),
        ('n_of_m = "2:48"', "n_of_m 2:48: dimension 1 of fc1.weight has the size 512"),
    ],
)
def test_what_a_recipe_cannot_do_to_a_parameter_is_said_in_its_words(
    refused: Refusal, setting: str, words: str
) -> None:
    Path("r.toml").write_text(f'[[group]]\nparams = "fc1.weight"\n{setting}\n')
    line = refused(2, "apply", "model.pt", "--recipe", "r.toml")
    assert words in line
    assert "--" not in line


def test_a_recipe_has_no_amount_for_a_pattern(refused: Refusal) -> None:
    Path("r.toml").write_text('[[group]]\nparams = "fc1.weight"\namount = 0.5\nn_of_m = "2:4"\n')
    line = refused(2, "apply", "model.pt", "--recipe", "r.toml")
    assert "r.toml:1: group 1 cannot be pruned: N:M says itself how much is pruned of every group; leave amount" in line


def test_amounts_of_single_layers_count_units(cli: Cli) -> None:
    line = ["apply", "model.pt", "-p", "fc*.weight", "-a", "0.5", "-a", "fc2.weight=3", *SLICES, "--report", "-"]
    report = cli(*line, "-o", "out.pt").json
    rows = {each["name"]: each["pruned_now"] for each in report["parameters"] if each["pruned_now"]}
    assert rows == {"fc1.weight": 32 * 512, "fc2.weight": 3 * 64}


def test_python_takes_values_and_texts() -> None:
    with pytest.raises(UsageError, match=r"n_of_m 4:2 keeps 4 of every 2"):
        files.apply("model.pt", params="fc1.weight", n_of_m=(4, 2))
    with pytest.raises(UsageError, match=r"^n_of_m does not take block; leave one of them out"):
        files.apply("model.pt", params="fc1.weight", n_of_m="2:4", block="2x2")
    for huge in (10**400, 10**5000, 1.0000001):
        with pytest.raises(UsageError, match="is not a norm that is computed here; known are 1, 2, inf"):
            files.apply("model.pt", params="fc1.weight", method="ln", dim=0, norm=huge, amount=1)
    with pytest.raises(UsageError, match=r"^block with very many digits is larger than any tensor"):
        files.apply("model.pt", params="fc1.weight", block=(1, 10**5000))
    for name in ("masks", 3):
        with pytest.raises(UsageError, match=rf"^{name} is not a method; known are random"):
            files.apply("model.pt", params="fc1.weight", amount=0.5, method=name)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"^scores has no scores of weight, which is selected$"):
        prune_module(torch.nn.Linear(2, 2), "weight", 1, scores={})


def test_all_methods_of_the_table_can_be_named() -> None:
    assert set(known_methods()) == {each.value for each in MethodName}


def scored(**more: torch.Tensor) -> dict[str, torch.Tensor]:
    """Write scores of two layers, those of fc1 from 1 on."""
    found = {"fc1.weight": torch.arange(1.0, 32769.0).view(64, 512), "fc2.weight": torch.ones(10, 64)} | more
    save_file(found, "s.safetensors")
    return found


def test_the_smallest_scores_go(cli: Cli) -> None:
    scored()
    line = ["apply", "model.safetensors", "-p", "fc1.weight", "-a", "1000", "--scores", "s.safetensors"]
    outcome = cli(*line, "--bake", "--seed", "1", "-o", "out.safetensors")
    assert outcome.code == 0
    assert "negative" not in outcome.err
    zeros = load_file("out.safetensors")["fc1.weight"].view(-1) == 0
    assert zeros[:1000].all()
    assert not zeros[1000:].any()


@pytest.mark.parametrize(
    ("scores", "options", "words"),
    [
        ({}, ["-p", "conv1.weight"], "--scores s.safetensors has no scores of conv1.weight, which is selected"),
        (
            {"conv1.weight": torch.ones(16, 9)},
            ["-p", "conv1.weight"],
            "conv1.weight is [16, 1, 3, 3], and its scores in s.safetensors are [16, 9]",
        ),
        (
            {"fc2.weight": torch.ones(10, 64, dtype=torch.bool)},
            ["-p", "fc2.weight"],
            "the scores of fc2.weight in s.safetensors are bool; scores are real numbers",
        ),
        ({"fc2.weight": torch.full((10, 64), torch.nan)}, ["-p", "fc2.weight"], "fc2.weight"),
        ({}, ["-p", "fc1.weight", "--method", "l1"], "--method l1 does not take --scores"),
        ({}, ["-p", "fc1.weight", "--method", "random"], "--method random does not take --scores"),
    ],
)
def test_wrong_scores_are_refused(
    refused: Refusal, scores: dict[str, torch.Tensor], options: list[str], words: str
) -> None:
    scored(**scores)
    for more in (["-a", "0.5"], ["-a", "0.5", "--global"], ["-a", "0.5", "--per-row"]):
        assert words in refused(2, "apply", "model.pt", *options, "--scores", "s.safetensors", *more)


def test_scores_with_nan_are_refused_by_patterns(refused: Refusal) -> None:
    scored(**{"fc2.weight": torch.full((10, 64), torch.nan)})
    for more in (["--n-of-m", "2:4"], ["--block", "2x2", "-a", "0.5"], ["--per-row", "-a", "0.5", "--dry-run"]):
        line = refused(2, "apply", "model.pt", "-p", "fc2.weight", "--scores", "s.safetensors", *more)
        assert "fc2.weight" in line
        assert "NaN" in line


def test_what_is_special_in_rows_is_noted(cli: Cli) -> None:
    weight = torch.randn(8, 6)
    weight[3, 1] = weight[5, 2] = torch.nan
    save_file({"a.weight": weight, "b.weight": torch.ones(4, 4)}, "model.safetensors")
    save_file({"a.weight": torch.arange(-3.0, 45).view(8, 6), "b.weight": torch.ones(4, 4)}, "s.safetensors")
    line = ["apply", "model.safetensors", "-p", "*.weight", "-a", "0.5", "--per-row", "--dry-run"]
    assert "NaN is not smaller than anything, and stays: 2 of a.weight\n" in cli(*line, "--method", "l1").err
    scores = cli(*line, "--scores", "s.safetensors").err
    assert "note: negative scores are pruned before 0 and positive ones (see --abs-scores): 3 of a.weight\n" in scores
    for more in (["--method", "random"], ["--scores", "s.safetensors", "--abs-scores"]):
        assert not {"NaN", "negative"} & set(cli(*line, *more).err.split())


def test_a_file_of_scores_that_is_not_there(refused: Refusal) -> None:
    assert "none.pt" in refused(3, *APPLY, "-a", "0.5", "--scores", "none.pt")
    assert "--method scores needs --scores" in refused(2, *APPLY, "-a", "0.5", "--method", "scores")
    line = refused(2, "apply", "-", "-p", "fc1.weight", "-a", "0.5", "--scores", "-", "-o", "-")
    assert "the checkpoint and --scores cannot both come from standard input" in line


def test_negative_scores_are_noted_unless_magnitudes_were_asked_for(cli: Cli) -> None:
    scored(**{"fc2.weight": torch.linspace(-2, 1, 640).view(10, 64)})
    line = [
        "apply",
        "model.safetensors",
        "-p",
        "fc2.weight",
        "-a",
        "64",
        "--scores",
        "s.safetensors",
        "--bake",
        "--force",
    ]
    outcome = cli(*line, "-o", "out.safetensors")
    assert "fc2.weight" in next(each for each in outcome.err.splitlines() if "negative" in each)
    assert (load_file("out.safetensors")["fc2.weight"].view(-1)[:64] == 0).all()
    assert "negative" not in cli(*line, "--abs-scores", "-o", "out.safetensors", "--force").err
    assert (load_file("out.safetensors")["fc2.weight"].view(-1)[:64] != 0).all()


def test_a_report_is_replayed_with_the_scores_at_another_place(cli: Cli, refused: Refusal) -> None:
    scored()
    line = ["apply", "model.pt", "-p", "fc1.weight", "--scores", "s.safetensors", "--n-of-m", "2:4"]
    assert cli(*line, "-o", "one.pt").code == 0
    Path("s.safetensors").rename("moved.safetensors")
    again = ["apply", "model.pt", "--from-report", "one.pt.report.json", "-o", "two.pt"]
    assert "s.safetensors" in refused(3, *again)
    assert cli(*again, "--scores", "moved.safetensors").code == 0
    assert Path("one.pt").read_bytes() == Path("two.pt").read_bytes()
    other = {"fc1.weight": -torch.arange(1.0, 32769.0).view(64, 512)}
    save_file(other, "other.safetensors")
    assert "differs from the report's" in refused(7, *again, "--scores", "other.safetensors", "--force")


def test_an_output_is_not_resumed_with_other_scores(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise OutputError("no space left")

    scored()
    line = ["apply", "model.pt", "-p", "fc1.weight", "--scores", "s.safetensors", "--n-of-m", "2:4", "-o", "out.pt"]
    with monkeypatch.context() as patch:
        patch.setattr(rewrite, "check_masks", stop)
        assert "no space left" in cli(*line, "--resume").err
    scored(**{"fc1.weight": -torch.arange(1.0, 32769.0).view(64, 512)})
    assert "made from another state of the input" in cli(*line, "--resume").err
    assert cli(*line).code == 0


def test_counts_of_another_mask_and_rules_go_with_l1(cli: Cli) -> None:
    line = ["apply", "model.pt", "-p", "fc*.weight", "--seed", "1"]
    assert cli(*line, "-a", "0.3", "--global", "-o", "random.pt").code == 0
    assert cli(*line, "--like", "random.pt", "--method", "l1", "-o", "like.pt").code == 0
    assert cli(*line, "--like", "like.pt", "--method", "l1", "-o", "again.pt").code == 0  # they may be the same
    rows = [
        {
            each["name"]: each["pruned_now"]
            for each in json.loads(Path(f"{name}.pt.report.json").read_text())["parameters"]
        }
        for name in ("random", "like", "again")
    ]
    assert rows[0] == rows[1] == rows[2]
    assert Path("like.pt").read_bytes() == Path("again.pt").read_bytes()


def test_several_seeds_with_l1_have_a_note(cli: Cli) -> None:
    outcome = cli(*APPLY, "-a", "0.5", "--method", "l1", "--bake", "--seeds", "1..2", "-o", "{seed}.pt")
    assert outcome.code == 0
    assert "a seed only among equal ones; outputs may be the same" in outcome.err
    assert Path("1.pt").read_bytes() == Path("2.pt").read_bytes()
    assert "a seed only" not in cli(*APPLY, "-a", "0.5", "--seeds", "3..4", "-o", "{seed}.pt").err


@pytest.mark.parametrize("more", [{"amount": 0.5}, {"amount": 0.5, "allocation": "erk"}], ids=str)
def test_each_slice_has_its_own_smallest(more: dict[str, Any]) -> None:
    weight = torch.randn(4, 8, 16, generator=torch.Generator().manual_seed(1))
    save_file({"e.weight": weight}, "e.safetensors")
    files.apply("e.safetensors", params="*", per_slice=True, method="l1", bake=True, output="o.safetensors", **more)
    for before, after in zip(weight, load_file("o.safetensors")["e.weight"], strict=True):
        assert int((after == 0).sum()) == 64
        assert before.abs()[after == 0].max() < before.abs()[after != 0].min()


def test_three_dimensions_need_one_named(refused: Refusal) -> None:
    save_file({"e.weight": torch.ones(4, 8, 16)}, "e.safetensors")
    assert "3 dimensions" in refused(2, "apply", "e.safetensors", "-p", "*", "--n-of-m", "2:4")


def test_tied_parameters_have_one_set_of_scores() -> None:
    """Those of the first that has some."""
    shared = torch.randn(8, 16, generator=torch.Generator().manual_seed(1))
    torch.save({"a.weight": shared, "b.weight": shared}, "tied.pt")
    save_file({"b.weight": torch.rand(8, 16, generator=torch.Generator().manual_seed(2))}, "s.safetensors")
    files.apply("tied.pt", params=["a.weight", "b.weight"], scores="s.safetensors", n_of_m="2:4", output="o.pt")
    found = torch.load("o.pt")
    assert torch.equal(found["a.weight_mask"], found["b.weight_mask"])
    assert int(found["a.weight_mask"].sum()) == 64

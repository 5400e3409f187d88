"""How methods are requested: options, recipes, Python, and what is refused in one line."""

import json
from pathlib import Path

import jsonschema
import pytest
from conftest import Cli, Refusal

from prunecli import files
from prunecli.cli.method_options import MethodName
from prunecli.core.methods import known_methods
from prunecli.errors import UsageError
from prunecli.surgery.report.schema import report_schema

pytestmark = pytest.mark.usefixtures("folder")

APPLY = ["apply", "model.pt", "-p", "fc1.weight"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--method", "l3", "-a", "0.5"], "l3"),
        (["--method", "random", "--dim", "0", "-a", "0.5"], "--method random does not take --dim"),
        (["--norm", "2", "-a", "0.5"], "--method random does not take --norm"),
        (["--abs-scores", "-a", "0.5"], "--method random does not take --abs-scores"),
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
        (['method = "l3"'], 1, "method is not a method; known are random"),
        (['method = "masks"'], 1, "method is not a method; known are random"),
        (["[[group]]", 'params = "*"', "amount = 1", 'method = "l3"'], 4, "method is not a method"),
        (["[[group]]", 'params = "*"', "amount = 1", "dim = 0"], 1, "--method random does not take --dim"),
        (["[[group]]", 'params = "*"', 'n_of_m = "4:2"'], 1, "--n-of-m 4:2 keeps 4 of every 2"),
        (["[[group]]", 'params = "*"', "n_of_m = 3"], 1, "--n-of-m 3 is not two numbers"),
        (["[[group]]", 'params = "*"', 'dim = "0"'], 1, "--dim 0 is not a dimension"),
        (["[[group]]", 'params = "*"', "scores = 3"], 3, "scores is not the path or URL"),
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
SLICES = ["--method", "ln", "--norm", "1", "--dim", "0"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--n-of-m", "2:4", "-a", "0.5"], "N:M says itself how much is pruned of every group; leave -a out"),
        (["--n-of-m", "2:4", "-a", "fc1*=0.5"], "leave -a out"),
        (["--n-of-m", "2:4", "--ratios", "r"], "leave --ratios out"),
        (["--n-of-m", "2:4", "--like", "model.pt"], "leave --like out"),
        (["--n-of-m", "2:4", "--per-row"], "leave --per-row out"),
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
    with pytest.raises(UsageError, match=r"method random does not take dim"):
        files.apply("model.pt", params="fc1.weight", amount=0.5, dim=1)


def test_all_methods_of_the_table_can_be_named() -> None:
    assert set(known_methods()) <= {each.value for each in MethodName}

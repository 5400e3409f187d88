"""How methods are requested: options, recipes, Python, and what is refused in one line."""

from pathlib import Path

import pytest
from conftest import Cli, Refusal

from prunecli import files
from prunecli.cli.method_options import MethodName
from prunecli.core.methods import known_methods
from prunecli.errors import UsageError

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


def test_python_takes_values_and_texts() -> None:
    with pytest.raises(UsageError, match=r"n_of_m 4:2 keeps 4 of every 2"):
        files.apply("model.pt", params="fc1.weight", n_of_m=(4, 2))
    with pytest.raises(UsageError, match=r"method random does not take dim"):
        files.apply("model.pt", params="fc1.weight", amount=0.5, dim=1)


def test_all_methods_of_the_table_can_be_named() -> None:
    assert set(known_methods()) <= {each.value for each in MethodName}

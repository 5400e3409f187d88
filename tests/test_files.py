"""The functions of `prunecli.files` do what the commands do, print nothing, and have a parameter for every option."""

import argparse
import inspect
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from safetensors.torch import save_file
from typer.core import TyperOption

from prunecli import PrunecliError, files
from prunecli.cli.app import app, run
from prunecli.cli.help import commands_of
from prunecli.errors import ThresholdError, UsageError
from prunecli.surgery.report.codec import as_dict

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "apply": files.apply,
    "remove": files.remove,
    "restore": files.restore,
    "report": files.report,
    "diff": files.diff,
    "params": files.params,
    "verify": files.verify,
    "pack": files.pack,
    "unpack": files.unpack,
    "mask extract": files.mask_extract,
    "mask overlap": files.mask_overlap,
    "mask combine": files.mask_combine,
    "mask invert": files.mask_invert,
}
RENAMED = {"param": "params", "global": "global_", "format": "format_", "all": "all_"}
WITHOUT = {
    "baseline": "files.diff does that",
    "dry_run": "it prints a plan to read; a function that writes nothing has no report to return",
    "help": "docstrings",
    "no_fold": "nothing is folded",
    "params_from": "params takes a list of names",
    "print_recipe": "it is about a dry run",
    "quiet": "nothing is printed",
    "schema": "it prints a file of the package",
}
"""Options that have no parameter, and why."""
WITHOUT_IN = {
    "apply": {"seeds": "files.apply_seeds does that"},
    "params": {"format_": "it returns the entries"},
    "report": {"allow_changes": "it is about a baseline"},
    "mask combine": dict.fromkeys(("and", "or", "xor", "minus"), "they are values of operation"),
}
"""Options of single commands that have no parameter, and why."""
MORE = {"path", "progress", "check", "remove", "operation"}
"""Parameters without an option; `check` is the exit code of verify, `remove` an earlier name of `bake`."""


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(1)
    save_file({"fc.weight": torch.randn(64, 64), "fc.bias": torch.randn(64)}, "model.safetensors")
    return tmp_path / "model.safetensors"


def options_of(command: Any) -> dict[str, bool]:
    """Return the options of a command by their names in Python, and whether each is repeatable."""
    options = {}
    for param in command.params:
        if isinstance(param, TyperOption):
            name = next(each for each in param.opts if each.startswith("--")).strip("-").replace("-", "_")
            options[RENAMED.get(name, name)] = param.multiple
        elif param.name not in ("checkpoint", "masks", "packed"):
            options[param.name] = False
    return options


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_option_is_a_parameter(name: str) -> None:
    group: Any = typer.main.get_command(app)
    options = options_of(commands_of(group)[name])
    parameters = set(inspect.signature(FUNCTIONS[name]).parameters)
    without = {*WITHOUT, *WITHOUT_IN.get(name, ())}
    assert set(options) - without == parameters - MORE
    assert not parameters & without


def test_the_lists_of_exceptions_are_about_options_that_exist() -> None:
    group: Any = typer.main.get_command(app)
    assert set(FUNCTIONS) == set(commands_of(group))
    assert set(WITHOUT) - {"help"} <= {option for each in commands_of(group).values() for option in options_of(each)}
    for name, options in WITHOUT_IN.items():
        assert set(options) <= set(options_of(commands_of(group)[name]))


def test_apply_and_remove_write_what_the_commands_write(model: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ticks: list[tuple[int, int]] = []
    made = files.apply(
        model, params="*.weight", amount="50%", seed=7, output="a", progress=lambda *each: ticks.append(each)
    )
    baked = files.remove("a", output=Path("b"), no_report=True)
    assert capfd.readouterr() == ("", "")
    assert run(["apply", str(model), "-p", "*.weight", "-a", "50%", "--seed", "7", "-o", "c", "-q"]) == 0
    assert run(["remove", "c", "-o", "d", "-q"]) == 0
    assert Path("a").read_bytes() == Path("c").read_bytes()
    assert Path("b").read_bytes() == Path("d").read_bytes()
    assert Path("a.report.json").is_file()
    assert not Path("b.report.json").exists()
    assert (made.totals.pruned_now, baked.totals.zeros, made.seed) == (2048, 2048, 7)
    done, total = ticks[-1]
    assert done == total > 0
    assert [each for each, _ in ticks] == sorted(each for each, _ in ticks)


def test_report_compare_params_and_verify(model: Path, capfd: pytest.CaptureFixture[str]) -> None:
    files.apply(model, params=["fc.weight"], amount=0.25, seed=1, remove=True, output="pruned")
    found = files.report("pruned", output="r.json")
    assert found.totals.zeros == 1024
    assert as_dict(found)["totals"]["zeros"] == 1024
    assert Path("r.json").is_file()
    change = next(each for each in files.compare("pruned", model).rows if each.name == "fc.weight")
    assert (change.newly_zero, change.changed, change.revived) == (1024, 0, 0)
    assert [(each.name, each.state) for each in files.params(model)] == [("fc.bias", "dense"), ("fc.weight", "dense")]
    assert files.verify("pruned").zeros == 1024
    with pytest.raises(ThresholdError, match="not what the report says"):
        files.verify(model, "pruned.report.json")
    assert files.verify(model, "pruned.report.json", check=False).differences
    with pytest.raises(ThresholdError, match="fail_under"):
        files.report("pruned", fail_under=0.9)
    files.report("pruned", fail_under=["fc.weight=0.25"], fail_over="fc.bias=0.0")
    assert capfd.readouterr() == ("", "")


def test_plain_data_beside_the_weights_is_read_and_not_written(model: Path) -> None:
    torch.save({"model": {"w": torch.ones(4)}, "args": argparse.Namespace(lr=0.1)}, "args.pt")
    assert [each.name for each in files.params("args.pt")] == ["w"]
    assert files.report("args.pt").totals.elements == 4
    assert not files.compare("args.pt", "args.pt").rows[0].changed
    with pytest.raises(PrunecliError, match="allow_foreign_objects=True"):
        files.apply("args.pt", params="*", amount=0.5)
    files.apply("args.pt", params="*", amount=0.5, bake=True, allow_foreign_objects=True, output="out.pt")
    assert files.verify("out.pt").zeros == 2


def test_errors_have_the_words_of_python(model: Path) -> None:
    before = sorted(model.parent.iterdir())
    for arguments, words in (
        ({}, "or params"),
        ({"params": "*"}, "give amount"),
        ({"params": "none", "amount": 1}, "params none matches nothing"),
        ({"params": "*", "amount": 0.5, "bake": True, "mask_dtype": "bool"}, "bake=True writes no masks"),
        ({"params": "*", "amount": 0.5, "jobs": 0}, "jobs is 0"),
        ({"params": "*", "amount": 0.5, "recipe": "r.toml"}, "recipe and params both"),
    ):
        with pytest.raises(PrunecliError) as caught:
            files.apply(model, **arguments)
        assert words in str(caught.value)
        assert "--" not in str(caught.value)
    assert sorted(model.parent.iterdir()) == before


def test_a_dash_is_a_file(model: Path) -> None:
    model.rename("-")
    assert [each.name for each in files.params("-")] == ["fc.bias", "fc.weight"]
    with pytest.raises(UsageError):
        files.report("./-", params="none")


def test_a_format_that_is_not_one_is_refused(model: Path) -> None:
    with pytest.raises(UsageError, match=r"^format_ xml is not one of table, json, csv, markdown, html$"):
        files.report(model, format_="xml")


def test_the_functions_need_no_torch() -> None:
    code = "import sys, prunecli; prunecli.files.apply; print({'torch', 'rich', 'typer'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"

"""`report --baseline` proves that a prune did what it said, or says what else happened."""

import csv
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

Cli = Callable[..., Any]
Refusal = Callable[..., str]
pytestmark = pytest.mark.usefixtures("folder")


def prune(cli: Cli, *options: str) -> None:
    outcome = cli("apply", "model.safetensors", "-p", "fc1.weight", "-a", "0.5", "--seed", "1", "-q", *options)
    assert outcome.code == 0, outcome.err


def change(value: float) -> None:
    """Set the first element that a prune kept."""
    tensors = load_file("model.pruned.safetensors")
    flat = tensors["fc1.weight"].view(-1)
    flat[int(torch.nonzero(flat)[0])] = value
    save_file(tensors, "changed.safetensors")


@pytest.mark.parametrize("options", [["--remove"], []])
def test_a_prune_is_proved_in_one_sentence(cli: Cli, options: list[str]) -> None:
    prune(cli, *options)
    for before in ("model.safetensors", "model.pt"):
        outcome = cli("report", "model.pruned.safetensors", "--baseline", before)
        assert outcome.code == 0, outcome.err
        *_, row, total, sentence = outcome.out.splitlines()
        assert row.split() == ["fc1.weight", "16,384", "0", "0", "32,768", "50.00%", "0.00%", "parameter"]
        assert total.split()[2] == "16,384"
        assert sentence.startswith("only zeros were added: of ")
        assert "16,384 elements became zero" in sentence


def test_json_and_csv_tell_every_tensor(cli: Cli) -> None:
    prune(cli, "--remove")
    told = cli("report", "model.pruned.safetensors", "--baseline", "model.safetensors", "--format", "json").json
    assert told["schema"] == "prunecli.comparison/1"
    assert (told["only_zeros_added"], told["totals"]["newly_zero"]) == (True, 16384)
    assert [told["before"]["path"], told["after"]["path"]] == ["model.safetensors", "model.pruned.safetensors"]
    text = cli("report", "model.pruned.safetensors", "--baseline", "model.safetensors", "--format", "csv").out
    lines = list(csv.DictReader(io.StringIO(text)))
    assert [line["name"] for line in lines] == [each["name"] for each in told["tensors"]]
    assert lines[0].keys() == told["tensors"][0].keys()


def test_what_else_changed_ends_with_7_and_names_the_first(cli: Cli) -> None:
    prune(cli, "--remove")
    change(3.0)
    outcome = cli("report", "changed.safetensors", "--baseline", "model.safetensors")
    assert outcome.code == 7
    assert outcome.err == "prunecli: error: not only zeros were added: fc1.weight has 1 element changed otherwise\n"
    assert outcome.out.splitlines()[-1].startswith("not only zeros were added: ")
    outcome = cli("report", "changed.safetensors", "--baseline", "model.safetensors", "--allow-changes")
    assert (outcome.code, outcome.err) == (0, "")


def test_what_was_revived_is_no_change_that_is_allowed(cli: Cli) -> None:
    prune(cli, "--remove")
    outcome = cli("report", "model.safetensors", "--baseline", "model.pruned.safetensors", "--allow-changes")
    assert outcome.code == 7
    assert "fc1.weight has 16,384 elements that were zero and are not" in outcome.err


def test_a_comparison_goes_into_a_file(cli: Cli) -> None:
    prune(cli, "--remove")
    args = ("report", "model.pruned.safetensors", "--baseline", "model.safetensors")
    assert cli(*args, "-o", "told.txt").out == ""
    assert Path("told.txt").read_text() == cli(*args).out


def test_either_side_may_be_a_stream(cli: Cli) -> None:
    prune(cli, "--remove")
    assert cli("report", "-", "--baseline", "model.safetensors", stdin=Path("model.pruned.safetensors")).code == 0
    assert cli("report", "model.pruned.safetensors", "--baseline", "-", stdin=Path("model.safetensors")).code == 0


@pytest.mark.parametrize(
    ("code", "arguments", "what"),
    [
        (2, ["-", "--baseline", "-"], "one standard input"),
        (2, ["model.pt", "--allow-changes"], "--baseline"),
        (2, ["model.pt", "--baseline", ""], "--baseline is empty"),
        (2, ["model.pt", "--baseline", "model.pt", "--fail-under", "0.5"], "--fail-under"),
        (2, ["model.pt", "--baseline", "model.pt", "-p", "nothing*"], "matches nothing"),
        (3, ["model.pt", "--baseline", "absent.pt"], "absent.pt"),
    ],
)
def test_refusals(refused: Refusal, code: int, arguments: list[str], what: str) -> None:
    assert what in refused(code, "report", *arguments, stdin=Path("model.pt"))


def test_a_hostile_name_is_never_markup_nor_formula(cli: Cli) -> None:
    names = ("=cmd|' /C calc'!A0", "[bold]\x1b[31m\n\u202e", "@x")
    save_file({name: torch.ones(2) for name in names}, "a.safetensors")
    save_file({name: torch.zeros(2) for name in names}, "b.safetensors")
    for style in ("table", "csv", "json", "markdown"):
        text = cli("report", "b.safetensors", "--baseline", "a.safetensors", "--format", style).out
        assert not set("\x1b\u202e") & set(text)
        if style == "csv":
            rows = list(csv.DictReader(io.StringIO(text)))
            assert {row["name"][:2] for row in rows} == {"'=", "[b", "'@"}
        if style == "markdown":
            assert "`[bold]" in text


def test_markdown_has_the_rows_of_the_table(cli: Cli) -> None:
    assert cli("apply", "model.pt", "-p", "fc*.weight", "-a", "0.5", "--remove", "-o", "half.pt").code == 0
    table, markdown = (
        cli("report", "half.pt", "--baseline", "model.pt", "--format", style).out.splitlines()
        for style in ("table", "markdown")
    )
    rows = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in markdown if line.startswith("|")]
    assert [cell for row in (rows[0], *rows[2:]) for cell in row] == [
        cell for line in table[:-1] for cell in re.split(r"\s{2,}", line.strip())
    ]
    assert markdown[-1] == table[-1]


def test_not_quite_all_is_never_all(cli: Cli) -> None:
    """One value that is left among 100,000 is not 100.00%, and one zero is not 0.00%."""
    one_left, one_zero = torch.zeros(100_000), torch.ones(100_000)
    one_left[17], one_zero[17] = 1.0, 0.0
    save_file({"a": torch.ones(100_000), "b": one_zero}, "before.safetensors")
    save_file({"a": one_left, "b": torch.zeros(100_000)}, "after.safetensors")
    for form in ("table", "markdown"):
        outcome = cli("report", "after.safetensors", "--baseline", "before.safetensors", "--format", form)
        assert outcome.code == 0, outcome.err
        a, b, total = [line.replace("|", " ").split() for line in outcome.out.splitlines() if "0,000" in line][:3]
        assert (a[5:7], b[5:7]) == ([">99.99%", "0.00%"], ["100.00%", "<0.01%"])
        assert total[6:8] == [">99.99%", "<0.01%"]

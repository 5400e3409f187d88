"""`report --baseline` proves that a prune did what it said, or says what else happened."""

import csv
import io
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from prunecli.reporting.comparison_tree import comparison_as_text
from prunecli.reporting.options import TableOptions
from prunecli.reporting.terminal import Screen
from prunecli.surgery.compare.model import Change, Comparison
from prunecli.surgery.report.model import CheckpointRef

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
        sentence, heads, row = outcome.out.splitlines()
        assert heads.split("\t") == [
            "tensor",
            *["newly zero", "revived", "changed", "elements", "sparsity", "before", "what"],
        ]
        assert row.split("\t") == ["fc1.weight", "16384", "0", "0", "32768", "50.00%", "0.00%", "parameter"]
        assert sentence.startswith("only zeros were added: of ")
        assert "16,384 elements became zero" in sentence


def test_json_and_csv_list_every_tensor(cli: Cli) -> None:
    prune(cli, "--remove")
    reported = cli("report", "model.pruned.safetensors", "--baseline", "model.safetensors", "--format", "json").json
    assert reported["schema"] == "prunecli.comparison/1"
    assert (reported["only_zeros_added"], reported["totals"]["newly_zero"]) == (True, 16384)
    assert [reported["before"]["path"], reported["after"]["path"]] == ["model.safetensors", "model.pruned.safetensors"]
    text = cli("report", "model.pruned.safetensors", "--baseline", "model.safetensors", "--format", "csv").out
    lines = list(csv.DictReader(io.StringIO(text)))
    assert [line["name"] for line in lines] == [each["name"] for each in reported["tensors"]]
    assert lines[0].keys() == reported["tensors"][0].keys()


def test_what_else_changed_ends_with_7_and_names_the_first(cli: Cli) -> None:
    prune(cli, "--remove")
    change(3.0)
    outcome = cli("report", "changed.safetensors", "--baseline", "model.safetensors")
    assert outcome.code == 7
    assert outcome.err == "prunecli: error: not only zeros were added: fc1.weight has 1 element changed otherwise\n"
    assert outcome.out.startswith("not only zeros were added: of ")
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
    assert cli(*args, "-o", "reported.txt").out == "reported.txt\n"
    written, printed = Path("reported.txt").read_text().splitlines(), cli(*args).out.splitlines()
    assert written[:2] == [printed[0], ""]
    assert [written[3].split(), written[4].split()[:4]] == [
        ["fc1.weight", "16,384", "0", "0", "32,768", "50.00%", "0.00%", "parameter"],
        ["all", "12", "parameters", "16,384"],
    ]
    assert len(written) == 5


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
    for path in ("reported.txt", "reported.md"):
        assert cli("report", "half.pt", "--baseline", "model.pt", "-o", path).code == 0
    table, markdown = (Path(path).read_text().splitlines() for path in ("reported.txt", "reported.md"))
    rows = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in markdown if line.startswith("|")]
    assert [cell for row in (rows[0], *rows[2:]) for cell in row if cell] == [
        cell for line in table[2:] for cell in re.split(r"\s{2,}", line.strip())
    ]
    assert markdown[0].replace("**", "") == table[0]


def test_what_does_not_differ_is_said_in_one_line(cli: Cli) -> None:
    outcome = cli("report", "model.pt", "--baseline", "model.pt")
    assert outcome.out.splitlines()[0] == "nothing differs: 12 parameters and 42 other tensors are equal"
    assert outcome.code == 0


def compared(layers: int = 12) -> Comparison:
    """Return a comparison of a model of equal layers, each half pruned; one value of layer 3 changed otherwise."""
    rows = [
        Change(f"model.layers.{at}.attention.self.{name}.weight", "", "parameter", "compared", "float32", (8, 8), 64)
        for at in range(layers)
        for name in ("query", "key")
    ]
    rows = [replace(row, zeros=32, newly_zero=32, changed=number == 6) for number, row in enumerate(rows)]
    rows.append(Change("norm.running_mean", "", "tensor", "compared", "float32", (8,), 8, changed=3))
    return Comparison(CheckpointRef("a", "", 1), CheckpointRef("b", "", 1), rows)


@pytest.mark.parametrize("width", [40, 80, 120])
def test_on_a_terminal_the_verdict_comes_first_then_a_folded_tree_with_whole_names(width: int) -> None:
    text = comparison_as_text(compared(), Screen(width, 24, live=True), TableOptions())
    lines = text.splitlines()
    assert text.startswith("not only zeros were added: ")
    assert "…" not in text
    assert width < 80 or (len(lines) < 24 and max(map(len, lines)) <= width)
    assert any("{0..2,4..11}" in line and "×11" in line for line in lines), "a change must not hide in a folded row"
    (at,) = [at for at, line in enumerate(lines) if re.search(r"[├└] 3\.attention", line)]
    assert {"64", "1"} <= set(" ".join(lines[at : at + 2]).split())


def test_a_depth_or_a_number_of_rows_is_as_in_a_report() -> None:
    screen = Screen(100, 10, live=True)
    everything = comparison_as_text(compared(), screen, TableOptions(depth=9))
    assert everything.count("query.weight") == 12
    top = comparison_as_text(compared(), screen, TableOptions(sort="size", top=2))
    assert "model.layers.0.attention.self.query.weight" in top
    assert "23 more tensors" in top


def test_not_quite_all_is_never_all(cli: Cli) -> None:
    """One value that is left among 100,000 is not 100.00%, and one zero is not 0.00%."""
    one_left, one_zero = torch.zeros(100_000), torch.ones(100_000)
    one_left[17], one_zero[17] = 1.0, 0.0
    save_file({"a": torch.ones(100_000), "b": one_zero}, "before.safetensors")
    save_file({"a": one_left, "b": torch.zeros(100_000)}, "after.safetensors")
    for form in ("table", "markdown"):
        outcome = cli("report", "after.safetensors", "--baseline", "before.safetensors", "--format", form)
        assert outcome.code == 0, outcome.err
        a, b = [line.replace("|", " ").split() for line in outcome.out.splitlines() if line.count("%") == 2][:2]
        assert (a[5:7], b[5:7]) == ([">99.99%", "0.00%"], ["100.00%", "<0.01%"])
    assert "all 2 parameters | 199,998 | 0 | 0 | 200,000 | >99.99% | <0.01%" in outcome.out


def test_without_a_common_parameter_there_is_no_table(cli: Cli) -> None:
    save_file({"a.weight": torch.ones(2, 2)}, "a.safetensors")
    save_file({"b.weight": torch.ones(2, 2), "b.bias": torch.ones(2)}, "b.safetensors")
    outcome = cli("report", "a.safetensors", "--baseline", "b.safetensors")
    assert (outcome.code, outcome.out) == (
        7,
        "the two checkpoints have no parameter in common: 3 tensors differ\n",
    )

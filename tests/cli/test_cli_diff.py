"""`diff` prints what `report --baseline` prints, and judges a change only if it is asked to."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from prunecli import files
from prunecli.errors import ThresholdError, UsageError

Cli = Callable[..., Any]
Refusal = Callable[..., str]


@pytest.fixture(autouse=True)
def three(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint, the same with a new zero, and that with another value and a zero less."""
    monkeypatch.chdir(tmp_path)
    for name, values in (("old", [1.0, 2, 3, 0]), ("new", [1.0, 2, 0, 0]), ("trained", [1.0, 5, 0, 4])):
        save_file({"w": torch.tensor(values), "b": torch.ones(2)}, f"{name}.safetensors")


@pytest.mark.parametrize("form", ["table", "json", "csv", "markdown"])
def test_it_prints_the_comparison_of_report_and_ends_with_0(cli: Cli, form: str) -> None:
    for later in ("new", "trained"):
        baseline = cli("report", f"{later}.safetensors", "--baseline", "old.safetensors", "--format", form)
        outcome = cli("diff", "old.safetensors", f"{later}.safetensors", "--format", form)
        assert (outcome.code, outcome.out, outcome.err) == (0, baseline.out, "")
        judged = cli("diff", "old.safetensors", f"{later}.safetensors", "--only-zeros", "--format", form)
        assert (judged.code, judged.out, judged.err) == (baseline.code, baseline.out, baseline.err)
        assert judged.code == (0 if later == "new" else 7)


def test_allowed_changes_exclude_revived_zeros(cli: Cli) -> None:
    judged = ("--only-zeros", "--allow-changes", "-q")
    assert cli("diff", "old.safetensors", "trained.safetensors", "-x", "*", *judged).code == 2
    outcome = cli("diff", "old.safetensors", "trained.safetensors", *judged)
    assert (outcome.code, outcome.out) == (7, "")
    assert "w has 1 element that was zero and is not" in outcome.err
    outcome = cli("diff", "new.safetensors", "old.safetensors", "-p", "b", *judged)
    assert (outcome.code, outcome.out) == (0, "")


def test_either_side_may_be_a_stream_and_the_result_a_file(cli: Cli) -> None:
    outcome = cli("diff", "-", "new.safetensors", "-o", "changes.md", stdin=Path("old.safetensors"))
    assert (outcome.code, outcome.out) == (0, "changes.md\n")
    assert Path("changes.md").read_text().startswith("**only zeros were added**: of 2 parameters, 1 elements")
    assert cli("diff", "old.safetensors", "-", "--only-zeros", stdin=Path("new.safetensors")).code == 0


@pytest.mark.parametrize(
    ("code", "arguments", "what"),
    [
        (2, ["-", "-"], "one standard input"),
        (2, ["old.safetensors"], "no NEW is given; name the later one"),
        (2, ["old.safetensors", "new.safetensors", "--allow-changes"], "--only-zeros"),
        (2, ["old.safetensors", "new.safetensors", "-p", "nothing*"], "matches nothing"),
        (2, ["old.safetensors", "new.safetensors", "-o", "changes.html"], "not as html"),
        (3, ["absent.pt", "new.safetensors"], "absent.pt"),
        (3, ["new.safetensors", "absent.pt"], "absent.pt"),
    ],
)
def test_refusals(refused: Refusal, code: int, arguments: list[str], what: str) -> None:
    assert what in refused(code, "diff", *arguments, stdin=Path("old.safetensors"))


def test_the_function_is_the_command() -> None:
    found = files.diff("old.safetensors", "new.safetensors", output="changes.json", only_zeros=True)
    assert (found.totals.newly_zero, found.only_zeros_added) == (1, True)
    assert found == files.compare("new.safetensors", "old.safetensors")
    assert Path("changes.json").is_file()
    with pytest.raises(ThresholdError, match="w has 1 element that was zero"):
        files.diff("old.safetensors", "trained.safetensors", only_zeros=True)
    with pytest.raises(UsageError, match="allow_changes=True is an option of only_zeros=True"):
        files.diff("old.safetensors", "new.safetensors", allow_changes=True)

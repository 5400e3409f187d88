"""Three ways to ask `apply` for the same: options, a recipe, a report; and what contradicts itself."""

import json
import tomllib
from pathlib import Path

import pytest
from conftest import Cli, Refusal

pytestmark = pytest.mark.usefixtures("folder")

OPTIONS = ["-p", "fc*.weight", "-x", "fc2*", "-a", "25%", "--min-dim", "2", "--seed", "5"]


def test_a_dry_run_prints_the_recipe_that_does_the_same(cli: Cli) -> None:
    printed = cli("apply", "model.pt", *OPTIONS, "--dry-run")
    assert printed.code == 0
    Path("prune.toml").write_text(printed.out)
    assert cli("apply", "model.pt", *OPTIONS, "-o", "one.pt").code == 0
    assert cli("apply", "model.pt", "--recipe", "prune.toml", "-o", "two.pt").code == 0
    assert Path("two.pt").read_bytes() == Path("one.pt").read_bytes()
    one, two = (json.loads(Path(f"{name}.pt.report.json").read_text()) for name in ("one", "two"))
    assert {**one, "output": None} == {**two, "output": None}
    again = cli("apply", "model.pt", "--recipe", "prune.toml", "--dry-run", "-o", "three.pt")
    assert again.out == printed.out


def test_a_seed_that_was_drawn_is_in_the_recipe_of_the_dry_run(cli: Cli) -> None:
    printed = cli("apply", "model.pt", "-p", "fc1.weight", "-a", "0.5", "--dry-run").out
    Path("r.toml").write_text(printed)
    reported = cli("apply", "model.pt", "--recipe", "-", stdin=Path("r.toml")).err
    assert f"seed {tomllib.loads(printed)['seed']}" in reported


def test_groups_are_what_runs_one_after_the_other_are(cli: Cli) -> None:
    Path("r.toml").write_text(
        "seed = 3\nremove = true\n[[group]]\nparams = ['fc1.weight']\namount = 0.5\n"
        "[[group]]\nparams = ['fc2.weight']\namount = 7\n"
    )
    assert cli("apply", "model.pt", "--recipe", "r.toml", "-o", "together.pt").code == 0
    assert cli("apply", "model.pt", "-p", "fc1.weight", "-a", "0.5", "--remove", "--seed", 3, "-o", "a.pt").code == 0
    assert cli("apply", "a.pt", "-p", "fc2.weight", "-a", "7", "--remove", "--seed", 3, "-o", "b.pt").code == 0
    assert Path("together.pt").read_bytes() == Path("b.pt").read_bytes()


def test_options_stand_over_the_recipe(cli: Cli) -> None:
    Path("r.toml").write_text("seed = 3\nremove = true\n[[group]]\nparams = ['fc1.weight']\namount = 0.5\n")
    line = ["apply", "model.pt", "--recipe", "r.toml", "--seed", 4, "--no-remove", "--mask-dtype", "same", "-o", "a.pt"]
    assert cli(*line).code == 0
    options = ["-p", "fc1.weight", "-a", "0.5", "--seed", 4, "--mask-dtype", "same", "-o", "b.pt"]
    assert cli("apply", "model.pt", *options).code == 0
    assert Path("a.pt").read_bytes() == Path("b.pt").read_bytes()


@pytest.mark.parametrize("ways", [["--remove"], [], ["--global", "--mask-dtype", "same"], ["--zeros-are-pruned"]])
@pytest.mark.parametrize("source", ["model.pt", "model.safetensors"])
def test_a_report_replays_to_the_same_bytes(cli: Cli, source: str, ways: list[str]) -> None:
    end = Path(source).suffix
    assert cli("apply", source, "-p", "fc*.weight", "-a", "0.3", *ways, "-o", f"one{end}").code == 0
    assert cli("apply", source, "--from-report", f"one{end}.report.json", "-o", f"two{end}").code == 0
    assert Path(f"two{end}").read_bytes() == Path(f"one{end}").read_bytes()
    by_pipe = cli("apply", source, "--from-report", "-", "-o", "-", stdin=Path(f"one{end}.report.json"))
    assert by_pipe.raw == Path(f"one{end}").read_bytes()


def test_a_replay_over_another_checkpoint_writes_the_same_masks(cli: Cli) -> None:
    assert cli("apply", "model.pt", "-p", "fc1.weight", "-a", "0.3", "-o", "one.pt").code == 0
    outcome = cli("apply", "model.safetensors", "--from-report", "one.pt.report.json", "--report", "-", "--remove")
    masks = [
        {each["name"]: each["mask_sha256"] for each in report["parameters"]}
        for report in (outcome.json, json.loads(Path("one.pt.report.json").read_text()))
    ]
    assert masks[0] == masks[1]


def test_a_stamp_is_in_the_report_of_what_has_it(cli: Cli) -> None:
    assert cli("apply", "model.safetensors", "-p", "fc1.weight", "-a", "7", "--seed", 5, "--stamp").code == 0
    [stamp] = cli("report", "model.pruned.safetensors", "--format", "json").json["stamps"]
    assert (stamp["seed"], stamp["pruned_now"], stamp["groups"][0]["amount"]) == (5, 7, 7)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["model.pt"], "nothing is selected"),
        (["model.pt", "-p", "*"], "the amount is missing"),
        (["model.pt", "--recipe", "r.toml", "-p", "*"], "--recipe and -p both say what is pruned"),
        (["model.pt", "--recipe", "r.toml", "-a", "1"], "and -a both say"),
        (["model.pt", "--from-report", "r.json", "--global"], "and --global both say"),
        (["model.pt", "--from-report", "r.json", "--recipe", "r.toml"], "both say what is pruned"),
        (["model.pt", "--from-report", "r.json", "--seed", "1"], "and --seed asks for others"),
        (["model.pt", "--from-report", "r.json", "--zeros-are-pruned"], "and --zeros-are-pruned asks for others"),
        (["-", "--recipe", "-", "-o", "x.pt"], "cannot both come from standard input"),
        (["-", "--from-report", "-", "-o", "x.pt"], "cannot both come from standard input"),
        (["model.pt", "--recipe", ""], "--recipe is empty"),
        (["model.pt", "--recipe", "r.toml"], "r.toml:3: params nothing matches nothing"),
        (["model.pt", "--recipe", "twice.toml"], "fc1.weight is in groups 1 and 2"),
    ],
)
def test_requests_that_cannot_be_met(refused: Refusal, arguments: list[str], words: str) -> None:
    Path("r.toml").write_text("# what does not match is named with its line\n\n[[group]]\nparams='nothing'\namount=1\n")
    Path("twice.toml").write_text(
        "[[group]]\nparams='fc1.weight'\namount=1\n[[group]]\nparams='fc*.weight'\namount=1\n"
    )
    assert words in refused(2, "apply", *arguments)


@pytest.mark.parametrize(
    ("code", "arguments", "words"),
    [
        (3, ["--recipe", "none.toml"], "cannot open none.toml"),
        (3, ["--from-report", "none.json"], "cannot open none.json"),
        (4, ["--from-report", "model.pt"], "model.pt is not JSON, so it is not a report"),
        (2, ["--recipe", "model.pt"], "model.pt:1: a recipe is UTF-8 text"),
        (4, ["-p", "fc1.weight", "-a", "1", "--stamp"], "cannot contain a stamp"),
    ],
)
def test_files_that_are_no_requests(refused: Refusal, code: int, arguments: list[str], words: str) -> None:
    assert words in refused(code, "apply", "model.pt", *arguments)


def test_a_report_of_another_command_is_no_request(cli: Cli, refused: Refusal) -> None:
    Path("r.json").write_text(cli("report", "model.pt", "--format", "json").out)
    assert "of 'report', which makes no masks" in refused(2, "apply", "model.pt", "--from-report", "r.json")


@pytest.mark.parametrize(
    ("gates", "words"),
    [
        (["--fail-under", "0.9"], "below --fail-under 0.9"),
        (
            ["--fail-over", "fc1.weight=49%"],
            "the sparsity of fc1.weight is 50.00% (16,384 of 32,768), above",
        ),
        (["--fail-under", "fc2*=0.1", "--fail-under", "fc1*=0.1"], "the sparsity of fc2* is 0"),
    ],
)
def test_gates_end_with_7_after_the_report(cli: Cli, gates: list[str], words: str) -> None:
    assert cli("apply", "model.pt", "-p", "fc1.weight", "-a", "0.5", "--remove").code == 0
    outcome = cli("report", "model.pruned.pt", "--format", "json", *gates)
    assert outcome.code == 7
    assert words in outcome.err
    assert outcome.err.count("\n") == 1
    assert outcome.json["command"] == "report"
    assert cli("report", "model.pruned.pt", "--fail-under", "fc1.weight=0.5", "--fail-over", "fc1.weight=0.5").code == 0

"""`--params-from`: what `params` prints into a pipe, and other lists, select what they name and nothing else."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from forked import in_shell
from safetensors.torch import load_file, save_file

Cli = Callable[..., Any]
Refusal = Callable[..., str]
APPLY = ("-a", "0.5", "--seed", "1", "--remove", "-q")
pytestmark = pytest.mark.usefixtures("folder")

ODD = [
    "",
    "a b",
    " l",
    "e ",
    "*",
    "[0].w",
    "re:.*",
    "-dash",
    "x\ty",
    "line\nbreak",
    "esc\x1b[2J",
    "bi\u202e",
    "größe",
    "a\\x1b",
    "long" * 300,
    "#comment",
    '"q"',
    "'",
    "$(x)",
]


def pruned(path: str) -> set[str]:
    return {name for name, tensor in load_file(path).items() if bool((tensor == 0).any())}


def shell(line: str) -> subprocess.CompletedProcess[str]:
    script = f"set -o pipefail; {in_shell()}; {line}"
    return subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60)


def test_the_pipeline_with_grep() -> None:
    line = "prunecli params model.safetensors | grep fc | prunecli apply model.safetensors --params-from - "
    done = shell(line + "-a 0.5 --remove -o out.safetensors -q")
    assert (done.returncode, done.stdout, done.stderr) == (0, "out.safetensors\n", "")
    by_hand = shell("prunecli report out.safetensors -p 'fc*' --format json | grep -c '\"sparsity\": 0.5,'")
    assert by_hand.stdout == "5\n"
    assert {name.split(".")[0] for name in pruned("out.safetensors")} - {"bn1", "bn2"} == {"fc1", "fc2"}


def test_a_grep_that_finds_nothing_prunes_nothing(folder: Path) -> None:
    before = sorted(folder.iterdir())
    done = shell("prunecli params model.pt | grep none | prunecli apply model.pt --params-from - -a 0.5")
    assert done.returncode == 2
    assert done.stderr == (
        "prunecli: error: --params-from: standard input contains no names; check the command that wrote it\n"
    )
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize("name", ODD)
def test_a_name_survives_the_pipeline(cli: Cli, name: str) -> None:
    """Each line of `params`, given back, selects the tensor that it is about."""
    save_file({each: torch.ones(64) for each in ODD}, "odd.safetensors")
    listing = cli("params", "odd.safetensors").out.splitlines()
    (line,) = [each for each, odd in zip(listing, load_file("odd.safetensors"), strict=True) if odd == name]
    Path("list").write_text(line + "\n")
    outcome = cli("apply", "odd.safetensors", "--params-from", "list", *APPLY, "-o", "out.safetensors")
    assert (outcome.code, outcome.err) == (0, "")
    assert pruned("out.safetensors") == {name}


def test_the_whole_listing_selects_what_a_star_selects(cli: Cli) -> None:
    Path("list").write_text(cli("params", "model.pt").out)
    for command in ("apply", "report", "params"):
        more = [*APPLY, "--report", "-", "--force", "-o", "out.pt"] if command == "apply" else []
        one, other = (cli(command, "model.pt", *which, *more).out for which in (["-p", "*"], ["--params-from", "list"]))
        assert one.splitlines()[-40:] == other.splitlines()[-40:]
        assert ("running_mean" in one) == ("running_mean" in other)


def test_names_that_look_alike_are_refused(cli: Cli, refused: Refusal) -> None:
    """One is an escape, and the other one spells the escape out: a line of either is a line of both."""
    save_file({"\x1b": torch.ones(8), "\\x1b": torch.ones(8)}, "alike.safetensors")
    line = cli("params", "alike.safetensors").out.splitlines()[0]
    Path("list").write_text(line)
    words = refused(2, "apply", "alike.safetensors", "--params-from", "list", "-a", "0.5")
    assert words == "\\x1b is how 2 names look here; select them by a pattern"


@pytest.mark.parametrize(
    "text",
    [
        "fc1.weight\nfc2.weight",
        "fc1.weight\r\n\r\nfc2.weight\r\n",
        "\n\nfc?.weight\n\n",
        "re:fc..weight\n",
        "\ufefffc2.weight\nfc1.weight\nfc1.weight\tanything\n",
    ],
)
def test_lines_are_names_or_patterns(cli: Cli, text: str) -> None:
    Path("list").write_bytes(text.encode())
    outcome = cli("params", "model.pt", "--params-from", "list")
    assert [line.split("\t")[0] for line in outcome.out.splitlines()] == ["fc1.weight", "fc2.weight"]


def test_it_adds_to_the_options_and_excludes_take_away(cli: Cli) -> None:
    Path("list").write_text("fc1.weight\nfc1.bias\n")
    outcome = cli("params", "model.pt", "-p", "fc2.weight", "--params-from", "list", "-x", "*.bias")
    assert [line.split("\t")[0] for line in outcome.out.splitlines()] == ["fc1.weight", "fc2.weight"]


def test_it_selects_masks_to_bake(cli: Cli) -> None:
    assert cli("apply", "model.pt", "-p", "fc?.weight", "-a", "0.5", "-q", "-o", "masked.pt").code == 0
    Path("list").write_text(cli("params", "masked.pt", "-p", "fc1.*").out)
    assert cli("remove", "masked.pt", "--params-from", "list", "-q", "-o", "baked.pt").code == 0
    states = {line.split("\t")[0]: line.split("\t")[3] for line in cli("params", "baked.pt").out.splitlines()}
    assert (states["fc1.weight"], states["fc2.weight"]) == ("dense", "masked")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "contains no names"),
        (b"\n\n \n", "contains no names"),
        (b"\xff\xfe", "is not text"),
        (b"a\0b", "is not text"),
        (b"none\n", "matches nothing"),
        (b"bn1.running_mean\tfloat32\t8\tby exact name only\n", "that patterns do not select"),
        (b"bn1.running_mean\tfloat32\t8\tstatistic\n", "give their exact names"),
    ],
)
def test_lists_that_select_nothing(refused: Refusal, content: bytes, words: str) -> None:
    Path("list").write_bytes(content)
    assert words in refused(2, "apply", "model.pt", "--params-from", "list", "-a", "0.5")
    assert words in refused(2, "report", "model.pt", "--params-from", "-", stdin=Path("list"))


def test_refusals(refused: Refusal, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "both come from standard input" in refused(2, "params", "-", "--params-from", "-", stdin=Path("model.pt"))
    assert "--params-from is empty" in refused(2, "params", "model.pt", "--params-from", "")
    assert "cannot read --params-from none: No such file" in refused(3, "params", "model.pt", "--params-from", "none")
    assert "cannot read --params-from .: Is a directory" in refused(3, "params", "model.pt", "--params-from", ".")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    assert "several ranks" in refused(2, "params", "model.pt", "--params-from", "-")


def test_a_file_of_a_checkpoint_is_no_list(refused: Refusal) -> None:
    assert "is not text" in refused(2, "params", "model.pt", "--params-from", "model.pt")


def test_a_list_of_every_tensor_selects_what_a_star_selects(cli: Cli) -> None:
    """With masks and optimizer state in it, which a star leaves alone as well."""
    assert cli("apply", "model.pt", "-p", "fc?.weight", "-a", "0.5", "-q", "-o", "masked.pt").code == 0
    listing = cli("params", "masked.pt", "--all").out
    states = {line.split("\t")[0]: line.split("\t")[3] for line in listing.splitlines()}
    assert (states["fc1.weight_orig"], states["fc1.weight_mask"], states["conv1.weight"]) == ("masked", "mask", "dense")
    assert len(states) == 20 + sum(name.startswith("optimizer") for name in states) > 20
    Path("list").write_text(listing)
    one, other = (
        cli("apply", "masked.pt", *which, "-a", "0.5", "--seed", "1", "--report", "-", "--force", "-o", "out.pt").json
        for which in (["-p", "*"], ["--params-from", "list"])
    )
    assert one["parameters"] == other["parameters"]
    assert one["totals"] == other["totals"]

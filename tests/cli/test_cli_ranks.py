"""One command line by several ranks: the same bytes, one voice, and nothing lost when one of them is killed."""

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import dcp_tools
import pytest
import torch
from folder_zoo import make_folder
from forked import prunecli, python
from ranks import PROGRAM, TORCHRUN, finish, start
from safetensors.torch import save_file

from prunecli.cli.app import run

APPLY = ("-p", "*.weight", "-a", "0.5", "--seed", "7")
SHARDS = 8


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder of 8 shards, of which the last has nothing to prune."""
    folder, size = tmp_path / "m", 0
    folder.mkdir()
    weight_map: dict[str, str] = {}
    generator = torch.Generator().manual_seed(1)
    for number in range(SHARDS):
        file = f"model-{number + 1:05d}-of-{SHARDS:05d}.safetensors"
        kind = "weight" if number < SHARDS - 1 else "bias"
        tensors = {f"layers.{number}.{part}.{kind}": torch.randn(700, 900, generator=generator) for part in "qk"}
        save_file(tensors, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(tensors, file)
        size += sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": size}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text("{}\n")
    return folder


def alone(folder: Path, *arguments: object) -> None:
    subprocess.run([*prunecli(), *map(str, arguments), "-q"], cwd=folder, check=True)


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def below(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def torchrun(*options: str) -> list[str]:
    """Return the start of a command line for two ranks by torchrun; what follows is as after `python`."""
    launcher = [*python(*TORCHRUN), "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return [*launcher, *options, "--no-python", *python(*TORCHRUN)]


def report(path: Path) -> Any:
    return {**json.loads(path.read_bytes()), "output": None}


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("bake", [["--remove"], []])
def test_ranks_write_what_one_process_writes(model: Path, size: int, bake: list[str]) -> None:
    alone(model.parent, "apply", "m", *APPLY, *bake, "-o", "one")
    outcomes = finish(start(size, ["apply", "m", *APPLY, *bake, "-o", "many"], model.parent))
    assert [code for code, _, _ in outcomes] == [0] * size, outcomes
    assert [out for _, out, _ in outcomes] == ["many\n"] + [""] * (size - 1)
    assert [err for _, _, err in outcomes[1:]] == [""] * (size - 1)
    assert contents(model.parent / "many") == contents(model.parent / "one")
    assert report(model.parent / "many.report.json") == report(model.parent / "one.report.json")
    assert sorted(each.name for each in model.parent.iterdir() if each.name.startswith(".")) == []


def test_ranks_pack_a_folder_file_by_file(tmp_path: Path) -> None:
    make_folder(tmp_path / "m", [{f"{part}.weight": torch.randn(30, 40)} for part in "qkv"])
    alone(tmp_path, "pack", "m", "-o", "one")
    outcomes = finish(start(2, ["pack", "m", "-o", "many"], tmp_path))
    assert [(code, out) for code, out, _ in outcomes] == [(0, "many\n"), (0, "")], outcomes
    assert outcomes[1][2] == ""
    assert below(tmp_path / "many") == below(tmp_path / "one")


def test_torchrun_starts_them(model: Path) -> None:
    alone(model.parent, "apply", "m", *APPLY, "-o", "one")
    command = [*torchrun(), "-m", "prunecli", "apply", "m", *APPLY, "-o", "many", "-q"]
    done = subprocess.run(command, cwd=model.parent, check=True, stdout=subprocess.PIPE, text=True, timeout=120)
    assert done.stdout == "many\n"
    assert contents(model.parent / "many") == contents(model.parent / "one")
    assert report(model.parent / "many.report.json") == report(model.parent / "one.report.json")


ALL, MATRICES = ["-p", "*.weight"], ["-p", "[abc].weight"]
L1, SLICES = ["--method", "l1"], ["--method", "ln", "--norm"]
METHODS = [
    ("shards", [*ALL, "-a", "0.5", "--per-row"]),
    ("shards", [*ALL, "-a", "0.4", *L1]),
    ("masked", [*ALL, "-a", "0.5", *L1, "--global"]),
    ("parts", [*ALL, "-a", "0.6", *L1, "--allocation", "erk", "--bake"]),
    ("masked", [*ALL, "-a", "3", *L1, "--per-row"]),
    ("shards", [*ALL, "-a", "0.3", "--scores", "scores", "--bake"]),
    ("parts", [*ALL, "-a", "0.3", "--scores", "scores", "--abs-scores", "--global", "--bake"]),
    ("masked", [*ALL, "-a", "0.5", "--scores", "scores", "--per-row"]),
    ("masked", [*ALL, "-a", "0.5", "--method", "lamp"]),
    ("parts", [*ALL, "-a", "0.25", "--method", "random-structured", "--dim", "1", "--bake"]),
    ("shards", [*ALL, "-a", "7", *SLICES, "1", "--dim", "0"]),
    ("parts", [*MATRICES, "-a", "0.5", *SLICES, "2", "--dim", "-1", "--bake"]),
    ("masked", [*ALL, "-a", "0.5", *SLICES, "inf", "--dim", "1"]),
    ("shards", [*ALL, "--n-of-m", "2:4", "--bake"]),
    ("masked", [*ALL, "--n-of-m", "2:4", *L1]),
    ("parts", [*MATRICES, "--n-of-m", "1:4", "--scores", "scores", "--dim", "0", "--bake"]),
    ("shards", [*MATRICES, "-a", "0.3", "--block", "16x12"]),
    ("masked", [*MATRICES, "-a", "0.5", "--block", "1x4", *L1]),
    ("shards", [*MATRICES, "-a", "9", "--block", "16x12", "--scores", "scores", "--abs-scores"]),
    ("shards", ["--recipe", "mixed.toml"]),
]
"""A checkpoint and the options of `apply`: each method and pattern on one of three kinds of folders."""

RECIPE = """
method = "l1"
[[group]]
params = "a.weight"
n_of_m = "2:4"
[[group]]
params = "b.weight"
method = "ln"
norm = 1
dim = 0
amount = "25%"
[[group]]
params = "c.weight"
scores = "scores"
method = "scores"
per_row = true
amount = 0.5
[[group]]
params = "conv.weight"
method = "lamp"
amount = 0.5
"""

EACH = """
import json, sys
from prunecli.cli.app import run
from prunecli.surgery.run import units
units._SMALLEST = 1 << 20
sys.exit(max(run(line) for line in json.load(open(sys.argv[1]))))
"""


def test_two_ranks_of_torchrun_prune_by_every_method_as_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One launch for all of them. Many elements, slices and blocks are equal, and some of these have to go."""
    monkeypatch.chdir(tmp_path)
    generator = torch.Generator().manual_seed(1)
    shapes = {"a.weight": (1100, 960), "b.weight": (72, 200), "c.weight": (96, 60), "conv.weight": (40, 24, 3, 3)}
    state = {name: torch.randint(-64, 65, shape, generator=generator).bfloat16() for name, shape in shapes.items()}
    scores = {name: torch.randint(-9, 99, shape, generator=generator).half() for name, shape in shapes.items()}
    for name, each in {"shards": state, "scores": scores}.items():
        make_folder(tmp_path / name, [{key: tensor} for key, tensor in each.items()])
    dcp_tools.save(state, tmp_path / "parts", {"a.weight": ((700,), (301,)), "b.weight": ((), (7,))}, files=2)
    Path("mixed.toml").write_text(RECIPE)
    assert run(["apply", "shards", *APPLY, "-o", "masked", "-q"]) == 0
    lines = [["apply", source, *options, "--seed", "5", "-q", "-o"] for source, options in METHODS]
    for number, line in enumerate(lines):
        assert run([*line, f"one{number}"]) == 0, line
    Path("lines.json").write_text(json.dumps([[*line, f"many{number}"] for number, line in enumerate(lines)]))
    done = subprocess.run([*torchrun(), "-c", EACH, "lines.json"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [f"many{number}" for number in range(len(lines))]
    for number, line in enumerate(lines):
        assert below(Path(f"many{number}")) == below(Path(f"one{number}")), line
        assert report(Path(f"many{number}.report.json")) == report(Path(f"one{number}.report.json")), line


def test_a_rank_that_is_killed_costs_its_unit_and_resume_gives_the_same_bytes(model: Path) -> None:
    alone(model.parent, "apply", "m", *APPLY, "-o", "one")
    ranks = start(2, ["apply", "m", *APPLY, "-o", "many", "-q", "--resume", "-j", "1"], model.parent, {"DELAY": "0.2"})
    journal: list[Path] = []
    while len(journal) < 3:
        time.sleep(0.05)
        assert ranks[1].poll() is None, finish(ranks)
        journal = list(model.parent.glob(".many.prunecli-*.partial/journal/*.json"))
    ranks[1].kill()
    outcomes = finish(ranks)
    assert outcomes[1][0] == -9
    assert outcomes[0][0] == 6
    assert "another rank was lost" in outcomes[0][2]
    assert not (model.parent / "many").exists()
    kept = {path: path.read_bytes() for path in model.parent.glob(".many.prunecli-*.partial/journal/*.json")}
    assert len(kept) >= 3
    arguments = [argument for argument in APPLY if argument not in ("--seed", "7")]  # the journal knows it
    outcomes = finish(start(2, ["apply", "m", *arguments, "-o", "many", "-q", "--resume"], model.parent))
    assert [code for code, _, _ in outcomes] == [0, 0], outcomes
    assert contents(model.parent / "many") == contents(model.parent / "one")
    assert report(model.parent / "many.report.json") == report(model.parent / "one.report.json")
    assert sorted(each.name for each in model.parent.iterdir() if each.name.startswith(".")) == []


def test_torchrun_restarts_go_on_by_themselves(model: Path, tmp_path: Path) -> None:
    alone(model.parent, "apply", "m", *APPLY, "-o", "one")
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [*torchrun("--max-restarts", "1"), "program.py", "apply", "m", *APPLY, "-o", "many", "-q"]
    environment = {**os.environ, "KILL_ONCE": str(tmp_path / "killed"), "DELAY": "0.1"}
    done = subprocess.run(command, cwd=model.parent, env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "many\n"), done.stderr
    assert (tmp_path / "killed").exists()
    assert contents(model.parent / "many") == contents(model.parent / "one")
    assert report(model.parent / "many.report.json") == report(model.parent / "one.report.json")


def test_an_error_is_reported_once_and_all_ranks_have_its_code(model: Path) -> None:
    outcomes = finish(start(2, ["apply", "m", "-p", "nothing", "-a", "0.5"], model.parent))
    assert [code for code, _, _ in outcomes] == [2, 2]
    assert outcomes[0][2].startswith("prunecli: error: -p nothing matches nothing")
    assert outcomes[1][1:] == ("", "")
    assert sorted(each.name for each in model.parent.iterdir()) == ["m"]


def test_what_all_ranks_fail_at_is_reported_once(model: Path) -> None:
    outcomes = finish(start(2, ["report", "missing.pt"], model.parent))
    assert [code for code, _, _ in outcomes] == [3, 3]
    assert [err for _, _, err in outcomes] == [
        "prunecli: error: cannot open missing.pt: No such file or directory\n",
        "",
    ]


def test_a_report_by_ranks_is_the_report_of_one(model: Path) -> None:
    outcomes = finish(start(2, ["report", "m", "--format", "json"], model.parent))
    assert [code for code, _, _ in outcomes] == [0, 0], outcomes
    one = subprocess.run(
        [*prunecli(), "report", "m", "--format", "json"],
        cwd=model.parent,
        check=True,
        capture_output=True,
        text=True,
    )
    assert [out for _, out, _ in outcomes] == [one.stdout, ""]


def test_ranks_do_not_share_a_standard_input(model: Path) -> None:
    outcomes = finish(start(2, ["report", "-"], model.parent))
    assert [code for code, _, _ in outcomes] == [2, 2]
    assert "several ranks cannot read one standard input" in outcomes[0][2]


def test_ranks_that_never_come_are_named(model: Path) -> None:
    broken = {**os.environ, "WORLD_SIZE": "2", "RANK": "0"}
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        broken.pop(name, None)
    command = [*prunecli(*TORCHRUN), "report", "m"]
    done = subprocess.run(command, cwd=model.parent, env=broken, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "WORLD_SIZE is 2, but the ranks cannot be joined" in done.stderr
    assert done.stderr.count("\n") == 1


def test_one_rank_that_torchrun_starts_again_goes_on(model: Path) -> None:
    alone(model.parent, "apply", "m", *APPLY, "-o", "one")
    one = {"WORLD_SIZE": "1", "RANK": "0", "TORCHELASTIC_MAX_RESTARTS": "3", "DELAY": "0.2"}
    [rank] = start(1, ["apply", "m", *APPLY, "-o", "many", "-q", "-j", "1"], model.parent, one)
    while not list(model.parent.glob(".many.prunecli-*.partial/journal/*.json")):
        time.sleep(0.05)
        assert rank.poll() is None, finish([rank])
    rank.terminate()
    assert finish([rank])[0][0] == -15
    assert list(model.parent.glob(".many.prunecli-*.partial/journal/*.json"))
    again = {**one, "TORCHELASTIC_RESTART_COUNT": "1", "DELAY": "0"}
    outcomes = finish(start(1, ["apply", "m", *APPLY, "-o", "many", "-q"], model.parent, again))
    assert [code for code, _, _ in outcomes] == [0], outcomes
    assert contents(model.parent / "many") == contents(model.parent / "one")
    assert report(model.parent / "many.report.json") == report(model.parent / "one.report.json")

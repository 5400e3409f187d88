"""`--seeds`: each output is that of its seed alone, and all of them appear, or none."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from surgery_zoo import noise, save

from prunecli import files
from prunecli.cli.app import run
from prunecli.errors import OutputError, PrunecliError, UsageError
from prunecli.formats.outputs import staged
from prunecli.formats.outputs.file import LocalFile
from prunecli.surgery.seeds import parse_seeds

LINE: dict[str, Any] = {"params": "w*", "amount": 0.5}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    state = {"w.weight": noise((40, 50)), "wide.weight": noise((30, 9))}
    save(state, Path("m.pt"))
    Path("shards").mkdir()
    save(state, Path("shards/model-00001-of-00001.safetensors"))
    places = dict.fromkeys(state, "model-00001-of-00001.safetensors")
    Path("shards/model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))


def names() -> set[str]:
    return {path.name for path in Path().iterdir()}


def test_outputs_and_reports_are_those_of_single_runs() -> None:
    before = names()
    reports = files.apply_seeds("m.pt", "3..5", output="o{seed}.pt", bake=True, **LINE)
    assert [report.seed for report in reports] == [3, 4, 5]
    assert names() - before == {f"o{seed}.pt{end}" for seed in (3, 4, 5) for end in ("", ".report.json")}
    for seed in (3, 4, 5):
        made, report = Path(f"o{seed}.pt"), Path(f"o{seed}.pt.report.json")
        data, text, mode = made.read_bytes(), report.read_text(), made.stat().st_mode
        files.apply("m.pt", seed=seed, output=made, bake=True, force=True, **LINE)
        assert (made.read_bytes(), report.read_text(), made.stat().st_mode) == (data, text, mode)
    assert len({Path(f"o{seed}.pt").read_bytes() for seed in (3, 4, 5)}) == 3


def test_default_names_and_folders() -> None:
    before = names()
    files.apply_seeds("m.pt", range(2), no_report=True, **LINE)
    assert names() - before == {"m.pruned.seed0.pt", "m.pruned.seed1.pt"}
    files.apply_seeds("shards", range(7, 9), **LINE)
    files.apply("shards", seed=8, output="one", **LINE)
    assert names() >= {"shards.pruned.seed7", "shards.pruned.seed8.report.json"}
    files.verify("shards.pruned.seed7")
    for path in Path("one").iterdir():
        assert path.read_bytes() == (Path("shards.pruned.seed8") / path.name).read_bytes()


def test_the_command_prints_a_path_a_line(capfd: pytest.CaptureFixture[str]) -> None:
    line = ["apply", "m.pt", "-p", "w*", "-a", "0.5", "--seeds", "0..2", "-o", "{seed}.pt"]
    before = names()
    assert run([*line, "--dry-run"]) == 0
    assert names() == before
    printed = capfd.readouterr()
    assert "would write 2.pt, seed 2; nothing is written" in printed.err
    assert "seed =" not in printed.out  # the recipe is that of all seeds
    assert run([*line, "--report", "r{seed}.json"]) == 0
    printed = capfd.readouterr()
    assert printed.out == "0.pt\n1.pt\n2.pt\n"
    assert "seed 1: 1,135 of 2,270 elements pruned" in printed.err
    assert names() - before == {f"{seed}.pt" for seed in range(3)} | {f"r{seed}.json" for seed in range(3)}


def test_nothing_appears_if_one_exists_or_cannot_be_written() -> None:
    Path("o2.pt").write_text("mine")
    before = names()
    with pytest.raises(OutputError, match=r"o2\.pt exists"):
        files.apply_seeds("m.pt", "0..3", output="o{seed}.pt", **LINE)
    Path("o2.pt").unlink()
    Path("2").write_text("not a folder")
    for number in (0, 1):
        Path(f"{number}").mkdir()
    before = names()
    with pytest.raises(OutputError):
        files.apply_seeds("m.pt", "0..3", output="{seed}/o.pt", **LINE)
    assert names() == before
    assert not any(Path("0").iterdir())
    assert not any(Path("1").iterdir())


@pytest.mark.parametrize("source", ["m.pt", "shards"])
@pytest.mark.parametrize("force", [False, True])
def test_what_is_published_is_taken_back_if_the_last_one_fails(
    source: str, force: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if force:
        files.apply_seeds(source, "0..2", output="o{seed}", amount=0.9, params="w*")
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    publish = staged._Waiting.publish

    def failing(self: Any) -> None:
        if self.output.path.name == "o2.report.json":
            raise OSError(5, "Input/output error")
        publish(self)

    monkeypatch.setattr(staged._Waiting, "publish", failing)
    with pytest.raises(OutputError, match=r"o2\.report\.json"):
        files.apply_seeds(source, "0..2", output="o{seed}", force=force, **LINE)
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before


def test_an_output_that_appears_meanwhile_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    publish = LocalFile.publish

    def late(self: LocalFile, made: Path) -> None:
        if self.path.name == "o1.pt":
            self.final.write_text("somebody's")
        publish(self, made)

    monkeypatch.setattr(LocalFile, "publish", late)
    before = names()
    with pytest.raises(OutputError, match=r"o1\.pt appeared meanwhile"):
        files.apply_seeds("m.pt", "0..2", output="o{seed}.pt", **LINE)
    assert names() - before == {"o1.pt"}
    assert Path("o1.pt").read_text() == "somebody's"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--seeds", "3"], "is not a range of seeds; write 0..19"),
        (["--seeds", "5..4"], "is not a range"),
        (["--seeds", "-1..4"], "is not a range"),
        (["--seeds", "0..10000"], "asks for more than 10,000 outputs"),
        (["--seeds", "0..1", "-o", "x.pt"], "-o x.pt has no {seed} in it"),
        (["--seeds", "0..1", "-o", "-"], "-o - has no {seed} in it"),
        (["--seeds", "0..1", "--report", "-"], "--report - has no {seed} in it"),
        (["--seeds", "0..1", "--seed", "1"], "which --seed contradicts"),
        (["--seeds", "0..1", "--resume"], "which --resume contradicts"),
        (["--seeds", "0..1", "-o", "s3://bucket/{seed}/x"], "which only this machine can"),
    ],
)
def test_what_contradicts_itself(arguments: list[str], words: str, capfd: pytest.CaptureFixture[str]) -> None:
    before = names()
    assert run(["apply", "m.pt", "-p", "w*", "-a", "0.5", *arguments]) == 2
    assert words in capfd.readouterr().err
    assert names() == before


def test_seeds_have_a_limit() -> None:
    assert parse_seeds("0..19") == range(20)
    assert parse_seeds(range(1, 6, 2)) == range(1, 6, 2)
    with pytest.raises(UsageError, match="whole number"):
        parse_seeds(f"{1 << 128}..{1 << 128}")
    with pytest.raises(UsageError, match="which masks contradicts"):
        files.apply_seeds("m.pt", "0..1", masks="m.pt", params="w")
    with pytest.raises(PrunecliError):
        files.apply_seeds("m.pt", range(4, 4), **LINE)
    assert torch.load("m.pt")["w.weight"].shape == (40, 50)

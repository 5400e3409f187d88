"""`apply --masks` gives a checkpoint the masks of a file: those that were drawn, extracted and given agree in bytes."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from component_zoo import make_pipeline
from folder_zoo import make_folder
from rank_threads import by_ranks
from safetensors.torch import load_file, save_file
from spread_zoo import contents
from surgery_zoo import noise
from torch import Tensor

from prunecli import files
from prunecli.cli.app import run
from prunecli.errors import DamagedError, OutputError, UsageError
from prunecli.formats.base import ReadOptions
from prunecli.formats.io.sinks import FileSink
from prunecli.surgery.apply import ApplyOptions, GivenMaskOptions, RequestOverrides
from prunecli.surgery.listing import Listener
from prunecli.surgery.prepare import prepare_apply
from prunecli.surgery.report.codec import parse_report, render_json
from prunecli.surgery.run.destination import Destination
from prunecli.surgery.run.options import Run
from prunecli.surgery.run.ranks import Ranks


@pytest.fixture(autouse=True)
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def state() -> dict[str, Tensor]:
    return {"a.weight": noise((9, 7)), "b.weight": noise((6, 5), seed=2), "b.bias": noise((5,), seed=3)}


def legacy(path: Path) -> None:
    torch.save(state(), path, _use_new_zipfile_serialization=False)


def strided(path: Path) -> None:
    whole = state()
    torch.save({"a.weight": whole["a.weight"].t(), "tied.weight": whole["b.weight"], **whole}, path)


KINDS: Mapping[str, Callable[[Path], object]] = {
    "safetensors": lambda path: save_file(state(), path),
    "torch": lambda path: torch.save(state(), path),
    "legacy": legacy,
    "strided": strided,
    "shards": lambda path: make_folder(path, [{"a.weight": noise((9, 7))}, {"b.weight": noise((6, 5))}]),
    "bin": lambda path: make_folder(path, [{"a.weight": noise((9, 7))}, {"b.weight": noise((6, 5))}], ".bin"),
    "pipeline": make_pipeline,
}


def in_ranks(size: int, source: str, masks: str, output: str, **options: Any) -> Any:
    def work(ranks: Ranks) -> Any:
        asked = ApplyOptions(None, None, False, RequestOverrides(**options), masks=GivenMaskOptions(masks))
        destination, run = Destination(Path(output)), Run(2, ranks=ranks)
        with prepare_apply(Path(source), asked, destination, ReadOptions(), run, Listener()) as job:
            return job.rewrite()

    return by_ranks(size, work)[0]


@pytest.mark.parametrize("kind", KINDS)
def test_masks_that_were_extracted_give_the_same_bytes(kind: str) -> None:
    KINDS[kind](Path("plain"))
    drawn = files.apply("plain", params="*.weight", amount=0.4, output="masked", no_report=True)
    files.remove("masked", output="baked", no_report=True)
    files.mask_extract("masked", output="masks.safetensors")
    files.mask_extract("masked", output="bits.safetensors", bits=True)
    for number, masks in enumerate(("masks.safetensors", "bits.safetensors", "masked")):
        report = files.apply("plain", masks=masks, output=f"again{number}")
        assert contents(Path(f"again{number}")) == contents(Path("masked"))
        assert report.totals == drawn.totals
        assert files.verify(f"again{number}").differences == []
    for ranks in (1, 2):
        report = in_ranks(ranks, "plain", "bits.safetensors", f"ranks{ranks}", remove=True)
        assert contents(Path(f"ranks{ranks}")) == contents(Path("baked"))
        assert report.totals.pruned_now == drawn.totals.pruned_now


def test_the_report_has_the_masks_and_no_seed() -> None:
    save_file(state(), "plain")
    keep = {"a.weight": torch.rand(9, 7) < 0.5}
    torch.save(keep, "mask.pth")
    report = files.apply("plain", masks="mask.pth", output="out", bake=True)
    document = json.loads(Path("out.report.json").read_bytes())
    assert (document["schema"], document["method"], document["seed"]) == ("prunecli.report/2", "masks", None)
    row = report.parameters[0]
    assert (row.name, row.pruned_now) == ("a.weight", int((~keep["a.weight"]).sum()))
    assert row.choice["given_sha256"] == row.mask_sha256  # the checkpoint had no mask before
    read = parse_report(render_json(report), "it")
    assert (read.prune, read.parameters) == (report.prune, tuple(report.parameters))


def test_a_masked_checkpoint_gets_the_intersection(capsys: pytest.CaptureFixture[str]) -> None:
    save_file(state(), "plain")
    files.apply("plain", params="*.weight", amount=0.5, seed=1, output="masked")
    files.apply("plain", params="*.weight", amount=0.5, seed=2, output="other")
    assert run(["apply", "masked", "--masks", "other", "-o", "both"]) == 0
    one, two, both = (load_file(path) for path in ("masked", "other", "both"))
    for name in ("a.weight_mask", "b.weight_mask"):
        assert torch.equal(both[name], one[name] & two[name])
    pruned = int((~one["a.weight_mask"]).sum() + (~one["b.weight_mask"]).sum())
    assert f"note: {pruned} of 93 elements were pruned already" in capsys.readouterr().err
    rows = {each["name"]: each for each in json.loads(Path("both.report.json").read_bytes())["parameters"]}
    assert rows["a.weight"]["pruned_now"] == int((one["a.weight_mask"] & ~two["a.weight_mask"]).sum())
    assert run(["apply", "both", "--masks", "other", "-o", "again"]) == 0
    assert "no element is pruned: the masks drop none" in capsys.readouterr().err
    assert Path("again").read_bytes() == Path("both").read_bytes()


def test_names_pair_as_those_of_a_selection_do() -> None:
    mask = torch.rand(9, 7) < 0.5
    torch.save({"module.a.weight": noise((9, 7)), "module.c": noise((2,))}, "wrapped.pt")
    save_file({"a.weight": mask}, "masks")
    files.apply("wrapped.pt", masks="masks", output="out.pt")
    found = torch.load("out.pt")
    assert list(found) == ["module.a.weight_orig", "module.a.weight_mask", "module.c"]
    assert torch.equal(found["module.a.weight_mask"], mask)


def test_tied_parameters_share_a_mask_and_refuse_two() -> None:
    weight, mask = noise((4, 6)), torch.rand(4, 6) < 0.5
    torch.save({"a": weight, "b": weight}, "tied.pt")
    save_file({"b": mask}, "masks")
    files.apply("tied.pt", masks="masks", bake=True, output="out.pt")
    found = torch.load("out.pt")
    assert torch.equal(found["a"], weight * mask)
    assert found["a"].data_ptr() == found["b"].data_ptr()
    files.apply("tied.pt", masks="masks", untie=True, output="apart.pt")
    assert list(torch.load("apart.pt")) == ["a", "b_orig", "b_mask"]
    save_file({"b": mask, "a": ~mask}, "masks")
    with pytest.raises(UsageError, match="a and b are tied, and masks has different masks of them"):
        files.apply("tied.pt", masks="masks", bake=True, output="no.pt")


def test_names_on_one_side_and_other_shapes_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    save_file(state(), "plain")
    masks = {"a.weight": torch.rand(9, 7) < 0.5, "gone.weight": torch.ones(2, dtype=torch.bool)}
    save_file(masks, "masks")
    refused = {
        ("--masks", "masks"): "plain has no gone.weight, of which masks has masks; --missing kept goes on",
        (
            "-p",
            "*",
            "--masks",
            "plain",
        ): "plain has no masks (a.weight has other values than 0 and 1); make a mask file of its zeros",
        ("-p", "b.*", "--masks", "masks", "--missing", "kept"): "has no mask of a parameter",
    }
    for arguments, words in refused.items():
        assert run(["apply", "plain", *arguments, "-o", "out"]) == 2
        assert words in capsys.readouterr().err
    save_file({"a.weight": masks["a.weight"]}, "one")
    assert run(["apply", "plain", "-p", "*", "--masks", "one", "-o", "out"]) == 2
    assert "one has no masks of b.bias, b.weight; --missing kept" in capsys.readouterr().err
    assert run(["apply", "plain", "-p", "*", "--masks", "masks", "--missing", "kept", "-o", "out"]) == 0
    err = capsys.readouterr().err
    assert "note: without a parameter, and left out: masks of gone.weight" in err
    assert "note: without a mask, and kept: b.bias, b.weight" in err
    assert set(load_file("out")) == {"a.weight_orig", "a.weight_mask", "b.weight", "b.bias"}
    save_file({"a.weight": torch.ones(7, 9, dtype=torch.bool)}, "masks")
    assert run(["apply", "plain", "--masks", "masks", "--missing", "kept", "-o", "no"]) == 2
    assert "shapes differ: a.weight is [9, 7], and its mask [7, 9]" in capsys.readouterr().err
    assert not Path("no").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"amount": 0.5}, "masks and amount both say what is pruned"),
        ({"params": "*", "amount": 0.5, "global_": True}, "masks and amount both"),
        ({"recipe": "r.toml"}, "masks and recipe both"),
        ({"seed": 3}, "masks and seed both"),
        ({"per_slice": True}, "masks and per_slice=True both"),
        ({"like": "other"}, "masks and like both"),
        ({"zeros_are_pruned": True}, "masks and zeros_are_pruned=True both"),
        ({"masks": None, "params": "*", "amount": 1, "missing": "kept"}, "missing='kept' is about masks"),
        ({"missing": "dropped"}, "missing is dropped; the only choice is 'kept'"),
    ],
)
def test_options_that_contradict_given_masks(options: dict[str, Any], words: str) -> None:
    save_file(state(), "plain")
    with pytest.raises(UsageError, match=words):
        files.apply("plain", **{"masks": "masks", **options})


def test_a_replay_needs_the_same_masks() -> None:
    save_file(state(), "plain")
    save_file({name: tensor + 1 for name, tensor in state().items()}, "later")
    files.apply("plain", params="*.weight", amount=0.5, output="masked")
    files.mask_extract("masked", output="masks")
    files.mask_invert("masks", output="inverted")
    files.apply("plain", masks="masks", output="out")
    files.apply("later", from_report="out.report.json", masks="masks", output="again")
    found, masks = load_file("again"), load_file("masks")
    assert all(torch.equal(found[f"{name}_mask"], mask) for name, mask in masks.items())
    refused: tuple[tuple[dict[str, Any], str], ...] = (
        ({"masks": "inverted"}, "the mask of a.weight in masks is not the one that the report records"),
        ({}, "the masks are those of a file; give that with masks"),
        ({"masks": "masks", "from_report": "masked.report.json"}, "not given by a file; leave masks out"),
    )
    for options, words in refused:
        with pytest.raises(UsageError, match=words):
            files.apply("later", **{"from_report": "out.report.json", "output": "no", **options})
    save_file({"a.weight": masks["a.weight"]}, "one")
    with pytest.raises(UsageError, match=r"there is no mask of b\.weight"):
        files.apply("later", from_report="out.report.json", masks="one", output="no")


def test_an_interrupted_run_resumes_with_the_same_masks_only(monkeypatch: pytest.MonkeyPatch) -> None:
    KINDS["shards"](Path("plain"))
    files.apply("plain", params="*.weight", amount=0.5, output="masked")
    files.mask_extract("masked", output="masks")
    files.mask_invert("masks", output="inverted")
    write, left = FileSink.write, iter(range(3))

    def fail(sink: FileSink, data: memoryview, offset: int) -> None:
        if next(left, None) is None:
            raise OSError(28, "No space left on device")
        write(sink, data, offset)

    with monkeypatch.context() as patched:
        patched.setattr(FileSink, "write", fail)
        with pytest.raises(OutputError):
            files.apply("plain", masks="masks", output="out", resume=True)
    with pytest.raises(UsageError, match="unfinished"):
        files.apply("plain", masks="inverted", output="out", resume=True)
    files.apply("plain", masks="masks", output="out", resume=True)
    assert contents(Path("out")) == contents(Path("masked"))


def test_bad_masks_write_nothing() -> None:
    save_file(state(), "plain")
    files.apply("plain", params="a.weight", amount=0.5, output="masked", no_report=True)
    files.mask_extract("masked", output="masks")
    Path("masked").unlink()
    whole = Path("masks").read_bytes()
    for content, words in ((whole[:-1] + b"\2", r"a value other than 0 and 1, at \[8, 6\]"), (whole[:-9], "masks")):
        Path("masks").write_bytes(content)
        with pytest.raises(DamagedError, match=words):
            files.apply("plain", masks="masks", output="out")
    assert sorted(each.name for each in Path().iterdir()) == ["masks", "plain"]

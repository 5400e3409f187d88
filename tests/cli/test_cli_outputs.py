"""Where outputs and reports go, what each stream carries, and the commands remove, report and params."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

Cli = Callable[..., Any]
Refusal = Callable[..., str]
pytestmark = pytest.mark.usefixtures("folder")
FC1 = ("-p", "fc1.weight", "-a", "0.5", "--seed", "1")


@pytest.mark.parametrize(
    ("name", "output", "report"),
    [
        ("m.pt", "m.pruned.pt", "m.pruned.pt.report.json"),
        ("m.pth.tar", "m.pruned.pth.tar", "m.pruned.pth.tar.report.json"),
        ("llama-3.1-8b.safetensors", "llama-3.1-8b.pruned.safetensors", "llama-3.1-8b.pruned.safetensors.report.json"),
        ("epoch=3-loss=0.25.ckpt", "epoch=3-loss=0.25.pruned.ckpt", "epoch=3-loss=0.25.pruned.ckpt.report.json"),
        ("checkpoint", "checkpoint.pruned", "checkpoint.pruned.report.json"),
        ("model.v1.5", "model.v1.5.pruned", "model.v1.5.pruned.report.json"),
        ("with space and ü.pt", "with space and ü.pruned.pt", "with space and ü.pruned.pt.report.json"),
    ],
)
def test_default_names(cli: Cli, folder: Path, name: str, output: str, report: str) -> None:
    Path("in").mkdir()
    Path("model.safetensors" if "safetensors" in name else "model.pt").rename(Path("in", name))
    outcome = cli("apply", f"in/{name}", *FC1)
    assert outcome.out == f"in/{output}\n"
    assert sorted(path.name for path in Path("in").iterdir()) == sorted([name, output, report])


def test_a_report_whose_output_is_gone_is_replaced(cli: Cli) -> None:
    assert cli("apply", "model.pt", *FC1).code == 0
    before = Path("model.pruned.pt.report.json").read_bytes()
    Path("model.pruned.pt").unlink()
    assert cli("apply", "model.pt", *FC1, "--zeros-are-pruned").code == 0
    assert Path("model.pruned.pt.report.json").read_bytes() != before


def test_anything_else_in_the_report_s_way_is_noted_with_its_own_option(cli: Cli) -> None:
    place = Path("model.pruned.pt.report.json")
    cli("report", "model.pt", "--format", "json", "-o", place)
    for content in (place.read_bytes(), b"{}", b"mine"):
        place.write_bytes(content)
        outcome = cli("apply", "model.pt", *FC1)
        assert outcome.code == 6
        assert "model.pruned.pt.report.json exists; name another output with --report" in outcome.err
        assert not Path("model.pruned.pt").exists()
        assert place.read_bytes() == content


def test_the_last_line_names_what_was_written(cli: Cli) -> None:
    sizes = []
    for more, what in (
        (["-o", "a.pt"], "a.pt ({}), report a.pt.report.json"),
        (["-o", "b.pt", "--no-report"], "b.pt ({})"),
        (["-o", "c d.pt", "--report", "e.json"], "'c d.pt' ({}), report e.json"),
        (["-o", "-"], "{} to standard output"),
    ):
        outcome = cli("apply", "model.pt", *FC1, *more)
        found = re.search(r"[0-9.]+ kB", line := outcome.err.splitlines()[-1])
        assert found
        assert line == f"wrote {what.format(found[0])}"
        sizes.append(found[0])
        assert outcome.raw.endswith(b".pt\n") or more[-1] == "-"
    assert sizes == [f"{Path('a.pt').stat().st_size / 1000:.0f} kB"] * 4
    assert cli("apply", "model.pt", *FC1, "-o", "f.pt", "-q").err == ""


def test_two_files_with_one_stem_have_a_report_each(cli: Cli) -> None:
    for name in ("model.pt", "model.safetensors"):
        assert cli("apply", name, *FC1).code == 0
    for name in ("model.pruned.pt", "model.pruned.safetensors"):
        assert json.loads(Path(f"{name}.report.json").read_text())["output"]["path"] == name
        assert cli("verify", name).code == 0


def test_default_names_of_remove(cli: Cli) -> None:
    assert cli("apply", "model.pt", *FC1).code == 0
    outcome = cli("remove", "model.pruned.pt")
    assert outcome.out == "model.baked.pt\n"
    assert Path("model.baked.pt.report.json").exists()


def test_a_path_that_is_no_text_comes_out_as_it_is(cli: Cli) -> None:
    name = os.fsdecode(b"caf\xe9\n.pt")
    Path("model.pt").rename(name)
    outcome = cli("apply", name, *FC1)
    assert (outcome.code, outcome.err.isascii()) == (0, True)
    assert outcome.out == os.fsdecode(b"caf\xe9\n.pruned.pt\n")


def test_output_and_report_where_asked(cli: Cli, folder: Path) -> None:
    Path("a").mkdir()
    outcome = cli("apply", "model.pt", *FC1, "-o", "a/x.bin", "--report", "a/y.json")
    assert outcome.out == "a/x.bin\n"
    assert sorted(path.name for path in folder.iterdir()) == ["a", "model.pt", "model.safetensors"]
    assert sorted(path.name for path in Path("a").iterdir()) == ["x.bin", "y.json"]


def test_no_report(cli: Cli, folder: Path) -> None:
    assert cli("apply", "model.pt", *FC1, "--no-report").out == "model.pruned.pt\n"
    assert {path.name for path in folder.iterdir()} == {"model.pt", "model.safetensors", "model.pruned.pt"}


def test_the_report_on_stdout_is_the_one_in_the_file(cli: Cli) -> None:
    on_stdout = cli("apply", "model.pt", *FC1, "--report", "-", "-o", "x.pt")
    assert not Path("x.pt.report.json").exists()
    cli("apply", "model.pt", *FC1, "-o", "x.pt", "--force")
    assert Path("x.pt.report.json").read_text() == on_stdout.out


def test_the_report_of_apply(cli: Cli) -> None:
    found = cli("apply", "model.pt", *FC1, "--report", "-").json
    assert found["schema"] == "prunecli.report/1"
    assert (found["command"], found["seed"], found["remove"]) == ("apply", 1, False)
    assert found["groups"] == [{"params": ["fc1.weight"], "exclude": [], "min_dim": 0, "amount": 0.5, "global": False}]
    assert found["source"] == {"path": "model.pt", "format": "torch zip", "bytes": Path("model.pt").stat().st_size}
    written = Path("model.pruned.pt").stat().st_size
    assert found["output"] == {"path": "model.pruned.pt", "format": "torch zip", "bytes": written}
    (fc1,) = [each for each in found["parameters"] if each["name"] == "fc1.weight"]
    expected = {
        "module": "fc1",
        "shape": [64, 512],
        "dtype": "float32",
        "elements": 32768,
        "zeros_before": 0,
        "zeros": 16384,
        "sparsity": 0.5,
        "state": "masked",
        "pruned_now": 16384,
        "tied_to": [],
    }
    assert {key: fc1[key] for key in expected} == expected


def test_the_table_goes_to_stderr(cli: Cli) -> None:
    outcome = cli("apply", "model.pt", *FC1)
    assert outcome.out == "model.pruned.pt\n"
    rows = [line.split() for line in outcome.err.splitlines()]
    assert ["fc1.weight", "64x512", "float32", "masked", "32,768", "16,384", "50.00%", "16,384"] in rows


@pytest.mark.parametrize("source", ["model.pt", "model.safetensors"])
@pytest.mark.parametrize("form", [["--remove"], []], ids=["bake", "mask"])
def test_streams_carry_what_files_do(
    cli: Cli, capfdbinary: pytest.CaptureFixture[bytes], source: str, form: list[str]
) -> None:
    assert cli("apply", source, *FC1, *form, "-o", "file").code == 0
    from_stdin = cli("apply", "-", *FC1, *form, "-o", "stream", stdin=Path(source))
    assert from_stdin.out == "stream\n"
    assert Path("stream").read_bytes() == Path("file").read_bytes()
    outcome = cli("apply", "-", *FC1, *form, "-o", "-", stdin=Path(source))
    assert outcome.code == 0
    assert outcome.raw == Path("file").read_bytes()
    assert outcome.err != ""


def test_a_stream_with_its_report_in_a_file(cli: Cli) -> None:
    outcome = cli("apply", "-", *FC1, "-o", "-", "--report", "r.json", stdin=Path("model.pt"))
    found = json.loads(Path("r.json").read_text())
    assert (found["source"]["path"], found["output"]["path"]) == (None, None)
    assert found["output"]["bytes"] == len(outcome.raw)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_remove_bakes_what_apply_masked(cli: Cli, suffix: str) -> None:
    line = ["apply", f"model{suffix}", "-p", "fc*.weight", "-a", "0.5", "--seed", 1]
    assert cli(*line).code == 0
    assert cli(*line, "--remove", "-o", f"d{suffix}").code == 0
    baked = cli("remove", f"model.pruned{suffix}", "--report", "-").json
    assert {each["name"]: each["state"] for each in baked["parameters"]}["fc1.weight"] == "baked"
    one, other = tensors(f"model.baked{suffix}"), tensors(f"d{suffix}")
    assert set(one) == set(other)
    assert all(np.array_equal(one[each], other[each]) for each in one)


def tensors(path: str) -> dict[str, Any]:
    if path.endswith("safetensors"):
        return dict(load_file(path))
    return {name: tensor.numpy() for name, tensor in torch.load(path, weights_only=True)["state_dict"].items()}


def test_remove_of_selected_masks_leaves_the_others(cli: Cli) -> None:
    assert cli("apply", "model.pt", "-p", "fc*.weight", "-a", "0.5").code == 0
    assert cli("remove", "model.pruned.pt", "-p", "fc1.weight", "-o", "x.pt").code == 0
    names = set(tensors("x.pt"))
    assert {"fc1.weight", "fc2.weight_orig", "fc2.weight_mask"} <= names
    assert "fc1.weight_mask" not in names
    assert cli("remove", "model.pruned.pt", "-x", "fc1.weight", "-p", "*.weight", "-o", "y.pt", "--dry-run").code == 0
    assert not Path("y.pt").exists()


def test_remove_dry_run(cli: Cli, folder: Path) -> None:
    assert cli("apply", "model.pt", *FC1).code == 0
    before = sorted(folder.iterdir())
    outcome = cli("remove", "model.pruned.pt", "--dry-run")
    assert sorted(folder.iterdir()) == before
    assert outcome.err.splitlines()[-1] == "would write model.baked.pt; nothing is written"
    assert "fc1.weight" in outcome.err
    assert outcome.out == ""


@pytest.mark.parametrize("source", ["model.pt", "model.safetensors"])
def test_report_counts_from_the_data(cli: Cli, source: str) -> None:
    output = f"b{Path(source).suffix}"
    assert cli("apply", source, *FC1, "--remove", "-o", output).code == 0
    found = cli("report", output, "--format", "json")
    assert found.err == ""
    zeros = {each["name"]: each["zeros"] for each in found.json["parameters"]}
    counted = {name: int(np.count_nonzero(data == 0)) for name, data in tensors(output).items() if name in zeros}
    assert zeros == counted
    assert zeros["fc1.weight"] == 16384
    assert "bn1.running_mean" not in zeros
    totals = found.json["totals"]
    assert totals["zeros"] == sum(zeros.values())
    assert totals["sparsity"] == totals["zeros"] / totals["elements"]


def test_report_of_selected_parameters(cli: Cli) -> None:
    found = cli("report", "model.pt", "-p", "fc*", "-x", "*.bias", "--format", "json").json
    assert [each["name"] for each in found["parameters"]] == ["fc1.weight", "fc2.weight"]
    exact = cli("report", "model.pt", "-p", "bn1.running_mean", "--format", "json").json
    assert [each["name"] for each in exact["parameters"]] == ["bn1.running_mean"]


def test_report_as_a_table(cli: Cli) -> None:
    outcome = cli("report", "model.pt", "--format", "table")
    assert outcome.err == ""
    lines = [line.split() for line in outcome.out.splitlines()]
    assert ["fc1.weight", "64x512", "float32", "dense", "32,768", "0", "0.00%"] in lines
    assert ["fc1", "32,832", "0", "0.00%"] in lines
    assert ["parameters", "12"] in lines
    assert ["elements", "38,378"] in lines


def test_report_into_a_file(cli: Cli) -> None:
    assert cli("report", "model.pt", "--format", "json", "-o", "r.json").out == "r.json\n"
    assert json.loads(Path("r.json").read_text())["command"] == "report"
    assert cli("report", "model.pt", "-o", "r.json").code == 6
    assert cli("report", "model.pt", "-o", "r.json", "--force").code == 0
    assert Path("r.json").read_text() == cli("report", "model.pt", "--format", "json", "-o", "-").out


def test_fail_under(cli: Cli) -> None:
    assert cli("apply", "model.pt", *FC1, "--remove", "-o", "b.pt").code == 0
    half = ("report", "b.pt", "-p", "fc1.weight", "--format", "json", "--fail-under")
    assert cli(*half, "0.5").code == 0
    outcome = cli(*half, "0.500001")
    assert outcome.code == 7
    assert outcome.json["totals"]["sparsity"] == 0.5
    assert outcome.err.startswith("prunecli: error: the sparsity is 50.00% (16,384 of 32,768), below --fail-under")


@pytest.mark.parametrize("source", ["model.pt", "model.safetensors"])
def test_params_in_plain_lines(cli: Cli, source: str) -> None:
    outcome = cli("params", source)
    assert (outcome.code, outcome.err) == (0, "")
    rows = [line.split("\t") for line in outcome.out.splitlines()]
    assert len(rows) == 18
    assert ["fc1.weight", "float32", "64x512", "dense"] in rows
    assert ["bn1.num_batches_tracked", "int64", "scalar", "statistic"] in rows
    chosen = cli("params", source, "-p", "*.weight", "-x", "bn*").out.splitlines()
    assert {line.split("\t")[0] for line in chosen} == {"conv1.weight", "conv2.weight", "fc1.weight", "fc2.weight"}


def test_params_of_a_masked_file(cli: Cli) -> None:
    assert cli("apply", "model.pt", *FC1).code == 0
    assert "fc1.weight\tfloat32\t64x512\tmasked\n" in cli("params", "model.pruned.pt").out
    assert "fc1.weight_mask" not in cli("params", "model.pruned.pt").out


def test_params_by_key(cli: Cli) -> None:
    torch.save({"student": {"a": torch.ones(8)}, "teacher": {"b": torch.ones(2, 4)}}, "pair.pt")
    assert cli("params", "pair.pt", "--key", "teacher").out == "b\tfloat32\t2x4\tdense\n"
    found = cli("report", "pair.pt", "--key", "student", "--format", "json").json
    assert [each["name"] for each in found["parameters"]] == ["a"]


def test_params_from_stdin(cli: Cli) -> None:
    assert cli("params", "-", stdin=Path("model.pt")).out == cli("params", "model.pt").out


def test_a_report_that_cannot_be_written_is_noted_with_its_own_option(refused: Refusal) -> None:
    """Its name is longer than the output's, so that it may be too long where that is not."""
    name = "m" * 247 + ".pt"
    Path("model.pt").rename(name)
    line = refused(6, "apply", name, *FC1, "-o", name, "--force")
    assert line.endswith(".pt.report.json: File name too long; choose a shorter name, or write elsewhere with --report")
    line = refused(6, "apply", name, *FC1, "-o", "out.pt", "--report", "none/r.json")
    assert line.endswith("No such file or directory; create its folder first, or write elsewhere with --report")

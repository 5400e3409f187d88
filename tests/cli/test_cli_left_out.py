"""The note on what was left out: one line, of apply and its rehearsal, and nothing where all was named."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

Cli = Callable[..., Any]
NOTE = "prunecli: note: left out: "
pytestmark = pytest.mark.usefixtures("folder")


@pytest.fixture
def train(folder: Path) -> str:
    state = {"fc.weight": torch.ones(8, 8), "bn.running_mean": torch.ones(4), "bn.running_var": torch.ones(4)}
    torch.save({"model": state, "generator": {"w": torch.ones(8, 4), "b": torch.ones(8)}}, folder / "train.pt")
    return "train.pt"


def notes(text: str) -> list[str]:
    return [line.removeprefix(NOTE) for line in text.splitlines() if line.startswith(NOTE)]


@pytest.mark.parametrize("more", [["-o", "out.pt"], ["--dry-run"], ["-o", "out.pt", "--remove", "--report", "-"]])
def test_apply_says_in_one_line_what_it_left_out(cli: Cli, train: str, more: list[str]) -> None:
    outcome = cli("apply", train, "-p", "*", "-a", "0.5", *more)
    assert outcome.code == 0
    assert notes(outcome.err) == ["2 in generator (36% of the bytes; --key '' takes the whole file), 2 statistics"]


@pytest.mark.parametrize("options", [["-p", "fc.weight"], ["-p", "*", "-q"]])
def test_nothing_is_said_of_exact_names_and_quietly(cli: Cli, train: str, options: list[str]) -> None:
    outcome = cli("apply", train, *options, "-a", "0.5", "-o", "out.pt")
    assert (outcome.code, notes(outcome.err)) == (0, [])


def test_the_key_that_the_note_names_takes_the_other_network(cli: Cli, train: str) -> None:
    outcome = cli("apply", train, "--key", "", "-p", "*", "-a", "0.5", "--remove", "-o", "out.pt")
    assert (outcome.code, notes(outcome.err)) == (0, ["2 statistics"])
    out = torch.load("out.pt", weights_only=True)
    assert [int((out[key][name] == 0).sum()) for key, name in (("model", "fc.weight"), ("generator", "w"))] == [32, 16]
    assert bool((out["model"]["bn.running_mean"] == 1).all())


def test_all_forms_of_the_report_have_it(cli: Cli, train: str) -> None:
    words = "2 in generator (36% of the bytes; --key '' takes the whole file), 2 statistics"
    assert f"left out        {words}\n" in cli("report", train, "--format", "table").out
    assert f"- left out: {words}\n" in cli("report", train, "--format", "markdown").out
    assert (
        "<dt>left out</dt><dd>2 in generator (36% of the bytes; --key &#x27;&#x27; takes"
        in cli("report", train, "--format", "html").out
    )
    rows = cli("report", train, "--format", "json").json["left_out"]
    assert [(row["role"], row["key"], row["tensors"], row["bytes"]) for row in rows] == [
        ("other network", "generator", 2, 160),
        ("statistic", None, 2, 32),
    ]


def test_rows_of_the_csv_have_a_role(cli: Cli, train: str) -> None:
    text = cli("report", train, "-p", "*", "-p", "bn.running_var", "--format", "csv").out
    roles = {row["name"]: row["role"] for row in csv.DictReader(io.StringIO(text))}
    assert roles == {"fc.weight": "parameter", "bn.running_var": "statistic"}


@pytest.mark.parametrize("style", ["table", "markdown", "html"])
def test_a_row_says_its_role_where_it_is_not_a_parameter(cli: Cli, train: str, style: str) -> None:
    text = cli("report", train, "-p", "fc.*", "-p", "bn.running_mean", "--format", style).out
    assert text.count("dense, statistic") == 1


def test_remove_says_which_masks_stay(cli: Cli) -> None:
    state = {"fc.weight_orig": torch.ones(4, 4), "fc.weight_mask": torch.ones(4, 4, dtype=torch.bool)}
    torch.save({**state, "attn.query_mask": torch.ones(3, dtype=torch.bool), "attn.query": torch.ones(3)}, "masked.pt")
    assert notes(cli("remove", "masked.pt", "-p", "fc.*", "-o", "all.pt").err) == []
    torch.save({**state, "x.sparse_mask_scores": torch.ones(4, 4), "x.weight": torch.ones(4, 4)}, "soft.pt")
    outcome = cli("remove", "soft.pt", "-o", "baked.pt")
    assert (outcome.code, notes(outcome.err)) == (0, ["1 soft mask"])


def test_of_packed_weights_alone_there_is_no_name_to_try(cli: Cli) -> None:
    packed = {"fc.qweight": torch.ones(4, 8, dtype=torch.int32), "fc.scales": torch.ones(1, 8)}
    torch.save({**packed, "fc.qzeros": torch.ones(1, 1, dtype=torch.int32), "head.weight": torch.ones(4, 4)}, "gptq.pt")
    line = cli("apply", "gptq.pt", "-p", "*.qweight", "-a", "0.5").err
    assert "takes none of them: 1 packed weight; none has elements to zero one by one" in line
    line = cli("apply", "gptq.pt", "-p", "fc.*", "-a", "0.5").err
    assert "1 packed weight" in line
    assert "an exact name takes anything that has a zero" in line


def test_the_parts_of_a_tensor_without_plain_elements_are_no_network(cli: Cli, folder: Path) -> None:
    torch.save({"s": torch.eye(4).to_sparse(), "w": torch.ones(8, 4)}, folder / "m.pt")
    outcome = cli("apply", "m.pt", "-p", "*", "-a", "0.5", "--remove", "-o", "out.pt")
    assert outcome.code == 0
    ((line,),) = [notes(outcome.err)]
    assert "tensor without plain elements" in line
    assert "--key" not in line
    listed = [line.split("\t") for line in cli("params", "m.pt", "--all").out.splitlines()]
    assert {row[3] for row in listed if row[0] != "w"} == {"tensor without plain elements"}
    out = torch.load("out.pt", weights_only=True)
    assert torch.equal(out["s"].to_dense(), torch.eye(4))
    assert int((out["w"] == 0).sum()) == 16


def test_what_an_index_does_not_name_is_recognised_by_its_shard_and_no_key_takes_it(cli: Cli, folder: Path) -> None:
    first, second = (f"model-0000{number}-of-00002.safetensors" for number in (1, 2))
    (folder / "m").mkdir()
    save_file({"a.weight": torch.ones(4, 4), "x.weight": torch.ones(4, 4)}, folder / "m" / first)
    save_file({"b.weight": torch.ones(4, 4)}, folder / "m" / second)
    index = {"metadata": {}, "weight_map": {"a.weight": first, "b.weight": second}}
    (folder / "m" / "model.safetensors.index.json").write_text(json.dumps(index))
    outcome = cli("apply", "m", "-p", "*", "-a", "0.5", "--remove", "-o", "out")
    assert (outcome.code, notes(outcome.err)) == (0, [f"1 in {first} (33% of the bytes)"])
    assert bool((load_file(folder / "out" / first)["x.weight"] == 1).all())


def test_trained_weights_beside_their_average_are_not_called_a_copy(cli: Cli, folder: Path) -> None:
    average, trained = {"w": torch.ones(4, 4)}, {"w": torch.ones(4, 4) + 1}
    state = {"n_averaged": torch.tensor(3)}
    torch.save({"state_dict": average, "current_model_state": trained, "averaging_state": state}, folder / "m.ckpt")
    outcome = cli("apply", "m.ckpt", "-p", "*", "-a", "0.5", "--remove", "-o", "out.ckpt")
    assert outcome.code == 0
    assert "the trained weights, from which training goes on, are under current_model_state" in outcome.err
    assert "1 tensor of the same name (current_model_state.w)" in outcome.err
    assert "cop" not in outcome.err


def test_an_exact_name_outside_the_state_dict_says_how_to_take_it(cli: Cli, train: str) -> None:
    request = ["apply", train, "-p", "generator.w", "-a", "0.5", "--remove", "-o", "out.pt"]
    outcome = cli(*request)
    assert outcome.code == 2
    assert outcome.err == (
        "prunecli: error: generator.w lies outside the state dict; --key '' makes it a part of that\n"
    )
    assert cli(*request, "--key", "").code == 0
    assert int((torch.load("out.pt", weights_only=True)["generator"]["w"] == 0).sum()) == 16

"""Checkpoints with more than a state dict in them, on the command line: keys in reports, and nothing to prune."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from prunecli.cli.app import run


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def net() -> dict[str, torch.Tensor]:
    return {"fc.weight": torch.ones(4, 4), "fc.bias": torch.ones(4)}


def zeros(path: str, *keys: str | int) -> int:
    found: Any = torch.load(path, weights_only=True)
    for key in keys:
        found = found[key]
    return int((found == 0).sum())


def test_a_key_is_in_the_report_and_verify_replay_and_baseline_go_by_it(capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"model": net(), "ema": net()}, "m.pt")
    assert run(["apply", "m.pt", "-p", "*.weight", "-a", "0.5", "--remove", "--key", "ema", "-o", "out.pt"]) == 0
    assert json.loads(Path("out.pt.report.json").read_text())["key"] == "ema"
    assert (zeros("out.pt", "ema", "fc.weight"), zeros("out.pt", "model", "fc.weight")) == (8, 0)
    assert run(["verify", "out.pt"]) == 0
    assert run(["verify", "out.pt", "--key", "model"]) == 7
    assert run(["apply", "m.pt", "--from-report", "out.pt.report.json", "-o", "again.pt"]) == 0
    assert Path("again.pt").read_bytes() == Path("out.pt").read_bytes()
    assert json.loads(Path("again.pt.report.json").read_text())["key"] == "ema"
    capsys.readouterr()
    assert run(["report", "out.pt", "--baseline", "m.pt", "-p", "fc.weight"]) == 0
    assert "50.00%" in capsys.readouterr().out


def test_a_key_on_the_command_line_wins_over_the_reports() -> None:
    torch.save({"model": net(), "ema": net()}, "m.pt")
    assert run(["apply", "m.pt", "-p", "*.weight", "-a", "0.5", "--remove", "--key", "ema", "-o", "out.pt"]) == 0
    assert run(["apply", "m.pt", "--from-report", "out.pt.report.json", "--key", "model", "-o", "other.pt"]) == 0
    assert (zeros("other.pt", "ema", "fc.weight"), zeros("other.pt", "model", "fc.weight")) == (0, 8)
    assert json.loads(Path("other.pt.report.json").read_text())["key"] == "model"


def test_a_reports_key_is_no_matter_to_a_safetensors_file(capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"model": net(), "ema": net()}, "m.pt")
    save_file(net(), "m.safetensors")
    assert run(["apply", "m.pt", "-p", "*.weight", "-a", "0.5", "--remove", "--key", "ema", "-o", "out.pt"]) == 0
    assert run(["apply", "m.safetensors", "--from-report", "out.pt.report.json", "-o", "out.safetensors"]) == 0
    assert run(["params", "m.safetensors", "--key", "ema"]) == 2


def test_reports_without_a_key_have_none_and_old_ones_are_read() -> None:
    torch.save({"model": net()}, "m.pt")
    assert run(["report", "m.pt", "-o", "r.json"]) == 0
    reported = json.loads(Path("r.json").read_text())
    assert reported.pop("key") is None
    Path("old.json").write_text(json.dumps(reported))
    assert run(["verify", "m.pt", "old.json"]) == 0


def test_averages_and_optimizers_one_level_down_are_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    moments = {"state": {0: {"exp_avg": torch.ones(4, 4)}}, "param_groups": [{"params": [0]}]}
    torch.save({"G": {"model": net(), "optimizer": moments}, "D": {"model": net(), "optimizer": moments}}, "gan.pt")
    assert run(["apply", "gan.pt", "-p", "*", "-a", "0.5", "--remove", "-o", "out.pt"]) == 0
    out = torch.load("out.pt", weights_only=True)
    for side in "GD":
        assert int((out[side]["model"]["fc.weight"] == 0).sum()) == 8
        assert out[side]["optimizer"]["state"][0]["exp_avg"].all()
    assert json.loads(Path("out.pt.report.json").read_text())["totals"]["elements"] == 40


def test_a_gate_over_nothing_fails(capsys: pytest.CaptureFixture[str]) -> None:
    save_file({"ids": torch.ones(3, dtype=torch.int64)}, "ids.safetensors")
    for gate in ("--fail-under", "--fail-over"):
        assert run(["report", "ids.safetensors", gate, "0.0"]) == 7
        assert "(0 of 0)" in capsys.readouterr().err


def test_selected_tensors_without_elements_are_refused_or_said(capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"module": {"a": torch.empty(0), "b": torch.empty(0)}}, "zero3.pt")
    assert run(["apply", "zero3.pt", "-p", "*", "-a", "0.5", "-o", "out.pt"]) == 2
    message = capsys.readouterr().err
    assert "all 2 selected tensors have no elements" in message
    assert "zero_to_fp32" in message
    assert not Path("out.pt").exists()
    torch.save({"a": torch.empty(0, 3), "b": torch.ones(4)}, "some.pt")
    assert run(["apply", "some.pt", "-p", "a", "-a", "0.5", "-o", "out.pt"]) == 2
    message = capsys.readouterr().err
    assert "a has no elements" in message
    assert "zero_to_fp32" not in message
    assert run(["apply", "some.pt", "-p", "*", "-a", "0.5", "-o", "out.pt"]) == 0
    assert "note: 1 selected tensor has no elements, a first" in capsys.readouterr().err


@pytest.mark.parametrize("amount", ["0", "0.0", "0.01"])
def test_an_amount_of_nothing_is_a_control_and_said(amount: str, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(net(), "m.pt")
    assert run(["apply", "m.pt", "-p", "fc.weight", "-a", amount, "--remove", "-o", "out.pt"]) == 0
    assert "note: no element is pruned: the amount comes to 0" in capsys.readouterr().err
    assert Path("out.pt").read_bytes() == Path("m.pt").read_bytes()


def test_what_holds_no_state_dict_ends_with_4_and_names_the_keys(capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"optimizer": {"state": {0: {"m": torch.ones(2)}}, "param_groups": []}, "epoch": 1}, "o.pt")
    assert run(["params", "o.pt"]) == 4
    assert "only optimizer state; --key reads one of these: optimizer" in capsys.readouterr().err


def optimizer_of(shape: tuple[int, ...]) -> dict[str, Any]:
    return {"state": {0: {"exp_avg": torch.ones(shape)}}, "param_groups": [{"params": [0], "lr": 0.1}]}


def test_with_state_zeroes_moments_and_is_part_of_reports_and_recipes(capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"model": net(), "optimizer": optimizer_of((4, 4))}, "m.pt")
    command = ["apply", "m.pt", "-p", "*weight", "-a", "0.5", "--remove", "--with-state", "--seed", "7"]
    assert run([*command, "-o", "out.pt"]) == 0
    notes = capsys.readouterr().err
    assert "further training" not in notes
    assert "left out" not in notes
    assert "note: --with-state also zeroes pruned elements in 1 tensor of optimizer state\n" in notes
    assert zeros("out.pt", "optimizer", "state", 0, "exp_avg") == 8
    reported = json.loads(Path("out.pt.report.json").read_text())
    assert (reported["with_state"], reported["parameters"][0]["zeroed"]) == (True, ["optimizer.state.0.exp_avg"])
    assert run(["apply", "m.pt", "--from-report", "out.pt.report.json", "-o", "again.pt"]) == 0
    assert Path("again.pt").read_bytes() == Path("out.pt").read_bytes()
    capsys.readouterr()
    assert run([*command, "--dry-run"]) == 0
    Path("recipe.toml").write_text(capsys.readouterr().out)
    assert run(["apply", "m.pt", "--recipe", "recipe.toml", "-o", "third.pt"]) == 0
    assert Path("third.pt").read_bytes() == Path("out.pt").read_bytes()


def test_with_state_is_refused_where_it_is_not_proven(capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"model": net(), "optimizer": optimizer_of((7,))}, "m.pt")
    assert run(["apply", "m.pt", "-p", "fc.weight", "-a", "0.5", "--with-state", "-o", "out.pt"]) == 2
    message = capsys.readouterr().err
    assert "not proven to be of fc.weight" in message
    assert message.endswith("leave --with-state out, and reset the optimizer before training goes on\n")
    assert not Path("out.pt").exists()


@pytest.mark.parametrize("name", ["optimizer.pt", "optimizer.bin", "zero_pp_rank_0_mp_rank_00_optim_states.pt"])
def test_optimizer_state_beside_the_file_is_said(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    save_file(net(), "model.safetensors")
    Path(name).write_bytes(b"whatever")
    assert run(["apply", "model.safetensors", "-p", "*", "-a", "0.5", "--remove", "-o", "out.safetensors"]) == 0
    said = f"note: optimizer state in {name} beside it is not pruned: further training can move pruned elements\n"
    assert said in capsys.readouterr().err

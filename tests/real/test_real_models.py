"""Published models that run: pickled modules and a TorchScript program compute what live ones do."""

from pathlib import Path

import pytest
import torch
from real_files import BEATNET, FILES, RXN, SEED, SILERO, code_of, load, raw, unpacked
from torch import Tensor, nn

from prunecli import RandomUnstructured
from prunecli.cli.app import run

pytestmark = pytest.mark.real


def bake(path: Path, *flags: str) -> Path:
    out = path.with_name(f"{path.stem}.baked{path.suffix}")
    command = ["apply", str(path), "-p", "*", "--min-dim", "2", "-a", "0.5", "--remove", "--seed", str(SEED)]
    assert run([*command, "-o", str(out), "-q", *flags]) == 0
    return out


def prune_live(module: nn.Module) -> None:
    """Zero what the file's prune drops, on the model in memory."""
    for name, parameter in module.named_parameters():
        if parameter.ndim > 1:
            method = RandomUnstructured(0.5, seed=SEED, key=name)
            with torch.no_grad():
                parameter.copy_(method.prune(parameter))


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_pickled_module_is_pruned_like_its_state_dict(tmp_path: Path, number: int) -> None:
    module = unpacked(BEATNET, f"BeatNet/models/model-{number}.pt", tmp_path)
    weights = unpacked(BEATNET, f"BeatNet/models/model_{number}_weights.pt", tmp_path)
    baked = bake(module, "--allow-foreign-objects")
    twin: dict[str, Tensor] = torch.load(bake(weights), weights_only=True, map_location="cpu")
    with code_of(unpacked(BEATNET, "BeatNet/model.py", tmp_path), "model"):
        state = torch.load(baked, weights_only=False, map_location="cpu").state_dict()
    assert list(state) == list(twin)
    assert all(raw(state[name]).equal(raw(twin[name])) for name in twin)


def test_a_pickled_module_runs(tmp_path: Path) -> None:
    module = unpacked(BEATNET, "BeatNet/models/model-1.pt", tmp_path)
    torch.manual_seed(0)
    sound = torch.randn(1, 20, 272)
    with code_of(unpacked(BEATNET, "BeatNet/model.py", tmp_path), "model"), torch.no_grad():
        files = (module, module, bake(module, "--allow-foreign-objects"))
        dense, live, baked = (torch.load(each, weights_only=False, map_location="cpu") for each in files)
        prune_live(live)
        for model in (dense, live, baked):
            model.hidden = model.cell = torch.zeros(2, 1, 150)  # these were pickled by an older version of the code
        pruned = baked(sound)
        assert torch.equal(pruned, live(sound))
        assert not torch.allclose(pruned, dense(sound))


def test_a_torchscript_program_runs(tmp_path: Path) -> None:
    path = unpacked(SILERO, "silero_vad/data/silero_vad.jit", tmp_path)
    real = next(real for real in FILES if real.format == "TorchScript")
    torch.manual_seed(0)
    sounds = [(torch.randn(1, 512), 16_000), (torch.randn(1, 256), 8_000)]
    dense, live, baked = (load(each, real, tmp_path) for each in (path, path, bake(path)))
    prune_live(live)
    for sound in sounds:
        for model in (dense, live, baked):
            model.reset_states()
        with torch.no_grad():
            pruned = baked(*sound)
            assert torch.equal(pruned, live(*sound))
            assert not torch.allclose(pruned, dense(*sound))


@pytest.mark.parametrize("flags", [[], ["--allow-foreign-objects"]])
def test_training_arguments_are_no_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str]
) -> None:
    path = unpacked("rxnmapper==0.4.3", f"{RXN}/training_args.bin", tmp_path)
    for command in (["params"], ["report"], ["apply", "-p", "*", "-a", "0.5", "--remove"]):
        code, says = 4, "it is a pickled argparse.Namespace, not a checkpoint"
        if command[0] == "apply" and not flags:
            code, says = 5, "objects that weights-only loading refuses (argparse.Namespace); --allow-foreign-objects"
        assert run([command[0], str(path), *command[1:], *flags]) == code
        out, err = capsys.readouterr()
        assert out == ""
        assert err.count("\n") == 1
        assert says in err


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_pickled_module_is_refused_unless_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    path = unpacked(BEATNET, f"BeatNet/models/model-{number}.pt", tmp_path)
    assert run(["params", str(path)]) == 5
    assert "model.BDA" in capsys.readouterr().err

"""Lightning's checkpoints: averages in the place of weights, masks that changed the order, training that goes on."""

from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_tools import library
from torch import Tensor, nn

from prunecli.cli.app import run
from prunecli.formats.base import ReadOptions
from prunecli.formats.opening import open_any

pl = library("lightning.pytorch")
pytestmark = [
    pytest.mark.foreign,
    pytest.mark.filterwarnings("ignore"),  # of loggers, workers and the like, which are not what is tested
]


class Model(pl.LightningModule):  # type: ignore[misc, name-defined, unused-ignore]
    """Two layers; the first one's weight is what is pruned."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 5), nn.Linear(5, 2)

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        result: Tensor = self.second(self.first(batch[0])).square().mean()
        return result

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=0.01)

    def train_dataloader(self) -> Any:
        torch.manual_seed(1)
        return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.randn(8, 6)), batch_size=2)


def trainer(folder: Path, *callbacks: Any, epochs: int) -> Any:
    return pl.Trainer(
        default_root_dir=folder,
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        callbacks=list(callbacks),
    )


class Saving(pl.Callback):  # type: ignore[misc, name-defined, unused-ignore]
    """Saves while training goes on: at its end, averages are copied over the weights."""

    def on_train_epoch_end(self, trainer: Any, _: Any) -> None:
        trainer.save_checkpoint(Path(trainer.default_root_dir) / "m.ckpt")


def fitted(folder: Path, *callbacks: Any) -> Path:
    torch.manual_seed(0)
    trainer(folder, *callbacks, Saving(), epochs=2).fit(Model())
    return folder / "m.ckpt"


def resumed(path: Path, *callbacks: Any) -> Model:
    model = Model()
    trainer(path.parent, *callbacks, epochs=3).fit(model, ckpt_path=path, weights_only=False)
    return model


def test_weight_averaging_is_described_rightly(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from lightning.pytorch.callbacks import WeightAveraging

    path = fitted(tmp_path, WeightAveraging())
    content = torch.load(path, weights_only=False)
    assert not torch.equal(content["state_dict"]["first.weight"], content["current_model_state"]["first.weight"])
    with open_any(path, ReadOptions(foreign=True)) as opened:
        assert list(opened.tensors) == list(content["state_dict"])
        within = {each.name.partition(".")[0]: each.within for each in opened.carried if "state" in each.name}
    assert within["current_model_state"] == ""
    assert within["averaging_state"] == "average"
    assert within["optimizer_states"] == "optimizer state"
    out, asked = tmp_path / "out.ckpt", ["-p", "first.weight", "-a", "0.5", "--remove", "--allow-foreign-objects"]
    assert run(["apply", str(path), *asked, "--key", "current_model_state", "-o", str(out)]) == 0
    pruned = torch.load(out, weights_only=False)
    assert int((pruned["current_model_state"]["first.weight"] == 0).sum()) == 15
    assert torch.equal(pruned["state_dict"]["first.weight"], content["state_dict"]["first.weight"])
    capsys.readouterr()
    assert run(["apply", str(path), *asked, "-o", str(tmp_path / "average.ckpt")]) == 0
    notes = capsys.readouterr().err
    assert "note: state_dict is a running average; the trained weights" in notes
    assert "are under current_model_state (--key current_model_state)" in notes
    resumed(out, WeightAveraging())


def test_with_state_goes_through_model_pruning_and_training_goes_on(tmp_path: Path) -> None:
    """The callback masks after the optimizer was made: in the file the weight is behind the bias, there it is not."""
    from lightning.pytorch.callbacks import ModelPruning

    def pruning(model: Model | None = None) -> Any:
        pairs = None if model is None else [(model.first, "weight")]
        return ModelPruning(
            "random_unstructured",
            parameters_to_prune=pairs,
            amount=0.2,
            make_pruning_permanent=False,
            apply_pruning=lambda epoch: epoch == 0,
        )

    torch.manual_seed(0)
    model = Model()
    first = trainer(tmp_path, pruning(model), epochs=2)
    first.fit(model)
    first.save_checkpoint(tmp_path / "m.ckpt")
    content = torch.load(tmp_path / "m.ckpt", weights_only=False)
    assert list(content["state_dict"])[:2] == ["first.bias", "first.weight_orig"]
    before = content["optimizer_states"][0]["state"]
    assert before[0]["exp_avg"].shape == (5, 6)
    out = tmp_path / "out.ckpt"
    asked = ["-p", "first.weight", "-a", "0.5", "--with-state", "--allow-foreign-objects", "-o", str(out)]
    assert run(["apply", str(tmp_path / "m.ckpt"), *asked]) == 0
    pruned = torch.load(out, weights_only=False)
    mask = pruned["state_dict"]["first.weight_mask"]
    after = pruned["optimizer_states"][0]["state"]
    for statistic in ("exp_avg", "exp_avg_sq"):
        assert torch.equal(after[0][statistic], before[0][statistic] * mask)
        assert all(torch.equal(after[number][statistic], before[number][statistic]) for number in (1, 2, 3))


def test_a_baked_checkpoint_trains_on(tmp_path: Path) -> None:
    path, out = fitted(tmp_path), tmp_path / "out.ckpt"
    asked = ["-p", "first.weight", "-a", "0.5", "--remove", "--with-state", "-o", str(out)]
    assert run(["apply", str(path), *asked]) == 0
    pruned = torch.load(out, weights_only=False)
    dropped = pruned["state_dict"]["first.weight"] == 0
    assert int(dropped.sum()) == 15
    assert torch.equal(pruned["optimizer_states"][0]["state"][0]["exp_avg"] == 0, dropped)
    assert resumed(out).first.weight.isfinite().all()

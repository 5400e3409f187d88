#!/usr/bin/env bash
# lightning 2.6.6: a run with the ModelPruning callback that is resumed from its checkpoint ends with fewer zeros.
#
# With its defaults, the callback bakes the masks into every checkpoint and records nothing of its own. `fit` with
# `ckpt_path` loads the zeros as plain weights, so that the optimizer moves them, and the next round prunes a dense
# layer: the schedule starts again while the epochs go on counting. With `make_pruning_permanent=False` the masks are
# saved, but resuming raises, since the callback makes no masks before the checkpoint is loaded.
#
# Seen (1,024 weights, half of what is left pruned each epoch): 960 zeros after 4 epochs; 768 after 2; 768 after 2 and,
# resumed, 2 more; after one step of the resumed run, none of the 768 zeros is left.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6 lightning==2.6.6
"$folder/venv/bin/python" -W ignore - "$folder" <<'PYTHON'
import logging
import sys

import lightning
import torch
from lightning.pytorch.callbacks import ModelPruning
from torch import nn
from torch.utils.data import DataLoader

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
torch.manual_seed(0)
batches = DataLoader(torch.randn(64, 32), batch_size=16)


class Net(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(32, 32)
        self.zeros = []

    def training_step(self, batch, index):
        self.zeros.append(int((self.layer.weight == 0).sum()))
        return (self.layer(batch) - batch.roll(1, 1)).square().mean()

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.01)


def fit(epochs, permanent=True, resume=None):
    torch.manual_seed(0)
    net = Net()
    callback = ModelPruning(
        "l1_unstructured", [(net.layer, "weight")], amount=0.5, make_pruning_permanent=permanent
    )
    trainer = lightning.Trainer(
        max_epochs=epochs,
        callbacks=[callback],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=sys.argv[1],
    )
    trainer.fit(net, batches, ckpt_path=resume)
    return net, trainer


def zeros(net):
    return int((net.layer.weight == 0).sum())


straight, _ = fit(4)
first, trainer = fit(2)
trainer.save_checkpoint(f"{sys.argv[1]}/baked.ckpt")
resumed, _ = fit(4, resume=f"{sys.argv[1]}/baked.ckpt")
print("4 epochs:", zeros(straight), "2 epochs:", zeros(first), "2, and resumed 2 more:", zeros(resumed))
print("at the first steps of the resumed run:", resumed.zeros[:3])
assert (zeros(straight), zeros(first), zeros(resumed)) == (960, 768, 768)
assert resumed.zeros[0] == 768 and max(resumed.zeros[1:3]) == 0

_, trainer = fit(2, permanent=False)
trainer.save_checkpoint(f"{sys.argv[1]}/masks.ckpt")
try:
    fit(4, permanent=False, resume=f"{sys.argv[1]}/masks.ckpt")
    raise SystemExit("resuming with masks was expected to raise")
except RuntimeError as error:
    print("with masks:", " ".join(str(error).split())[:120])
    assert "layer.weight_mask" in str(error)
PYTHON
echo "as stated"

"""Prune the digits net in memory and on disk, and compare: a training script and the shell produce the same masks.

    python examples/prune_live_model.py

prints a line for each pruned layer, the accuracy with the masks, and whether baking changes the accuracy.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from digits import DigitsNet, accuracy, load_split
from torch import Tensor

from prunecli import bake_module, prune_module

CHECKPOINT = Path(__file__).with_name("digits.pt")


def pruned_on_disk() -> dict[str, Tensor]:
    """Return the state dict of the checkpoint after the command line pruned it."""
    with tempfile.TemporaryDirectory() as folder:
        output = f"{folder}/digits.pruned.pt"
        options = ["-p", "fc*.weight", "-a", "0.5", "--seed", "7", "-q", "-o", output]
        command = [sys.executable, "-m", "prunecli", "apply", str(CHECKPOINT), *options]
        subprocess.run(command, check=True, capture_output=True)  # noqa: S603
        state: dict[str, Tensor] = torch.load(output, weights_only=True)["state_dict"]
    return state


def main() -> None:
    """Prune in memory and on disk, and print the comparison."""
    model = DigitsNet()
    model.load_state_dict(torch.load(CHECKPOINT, weights_only=True)["state_dict"])
    report = prune_module(model, "fc*.weight", 0.5, seed=7)

    on_disk = pruned_on_disk()
    for each in report.parameters:
        if each.pruned_now:
            mask = model.get_buffer(f"{each.name}_mask").bool()
            verdict = "equal" if torch.equal(mask, on_disk[f"{each.name}_mask"]) else "different"
            print(f"{each.name}: {each.pruned_now} of {each.elements} pruned, masks {verdict}")

    _, test = load_split()
    masked = accuracy(model, test)
    bake_module(model)
    print(f"{100 * masked:.1f} % with masks, {100 * accuracy(model, test):.1f} % baked")


if __name__ == "__main__":
    main()

"""Make one mask on request, so that another process can measure its memory.

Usage: `python mask_once.py torch|prunecli ELEMENTS`. Prints "ready", waits for a line, makes the mask, prints "done"
and the bytes of the mask, and keeps the mask until standard input ends.
"""

import importlib
import sys
from typing import Any

import torch

MODULES = {"torch": "torch.nn.utils.prune", "prunecli": "prunecli.modules.random_unstructured"}


def main() -> None:
    """Make the mask, after a small one, so that imports and one-time setup are not measured."""
    torch.set_num_threads(1)
    module: Any = importlib.import_module(MODULES[sys.argv[1]])
    method = module.RandomUnstructured(0.5)
    method.compute_mask(torch.ones(100), default_mask=torch.ones(100))
    tensor = torch.rand(int(sys.argv[2]))
    before = torch.ones_like(tensor)
    print("ready", flush=True)
    sys.stdin.readline()
    mask = method.compute_mask(tensor, default_mask=before)
    print("done", mask.nbytes, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()

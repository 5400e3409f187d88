"""Prune several layers together by magnitude on request, so that another process can measure the memory it takes.

Usage: `python global_once.py torch|prunecli|drop-in ELEMENTS`. Prints "ready", waits for a line, prunes, prints "done"
and the bytes of the masks and of the pruned weights, and keeps them until standard input ends.
"""

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

import prunecli

COLUMNS = 2048
LAYERS = 16

torch_prune: Any = importlib.import_module("torch.nn.utils.prune")  # its functions are untyped


def weights(elements: int) -> list[Tensor]:
    """Return random matrices with about as many elements together."""
    generator = torch.Generator().manual_seed(7)
    rows = max(1, elements // COLUMNS // LAYERS)
    return [torch.randn(rows, COLUMNS, generator=generator) for _ in range(LAYERS)]


def model_of(matrices: Sequence[Tensor]) -> nn.Sequential:
    """Return layers with these weights, which are not copied."""
    layers = [nn.Linear(each.shape[1], each.shape[0], bias=False, device="meta") for each in matrices]
    for layer, each in zip(layers, matrices, strict=True):
        layer.weight = nn.Parameter(each, requires_grad=False)
    return nn.Sequential(*layers)


def by_torch(model: nn.Module) -> None:
    """Prune the smaller half of all weights together, with torch."""
    torch_prune.global_unstructured(_pairs(model), torch_prune.L1Unstructured, amount=0.5)


def by_drop_in(model: nn.Module) -> None:
    """Do the same with the function of prunecli that has the name of torch's."""
    prunecli.global_unstructured(_pairs(model), prunecli.L1Unstructured, amount=0.5, seed=7)


def by_prunecli(model: nn.Module) -> None:
    """Do the same with `prune_module`."""
    prunecli.prune_module(model, "*.weight", 0.5, everywhere=True, method="l1", seed=7)


SIDES: Mapping[str, Callable[[nn.Module], None]] = {
    "torch": by_torch,
    "prunecli": by_prunecli,
    "drop-in": by_drop_in,
}


def _pairs(model: nn.Module) -> list[tuple[nn.Module, str]]:
    return [(each, "weight") for each in model.children()]


def main() -> None:
    """Prune once, after a small model, so that imports and one-time setup are not measured."""
    torch.set_num_threads(1)
    prune = SIDES[sys.argv[1]]
    prune(model_of(weights(1 << 20)))
    model = model_of(weights(int(sys.argv[2])))
    print("ready", flush=True)
    sys.stdin.readline()
    prune(model)
    masks = sum(each.nbytes for each in model.buffers())
    print("done", 2 * masks, flush=True)  # the pruned weights are as large
    sys.stdin.read()


if __name__ == "__main__":
    main()

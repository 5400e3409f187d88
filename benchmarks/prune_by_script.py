"""Prune without prunecli, as in a typical script: load, prune every weight with torch, make it permanent, save.

Usage: `python prune_by_script.py SOURCE OUTPUT AMOUNT`. The files are state dicts in torch's zip format.
"""

import importlib
import sys
from typing import Any

import torch
from torch import Tensor, nn

torch_prune: Any = importlib.import_module("torch.nn.utils.prune")  # its functions are untyped


def module_of(state: dict[str, Tensor]) -> nn.Module:
    """Return a tree of modules with `state` as its `state_dict`."""
    root = nn.Module()
    for name, tensor in state.items():
        *path, last = name.split(".")
        owner = root
        for part in path:
            if part not in owner._modules:
                owner.add_module(part, nn.Module())
            owner = owner.get_submodule(part)
        owner.register_parameter(last, nn.Parameter(tensor))
    return root


def main() -> None:
    """Prune the `weight` of every module."""
    source, output, amount = sys.argv[1:]
    root = module_of(torch.load(source, weights_only=True))
    for module in root.modules():
        if "weight" in module._parameters:
            torch_prune.random_unstructured(module, "weight", amount=float(amount))
            torch_prune.remove(module, "weight")
    torch.save(root.state_dict(), output)


if __name__ == "__main__":
    main()

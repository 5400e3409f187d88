"""Print the test accuracy of checkpoints of the digits net, pruned or not.

    python examples/evaluate_digits.py examples/digits.pt examples/digits.pruned.pt

prints one line per file:

    examples/digits.pt  98.6 %

A file may contain a parameter directly (`fc1.weight`) or with a pruning mask (`fc1.weight_orig` and `fc1.weight_mask`,
of any dtype), as torch and `prunecli apply` without `--remove` write it.
"""

import sys

import torch
from digits import DigitsNet, accuracy, load_split
from torch import Tensor


def bake(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the state dict of the plain module: every `*_orig` times its `*_mask`, all other tensors unchanged."""
    baked = {}
    for name, tensor in state.items():
        if name.endswith("_orig"):
            plain = name.removesuffix("_orig")
            baked[plain] = tensor * state[f"{plain}_mask"]
        elif not name.endswith("_mask"):
            baked[name] = tensor
    return baked


def main(paths: list[str]) -> None:
    """Load each checkpoint into a new net, and print its accuracy on the test images."""
    if not paths:
        sys.exit("usage: python examples/evaluate_digits.py CKPT [CKPT ...]")
    _, test = load_split()
    for path in paths:
        checkpoint = torch.load(path, weights_only=True)
        model = DigitsNet()
        model.load_state_dict(bake(checkpoint["state_dict"]))
        print(f"{path}  {100 * accuracy(model, test):.1f} %")


if __name__ == "__main__":
    main(sys.argv[1:])

"""Print the test accuracy of checkpoints of the digits net, pruned or not.

    python examples/evaluate_digits.py examples/digits.pt examples/digits.pruned.pt

prints one line per file:

    examples/digits.pt  98.6 %

A file may contain a parameter directly (`fc1.weight`) or with a pruning mask (`fc1.weight_orig` and `fc1.weight_mask`,
of any dtype), as torch and `prunecli apply` without `--remove` write it.
"""

import sys

from digits import DigitsNet, accuracy, load_split

from prunecli import load_masked


def main(paths: list[str]) -> None:
    """Load each checkpoint into a new net, and print its accuracy on the test images."""
    if not paths:
        sys.exit("usage: python examples/evaluate_digits.py CKPT [CKPT ...]")
    _, test = load_split()
    for path in paths:
        model = load_masked(DigitsNet(), path)
        print(f"{path}  {100 * accuracy(model, test):.1f} %")


if __name__ == "__main__":
    main(sys.argv[1:])

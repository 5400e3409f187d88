"""Measure what is left of the digits net's accuracy after each method and each allocation, without further training.

    python examples/methods_on_digits.py

prints the tables of docs/methods.md, in about half a minute. Where chance has a part, a number is the mean over the
seeds 0 to 9. `draw_methods.py` draws the same for more amounts.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch
from digits import DigitsNet, accuracy, load_split
from torch import nn

from prunecli import PrunecliError, prune_module
from prunecli.core.allocation import RULES

__all__ = ["ALLOCATIONS", "METHODS", "Digits", "allocation_table", "method_table"]

CHECKPOINT = Path(__file__).with_name("digits.pt")
AMOUNTS = (0.5, 0.7, 0.9)
SEEDS = range(10)
ABSENT = "\N{EN DASH}"
"""What stands in a table where nothing can be measured."""

BATCH = 10
"""Images whose gradient makes one term of the scores."""

Step = tuple[str | Sequence[str], Mapping[str, Any]]
"""Names or patterns of parameters, and what `prune_module` takes beside them."""

SCORES = "those of Digits"
"""Stands for the scores, which are computed later."""

EACH = ["conv1.weight", "conv2.weight", "fc1.weight", "fc2.weight"]


def whole(**options: Any) -> list[Step]:
    """Return the step that prunes all four weights with the same options."""
    return [(EACH, options)]


def slices(**options: Any) -> list[Step]:
    """Return steps that prune the outputs of layers; of the last one its inputs, since its outputs are the digits."""
    return [(EACH[:3], options | {"dim": 0}), (EACH[3:], options | {"dim": 1})]


def blocks(**options: Any) -> list[Step]:
    """Return steps that prune blocks of the two matrices, and single elements of the two convolutions."""
    return [(EACH[:2], options), (EACH[2:], options | {"block": "4x4"})]


def groups(**options: Any) -> list[Step]:
    """Return steps that make 2:4 patterns along inputs; along the outputs of conv1, which has one input."""
    return [(EACH[:1], options | {"n_of_m": "2:4", "dim": 0}), (EACH[1:], options | {"n_of_m": "2:4"})]


SELECTIONS: dict[str, dict[str, Any]] = {
    "random": {},
    "l1": {"method": "l1"},
    "scores": {"scores": SCORES},
}
"""What chooses single elements."""

METHODS: dict[str, list[Step]] = {
    "`--method random`": whole(),
    "`--method l1`": whole(method="l1"),
    "`--method l1 --per-row`": whole(method="l1", per_row=True),
    "`--method l1 --global`": whole(method="l1", everywhere=True),
    "`--method lamp`": whole(method="lamp"),
    "`--scores`": whole(scores=SCORES),
    "`--scores --per-row`": whole(scores=SCORES, per_row=True),
    "`--scores --global`": whole(scores=SCORES, everywhere=True),
    "`--method random-structured`": slices(method="random-structured"),
    "`--method ln --norm 1`": slices(method="ln", norm=1),
    "`--method ln --norm 2`": slices(method="ln", norm=2),
    "`--method ln --norm inf`": slices(method="ln", norm="inf"),
    "`--block 4x4`": blocks(),
    "`--block 4x4 --method l1`": blocks(method="l1"),
    "`--block 4x4 --scores`": blocks(scores=SCORES),
    "`--n-of-m 2:4`": groups(),
    "`--n-of-m 2:4 --method l1`": groups(method="l1"),
    "`--n-of-m 2:4 --scores`": groups(scores=SCORES),
}
ALLOCATIONS = list(RULES)


class Digits:
    """The trained net, its test images, and scores of its weights."""

    def __init__(self) -> None:
        """Load the checkpoint, and compute the scores on the images for training."""
        self.state = torch.load(CHECKPOINT, weights_only=True)["state_dict"]
        train, self.test = load_split()
        model = self.model().eval()
        weights = {name: model.get_parameter(name) for name in EACH}
        self.scores = {name: torch.zeros_like(weight) for name, weight in weights.items()}
        for images, labels in zip(torch.split(train.images, BATCH), torch.split(train.labels, BATCH), strict=True):
            loss = nn.functional.cross_entropy(model(images), labels)
            for name, gradient in zip(EACH, torch.autograd.grad(loss, list(weights.values())), strict=True):
                self.scores[name] += (weights[name].detach() * gradient) ** 2

    def model(self) -> DigitsNet:
        """Return a new net with the weights of the checkpoint."""
        model = DigitsNet()
        model.load_state_dict(self.state)
        return model

    def accuracies(self, steps: Sequence[Step], amount: float) -> list[float]:
        """Return the accuracy in percent for each seed, or once if the seed does not matter; none if it is refused."""
        return list(self._accuracies(steps, amount))

    def _accuracies(self, steps: Sequence[Step], amount: float) -> Iterator[float]:
        drawn = all(
            options.get("method", "random").startswith("random") and "scores" not in options for _, options in steps
        )
        for seed in SEEDS if drawn else SEEDS[:1]:
            model = self.model()
            try:
                for params, options in steps:
                    self._prune(model, params, amount, seed=seed, **options)
            except PrunecliError:  # a rule cannot reach the total
                return
            yield 100 * accuracy(model, self.test)

    def _prune(self, model: nn.Module, params: str | Sequence[str], amount: float, **options: Any) -> None:
        given = options | ({"scores": self.scores} if "scores" in options else {})
        prune_module(model, params, None if "n_of_m" in options else amount, bake=True, **given)


def method_table(digits: Digits) -> Iterator[str]:
    """Yield the rows of the table of methods: with a standard deviation over seeds where chance has a part."""
    yield f"| method | {' | '.join(f'{amount:.0%}'.replace('%', ' %') for amount in AMOUNTS)} |"
    yield "|---|---|---|---|"
    for name, steps in METHODS.items():
        amounts = (0.5,) if "2:4" in name else AMOUNTS
        cells = [_cell(digits.accuracies(steps, amount)) for amount in amounts]
        yield f"| {name} | {' | '.join(cells + [ABSENT] * (len(AMOUNTS) - len(cells)))} |"


def allocation_table(digits: Digits) -> Iterator[str]:
    """Yield the rows of the table of allocations: what chooses, at each amount."""
    heads = [f"{selection} {amount:.0%}".replace("%", " %") for selection in SELECTIONS for amount in AMOUNTS]
    yield f"| rule | {' | '.join(heads)} |"
    yield "|---" * (len(heads) + 1) + "|"
    for rule in ALLOCATIONS:
        found = [
            digits.accuracies(whole(allocation=rule, **options), amount)
            for options in SELECTIONS.values()
            for amount in AMOUNTS
        ]
        yield f"| `{rule}` | {' | '.join(f'{fmean(each):.1f}' if each else ABSENT for each in found)} |"


def _cell(found: Sequence[float]) -> str:
    """Return the mean, and the standard deviation if there is more than one."""
    return f"{fmean(found):.1f}" + (f" ± {stdev(found):.1f}" if len(found) > 1 else "")


def main() -> None:
    """Print the tables."""
    torch.set_num_threads(1)
    digits = Digits()
    for line in (*method_table(digits), "", *allocation_table(digits)):
        print(line, flush=True)


if __name__ == "__main__":
    main()

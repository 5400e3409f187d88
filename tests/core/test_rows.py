"""The smallest of each row: exact numbers, ties at random, as numpy finds them on the whole tensor."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from method_runs import Bools, MethodRun
from torch import Tensor

from prunecli.core.amount import Amount
from prunecli.core.methods.base import Choice, Method, Scan, Target, TargetGroup
from prunecli.core.methods.ranked import Ranked
from prunecli.core.methods.rows import choose_rows, replay_rows
from prunecli.core.methods.slices import Slices
from prunecli.errors import UsageError

L1 = Ranked()


@dataclass(frozen=True)
class Rows(Method):
    """A method that takes every target row by row."""

    name = "rows"
    amounts: Amount | Sequence[int]
    left: Any = None
    ranked: Ranked = L1

    @property
    def reads_values(self) -> bool:
        return not self.ranked.scores

    @property
    def reads_scores(self) -> bool:
        return self.ranked.scores

    def granule(self, target: Target) -> int:
        return target.shape[1]

    def sliced(self, target: Target) -> Target:
        return replace(target, slices=Slices(target.shape[0], target.shape[1], self.left))

    def choose(self, group: TargetGroup, scans: Sequence[Mapping[str, Scan]]) -> Mapping[str, Choice]:
        every = group.targets.items()
        return {key: choose_rows(self.sliced(each), self.amounts, group.seed, self.ranked) for key, each in every}

    def replay(self, target: Target, seed: int, pruned: int, recorded: Mapping[str, Any]) -> Choice:
        return replay_rows(self.sliced(target), seed, pruned, recorded, self.ranked)


def check(tensor: Tensor, keep: Bools, left: Bools, counts: Sequence[int]) -> None:
    """Of each row that many are dropped, and none that is larger than one that is kept."""
    values = tensor.double().abs().numpy()
    for row, count in enumerate(counts):
        dropped = left[row] & ~keep[row]
        assert dropped.sum() == count
        assert not (keep[row] & ~left[row]).any()
        if dropped.any() and keep[row].any():
            assert values[row, dropped].max() <= values[row, keep[row]].min()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float8_e4m3fn], ids=str)
@pytest.mark.parametrize("few", [False, True])
def test_the_smallest_of_each_row_are_dropped(dtype: torch.dtype, few: bool) -> None:
    generator = torch.Generator().manual_seed(1)
    tensor = torch.randn(13, 30, generator=generator)
    tensor = ((tensor * 2).round() / 2 if few else tensor).to(dtype)
    everything, masked = np.ones((13, 30), np.bool_), np.random.default_rng(2).random((13, 30)) < 0.7
    for left in (everything, masked):
        options: Any = {} if left is everything else {"before": {"w": left}}
        counts = None if left is everything else left.sum(axis=1)
        for amount in (0.5, 3, 0, [int(each) for each in np.arange(13) % 9], 1.0):
            keep = MethodRun(Rows(amount, counts), {"w": tensor}, **options).keep()["w"]
            each = left.sum(axis=1) if counts is None else counts
            wanted = [round(amount * count) for count in each] if isinstance(amount, float) else amount
            check(tensor, keep, left, [wanted] * 13 if isinstance(wanted, int) else wanted)
            again = MethodRun(Rows(amount, counts), {"w": tensor}, block=7, **options).keep(1)["w"]
            assert np.array_equal(keep, again)


def test_of_equal_elements_each_is_as_likely() -> None:
    keep = MethodRun(Rows(2), {"w": torch.tensor([[3.0, 1, -3, 4, 3]]).repeat(600, 1)}, block=1000).keep()["w"]
    assert not keep[:, 1].any()
    assert keep[:, 3].all()
    counts = (~keep[:, [0, 2, 4]]).sum(axis=0)
    assert ((counts - 200) ** 2 / 200).sum() < 13.8  # 2 degrees of freedom, 0.1 %


def test_scores_are_compared_with_their_signs() -> None:
    tensor, scores = torch.ones(1, 4), torch.tensor([[1.0, -5.0, 3.0, -1.0]])
    for signed, expected in [(True, [True, False, True, False]), (False, [False, True, True, False])]:
        method = Rows(2, None, Ranked(scores=True, signed=signed))
        assert MethodRun(method, {"w": tensor}, scores={"w": scores}).keep()["w"].tolist() == [expected]


def test_more_than_a_row_has_is_refused() -> None:
    with pytest.raises(UsageError, match=r"^cannot prune 5 elements of every row of w: a row has 4$"):
        MethodRun(Rows(5), {"w": torch.ones(2, 4)}).keep()
    method, target = Rows(1), Target("w", "w", (2, 4), "float32", 8)
    for record in (
        {"slices": 2, "amount": 2},
        {"slices": 2, "pruned": [1]},
        {"slices": 2, "pruned": "x"},
        {"amount": 9},
    ):
        with pytest.raises(ValueError, match=r"instead|numbers|list|elements"):
            method.replay(target, 7, 2, record)

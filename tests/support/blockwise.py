"""An engine for methods on arrays in memory: passes over blocks in any order, by several ranks, and the final mask."""

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunecli.core.methods.base import Block, Choice, Method, Target, TargetGroup
from prunecli.core.methods.slices import Slices
from prunecli.core.raw_elements import Unsigned

Bools = NDArray[np.bool_]


@dataclass
class Tensor:
    """Elements as stored, the name of their type, and which of them are still unpruned."""

    raw: Unsigned
    dtype: str
    shape: tuple[int, ...]
    left: Bools
    scores: tuple[Unsigned, str] | None = None

    def target(self, key: str, rows: bool = False) -> Target:
        count = int(np.count_nonzero(self.left))
        dtype = self.scores[1] if self.scores else None
        found = Target(key, key, self.shape, self.dtype, count, scores_dtype=dtype)
        if not rows:
            return found
        each = np.count_nonzero(self.left.reshape(self.shape[0], -1), axis=1).astype(np.int64)
        return replace(found, slices=Slices(self.shape[0], self.raw.size // self.shape[0], each))

    def blocks(self, method: Method, target: Target, size: int) -> list[Block]:
        """The blocks of about `size` elements; their ends are multiples of the granule."""
        granule, found = method.granule(target), []
        for index in range(-(-self.raw.size // size)):
            low, high = (min(-(-at * size // granule) * granule, self.raw.size) for at in (index, index + 1))
            if low < high:
                part = slice(low, high)
                scores = self.scores[0][part] if self.scores and method.reads_scores else None
                weight = self.raw[part] if method.reads_values else None
                found.append(Block(index, low, self.left[part], weight, None, scores))
        return found


@dataclass
class Outcome:
    """What became of tensors: which elements are dropped, the choices, the number of passes, and notes."""

    dropped: dict[str, Bools]
    choices: Mapping[str, Choice]
    passes: int
    notes: Sequence[str]


def carry_out(
    method: Method,
    tensors: Mapping[str, Tensor],
    amount: float,
    *,
    global_: bool = False,
    given: Mapping[str, int] | None = None,
    seed: int = 0,
    size: int = 1 << 20,
    shuffled: int | None = None,
    ranks: int = 1,
) -> Outcome:
    """Prune by a method, looking at blocks in an order that `shuffled` determines."""
    targets = {key: tensor.target(key) for key, tensor in tensors.items()}
    group = TargetGroup(targets, amount, global_, seed, given=given)
    blocks = {key: tensor.blocks(method, targets[key], size) for key, tensor in tensors.items()}
    passes: list[Mapping[str, Any]] = []
    while scans := method.scans(group, passes):
        todo = [(key, block) for key in scans for block in blocks[key]]
        if shuffled is not None:
            order = np.random.default_rng(shuffled).permutation(len(todo))
            todo = [todo[place] for place in order]
        if ranks == 1:
            for key, block in todo:
                scans[key].add(scans[key].look(block))
        else:
            _by_ranks(scans, todo, ranks)
        passes.append(scans)
    choices = method.choose(group, passes)
    dropped = {key: dropped_by(choice, tensors[key], blocks[key]) for key, choice in choices.items()}
    return Outcome(dropped, choices, len(passes), method.notes(group, passes))


def _by_ranks(scans: Mapping[str, Any], todo: Sequence[tuple[str, Block]], ranks: int) -> None:
    """Let each rank look at a share, with a copy of the scans of its own, and merge what they drain."""
    copies = [scans, *(pickle.loads(pickle.dumps(dict(scans))) for _ in range(ranks - 1))]
    drained = []
    for rank, copy in enumerate(copies):
        consecutive = todo[rank * len(todo) // ranks : (rank + 1) * len(todo) // ranks]
        for key, block in todo[rank::ranks] if ranks > 2 else consecutive:
            copy[key].add(copy[key].look(block))
        drained.append({key: scan.drain() for key, scan in copy.items()})
    for entries in drained:
        for key, entry in pickle.loads(pickle.dumps(entries)).items():
            if entry is not None:
                scans[key].merge(entry)


def dropped_by(choice: Choice, tensor: Tensor, blocks: Sequence[Block]) -> Bools:
    """The dropped elements, from a choice that went through a pickle."""
    copy: Choice = pickle.loads(pickle.dumps(choice))
    out = np.zeros(tensor.raw.size, np.bool_)
    for block in reversed(blocks):
        copy.drop(block, out[block.start : block.start + block.candidates.size])
    return out & tensor.left

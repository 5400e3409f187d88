"""The rounds in which the masks of a checkpoint were drawn, as reports and stamps record them.

What they say is only a suggestion: whoever uses it compares each element with it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from typing import Any

import numpy as np

from prunecli.core.drawn_mask import DrawnRound
from prunecli.core.methods.slices import Slices
from prunecli.core.slice_name import slice_name
from prunecli.errors import UsageError
from prunecli.formats.base import Layout, Storage, TensorInfo
from prunecli.lean import dataclass
from prunecli.surgery.names.pair import pair_names
from prunecli.surgery.names.parameters import Parameter, canonical, parameters_of

__all__ = ["DrawnRun", "RecordedDraw", "drawn_runs"]

_SLICE = 1 << 13
"""The fewest elements of a slice with a mask of its own; smaller ones would cost more than the bits of the mask."""


_ROUNDS = 255
"""The most rounds of a mask that a packed file can record."""


@dataclass(frozen=True, slots=True)
class RecordedDraw:
    """What is recorded about a parameter that was pruned at random.

    `choice` says how many elements of each slice were drawn, if each was drawn separately. `zeroed` are tensors of
    optimizer state that were zeroed in the same places.
    """

    name: str
    shape: tuple[int, ...]
    round: DrawnRound
    choice: Mapping[str, Any] = field(default_factory=dict)
    zeroed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DrawnRun:
    """Elements of a storage, from `start` on and of `width` bytes, with a mask of their own, drawn in these rounds."""

    start: int
    elements: int
    width: int
    rounds: tuple[DrawnRound, ...]


_Runs = dict[str, list[DrawnRun]]


def drawn_runs(checkpoint: Layout, records: Iterable[Sequence[RecordedDraw]]) -> tuple[_Runs, int]:
    """Return the masks by storage: of masks in the checkpoint, or of weights and optimizer state with zeros.

    Of several records (reports, stamps), that with most rounds of a mask counts. Rounds are used from the first one on,
    which begins with all elements: which were zero before is not known. The number of parameters with later rounds
    alone is returned, too.
    """
    parameters = parameters_of(checkpoint)
    carried = {each.name: each for each in checkpoint.carried}
    chains: dict[str, list[RecordedDraw]] = {}
    for draws in records:
        for name, own in _by_parameter(parameters, draws).items():
            chain = _chain(own, parameters[name].weight)
            if len(chain) >= len(chains.get(name, ())):
                chains[name] = chain
    found: _Runs = {}
    for name, chain in chains.items():
        tensor = _masked_tensor(parameters[name])
        others = dict.fromkeys(each for draw in chain for each in draw.zeroed)
        for each in (tensor, *(carried[other] for other in others if other in carried)):
            place = _place(each)
            if place is not None and each.elements == tensor.elements:
                found.setdefault(place[0].key, []).extend(_runs(chain, each, place[1]))
    return found, sum(not chain for chain in chains.values())


def _by_parameter(
    parameters: Mapping[str, Parameter], draws: Sequence[RecordedDraw]
) -> dict[str, dict[DrawnRound, RecordedDraw]]:
    """Return the different draws of each parameter that draw anything; a report may be given twice."""
    by_name: dict[str, dict[DrawnRound, RecordedDraw]] = {}
    for draw in draws:
        if draw.round.amount:
            by_name.setdefault(draw.name, {})[draw.round] = draw
    names = pair_names(
        {name: canonical(name) for name in by_name}, {each.name: each.key for each in parameters.values()}
    )
    return {own: by_name[name] for name, own in names.items()}


def _masked_tensor(parameter: Parameter) -> TensorInfo:
    return parameter.weight if parameter.mask is None else parameter.mask


def _place(tensor: TensorInfo) -> tuple[Storage, int] | None:
    """Return where a tensor lies, if it is one run in row-major order: the order in which masks are drawn."""
    storage, view = tensor.storage, tensor.view
    if len(tensor.parts) == 1:
        storage, view = tensor.parts[0].storage, tensor.parts[0].view
    whole = len(tensor.parts) < 2 and view.row_major and view.elements == tensor.elements
    return (storage, view.start) if whole and tensor.dtype.itemsize in (1, 2, 4, 8, 16) else None


def _chain(draws: Mapping[DrawnRound, RecordedDraw], tensor: TensorInfo) -> list[RecordedDraw]:
    """Return draws in the order in which they were made, from the first one on as far as they are known."""
    found: list[RecordedDraw] = []
    left = tensor.elements
    for each in sorted(draws.values(), key=lambda draw: -draw.round.candidates):
        if each.shape != tensor.shape or each.round.candidates != left or len(found) == _ROUNDS:
            break
        if found and bool(each.choice) != bool(found[0].choice):
            break  # slices of what a draw left are not draws of their own
        left -= each.round.amount
        found.append(each)
    return found


def _runs(chain: Sequence[RecordedDraw], tensor: TensorInfo, start: int) -> Iterator[DrawnRun]:
    width = tensor.dtype.itemsize
    if not chain or not chain[0].choice:
        rounds = tuple(each.round for each in chain)
        yield from [DrawnRun(start, tensor.elements, width, rounds)] if chain else ()
        return
    size = tensor.elements // max(tensor.shape[0], 1)
    if size >= _SLICE:
        for number, rounds in enumerate(_slice_rounds(chain, tensor.shape[0], size)):
            yield DrawnRun(start + number * size, size, width, rounds)


def _slice_rounds(chain: Sequence[RecordedDraw], count: int, size: int) -> list[tuple[DrawnRound, ...]]:
    """Return the rounds of each slice, as far as the records are those of such slices."""
    rounds: list[tuple[DrawnRound, ...]] = [() for _ in range(count)]
    left = np.full(count, size, dtype=np.int64)
    for each in chain:
        choice = each.choice
        try:
            amounts = choice["pruned"] if "pruned" in choice else choice["amount"]
            counts = Slices(count, size, left).choose(amounts, each.name) + np.zeros(count, dtype=np.int64)
        except (UsageError, KeyError, TypeError, ValueError):
            break
        if choice.get("slices") != count or int(counts.sum()) != each.round.amount or (counts > left).any():
            break
        for number, amount in enumerate(counts.tolist()):
            if amount:
                key = slice_name(each.round.key, number)
                rounds[number] += (DrawnRound(each.round.seed, key, int(left[number]), amount),)
        left -= counts
    return rounds

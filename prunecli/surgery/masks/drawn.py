"""The rounds in which the masks of a checkpoint were drawn, as reports record them."""

from collections.abc import Sequence

from prunecli.core.drawn_mask import DrawnRound
from prunecli.formats.base import Layout, TensorInfo
from prunecli.lean import dataclass
from prunecli.surgery.names.pair import pair_names
from prunecli.surgery.names.parameters import Parameter, canonical, parameters_of

__all__ = ["RecordedDraw", "drawn_rounds"]


@dataclass(frozen=True, slots=True)
class RecordedDraw:
    """What a report says about a parameter that was pruned at random."""

    name: str
    shape: tuple[int, ...]
    round: DrawnRound


def drawn_rounds(checkpoint: Layout, draws: Sequence[RecordedDraw]) -> tuple[dict[str, tuple[DrawnRound, ...]], int]:
    """Return the rounds by the storage that has the mask: that of a mask, or of a weight with zeros.

    Rounds that do not begin with all elements are left out: which elements were zero before is not known. The number
    of parameters with such rounds is returned, too.
    """
    parameters = parameters_of(checkpoint)
    by_name: dict[str, list[RecordedDraw]] = {}
    for draw in draws:
        by_name.setdefault(draw.name, []).append(draw)
    names = pair_names(
        {name: canonical(name) for name in by_name}, {each.name: each.key for each in parameters.values()}
    )
    found: dict[str, tuple[DrawnRound, ...]] = {}
    left_out = 0
    for name, own in names.items():
        tensor = _masked_tensor(parameters[own])
        rounds = {each.round: None for each in by_name[name] if each.shape == parameters[own].weight.shape}
        chain = _chain(list(rounds), tensor.elements)
        left_out += bool(rounds) and not chain
        if chain and _is_whole(tensor):
            found[tensor.storage.key] = chain
    return found, left_out


def _masked_tensor(parameter: Parameter) -> TensorInfo:
    return parameter.weight if parameter.mask is None else parameter.mask


def _is_whole(tensor: TensorInfo) -> bool:
    """Whether a tensor is all of its storage, in row-major order: the order in which masks are drawn."""
    return (
        not tensor.parts
        and tensor.view.row_major
        and tensor.span == (0, tensor.storage.nbytes)
        and tensor.dtype.itemsize in (1, 2, 4, 8, 16)
    )


def _chain(rounds: Sequence[DrawnRound], elements: int) -> tuple[DrawnRound, ...]:
    """Return rounds in the order in which they were drawn; none if they are not the whole chain."""
    ordered = sorted((each for each in rounds if each.amount), key=lambda each: -each.candidates)
    left = elements
    for each in ordered:
        if each.candidates != left:
            return ()
        left -= each.amount
    return tuple(ordered)

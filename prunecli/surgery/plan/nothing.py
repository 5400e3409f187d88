"""Prunes that drop nothing: an error if no selected tensor has elements, a note if the amount is zero elements."""

from collections.abc import Iterator, Sequence

from prunecli.errors import UsageError, show
from prunecli.formats.base import Layout
from prunecli.surgery.names.parameters import Parameter

__all__ = ["check_elements", "nothing_notes"]

_PLACEHOLDER = (0,)
"""The shape of the weights in the model files of DeepSpeed (0.19), stage 3."""

_ZERO_3 = "DeepSpeed's stage 3 keeps them in its *_optim_states.pt; put them together with its zero_to_fp32 first"


def check_elements(checkpoint: Layout, selected: Sequence[Parameter]) -> None:
    """Refuse a selection in which no tensor has elements.

    Raises:
        UsageError: none has.
    """
    if any(parameter.weight.elements for parameter in selected):
        return
    first = selected[0]
    which = f"{show(first.name, 80)} has" if len(selected) == 1 else f"all {len(selected)} selected tensors have"
    remedy = f"; {_ZERO_3}" if all(each.weight.shape == _PLACEHOLDER for each in selected) else ""
    raise UsageError(f"{checkpoint.source.label}: {which} no elements, so there is nothing to prune{remedy}")


def nothing_notes(selected: Sequence[Parameter], *, pruned: int | None) -> Iterator[str]:
    """Yield notes on selected tensors without elements, and on a prune that drops nothing.

    `pruned` is the number of dropped elements, None if the command does not draw any.
    """
    empty = [each for each in selected if not each.weight.elements]
    if empty:
        remedy = f"; {_ZERO_3}" if all(each.weight.shape == _PLACEHOLDER for each in empty) else ""
        count = "1 selected tensor has" if len(empty) == 1 else f"{len(empty)} selected tensors have"
        yield f"{count} no elements, {show(empty[0].name, 80)} first{remedy}"
    if pruned == 0:
        yield "no element is pruned: the amount comes to 0"

"""Checks for selected tensors that are not in the state dict: they lie elsewhere in the file, or in no shard."""

from collections.abc import Mapping

from prunecli.errors import DamagedError, UsageError, show
from prunecli.formats.base import Layout
from prunecli.surgery.names.parameters import Parameter, canonical
from prunecli.surgery.names.select import Selection, matcher
from prunecli.terms import KEY

__all__ = ["check_absent"]


def check_absent(checkpoint: Layout, parameters: Mapping[str, Parameter], selection: Selection) -> None:
    """Refuse a selection that names an absent tensor, or has a pattern that matches only absent tensors.

    Other patterns take the tensors that exist; a note reports the absent ones.

    Raises:
        DamagedError: such a tensor is selected.
        UsageError: a pattern is not a valid regular expression, or is the name of a tensor outside the state dict.
    """
    _check_outside(checkpoint, parameters, selection)
    if not checkpoint.absent:
        return
    by_key = {canonical(name): name for name in checkpoint.absent}
    present = {*parameters, *(each.key for each in parameters.values())}
    for pattern in selection.patterns:
        if pattern in present:
            continue
        name = by_key.get(canonical(pattern))
        if name is None:
            matches = matcher(pattern)
            name = next((each for each in checkpoint.absent if matches(each)), None)
            if name is None or any(matches(each) for each in present):
                continue
        raise DamagedError(
            f"{checkpoint.source.label}: {show(name)} is selected and nowhere: the index puts it into "
            f"{show(checkpoint.absent[name])}, which lacks it; fetch that shard again"
        )


def _check_outside(checkpoint: Layout, parameters: Mapping[str, Parameter], selection: Selection) -> None:
    named = {pattern for pattern in selection.patterns if pattern not in parameters}
    for tensor in checkpoint.carried if named and hasattr(checkpoint, "wrapper") else ():
        if tensor.name in named and ": " not in tensor.name:  # not a tensor of a shard that the index does not list
            raise UsageError(f"{show(tensor.name)} lies outside the state dict; {KEY} '' makes it a part of that")

"""Tensors that are selected and not in the state dict: they lie elsewhere in the file, or in no shard of a folder."""

from collections.abc import Mapping

from prunecli.errors import DamagedError, UsageError, show
from prunecli.formats.base import Layout
from prunecli.surgery.names.parameters import Parameter, canonical
from prunecli.surgery.names.select import Selection, matcher
from prunecli.terms import KEY

__all__ = ["check_absent"]


def check_absent(checkpoint: Layout, parameters: Mapping[str, Parameter], selection: Selection) -> None:
    """Refuse to pass over a tensor that is named, or a pattern that matches nothing else.

    Other patterns take what is there; a note says what is not.

    Raises:
        DamagedError: such a tensor is selected.
        UsageError: a pattern is not a regular expression, or the name of a tensor outside the state dict.
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
        if tensor.name in named and ": " not in tensor.name:  # not a shard's that its index does not name
            raise UsageError(f"{show(tensor.name)} lies outside the state dict; {KEY} '' makes it a part of that")

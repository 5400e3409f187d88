"""Zero optimizer state together with its weights, where the file proves which weights those are (`--with-state`)."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from prunecli.errors import UsageError, show
from prunecli.formats.base import Layout, TensorInfo
from prunecli.formats.torch.key_words import MASTER, OPTIMIZER
from prunecli.surgery.names.companions import holds_values, outside_tensors, wrapper_of
from prunecli.surgery.names.moments import OptimizerState, optimizer_states
from prunecli.surgery.names.parameters import Parameter
from prunecli.surgery.plan.model import Plan
from prunecli.terms import UNTIE, WITH_STATE

__all__ = ["with_state"]

_REMEDY = f"leave {WITH_STATE} out, and reset the optimizer before training goes on"


def with_state(checkpoint: Layout, plan: Plan) -> Plan:
    """Return a plan that also zeroes the optimizer state of the dropped elements.

    It covers every tensor of the parameter's shape in the state of an optimizer. It covers fp32 masters only if weights
    are baked, since with masks the weights keep their values too.

    Raises:
        UsageError: there is no optimizer state, the file does not prove which parameters it belongs to, or it cannot be
            zeroed.
    """
    label = checkpoint.source.label
    if plan.prune is not None and plan.prune.untie:
        raise UsageError(f"{UNTIE} parts tied parameters, which have one optimizer state; leave {WITH_STATE} out")
    outside = outside_tensors(checkpoint)
    state = [tensor for tensor in outside if tensor.within == OPTIMIZER]
    if not any(tensor.elements > 1 for tensor in state):
        raise UsageError(f"{label} holds no optimizer state; leave {WITH_STATE} out")
    loose = next((tensor for tensor in state if tensor.moment is None and holds_values(tensor)), None)
    if loose is not None:
        raise UsageError(f"{label}: {show(loose.name, 80)} is not kept parameter by parameter; {_REMEDY}")
    found: dict[str, tuple[TensorInfo, ...]] = {}
    states = optimizer_states(plan.parameters, outside, wrapper_of(checkpoint))
    for name, planned in plan.planned.items():
        own = [each for one in states for each in _own(label, one, planned.parameter, bake=plan.bake)]
        if own:
            found[name] = tuple(own)
    if not found:
        raise UsageError(f"{label} holds no optimizer state of the selected parameters; leave {WITH_STATE} out")
    _check_alone(checkpoint, [tensor for own in found.values() for tensor in own])
    return replace(plan, state=found)


def _own(label: str, state: OptimizerState, parameter: Parameter, *, bake: bool) -> Iterator[TensorInfo]:
    """Yield the tensors of an optimizer to zero with a parameter."""
    where = f"{label}: the optimizer state{f' in {show(state.path, 60)}' if state.path else ''}"
    tensors = state.tensors.get(parameter.name)
    if tensors is None:
        why = state.unknown.get(parameter.name) or state.unknown.get("")
        if why:
            raise UsageError(f"{where} is not proven to be of {show(parameter.name, 60)}: {why}; {_REMEDY}")
        return
    for tensor in tensors:
        if tensor.shape != parameter.weight.shape or not tensor.shape:
            continue
        if not tensor.dtype.prunable or not _holds_zeros(tensor):
            raise UsageError(
                f"{where} keeps {show(tensor.name, 80)} as {tensor.dtype.name}, where no byte is known to "
                f"mean zero; {_REMEDY}"
            )
        is_master = tensor.moment is not None and tensor.moment.statistic == MASTER
        if bake or not is_master:
            yield tensor


def _holds_zeros(tensor: TensorInfo) -> bool:
    view = tensor.view
    return tensor.dtype.kind not in ("int", "bool") and view.nested and view.repeats <= 1


def _check_alone(checkpoint: Layout, chosen: Sequence[TensorInfo]) -> None:
    """Refuse to zero memory that another tensor shares."""
    own = {tensor.name for tensor in chosen}
    reach, last = ("", 0), ""
    for name, key, low, high in sorted(
        _spans([*checkpoint.tensors.values(), *checkpoint.carried]), key=lambda e: e[1:]
    ):
        if reach[0] == key and low < reach[1] and (name in own or last in own):
            both = f"{show(last, 60)} and {show(name, 60)}"
            raise UsageError(f"{checkpoint.source.label}: {both} share memory; {_REMEDY}")
        if reach[0] != key or high > reach[1]:
            reach, last = (key, high), name


def _spans(tensors: Iterable[TensorInfo]) -> Iterator[tuple[str, str, int, int]]:
    """Yield the name, storage, first byte and end of each tensor and of its parts."""
    for tensor in tensors:
        places = [(part.storage.key, part.view) for part in tensor.parts] or [(tensor.storage.key, tensor.view)]
        for key, view in places:
            if view.elements:
                yield tensor.name, key, view.start * tensor.dtype.itemsize, view.stop * tensor.dtype.itemsize

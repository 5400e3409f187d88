"""The candidates of the selected parameters, counted before anything is chosen."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from prunecli.core.methods.base import Target
from prunecli.core.methods.slices import Slices
from prunecli.errors import UnsupportedError, UsageError, show
from prunecli.surgery.data.final_mask import check_scalable
from prunecli.surgery.data.scanned import BlockScan, CandidateCount, CandidateCounter
from prunecli.surgery.names.parameters import Parameter
from prunecli.surgery.names.ties import Tie
from prunecli.surgery.plan.methods import ParameterMethod
from prunecli.surgery.plan.model import PlannedParameter
from prunecli.surgery.plan.scan import Steps

__all__ = ["count_candidates"]


def count_candidates(
    selected: Sequence[Parameter],
    ties: Mapping[str, Tie],
    methods: Mapping[str, ParameterMethod] = MappingProxyType({}),
    slices: Mapping[str, int] = MappingProxyType({}),
    *,
    zeros_are_pruned: bool = False,
) -> Steps[list[PlannedParameter]]:
    """Count the candidates of parameters in blocks of their methods; without a mask, all elements are, none is read.

    Raises:
        UsageError: a method cannot prune one of them.
    """
    targets, counters, scans = {}, {}, []
    for parameter in selected:
        name, weight = parameter.name, parameter.weight
        own = methods.get(name)
        dtype = own.scores.dtype if own and own.scores else None
        rows = Slices(number, weight.elements // number) if (number := slices.get(name)) else None
        place = ties[name].key, name, weight.shape, weight.dtype.name, weight.elements
        target = targets[name] = Target(*place, slices=rows, scores_dtype=dtype)
        if own is not None:
            own.check(target)
        if parameter.mask is not None or zeros_are_pruned:
            counters[name] = CandidateCounter(slices.get(name, 0))
            granule = own.method.granule(target) if own else 1
            scans.append(BlockScan(parameter, counters[name], zeros_are_pruned, granule=granule))
    if scans:
        yield scans
    planned = []
    for parameter in selected:
        name, target = parameter.name, targets[parameter.name]
        count = counters[name].count() if name in counters else CandidateCount(target.candidates)
        if not count.binary:
            check_scalable(parameter)
        if name in counters:
            target = replace(target, candidates=count.candidates, before=count.before)
        if target.slices is not None:
            target = replace(target, slices=replace(target.slices, candidates=count.slices))
        method, scores = (own.method, own.scores) if (own := methods.get(name)) else (None, None)
        made = PlannedParameter(
            parameter, target, ties[name].partners, count.digest, count.binary, None, method, scores
        )
        planned.append(made)
    _check_tied_masks(planned)
    return planned


def _check_tied_masks(planned: Sequence[PlannedParameter]) -> None:
    """Refuse a tied group whose members have different masks: one storage cannot contain two results."""
    seen: dict[str, PlannedParameter] = {}
    for each in planned:
        first = seen.setdefault(each.key, each)
        one, other = first.target, each.target
        if one.shape != other.shape and (one.slices or other.slices or _has_shapes(first)):
            raise UsageError(
                f"{show(one.name)} and {show(other.name)} are tied and have other shapes, so that they have no common "
                "slices; exclude both"
            )
        if first.digest != each.digest or first.target.candidates != each.target.candidates:
            raise UnsupportedError(
                f"{show(first.parameter.name)} and {show(each.parameter.name)} are tied, but carry different masks"
            )


def _has_shapes(planned: PlannedParameter) -> bool:
    """Whether the shape of a parameter decides which of its elements are dropped."""
    return planned.method is not None and planned.method.counts != "elements"

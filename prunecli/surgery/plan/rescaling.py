"""Rescaling: kept elements are divided by the share that is kept."""

from collections.abc import Iterable

from prunecli.core.rescale import RESCALABLE
from prunecli.errors import UsageError, show
from prunecli.surgery.plan.model import Plan, PlannedParameter
from prunecli.surgery.plan.request import PruneRequest
from prunecli.terms import RESCALE

__all__ = ["check_rescaled", "rescale_factor"]


def rescale_factor(plan: Plan, planned: PlannedParameter) -> float:
    """Return the factor of a parameter's kept elements: 1 divided by their share of the unpruned elements."""
    if plan.prune is None or not plan.prune.rescale or not planned.pruned_now:
        return 1.0
    return planned.target.candidates / (planned.target.candidates - planned.pruned_now)


def check_rescaled(prune: PruneRequest, planned: Iterable[PlannedParameter]) -> None:
    """Refuse to rescale parameters that cannot be multiplied, or of which nothing is kept.

    Raises:
        UsageError: there is one.
    """
    for each in planned if prune.rescale else ():
        dtype, name = each.parameter.weight.dtype, show(each.target.name)
        if (dtype.half or dtype.name) not in RESCALABLE:
            types = ", ".join(RESCALABLE)
            raise UsageError(f"{RESCALE} multiplies values of {types}, and {name} is {dtype.name}; leave it out")
        if each.target.candidates == each.pruned_now and each.parameter.weight.elements:
            raise UsageError(f"{RESCALE} divides by what is kept, and nothing is kept of {name}; prune less of it")

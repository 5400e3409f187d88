"""Notes on requests that are valid, and often a slip: a small count for a percentage, a pattern that takes biases."""

from collections.abc import Iterator

from prunecli.errors import show
from prunecli.surgery.names.parameters import canonical
from prunecli.surgery.plan.plan import Plan
from prunecli.surgery.plan.request import PruneRequest
from prunecli.terms import MIN_DIM

__all__ = ["slip_notes"]

_HUNDRED = 100
_NAMED = 2


def slip_notes(plan: Plan) -> Iterator[str]:
    """Yield the notes on the request of an `apply`; none on a replay, which is not a new request."""
    if plan.prune is not None and not plan.expected:
        yield from filter(None, (_small_count(plan.prune), _vectors(plan, plan.prune)))


def _small_count(prune: PruneRequest) -> str:
    """Return a note on the first amount that is a number of elements, and may be meant as a percentage."""
    for group in prune.groups:
        amount = group.amount
        if isinstance(amount, int) and 0 < amount <= _HUNDRED:
            elements = "1 element" if amount == 1 else f"{amount} elements"
            which = "all selected parameters together" if group.everywhere else "each parameter"
            everything = "all of them are 1.0, and " if amount == 1 else ""
            return f"amount {amount} is {elements} of {which}; {everything}{amount} % is {amount}%"
    return ""


def _vectors(plan: Plan, prune: PruneRequest) -> str:
    """Return a note on tensors of one dimension that patterns took among others."""
    patterns = {pattern for group in prune.groups for pattern in group.selection.patterns}
    named = patterns | {canonical(pattern) for pattern in patterns}
    taken = [each.parameter for each in plan.planned.values()]
    flat = [each for each in taken if len(each.weight.shape) < 2 and named.isdisjoint((each.name, each.key))]
    if not flat or all(len(each.weight.shape) < 2 for each in taken):
        return ""
    names = ", ".join(show(each.name, 60) for each in flat[:_NAMED])
    more = f" and {len(flat) - _NAMED:,} more" if len(flat) > _NAMED else ""
    option = "min_dim = 2" if any(group.where for group in prune.groups) else f"{MIN_DIM} 2"
    what = "1 tensor" if len(flat) == 1 else f"{len(flat):,} tensors"
    return f"the patterns take {what} of one dimension (norms, biases): {names}{more}; {option} leaves them out"

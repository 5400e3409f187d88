"""Notes on requests that are valid, and often a slip: small counts, biases that are taken, matrices that are not."""

import re
from collections.abc import Iterator, Sequence

from prunecli.core.amount import LARGEST_PERCENTAGE
from prunecli.core.methods import make_method
from prunecli.errors import show
from prunecli.surgery.names.parameters import Parameter, canonical
from prunecli.surgery.names.select import choose
from prunecli.surgery.plan.model import Plan
from prunecli.surgery.plan.request import PruneRequest
from prunecli.terms import AMOUNT, MIN_DIM, PARAM

__all__ = ["slip_notes"]

_NAMED = 2

_ALL_WEIGHTS = frozenset({"*.weight", "*weight"})
"""Patterns that are meant for all matrices."""

_SELDOM_PRUNED = re.compile("embed|token|pos|bias")
"""What the last components of names contain if a parameter of several dimensions is seldom pruned."""


def slip_notes(plan: Plan) -> Iterator[str]:
    """Yield the notes on the request of an `apply`; none on a replay, which is not a new request."""
    if plan.prune is not None and not plan.expected:
        yield from filter(None, (_small_count(plan.prune), _vectors(plan, plan.prune), _matrices(plan, plan.prune)))


def _small_count(prune: PruneRequest) -> str:
    """Return a note on the first amount that is a number of elements, and may be meant as a percentage."""
    for group in prune.groups:
        if make_method(group.method).counts != "elements":
            continue
        together = group.everywhere or group.allocation is not None
        each_of = "every row of each parameter" if group.per_row else "each parameter"
        which = "all selected parameters together" if together else each_of
        option, quote = ("amount =", '"') if group.where else (AMOUNT, "")
        for amount, of, name in [
            (group.amount, which, option),
            *((each, f"{each_of} that it matches", f"{show(pattern, 60)} =") for pattern, each in group.amounts),
        ]:
            if isinstance(amount, int) and 0 < amount <= LARGEST_PERCENTAGE:
                elements = "1 element" if amount == 1 else f"{amount} elements"
                for_all = f"for all of them write {name} 1.0, for 1 %" if amount == 1 else f"for {amount} % write"
                return f"{name} {amount} is {elements} of {of}; {for_all} {name} {quote}{amount}%{quote}"
    return ""


def _vectors(plan: Plan, prune: PruneRequest) -> str:
    """Return a note on tensors of one dimension that patterns took among others."""
    patterns = {pattern for group in prune.groups for pattern in group.selection.patterns}
    named = patterns | {canonical(pattern) for pattern in patterns}
    taken = [each.parameter for each in plan.planned.values()]
    flat = [each for each in taken if len(each.weight.shape) < 2 and named.isdisjoint((each.name, each.key))]
    if not flat or all(len(each.weight.shape) < 2 for each in taken):
        return ""
    option = "min_dim = 2" if any(group.where for group in prune.groups) else f"{MIN_DIM} 2"
    what = "1 tensor" if len(flat) == 1 else f"{len(flat):,} tensors"
    names = _listed([each.name for each in flat])
    return f"the patterns take {what} of one dimension (norms, biases): {names}; {option} leaves them out"


def _matrices(plan: Plan, prune: PruneRequest) -> str:
    """Return a note on matrices that a pattern for all weights leaves dense, since their names end otherwise."""
    selections = [group.selection for group in prune.groups if group.selection.min_dim > 1]
    selections = [each for each in selections if not _ALL_WEIGHTS.isdisjoint(each.patterns)]
    if not selections:
        return ""
    pruned = {name for each in plan.planned.values() for name in (each.parameter.name, *each.tied_to)}
    dense = [name for name, each in plan.parameters.items() if name not in pruned and _is_matrix(each)]
    if dense:
        excluded = {name for each in selections for name in choose(plan.parameters, each).excluded}
        dense = [name for name in dense if name not in excluded]
    if not dense:
        return ""
    what, them = ("1 matrix is", "it") if len(dense) == 1 else (f"{len(dense):,} matrices are", "them")
    remedy = "params = '*'" if any(group.where for group in prune.groups) else f"{PARAM} '*' {MIN_DIM} 2"
    return f"{what} left dense: {_listed(dense)}; {remedy} takes {them}"


def _is_matrix(parameter: Parameter) -> bool:
    """Whether a pattern may take a parameter that has several rows and columns, and is usually pruned."""
    several = sum(length > 1 for length in parameter.weight.shape) > 1
    leaf = parameter.name.rpartition(".")[2]
    return several and parameter.matches_globs and not _SELDOM_PRUNED.search(leaf)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return ", ".join(show(name, 60) for name in names[:_NAMED]) + more

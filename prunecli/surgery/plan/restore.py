"""The plan of a restore: masks are dropped, and their weights get their names back."""

from prunecli.core.methods.base import Target
from prunecli.formats.base import Layout
from prunecli.surgery.names.left_out import masks_left
from prunecli.surgery.names.parameters import parameters_of
from prunecli.surgery.names.select import Selection
from prunecli.surgery.names.stored_twice import find_stored_twice
from prunecli.surgery.plan.model import Plan, PlannedParameter
from prunecli.surgery.plan.plan import select_masked

__all__ = ["plan_restore"]


def plan_restore(checkpoint: Layout, selection: Selection | None) -> Plan:
    """Plan to drop the masks of a checkpoint, all or the selected ones; no weight changes.

    Raises:
        UsageError: no parameter, or no selected one, has a mask.
    """
    parameters = parameters_of(checkpoint)
    planned = {}
    for each in select_masked(checkpoint, parameters, selection, "drop"):
        weight = each.weight
        target = Target(each.key, each.name, weight.shape, weight.dtype.name, weight.elements)
        planned[each.name] = PlannedParameter(each, target, ())
    stored_twice = find_stored_twice(checkpoint, parameters)
    passed = masks_left(checkpoint, parameters, planned)
    return Plan("restore", parameters, planned, bake=False, stored_twice=stored_twice, passed=passed)

"""The final mask of a planned parameter."""

from collections.abc import Mapping

from prunecli.core.methods.base import Method
from prunecli.formats.io.source import ByteSource
from prunecli.surgery.data.final_mask import FinalMask
from prunecli.surgery.data.kept import NO_MASKS, KeptFlags
from prunecli.surgery.plan.model import Plan, PlannedParameter

__all__ = ["planned_mask"]


def planned_mask(
    source: ByteSource,
    plan: Plan,
    planned: PlannedParameter,
    method: Method | None,
    given: Mapping[str, KeptFlags] = NO_MASKS.flags,
) -> FinalMask:
    """Return the mask that a parameter has after the plan.

    `method` is that of the plan's prune, None without one; `given` are the masks for a method that reads them.
    """
    return FinalMask(
        source,
        planned.parameter,
        planned.choice,
        zeros_are_pruned=plan.prune is not None and plan.prune.zeros_are_pruned,
        reads_values=method is not None and method.reads_values,
        granule=method.granule(planned.target) if method else 1,
        given=given[planned.parameter.name] if method and method.reads_given else None,
        restored=plan.command == "restore",
    )

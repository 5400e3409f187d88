"""The final mask of a planned parameter."""

from prunecli.formats.io.source import ByteSource
from prunecli.surgery.data.final_mask import FinalMask
from prunecli.surgery.data.kept import NOTHING, Given
from prunecli.surgery.plan.model import Plan, PlannedParameter

__all__ = ["planned_mask"]


def planned_mask(source: ByteSource, plan: Plan, planned: PlannedParameter, given: Given = NOTHING) -> FinalMask:
    """Return the mask that a parameter has after the plan; `given` are the masks and scores that methods read."""
    method = planned.method
    return FinalMask(
        source,
        planned.parameter,
        planned.choice,
        zeros_are_pruned=plan.prune is not None and plan.prune.zeros_are_pruned,
        reads_values=method is not None and method.reads_values,
        granule=method.granule(planned.target) if method else 1,
        given=given.flags[planned.parameter.name] if method and method.reads_given else None,
        scores=given.scores_of(planned.scores),
        restored=plan.command == "restore",
    )

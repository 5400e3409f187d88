"""Notes on a run, each a line on standard error: what was left out, and what users should know before they load it."""

from prunecli.cli.render import note
from prunecli.reporting.left_out import left_out_text
from prunecli.surgery.nothing import nothing_notes
from prunecli.surgery.plan import Plan

__all__ = ["plan_notes"]


def plan_notes(plan: Plan, *, quiet: bool) -> None:
    """Say what patterns matched and did not take, what else holds weights, and where nothing is pruned."""
    selected = [each.parameter for each in plan.planned.values()]
    pruned = None if plan.prune is None else sum(each.pruned_now for each in plan.planned.values())
    for sentence in nothing_notes(selected, pruned=pruned):
        note(sentence, quiet=quiet)
    if text := left_out_text(plan.passed.groups, plan.passed.bytes):
        note(f"left out: {text}", quiet=quiet)

"""Notes on a run, each a line on standard error: what was left out, and what users should know before they load it."""

from prunecli.cli.render import note
from prunecli.reporting.left_out import left_out_text
from prunecli.surgery.plan import Plan

__all__ = ["plan_notes"]


def plan_notes(plan: Plan, *, quiet: bool) -> None:
    """Say what patterns matched and did not take, and what else holds weights."""
    if text := left_out_text(plan.passed.groups, plan.passed.bytes):
        note(f"left out: {text}", quiet=quiet)

"""Notes on a plan, a line each on standard error: what is left out, where nothing is pruned, what loads the output."""

from prunecli.cli.render import note
from prunecli.formats.base import Layout
from prunecli.reporting.left_out import left_out_text
from prunecli.reporting.norms import zero_norms_text
from prunecli.surgery.names.loaders import loader_of
from prunecli.surgery.plan.nothing import nothing_notes
from prunecli.surgery.plan.plan import Plan
from prunecli.surgery.report.measure import Report
from prunecli.surgery.roles.table import Role
from prunecli.surgery.roles.words import in_words

__all__ = ["plan_notes", "result_notes"]

_LOADERS = {
    "transformers": "transformers starts layers with masks (weight_orig, weight_mask) at random",
    "diffusers": "diffusers leaves layers with masks (weight_orig, weight_mask) on the meta device, without values",
    "peft": "peft starts layers with masks (weight_orig, weight_mask) untrained, lora_B at zero",
}
"""What `from_pretrained` does with masks, as it was seen: transformers 5.24, diffusers 0.42, peft 0.21."""


def plan_notes(checkpoint: Layout, plan: Plan, *, quiet: bool) -> None:
    """Say what patterns left out, where nothing is pruned, what goes along, and which library does not read masks."""
    if quiet:
        return
    selected = [each.parameter for each in plan.planned.values()]
    pruned = None if plan.prune is None else sum(each.pruned_now for each in plan.planned.values())
    for text in (*nothing_notes(selected, pruned=pruned), _left_out(plan), _state(plan), _masks(checkpoint, plan)):
        if text:
            note(text, quiet=False)


def result_notes(report: Report, *, quiet: bool) -> None:
    """Say what the zeros break."""
    if text := zero_norms_text(report.parameters):
        note(f"{text}; prune fewer of their elements, or leave them out with -x", quiet=quiet)


def _left_out(plan: Plan) -> str:
    """Say what was left out; --with-state does not leave optimizer state out, so that has a note of its own."""
    groups = [each for each in plan.passed.groups if not (plan.state and each.role is Role.OPTIMIZER)]
    text = left_out_text(groups, plan.passed.bytes)
    return f"left out: {text}" if text else ""


def _state(plan: Plan) -> str:
    tensors = len({tensor.name for own in plan.state.values() for tensor in own})
    what = in_words(tensors, Role.OPTIMIZER)
    return f"--with-state zeroes dropped elements in {what}, too" if tensors else ""


def _masks(checkpoint: Layout, plan: Plan) -> str:
    if plan.command != "apply" or plan.bake:
        return ""
    loader = loader_of(checkpoint)
    return f"in from_pretrained, {_LOADERS[loader]}; --remove writes zeros instead" if loader else ""

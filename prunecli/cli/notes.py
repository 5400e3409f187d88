"""The notes of a run, one line each on standard error: what is left out, what is not pruned, what undoes a prune."""

from collections.abc import Iterator

from prunecli.errors import show
from prunecli.formats.base import Layout
from prunecli.reporting.left_out import left_out_text
from prunecli.reporting.norms import zero_norms_text
from prunecli.surgery.jobs import PreparedRewrite
from prunecli.surgery.names.loaders import loader_of
from prunecli.surgery.names.state_beside import state_beside
from prunecli.surgery.plan.nothing import nothing_notes
from prunecli.surgery.plan.plan import Plan
from prunecli.surgery.plan.undoing import undoing
from prunecli.surgery.report.model import Report
from prunecli.surgery.roles.table import Role
from prunecli.surgery.roles.words import in_words

__all__ = ["closing_notes", "plan_notes", "result_notes"]

_LOADERS = {
    "transformers": "transformers starts layers with masks (weight_orig, weight_mask) at random",
    "diffusers": "diffusers leaves layers with masks (weight_orig, weight_mask) on the meta device, without values",
    "peft": "peft starts layers with masks (weight_orig, weight_mask) untrained, lora_B at zero",
}
"""How `from_pretrained` treats masks, observed in transformers 5.24, diffusers 0.42, peft 0.21."""


def plan_notes(job: PreparedRewrite) -> Iterator[str]:
    """Yield the notes on a plan, before it is carried out."""
    plan = job.plan
    yield from filter(None, (_amount_of_one(plan), _other_weights(job)))
    selected = [each.parameter for each in plan.planned.values()]
    pruned = None if plan.prune is None else sum(each.pruned_now for each in plan.planned.values())
    yield from nothing_notes(selected, pruned=pruned)
    yield from filter(None, (_left_out(plan), _state(plan), _masks(job.checkpoint, plan)))


def result_notes(report: Report) -> Iterator[str]:
    """Yield the notes on a result, before its table: layers that break because of its zeros."""
    if text := zero_norms_text(report.parameters):
        yield f"{text}; prune fewer of their elements, or leave them out with -x"


def closing_notes(job: PreparedRewrite) -> Iterator[str]:
    """Yield the notes after the table: state that brings pruned elements back if training continues."""
    if text := undoing(job.checkpoint, job.plan, state_beside(job.checkpoint)):
        yield text


def _amount_of_one(plan: Plan) -> str:
    groups = plan.prune.groups if plan.prune is not None and not plan.expected else ()
    one = any(group.amount == 1 and isinstance(group.amount, int) for group in groups)
    return "amount 1 prunes one element; 1.0 prunes all of them" if one else ""


def _other_weights(job: PreparedRewrite) -> str:
    """Return a warning about a folder's other files with weights, which are not pruned but which a library may load."""
    names = ", ".join(show(name, 60) for name in job.checkpoint.other_weight_files[:3])
    return f"copied unchanged, although they contain weights: {names}" if names else ""


def _left_out(plan: Plan) -> str:
    """Return a note on tensors that patterns left out; with --with-state, optimizer state has a note of its own."""
    groups = [each for each in plan.passed.groups if not (plan.state and each.role is Role.OPTIMIZER)]
    text = left_out_text(groups, plan.passed.bytes)
    return f"left out: {text}" if text else ""


def _state(plan: Plan) -> str:
    tensors = len({tensor.name for own in plan.state.values() for tensor in own})
    return f"--with-state also zeroes pruned elements in {in_words(tensors, Role.OPTIMIZER)}" if tensors else ""


def _masks(checkpoint: Layout, plan: Plan) -> str:
    if plan.command != "apply" or plan.bake:
        return ""
    loader = loader_of(checkpoint)
    return f"in from_pretrained, {_LOADERS[loader]}; --remove writes zeros instead" if loader else ""

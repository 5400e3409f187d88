"""The notes of a run, one line each on standard error: what is left out, what is not pruned, what undoes a prune."""

import shlex
from collections.abc import Iterator

from prunecli.errors import show
from prunecli.reporting.left_out import left_out_text
from prunecli.reporting.norms import zero_norms_text
from prunecli.reporting.numbers import size_of
from prunecli.reporting.zeros import pruned_zeros_text
from prunecli.surgery.names.loaders import loader_of
from prunecli.surgery.names.state_beside import state_beside
from prunecli.surgery.plan.model import Plan
from prunecli.surgery.plan.nothing import nothing_notes
from prunecli.surgery.plan.slips import slip_notes
from prunecli.surgery.plan.undoing import undoing
from prunecli.surgery.prepare import PreparedRewrite
from prunecli.surgery.report.model import Report
from prunecli.surgery.roles.table import Role
from prunecli.surgery.roles.words import in_words
from prunecli.terms import BAKE

_SAME_BYTES = ("safetensors", "torch zip", "torch legacy")
"""The formats in which `restore` returns the bytes of a file that its library wrote with default settings."""

__all__ = ["closing_notes", "masks_note", "plan_notes", "result_notes"]

_LOADERS = {
    "transformers": "transformers starts layers with masks (weight_orig, weight_mask) at random",
    "diffusers": "diffusers leaves layers with masks (weight_orig, weight_mask) on the meta device, without values",
    "peft": "peft starts layers with masks (weight_orig, weight_mask) untrained, lora_B at zero",
}
"""How `from_pretrained` treats masks, observed in transformers 5.24, diffusers 0.42, peft 0.21."""


def plan_notes(job: PreparedRewrite) -> Iterator[str]:
    """Yield the notes on a plan, before it is carried out."""
    plan = job.plan
    yield from slip_notes(plan)
    if text := _other_weights(job):
        yield text
    selected = [each.parameter for each in plan.planned.values()]
    drawn = plan.prune is not None and plan.prune.draws
    pruned = sum(each.pruned_now for each in plan.planned.values()) if drawn else None
    yield from nothing_notes(selected, pruned=pruned)
    yield from plan.notes
    yield from filter(None, (_left_out(plan), _state(plan)))


def result_notes(job: PreparedRewrite, report: Report) -> Iterator[str]:
    """Yield the notes on a result, before its table: zeros that were pruned again, layers that break by its zeros."""
    if not job.plan.expected and (text := pruned_zeros_text(report)):
        yield text
    if text := zero_norms_text(report.parameters):
        yield f"{text}; prune fewer of their elements, or leave them out with -x"


def closing_notes(job: PreparedRewrite) -> Iterator[str]:
    """Yield the notes after the table: state that brings pruned elements back if training continues, and masks."""
    yield from filter(None, (undoing(job.checkpoint, job.plan, state_beside(job.checkpoint)), masks_note(job)))
    if job.plan.command == "restore":
        names = [show(name, 60) for name in job.plan.planned]
        more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
        yield f"no longer masked: {', '.join(names[:3])}{more}"
    if job.plan.command == "restore" and job.checkpoint.format not in _SAME_BYTES:
        yield "the tensors are those before apply; the bytes may differ from that file's, as an index is written anew"


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


def masks_note(job: PreparedRewrite, has: str = "has") -> str:
    """Return the note that an output has masks, what that costs, and how to get zeros instead; "" without masks."""
    plan, place = job.plan, job.destination.path
    if plan.prune is None or plan.bake:
        return ""
    new = [each.parameter.weight for each in plan.planned.values() if each.parameter.mask is None]
    same = plan.prune.mask_dtype == "same"
    added = sum(weight.elements * (weight.dtype.itemsize if same else 1) for weight in new)
    masks = f"the output {has} masks{f' (+{size_of(added)})' if added else ''}"
    zeros = BAKE if place is None else f"{BAKE}, or prunecli remove {show(shlex.quote(str(place)))}"
    loader = loader_of(job.checkpoint)
    if loader:
        return f"{masks}; in from_pretrained, {_LOADERS[loader]}; zeros instead: {zeros}"
    if any(each.parameter.role is Role.STATISTIC for each in plan.planned.values()):
        return f"{masks}, also of statistics, which no module loads with masks; zeros instead: {zeros}"
    return f"{masks}, for prunecli.load_masked; plain modules and from_pretrained need zeros: {zeros}"

"""State that can undo a prune when training continues: fp32 masters, optimizer moments, averages, other copies."""

from collections.abc import Sequence

from prunecli.errors import show
from prunecli.formats.base import Layout, TensorInfo
from prunecli.formats.torch.key_words import AVERAGE, MASTER, MASTERS, OPTIMIZER
from prunecli.surgery.names.companions import find_companions, holds_values, outside_tensors
from prunecli.surgery.plan.model import Plan
from prunecli.terms import WITH_STATE

__all__ = ["undoing"]

_MASTERS = MASTERS | {"fp32_param"}
"""Components of a path below which DeepSpeed and Megatron store weights in full precision."""


def undoing(checkpoint: Layout, plan: Plan, beside: Sequence[str]) -> str | None:
    """Return a sentence on unchanged state that brings dropped elements back if training continues, None without any.

    `beside` are files of optimizer state in the same folder.
    """
    if not plan.planned or plan.command == "restore":
        return None
    zeroed = {tensor.name for own in plan.state.values() for tensor in own}
    state = [each for each in outside_tensors(checkpoint) if each.within == OPTIMIZER and holds_values(each)]
    state = [each for each in state if each.name not in zeroed]
    if zeroed:  # all that is left belongs to other parameters, except masters
        state = [each for each in state if _is_master(each) and plan.bake]
    found = find_companions(plan.parameters, checkpoint)
    companions = [each for name in plan.planned for each in found.get(name, ())]
    others = [each for each in companions if each.within != OPTIMIZER]
    averages = [each for each in others if each.within == AVERAGE or each.name in plan.parameters]
    masters = [each for each in state if _is_master(each)]
    moments = [each for each in state if not _is_master(each)]
    parts = [
        f"{len(tensors)} {what if len(tensors) == 1 else several} ({show(tensors[0].name, 80)}{_more(tensors)})"
        for what, several, tensors in (
            ("fp32 master weight", "fp32 master weights", masters),
            ("tensor of optimizer state", "tensors of optimizer state", moments),
            ("average", "averages", averages),
            ("tensor of the same name", "tensors of the same names", [each for each in others if each not in averages]),
        )
        if tensors
    ]
    if beside:
        parts.append(f"optimizer state in {show(beside[0], 60)}{_more(beside)} beside it")
    if not parts:
        return None
    if not plan.bake:  # the masks stay in force, whatever happens to the weights
        return f"left as they were: {', '.join(parts)}"
    remedy = f"; {WITH_STATE} zeroes their moments" if moments and not zeroed and plan.prune else ""
    are = "is" if len(state) + len(others) + bool(beside) == 1 else "are"
    return f"{', '.join(parts)} {are} not pruned: further training can move pruned elements{remedy}"


def _more(names: Sequence[object]) -> str:
    return ", ..." if len(names) > 1 else ""


def _is_master(tensor: TensorInfo) -> bool:
    if tensor.moment is not None and tensor.moment.statistic == MASTER:
        return True
    return not _MASTERS.isdisjoint(tensor.name.split("."))

"""A note on elements that were pruned although they were zero already, as after an earlier prune without masks."""

from prunecli.surgery.report.model import Report, counted_of
from prunecli.terms import ZEROS_ARE_PRUNED

__all__ = ["pruned_zeros_text"]

_FEW = 0.01
"""The share of the pruned elements below which zeros are taken for chance."""


def pruned_zeros_text(report: Report) -> str:
    """Return a sentence on the elements that a run pruned and that were zero before; "" if they are few."""
    counted = [each for each in counted_of(report.parameters) if each.pruned_now]
    pruned = sum(each.pruned_now for each in counted)
    zeros = pruned - sum((each.zeros or 0) - (each.zeros_before or 0) for each in counted)
    if not zeros or zeros < _FEW * pruned:
        return ""
    return (
        f"{zeros:,} of the {pruned:,} pruned elements were zero already; if an earlier run pruned them, "
        f"{ZEROS_ARE_PRUNED} counts them as pruned"
    )

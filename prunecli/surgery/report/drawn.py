"""The random draws that a report records."""

from prunecli.core.drawn_mask import DrawnRound
from prunecli.core.methods.request import MethodRequest
from prunecli.surgery.masks.drawn import RecordedDraw
from prunecli.surgery.report.model import Report

__all__ = ["recorded_draws"]


def recorded_draws(report: Report) -> list[RecordedDraw]:
    """Return the draw of each parameter that a run pruned at random."""
    prune = report.prune
    if prune is None:
        return []
    drawn = [group.method == MethodRequest() for group in prune.groups]
    return [
        RecordedDraw(each.name, each.shape, DrawnRound(prune.seed or 0, each.key, each.candidates, each.pruned_now))
        for each in report.parameters
        if drawn[each.group] and each.candidates is not None and each.pruned_now <= each.candidates and not each.choice
    ]

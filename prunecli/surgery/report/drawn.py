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
    drawn = {number for number, group in enumerate(prune.groups) if group.method == MethodRequest()}
    return [
        RecordedDraw(
            each.name,
            each.shape,
            DrawnRound(prune.seed or 0, each.key, each.candidates, each.pruned_now),
            each.choice,
            each.zeroed,
        )
        for each in report.parameters
        if each.group < len(drawn)
        and each.group in drawn
        and each.candidates is not None
        and each.pruned_now <= each.candidates
    ]

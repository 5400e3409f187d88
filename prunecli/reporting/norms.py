"""A warning, as one sentence, for weight norms whose directions have slices that are all zero."""

from collections.abc import Sequence

from prunecli.errors import show
from prunecli.surgery.report.model import ParameterReport

__all__ = ["zero_norms_text"]

_SHOWN = 2


def zero_norms_text(parameters: Sequence[ParameterReport]) -> str:
    """Return a sentence on the number of all-zero slices of weight-norm directions, and which; "" without any."""
    broken = [each for each in parameters if each.zero_norms]
    if not broken:
        return ""
    slices = sum(each.zero_norms for each in broken)
    names = ", ".join(show(each.name, 60) for each in broken[:_SHOWN])
    more = f" and {len(broken) - _SHOWN:,} more" if len(broken) > _SHOWN else ""
    what = "1 weight-norm row is" if slices == 1 else f"{slices:,} weight-norm rows are"
    return f"{what} all zero, so the first forward divides 0 by 0 and makes NaN: in {names}{more}"

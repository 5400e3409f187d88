"""The function for each rule that returns how much every layer keeps; apart from `rules`, as a start needs none."""

from collections.abc import Callable, Mapping, Sequence

from prunecli.core.allocation.dense_ends import erk_plus, uniform_plus
from prunecli.core.allocation.layer import Layer
from prunecli.core.allocation.proportional import balanced, er, erk, uniform
from prunecli.core.allocation.shares import Shares
from prunecli.core.allocation.smart import smart, smart_vgg
from prunecli.core.allocation.solved import igq, pyramidal

__all__ = ["SOLVERS"]

SOLVERS: Mapping[str, Callable[[Sequence[Layer], int], Shares]] = {
    "uniform": uniform,
    "er": er,
    "erk": erk,
    "erk+": erk_plus,
    "uniform+": uniform_plus,
    "balanced": balanced,
    "pyramidal": pyramidal,
    "igq": igq,
    "smart": smart,
    "smart-vgg": smart_vgg,
}

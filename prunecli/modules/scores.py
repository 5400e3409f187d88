"""Scores for the elements of a module, given as tensors by name."""

from collections.abc import Mapping

from torch import Tensor, nn

from prunecli.errors import UsageError, show
from prunecli.modules.layout import LiveModule
from prunecli.surgery.data.kept import Given
from prunecli.surgery.plan.methods import scores_in

__all__ = ["GIVEN", "given_scores"]

GIVEN = "scores"
"""What the report of a module has as the place of scores."""


def given_scores(scores: Mapping[str, Tensor] | None) -> Given:
    """Return scores by the names of parameters, as those of a file.

    Raises:
        UsageError: one is not a tensor.
    """
    if scores is None:
        return Given()
    wrong = next((name for name, each in scores.items() if not isinstance(each, Tensor)), None)
    if wrong is not None:
        raise UsageError(f"the scores of {show(str(wrong), 60)} are {type(scores[wrong]).__name__}, and not a tensor")
    holder = nn.Module()
    holder._buffers.update({name: each.detach() for name, each in scores.items()})  # names with dots are not paths here
    return Given(scores={GIVEN: scores_in(LiveModule(holder))})

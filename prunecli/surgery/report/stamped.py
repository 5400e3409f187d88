"""The random draws of runs that left stamps: how much they pruned follows from the request and from what was left.

A stamp has the request of a run, but not the numbers of elements. Each run is planned again, with the candidates that
the runs before it left. Elements that were zero without them are not known; then nothing fits, and nothing is lost.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from prunecli.core.drawn_mask import DrawnRound
from prunecli.core.methods.request import MethodRequest
from prunecli.core.methods.slices import SlicedDraw
from prunecli.core.records import RecordError, read_record
from prunecli.errors import PrunecliError
from prunecli.formats.base import Layout
from prunecli.surgery.data.scanned import BlockScan, CandidateCounter
from prunecli.surgery.masks.drawn import RecordedDraw
from prunecli.surgery.names.parameters import Parameter, parameters_of
from prunecli.surgery.plan.model import PlannedParameter
from prunecli.surgery.plan.plan import plan_prune
from prunecli.surgery.report.codec import request_of
from prunecli.surgery.report.document import RequestRecord
from prunecli.surgery.report.provenance import STAMP_SCHEMA, STREAM, stamps_of

__all__ = ["stamped_draws"]

T = TypeVar("T")


def stamped_draws(checkpoint: Layout) -> list[RecordedDraw]:
    """Return the draws of the runs that left stamps in a checkpoint, up to the first one that cannot be planned again.

    Raises:
        PrunecliError: the checkpoint cannot be read.
    """
    stamps = stamps_of(checkpoint)
    if not stamps or not hasattr(checkpoint, "__dataclass_fields__"):
        return []
    found: list[RecordedDraw] = []
    left = _Left(checkpoint)
    for stamp in stamps:
        planned = _planned(left, stamp)
        if planned is None:
            break
        found += [_draw(each, int(stamp["seed"])) for each in planned if each.pruned_now]
        left.drop(planned)
    return found


class _Left:
    """A checkpoint as it was before it was pruned, and the candidates that are left of each parameter.

    It is a scanner of plans that reads nothing: it knows the numbers.
    """

    def __init__(self, checkpoint: Layout) -> None:
        parameters = parameters_of(checkpoint).values()
        tensors = {each.name: replace(each.weight, name=each.name) for each in parameters}
        self.dense: Layout = replace(cast(Any, checkpoint), tensors=tensors)
        self._elements = {name: tensor.elements for name, tensor in tensors.items()}
        self._slices: dict[str, NDArray[np.int64]] = {}

    def from_leader(self, make: Callable[[], T]) -> T:
        """Return what is made, in this process."""
        return make()

    def scan(self, checkpoint: Layout, scans: Sequence[BlockScan]) -> None:
        """Add to counters of candidates what is left; random draws need no other scans."""
        for each in scans:
            if isinstance(each.scan, CandidateCounter):
                name = each.parameter.name
                slices = self._slices_of(each.parameter)[: each.scan.slices]
                each.scan.add((0, (self._elements[name], True, b"", 0, slices)))

    def _slices_of(self, parameter: Parameter) -> NDArray[np.int64]:
        """Return the candidates of each slice, if it is known; a draw from the whole parameter leaves any numbers."""
        shape, elements = parameter.weight.shape, parameter.weight.elements
        if self._elements[parameter.name] == elements and shape and shape[0]:
            return np.full(shape[0], elements // shape[0], dtype=np.int64)
        return self._slices.get(parameter.name, np.empty(0, dtype=np.int64))

    def drop(self, planned: Sequence[PlannedParameter]) -> None:
        """Take away what a run pruned."""
        for each in planned:
            name = each.parameter.name
            slices = self._slices_of(each.parameter)
            self._elements[name] -= each.pruned_now
            if isinstance(each.choice, SlicedDraw) and slices.size:
                self._slices[name] = slices - each.choice.amounts
            elif each.pruned_now:
                self._slices.pop(name, None)


def _planned(left: _Left, stamp: Mapping[str, Any]) -> list[PlannedParameter] | None:
    """Return what a run planned; None if it did not only draw at random, or cannot be planned again."""
    if stamp.get("schema") != STAMP_SCHEMA or stamp.get("stream") != STREAM:
        return None
    try:
        request = request_of(read_record(RequestRecord, stamp))
        if (
            request.seed is None
            or not request.groups
            or any(group.method != MethodRequest() for group in request.groups)
        ):
            return None
        plan = plan_prune(left.dense, replace(request, zeros_are_pruned=True, rescale=False), left)
    except (RecordError, PrunecliError):
        return None
    return list(plan.planned.values())


def _draw(planned: PlannedParameter, seed: int) -> RecordedDraw:
    parameter, choice = planned.parameter, planned.choice
    drawn = DrawnRound(seed, planned.key, planned.target.candidates, planned.pruned_now)
    return RecordedDraw(parameter.name, parameter.weight.shape, drawn, choice.as_dict() if choice else {})

"""Turn a plan into an edit of the file: which contents change or count which bytes, and which tensors come and go."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field, replace
from typing import TypeVar

from prunecli.core.magnitudes import magnitude_look
from prunecli.core.structure.patterns import pattern_look
from prunecli.formats.base import Addition, Edit, Layout, Patch, Storage, TensorInfo
from prunecli.formats.dtypes import DTYPES
from prunecli.formats.folders.dcp.reassembled import box_of
from prunecli.formats.io.pieces import Copy, Generated
from prunecli.formats.views import View
from prunecli.lean import dataclass
from prunecli.surgery.data.chunked import part_patches
from prunecli.surgery.data.counts import Counting, Counts, ParameterCounts
from prunecli.surgery.data.final_mask import FinalMask
from prunecli.surgery.data.kept import NOTHING, Given
from prunecli.surgery.data.passes import (
    BlockPass,
    Cleared,
    CountZeros,
    ScaledZeroDropped,
    StridedRegion,
    StridedSteps,
    TensorPass,
    UpdateMask,
    WriteMask,
    ZeroDropped,
)
from prunecli.surgery.names.parameters import Parameter
from prunecli.surgery.plan.model import Plan, PlannedParameter
from prunecli.surgery.plan.planned_mask import planned_mask
from prunecli.surgery.plan.rescaling import rescale_factor
from prunecli.surgery.roles.norms import directions_of

__all__ = ["PreparedEdit", "build_edit", "read_only_pieces"]

Pass = TypeVar("Pass", bound=BlockPass)

_RUNS, _LONG_RUN = 4096, 1 << 16
"""The number of runs from which a checksum is always computed, and the average bytes per run that more runs need."""

_ALIGN = 16
"""The largest element size: a cut at its multiples never splits an element."""

_COUNTED = StridedSteps()
_ZEROED = StridedSteps(cleared=True), ZeroDropped
_SCALED = StridedSteps(cleared=True, scaled=True), ScaledZeroDropped
"""What baking does to a weight whose mask contains only 0 and 1, and to one whose mask has other values."""


@dataclass(frozen=True)
class PreparedEdit:
    """An edit, which can be carried out any number of times, and what each pass counts.

    `passes` are those of the parameters that are read. `shared` maps tied parameters to the one whose counts they
    share.
    """

    edit: Edit
    passes: Mapping[str, TensorPass]
    shared: Mapping[str, str]

    def new_counts(self) -> Counts:
        """Return counts for one pass, with nothing added."""
        parts = {name: ParameterCounts(each.mask.parameter.weight, each.counting) for name, each in self.passes.items()}
        return Counts(parts, self.shared)

    def mask(self, name: str) -> FinalMask:
        """Return the final mask of a parameter that is read."""
        return self.passes[self.shared.get(name, name)].mask


@dataclass(frozen=True, slots=True)
class _EditedTensor:
    """A tensor to count or edit in its storage. Tied tensors, which are visited once, have the same `identity`."""

    job: BlockPass
    action: StridedSteps
    identity: object

    @property
    def place(self) -> object:
        """What is the same for tied tensors of one storage."""
        tensor = self.job.tensor
        return tensor.dtype.name, tensor.view.start, tensor.view.normal(), self.identity

    def patches(self) -> Iterable[Patch]:
        """Return the patches for a row-major tensor that shares no bytes."""
        if self.job.box is None:
            low, high = self.job.tensor.span
            return (Patch(low, high - low, self.job),)
        return part_patches(self.job, self.job.box, scaled=self.action.scaled, cleared=self.action.cleared)

    def span(self, *, rounded: bool) -> tuple[int, int]:
        low, high = self.job.tensor.span
        if rounded:
            low, high = low // _ALIGN * _ALIGN, min(-(-high // _ALIGN) * _ALIGN, self.job.tensor.storage.nbytes)
        return low, high


@dataclass
class _Draft:
    checkpoint: Layout
    plan: Plan
    cells: Mapping[str, int] | None
    directions: Mapping[str, tuple[int, ...]]
    given: Given
    passes: dict[str, TensorPass] = field(default_factory=dict)
    shared: dict[str, str] = field(default_factory=dict)
    countings: dict[object, Counting] = field(default_factory=dict)
    visits: dict[str, _EditedTensor | dict[object, _EditedTensor]] = field(default_factory=dict)
    """By the key of the storage; those of several tensors in one storage also by what identifies each."""
    renames: dict[str, str] = field(default_factory=dict)
    removals: set[str] = field(default_factory=set)
    additions: list[Addition] = field(default_factory=list)


def build_edit(
    checkpoint: Layout,
    plan: Plan,
    cells: Mapping[str, int] | None = None,
    given: Given = NOTHING,
) -> PreparedEdit:
    """Return the edit that carries out a plan; it also counts the parameters that stay unchanged.

    `given` are the masks and scores that methods read.
    With `cells`, it also records where zeros lie; `cells` gives the cells per side of the pictures, by parameter.
    """
    weights = {each.name: each.weight for each in plan.parameters.values()}
    draft = _Draft(checkpoint, plan, cells, directions_of({**checkpoint.tensors, **weights}), given)
    del weights
    for parameter in plan.parameters.values():
        planned = plan.planned.get(parameter.name)
        if planned is None:
            if plan.counted(parameter) and parameter.countable:
                _look_at(draft, parameter)
        elif plan.command == "restore":
            _restore(draft, planned)
        elif plan.bake:
            _bake(draft, planned)
        elif parameter.mask is None:
            _add_mask(draft, planned)
        else:
            _edit_mask(draft, planned)
    for name, tensors in plan.state.items():
        for tensor in tensors:
            _clear_state(draft, plan.planned[name], tensor)
    edit = Edit(_patches(draft.visits), draft.renames, frozenset(draft.removals), draft.additions, plan.metadata)
    return PreparedEdit(edit, draft.passes, draft.shared)


def read_only_pieces(edit: Edit, tensors: Iterable[TensorInfo]) -> list[Copy]:
    """Return only the patched ranges of an edit as pieces; `tensors` are the tensors in those ranges."""
    storages = {storage.key: storage for tensor in tensors for storage in tensor.storages}
    return [
        Copy(storages[key].offset + patch.start, patch.length, patch.content)
        for key, patches in edit.patches.items()
        for patch in patches
    ]


def _job(
    draft: _Draft,
    kind: type[Pass],
    parameter: Parameter,
    tensor: TensorInfo,
    planned: PlannedParameter | None,
    *,
    factor: float = 1.0,
) -> Pass:
    source = draft.checkpoint.source
    mask = FinalMask(source, parameter) if planned is None else planned_mask(source, draft.plan, planned, draft.given)
    job = kind(tensor, mask, _counting(draft, parameter, mask), factor=factor)
    draft.passes[parameter.name] = job
    return job


def _counting(draft: _Draft, parameter: Parameter, mask: FinalMask) -> Counting:
    """Return what to gather for a parameter besides its number of zeros."""
    name, weight, cells, magnitudes, patterns = parameter.name, parameter.weight, None, None, None
    if draft.cells is not None and (weight.view.row_major or weight.view.repeats == 1):
        cells = draft.cells.get(name, 0)
        magnitudes = magnitude_look(name, weight.dtype.name, weight.elements, masked=parameter.mask is not None)
        patterns = pattern_look(weight.shape)
    sliced = draft.cells is not None or name in draft.plan.planned
    along = draft.directions.get(name) if sliced else None
    summed = weight.view.row_major and _comes_in_runs(weight)
    masked = not (mask.trivial or mask.restored)
    kept = masked and draft.plan.expected.get(name, "") is None
    if magnitudes is not None or patterns is not None:
        return Counting(cells, summed, along, masked, kept, magnitudes, patterns)
    key = cells, summed, along, masked, kept
    return draft.countings.get(key) or draft.countings.setdefault(key, Counting(*key))


def _comes_in_runs(weight: TensorInfo) -> bool:
    """Whether a checksum of row-major values can be combined from a reasonable number of runs."""
    if not weight.parts:
        return True
    if not all(part.view.row_major for part in weight.parts):
        return False
    runs = sum(part.view.elements // max(box_of(weight, part).run, 1) for part in weight.parts)
    return runs <= _RUNS + weight.elements * weight.dtype.itemsize // _LONG_RUN


def _visit(draft: _Draft, whole: _EditedTensor) -> None:
    """Add a tensor to the visits, part by part; if a tied one is there already, share its counts."""
    for visit in _part_by_part(whole):
        first = _first_visit(draft, visit)
        if first is not visit:
            draft.shared[visit.job.mask.parameter.name] = first.job.mask.parameter.name


def _part_by_part(whole: _EditedTensor) -> Sequence[_EditedTensor]:
    return [replace(whole, job=job) for job in whole.job.parts()] if whole.job.tensor.parts else (whole,)


def _first_visit(draft: _Draft, visit: _EditedTensor) -> _EditedTensor:
    """Add a visit, unless there is one of a tied tensor; return that one, or the added one."""
    key = visit.job.tensor.storage.key
    others = draft.visits.setdefault(key, visit)
    if others is visit:
        return visit
    if isinstance(others, _EditedTensor):
        others = draft.visits[key] = {others.place: others}
    return others.setdefault(visit.place, visit)


def _look_at(draft: _Draft, parameter: Parameter) -> None:
    job = _job(draft, CountZeros, parameter, parameter.weight, None)
    identity = parameter.mask.name if parameter.mask else "dense"
    # Tensors in the same memory may differ as matrices, and in the dimensions along which there are patterns.
    shape = parameter.weight.shape if draft.cells is not None and len(parameter.weight.shape) > 1 else ()
    _visit(draft, _EditedTensor(job, _COUNTED, (identity, shape)))


def _bake(draft: _Draft, planned: PlannedParameter) -> None:
    parameter = planned.parameter
    steps, kind = _ZEROED if planned.binary else _SCALED
    job = _job(draft, kind, parameter, parameter.weight, planned, factor=rescale_factor(draft.plan, planned))
    _visit(draft, _EditedTensor(job, steps, planned.key))
    _drop_mask(draft, parameter)


def _restore(draft: _Draft, planned: PlannedParameter) -> None:
    parameter = planned.parameter
    if parameter.countable:
        job = _job(draft, CountZeros, parameter, parameter.weight, planned)
        _visit(draft, _EditedTensor(job, _COUNTED, parameter.mask and parameter.mask.name))
    _drop_mask(draft, parameter)


def _drop_mask(draft: _Draft, parameter: Parameter) -> None:
    """Remove a parameter's mask, if it has one, and give its weight the parameter's name."""
    if parameter.mask is not None:
        if parameter.weight.name != parameter.name:
            draft.renames[parameter.weight.name] = parameter.name
        draft.removals |= {parameter.mask.name, *parameter.leftovers}


def _add_mask(draft: _Draft, planned: PlannedParameter) -> None:
    parameter = planned.parameter
    prune = draft.plan.prune
    dtype = parameter.weight.dtype if prune and prune.mask_dtype == "same" else DTYPES["bool"]
    shape = parameter.weight.shape
    name = f"{parameter.name}_mask"
    nbytes = parameter.weight.elements * dtype.itemsize
    storage = Storage(name, 0, nbytes, big_endian=parameter.weight.storage.big_endian)
    tensor = TensorInfo(name, dtype, View.of(shape), storage)
    job = _job(draft, WriteMask, parameter, tensor, planned)
    draft.renames[parameter.name] = f"{parameter.name}_orig"
    draft.additions.append(Addition(parameter.name, name, dtype, shape, [Generated(nbytes, job)]))
    _count_woven_weight(draft, planned, job)


def _edit_mask(draft: _Draft, planned: PlannedParameter) -> None:
    parameter = planned.parameter
    if parameter.mask is None:
        return
    job = _job(draft, UpdateMask, parameter, parameter.mask, planned)
    beside = parameter.mask.view.row_major and parameter.weight.view.row_major
    steps = StridedSteps(cleared=True, counted=False, beside=beside)
    _visit(draft, _EditedTensor(job, steps, planned.key))
    _count_woven_weight(draft, planned, job)


def _clear_state(draft: _Draft, planned: PlannedParameter, tensor: TensorInfo) -> None:
    """Zero optimizer state where its parameter's elements are dropped; nothing is counted."""
    name = planned.parameter.name
    mask = draft.passes[draft.shared.get(name, name)].mask
    steps = StridedSteps(cleared=True, counted=False)
    whole = _EditedTensor(Cleared(tensor, mask, Counting()), steps, ("state", tensor.name))
    for visit in _part_by_part(whole):
        _first_visit(draft, visit)


def _count_woven_weight(draft: _Draft, planned: PlannedParameter, job: TensorPass) -> None:
    """Count a weight in its own storage if it cannot be read block by block along with its mask."""
    weight = planned.parameter.weight
    mask_is_woven = planned.parameter.mask is not None and not job.tensor.view.row_major
    if not weight.view.row_major or mask_is_woven:
        beside = CountZeros(weight, job.mask, job.counting)
        _visit(draft, _EditedTensor(beside, _COUNTED, planned.key))


def _patches(visits: Mapping[str, _EditedTensor | dict[object, _EditedTensor]]) -> dict[str, Sequence[Patch]]:
    patches: dict[str, Sequence[Patch]] = {}
    for key, own in visits.items():
        several = (own,) if isinstance(own, _EditedTensor) else own.values()
        found = [visit for visit in several if visit.job.tensor.elements]
        if len(found) == 1:
            patches[key] = tuple(_patches_of(found))
        elif found:
            patches[key] = tuple(patch for cluster in _clusters(found) for patch in _patches_of(cluster))
    return patches


def _clusters(visits: Sequence[_EditedTensor]) -> Iterator[list[_EditedTensor]]:
    """Yield groups of tensors of one storage whose byte ranges overlap."""
    group: list[_EditedTensor] = []
    reach = 0
    rounded = any(not visit.job.tensor.view.row_major for visit in visits)
    for visit in sorted(visits, key=lambda visit: visit.span(rounded=rounded)):
        low, high = visit.span(rounded=rounded)
        if group and low >= reach:
            yield group
            group = []
        group.append(visit)
        reach = max(reach, high)
    if group:
        yield group


def _patches_of(cluster: Sequence[_EditedTensor]) -> Iterable[Patch]:
    if len(cluster) == 1 and cluster[0].job.tensor.view.row_major:
        return cluster[0].patches()
    spans = [visit.span(rounded=True) for visit in cluster]
    low, high = min(low for low, _ in spans), max(high for _, high in spans)
    return [Patch(low, high - low, StridedRegion(low, high - low, [(visit.job, visit.action) for visit in cluster]))]

"""Measure a checkpoint: count the zeros in its data, and make a report from the counts."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from prunecli.core.structure.model import Pattern, Structure
from prunecli.errors import DamagedError, show
from prunecli.formats.base import Layout, TensorInfo
from prunecli.formats.outputs.base import OutputFile
from prunecli.surgery.data.counts import Counts, ParameterCounts
from prunecli.surgery.names.absent import check_absent
from prunecli.surgery.names.companions import find_companions
from prunecli.surgery.names.left_out import left_out
from prunecli.surgery.names.parameters import Parameter, parameters_of
from prunecli.surgery.names.select import Selection, select
from prunecli.surgery.names.stored_twice import StoredTwice, find_stored_twice
from prunecli.surgery.names.ties import share_storages
from prunecli.surgery.plan.model import Plan
from prunecli.surgery.report.choice_record import ChoiceRecord
from prunecli.surgery.report.model import CheckpointRef, ParameterReport, Report, State
from prunecli.surgery.report.provenance import stamps_of
from prunecli.surgery.run.edit import build_edit, read_only_pieces
from prunecli.surgery.run.options import Run
from prunecli.surgery.run.resume import count

__all__ = [
    "make_report",
    "measure",
    "measure_parameters",
    "picture_cells",
]

_NOTHING: Mapping[str, Any] = {}  # a dict, which ranks can send each other
"""What most choices record, shared by their rows."""

_PICTURES = ((128, 256), (64, 1024), (32, 4096))
"""Pairs of cells per side of a picture, and the largest number of parameters for which pictures have that size."""


def measure(
    checkpoint: Layout,
    selection: Selection | None,
    run: Run | None = None,
    *,
    structure: bool = False,
    pictures: bool = False,
) -> Report:
    """Return a report on all ordinary parameters, or the selected ones, with their zeros counted in one pass.

    With several ranks, each reads its share, and the leader's report has the sums. With `structure`, the report also
    describes where the zeros lie; with `pictures`, also as pictures, which are smaller for more parameters.

    Raises:
        DamagedError: the checksum of a weight that fills its storage differs from the one in the file.
    """
    parameters = parameters_of(checkpoint)
    if selection is not None:
        check_absent(checkpoint, parameters, selection)
        chosen = select(parameters, selection)
    else:
        chosen = [parameter for parameter in parameters.values() if parameter.matches_globs]
    report = measure_parameters(checkpoint, chosen, run, structure=structure, pictures=pictures)
    return replace(report, left_out=left_out(checkpoint, parameters, {parameter.name for parameter in chosen}))


def measure_parameters(
    checkpoint: Layout,
    chosen: Sequence[Parameter],
    run: Run | None = None,
    *,
    structure: bool = False,
    pictures: bool = False,
) -> Report:
    """Return a report on these parameters, as `measure` does."""
    looked_at = {parameter.name: parameter for parameter in chosen}
    plan = Plan("report", looked_at, {}, bake=False, stored_twice=find_stored_twice(checkpoint, looked_at))
    cells = picture_cells(chosen) if pictures else {}
    surgery = build_edit(checkpoint, plan, cells if structure or pictures else None)
    counts = surgery.new_counts()
    pieces = read_only_pieces(surgery.edit, (parameter.weight for parameter in chosen))
    count(counts, [OutputFile("", pieces, checkpoint.source, changes=False)], run or Run())
    for parameter in chosen:
        _check_sum(checkpoint, parameter, counts.by_name.get(parameter.name))
    return make_report(checkpoint, plan, counts, None)


def _check_sum(checkpoint: Layout, parameter: Parameter, counts: ParameterCounts | None) -> None:
    """Compare a weight's checksum, computed during the pass, with the one recorded in the file."""
    weight, values = parameter.weight, counts.values if counts else None
    recorded = weight.storage.crc
    if recorded is None or values is None or not values.ready or parameter.mask is not None or len(weight.parts) > 1:
        return
    if weight.span == (0, weight.storage.nbytes) and weight.view.row_major and values.value != recorded:
        raise DamagedError(
            f"{checkpoint.source.label}: {show(weight.name)} is damaged: its CRC-32 is {values.value:08x}, "
            f"recorded was {recorded:08x}; fetch the checkpoint again"
        )


def picture_cells(parameters: Sequence[Parameter]) -> dict[str, int]:
    """Return the number of cells per side of each parameter's picture, so that all pictures together take a few MiB.

    With very many parameters, only the largest have a picture.
    """
    cells = next((cells for cells, most in _PICTURES if len(parameters) <= most), _PICTURES[-1][0])
    largest = sorted(parameters, key=lambda each: each.weight.elements, reverse=True)
    return {parameter.name: cells for parameter in largest[: _PICTURES[-1][1]]}


def make_report(checkpoint: Layout, plan: Plan, counts: Counts, output: CheckpointRef | None) -> Report:
    """Return the report on a finished pass."""
    source = checkpoint.source
    ties = _tied_groups(plan.parameters, plan.stored_twice)
    companions = find_companions(plan.parameters, checkpoint) if plan.planned else {}
    modules: dict[str, str] = {}
    counted = plan.parameters
    if not all(map(plan.counted, counted.values())):
        counted = {name: each for name, each in counted.items() if plan.counted(each)}
    parameters = [
        _parameter(parameter, plan, counts, ties.get(name, ()), companions.get(name, ()), modules)
        for name, parameter in counted.items()
    ]
    return Report(
        command=plan.command,
        source=CheckpointRef(source.name, checkpoint.format, source.size),
        output=output,
        parameters=parameters,
        prune=plan.prune,
        carried=[tensor.name for tensor in checkpoint.carried],
        stamps=stamps_of(checkpoint),
        left_out=left_out(checkpoint, plan.parameters, counted),
        key=plan.key,
    )


def _parameter(
    parameter: Parameter,
    plan: Plan,
    counts: Counts,
    tied_to: tuple[str, ...],
    companions: Sequence[TensorInfo],
    modules: dict[str, str],
) -> ParameterReport:
    """Return the row of a parameter; `modules` has the names of earlier ones, so that each is in memory once."""
    planned = plan.planned.get(parameter.name)
    found = counts.by_name.get(parameter.name)
    state: State = "masked" if parameter.mask is not None else "dense"
    if planned is not None:
        state = "dense" if plan.command == "restore" else "baked" if plan.bake else "masked"
    structure = found.structure.result() if found and found.structure else None
    return ParameterReport(
        name=parameter.name,
        module=modules.setdefault(parameter.module, parameter.module),
        shape=parameter.weight.shape,
        dtype=parameter.weight.dtype.name,
        elements=parameter.weight.elements,
        zeros_before=found.zeros_before if found else None,
        zeros=found.zeros if found else None,
        state=state,
        pruned_now=planned.pruned_now if planned else 0,
        tied_to=tied_to,
        key=planned.key if planned else parameter.key,
        candidates=planned.target.candidates if planned and planned.choice else None,
        mask_sha256=found.mask_sha256 if found else None,
        crc32=found.crc32 if found else None,
        structure=structure,
        copies=tuple(each.name for each in companions) if planned else (),
        zeroed=tuple(tensor.name for tensor in plan.state.get(parameter.name, ())),
        role=parameter.role,
        zero_norms=found.slices.empty if found and found.slices else 0,
        choice=(ChoiceRecord(planned.choice) if planned and planned.choice else {}) or _NOTHING,
        group=planned.group if planned else 0,
        smallest_pruned=found.magnitudes.smallest_pruned if found and found.magnitudes else None,
        smallest_left=found.magnitudes.smallest_left(found.zeros) if found and found.magnitudes else None,
        patterns=_patterns(found, structure) if found and structure else (),
    )


def _patterns(found: ParameterCounts, structure: Structure) -> tuple[Pattern, ...]:
    """Return the N:M patterns of a parameter, which the rows and columns that are not empty have to show."""
    rest = (structure.rows - structure.empty_rows) * (structure.columns - structure.empty_columns)
    if found.patterns is None or not rest:
        return ()
    return found.patterns.result((structure.rows * structure.columns - found.zeros) / rest)


def _tied_groups(parameters: Mapping[str, Parameter], stored_twice: StoredTwice) -> dict[str, tuple[str, ...]]:
    """Return, for the parameters that have some, the others in the same memory, or stored as an equal copy."""
    if not share_storages([each.weight for each in parameters.values()]):
        return dict(stored_twice)
    first: dict[object, str] = {}
    groups: dict[str, list[str]] = {}  # by the first member; only of those that have more
    for name, parameter in parameters.items():
        weight = parameter.weight
        if weight.elements:  # empty tensors share nothing, wherever they lie
            place = (weight.storage.key, weight.view.start, weight.view.normal(), weight.dtype.name)
            leader = first.setdefault(place, name)
            if leader != name:
                groups.setdefault(leader, [leader]).append(name)
    found = {name: tuple(each for each in group if each != name) for group in groups.values() for name in group}
    return found | {name: (*found.get(name, ()), *others) for name, others in stored_twice.items()}

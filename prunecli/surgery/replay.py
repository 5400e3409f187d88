"""Reproduce the masks that a report records, on the same checkpoint or on another state of the same model."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from prunecli.core.methods.base import Choice
from prunecli.core.methods.request import spelled
from prunecli.errors import DamagedError, ThresholdError, UsageError, show
from prunecli.formats.base import Layout
from prunecli.surgery.data.counts import Counts
from prunecli.surgery.data.kept import NOTHING, Given
from prunecli.surgery.names.pair import pair_names
from prunecli.surgery.names.parameters import Parameter, canonical, parameters_of
from prunecli.surgery.plan.choices import choose_given
from prunecli.surgery.plan.model import Plan, PlannedParameter
from prunecli.surgery.plan.plan import check_request, plan_parameters
from prunecli.surgery.plan.request import PruneGroup, PruneRequest
from prunecli.surgery.plan.rescaling import check_rescaled
from prunecli.surgery.plan.scan import THIS_PROCESS, Scanner, Steps, carry_out_steps
from prunecli.surgery.plan.slices import MOST_ROWS
from prunecli.surgery.report.model import ParameterReport, Report
from prunecli.terms import MASKS

__all__ = ["check_masks", "plan_replay"]


def plan_replay(
    checkpoint: Layout,
    report: Report,
    prune: PruneRequest,
    scanner: Scanner = THIS_PROCESS,
    given: Given = NOTHING,
) -> Plan:
    """Return a plan for the masks that a report of `apply` records.

    `prune` is the report's request, perhaps with other options for how masks are written. Nothing is selected or chosen
    again: each parameter that the report lists as pruned gets the same choice. So it must have as many candidates as
    then. `given` are the scores that methods read.

    Raises:
        UsageError: another command wrote the report, or a parameter is missing, or has another shape, or other
            candidates.
        PrunecliError: as `plan_prune`.
    """
    return carry_out_steps(checkpoint, _replay_steps(checkpoint, report, prune, given), scanner)


def _replay_steps(checkpoint: Layout, report: Report, prune: PruneRequest, given: Given) -> Steps[Plan]:
    drawn = [each for each in report.parameters if each.candidates is not None]
    if report.prune is None or not drawn:
        raise UsageError(f"the report is of {show(report.command)}, and records no masks that a run made")
    check_request(checkpoint, prune)
    parameters = parameters_of(checkpoint)
    recorded = _recorded(checkpoint, parameters, drawn)
    selected = [parameter for name, parameter in parameters.items() if name in recorded]
    groups = {name: _group(row, prune) for name, row in recorded.items()}
    slices = {name: _slices(row) for name, row in recorded.items() if "slices" in row.choice}
    planned, stored_twice = yield from plan_parameters(checkpoint, parameters, selected, prune, groups, slices, given)
    if prune.reads_given:
        _check_given((yield from choose_given(planned, prune)), planned, recorded)
    done = {each.parameter.name: _replayed(each, recorded[each.parameter.name], prune) for each in planned}
    _check_ties(done)
    check_rescaled(prune, done.values())
    expected = {name: each.mask_sha256 for name, each in recorded.items()}
    return Plan("apply", parameters, done, prune.remove, prune, stored_twice, expected)


def check_masks(plan: Plan, counts: Counts) -> None:
    """Compare the new masks with those that the plan expects, before the output is published.

    Of a mask whose digest the report does not record, the number of elements is compared.

    Raises:
        ThresholdError: one differs from the expected mask.
    """
    digests = {name: digest for name, digest in plan.expected.items() if digest is not None}
    for name in plan.expected.keys() - digests.keys():
        planned, kept = plan.planned[name], counts.by_name[name].kept
        dropped = planned.pruned_now if kept is None else planned.target.candidates - kept.kept
        if dropped != planned.pruned_now:
            raise ThresholdError(
                f"the report records {planned.pruned_now:,} pruned elements of {show(name)}, and its choice prunes "
                f"{dropped:,} here; give the report as it was written, and the checkpoint that it was made from"
            )
    wrong = [name for name, digest in digests.items() if counts.by_name[name].mask_sha256 != digest]
    if wrong:
        raise ThresholdError(
            f"the mask of {show(wrong[0])} differs from the report's ({len(wrong)} differ): other elements of this "
            "checkpoint were pruned before or are zero, or values differ that the method compares; replay the report "
            "on the checkpoint that it was made from"
        )


def _recorded(
    checkpoint: Layout, parameters: Mapping[str, Parameter], drawn: list[ParameterReport]
) -> dict[str, ParameterReport]:
    """Return the report's row for each parameter that was pruned, by the checkpoint's names."""
    keys = {name: parameter.key for name, parameter in parameters.items()}
    names = pair_names({each.name: canonical(each.name) for each in drawn}, keys)
    found = {}
    for each in drawn:
        name = names.get(each.name)
        if name is None:
            raise UsageError(f"{checkpoint.source.label} has no {show(each.name)}, which the report prunes")
        shape = parameters[name].weight.shape
        if shape != each.shape:
            raise UsageError(f"{show(name)} has the shape {list(shape)}, and {list(each.shape)} in the report")
        found[name] = each
    return found


def _group(row: ParameterReport, prune: PruneRequest) -> PruneGroup:
    """Return the group of a row; only reports with different methods record which one it is."""
    if row.group >= len(prune.groups):
        raise DamagedError(f"the report's group of {show(row.name)} is not one of its {len(prune.groups)} groups")
    return prune.groups[row.group]


def _slices(row: ParameterReport) -> int:
    """Return the number of slices that a row records, which is that of its first dimension."""
    count = row.shape[0] if row.shape and row.elements else 0
    if not count or row.choice["slices"] != count or count > MOST_ROWS:
        raise DamagedError(f"the report's slices of {show(row.name)} are not those of its shape")
    return count


def _replayed(planned: PlannedParameter, row: ParameterReport, prune: PruneRequest) -> PlannedParameter:
    """Return a planned parameter with the choice that the report records."""
    candidates = planned.target.candidates
    if candidates != row.candidates:
        raise UsageError(
            f"{show(row.name)} has {candidates} unpruned elements, and had {row.candidates} when the report was made; "
            "replay needs the checkpoint as it was before that prune, or another one in that state"
        )
    target = replace(planned.target, key=row.key)
    if planned.method is None:
        raise ValueError(f"{row.name} has no method")
    try:
        choice = planned.method.replay(target, prune.seed or 0, row.pruned_now, row.choice)
    except (KeyError, TypeError, ValueError):
        name = spelled(_group(row, prune).method.name)
        raise DamagedError(
            f"the report's choice for {show(row.name)} is not one that {name} makes; give the report as it was written"
        ) from None
    return replace(planned, target=target, choice=choice, group=row.group)


def _check_given(
    choices: Mapping[str, Choice], planned: Sequence[PlannedParameter], recorded: Mapping[str, ParameterReport]
) -> None:
    """Refuse given masks that differ from those that the report records."""
    for each in planned:
        name = each.parameter.name
        if choices[each.key].as_dict() != recorded[name].choice:
            raise UsageError(
                f"the mask of {show(name)} in {MASKS} is not the one that the report records; give that file"
            )


def _check_ties(planned: Mapping[str, PlannedParameter]) -> None:
    """Refuse tied parameters that were not pruned together."""
    for name, each in planned.items():
        for partner in each.tied_to:
            if partner in planned and _identity(planned[partner]) != _identity(each):
                raise UsageError(
                    f"{show(name)} and {show(partner)} are tied here, but were not when the report was made; prune "
                    "this checkpoint without the report"
                )


def _identity(planned: PlannedParameter) -> object:
    """Return a key that is equal for equal choices."""
    return planned.key, planned.pruned_now, planned.choice and planned.choice.as_dict()

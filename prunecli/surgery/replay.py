"""The masks of a report, once more: on the same checkpoint to the bit, or on another state of the same model."""

from collections.abc import Mapping
from dataclasses import replace

from prunecli.core.methods import parse_method
from prunecli.errors import DamagedError, ThresholdError, UsageError, show
from prunecli.formats.base import Layout
from prunecli.surgery.data.counts import Counts
from prunecli.surgery.names.pair import pair_names
from prunecli.surgery.names.parameters import Parameter, canonical, parameters_of
from prunecli.surgery.plan.plan import Plan, PlannedParameter, check_request, plan_parameters
from prunecli.surgery.plan.request import PruneRequest
from prunecli.surgery.plan.scan import THIS_PROCESS, Scanner, Steps, carry_out_steps
from prunecli.surgery.report.model import ParameterReport, Report

__all__ = ["check_masks", "plan_replay"]


def plan_replay(
    checkpoint: Layout,
    report: Report,
    prune: PruneRequest,
    scanner: Scanner = THIS_PROCESS,
) -> Plan:
    """Plan the masks that a report of `apply` tells of; `prune` is its request, or that with other ways to write them.

    Nothing is selected or chosen anew: each parameter that the report pruned gets the choice that was made then. So it
    has to have as many candidates as it had then.

    Raises:
        UsageError: the report is of another command, or a parameter is missing, or has another shape, or other
            candidates.
        PrunecliError: as `plan_prune`.
    """
    return carry_out_steps(checkpoint, _replay_steps(checkpoint, report, prune), scanner)


def _replay_steps(checkpoint: Layout, report: Report, prune: PruneRequest) -> Steps[Plan]:
    drawn = [each for each in report.parameters if each.candidates is not None]
    if report.prune is None or not drawn:
        raise UsageError(f"the report is of {show(report.command)}, and tells of no masks that were drawn")
    check_request(checkpoint, prune)
    parameters = parameters_of(checkpoint)
    told = _found(checkpoint, parameters, drawn)
    selected = [parameter for name, parameter in parameters.items() if name in told]
    planned, stored_twice = yield from plan_parameters(checkpoint, parameters, selected, prune)
    done = {each.parameter.name: _as_told(each, told[each.parameter.name], prune) for each in planned}
    _check_ties(done)
    expected = {name: each.mask_sha256 for name, each in told.items() if each.mask_sha256 is not None}
    return Plan("apply", parameters, done, prune.remove, prune, stored_twice, expected)


def check_masks(plan: Plan, counts: Counts) -> None:
    """Compare the masks that were made with those that the plan expects, before the output gets its name.

    Raises:
        ThresholdError: one is another.
    """
    wrong = [name for name, digest in plan.expected.items() if counts.by_name[name].mask_sha256 != digest]
    if wrong:
        raise ThresholdError(
            f"the mask of {show(wrong[0])} is not the report's ({len(wrong)} differ): what was pruned before, or was "
            "zero, lies elsewhere in this checkpoint"
        )


def _found(
    checkpoint: Layout, parameters: Mapping[str, Parameter], drawn: list[ParameterReport]
) -> dict[str, ParameterReport]:
    """Return what the report tells of each parameter: by its name, or else by what is left of it without wrappers."""
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


def _as_told(planned: PlannedParameter, told: ParameterReport, prune: PruneRequest) -> PlannedParameter:
    candidates = planned.target.candidates
    if candidates != told.candidates:
        raise UsageError(
            f"{show(told.name)} has {candidates} elements left to draw from, and had {told.candidates} when the report "
            "was made; replay takes the checkpoint as it was before that prune, or another one in that state"
        )
    target = replace(planned.target, key=told.key)
    try:
        choice = parse_method(prune.method).replay(target, prune.seed or 0, told.pruned_now, told.choice)
    except (KeyError, TypeError, ValueError):
        raise DamagedError(
            f"the report's choice for {show(told.name)} is not one that {prune.method} makes; give the report as it "
            "was written"
        ) from None
    return replace(planned, target=target, choice=choice)


def _check_ties(planned: Mapping[str, PlannedParameter]) -> None:
    """Refuse tied parameters that the report did not prune together."""
    for name, each in planned.items():
        for partner in each.tied_to:
            if partner in planned and _identity(planned[partner]) != _identity(each):
                raise UsageError(
                    f"{show(name)} and {show(partner)} are tied here, and were not when the report was made; prune "
                    "this checkpoint by itself"
                )


def _identity(planned: PlannedParameter) -> object:
    """Return what is equal for equal choices."""
    return planned.key, planned.pruned_now, planned.choice and planned.choice.as_dict()

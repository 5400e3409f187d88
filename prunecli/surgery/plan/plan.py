"""The plan of a prune: which parameters, how many elements of each, and from which random streams.

The whole plan is checked before the first byte is written; `--dry-run` prints it.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace

from prunecli.core.methods import make_method
from prunecli.core.seed import check_seed
from prunecli.errors import UnsupportedError, UsageError, show
from prunecli.formats.base import Layout
from prunecli.surgery.data.kept import NOTHING, Given
from prunecli.surgery.names.absent import check_absent
from prunecli.surgery.names.left_out import masks_left, passed_over
from prunecli.surgery.names.parameters import Parameter, parameters_of
from prunecli.surgery.names.select import Selected, Selection, choose, select
from prunecli.surgery.names.stored_twice import StoredTwice, find_stored_twice
from prunecli.surgery.names.ties import check_baked_masks, check_shared_masks, find_ties
from prunecli.surgery.plan.amounts import Division, LikeReader, divide, division_notes
from prunecli.surgery.plan.candidates import count_candidates
from prunecli.surgery.plan.choices import Choices, choose_given, given_notes, group_targets, make_choices
from prunecli.surgery.plan.methods import methods_of
from prunecli.surgery.plan.model import Plan, PlannedParameter
from prunecli.surgery.plan.nothing import check_elements
from prunecli.surgery.plan.request import PruneGroup, PruneRequest
from prunecli.surgery.plan.rescaling import check_rescaled
from prunecli.surgery.plan.scan import THIS_PROCESS, Scanner, Steps, carry_out_steps
from prunecli.surgery.plan.slices import count_slices, split_slices
from prunecli.terms import BAKE, CLONE, LISTING, PARAM, RESCALE, SUBJECT, UNTIE, WITH_STATE

__all__ = [
    "SEEDS",
    "check_request",
    "plan_bake",
    "plan_parameters",
    "plan_prune",
    "select_masked",
]

SEEDS = 1 << 32
"""The limit of drawn seeds: small enough to be read out and typed in."""


def plan_prune(
    checkpoint: Layout,
    prune: PruneRequest,
    scanner: Scanner = THIS_PROCESS,
    read_like: LikeReader | None = None,
    given: Given = NOTHING,
) -> Plan:
    """Plan an `apply`; `read_like` reads what a request takes its counts from, `given` are the scores that it reads.

    Raises:
        UsageError: nothing is selected, or nothing that has elements, the amount is more than is left or cannot be
            divided as requested, or a tie needs a decision.
        UnsupportedError: two tied parameters have different masks, or the container has no place for masks.
    """
    return carry_out_steps(checkpoint, _prune_steps(checkpoint, prune, read_like, given), scanner)


def _prune_steps(checkpoint: Layout, prune: PruneRequest, read_like: LikeReader | None, given: Given) -> Steps[Plan]:
    """Read headers, count candidates, and let the methods scan and choose."""
    if prune.seed is None and prune.draws:
        prune = replace(prune, seed=secrets.randbelow(SEEDS))
    check_request(checkpoint, prune)
    prune = replace(prune, groups=tuple(map(_with_needs, prune.groups)))
    parameters = parameters_of(checkpoint)
    for group in prune.groups:
        check_absent(checkpoint, parameters, group.selection)
    selections = [_chosen(parameters, group) for group in prune.groups]
    groups = _grouped(selections)
    selected = [parameter for name, parameter in parameters.items() if name in groups]
    check_elements(checkpoint, selected)
    slices = count_slices(prune.groups, selections)
    own = {name: prune.groups[number] for name, number in groups.items()}
    planned, stored_twice = yield from plan_parameters(checkpoint, parameters, selected, prune, own, slices, given)
    _check_tied_groups(planned, groups)
    divisions: list[Division] = []
    if prune.reads_given:
        choices = Choices((yield from choose_given(planned, prune)))
    else:
        found = [group_targets(planned, groups, number) for number in range(len(prune.groups))]
        found = [
            each if group.per_row else split_slices(each, selected)
            for each, group, selected in zip(found, prune.groups, selections, strict=True)
        ]
        divisions = [divide(checkpoint, *each, read_like) for each in zip(prune.groups, found, strict=True)]
        prune = replace(prune, groups=tuple(each.group for each in divisions))
        choices = yield from make_choices(planned, divisions, prune)
    number = groups if prune.has_several_methods else dict.fromkeys(groups, 0)
    done = {
        each.parameter.name: each.with_choice(choices.by_key[each.key], number[each.parameter.name]) for each in planned
    }
    check_rescaled(prune, done.values())
    passed = passed_over(checkpoint, parameters, selections)
    unlike = {name: row for each in divisions for name, row in each.unlike.items()}
    pruned = choices.pruned
    notes = [note for each in divisions for note in division_notes(each, pruned)]
    notes += [*choices.notes, *(given_notes(planned, choices.by_key) if prune.reads_given else ())]
    return Plan("apply", parameters, done, prune.remove, prune, stored_twice, unlike=unlike, passed=passed, notes=notes)


def _with_needs(group: PruneGroup) -> PruneGroup:
    """Return a group whose amount is over all its parameters together if its method needs that."""
    return replace(group, everywhere=True) if make_method(group.method).needs_global else group


def _chosen(parameters: Mapping[str, Parameter], group: PruneGroup) -> Selected:
    try:
        return choose(parameters, group.selection)
    except UsageError as error:
        raise error.inside(group.where) from None


def plan_parameters(
    checkpoint: Layout,
    parameters: Mapping[str, Parameter],
    selected: Sequence[Parameter],
    prune: PruneRequest,
    groups: Mapping[str, PruneGroup],
    slices: Mapping[str, int],
    given: Given,
) -> Steps[tuple[list[PlannedParameter], StoredTwice]]:
    """Return the selected parameters with their ties, methods and candidates, before elements are chosen.

    `groups` are theirs by name, `slices` the numbers of slices of those that are pruned slice by slice.

    Raises:
        UsageError: a tie needs a decision, a new name is already in use, or a method cannot prune a parameter.
        UnsupportedError: two tied parameters have different masks, or a mask has values that cannot be handled.
    """
    _check_names(parameters, selected, prune)
    dense = f"keep the other dense with {UNTIE} (masks only)"
    stored_twice = find_stored_twice(checkpoint, parameters)
    ties = find_ties(checkpoint, parameters, selected, dense, stored_twice, untie=prune.untie)
    check = check_baked_masks if prune.remove else check_shared_masks
    check(checkpoint, parameters, ties)
    if prune.key_prefix:
        ties = {name: each._replace(key=prune.key_prefix + each.key) for name, each in ties.items()}
    methods = methods_of(selected, groups, {name: each.key for name, each in ties.items()}, given)
    planned = yield from count_candidates(selected, ties, methods, slices, zeros_are_pruned=prune.zeros_are_pruned)
    return planned, stored_twice


def check_request(checkpoint: Layout, prune: PruneRequest) -> None:
    """Refuse a request that no checkpoint, or none in this format, can meet.

    Raises:
        UsageError: the seed is out of range, or the request contradicts itself.
        UnsupportedError: the container has no place for masks.
    """
    check_seed(prune.seed or 0)
    if prune.untie and prune.remove:
        raise UsageError(
            f"{UNTIE} keeps tied partners dense by giving one a mask; a baked tie is one storage, so leave "
            f"{UNTIE} or {BAKE} out"
        )
    if prune.rescale and (not prune.remove or prune.with_state):
        other = f"leave {WITH_STATE} out" if prune.remove else f"add {BAKE}"
        raise UsageError(f"{RESCALE} changes the kept values of weights, and nothing else; {other}")
    if checkpoint.no_masks_because and not prune.remove:
        raise UnsupportedError(f"{checkpoint.source.label} takes no masks: {checkpoint.no_masks_because}; use {BAKE}")


def _grouped(selections: Sequence[Selected]) -> dict[str, int]:
    """Return the index of each selected parameter's group."""
    found: dict[str, int] = {}
    for number, selection in enumerate(selections):
        for parameter in selection.taken:
            other = found.setdefault(parameter.name, number)
            if other != number:
                raise UsageError(
                    f"{show(parameter.name)} is in groups {other + 1} and {number + 1}; exclude it from one of them"
                )
    return found


def plan_bake(checkpoint: Layout, selection: Selection | None, scanner: Scanner = THIS_PROCESS) -> Plan:
    """Plan a `remove`: bake the existing masks, all or the selected ones.

    Raises:
        UsageError: no parameter, or no selected one, has a mask; or a tie needs a decision.
        UnsupportedError: a mask cannot be baked, since its weight (or itself) has no elements that can be zeroed.
    """
    return carry_out_steps(checkpoint, _bake_steps(checkpoint, selection), scanner)


def _bake_steps(checkpoint: Layout, selection: Selection | None) -> Steps[Plan]:
    parameters = parameters_of(checkpoint)
    selected = select_masked(checkpoint, parameters, selection, "bake")
    _check_bakeable(checkpoint, selected)
    stored_twice = find_stored_twice(checkpoint, parameters)
    ties = find_ties(checkpoint, parameters, selected, CLONE, stored_twice)
    check_baked_masks(checkpoint, parameters, ties)
    found = yield from count_candidates(selected, ties)
    planned = {each.parameter.name: each for each in found}
    passed = masks_left(checkpoint, parameters, planned)
    return Plan("remove", parameters, planned, bake=True, stored_twice=stored_twice, passed=passed)


def select_masked(
    checkpoint: Layout, parameters: Mapping[str, Parameter], selection: Selection | None, verb: str
) -> list[Parameter]:
    """Return the parameters with masks, all or the selected ones; the `verb` says what is done to masks.

    Raises:
        UsageError: no parameter, or no selected one, has a mask.
    """
    masked = [parameter for parameter in parameters.values() if parameter.mask is not None]
    if not masked:
        raise UsageError(
            f"{checkpoint.source.label} holds no masks to {verb} (no NAME_orig with NAME_mask, "
            "and no other layout of masks)"
        )
    if selection is None:
        return masked
    check_absent(checkpoint, parameters, selection)
    selected = [each for each in select(parameters, selection) if each.mask is not None]
    if not selected:
        raise UsageError(f"none of the selected parameters has a mask; {LISTING} shows which do")
    return selected


def _check_bakeable(checkpoint: Layout, selected: Sequence[Parameter]) -> None:
    """Refuse to remove a mask that cannot be multiplied into its weight."""
    for parameter in selected:
        reason = parameter.unprunable_reason()
        if reason is not None:
            raise UnsupportedError(
                f"{checkpoint.source.label}: the mask of {show(parameter.name)} cannot be baked: {reason}; bake "
                f"it with torch, or select the others by {PARAM}"
            )


def _check_tied_groups(planned: Sequence[PlannedParameter], groups: Mapping[str, int]) -> None:
    """Refuse tied parameters in groups of different amounts."""
    seen: dict[str, PlannedParameter] = {}
    for each in planned:
        first = seen.setdefault(each.key, each).parameter.name
        one, other = groups[first], groups[each.parameter.name]
        if one != other:
            raise UsageError(
                f"{show(first)} and {show(each.parameter.name)} are tied, but groups {one + 1} and {other + 1} select "
                "them; put both into one group"
            )


def _check_names(parameters: Mapping[str, Parameter], selected: Sequence[Parameter], prune: PruneRequest) -> None:
    """Refuse new names that are already in use."""
    for parameter in () if prune.remove else selected:
        taken = [name for name in (f"{parameter.name}_orig", f"{parameter.name}_mask") if name in parameters]
        if parameter.mask is None and taken:
            raise UsageError(f"{SUBJECT} already has a tensor {show(taken[0])}; use {BAKE} instead")

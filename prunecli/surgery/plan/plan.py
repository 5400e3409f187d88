"""The plan of a prune: which parameters, how many elements of each, and from which random streams.

The whole plan is checked before the first byte is written; `--dry-run` prints it.
"""

import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field, replace
from functools import partial
from types import MappingProxyType
from typing import Literal

from prunecli.core.methods import parse_method
from prunecli.core.methods.base import Choice, Method, Scan, Target, TargetGroup
from prunecli.core.methods.slices import Slices
from prunecli.core.random_stream import check_seed
from prunecli.core.rescale import RESCALABLE
from prunecli.errors import UnsupportedError, UsageError, show
from prunecli.formats.base import Layout, TensorInfo
from prunecli.lean import dataclass
from prunecli.surgery.data.final_mask import check_scalable
from prunecli.surgery.data.scanned import BlockScan, CandidateCount, CandidateCounter, MethodScan
from prunecli.surgery.names.absent import check_absent
from prunecli.surgery.names.left_out import PassedOver, masks_left, passed_over
from prunecli.surgery.names.parameters import Parameter, parameters_of
from prunecli.surgery.names.select import Selected, Selection, choose, select
from prunecli.surgery.names.stored_twice import StoredTwice, find_stored_twice
from prunecli.surgery.names.ties import check_baked_masks, check_shared_masks, find_ties
from prunecli.surgery.plan.amounts import Division, LikeReader, LikeRow, divide, division_notes
from prunecli.surgery.plan.nothing import check_elements
from prunecli.surgery.plan.order import GroupTargets
from prunecli.surgery.plan.request import PruneGroup, PruneRequest
from prunecli.surgery.plan.scan import THIS_PROCESS, Scanner, Steps, carry_out_steps
from prunecli.surgery.plan.slices import count_slices, join_slices, split_slices
from prunecli.terms import BAKE, CLONE, LISTING, MASKS, PARAM, RESCALE, SUBJECT, UNTIE, WITH_STATE

__all__ = [
    "SEEDS",
    "Command",
    "Plan",
    "PlannedParameter",
    "check_request",
    "check_rescaled",
    "choose_given",
    "plan_bake",
    "plan_parameters",
    "plan_prune",
    "rescale_factor",
    "select_masked",
]

Command = Literal["apply", "remove", "restore", "report"]

SEEDS = 1 << 32
"""The limit of drawn seeds: small enough to be read out and typed in."""


@dataclass(frozen=True, slots=True)
class PlannedParameter:
    """A parameter to work on. `target` is its description for the method; all members of a tied group have one key.

    `binary` means that its mask contains only 0 and 1. Without a `choice`, nothing more is dropped.
    """

    parameter: Parameter
    target: Target
    tied_to: tuple[str, ...]
    digest: str = ""
    """A digest of its candidates."""
    binary: bool = True
    choice: Choice | None = None

    @property
    def key(self) -> str:
        """The canonical name, the same for all members of a tied group."""
        return self.target.key

    @property
    def pruned_now(self) -> int:
        """The number of elements that this run drops."""
        return self.choice.pruned if self.choice else 0


@dataclass(frozen=True)
class Plan:
    """Everything that a run will do. With `bake`, masks are multiplied into the weights and removed.

    `expected` maps parameters to the digests that their final masks must have, taken from the report to reproduce.
    """

    command: Command
    parameters: Mapping[str, Parameter]
    planned: Mapping[str, PlannedParameter]
    bake: bool
    prune: PruneRequest | None = None
    stored_twice: StoredTwice = field(default_factory=dict)
    expected: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str | None] = field(default_factory=dict)
    """Entries for the container's metadata: the stamp; None removes one."""
    unlike: Mapping[str, LikeRow] = field(default_factory=dict)
    """The masks whose counts were taken, by parameter: the new masks must not be the same."""
    passed: PassedOver = field(default_factory=PassedOver)
    """Tensors that patterns matched but did not take, and others that contain weights."""
    key: str | None = None
    """The path of the state dict as the user gave it."""
    state: Mapping[str, Sequence[TensorInfo]] = field(default_factory=dict)
    """Optimizer state in which dropped elements are zeroed too, by the planned parameter."""
    notes: Sequence[str] = ()
    """Sentences for the user about the division of the amount."""

    @property
    def seed(self) -> int | None:
        """The seed from which masks are drawn."""
        return self.prune.seed if self.prune else None

    def counted(self, parameter: Parameter) -> bool:
        """Whether the report contains a parameter's number of zeros."""
        return self.command == "report" or parameter.matches_globs or parameter.name in self.planned


def plan_prune(
    checkpoint: Layout, prune: PruneRequest, scanner: Scanner = THIS_PROCESS, read_like: LikeReader | None = None
) -> Plan:
    """Plan an `apply`; `read_like` reads what a request takes its counts from.

    Raises:
        UsageError: nothing is selected, or nothing that has elements, the amount is more than is left or cannot be
            divided as requested, or a tie needs a decision.
        UnsupportedError: two tied parameters have different masks, or the container has no place for masks.
    """
    return carry_out_steps(checkpoint, _prune_steps(checkpoint, prune, read_like), scanner)


def _prune_steps(checkpoint: Layout, prune: PruneRequest, read_like: LikeReader | None) -> Steps[Plan]:
    """Read headers, count candidates, and let the method scan and choose."""
    method = parse_method(prune.method)
    if prune.seed is None and method.draws:
        prune = replace(prune, seed=secrets.randbelow(SEEDS))
    check_request(checkpoint, prune)
    parameters = parameters_of(checkpoint)
    for group in prune.groups:
        check_absent(checkpoint, parameters, group.selection)
    selections = [_chosen(parameters, group) for group in prune.groups]
    groups = _grouped(selections)
    selected = [parameter for name, parameter in parameters.items() if name in groups]
    check_elements(checkpoint, selected)
    slices = count_slices(prune.groups, selections)
    planned, stored_twice = yield from plan_parameters(checkpoint, parameters, selected, prune, slices)
    _check_tied_groups(planned, groups)
    divisions: list[Division] = []
    if method.reads_given:
        choices = yield from choose_given(planned, prune)
    else:
        found = [_targets(planned, groups, number) for number in range(len(prune.groups))]
        found = [
            each if group.per_row else split_slices(each, selected)
            for each, group, selected in zip(found, prune.groups, selections, strict=True)
        ]
        divisions = [divide(checkpoint, *each, read_like) for each in zip(prune.groups, found, strict=True)]
        prune = replace(prune, groups=tuple(each.group for each in divisions))
        choices = yield from _choose(planned, divisions, prune)
    done = {each.parameter.name: replace(each, choice=choices[each.key]) for each in planned}
    check_rescaled(prune, done.values())
    passed = passed_over(checkpoint, parameters, selections)
    unlike = {name: row for each in divisions for name, row in each.unlike.items()}
    notes = [note for each in divisions for note in division_notes(each, choices)]
    notes += _given_notes(planned, choices) if method.reads_given else ()
    return Plan("apply", parameters, done, prune.remove, prune, stored_twice, unlike=unlike, passed=passed, notes=notes)


def _chosen(parameters: Mapping[str, Parameter], group: PruneGroup) -> Selected:
    try:
        return choose(parameters, group.selection)
    except UsageError as error:
        raise (error.inside(group.where) if group.where else error) from None


def plan_parameters(
    checkpoint: Layout,
    parameters: Mapping[str, Parameter],
    selected: Sequence[Parameter],
    prune: PruneRequest,
    slices: Mapping[str, int],
) -> Steps[tuple[list[PlannedParameter], StoredTwice]]:
    """Return the selected parameters with their ties and candidates, before elements are chosen.

    `slices` are the numbers of slices of those that are pruned slice by slice.

    Raises:
        UsageError: a tie needs a decision, or a new name is already in use.
        UnsupportedError: two tied parameters have different masks, or a mask has values that cannot be handled.
    """
    _check_names(parameters, selected, prune)
    dense = f"keep the other dense with {UNTIE} (masks only)"
    stored_twice = find_stored_twice(checkpoint, parameters)
    ties = find_ties(checkpoint, parameters, selected, dense, stored_twice, untie=prune.untie)
    check = check_baked_masks if prune.remove else check_shared_masks
    check(checkpoint, parameters, ties)
    ties = {name: (prune.key_prefix + key, partners) for name, (key, partners) in ties.items()}
    method = parse_method(prune.method)
    planned = yield from _counted(selected, ties, method, slices, zeros_are_pruned=prune.zeros_are_pruned)
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


def rescale_factor(plan: Plan, planned: PlannedParameter) -> float:
    """Return by what the kept elements of a parameter are multiplied: 1 by their share of the unpruned elements."""
    if plan.prune is None or not plan.prune.rescale or not planned.pruned_now:
        return 1.0
    return planned.target.candidates / (planned.target.candidates - planned.pruned_now)


def check_rescaled(prune: PruneRequest, planned: Iterable[PlannedParameter]) -> None:
    """Refuse to rescale parameters that cannot be multiplied, or of which nothing is kept.

    Raises:
        UsageError: there is one.
    """
    for each in planned if prune.rescale else ():
        dtype, name = each.parameter.weight.dtype, show(each.target.name)
        if (dtype.half or dtype.name) not in RESCALABLE:
            types = ", ".join(RESCALABLE)
            raise UsageError(f"{RESCALE} multiplies values of {types}, and {name} is {dtype.name}; leave it out")
        if each.target.candidates == each.pruned_now and each.parameter.weight.elements:
            raise UsageError(f"{RESCALE} divides by what is kept, and nothing is kept of {name}; prune less of it")


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
    found = yield from _counted(selected, ties)
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


def _counted(
    selected: Sequence[Parameter],
    ties: Mapping[str, tuple[str, tuple[str, ...]]],
    method: Method | None = None,
    slices: Mapping[str, int] = MappingProxyType({}),
    *,
    zeros_are_pruned: bool = False,
) -> Steps[list[PlannedParameter]]:
    """Count the candidates of parameters in the method's blocks; without a mask all elements are, and none are read."""
    targets, counters, scans = {}, {}, []
    for parameter in selected:
        name, weight = parameter.name, parameter.weight
        target = targets[name] = Target(ties[name][0], name, weight.shape, weight.dtype.name, weight.elements)
        if parameter.mask is not None or zeros_are_pruned:
            counters[name] = CandidateCounter(slices.get(name, 0))
            granule = method.granule(target) if method else 1
            scans.append(BlockScan(parameter, counters[name], zeros_are_pruned, granule=granule))
    if scans:
        yield scans
    planned = []
    for parameter in selected:
        name, target = parameter.name, targets[parameter.name]
        count = counters[name].count() if name in counters else CandidateCount(target.candidates)
        if not count.binary:
            check_scalable(parameter)
        if name in counters:
            target = replace(target, candidates=count.candidates, before=count.before)
        if number := slices.get(name):
            target = replace(target, slices=Slices(number, parameter.weight.elements // number, count.slices))
        planned.append(PlannedParameter(parameter, target, ties[name][1], count.digest, count.binary))
    _check_tied_masks(planned)
    return planned


def _targets(planned: Sequence[PlannedParameter], groups: Mapping[str, int], number: int) -> GroupTargets:
    """Return the targets of a group, in the order of the file, with their parameters; a tied group is one target."""
    targets: dict[str, Target] = {}
    members: dict[str, list[Parameter]] = {}
    for each in planned:
        if groups[each.parameter.name] == number:
            targets.setdefault(each.key, each.target)
            members.setdefault(each.key, []).append(each.parameter)
    return GroupTargets(targets, members)


def _choose(
    planned: Sequence[PlannedParameter], divisions: Sequence[Division], prune: PruneRequest
) -> Steps[dict[str, Choice]]:
    """Let the method scan each group as often as it needs to, and choose.

    Global groups with equally many candidates get different names: with the same name, their draws would be the same.
    """
    method = parse_method(prune.method)
    by_key = {each.key: each for each in reversed(planned)}
    choices: dict[str, Choice] = {}
    counts: set[int] = set()
    for division in divisions:
        given, targets, everywhere = dict(division.given), division.targets, division.group.everywhere
        rest, name = {key: targets[key] for key in sorted(targets.keys() - given.keys() - division.rows.keys())}, ""
        if everywhere:
            left = sum(target.candidates for target in rest.values())
            name = min(rest, default="") if left in counts else ""
            counts.add(left)
        seed = prune.seed or 0
        own = TargetGroup({key: targets[key] for key in sorted(given)}, 0, False, seed, given=given)
        for asked in (own, TargetGroup(rest, division.amount, everywhere, seed, name)):
            if asked.targets:
                scans = yield from _scanned(method, asked, by_key, prune)
                choices |= method.choose(asked, scans)
    rows = {key: amount for division in divisions for key, amount in division.rows.items()}
    for key, each in by_key.items():
        if each.target.slices is not None:
            choose = partial(method.choose_slices, seed=prune.seed or 0)
            choices[key] = join_slices(each.target, choices, rows, choose)
    return choices


def _given_notes(planned: Sequence[PlannedParameter], choices: Mapping[str, Choice]) -> Iterator[str]:
    """Yield the notes on given masks: elements that were pruned before, and that nothing is pruned now."""
    targets = {each.key: (each.parameter.weight.elements, each.target.candidates) for each in planned}
    elements, left = (sum(column) for column in zip(*targets.values(), strict=True))
    if left < elements:
        yield f"{elements - left:,} of {elements:,} elements were pruned already, and stay pruned"
    if not any(choice.pruned for choice in choices.values()):
        yield "no element is pruned: the masks drop none that was unpruned"


def choose_given(planned: Sequence[PlannedParameter], prune: PruneRequest) -> Steps[Mapping[str, Choice]]:
    """Let a method that reads given masks choose.

    Raises:
        UsageError: tied parameters have different masks.
    """
    method = parse_method(prune.method)
    named = {each.parameter.name: each for each in planned}  # a tied group may have several masks
    group = TargetGroup({name: each.target for name, each in named.items()}, 0, False, prune.seed or 0)
    scans = yield from _scanned(method, group, named, prune)
    choices = method.choose(group, scans)
    first: dict[str, str] = {}
    for name, each in named.items():
        other = first.setdefault(each.key, name)
        if choices[other].as_dict() != choices[name].as_dict():
            raise UsageError(
                f"{show(other)} and {show(name)} are tied, and {MASKS} has different masks of them; both need the same"
            )
    return {key: choices[name] for key, name in first.items()}


def _scanned(
    method: Method, group: TargetGroup, planned: Mapping[str, PlannedParameter], prune: PruneRequest
) -> Steps[list[Mapping[str, Scan]]]:
    """Carry out the passes that a method needs for a group, and return their scans."""
    passes: list[Mapping[str, Scan]] = []
    while scans := method.scans(group, passes):
        yield [
            BlockScan(
                planned[key].parameter,
                MethodScan(scan),
                prune.zeros_are_pruned,
                method.reads_values,
                method.granule(group.targets[key]),
                method.reads_given,
            )
            for key, scan in scans.items()
        ]
        passes.append(scans)
    return passes


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
    for parameter in selected:
        taken = [name for name in (f"{parameter.name}_orig", f"{parameter.name}_mask") if name in parameters]
        if parameter.mask is None and not prune.remove and taken:
            raise UsageError(f"{SUBJECT} already has a tensor {show(taken[0])}; use {BAKE} instead")


def _check_tied_masks(planned: Sequence[PlannedParameter]) -> None:
    """Refuse a tied group whose members have different masks: one storage cannot contain two results."""
    seen: dict[str, PlannedParameter] = {}
    for each in planned:
        first = seen.setdefault(each.key, each)
        one, other = first.target, each.target
        if (one.slices or other.slices) and one.shape != other.shape:
            raise UsageError(
                f"{show(one.name)} and {show(other.name)} are tied and have other shapes, so that they have no common "
                "slices; exclude both"
            )
        if first.digest != each.digest or first.target.candidates != each.target.candidates:
            raise UnsupportedError(
                f"{show(first.parameter.name)} and {show(each.parameter.name)} are tied, but carry different masks"
            )

"""The choices of a method: which elements of each planned parameter are dropped."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from prunecli.core.methods import parse_method
from prunecli.core.methods.base import Choice, Method, Scan, Target, TargetGroup
from prunecli.errors import UsageError, show
from prunecli.surgery.data.scanned import BlockScan, MethodScan
from prunecli.surgery.names.parameters import Parameter
from prunecli.surgery.plan.amounts import Division
from prunecli.surgery.plan.model import PlannedParameter
from prunecli.surgery.plan.order import GroupTargets
from prunecli.surgery.plan.request import PruneRequest
from prunecli.surgery.plan.scan import Steps
from prunecli.surgery.plan.slices import join_slices
from prunecli.terms import MASKS

__all__ = ["choose_given", "given_notes", "group_targets", "make_choices"]


def group_targets(planned: Sequence[PlannedParameter], groups: Mapping[str, int], number: int) -> GroupTargets:
    """Return the targets of a group, in the order of the file, with their parameters; a tied group is one target."""
    targets: dict[str, Target] = {}
    members: dict[str, list[Parameter]] = {}
    for each in planned:
        if groups[each.parameter.name] == number:
            targets.setdefault(each.key, each.target)
            members.setdefault(each.key, []).append(each.parameter)
    return GroupTargets(targets, members)


def make_choices(
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


def given_notes(planned: Sequence[PlannedParameter], choices: Mapping[str, Choice]) -> Iterator[str]:
    """Yield the notes on given masks: elements that were pruned before, and that nothing is pruned now."""
    targets = {each.key: (each.parameter.weight.elements, each.target.candidates) for each in planned}
    elements, left = (sum(column) for column in zip(*targets.values(), strict=True))
    if left < elements:
        yield f"{elements - left:,} of {elements:,} elements were pruned already, and stay pruned"
    if not any(choice.pruned for choice in choices.values()):
        yield "no element is pruned: the masks drop none that was unpruned"
